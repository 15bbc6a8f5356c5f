// Backend: what the streaming server needs from pods. PodBackend (pod_backend.h) is pod/'s manager; tests have another.
// Threading: called from the server's pool threads; every call may block until its context's deadline.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "pod/streams.h"
#include "sys/fd.h"

namespace crisp::stream {

using pod::StreamFds;
using pod::StreamSession;
using pod::StreamWants;
using SessionPtr = std::unique_ptr<StreamSession>;

class Backend {
 public:
  virtual ~Backend() = default;
  virtual Result<SessionPtr> OpenExec(const Ctx& ctx, const std::string& container, const std::vector<std::string>& cmd,
                                      const StreamWants& wants) = 0;
  virtual Result<SessionPtr> OpenAttach(const Ctx& ctx, const std::string& container, const StreamWants& wants) = 0;
  virtual Result<sys::UniqueFd> DialPod(const Ctx& ctx, const std::string& pod, uint16_t port) = 0;
};

}  // namespace crisp::stream
