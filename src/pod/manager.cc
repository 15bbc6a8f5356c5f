#include "pod/manager.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstdio>

#include "base/log.h"
#include "base/time.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

ManagerImpl::ManagerImpl(ManagerOptions options, Deps deps, std::unique_ptr<Host> host)
    : options_(std::move(options)),
      deps_(deps),
      host_(std::move(host)),
      paths_{options_.root_dir, options_.state_dir},
      cdi_(options_.cdi_spec_dirs),
      store_(deps.db, paths_),
      retries_(options_.retry_pause, [this](const PodId& id) { return RetryDiscard(id); }) {}

ManagerImpl::~ManagerImpl() {
  deps_.events.Listen({});
  stopping_.request_stop();
  retries_.Stop();
  exits_.Stop();
  losses_.Stop();
  background_.Stop();
  removals_.DrainUntil(Clock::now() + 1s);  // a stop leaves little behind, and the next start the rest not for long
  stop_removals_.request_stop();
  removals_.Stop();
}

// Containers see these, whatever our umask is.
Result<> ManagerImpl::MakeMountPoints() {
  mount_points_ = paths_.MountPoints();
  for (const char* name : {"", "/proc", "/sys", "/dev", "/etc"}) {
    std::string dir = mount_points_ + name;
    TRY(sys::MakeDir(dir, 0755));
    if (chmod(dir.c_str(), 0755) != 0) return Errno(errno, "chmod " + dir);
  }
  for (const char* name : {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}) {
    sys::UniqueFd file = TRY(sys::Open(mount_points_ + name, O_WRONLY | O_CREAT | O_NOFOLLOW, 0644));
    if (fchmod(file.get(), 0644) != 0) return Errno(errno, StrCat("chmod ", mount_points_, name));
  }
  return {};
}

Result<> ManagerImpl::Load() {
  // 0711 would let a user namespace's root walk through; none is supported yet, so nobody but us looks in (S50).
  for (const std::string& dir : {paths_.Pods(), paths_.Containers(), paths_.ContainerRoots(), paths_.Removed()}) {
    TRY(sys::MakeDirs(dir, 0700));
    if (dir != paths_.Removed()) sys::SpreadSubdirectories(dir);
  }
  if (Result<> made = MakeMountPoints(); !made) {
    LogWarning("no common mount points, each container makes its own", {{"error", made.error()}});
    mount_points_.clear();
  }
  TRY(store_.Load());
  HoldAll();
  TRY(CheckBootId());
  if (rebooted_) MarkAllDead();
  deps_.events.Listen([this](RuntimeEvent event) {
    exits_.Post([this, event = std::move(event)]() mutable { OnEvent(std::move(event)); });
  });
  return {};
}

void ManagerImpl::DrainBackground() {
  exits_.Drain();
  losses_.Drain();
  background_.Drain();
  removals_.Drain();
}

Result<OpLock::Hold> ManagerImpl::HoldPod(const Ctx& ctx, PodEntry& pod, const char* verb) {
  OpLock::Hold hold = TRY(pod.op.Exclusive(ctx, verb), StrCat("pod sandbox ", pod.id.str()));
  auto record = pod.record.Lock();
  if (pod.gone) return Error(Code::kNotFound, StrCat("pod sandbox ", pod.id.str(), " not found"));
  return hold;
}

Result<OpLock::Hold> ManagerImpl::SharePod(const Ctx& ctx, PodEntry& pod, const char* verb) {
  OpLock::Hold hold = TRY(pod.op.Shared(ctx, verb), StrCat("pod sandbox ", pod.id.str()));
  auto record = pod.record.Lock();
  if (pod.gone) return Error(Code::kNotFound, StrCat("pod sandbox ", pod.id.str(), " not found"));
  return hold;
}

Result<OpLock::Hold> ManagerImpl::HoldContainer(const Ctx& ctx, ContainerEntry& container, const char* verb) {
  OpLock::Hold hold = TRY(HoldForStart(ctx, container, verb));
  DropStartAhead(ctx, container);
  return hold;
}

void ManagerImpl::DropStartAhead(const Ctx& ctx, ContainerEntry& container) {
  if (container.start_ahead == nullptr) return;
  ctx.Stage("wait for what was begun for its start");
  if (!std::exchange(container.start_ahead, nullptr)->Drop().begun) return;
  Result<> ended = deps_.runtime.EndBegun(ctx.Detached(kUndoTimeout), container.pod, container.id);
  if (!ended) {
    LogWarning("what was begun for a start was not ended",
               {{"container", container.id.str()}, {"error", ended.error()}});
  }
}

Result<OpLock::Hold> ManagerImpl::HoldForStart(const Ctx& ctx, ContainerEntry& container, const char* verb) {
  OpLock::Hold hold = TRY(container.op.Exclusive(ctx, verb), StrCat("container ", container.id.str()));
  auto record = container.record.Lock();
  if (container.gone) return Error(Code::kNotFound, StrCat("container ", container.id.str(), " not found"));
  return hold;
}

// A pod that is gone still has its id.
SandboxStatus ManagerImpl::PodStatusOf(const PodId& id) {
  if (PodRef pod = store_.Pod(id)) return StatusOf(*pod->record.Lock());
  SandboxStatus status;
  status.id = id;
  return status;
}

Result<> ManagerImpl::RemoveDir(const std::string& path) { return RemoveDir(path, {}); }

Result<> ManagerImpl::RemoveDir(const std::string& path, const std::stop_token& stop) {
  Result<> removed = sys::RemoveTree(path, stop);
  if (removed || removed.error().code() != Code::kFailedPrecondition) return removed;
  // A mount that nobody of us knows of keeps it: an OCI runtime's, or an older crisp's.
  TRY(host_->UnmountBelow(path));
  return sys::RemoveTree(path, stop);
}

// False: too many wait already.
bool ManagerImpl::DeleteLater(const std::string& removed_dir) {
  constexpr size_t kWaitingMax = 64;
  if (!removing_.Lock()->insert(removed_dir).second) return true;
  bool posted = removals_.TryPost(
      [this, removed_dir] {
        Result<> removed = RemoveDir(removed_dir, stop_removals_.get_token());
        removing_.Lock()->erase(removed_dir);
        if (removed) return;
        LogWarning("remains of a container, will be tried again", {{"dir", removed_dir}, {"error", removed.error()}});
      },
      kWaitingMax);
  if (!posted) removing_.Lock()->erase(removed_dir);
  return posted;
}

// Less than a sixth is left: the kubelet may be about to look whether removals have helped, and evicts a pod otherwise.
static bool IsShortOfSpace(const std::string& dir) {
  struct statvfs fs{};
  return statvfs(dir.c_str(), &fs) == 0 &&
         (fs.f_bavail < fs.f_blocks / 6 || (fs.f_files > 0 && fs.f_favail < fs.f_files / 6));
}

// A container's files cost milliseconds to delete where the file system gives each freed block back to the disk at once
// (ext4 with `discard`): one rename now, the rest later. What a crash leaves there the sweep at the next start finds.
// Whoever writes and removes faster than the disk deletes waits for it.
Result<> ManagerImpl::ThrowAwayRoot(const ContainerId& id) {
  std::string root = paths_.ContainerRoot(id), removed = StrCat(paths_.Removed(), "/", id.str());
  if (IsShortOfSpace(paths_.Removed())) return RemoveDir(root, stopping_.get_token());
  if (rename(root.c_str(), removed.c_str()) != 0) return errno == ENOENT ? Result<>() : RemoveDir(root);
  if (DeleteLater(removed)) return {};
  removing_.Lock()->insert(removed);  // not a sweep's meanwhile
  Result<> done = RemoveDir(removed, stopping_.get_token());
  removing_.Lock()->erase(removed);
  return done;
}

Result<std::unique_ptr<ManagerImpl>> MakeManager(const ManagerOptions& options, Manager::Deps deps,
                                                 std::unique_ptr<Host> host) {
  auto manager = std::make_unique<ManagerImpl>(options, deps, std::move(host));
  TRY(manager->Load());
  return manager;
}

Result<std::unique_ptr<Manager>> Manager::Open(const ManagerOptions& options, Deps deps) {
  return std::unique_ptr<Manager>(TRY(MakeManager(options, deps, Host::Real(deps.cgroups))));
}

void ManagerImpl::NoteTiming(const Ctx& ctx, PodEntry& pod, const char* call, const std::string& container) {
  const Stages* stages = ctx.stages();
  if (stages == nullptr) return;
  CallTiming timing{call, container, 0, stages->Elapsed(), stages->All()};
  timing.began_at = UnixNanosNow() - timing.took_nanos;
  auto timings = pod.timings.Lock();
  if (timings->size() == kTimingsMax) timings->erase(timings->begin());
  timings->push_back(std::move(timing));
}

std::vector<CallTiming> ManagerImpl::Timings(const std::string& pod_id) const {
  Result<PodRef> pod = store_.FindPod(pod_id);
  return pod ? *(*pod)->timings.Lock() : std::vector<CallTiming>();
}

}  // namespace crisp::pod
