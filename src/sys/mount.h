// Mounts on the node. All functions are idempotent where it makes sense: unmounting what is not mounted succeeds.
// Paths are absolute and ours; paths that images or users name come as descriptors. Threading: any thread (only the
// process-wide mount namespace changes). Blocking: a mount can wait for the disk; none of these waits for a network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sys/fd.h"

namespace crisp::sys {

struct OverlaySpec {
  std::vector<std::string> lower;  // bottom layer first; at least one
  std::string upper, work;         // on one file system; both empty = read-only overlay
  // "volatile" (fs/overlayfs, since 5.10): no sync of the upper directory, neither at fsync nor at umount.
  bool skip_sync = false;
  bool by_options = false;  // the way of kernels before 6.5 even on a newer one; for tests
};
// Builds the overlay detached (fsopen, fsconfig, fsmount) and puts it on `target`, an existing directory.
// Any number of layers the kernel takes (500): each is a parameter of its own ("lowerdir+", since 6.5), before that
// one joined list of short /proc/self/fd names. kNotFound, kInvalidArgument or kInternal with the kernel's reason.
Result<> MountOverlay(const OverlaySpec& spec, const std::string& target);

// An instance of tmpfs. `bytes_max` 0: the kernel's default (half of the memory). Its root belongs to `uid` and `gid`.
Result<> MountTmpfs(const std::string& target, uint64_t bytes_max, mode_t mode, unsigned long flags = 0,
                    uint32_t uid = 0, uint32_t gid = 0);

enum class BindDepth { kSingle, kRecursive };
// `source` is a descriptor (O_PATH will do), so nothing is resolved again; `target` an existing file or directory.
Result<> BindMount(BorrowedFd source, const std::string& target, BindDepth depth);

// ---- detached mounts: nobody sees them before AttachMount, and they end with their descriptor ----

// A copy of the mount that `source` (O_PATH will do) lies on, from `source` downwards.
Result<UniqueFd> CloneMount(BorrowedFd source, BindDepth depth);
// What is written through `mount` and read from it goes through the maps of `userns`: an id of the file system that the
// namespace has inside is seen as what it stands for outside, others as nobody. Of the one mount, not of those below.
// Needs a file system that allows it (FS_ALLOW_IDMAP): kUnimplemented if not.
Result<> IdmapMount(BorrowedFd mount, BorrowedFd userns);
enum class MountPropagation { kUnchanged, kPrivate, kSlave };
// Adds MOUNT_ATTR_* flags to `mount` and all mounts below it, and sets their propagation.
Result<> ChangeMount(BorrowedFd mount, uint64_t attributes, MountPropagation propagation);
Result<> AttachMount(BorrowedFd mount, const std::string& target);
// The program `path` on a read-only mount of its own, to be run by its descriptor: who reaches a process's /proc/PID/exe
// cannot write to the file (CVE-2019-5736), now or later.
Result<UniqueFd> OpenProgramReadOnly(const std::string& path);

// Takes everything off `target`, also several mounts one above the other, lazily (MNT_DETACH): never waits for users of
// the files. Not mounted, not there: success. Never follows a symlink in the last component.
Result<> Unmount(const std::string& target);
// The same for all mounts at or below `directory`, children first.
Result<> UnmountBelow(const std::string& directory);
// True when `path` is the root of a mount (statx STATX_ATTR_MOUNT_ROOT). Missing: false.
Result<bool> IsMountPoint(const std::string& path);

// A path on the node that somebody else named, opened once (S52: the file may be swapped afterwards, the descriptor
// stays) and what mount it lies on.
struct OpenedPath {
  UniqueFd fd;              // O_PATH; symlinks were followed
  std::string path;         // where it really is, without symlinks
  std::string mount_point;  // of the mount it lies on
  int shared_group = 0;     // as in MountInfo
  int master_group = 0;
  bool is_directory = false;
};
Result<OpenedPath> OpenHostPath(const std::string& path);

}  // namespace crisp::sys
