// Nothing stays without an owner: directories, mounts, cgroups, shims, leases and networks that no record names. An
// object gets its entry before anything of it exists and loses it after everything is gone, so whatever was found
// before its entry was looked for in vain has no owner.
#include <filesystem>

#include "base/log.h"
#include "cgroup/place.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

template <class Id>
std::vector<Id> IdsIn(const std::string& dir) {
  std::vector<Id> ids;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(dir, error); !error && it != std::filesystem::directory_iterator();
       it.increment(error)) {
    // Names that are no ids are not ours to judge.
    if (Result<Id> id = Id::Parse(it->path().filename().string())) ids.push_back(std::move(*id));
  }
  return ids;
}

void LogLeft(std::string_view what, const std::string& id, const Result<>& done) {
  if (done) {
    LogWarning("removed remains that no record names", {{"what", what}, {"id", id}});
  } else {
    LogWarning("remains that no record names, will be tried again",
               {{"what", what}, {"id", id}, {"error", done.error()}});
  }
}

}  // namespace

void ManagerImpl::Sweep(const Ctx& ctx) {
  store_.Flush();
  RetryDiscards(ctx);
  SweepPodDirs(ctx);
  SweepContainerDirs(ctx);
  SweepLeases();
  SweepNetwork(ctx);
}

bool ManagerImpl::RetryDiscard(const PodId& id) {
  PodRef pod = store_.Pod(id);
  if (pod == nullptr || pod->record.Lock()->phase != PodPhase::kRemoving) return true;
  Ctx ctx = Ctx(Clock::time_point::max(), stopping_.get_token(), "").WithTimeout(kUndoTimeout);
  Result<OpLock::Hold> hold = HoldPod(ctx, *pod, "a failed removal, again");
  if (!hold) return hold.error().code() == Code::kNotFound;
  Result<> done = DiscardPod(ctx, *pod);
  if (!done) LogWarning("pod could not be removed, will be tried again", {{"pod", id.str()}, {"error", done.error()}});
  return done.has_value();
}

// Removals and undos that failed.
void ManagerImpl::RetryDiscards(const Ctx& ctx) {
  for (const PodRef& pod : store_.Pods()) {
    if (!ctx.Expired()) RetryDiscard(pod->id);
  }
  for (const CtrRef& container : store_.Containers()) {
    if (!container->record.Lock()->removing) continue;
    Ctx own = ctx.WithTimeout(kUndoTimeout);
    Result<OpLock::Hold> hold = HoldContainer(own, *container, "sweep");
    if (!hold) continue;
    Result<> done = RemoveHeld(own, *container);
    if (!done) {
      LogWarning("container could not be removed, will be tried again",
                 {{"container", container->id.str()}, {"error", done.error()}});
    }
  }
}

Result<> ManagerImpl::FreeUnknownPod(const Ctx& ctx, const PodId& id) {
  TRY(deps_.runtime.StopPod(ctx, id, paths_.PodDir(id)));
  TRY(deps_.network.Teardown(ctx, id));
  // The default place; a cgroup below a parent of the kubelet's goes with that.
  TRY(deps_.cgroups.Remove(ctx, cgroup::PlaceForPod(deps_.cgroups.driver(), id).kernel_path));
  TRY(host_->UnmountBelow(paths_.PodDir(id)));
  return sys::RemoveTree(paths_.PodDir(id));
}

void ManagerImpl::SweepPodDirs(const Ctx& ctx) {
  for (const PodId& id : IdsIn<PodId>(paths_.Pods())) {
    if (store_.Pod(id) == nullptr) LogLeft("pod", id.str(), FreeUnknownPod(ctx.WithTimeout(kUndoTimeout), id));
  }
}

Result<> ManagerImpl::FreeUnknownContainer(const Ctx& ctx, const ContainerId& id) {
  TRY(host_->UnmountRootfs(ctx, paths_.ContainerRoot(id), paths_.Rootfs(id)));
  TRY(host_->UnmountBelow(paths_.Bundle(id)));
  TRY(sys::RemoveTree(paths_.ContainerRoot(id)));
  return sys::RemoveTree(paths_.Bundle(id));
}

void ManagerImpl::SweepContainerDirs(const Ctx& ctx) {
  for (const ContainerId& id : IdsIn<ContainerId>(paths_.Removed())) {
    if (!DeleteLater(StrCat(paths_.Removed(), "/", id.str()))) break;  // the rest at the next sweep
  }
  std::vector<ContainerId> found = IdsIn<ContainerId>(paths_.Containers());
  std::vector<ContainerId> roots = IdsIn<ContainerId>(paths_.ContainerRoots());
  found.insert(found.end(), roots.begin(), roots.end());
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  for (const ContainerId& id : found) {
    if (store_.Container(id) == nullptr)
      LogLeft("container", id.str(), FreeUnknownContainer(ctx.WithTimeout(kUndoTimeout), id));
  }
}

void ManagerImpl::SweepLeases() {
  Result<> done = deps_.images.KeepOnly([this](const std::string& owner) {
    Result<ContainerId> id = ContainerId::Parse(owner.substr(0, owner.find('+')));  // ImageVolumeLease
    return id && store_.Container(*id) != nullptr;
  });
  if (!done) LogWarning("image leases without owner, will be tried again", {{"error", done.error()}});
}

void ManagerImpl::SweepNetwork(const Ctx& ctx) {
  Result<int> left = deps_.network.KeepOnly(ctx, [this](const PodId& id) { return store_.Pod(id) != nullptr; });
  if (!left) {
    LogWarning("networks without a pod, will be tried again", {{"error", left.error()}});
  } else if (*left > 0) {
    LogWarning("networks without a pod could not all be torn down, will be tried again", {{"left", *left}});
  }
}

}  // namespace crisp::pod
