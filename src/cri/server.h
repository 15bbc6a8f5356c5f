// The gRPC server on a unix socket.
// The socket is 0600; a leftover of a dead daemon is replaced, one that somebody listens on is not.
#pragma once

#include <grpcpp/server.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace crisp::cri {

class Server {
 public:
  struct Options {
    std::string socket_path;  // absolute; at most 107 bytes (sun_path)
  };
  // Serves at once. Changes the process's umask for a moment: call it while no other thread creates files.
  // kAlreadyExists: somebody listens there. `services` outlive the server.
  static Result<std::unique_ptr<Server>> Listen(const Options& options, const std::vector<grpc::Service*>& services);

  // No new calls; running ones have until `bound`, then they are cancelled and waited for. Removes the socket.
  void Shutdown(std::chrono::milliseconds bound);
  ~Server();

 private:
  explicit Server(std::string path, std::unique_ptr<grpc::Server> server)
      : path_(std::move(path)), server_(std::move(server)) {}
  std::string path_;
  std::unique_ptr<grpc::Server> server_;  // null after Shutdown
};

}  // namespace crisp::cri
