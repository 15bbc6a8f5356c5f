// The pods of this node as the streaming server's backend.
#pragma once

#include "pod/manager.h"
#include "stream/backend.h"

namespace crisp::stream {

class PodBackend final : public Backend {
 public:
  explicit PodBackend(pod::Manager& pods) : pods_(pods) {}
  Result<SessionPtr> OpenExec(const Ctx& ctx, const std::string& container, const std::vector<std::string>& cmd,
                              const StreamWants& wants) override {
    return pods_.OpenExec(ctx, container, cmd, wants);
  }
  Result<SessionPtr> OpenAttach(const Ctx& ctx, const std::string& container, const StreamWants& wants) override {
    return pods_.OpenAttach(ctx, container, wants);
  }
  Result<sys::UniqueFd> DialPod(const Ctx& ctx, const std::string& pod, uint16_t port) override {
    return pods_.DialPod(ctx, pod, port);
  }

 private:
  pod::Manager& pods_;
};

}  // namespace crisp::stream
