// What shims tell: containers that ended, and their own end. Runs on the exits worker; waits for no verb.
#include "base/log.h"
#include "base/time.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

namespace {

std::string ReasonOf(const runtime::ContainerExit& exit) {
  if (exit.oom_killed) return "OOMKilled";
  return exit.code == 0 ? "Completed" : "Error";
}

}  // namespace

void ManagerImpl::OnEvent(RuntimeEvent event) {
  if (auto* exit = std::get_if<ExitEvent>(&event)) {
    if (CtrRef container = store_.Container(exit->container)) {
      NoteExit(*container, exit->exit);
      PostCleaning(std::move(container));
    }
  } else if (auto* lost = std::get_if<ShimLostEvent>(&event)) {
    // Killing what it left behind takes longer than an exit may wait.
    losses_.Post([this, pod = lost->pod] { OnShimLost(pod); });
  } else if (auto* silent = std::get_if<ConnectionLostEvent>(&event)) {
    // Exits would not be heard of until the next verb.
    background_.Post([this, pod = silent->pod] { ReconnectLate(store_.Pod(pod)); });
  }
}

// Also while StartContainer has not returned yet: a container may end before its start is recorded.
void ManagerImpl::NoteExit(ContainerEntry& container, const runtime::ContainerExit& exit) {
  bool known = false;
  store_.Note(container, [&](ContainerRecord& r) {
    // Times are compared only where two starts can be mixed up: clocks jump, and no exit may get lost for that.
    bool stale = container.start_undone && exit.finished_at_unix_nanos < r.start_asked_at;
    known = r.finished_at != 0 || r.start_asked_at == 0 || stale;
    if (known) return;
    r.exit_code = exit.code;
    r.reason = ReasonOf(exit);
    int64_t finished_at = exit.finished_at_unix_nanos != 0 ? exit.finished_at_unix_nanos : UnixNanosNow();
    // A process may end before its start is recorded, and clocks jump: nothing ends before it starts.
    r.finished_at = std::max(finished_at, r.started_at);
  });
  if (!known) {
    LogInfo("container exited", {{"container", container.id.str()}, {"code", exit.code}, {"reason", ReasonOf(exit)}});
  }
}

void ManagerImpl::NoteLost(ContainerEntry& container, int code, const std::string& reason, const std::string& message) {
  Result<std::optional<runtime::ContainerExit>> exit = host_->ReadExit(paths_.PodDir(container.pod), container.id);
  if (exit && *exit) return NoteExit(container, **exit);
  store_.Note(container, [&](ContainerRecord& r) {
    if (r.finished_at != 0 || r.start_asked_at == 0) return;
    r.exit_code = code;
    r.reason = reason;
    r.message = message;
    r.finished_at = UnixNanosNow();
  });
}

// Off the reply path: the container is shown EXITED at once, its remains go while the kubelet reads that.
void ManagerImpl::PostCleaning(CtrRef container) {
  background_.Post([this, container = std::move(container)] {
    const Ctx unbounded(Clock::time_point::max(), stopping_.get_token(), "");
    Ctx ctx = unbounded.WithTimeout(kUndoTimeout);
    Result<OpLock::Hold> hold = HoldContainer(ctx, *container, "cleaning up after exit");
    // What ended was a start that a recovery has undone, and it runs again by now.
    if (hold && container->record.Lock()->finished_at == 0) return;
    Result<> done = hold ? CleanRuntimeState(ctx, *container) : Result<>(std::move(hold).error());
    if (done) {
      hold->Release();  // the end of its pod need not wait for the rest, which its removal does where it comes first
      ctx = unbounded.WithTimeout(kUndoTimeout);
      hold = HoldContainer(ctx, *container, "unmounting after exit");
      done = hold ? UnmountRootfs(ctx, *container) : Result<>(std::move(hold).error());
    }
    if (!done && done.error().code() != Code::kNotFound && !stopping_.stop_requested()) {
      LogWarning("remains of an ended container are still there, removing it will try again",
                 {{"container", container->id.str()}, {"error", done.error()}});
    }
  });
}

// The pod's namespaces went with the shim. What still runs in its containers has lost its log and its reaper: it is
// killed, and the kubelet makes a new pod.
void ManagerImpl::OnShimLost(const PodId& id) {
  PodRef pod = store_.Pod(id);
  if (pod == nullptr) return;
  bool was_ready = false;
  store_.Note(*pod, [&](PodRecord& r) {
    was_ready = r.phase == PodPhase::kReady;
    if (was_ready) r.phase = PodPhase::kDown;
  });
  if (was_ready) LogWarning("shim is gone, the pod is not ready any more", {{"pod", id.str()}});
  for (const CtrRef& container : store_.ContainersOf(id)) {
    ContainerRecord record = *container->record.Lock();
    if (record.start_asked_at == 0 || record.finished_at != 0) continue;
    Result<> killed = deps_.cgroups.Kill(Ctx().WithTimeout(5s), record.cgroup_path);
    if (!killed) LogWarning("cgroup could not be killed", {{"container", record.id.str()}, {"error", killed.error()}});
    NoteLost(*container, kExitKilled, "Error", "killed, because the pod's shim is gone");
    PostCleaning(container);
  }
}

}  // namespace crisp::pod
