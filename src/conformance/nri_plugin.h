// An NRI plugin for specs: connects to the runtime's socket, registers, and answers its calls by functions of the
// spec's. Threading: calls are served on threads of the plugin's; a handler may block, and is over when the plugin is
// destroyed only if the spec lets it go first.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/json.h"
#include "codec/nri_mux.h"
#include "codec/ttrpc.h"
#include "sys/fd.h"

namespace crisp::conformance {

class NriPlugin {
 public:
  // The request → the response, or an error for the runtime.
  using Handler = std::function<Result<Json>(const Json& request)>;
  struct Event {
    std::string method;  // "RunPodSandbox"
    Json request;
    std::string Pod() const;
    std::string Container() const;
  };

  // Registered and waiting to be configured. Handlers by method.
  static Result<std::unique_ptr<NriPlugin>> Connect(const std::string& socket, const std::string& index,
                                                    const std::string& name,
                                                    std::map<std::string, Handler> handlers = {});
  ~NriPlugin();

  // Whether the runtime has brought it up to date within `patience`.
  bool WaitSynchronized(std::chrono::milliseconds patience);
  std::vector<Event> events() const;
  std::vector<std::string> synced_pods() const;
  std::vector<std::string> synced_containers() const;

 private:
  NriPlugin(sys::UniqueFd socket, std::map<std::string, Handler> handlers)
      : socket_(std::move(socket)), handlers_(std::move(handlers)) {}
  void Read();
  void Serve(uint32_t stream, const std::string& body);
  Result<std::string> Answer(const std::string& method, const std::string& payload);
  void Send(uint32_t connection, uint32_t stream, codec::TtrpcType type, const std::string& body);

  sys::UniqueFd socket_;
  const std::map<std::string, Handler> handlers_;
  std::thread reader_;
  std::mutex sending_;
  mutable std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  std::vector<std::thread> threads_;
  std::vector<Event> events_;
  std::vector<std::string> pods_, containers_;
  bool synchronized_ = false, registered_ = false, closed_ = false;
  std::string refused_;
};

}  // namespace crisp::conformance
