#include "pod/host_paths.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/strings.h"
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

Result<std::vector<spec::MountSource>> FindMountSources(const std::vector<spec::Mount>& mounts) {
  bool propagate = std::any_of(mounts.begin(), mounts.end(),
                               [](const spec::Mount& m) { return m.propagation != spec::Propagation::kPrivate; });
  std::vector<sys::UniqueFd> opened;
  std::vector<spec::MountSource> sources;
  for (const spec::Mount& mount : mounts) {
    spec::MountSource source;
    sys::UniqueFd fd;
    if (mount.image.empty()) {
      fd = TRY(OpenSource(mount.host_path), StrCat("mount ", Quote(mount.container_path)));
      source.path = TRY(PathOf(fd, mount.host_path));
    }
    opened.push_back(std::move(fd));
    sources.push_back(std::move(source));
  }
  if (!propagate) return sources;  // the table is long on a busy node and asked for by few
  std::vector<sys::MountInfo> table = TRY(sys::ReadMountInfo());
  for (size_t i = 0; i < sources.size(); ++i) {
    if (!opened[i].ok()) continue;
    const sys::MountInfo* mount = TRY(MountOf(opened[i], sources[i].path, table));
    if (mount == nullptr) continue;
    sources[i].propagation = PropagationOf(*mount);
    sources[i].mount_point = mount->mountpoint;
  }
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
