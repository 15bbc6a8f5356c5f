// RemovePodSandbox: stops, removes the containers, then everything of the pod.
#include "base/failpoint.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

Result<> ManagerImpl::RemoveSandbox(const Ctx& caller, const std::string& id) {
  Result<PodRef> pod = store_.FindPod(id);
  if (!pod) {
    if (pod.error().code() == Code::kNotFound) return {};
    return std::move(pod).error();
  }
  Ctx ctx = caller.Detached(kVerbTimeout);
  for (const CtrRef& container : store_.ContainersOf((*pod)->id)) HurryStop(*container, Clock::now());
  Result<OpLock::Hold> hold = HoldPod(ctx, **pod, "RemovePodSandbox");
  if (!hold) {
    if (hold.error().code() == Code::kNotFound) return {};
    return std::move(hold).error();
  }
  TRY(StopSandboxHeld(ctx, **pod));
  FAILPOINT("remove_sandbox.after_stop");
  TRY(store_.Change(**pod, [](PodRecord& r) { r.phase = PodPhase::kRemoving; }));
  FAILPOINT("remove_sandbox.after_record");
  return DiscardPod(ctx, **pod);
}

// Keeps the first error of several steps that are all to be tried.
static void Keep(Result<>& first, Result<> next) {
  if (first && !next) first = std::move(next);
}

Result<> ManagerImpl::DiscardPod(const Ctx& ctx, PodEntry& pod) {
  Result<> freed = FreePod(ctx, pod);
  if (freed) {
    PodRecord record = *pod.record.Lock();
    Hooks::Pass pass;
    if (record.made || pod.hooked) pass = hooks().RemoveSandbox(ctx, StatusOf(record));
    FAILPOINT("discard_pod.before_erase");
    TRY(store_.Erase(pod));
    FAILPOINT("discard_pod.after_erase");
    return {};
  }
  // The record stays and says what is owed: the caller's next try, ours, the sweep or the next start goes on.
  store_.Note(pod, [](PodRecord& r) { r.phase = PodPhase::kRemoving; });
  retries_.Add(pod.id);
  return freed;
}

Result<> ManagerImpl::UnmountFiles(const PodRecord& record) {
  PodFilePaths files = FilesOf(record);
  return host_->Unmount(record.files_bytes > 0 ? files.dir : files.Shm());
}

// Goes on past a failed step, so that one broken part (a CNI plugin, say) keeps nothing else alive.
Result<> ManagerImpl::FreePod(const Ctx& ctx, PodEntry& pod) {
  PodRecord record = *pod.record.Lock();
  Result<> done;
  ctx.Stage("remove the pod's containers");
  Keep(done, ForEachContainer(ctx, pod, "RemovePodSandbox",
                              [&](ContainerEntry& container) { return RemoveHeld(ctx, container); }));
  FAILPOINT("discard_pod.after_containers");
  ctx.Stage("end the pod's shim");
  Keep(done, deps_.runtime.StopPod(ctx, pod.id, paths_.PodDir(pod.id)));
  FAILPOINT("discard_pod.after_shim");
  ctx.Stage("tear down the pod's network");
  if (!record.host_network) Keep(done, deps_.network.Teardown(ctx, pod.id));
  FAILPOINT("discard_pod.after_network");
  ctx.Stage("remove the pod's cgroup");
  if (!record.cgroup_path.empty()) Keep(done, deps_.cgroups.Remove(ctx, record.cgroup_path));
  FAILPOINT("discard_pod.after_cgroup");
  ctx.Stage("remove the pod's directory");
  Keep(done, UnmountFiles(record));
  FAILPOINT("discard_pod.after_unmount");
  TRY(std::move(done));  // what could not be ended may still need its directory
  TRY(RemoveDir(paths_.PodDir(pod.id)));
  FAILPOINT("discard_pod.after_dir");
  return {};
}

}  // namespace crisp::pod
