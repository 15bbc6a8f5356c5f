#include "native/process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::native {

namespace {

struct SchedAttr {  // struct sched_attr of linux/sched/types.h, which clashes with glibc's sched.h
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

Result<> SetAffinity(const std::string& mask) {
  if (mask.empty()) return {};
  // In whole longs, as the kernel wants it.
  std::string padded = mask;
  padded.resize((mask.size() + sizeof(long) - 1) / sizeof(long) * sizeof(long), '\0');
  if (syscall(SYS_sched_setaffinity, 0, padded.size(), padded.data()) != 0) return Errno(errno, "set the CPU affinity");
  return {};
}

Result<> SetScheduling(const Process& process) {
  constexpr int kWhoProcess = 1;  // IOPRIO_WHO_PROCESS
  if (process.ioprio >= 0 && syscall(SYS_ioprio_set, kWhoProcess, 0, process.ioprio) != 0) {
    return Errno(errno, "set the I/O priority");
  }
  if (process.scheduler.set) {
    const Scheduler& s = process.scheduler;
    SchedAttr attr{sizeof attr, s.policy, s.flags, s.nice, s.priority, s.runtime_nanos, s.deadline_nanos, s.period_nanos};
    if (syscall(SYS_sched_setattr, 0, &attr, 0) != 0) return Errno(errno, "set the scheduler");
  }
  TRY(SetAffinity(process.final_affinity));
  if (process.personality != ~uint64_t{0} && personality(process.personality) < 0) return Errno(errno, "set the personality");
  if (process.memory_policy >= 0) {
    std::string nodes = process.memory_nodes;
    nodes.resize((nodes.size() + sizeof(long) - 1) / sizeof(long) * sizeof(long), '\0');
    if (syscall(SYS_set_mempolicy, process.memory_policy, nodes.empty() ? nullptr : nodes.data(), nodes.size() * 8 + 1) != 0) {
      return Errno(errno, "set the memory policy");
    }
  }
  return {};
}

// HOME where the environment has none: of /etc/passwd inside, by the user's number (as runc does).
std::string HomeOf(uint32_t uid) {
  // Whatever the image has there: a fifo must not hold us.
  Result<sys::UniqueFd> file = sys::Open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY);
  struct stat st{};
  if (!file || fstat(file->get(), &st) != 0 || !S_ISREG(st.st_mode)) return "/";
  Result<std::string> passwd = sys::ReadAll(*file, 1u << 20);
  if (passwd) {
    for (std::string_view line : Split(*passwd, '\n')) {
      std::vector<std::string_view> fields = Split(line, ':');
      if (fields.size() >= 6 && ParseInt<uint32_t>(fields[2]) == uid) return std::string(fields[5]);
    }
  }
  return "/";
}

std::string_view Variable(const std::vector<std::string>& env, std::string_view name) {
  for (const std::string& entry : env) {
    if (entry.starts_with(name) && entry.size() > name.size() && entry[name.size()] == '=') {
      return std::string_view(entry).substr(name.size() + 1);
    }
  }
  return {};
}

bool HasVariable(const std::vector<std::string>& env, const std::string& name) {
  return std::any_of(env.begin(), env.end(), [&](const std::string& entry) { return entry.starts_with(name + "="); });
}

// errno of what keeps the file from being run; 0: nothing.
int Unrunnable(const std::string& path) {
  struct stat st{};
  if (stat(path.c_str(), &st) != 0) return errno;
  if (S_ISDIR(st.st_mode)) return EISDIR;
  if (!S_ISREG(st.st_mode)) return EACCES;
  if (faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0) return 0;
  // A seccomp filter that is in force already may not know faccessat2 and refuse it: execve will tell.
  return errno == EPERM || errno == ENOSYS ? 0 : errno;
}

Error CannotRun(const std::string& name, const std::string& why) {
  // Client programs look for these words of runc's.
  return Error(Code::kUnknown, StrCat("exec: ", Quote(name), ": ", why));
}

std::string Lower(std::string text) {
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] - 'A' + 'a');
  return text;
}

}  // namespace

Result<> PrepareProcess(const Process& process) {
  TRY(SetAffinity(process.initial_affinity));
  if (process.set_oom_score_adj) {
    TRY(sys::WriteExisting("/proc/self/oom_score_adj", StrCat(process.oom_score_adj)), "process.oomScoreAdj");
  }
  return {};
}

Result<> SetExecLabels(const Process& process) {
  if (!process.apparmor_profile.empty()) {
    const char* file = sys::Exists("/proc/self/attr/apparmor") ? "/proc/self/attr/apparmor/exec" : "/proc/self/attr/exec";
    TRY(sys::WriteExisting(file, "exec " + process.apparmor_profile), "AppArmor profile " + process.apparmor_profile);
  }
  if (!process.selinux_label.empty()) {
    TRY(sys::WriteExisting("/proc/self/attr/exec", process.selinux_label), "SELinux label " + process.selinux_label);
  }
  return {};
}

Result<sys::UniqueFd> ConnectListener(const Seccomp& seccomp) {
  if (seccomp.listener_path.empty()) return sys::UniqueFd();
  sys::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.ok()) return Errno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (seccomp.listener_path.size() >= sizeof address.sun_path) {
    return Error(Code::kInvalidArgument, "linux.seccomp.listenerPath is too long for a socket");
  }
  std::memcpy(address.sun_path, seccomp.listener_path.c_str(), seccomp.listener_path.size());
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return Errno(errno, "connect to linux.seccomp.listenerPath " + seccomp.listener_path);
  }
  return fd;
}

namespace {
// Opening /proc/self/fd/N asks for the rights that the pipe's own owner and mode give (proc_pid_fd(5)). Whoever is not
// allowed to give it away, in a user namespace that does not know its owner, goes on with what it has.
void GiveTo(uint32_t uid, int fd) {
  struct stat st{};
  if (fstat(fd, &st) != 0 || st.st_uid == uid) return;
  if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) (void)!fchown(fd, uid, static_cast<gid_t>(-1));
}
}  // namespace

namespace {
bool IsNull(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3); }

// The node's /dev/null becomes the container's, which is a file of its own mounts: CRIU dumps no other, and no descriptor
// leads out of the root. Where the container has none, it stays.
void UseOwnNull(int fd) {
  struct stat given{}, own{};
  if (fstat(fd, &given) != 0 || !IsNull(given)) return;
  int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
  sys::UniqueFd null(open("/dev/null", mode | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY));
  if (!null.ok() || fstat(null.get(), &own) != 0 || !IsNull(own)) return;
  fcntl(null.get(), F_SETFL, 0);
  (void)dup2(null.get(), fd);
}
}  // namespace

Result<> TakeStdio(const Process& process, Becoming& becoming) {
  if (setsid() < 0 && errno != EPERM) return Errno(errno, "setsid");
  int sources[3] = {becoming.in, becoming.out, becoming.err};
  if (becoming.terminal.ok()) {
    if (ioctl(becoming.terminal.get(), TIOCSCTTY, 0) != 0) return Errno(errno, "make it the controlling terminal");
    for (int& source : sources) source = becoming.terminal.get();
  }
  // First out of the way: a source may have a number that is another one's target.
  int moved[3];
  for (int i = 0; i < 3; ++i) {
    moved[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, 3);
    if (moved[i] < 0) return Errno(errno, "stdio");
    GiveTo(process.uid, moved[i]);
  }
  for (int i = 0; i < 3; ++i) {
    if (dup2(moved[i], i) < 0) return Errno(errno, "stdio");
    close(moved[i]);
    UseOwnNull(i);
  }
  becoming.terminal.Reset();
  return {};
}

Result<> SetRlimits(const Process& process, pid_t pid) {
  for (const Rlimit& limit : process.rlimits) {
    rlimit64 value{limit.soft, limit.hard};
    if (prlimit64(pid, static_cast<__rlimit_resource>(limit.resource), &value, nullptr) != 0) {
      return Errno(errno, StrCat("rlimit ", limit.resource, " of ", limit.soft, " and ", limit.hard));
    }
  }
  return {};
}

Result<> SetLimits(const Process& process) {
  TRY(SetRlimits(process, 0));
  TRY(SetScheduling(process));
  // Keys of the launcher's session are none of the container's. A kernel without keys has none; where a filter forbids the
  // call, the container cannot read them either.
  if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) < 0 && errno != ENOSYS && errno != EPERM) {
    return Errno(errno, "make a session keyring");
  }
  umask(process.umask >= 0 ? static_cast<mode_t>(process.umask) : 0022);
  return {};
}

Result<> EnterWorkingDir(const Process& process) {
  const std::string& cwd = process.cwd.empty() ? std::string("/") : process.cwd;
  if (chdir(cwd.c_str()) != 0) return Errno(errno, StrCat("chdir to cwd (", Quote(cwd), ") set in config.json"));
  // A directory that is not below the root has no path from there (CVE-2024-21626).
  char path[4096];
  if (getcwd(path, sizeof path) == nullptr || path[0] != '/') {
    return Error(Code::kFailedPrecondition, StrCat("working directory ", Quote(cwd), " is outside of the container"));
  }
  return {};
}

Result<> DropBounding(const Process& process) {
  for (int capability = 0; capability < 64; ++capability) {
    if ((process.bounding >> capability & 1) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    if (errno == EINVAL) break;  // the kernel has no more
    return Errno(errno, StrCat("drop capability ", capability));
  }
  return {};
}

Result<> ChangeUser(const Process& process) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) return Errno(errno, "keep capabilities");
  if (setgroups(process.groups.size(), process.groups.data()) != 0 && !(errno == EPERM && process.groups.empty())) {
    return Errno(errno, "set supplementary groups");
  }
  if (setresgid(process.gid, process.gid, process.gid) != 0) return Errno(errno, StrCat("become group ", process.gid));
  if (setresuid(process.uid, process.uid, process.uid) != 0) return Errno(errno, StrCat("become user ", process.uid));
  // Until exec nobody inside may look into a copy of the launcher; a change of ids has allowed it again.
  prctl(PR_SET_DUMPABLE, 0);
  prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
  return {};
}

Result<> SetCapabilities(const Process& process) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  for (int i = 0; i < 2; ++i) {
    data[i].effective = static_cast<uint32_t>(process.effective >> (32 * i));
    data[i].permitted = static_cast<uint32_t>(process.permitted >> (32 * i));
    data[i].inheritable = static_cast<uint32_t>(process.inheritable >> (32 * i));
  }
  if (syscall(SYS_capset, &header, data) != 0) return Errno(errno, "set capabilities");
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (int capability = 0; capability < 64; ++capability) {
    if ((process.ambient >> capability & 1) == 0) continue;
    // Only what is permitted and inheritable can be; runc passes over the rest, too.
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
  }
  if (process.no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Errno(errno, "set no_new_privs");
  return {};
}

Result<> InstallSeccomp(const Process& process, Becoming& becoming) {
  const Seccomp& seccomp = process.seccomp;
  if (seccomp.program.empty()) return {};
  size_t count = seccomp.program.size() / sizeof(sock_filter);
  if (seccomp.program.size() % sizeof(sock_filter) != 0 || count > BPF_MAXINSNS) {
    return Error(Code::kInvalidArgument, "malformed seccomp program");
  }
  sock_fprog program{static_cast<unsigned short>(count),
                     reinterpret_cast<sock_filter*>(const_cast<char*>(seccomp.program.data()))};
  unsigned flags = seccomp.flags;
  if (becoming.listener.ok()) flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  long notify = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (notify < 0) return Errno(errno, "install the seccomp filter");
  if (!becoming.listener.ok()) return {};
  int descriptor = static_cast<int>(notify);
  iovec part{becoming.listener_state.data(), becoming.listener_state.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  if (sendmsg(becoming.listener.get(), &message, MSG_NOSIGNAL) < 0) return Errno(errno, "hand the seccomp listener over");
  close(descriptor);
  becoming.listener.Reset();
  return {};
}

Result<std::string> FindProgram(const Process& process) {
  if (process.args.empty() || process.args[0].empty()) return Error(Code::kInvalidArgument, "process.args is empty");
  const std::string& name = process.args[0];
  if (name.find('/') != std::string::npos) {
    int why = Unrunnable(name);
    if (why == 0) return name;
    if (why == EACCES) return CannotRun(name, "permission denied");
    if (why == EISDIR) return CannotRun(name, "is a directory");
    return CannotRun(name, StrCat("stat ", name, ": ", Lower(std::strerror(why))));
  }
  std::string_view path = Variable(process.env, "PATH");
  int seen = ENOENT;
  for (std::string_view dir : Split(path, ':')) {
    std::string candidate = dir.empty() ? "./" + name : StrCat(dir, "/", name);
    int why = Unrunnable(candidate);
    if (why == 0) return candidate;
    if (why == EACCES) seen = EACCES;
  }
  if (seen == EACCES) return CannotRun(name, "permission denied");
  return CannotRun(name, "executable file not found in $PATH");
}

Result<Program> Program::Prepare(const Process& process) {
  Program program;
  program.path_ = TRY(FindProgram(process));
  for (const std::string& arg : process.args) program.argv_.push_back(const_cast<char*>(arg.c_str()));
  program.argv_.push_back(nullptr);
  for (const std::string& entry : process.env) program.envp_.push_back(const_cast<char*>(entry.c_str()));
  if (!HasVariable(process.env, "HOME")) program.home_ = "HOME=" + HomeOf(process.uid);
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  return program;
}

Error Program::Exec() {
  if (!home_.empty()) envp_.push_back(home_.data());
  envp_.push_back(nullptr);
  execve(path_.c_str(), argv_.data(), envp_.data());
  return CannotRun(path_, Lower(std::strerror(errno)));
}

}  // namespace crisp::native
