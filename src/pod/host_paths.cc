#include "pod/host_paths.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/strings.h"
#include "rootfs/stage.h"
#include "sys/device.h"
#include "sys/fd.h"
#include "sys/file.h"
#include "sys/mountinfo.h"

namespace crisp::pod {

namespace {

Result<sys::UniqueFd> OpenSource(const std::string& path) {
  Result<sys::UniqueFd> fd = sys::Open(path, O_PATH);
  if (fd || fd.error().code() != Code::kNotFound) return fd;
  TRY(sys::MakeDirs(path, 0755));
  return sys::Open(path, O_PATH);
}

// The path that the kernel knows an open file by: all symlinks resolved at the moment of the open.
Result<std::string> PathOf(const sys::UniqueFd& fd, const std::string& path) {
  char text[PATH_MAX];
  ssize_t n = readlink(StrCat("/proc/self/fd/", fd.get()).c_str(), text, sizeof text);
  if (n < 0) return Errno(errno, "find out the real path of " + path);
  if (static_cast<size_t>(n) == sizeof text) return Error(Code::kInvalidArgument, path + ": its real path is too long");
  return std::string(text, static_cast<size_t>(n));
}

spec::SourcePropagation PropagationOf(const sys::MountInfo& mount) {
  if (mount.shared != 0 && mount.master != 0) return spec::SourcePropagation::kSharedSlave;
  if (mount.shared != 0) return spec::SourcePropagation::kShared;
  if (mount.master != 0) return spec::SourcePropagation::kSlave;
  return spec::SourcePropagation::kPrivate;
}

// By the mount's id, so that a mount that is hidden by another one on the same place is not mistaken for it.
Result<const sys::MountInfo*> MountOf(const sys::UniqueFd& fd, const std::string& path, const std::vector<sys::MountInfo>& mounts) {
  struct statx info;
  if (statx(fd.get(), "", AT_EMPTY_PATH, STATX_MNT_ID, &info) != 0) return Errno(errno, "statx " + path);
  if ((info.stx_mask & STATX_MNT_ID) == 0) return sys::FindMount(mounts, path);
  auto found = std::find_if(mounts.begin(), mounts.end(),
                            [&](const sys::MountInfo& m) { return static_cast<uint64_t>(m.id) == info.stx_mnt_id; });
  return found == mounts.end() ? nullptr : &*found;
}

spec::DeviceNode NodeOf(const sys::DeviceInfo& device, std::string container_path, const std::string& permissions) {
  spec::DeviceNode node;
  node.container_path = std::move(container_path);
  node.host_path = device.path;
  node.type = device.type;
  node.major = device.major;
  node.minor = device.minor;
  node.mode = device.mode;
  node.uid = device.uid;
  node.gid = device.gid;
  if (!permissions.empty()) node.permissions = permissions;
  return node;
}

bool IsWithin(const std::string& path, const std::string& dir) {
  return path.starts_with(dir) && (path.size() == dir.size() || path[dir.size()] == '/');
}

}  // namespace

namespace {

// Contexts are for the log's sake behind the first word, which the kubelet looks for at the very beginning.
Error ImageVolumeError(const spec::Mount& mount, Error error) {
  std::string image = mount.image_user_specified.empty() ? mount.image : mount.image_user_specified;
  return std::move(error).Context(
      StrCat("ImageVolumeMountFailed: mount ", Quote(mount.container_path), ": image ", Quote(image)));
}

Result<> Stage(const spec::Mount& mount, const MountStaging::Work& work, const sys::UniqueFd& source,
               const std::string& target) {
  rootfs::Idmap idmap;
  if (work.userns != nullptr) idmap.userns = work.userns->borrow();
  if (work.image) {
    Result<> staged = rootfs::StageImageVolume(
        {.layer_dirs = work.image->layer_dirs, .sub_path = mount.image_sub_path, .idmap = idmap, .target = target});
    if (!staged) return ImageVolumeError(mount, std::move(staged).error());
    return {};
  }
  auto receive =
      mount.propagation == spec::Propagation::kHostToContainer ? rootfs::Receive::kFromHost : rootfs::Receive::kNothing;
  return rootfs::StageMount({.source = source, .idmap = idmap, .receive = receive, .target = target});
}

bool IsStaged(const MountStaging& staging, size_t i, const std::string& real_path) {
  const MountStaging::Work& work = staging.mounts[i];
  if (work.stage || !work.against_swaps) return work.stage;
  const std::string path = real_path + (real_path.ends_with('/') ? "" : "/");
  return std::none_of(staging.ours.begin(), staging.ours.end(),
                      [&](const std::string& dir) { return (dir + "/").starts_with(path); });
}

Result<> StageAll(const std::vector<spec::Mount>& mounts, const std::vector<sys::UniqueFd>& opened,
                  const MountStaging& staging, std::vector<spec::MountSource>& sources) {
  for (size_t i = 0; i < mounts.size(); ++i) {
    if (!IsStaged(staging, i, sources[i].real_path)) continue;
    TRY(sys::MakeDir(staging.dir, 0711));
    std::string target = StrCat(staging.dir, "/", i);
    Result<> staged = Stage(mounts[i], staging.mounts[i], opened[i], target);
    if (!staged && mounts[i].image.empty()) {
      return std::move(staged).error().Context(StrCat("mount ", Quote(mounts[i].container_path)));
    }
    TRY(std::move(staged));
    sources[i].path = target;
    sources[i].staged = true;
  }
  return {};
}

}  // namespace

Result<> OpenForUserns(const std::string& dir, const std::vector<std::string>& parents, uint32_t gid) {
  for (const std::string& parent : parents) {
    struct stat info;
    if (stat(parent.c_str(), &info) != 0) return Errno(errno, "stat " + parent);
    if ((info.st_mode & 0001) == 0 && chmod(parent.c_str(), (info.st_mode & 07777) | 0011) != 0) {
      return Errno(errno, "chmod " + parent);
    }
  }
  for (size_t slash = dir.rfind('/'); slash != 0 && slash != std::string::npos; slash = dir.rfind('/', slash - 1)) {
    std::string above = dir.substr(0, slash);
    struct stat info;
    if (stat(above.c_str(), &info) != 0) return Errno(errno, "stat " + above);
    if ((info.st_mode & 0001) == 0) {
      return Error(
          Code::kFailedPrecondition,
          StrCat("user namespaces need a state directory that others can go through, and ", above, " is closed"));
    }
  }
  if (chown(dir.c_str(), 0, gid) != 0) return Errno(errno, "chown " + dir);
  if (chmod(dir.c_str(), 0710) != 0) return Errno(errno, "chmod " + dir);
  return {};
}

Result<std::vector<spec::MountSource>> FindMountSources(const std::vector<spec::Mount>& mounts,
                                                        const MountStaging& staging) {
  bool propagate = std::any_of(mounts.begin(), mounts.end(),
                               [](const spec::Mount& m) { return m.propagation != spec::Propagation::kPrivate; });
  std::vector<sys::UniqueFd> opened;
  std::vector<spec::MountSource> sources;
  for (const spec::Mount& mount : mounts) {
    spec::MountSource source;
    sys::UniqueFd fd;
    if (mount.image.empty()) {
      fd = TRY(OpenSource(mount.host_path), StrCat("mount ", Quote(mount.container_path)));
      source.path = source.real_path = TRY(PathOf(fd, mount.host_path));
    }
    opened.push_back(std::move(fd));
    sources.push_back(std::move(source));
  }
  if (!propagate) {  // the table is long on a busy node and asked for by few
    TRY(StageAll(mounts, opened, staging, sources));
    return sources;
  }
  std::vector<sys::MountInfo> table = TRY(sys::ReadMountInfo());
  for (size_t i = 0; i < sources.size(); ++i) {
    if (!opened[i].ok()) continue;
    const sys::MountInfo* mount = TRY(MountOf(opened[i], sources[i].path, table));
    if (mount == nullptr) continue;
    sources[i].propagation = PropagationOf(*mount);
    sources[i].mount_point = mount->mountpoint;
  }
  TRY(StageAll(mounts, opened, staging, sources));
  return sources;
}

Result<std::vector<spec::DeviceNode>> FindDeviceNodes(const std::vector<spec::Device>& devices) {
  std::vector<spec::DeviceNode> nodes;
  for (const spec::Device& device : devices) {
    for (const sys::DeviceInfo& info : TRY(sys::ListDevices(device.host_path), "device")) {
      // Of a directory each device keeps its place below it; of a device there is nothing below.
      std::string below = IsWithin(info.path, device.host_path) ? info.path.substr(device.host_path.size()) : "";
      nodes.push_back(NodeOf(info, device.container_path + below, device.permissions));
    }
  }
  return nodes;
}

Result<std::vector<spec::DeviceNode>> FindAllDevices(const std::vector<std::string>& exclude) {
  std::vector<spec::DeviceNode> nodes;
  for (const sys::DeviceInfo& info : TRY(sys::ListDevices("/dev"))) {
    bool excluded = std::any_of(exclude.begin(), exclude.end(), [&](const std::string& dir) { return IsWithin(info.path, dir); });
    if (!excluded) nodes.push_back(NodeOf(info, info.path, ""));
  }
  return nodes;
}

}  // namespace crisp::pod
