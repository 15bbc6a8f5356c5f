#include "sys/mount_namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/thread.h"
#include "sys/file.h"
#include "sys/fs_context.h"

namespace crisp::sys {

namespace {

Result<UniqueFd> EmptyFilesystem() {
  FsContext context = TRY(FsContext::Open("tmpfs"));
  TRY(context.SetString("source", "crisp-bare"));
  TRY(context.SetString("mode", "0555"));
  TRY(context.SetString("size", "4k"));
  TRY(context.SetFlag("ro"));
  return context.Mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

// The calling thread's.
Result<UniqueFd> MakeHere() {
  if (unshare(CLONE_NEWNS) != 0) return Errno(errno, "unshare");
  UniqueFd made = TRY(Open("/proc/thread-self/ns/mnt", O_RDONLY));
  // Slave or shared, what is mounted now would show up in the node's namespace.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Errno(errno, "make / private");
  UniqueFd empty = TRY(EmptyFilesystem());
  // On /proc because it is there on every node. The copy of the old tree goes as a whole.
  if (move_mount(empty.get(), "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) != 0) return Errno(errno, "attach");
  if (fchdir(empty.get()) != 0) return Errno(errno, "enter the empty file system");
  // Refused on nodes that run from their initramfs. There the old tree could only be hidden, not left.
  if (syscall(SYS_pivot_root, ".", ".") != 0) return Errno(errno, "pivot_root");
  if (umount2(".", MNT_DETACH) != 0) return Errno(errno, "leave the node's root");
  return made;
}

}  // namespace

Result<UniqueFd> MakeBareMountNamespace() {
  Result<UniqueFd> made = Error(Code::kInternal, "");
  Result<std::thread> thread = StartThread([&] { made = MakeHere(); });
  if (thread) {
    thread->join();
  } else {
    made = std::move(thread).error();
  }
  if (!made) return std::move(made).error().Context("make a mount namespace");
  return made;
}

}  // namespace crisp::sys
