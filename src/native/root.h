// The container's root: mounts, devices, masked paths, and the change into it. In the container's process, in its own mount
// namespace; internal.
//
// Everything inside is reached through the root's descriptor by openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS), and mounts
// go from descriptor to descriptor: whatever an image or another container makes of its paths, nothing lands outside
// (CVE-2021-30465, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881).
#pragma once

#include <string>
#include <vector>

#include "native/launch.h"
#include "sys/fd.h"

namespace crisp::native {

// What is opened while the node's mounts are still reached, which a user namespace or bare mounts (StartsBare) may not.
struct Sources {
  // Of bind mounts, detached. One for each of launch.mounts; not ok() where the mount is no bind, or where it can be
  // opened later as well.
  std::vector<sys::UniqueFd> mounts;
  // Only for bare mounts: their namespace, the root file system and, where something is masked, /dev/null, both
  // detached; and the way back, where devices cannot be made and so are the node's: its mount namespace and its /proc.
  bool for_bare = false;
  sys::UniqueFd bare, rootfs, null, node_mounts, node_proc;
};
enum class WhichSources {
  kNecessary,      // those that must be opened by now
  kAll,            // of the bind mounts
  kForBareMounts,  // for a process that was made in the node's mount namespace and leaves it by itself
                   // (InitContext::bare)
};
// `userns`: the container's, for mounts whose ids are to be mapped by it; not ok(): none.
Result<Sources> OpenSources(const Launch& launch, sys::BorrowedFd userns, WhichSources which);

class Root {
 public:
  Root(const Launch& launch, Sources sources) : launch_(launch), sources_(std::move(sources)) {}

  // Opens the root and mounts, makes devices and links. After it the hooks before pivot_root run. With bare mounts
  // nothing of the node is reached by a path any more.
  Result<> Build();
  // The slave, to become the process's terminal; the master goes to `status`.
  Result<sys::UniqueFd> MakeTerminal(int status);
  Result<> MakeWorkingDir();
  // Masks, makes read-only, changes the root: from then on nothing of the node is reached.
  Result<> Enter();

 private:
  Result<> LeaveMounts();
  Result<> SetPropagation();
  Result<> Open();
  Result<> MountOne(const Mount& mount, sys::UniqueFd source);
  Result<> MountFilesystem(const Mount& mount);
  Result<> Remount(const Mount& mount);
  Result<> AttachAt(sys::BorrowedFd detached, const Mount& mount, bool directory);
  // The directory inside, made with its own; kept until the next one is asked for.
  Result<sys::BorrowedFd> Parent(const std::string& path);
  Result<sys::UniqueFd> MakeDir(const std::string& path);
  // Inside, made with its parents where it is missing. O_PATH.
  Result<sys::UniqueFd> Target(const std::string& path, bool directory, bool symlinks = true);
  Result<> MakeDevice(const Device& device);
  Result<sys::UniqueFd> CloneNodeDevice(const Device& device);
  Result<> MakeSymlink(const Symlink& link);
  Result<> Mask(const std::string& path);
  Result<sys::UniqueFd> MakeCover(bool directory);
  Result<> MakeReadOnly(const std::string& path);
  Result<> Pivot();

  const Launch& launch_;
  Sources sources_;
  bool bare_ = false;  // the root lies on nothing
  sys::UniqueFd root_;
  // The last directory that something was made in. Forgotten when a mount may have covered it: not by one on what was
  // just made in it.
  sys::UniqueFd parent_;
  std::string parent_path_;
  bool made_in_parent_ = false;
  // What masked paths are covered with, mounted already, to be cloned: /dev/null and an empty directory.
  sys::UniqueFd null_, empty_;
};

// A new terminal of the devpts at dev/pts below `root`: {master, slave}.
struct Terminal {
  sys::UniqueFd master, slave;
};
Result<Terminal> OpenTerminal(sys::BorrowedFd root, const Process& process);

}  // namespace crisp::native
