// ExecSync: a command beside a running container's own. Takes no lock: probes go on while a stop waits for its grace.
#include "base/failpoint.h"
#include "base/strings.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

// For an error: a command may be a whole script.
std::string Shown(const std::vector<std::string>& cmd) {
  constexpr size_t kBytesMax = 200;
  std::string text = Quote(Join(cmd, " "));
  return text.size() > kBytesMax ? StrCat(text.substr(0, kBytesMax), "…") : text;
}

}  // namespace

Result<ExecOutput> ManagerImpl::ExecSync(const Ctx& ctx, const std::string& id, const std::vector<std::string>& cmd,
                                         std::chrono::seconds timeout) {
  if (cmd.empty()) return Error(Code::kInvalidArgument, "exec: command is empty");
  CtrRef container = TRY(store_.FindContainer(id));
  runtime::ExecSpec spec;
  std::string handler;
  {
    auto record = container->record.Lock();
    TRY(CheckAllowed(Verb::kExec, *record));
    spec = TRY(MakeExecSpec(*record, cmd, false));
    handler = record->handler;
  }
  FAILPOINT("exec_sync.before_run");
  ctx.Stage("run the command in the container");
  Result<runtime::ExecSyncResult> done =
      deps_.runtime.ExecSync(ctx, container->pod, container->id, handler, spec, timeout, kExecOutputBytesMax);
  if (!done && done.error().code() == Code::kDeadlineExceeded) {
    return Error(Code::kDeadlineExceeded, StrCat("command ", Shown(cmd), ": ", done.error().message()));
  }
  runtime::ExecSyncResult result = TRY(std::move(done));
  FAILPOINT("exec_sync.after_run");
  return ExecOutput{std::move(result.out), std::move(result.err), result.exit_code};
}

}  // namespace crisp::pod
