#include "sys/mount.h"

#include <linux/stat.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>

#include "base/strings.h"
#include "sys/fs_context.h"
#include "sys/mountinfo.h"

namespace crisp::sys {

namespace {

constexpr size_t kParameterBytesMax = 255;  // fsconfig(2) takes no longer string

Result<> Attach(BorrowedFd mount, const std::string& target) {
  if (move_mount(mount.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0) return {};
  return Errno(errno, "mount on " + target);
}

std::string FdName(BorrowedFd fd) { return StrCat("/proc/self/fd/", fd.get()); }

// A name for the directory `path` that fits into one parameter; `keep` holds the descriptor behind a short name.
Result<std::string> ParameterPath(const std::string& path, std::vector<UniqueFd>& keep) {
  if (path.size() <= kParameterBytesMax) return path;
  keep.push_back(TRY(Open(path, O_PATH | O_DIRECTORY)));
  return FdName(keep.back());
}

// Kernels before 6.5 have no "lowerdir+". mount(2) takes one page of options: names of descriptors are short enough for
// 200 layers and need no escaping of ':' and ','. To be deleted when 6.5 is the oldest kernel we support.
Result<> MountOverlayByOptions(const OverlaySpec& spec, const std::string& target) {
  std::vector<UniqueFd> keep;
  std::string options = "lowerdir=";
  for (auto layer = spec.lower.rbegin(); layer != spec.lower.rend(); ++layer) {  // the top layer stands first here
    keep.push_back(TRY(Open(*layer, O_PATH | O_DIRECTORY)));
    options += StrCat(layer == spec.lower.rbegin() ? "" : ":", FdName(keep.back()));
  }
  if (!spec.upper.empty()) {
    keep.push_back(TRY(Open(spec.upper, O_PATH | O_DIRECTORY)));
    options += ",upperdir=" + FdName(keep.back());
    keep.push_back(TRY(Open(spec.work, O_PATH | O_DIRECTORY)));
    options += ",workdir=" + FdName(keep.back());
  }
  auto try_with = [&](const std::string& extra) {
    return mount("overlay", target.c_str(), "overlay", 0, (options + extra).c_str()) == 0;
  };
  if (try_with(StrCat(",index=off", spec.skip_sync ? ",volatile" : ""))) return {};
  if (errno == EINVAL && try_with("")) return {};
  return Errno(errno, "mount overlay on " + target);
}

}  // namespace

Result<> MountOverlay(const OverlaySpec& spec, const std::string& target) {
  if (spec.lower.empty()) return Error(Code::kInvalidArgument, "overlay without a lower directory");
  if (spec.by_options) return MountOverlayByOptions(spec, target);
  FsContext context = TRY(FsContext::Open("overlay"));
  std::vector<UniqueFd> keep;
  for (auto layer = spec.lower.rbegin(); layer != spec.lower.rend(); ++layer) {
    std::string name = TRY(ParameterPath(*layer, keep));
    Result<> added = context.SetString("lowerdir+", name);
    if (!added && layer == spec.lower.rbegin() && added.error().os_errno() == EINVAL) {
      return MountOverlayByOptions(spec, target);
    }
    TRY(std::move(added));
  }
  if (!spec.upper.empty()) {
    std::string upper = TRY(ParameterPath(spec.upper, keep)), work = TRY(ParameterPath(spec.work, keep));
    TRY(context.SetString("upperdir", upper));
    TRY(context.SetString("workdir", work));
    // The inode index would tie upper directories to their first lower ones; unknown when not compiled in.
    (void)context.SetString("index", "off");
    if (spec.skip_sync) TRY(context.SetFlag("volatile"));
  }
  UniqueFd mount = TRY(context.Mount(0), "overlay for " + target);
  return Attach(mount, target);
}

Result<> MountTmpfs(const std::string& target, uint64_t bytes_max, mode_t mode, unsigned long flags, uint32_t uid,
                    uint32_t gid) {
  FsContext context = TRY(FsContext::Open("tmpfs"));
  if (bytes_max != 0) TRY(context.SetString("size", StrCat(bytes_max)));
  char octal[8];
  std::snprintf(octal, sizeof octal, "%04o", mode & 07777u);
  TRY(context.SetString("mode", octal));
  if (uid != 0) TRY(context.SetString("uid", StrCat(uid)));
  if (gid != 0) TRY(context.SetString("gid", StrCat(gid)));
  unsigned attributes = 0;
  if (flags & MS_NOSUID) attributes |= MOUNT_ATTR_NOSUID;
  if (flags & MS_NODEV) attributes |= MOUNT_ATTR_NODEV;
  if (flags & MS_NOEXEC) attributes |= MOUNT_ATTR_NOEXEC;
  UniqueFd mount = TRY(context.Mount(attributes));
  return Attach(mount, target);
}

Result<> BindMount(BorrowedFd source, const std::string& target, BindDepth depth) {
  UniqueFd tree = TRY(CloneMount(source, depth), target);
  return Attach(tree, target);
}

Result<UniqueFd> CloneMount(BorrowedFd source, BindDepth depth) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
  if (depth == BindDepth::kRecursive) flags |= AT_RECURSIVE;
  int tree = open_tree(source.get(), "", flags);
  if (tree < 0) return Errno(errno, "clone the mount");
  return UniqueFd(tree);
}

Result<> IdmapMount(BorrowedFd mount, BorrowedFd userns) {
  mount_attr change{};
  change.attr_set = MOUNT_ATTR_IDMAP;
  change.userns_fd = static_cast<uint64_t>(userns.get());
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH, &change, sizeof change) == 0) return {};
  // EINVAL is the file system's no, or the kernel's before 5.12; EPERM a mount that is mapped already.
  Error error = Errno(errno, "map the ids of a mount");
  if (error.os_errno() == EINVAL || error.os_errno() == ENOSYS) return std::move(error).As(Code::kUnimplemented);
  return error;
}

Result<> ChangeMount(BorrowedFd mount, uint64_t attributes, MountPropagation propagation) {
  mount_attr change{};
  change.attr_set = attributes;
  if (propagation == MountPropagation::kPrivate) change.propagation = MS_PRIVATE;
  if (propagation == MountPropagation::kSlave) change.propagation = MS_SLAVE;
  if (mount_setattr(mount.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &change, sizeof change) == 0) return {};
  return Errno(errno, "change the attributes of a mount");
}

Result<> AttachMount(BorrowedFd mount, const std::string& target) { return Attach(mount, target); }

Result<> Unmount(const std::string& target) {
  // Each round takes one mount of the stack. The bound only guards against somebody who mounts as fast as we unmount.
  for (int i = 0; i < 1000; ++i) {
    if (umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) continue;
    if (errno == EINVAL || errno == ENOENT || errno == ENOTDIR) return {};
    return Errno(errno, "unmount " + target);
  }
  return Error(Code::kAborted, "unmount " + target + ": something mounts there again and again");
}

Result<> UnmountBelow(const std::string& directory) {
  std::vector<MountInfo> mounts = TRY(ReadMountInfo());
  std::vector<std::string> targets;
  for (MountInfo& mount : mounts) {
    const std::string& at = mount.mountpoint;
    if (at == directory || at.starts_with(directory + "/")) targets.push_back(std::move(mount.mountpoint));
  }
  std::sort(targets.begin(), targets.end(), std::greater<>());  // children before their parents
  targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
  for (const std::string& target : targets) TRY(Unmount(target));
  return {};
}

Result<bool> IsMountPoint(const std::string& path) {
  struct statx info;
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Errno(errno, "stat " + path);
  }
  return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

Result<OpenedPath> OpenHostPath(const std::string& path) {
  OpenedPath out;
  out.fd = TRY(Open(path, O_PATH));
  char buffer[4096];
  ssize_t n = readlink(FdName(out.fd).c_str(), buffer, sizeof buffer);
  if (n < 0) return Errno(errno, "readlink of " + path);
  if (n == static_cast<ssize_t>(sizeof buffer)) return Errno(ENAMETOOLONG, "readlink of " + path);
  out.path.assign(buffer, static_cast<size_t>(n));
  struct statx info;
  if (statx(out.fd.get(), "", AT_EMPTY_PATH, STATX_TYPE | STATX_MNT_ID, &info) != 0)
    return Errno(errno, "stat " + path);
  out.is_directory = S_ISDIR(info.stx_mode);
  for (const MountInfo& mount : TRY(ReadMountInfo())) {
    if (static_cast<uint64_t>(mount.id) != info.stx_mnt_id) continue;
    out.mount_point = mount.mountpoint;
    out.shared_group = mount.shared;
    out.master_group = mount.master;
  }
  return out;
}

Result<UniqueFd> OpenProgramReadOnly(const std::string& path) {
  UniqueFd file = TRY(Open(path, O_PATH));
  UniqueFd mount = TRY(CloneMount(file, BindDepth::kSingle), path);
  TRY(ChangeMount(mount, MOUNT_ATTR_RDONLY, MountPropagation::kPrivate), path);
  return mount;
}

}  // namespace crisp::sys
