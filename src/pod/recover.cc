// After a start: brings the records into line with what is really there. Each pod, on a small pool: connect to its shim
// (1 s cap), take exits from exit files, undo what was half made, finish what was half removed. Lists are served
// meanwhile; verbs on a pod wait until recovery has come to it.
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/time.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

namespace {

constexpr char kBootIdKey[] = "boot_id";
constexpr int kThreadsMax = 8;
constexpr auto kReconnectCap = 1s;
constexpr auto kLateReconnect = 10s;  // for a shim that exists but is slow: a loaded node right after a restart
constexpr int kLateReconnects = 6;
constexpr auto kLatePause = 1s;  // between them: nobody tells when a shim gets better

void PauseUnlessStopped(std::stop_token stop, std::chrono::milliseconds pause) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, pause, [] { return false; });
}

}  // namespace

// A new boot id means that all processes, mounts and network namespaces are gone, whatever the records say.
Result<> ManagerImpl::CheckBootId() {
  std::string now = TRY(host_->BootId());
  Result<std::string> recorded = deps_.db.Get(kMetaTable, kBootIdKey);
  if (recorded && *recorded == now) return {};
  if (!recorded && recorded.error().code() != Code::kNotFound) return std::move(recorded).error();
  rebooted_ = recorded.has_value();
  // With nothing recorded there is nothing to recover from; else only Recover writes it: a crash within the recovery of
  // a reboot shall recover from the reboot again.
  if (!recorded) TRY(deps_.db.Put(kMetaTable, kBootIdKey, 1, now, state::Durability::kProcess));
  return {};
}

void ManagerImpl::MarkAllDead() {
  for (const CtrRef& container : store_.Containers()) {
    NoteLost(*container, kExitUnknown, kReasonUnknown, "the machine was restarted");
    store_.Note(*container, [](ContainerRecord& r) { r.runtime_clean = r.start_asked_at != 0; });
  }
  for (const PodRef& pod : store_.Pods()) {
    store_.Note(*pod, [](PodRecord& r) {
      if (r.phase == PodPhase::kReady) r.phase = PodPhase::kDown;
    });
  }
}

// Before anyone else knows the store, so nothing is waited for.
void ManagerImpl::HoldAll() {
  auto recovering = recovering_.Lock();
  for (const PodRef& pod : store_.Pods()) {
    std::vector<OpLock::Hold>& holds = (*recovering)[pod->id];
    if (Result<OpLock::Hold> hold = pod->op.Exclusive(Ctx(), "recovery after a restart")) holds.push_back(std::move(*hold));
    for (const CtrRef& container : store_.ContainersOf(pod->id)) {
      Result<OpLock::Hold> hold = container->op.Exclusive(Ctx(), "recovery after a restart");
      if (hold) holds.push_back(std::move(*hold));
    }
  }
}

Result<> ManagerImpl::Recover(const Ctx& ctx) {
  if (rebooted_) {
    Result<> done = deps_.network.AfterReboot(ctx);
    if (!done) LogWarning("network of pods from before the reboot, will be tried again", {{"error", done.error()}});
  }
  RecoverAll(ctx);
  std::string boot_id = TRY(host_->BootId());
  TRY(deps_.db.Put(kMetaTable, kBootIdKey, 1, boot_id, state::Durability::kProcess));
  FAILPOINT("recover.after_boot_id");
  Sweep(ctx);
  return {};
}

void ManagerImpl::RecoverAll(const Ctx& ctx) {
  std::vector<PodRef> pods = store_.Pods();
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i = next++; i < pods.size(); i = next++) {
      std::vector<OpLock::Hold> holds;
      {
        auto recovering = recovering_.Lock();
        auto found = recovering->find(pods[i]->id);
        if (found == recovering->end()) continue;  // made after the start: nothing to recover
        holds = std::move(found->second);
        recovering->erase(found);
      }
      RecoverPod(ctx, *pods[i], std::move(holds));
    }
  };
  std::vector<std::thread> threads;
  size_t count = std::min<size_t>(kThreadsMax, pods.size());
  for (size_t i = 1; i < count; ++i) {
    if (Result<std::thread> thread = StartThread(work)) threads.push_back(*std::move(thread));
  }
  work();
  for (std::thread& thread : threads) thread.join();
}

// `taken`: of the pod first, then of its containers.
void ManagerImpl::RecoverPod(const Ctx& ctx, PodEntry& pod, std::vector<OpLock::Hold> taken) {
  const std::vector<CtrRef> containers = store_.ContainersOf(pod.id);  // outlive their holds: some are removed here
  std::vector<OpLock::Hold> holds = std::move(taken);
  PodPhase phase = pod.record.Lock()->phase;
  if (pod.record.Lock()->restoring) {
    // Nobody has got its id, and a pod with some of its containers is none.
    store_.Note(pod, [](PodRecord& r) { r.phase = PodPhase::kRemoving; });
    phase = PodPhase::kRemoving;
  }
  bool shim_there = (phase == PodPhase::kReady || phase == PodPhase::kDown) && Reconnect(ctx, pod);
  Ctx undo = ctx.Detached(kUndoTimeout);
  for (const CtrRef& container : containers) RecoverContainer(undo, *container, shim_there);
  if (phase != PodPhase::kMaking && phase != PodPhase::kRemoving) return;
  holds.resize(1);  // DiscardPod takes those of the containers itself
  Result<> done = DiscardPod(undo, pod);
  if (!done) LogWarning("pod could not be removed, will be tried again", {{"pod", pod.id.str()}, {"error", done.error()}});
}

// True when the shim is (or may be) alive.
bool ManagerImpl::Reconnect(const Ctx& ctx, PodEntry& pod) {
  if (rebooted_) return false;
  Result<runtime::PodNamespaces> found =
      deps_.runtime.ReconnectPod(ctx.WithTimeout(kReconnectCap), pod.id, paths_.PodDir(pod.id));
  if (found) {
    auto record = pod.record.Lock();
    record->namespaces = *found;
    return true;
  }
  if (found.error().code() != Code::kNotFound) {
    // There is somebody, only slow or busy. To call the pod dead now would kill what works.
    LogWarning("shim does not answer yet, going on trying", {{"pod", pod.id.str()}, {"error", found.error()}});
    background_.Post([this, late = store_.Pod(pod.id)] { ReconnectLate(late); });
    return true;
  }
  bool was_ready = false;
  store_.Note(pod, [&](PodRecord& r) {
    was_ready = r.phase == PodPhase::kReady;
    if (was_ready) r.phase = PodPhase::kDown;
  });
  if (was_ready) LogWarning("shim is gone, the pod is not ready any more", {{"pod", pod.id.str()}, {"error", found.error()}});
  return false;
}

void ManagerImpl::ReconnectLate(PodRef pod) {
  if (pod == nullptr) return;
  for (int i = 0; i < kLateReconnects;) {
    Ctx ctx = Ctx(Clock::time_point::max(), stopping_.get_token(), "").WithTimeout(kLateReconnect);
    Result<OpLock::Hold> hold = HoldPod(ctx, *pod, "reconnecting to the shim");
    if (hold && pod->record.Lock()->phase == PodPhase::kReady) {
      Result<runtime::PodNamespaces> found = deps_.runtime.ReconnectPod(ctx, pod->id, paths_.PodDir(pod->id));
      if (found) return;
      if (found.error().code() == Code::kNotFound) break;
      ++i;  // a pod that was busy until our patience ended says nothing about its shim
      hold->Release();
      PauseUnlessStopped(stopping_.get_token(), kLatePause);
    } else if (hold || hold.error().code() == Code::kNotFound || stopping_.stop_requested()) {
      return;  // stopped or removed meanwhile
    }
  }
  if (!stopping_.stop_requested()) OnShimLost(pod->id);
}

// Held.
void ManagerImpl::RecoverContainer(const Ctx& ctx, ContainerEntry& container, bool shim_there) {
  ContainerRecord record = *container.record.Lock();
  bool may_run = record.start_asked_at != 0 && record.finished_at == 0;
  if (may_run && shim_there) {
    Result<std::optional<runtime::ContainerExit>> exit = host_->ReadExit(paths_.PodDir(record.pod), record.id);
    if (exit && *exit) NoteExit(container, **exit);
  } else if (may_run) {
    Result<> killed = rebooted_ ? Result<>() : deps_.cgroups.Kill(ctx.WithTimeout(5s), record.cgroup_path);
    if (!killed) LogWarning("cgroup could not be killed", {{"container", record.id.str()}, {"error", killed.error()}});
    NoteLost(container, kExitUnknown, kReasonUnknown, "it ended with its shim, which left no exit status");
  }
  if (!record.checkpoint_to.empty()) RecoverCheckpoint(ctx, container, may_run && shim_there);
  record = *container.record.Lock();
  if (!record.made || record.removing) {
    Result<> done = RemoveHeld(ctx, container);
    if (!done) LogWarning("container could not be removed, will be tried again", {{"container", record.id.str()}, {"error", done.error()}});
    return;
  }
  if (record.start_asked_at != 0 && record.started_at == 0) return RecoverStart(ctx, container);
  if (record.finished_at != 0) PostCleaning(store_.Container(record.id));
  if (record.started_at != 0) {
    auto locked = container.record.Lock();
    container.start_unconfirmed = true;
  }
}

// We died within a checkpoint: the container may be frozen, and its dump is half made.
void ManagerImpl::RecoverCheckpoint(const Ctx& ctx, ContainerEntry& container, bool may_run) {
  Result<> thawed = may_run ? ThawContainer(ctx, container) : Result<>();
  if (!thawed) {
    // The record goes on saying so: the next start tries again.
    LogError("container may be frozen still", {{"container", container.id.str()}, {"error", thawed.error()}});
    return;
  }
  Result<> forgotten = ForgetCheckpoint(container);
  if (!forgotten)
    LogWarning("remains of a checkpoint", {{"container", container.id.str()}, {"error", forgotten.error()}});
}

// We died within StartContainer and nobody was told anything. What has ended already counts as started; all else goes
// back to CREATED, so that the repeated call starts it.
void ManagerImpl::RecoverStart(const Ctx& ctx, ContainerEntry& container) {
  if (container.record.Lock()->finished_at != 0) {
    store_.Note(container, [](ContainerRecord& r) { r.started_at = std::min(r.start_asked_at, r.finished_at); });
    {
      auto locked = container.record.Lock();
      container.start_unconfirmed = true;
    }
    return PostCleaning(store_.Container(container.id));
  }
  ContainerRecord record = *container.record.Lock();
  Result<> deleted = deps_.runtime.DeleteContainer(ctx, record.pod, record.id, record.handler, paths_.Bundle(record.id));
  Result<> removed = deps_.cgroups.Remove(ctx, record.cgroup_path);
  if (!deleted || !removed) {
    LogWarning("half-started container is still there, removing it will try again",
               {{"container", record.id.str()}, {"error", !deleted ? deleted.error() : removed.error()}});
  }
  {
    auto locked = container.record.Lock();
    container.start_undone = true;
  }
  store_.Note(container, [](ContainerRecord& r) {
    r.start_asked_at = r.finished_at = r.started_at = 0;
    r.exit_code = 0;
    r.reason.clear();
  });
}

}  // namespace crisp::pod
