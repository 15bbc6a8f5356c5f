// How containers end. Every step is idempotent, since verbs, undo, recovery and the sweep all come here.
#include <csignal>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/strings.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

namespace {

constexpr auto kSignalTimeout = 2s;      // a shim that needs longer to pass on a signal is hung
constexpr auto kExitAfterKill = 2500ms;  // from SIGKILL to the exit event
constexpr auto kCgroupKillTimeout = 2s;
constexpr auto kShimKillTimeout = 2s;

bool Ended(const ContainerRecord& record) { return record.finished_at != 0; }
bool MayRun(const ContainerRecord& record) { return record.start_asked_at != 0 && !Ended(record); }

}  // namespace

Result<> ManagerImpl::ForEachContainer(const Ctx& ctx, PodEntry& pod, const char* verb,
                                       const std::function<Result<>(ContainerEntry&)>& what) {
  Result<> first;
  for (const CtrRef& container : store_.ContainersOf(pod.id)) {
    Result<> done;
    Result<OpLock::Hold> hold = HoldContainer(ctx, *container, verb);
    if (hold) {
      done = what(*container);
    } else if (hold.error().code() != Code::kNotFound) {  // not found: removed meanwhile
      done = std::move(hold).error();
    }
    if (first && !done) first = std::move(done);
  }
  return first;
}

void ManagerImpl::HurryStop(ContainerEntry& container, Clock::time_point kill_at) {
  {
    auto record = container.record.Lock();
    if (!container.stop.running || container.stop.kill_at <= kill_at) return;
    container.stop.kill_at = kill_at;
  }
  container.changed.notify_all();
}

bool ManagerImpl::WaitForExit(ContainerEntry& container, Clock::time_point until) {
  auto record = container.record.Lock();
  return record.WaitUntil(container.changed, until, [&] { return Ended(*record); });
}

Result<> ManagerImpl::StopHeld(const Ctx& ctx, ContainerEntry& container, Clock::time_point kill_at) {
  ContainerRecord record = *container.record.Lock();
  if (!MayRun(record)) return {};
  if (kill_at > Clock::now()) {
    FAILPOINT("stop_container.before_signal");
    Result<> signalled =
        deps_.runtime.Signal(ctx.WithTimeout(kSignalTimeout), record.pod, record.id, record.stop_signal);
    FAILPOINT("stop_container.after_signal");
    // A signal that cannot be delivered leaves nothing to be waited for.
    if (signalled) {
      auto locked = container.record.Lock();
      container.stop = {true, kill_at};
      while (!Ended(*locked) && Clock::now() < container.stop.kill_at && !ctx.Expired()) {
        Clock::time_point until = std::min(container.stop.kill_at, ctx.deadline());
        locked.WaitUntil(container.changed, until, [&] { return Ended(*locked) || container.stop.kill_at < until; });
      }
      container.stop.running = false;
      if (Ended(*locked)) return {};
    }
  }
  return Escalate(ctx, container);
}

// Always ends, and always with an exit recorded: SIGKILL by the shim, then all of the cgroup, then the shim itself,
// then we say what must have happened.
Result<> ManagerImpl::Escalate(const Ctx& ctx, ContainerEntry& container) {
  ContainerRecord record = *container.record.Lock();
  FAILPOINT("stop_container.before_kill");
  Result<> signalled = deps_.runtime.Signal(ctx.WithTimeout(kSignalTimeout), record.pod, record.id, SIGKILL);
  FAILPOINT("stop_container.after_kill");
  if (signalled && WaitForExit(container, Clock::now() + kExitAfterKill)) return {};
  Result<> killed = deps_.cgroups.Kill(ctx.Detached(kCgroupKillTimeout), record.cgroup_path);
  FAILPOINT("stop_container.after_cgroup_kill");
  if (!killed) LogWarning("cgroup could not be killed", {{"container", record.id.str()}, {"error", killed.error()}});
  if (WaitForExit(container, Clock::now() + (signalled ? 1000ms : 200ms))) return {};
  NoteLost(container, kExitKilled, "Error", "killed; its shim did not report the exit");
  if (CtrRef ended = store_.Container(container.id)) PostCleaning(std::move(ended));
  if (!signalled && signalled.error().code() != Code::kNotFound) {
    LogWarning("shim does not answer, ending it", {{"pod", record.pod.str()}, {"error", signalled.error()}});
    Result<> ended = deps_.runtime.StopPod(ctx.Detached(kShimKillTimeout), record.pod, paths_.PodDir(record.pod));
    if (!ended) LogWarning("shim could not be ended", {{"pod", record.pod.str()}, {"error", ended.error()}});
    OnShimLost(record.pod);
  }
  return {};
}

Result<> ManagerImpl::CleanRuntimeState(const Ctx& ctx, ContainerEntry& container) {
  ContainerRecord record = *container.record.Lock();
  if (record.start_asked_at == 0 || record.runtime_clean) return {};
  TellStopped(ctx, container);
  ctx.Stage("delete the container's runtime state");
  if (deps_.runtime.HasHandler(record.handler)) {
    TRY(deps_.runtime.DeleteContainer(ctx, record.pod, record.id, record.handler, paths_.Bundle(record.id)),
        StrCat("container ", record.id.str()));
  } else {
    LogWarning("handler is not configured any more, leaving its own state of the container behind",
               {{"handler", record.handler}, {"container", record.id.str()}});
  }
  FAILPOINT("clean_container.after_delete");
  TRY(deps_.cgroups.Remove(ctx, record.cgroup_path));
  FAILPOINT("clean_container.after_cgroup");
  store_.Note(container, [](ContainerRecord& r) { r.runtime_clean = true; });
  return {};
}

Result<> ManagerImpl::UnmountRootfs(const Ctx& ctx, const ContainerEntry& container) {
  ctx.Stage("unmount the container's root file system");
  FAILPOINT("unmount_rootfs.before");
  TRY(host_->UnmountRootfs(ctx, paths_.ContainerRoot(container.id), paths_.Rootfs(container.id)));
  FAILPOINT("unmount_rootfs.after");
  return {};
}

// Where every ended container comes by, however it ended, before anybody can remove it.
void ManagerImpl::TellStopped(const Ctx& ctx, ContainerEntry& container) {
  ContainerRecord record = *container.record.Lock();
  if (!record.made) return;
  if (std::exchange(container.hooked_stop, true)) return;
  ctx.Stage("tell the plugins of the stop");
  hooks().StopContainer(ctx, PodStatusOf(record.pod), StatusOf(record, paths_));
}

Hooks::Pass ManagerImpl::TellRemoved(const Ctx& ctx, ContainerEntry& container) {
  ContainerRecord record = *container.record.Lock();
  if (!record.made && !container.hooked) return {};
  ctx.Stage("tell the plugins of the removal");
  return hooks().RemoveContainer(ctx, PodStatusOf(record.pod), StatusOf(record, paths_));
}

Result<> ManagerImpl::RemoveHeld(const Ctx& ctx, ContainerEntry& container) {
  TRY(StopHeld(ctx, container, Clock::now()));
  FAILPOINT("remove_container.after_stop");
  TRY(store_.Change(container, [](ContainerRecord& r) { r.removing = true; }));
  FAILPOINT("remove_container.after_record");
  return DiscardContainer(ctx, container);
}

Result<> ManagerImpl::DiscardContainer(const Ctx& ctx, ContainerEntry& container) {
  Result<> freed = FreeContainer(ctx, container);
  if (freed) {
    Hooks::Pass pass = TellRemoved(ctx, container);
    FAILPOINT("discard_container.before_erase");
    TRY(store_.Erase(container));
    FAILPOINT("discard_container.after_erase");
    return {};
  }
  store_.Note(container, [](ContainerRecord& r) { r.removing = true; });
  return freed;
}

Result<> ManagerImpl::FreeContainer(const Ctx& ctx, ContainerEntry& container) {
  const ContainerId& id = container.id;
  DropStartAhead(ctx, container);
  TRY(CleanRuntimeState(ctx, container));
  TRY(RemoveCgroupAhead(ctx, *container.record.Lock()));
  FAILPOINT("discard_container.after_runtime");
  TRY(UnmountRootfs(ctx, container));
  TRY(host_->Unstage(paths_.Mounts(id)));
  FAILPOINT("discard_container.after_unstage");
  TRY(ThrowAwayRoot(id));
  FAILPOINT("discard_container.after_root_dir");
  TRY(RemoveDir(paths_.Bundle(id)));
  FAILPOINT("discard_container.after_bundle");
  ContainerConfig config = container.record.Lock()->config;
  TRY(ReleaseImageVolumes(id, config));
  TRY(deps_.images.Release(id.str()), "image lease");
  FAILPOINT("discard_container.after_lease");
  return {};
}

}  // namespace crisp::pod
