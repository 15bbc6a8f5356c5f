// CreateContainer's part about mounts: images that are volumes, ids, and what must be mounted before the OCI runtime
// runs.
#include <filesystem>

#include "base/failpoint.h"
#include "base/log.h"
#include "pod/bounded.h"
#include "pod/manager_impl.h"
#include "rootfs/volume.h"
#include "spec/userns.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

std::vector<sys::IdRange> ToRanges(const std::vector<IdMapping>& maps) {
  std::vector<sys::IdRange> out;
  for (const IdMapping& m : maps) out.push_back({.inside = m.container_id, .outside = m.host_id, .length = m.length});
  return out;
}

Error ImageVolumeError(Code code, const Mount& mount, std::string_view why) {
  return Error(code, StrCat("ImageVolumeMountFailed: mount ", Quote(mount.container_path), ": image ",
                            Quote(mount.image), " ", why));
}

bool HasMountAt(const ContainerConfig& config, const std::string& path) {
  return std::any_of(config.mounts.begin(), config.mounts.end(),
                     [&](const Mount& m) { return m.container_path == path; });
}

}  // namespace

sys::IdMaps UsernsMaps(const std::vector<IdMapping>& uids, const std::vector<IdMapping>& gids) {
  return {.uids = ToRanges(uids), .gids = ToRanges(gids)};
}

// The images behind the mounts, for the record: by their ids, so that a tag that moves changes nothing any more.
Result<> ManagerImpl::ResolveImageVolumes(ContainerConfig& config) {
  for (Mount& mount : config.mounts) {
    if (mount.image.empty()) continue;
    image::ImageRef image = TRY(deps_.images.Find(mount.image));
    if (image == nullptr) return ImageVolumeError(Code::kNotFound, mount, "not found");
    mount.image_ref = image->id;
  }
  return {};
}

std::string ManagerImpl::ImageVolumeLease(const ContainerId& id, size_t index) { return StrCat(id.str(), "+", index); }

Result<> ManagerImpl::LeaseImageVolumes(const ContainerId& id, const ContainerConfig& config) {
  for (size_t i = 0; i < config.mounts.size(); ++i) {
    if (config.mounts[i].image_ref.empty()) continue;
    TRY(deps_.images.Lease(config.mounts[i].image_ref, ImageVolumeLease(id, i)), "image lease");
    FAILPOINT("create_container.within_leases");
  }
  return {};
}

Result<> ManagerImpl::ReleaseImageVolumes(const ContainerId& id, const ContainerConfig& config) {
  for (size_t i = 0; i < config.mounts.size(); ++i) {
    if (!config.mounts[i].image_ref.empty()) TRY(deps_.images.Release(ImageVolumeLease(id, i)), "image lease");
  }
  return {};
}

Result<ManagerImpl::UsernsRef> ManagerImpl::PodUserns(const PodRecord& sandbox) {
  if (!sandbox.config.security.namespaces.userns_pod) return UsernsRef();
  if (sandbox.namespaces.user.empty()) return Error(Code::kFailedPrecondition, "the pod's user namespace is gone");
  return std::make_shared<const sys::UniqueFd>(
      TRY(sys::Open(sandbox.namespaces.user, O_RDONLY), "the pod's user namespace"));
}

namespace {
std::string RealPath(const std::string& path) {
  std::error_code error;
  std::filesystem::path real = std::filesystem::canonical(path, error);
  return error ? path : real.string();
}
}  // namespace

// Decides what is staged and through which ids.
Result<MountStaging> ManagerImpl::PlanStaging(const Ctx& ctx, const PodRecord& sandbox, const ContainerRecord& record) {
  MountStaging staging{.dir = paths_.Mounts(record.id)};
  const NamespaceOptions& pod = sandbox.config.security.namespaces;
  UsernsRef pod_userns = TRY(PodUserns(sandbox));
  // An OCI runtime, and CRIU, resolves the path that it is given once more. What it finds at a staged mount's is what we
  // opened (S52). Not staged: what has crisp's own mounts below it ("/", "/run"); there is nothing above such a path that a
  // container could swap. The native handler refuses a path that has got symlinks ("src-plain").
  const bool resolves_again = !deps_.runtime.IsNative(sandbox.handler) || record.restore;
  if (resolves_again) staging.ours = {RealPath(paths_.state_dir), RealPath(paths_.root_dir)};
  for (const Mount& mount : record.config.mounts) {
    MountStaging::Work& work = staging.mounts.emplace_back();
    bool mapped = !mount.uid_mappings.empty() || !mount.gid_mappings.empty();
    bool bidirectional = mount.propagation == Propagation::kBidirectional;  // must stay the node's own mount
    work.stage = !mount.image.empty() || ((mapped || pod.userns_pod) && !bidirectional);
    work.against_swaps = resolves_again && !bidirectional;
    if (!mount.image_ref.empty()) {
      image::ImageRef image = TRY(deps_.images.Find(mount.image_ref));
      if (image == nullptr) return ImageVolumeError(Code::kNotFound, mount, "was removed meanwhile");
      work.image.emplace(MountStaging::ImageContent{.layer_dirs = image->layer_dirs});
      work.userns = pod_userns;
    }
    if (!mapped) continue;
    TRY(spec::CheckIdMappings(StrCat("mount ", Quote(mount.container_path), ": uidMappings"), mount.uid_mappings));
    TRY(spec::CheckIdMappings(StrCat("mount ", Quote(mount.container_path), ": gidMappings"), mount.gid_mappings));
    if (pod_userns != nullptr && mount.uid_mappings == pod.uids && mount.gid_mappings == pod.gids) {
      work.userns = pod_userns;
      continue;
    }
    sys::OwnedNamespaces own =
        TRY(deps_.runtime.MakeUserns(ctx, {.maps = UsernsMaps(mount.uid_mappings, mount.gid_mappings)}),
            StrCat("mount ", Quote(mount.container_path)));
    work.userns = std::make_shared<const sys::UniqueFd>(std::move(own.user));
  }
  return staging;
}

Result<std::vector<MountSource>> ManagerImpl::MountSources(const Ctx& ctx, const PodRecord& sandbox,
                                                           const ContainerRecord& record) {
  const std::vector<Mount>& mounts = record.config.mounts;
  if (mounts.empty()) return std::vector<MountSource>();
  MountStaging staging = TRY(PlanStaging(ctx, sandbox, record));
  auto work = [host = host_, mounts, staging = std::move(staging)] { return host->MountSources(mounts, staging); };
  return Bounded<std::vector<MountSource>>(ctx.WithTimeout(host_path_timeout_), "open the sources of mounts", work);
}

Result<> ManagerImpl::RelabelMounts(const Ctx& ctx, const ContainerId& id, const ContainerInputs& inputs,
                                    const ContainerPlan& plan) {
  for (const spec::Relabel& relabel : plan.relabels) {
    const MountSource& source = inputs.mount_sources[relabel.mount];
    bool done = TRY(host_->Relabel(ctx, source, relabel.label), "SELinux label of a mount");
    if (!done)
      LogWarning("a mount is the node's own, its SELinux label stays",
                 {{"container", id.str()}, {"path", source.real_path}});
  }
  return {};
}

// A VOLUME of the image that the request mounts nothing on gets a directory of the container, filled from the image.
Result<std::vector<VolumeMount>> ManagerImpl::MakeVolumes(const Ctx& ctx, const PodRecord& sandbox,
                                                          const ContainerRecord& record, const image::Image& image) {
  std::vector<VolumeMount> volumes;
  for (const std::string& path : image.config.volumes) {
    if (HasMountAt(record.config, path)) continue;
    std::string dir = StrCat(paths_.Volumes(record.id), "/", rootfs::VolumeDirName(path));
    TRY(sys::MakeDirs(dir, 0755));
    TRY(host_->CopyUpVolume(ctx, paths_.Rootfs(record.id), path, dir), StrCat("volume ", Quote(path), " of the image"));
    FAILPOINT("create_container.within_volumes");
    if (sandbox.config.security.namespaces.userns_pod) {
      // What was copied has the node's ids already; it only has to be within reach.
      std::string target = StrCat(paths_.Mounts(record.id), "/v", volumes.size());
      TRY(host_->StageDir(dir, target), StrCat("volume ", Quote(path), " of the image"));
      dir = target;
    }
    volumes.push_back({path, dir});
  }
  return volumes;
}

}  // namespace crisp::pod
