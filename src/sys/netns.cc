#include "sys/netns.h"

#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "base/thread.h"
#include "sys/file.h"
#include "sys/fs_context.h"

namespace crisp::sys {

namespace {

Result<> RunOnThread(const std::function<Result<>()>& work) {
  Result<> result;
  std::thread thread = TRY(StartThread([&] { result = work(); }), "a network namespace's work");
  thread.join();
  return result;
}

Result<> SetSysctls(const Sysctls& sysctls, std::optional<BorrowedFd> proc) {
  for (const auto& [path, value] : sysctls) {
    // sys/net is the namespace of the thread that opens it, in every instance of proc.
    Result<> written = proc ? WriteExistingAt(*proc, "sys/" + path, value) : WriteExisting("/proc/sys/" + path, value);
    if (!written && written.error().code() != Code::kNotFound) return written;
  }
  return {};
}

// `fd` is the calling thread's network namespace.
Result<NewNetns> FurnishHere(UniqueFd fd, const Sysctls& sysctls, std::optional<BorrowedFd> proc) {
  TRY(SetSysctls(sysctls, proc));
  RouteSocket route = TRY(RouteSocket::Open());
  NetlinkBatch batch;
  SetLink(batch, "lo", {.up = true});
  TRY(route.Send(batch));
  return NewNetns{std::move(fd), std::move(route)};
}

}  // namespace

Result<UniqueFd> OpenOwnProc() {
  return TRY(FsContext::Open("proc")).Mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

Result<NewNetns> CreateNetns(const Sysctls& sysctls, std::optional<BorrowedFd> proc) {
  std::optional<NewNetns> made;
  auto make = [&]() -> Result<> {
    if (unshare(CLONE_NEWNET) != 0) return Errno(errno, "create network namespace");
    UniqueFd fd = TRY(Open("/proc/thread-self/ns/net", O_RDONLY));
    made = TRY(FurnishHere(std::move(fd), sysctls, proc));
    return {};
  };
  TRY(RunOnThread(make));
  return *std::move(made);
}

Result<NewNetns> FurnishNetns(UniqueFd netns, const Sysctls& sysctls, std::optional<BorrowedFd> proc) {
  std::optional<NewNetns> made;
  auto furnish = [&]() -> Result<> {
    if (setns(netns.get(), CLONE_NEWNET) != 0) return Errno(errno, "enter network namespace");
    made = TRY(FurnishHere(std::move(netns), sysctls, proc));
    return {};
  };
  TRY(RunOnThread(furnish));
  return *std::move(made);
}

Result<> PinNetns(BorrowedFd netns, const std::string& path) {
  TRY(Open(path, O_RDONLY | O_CREAT | O_EXCL, 0444));
  std::string source = StrCat("/proc/self/fd/", netns.get());
  if (mount(source.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    Error error = Errno(errno, "pin network namespace at " + path);
    unlink(path.c_str());
    return error;
  }
  return {};
}

Result<> UnpinNetns(const std::string& path) {
  // EINVAL: not a mount point, as after a crash between the file and the mount.
  while (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
  }
  if (errno != EINVAL && errno != ENOENT) return Errno(errno, "unmount network namespace " + path);
  return RemoveFile(path);
}

Result<UniqueFd> OpenNetns(const std::string& path) {
  UniqueFd fd = TRY(Open(path, O_RDONLY));
  if (ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return Error(Code::kFailedPrecondition, path + " is no network namespace");
  }
  return fd;
}

Result<> RunInNetns(BorrowedFd netns, const std::function<Result<>()>& work) {
  return RunOnThread([&]() -> Result<> {
    if (setns(netns.get(), CLONE_NEWNET) != 0) return Errno(errno, "enter network namespace");
    return work();
  });
}

Result<RouteSocket> OpenRouteSocketIn(BorrowedFd netns) {
  std::optional<RouteSocket> socket;
  auto open = [&]() -> Result<> {
    socket.emplace(TRY(RouteSocket::Open()));
    return {};
  };
  TRY(RunInNetns(netns, open));
  return *std::move(socket);
}

}  // namespace crisp::sys
