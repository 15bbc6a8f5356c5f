#include "native/placement.h"

#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::native {

const char* NamespaceName(uint64_t type) {
  switch (type) {
    case CLONE_NEWNS: return "mnt";
    case CLONE_NEWNET: return "net";
    case CLONE_NEWIPC: return "ipc";
    case CLONE_NEWUTS: return "uts";
    case CLONE_NEWPID: return "pid";
    case CLONE_NEWUSER: return "user";
    case CLONE_NEWCGROUP: return "cgroup";
    case CLONE_NEWTIME: return "time";
    default: return "unknown";
  }
}

Result<> JoinCgroups(const CgroupPlace& place, bool v2_done, pid_t pid) {
  const std::string who = StrCat(pid);
  // "0" is the writer; "tasks" moves one thread, which all of us is, without the lock over all processes that
  // cgroup.procs takes (kernel/cgroup/cgroup-v1.c).
  for (const std::string& dir : place.v1_dirs)
    TRY(sys::WriteExisting(dir + "/tasks", who), "join the container's cgroup");
  if (!place.v2_dir.empty() && !v2_done) {
    TRY(sys::WriteExisting(place.v2_dir + "/cgroup.procs", who), "join the container's cgroup");
  }
  return {};
}

Result<> CgroupFiles::Open(std::span<const std::string> v1_dirs) {
  for (const std::string& dir : v1_dirs) {
    files_.push_back(TRY(sys::Open(dir + "/tasks", O_WRONLY), "join the container's cgroup"));
  }
  return {};
}

// "0", the writer: to move another takes the lock over all processes, which waits for the kernel's RCU.
Result<> CgroupFiles::Join() {
  for (sys::UniqueFd& file : files_) {
    TRY(sys::WriteAll(file, "0"), "join the container's cgroup");
    file.Reset();
  }
  return {};
}

Result<> NamespaceFiles::Open(const std::vector<JoinNamespace>& join) {
  for (const JoinNamespace& each : join) {
    if (each.type == CLONE_NEWPID || each.type == CLONE_NEWUSER) continue;
    entries_.push_back(
        {each.type, TRY(sys::Open(each.path, O_RDONLY), StrCat(NamespaceName(each.type), " namespace"))});
  }
  return {};
}

Result<> NamespaceFiles::Enter() const {
  for (const Entry& entry : entries_) {
    if (setns(entry.fd.get(), static_cast<int>(entry.type)) != 0) {
      return Errno(errno, StrCat("join the ", NamespaceName(entry.type), " namespace"));
    }
  }
  return {};
}

Result<> BecomeRoot() {
  if (setgroups(0, nullptr) != 0 && errno != EPERM) return Errno(errno, "setgroups");
  if (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0) return Errno(errno, "become root of the user namespace");
  // The change of ids has allowed others to look at us again, and has cleared what ends us with the launcher
  // (kernel/cred.c, commit_creds).
  prctl(PR_SET_DUMPABLE, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  return {};
}

Result<> EnterUserNamespace(sys::BorrowedFd userns) {
  if (setns(userns.get(), CLONE_NEWUSER) != 0) return Errno(errno, "join the user namespace");
  return BecomeRoot();
}

namespace {
std::string MapText(const std::vector<IdMapping>& maps) {
  std::string text;
  for (const IdMapping& map : maps) text += StrCat(map.inside, " ", map.outside, " ", map.count, "\n");
  return text;
}
}  // namespace

Result<> WriteIdMaps(pid_t pid, const std::vector<IdMapping>& uids, const std::vector<IdMapping>& gids) {
  if (!uids.empty()) TRY(sys::WriteExisting(StrCat("/proc/", pid, "/uid_map"), MapText(uids)), "uid mappings");
  if (!gids.empty()) TRY(sys::WriteExisting(StrCat("/proc/", pid, "/gid_map"), MapText(gids)), "gid mappings");
  return {};
}

Result<sys::UniqueFd> MakeUserNamespace(const std::vector<IdMapping>& uids, const std::vector<IdMapping>& gids) {
  clone_args args{};
  args.flags = CLONE_NEWUSER;
  args.exit_signal = SIGCHLD;
  const pid_t parent = getpid();
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return Errno(errno, "make a user namespace");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Killed before that. We hold copies of all its descriptors, and whoever waits for their end would wait for ever.
    if (getppid() != parent) _exit(1);
    while (true) pause();
  }
  Result<> mapped = WriteIdMaps(static_cast<pid_t>(pid), uids, gids);
  Result<sys::UniqueFd> fd = mapped ? sys::Open(StrCat("/proc/", pid, "/ns/user"), O_RDONLY)
                                    : Result<sys::UniqueFd>(std::move(mapped).error());
  kill(static_cast<pid_t>(pid), SIGKILL);
  while (waitpid(static_cast<pid_t>(pid), nullptr, 0) < 0 && errno == EINTR) {
  }
  return fd;
}

}  // namespace crisp::native
