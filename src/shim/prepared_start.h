// A native start that is begun before it is asked for: the process is made, in its namespaces and its root, and waits
// to become the container's program. Dropping it ends the process.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "shim/process_start.h"
#include "shim/stdio.h"
#include "shimapi/message.h"

namespace crisp::shim {

class PreparedStart {
 public:
  // `fds`: the launch. `ended`: the process has ended while it waited, because it could not be prepared, say; called
  // once, from the loop.
  static Result<std::unique_ptr<PreparedStart>> Make(Surroundings& around, const shimapi::PrepareContainer& request,
                                                     const std::vector<sys::UniqueFd>& fds, std::function<void()> ended);
  // Ends it; `ended` tells when it has.
  void Kill() { start_->Kill(); }
  bool ended() const { return start_->ended(); }

  // For the start that was waited for.
  Stdio TakeStdio() { return std::move(stdio_); }
  std::unique_ptr<NativeStart> TakeProcess() { return std::move(start_); }

 private:
  PreparedStart(std::unique_ptr<NativeStart> start, Stdio stdio) : start_(std::move(start)), stdio_(std::move(stdio)) {}
  std::unique_ptr<NativeStart> start_;
  Stdio stdio_;
};

}  // namespace crisp::shim
