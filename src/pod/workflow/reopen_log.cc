// ReopenContainerLog: after the kubelet has renamed a log file the shim begins a new one.
#include "base/failpoint.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

Result<> ManagerImpl::ReopenLog(const Ctx& ctx, const std::string& id) {
  CtrRef container = TRY(store_.FindContainer(id));
  ContainerRecord record = *container->record.Lock();
  TRY(CheckAllowed(Verb::kReopenLog, record));
  FAILPOINT("reopen_log.before");
  TRY(deps_.runtime.ReopenLog(ctx.WithTimeout(kVerbTimeout), record.pod, record.id));
  FAILPOINT("reopen_log.after");
  return {};
}

}  // namespace crisp::pod
