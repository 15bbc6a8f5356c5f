// Streaming: the streaming server as cri/ sees it. The two fronts do not know each other. Threading: any thread.
#pragma once

#include <memory>

#include "cri/streams.h"
#include "pod/manager.h"
#include "stream/pod_backend.h"
#include "stream/server.h"

namespace crisp::daemon {

class Streaming final : public cri::Streams {
 public:
  // `pods` outlives it.
  static Result<std::unique_ptr<Streaming>> Listen(const stream::Server::Options& options, pod::Manager& pods) {
    std::unique_ptr<Streaming> streaming(new Streaming(pods));
    streaming->server_ = TRY(stream::Server::Listen(options, streaming->backend_));
    return streaming;
  }

  Result<std::string> ExecUrl(const std::string& container, const std::vector<std::string>& cmd,
                              const pod::StreamWants& wants) override {
    return server_->Issue({.verb = stream::Verb::kExec, .id = container, .cmd = cmd, .wants = wants});
  }
  Result<std::string> AttachUrl(const std::string& container, const pod::StreamWants& wants) override {
    return server_->Issue({.verb = stream::Verb::kAttach, .id = container, .wants = wants});
  }
  Result<std::string> PortForwardUrl(const std::string& pod, const std::vector<uint16_t>& ports) override {
    return server_->Issue({.verb = stream::Verb::kPortForward, .id = pod, .ports = ports});
  }
  int port() const { return server_->port(); }

 private:
  explicit Streaming(pod::Manager& pods) : backend_(pods) {}
  stream::PodBackend backend_;
  std::unique_ptr<stream::Server> server_;
};

}  // namespace crisp::daemon
