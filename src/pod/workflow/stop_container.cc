// StopContainer: the stop signal, the grace, then escalation. Ends within grace + 10 s whatever hangs (teardown.cc). A
// second stop with a shorter grace shortens the first one's.
#include "base/failpoint.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

Result<> ManagerImpl::StopContainer(const Ctx& caller, const std::string& id, std::chrono::seconds grace) {
  Result<CtrRef> container = store_.FindContainer(id);
  if (!container) {
    // CRI: "This call is idempotent, and must not return an error if the container has already been stopped."; gone is more.
    if (container.error().code() == Code::kNotFound) return {};
    return std::move(container).error();
  }
  grace = std::clamp(grace, std::chrono::seconds(0), std::chrono::seconds(24h));
  Clock::time_point kill_at = Clock::now() + grace;
  HurryStop(**container, kill_at);
  Ctx ctx = caller.Detached(grace + kVerbTimeout);  // the bound for a start that must end first; the stop has its own
  Result<OpLock::Hold> hold = HoldContainer(ctx, **container, "StopContainer");
  if (!hold) {
    if (hold.error().code() == Code::kNotFound) return {};
    return std::move(hold).error();
  }
  FAILPOINT("stop_container.held");
  TRY(StopHeld(caller.Detached(grace + kStopSlack), **container, kill_at));
  FAILPOINT("stop_container.after_exit");
  return {};
}

}  // namespace crisp::pod
