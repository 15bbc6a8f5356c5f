#include "shim/pod_init.h"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <iterator>

#include "base/strings.h"
#include "sys/fd.h"

namespace crisp::shim {

namespace {

constexpr unsigned kNobody = 65535;  // as the pause images run
constexpr int kConfineTimeMs = 10'000;

// Between clone and its end the child makes plain system calls only: it allocates nothing and returns nowhere.

// Our mount namespace, a copy of the node's, keeps an empty file system only. 0 or an errno, like the others below.
int LeaveFileSystems() {
  // Slave or shared, the new mount would show up in the node's namespace.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return errno;
  // On /proc because it is there on every node. The copy of the old tree goes as a whole.
  constexpr unsigned long kFlags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount("crisp-init", "/proc", "tmpfs", kFlags, "size=4k,mode=555") != 0) return errno;
  if (chdir("/proc") != 0) return errno;
  if (syscall(SYS_pivot_root, ".", ".") == 0) {
    if (umount2(".", MNT_DETACH) != 0) return errno;
  } else if (mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0) {
    return errno;  // the second way is for nodes that run from their initramfs: pivot_root refuses that one
  }
  return chdir("/") == 0 ? 0 : errno;
}

int DropPrivileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  // Best effort: in a user namespace these ids may not exist. The capabilities go in any case.
  syscall(SYS_setgroups, 0, nullptr);
  syscall(SYS_setresgid, kNobody, kNobody, kNobody);
  syscall(SYS_setresuid, kNobody, kNobody, kNobody);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capset, &header, none) != 0) return errno;
  // Of the same user's processes, too, none may look inside.
  return prctl(PR_SET_DUMPABLE, 0) == 0 ? 0 : errno;
}

#if defined(__x86_64__)
constexpr unsigned kArch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArch = AUDIT_ARCH_AARCH64;
#elif defined(__riscv) && __riscv_xlen == 64
constexpr unsigned kArch = AUDIT_ARCH_RISCV64;
#elif defined(__powerpc64__)
constexpr unsigned kArch = AUDIT_ARCH_PPC64LE;
#elif defined(__s390x__)
constexpr unsigned kArch = AUDIT_ARCH_S390X;
#elif defined(__arm__)
constexpr unsigned kArch = AUDIT_ARCH_ARM;
#endif

// Whoever traces it could make it call anything else, outside of its own filter. (seccomp(2): the filter is asked after
// the tracer.)
int AllowOnlyWaiting() {
  constexpr unsigned kAllowed[] = {SYS_read,
                                   SYS_write,
                                   SYS_close,
                                   SYS_waitid,
                                   SYS_rt_sigtimedwait,
#ifdef SYS_rt_sigtimedwait_time64
                                   SYS_rt_sigtimedwait_time64,
#endif
                                   SYS_exit,
                                   SYS_exit_group,
                                   SYS_restart_syscall};
  constexpr size_t kCount = std::size(kAllowed);
  sock_filter program[kCount + 5];
  size_t at = 0;
  program[at++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
  program[at++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArch, 0, kCount + 1);
  program[at++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (size_t i = 0; i < kCount; ++i) {
    program[at++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kAllowed[i], static_cast<uint8_t>(kCount - i), 0);
  }
  program[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
  program[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  sock_fprog whole{static_cast<unsigned short>(at), program};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) == 0) return 0;
  return errno == EINVAL ? 0 : errno;  // a kernel without seccomp: its containers have none either
}

// To a copy of the mount namespace with nothing in it, where there is one that we may enter. A copy: who can reach ours
// inside changes nobody else's.
bool EnterEmpty(int mounts) {
  return mounts >= 0 && setns(mounts, CLONE_NEWNS) == 0 && unshare(CLONE_NEWNS) == 0 &&
         mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

// `mounts_left`: we are in such a one.
int Confine(bool mounts_left) {
  if (!mounts_left) {
    if (unshare(CLONE_NEWNS) != 0) return errno;
    if (int error = LeaveFileSystems()) return error;
  }
  return DropPrivileges();
}

// `parent` gives one byte once we may begin, or end of file if the shim died before PDEATHSIG was set; it takes our
// errno. From inside no signal reaches us, since we handle none; SIGKILL from outside does.
[[noreturn]] void RunInit(int parent, bool mounts_left) {
  prctl(PR_SET_NAME, "crisp-init");
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, nullptr);
  if (parent > 0) syscall(SYS_close_range, 0u, static_cast<unsigned>(parent) - 1, 0u);
  syscall(SYS_close_range, static_cast<unsigned>(parent) + 1, ~0u, 0u);
  int error = Confine(mounts_left);
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // without its shim nobody could end it; a change of ids has cleared it before
  if (error == 0) error = AllowOnlyWaiting();
  char byte;
  if (read(parent, &byte, 1) != 1 || write(parent, &error, sizeof error) != sizeof error || error != 0) _exit(1);
  close(parent);
  while (true) {
    siginfo_t info;
    // Children are reaped as they come; without any, SIGCHLD (blocked, so pending) tells of the first orphan.
    if (waitid(P_ALL, 0, &info, WEXITED) == 0 || errno == EINTR) continue;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    int number;
    sigwait(&child, &number);
  }
}

// The child's errno: 0 once it is confined.
Result<> AwaitConfined(sys::BorrowedFd child) {
  TRY(sys::WriteAll(child, "+"));  // our own socket: one byte always fits
  pollfd event{child.get(), POLLIN, 0};
  int ready;
  do {
    ready = poll(&event, 1, kConfineTimeMs);
  } while (ready < 0 && errno == EINTR);
  int error = ETIMEDOUT;
  if (ready > 0 && read(child.get(), &error, sizeof error) != sizeof error) error = ECHILD;
  if (error != 0) return Errno(error, "confine the pod's init");
  return {};
}

// A process that has entered a user namespace has no way back, so another child enters it and makes the init there, as
// a child of ours (CLONE_PARENT). Its number, or minus an errno, comes through the pipe. As above: plain system calls
// only.
[[noreturn]] void MakeInitInUserns(int userns, int mounts, int answer, int parent) {
  const bool mounts_left = EnterEmpty(mounts);  // in the user namespace we may not
  int error = setns(userns, CLONE_NEWUSER) == 0 ? 0 : errno;
  long pid = -error;
  if (error == 0) {
    // Our ids stand for nobody in there, who may not make files. Best effort: its root may not exist.
    syscall(SYS_setgroups, 0, nullptr);
    syscall(SYS_setresgid, 0, 0, 0);
    syscall(SYS_setresuid, 0, 0, 0);
    clone_args args{};
    args.flags = CLONE_NEWPID | CLONE_PARENT;  // the end is told as ours is: by SIGCHLD
    pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) RunInit(parent, mounts_left);
    if (pid < 0) pid = -errno;
  }
  int number = static_cast<int>(pid);
  _exit(write(answer, &number, sizeof number) == sizeof number ? 0 : 1);
}

Result<pid_t> CloneInUserns(sys::BorrowedFd userns, sys::BorrowedFd empty_mounts, sys::BorrowedFd parent) {
  sys::Pipe answer = TRY(sys::MakePipe());
  clone_args args{};
  args.exit_signal = SIGCHLD;
  long helper = syscall(SYS_clone3, &args, sizeof args);
  if (helper == 0) MakeInitInUserns(userns.get(), empty_mounts.get(), answer.write.get(), parent.get());
  if (helper < 0) return Errno(errno, "clone into the pod's user namespace");
  answer.write.Reset();
  int number = -ECHILD;
  ssize_t n;
  do {
    n = read(answer.read.get(), &number, sizeof number);
  } while (n < 0 && errno == EINTR);
  while (waitpid(static_cast<pid_t>(helper), nullptr, 0) < 0 && errno == EINTR) {
  }
  if (n != sizeof number || number <= 0) return Errno(n == sizeof number ? -number : ECHILD, "clone the pod's init");
  return number;
}

Result<pid_t> CloneInit(sys::BorrowedFd empty_mounts, sys::BorrowedFd parent) {
  clone_args args{};
  args.flags = CLONE_NEWPID;
  args.exit_signal = SIGCHLD;
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0) RunInit(parent.get(), EnterEmpty(empty_mounts.get()));
  if (pid < 0) return Errno(errno, "clone the pod's init");
  return static_cast<pid_t>(pid);
}

}  // namespace

Result<pid_t> StartPodInit(sys::BorrowedFd userns, sys::BorrowedFd empty_mounts) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return Errno(errno, "socketpair");
  sys::UniqueFd ours(pair[0]), childs(pair[1]);
  pid_t pid = TRY(userns.get() >= 0 ? CloneInUserns(userns, empty_mounts, childs) : CloneInit(empty_mounts, childs));
  childs.Reset();
  if (Result<> confined = AwaitConfined(ours); !confined) {
    kill(pid, SIGKILL);  // not reaped yet, so the number is still its
    return std::move(confined).error();
  }
  return pid;
}

}  // namespace crisp::shim
