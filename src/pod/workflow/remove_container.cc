// RemoveContainer: kills what runs, then removes everything of the container but its log, which is the kubelet's.
#include "base/failpoint.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

Result<> ManagerImpl::RemoveContainer(const Ctx& caller, const std::string& id) {
  Result<CtrRef> container = store_.FindContainer(id);
  if (!container) {
    if (container.error().code() == Code::kNotFound) return {};
    return std::move(container).error();
  }
  Ctx ctx = caller.Detached(kVerbTimeout);
  HurryStop(**container, Clock::now());
  Result<OpLock::Hold> hold = HoldContainer(ctx, **container, "RemoveContainer");
  if (!hold) {
    if (hold.error().code() == Code::kNotFound) return {};
    return std::move(hold).error();
  }
  FAILPOINT("remove_container.held");
  return RemoveHeld(ctx, **container);
}

}  // namespace crisp::pod
