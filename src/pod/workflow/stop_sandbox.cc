// StopPodSandbox: not ready at once; stopped only when everything, the network above all, is really gone. An error
// means that the caller shall try again, and the pod is shown NOTREADY until then.
#include <future>

#include "base/beside.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

Result<> ManagerImpl::StopSandbox(const Ctx& caller, const std::string& id) {
  Result<PodRef> pod = store_.FindPod(id);
  if (!pod) {
    if (pod.error().code() == Code::kNotFound) return {};
    return std::move(pod).error();
  }
  Ctx ctx = caller.Detached(kVerbTimeout);
  for (const CtrRef& container : store_.ContainersOf((*pod)->id)) HurryStop(*container, Clock::now());
  Result<OpLock::Hold> hold = HoldPod(ctx, **pod, "StopPodSandbox");
  if (!hold) {
    if (hold.error().code() == Code::kNotFound) return {};
    return std::move(hold).error();
  }
  return StopSandboxHeld(ctx, **pod);
}

Result<> ManagerImpl::StopSandboxHeld(const Ctx& ctx, PodEntry& pod) {
  PodRecord record = *pod.record.Lock();
  if (record.phase == PodPhase::kStopped) return {};
  FAILPOINT("stop_sandbox.before_record");
  if (record.phase != PodPhase::kRemoving) {
    TRY(store_.Change(pod, [](PodRecord& r) { r.phase = PodPhase::kDown; }));
  }
  FAILPOINT("stop_sandbox.after_record");
  ctx.Stage("stop the pod's containers");
  auto stop = [&](ContainerEntry& container) -> Result<> {
    TRY(StopHeld(ctx, container, Clock::now()));
    FAILPOINT("stop_sandbox.after_container");
    // It has ended. Remains that cannot be deleted now keep the pod neither running nor its network: its removal tries
    // again, and fails where they stay.
    if (Result<> cleaned = CleanRuntimeState(ctx, container); !cleaned) {
      LogWarning("runtime state of a stopped container is still there, removing it will try again",
                 {{"container", container.id.str()}, {"error", cleaned.error()}});
    }
    return {};
  };
  TRY(ForEachContainer(ctx, pod, "StopPodSandbox", stop));
  FAILPOINT("stop_sandbox.after_containers");
  if (record.made && !pod.hooked_stop) {
    ctx.Stage("tell the plugins of the pod");
    hooks().StopSandbox(ctx, StatusOf(record));
    pod.hooked_stop = true;  // not again when what follows has to be tried again
  }
  TRY(EndShimAndNetwork(ctx, pod, record.host_network));
  ctx.Stage("unmount the pod's files and /dev/shm");
  TRY(UnmountFiles(record));
  FAILPOINT("stop_sandbox.after_shm");
  if (record.phase != PodPhase::kRemoving) {
    TRY(store_.Change(pod, [](PodRecord& r) { r.phase = PodPhase::kStopped; }));
  }
  FAILPOINT("stop_sandbox.after_stopped");
  return {};
}

// Side by side: the containers have ended, and what the shim has left needs no network.
Result<> ManagerImpl::EndShimAndNetwork(const Ctx& ctx, PodEntry& pod, bool host_network) {
  ctx.Stage("end the pod's shim");
  Ctx beside = ctx;
  if (!host_network) beside.TrackStages(nullptr);  // the network's are told
  auto end_shim = [this, beside, &pod] { return deps_.runtime.StopPod(beside, pod.id, paths_.PodDir(pod.id)); };
  Result<> torn_down, ended;
  if (host_network) {
    ended = end_shim();
  } else {
    GoingOn<Result<>> shim = Beside(beside_, end_shim);
    ctx.Stage("tear down the pod's network");
    torn_down = deps_.network.Teardown(ctx, pod.id);
    ctx.Stage("wait for the end of the pod's shim");
    ended = shim.Take();
  }
  TRY(std::move(ended), "pod shim");
  FAILPOINT("stop_sandbox.after_shim");
  TRY(std::move(torn_down), "pod network");
  FAILPOINT("stop_sandbox.after_network");
  return {};
}

}  // namespace crisp::pod
