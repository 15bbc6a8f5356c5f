// Exec with streams, attach, and connections into a pod. None takes a lock: a client that stays for hours holds up
// nobody.
#include "base/strings.h"
#include "pod/dial.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

// What the kubelet's streaming library accepts (k8s.io/cri-streaming, validateExecRequest).
Result<> CheckWants(const StreamWants& wants) {
  if (wants.tty && wants.err) return Error(Code::kInvalidArgument, "tty and stderr cannot both be true");
  if (!wants.in && !wants.out && !wants.err) {
    return Error(Code::kInvalidArgument, "one of stdin, stdout, or stderr must be set");
  }
  return {};
}

}  // namespace

Result<> ManagerImpl::CheckExec(const std::string& id, const StreamWants& wants) const {
  TRY(CheckWants(wants));
  CtrRef container = TRY(store_.FindContainer(id));
  return CheckAllowed(Verb::kExec, *container->record.Lock());
}

Result<> ManagerImpl::CheckAttach(const std::string& id, const StreamWants& wants) const {
  TRY(CheckWants(wants));
  CtrRef container = TRY(store_.FindContainer(id));
  return CheckAllowed(Verb::kAttach, *container->record.Lock());
}

Result<> ManagerImpl::CheckPortForward(const std::string& pod_id) const {
  PodRef pod = TRY(store_.FindPod(pod_id));
  auto record = pod->record.Lock();
  if (record->phase == PodPhase::kReady) return {};
  return Error(Code::kFailedPrecondition, StrCat("pod sandbox ", pod->id.str(), " is not ready"));
}

Result<StreamSessionPtr> ManagerImpl::OpenExec(const Ctx& ctx, const std::string& id,
                                               const std::vector<std::string>& cmd, const StreamWants& wants) {
  if (cmd.empty()) return Error(Code::kInvalidArgument, "exec: command is empty");
  TRY(CheckExec(id, wants));
  CtrRef container = TRY(store_.FindContainer(id));
  ContainerRecord record = *container->record.Lock();
  runtime::ExecSpec spec = TRY(MakeExecSpec(record, cmd, wants.tty));
  return deps_.runtime.OpenExec(ctx.WithTimeout(kVerbTimeout), record.pod, record.id, record.handler, spec, wants);
}

Result<StreamSessionPtr> ManagerImpl::OpenAttach(const Ctx& ctx, const std::string& id, const StreamWants& wants) {
  TRY(CheckAttach(id, wants));
  CtrRef container = TRY(store_.FindContainer(id));
  return deps_.runtime.OpenAttach(ctx.WithTimeout(kVerbTimeout), container->pod, container->id, wants);
}

Result<sys::UniqueFd> ManagerImpl::DialPod(const Ctx& ctx, const std::string& pod_id, uint16_t port) {
  if (port == 0) return Error(Code::kInvalidArgument, "port 0");
  TRY(CheckPortForward(pod_id));
  PodRef pod = TRY(store_.FindPod(pod_id));
  const std::string netns_path = pod->record.Lock()->netns_path;
  return TRY(DialLocalhost(ctx.WithTimeout(kDialTimeout), netns_path, port), "pod sandbox " + pod->id.str());
}

}  // namespace crisp::pod
