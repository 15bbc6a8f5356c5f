#include "native/launcher.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "native/init.h"
#include "native/status.h"

namespace crisp::native {

namespace {

// Where our next child's PID namespace is another one than ours; until the destructor.
class PidNamespaceForChildren {
 public:
  static Result<PidNamespaceForChildren> Enter(sys::BorrowedFd ns) {
    PidNamespaceForChildren entered;
    entered.own_ = TRY(sys::Open("/proc/self/ns/pid", O_RDONLY));
    if (setns(ns.get(), CLONE_NEWPID) != 0) return Errno(errno, "join the pid namespace");
    return entered;
  }
  PidNamespaceForChildren(PidNamespaceForChildren&&) = default;
  ~PidNamespaceForChildren() {
    // A launcher that makes all its children in somebody's container must not go on.
    if (own_.ok() && setns(own_.get(), CLONE_NEWPID) != 0) abort();
  }

 private:
  PidNamespaceForChildren() = default;
  sys::UniqueFd own_;
};

Result<> CheckStdio(const LaunchOptions& options) {
  if (options.in < 0 || options.out < 0 || options.err < 0)
    return Error(Code::kInvalidArgument, "launch without stdio");
  return {};
}

}  // namespace

class Starter {
 public:
  explicit Starter(const LaunchOptions& options) { context_.options = options; }

  Result<> Open() {
    TRY(CheckStdio(context_.options));
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return Errno(errno, "socketpair");
    ours_ = sys::UniqueFd(pair[0]);
    theirs_ = sys::UniqueFd(pair[1]);
    context_.status = theirs_.get();
    return {};
  }
  // A child that runs `run`, born in the v2 cgroup where there is one.
  Result<pid_t> Make(uint64_t flags, const std::string& v2_dir, void (*run)(const InitContext&)) {
    clone_args args{};
    args.flags = flags;
    args.exit_signal = SIGCHLD;
    sys::UniqueFd cgroup;
    if (!v2_dir.empty()) {
      cgroup = TRY(sys::Open(v2_dir, O_PATH | O_DIRECTORY), "the container's cgroup");
      args.flags |= CLONE_INTO_CGROUP;
      args.cgroup = static_cast<uint64_t>(cgroup.get());
      context_.v2_joined = true;
    }
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) run(context_);
    if (pid < 0) return Errno(errno, "make the container's process");
    return static_cast<pid_t>(pid);
  }
  // A child that runs `run` in our memory, and is done with it when this returns.
  Result<pid_t> MakeInOurMemory(int (*run)(const InitContext&)) {
    constexpr size_t kStackBytes = 256 << 10, kGuardBytes = 4 << 10;
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) return Errno(errno, "map a stack");
    mprotect(stack, kGuardBytes, PROT_NONE);
    struct Call {
      int (*run)(const InitContext&);
      const InitContext& context;
    } call{run, context_};
    auto begin = [](void* argument) {
      const Call& asked = *static_cast<const Call*>(argument);
      return asked.run(asked.context);
    };
    // glibc's function gives the child its own stack, and ends it when `begin` returns.
    int pid = clone(begin, static_cast<char*>(stack) + kStackBytes, CLONE_VM | CLONE_VFORK | SIGCHLD, &call);
    int error = errno;
    munmap(stack, kStackBytes);
    if (pid < 0) return Errno(error, "make the entrance of an exec");
    return pid;
  }
  Launching Done(pid_t pid, pid_t helper) {
    Launching launching(std::move(ours_));
    launching.pid_ = pid;
    launching.helper_pid_ = helper;
    return launching;
  }
  InitContext& context() { return context_; }

 private:
  InitContext context_;
  sys::UniqueFd ours_, theirs_;
};

Result<Launching> Launching::Start(std::string_view launch, const LaunchOptions& options) {
  Head head = TRY(DecodeHead(launch));
  Starter starter(options);
  TRY(starter.Open());
  starter.context().bytes = launch;
  if (head.staged) {
    pid_t helper = TRY(starter.Make(0, "", [](const InitContext& context) { RunStage(context); }));
    return starter.Done(0, helper);
  }
  auto run = [](const InitContext& context) { RunContainer(context); };
  starter.context().bare = head.bare;
  // It copies the mounts that it is to have itself. (A launcher that does not know of this copies the node's.)
  const uint64_t flags = head.bare ? head.clone_flags & ~uint64_t{CLONE_NEWNS} : head.clone_flags;
  pid_t pid;
  if (head.pid_namespace.empty()) {
    pid = TRY(starter.Make(flags, head.v2_dir, run));
  } else {
    sys::UniqueFd ns = TRY(sys::Open(head.pid_namespace, O_RDONLY), "pid namespace");
    PidNamespaceForChildren entered = TRY(PidNamespaceForChildren::Enter(ns));
    pid = TRY(starter.Make(flags, head.v2_dir, run));
  }
  return starter.Done(pid, 0);
}

Result<Launching> Launching::StartExec(std::string_view exec_launch, sys::BorrowedFd pidfd,
                                       const LaunchOptions& options) {
  Head head = TRY(DecodeHead(exec_launch));
  Starter starter(options);
  TRY(starter.Open());
  starter.context().bytes = exec_launch;
  starter.context().pidfd = pidfd.get();
  if ((head.clone_flags & CLONE_VFORK) != 0) {
    pid_t entrance = TRY(starter.MakeInOurMemory(RunExecEntrance));
    return starter.Done(0, entrance);
  }
  pid_t pid = TRY(starter.Make(0, head.v2_dir, [](const InitContext& context) { RunExec(context); }));
  return head.pid_namespace.empty() ? starter.Done(pid, 0) : starter.Done(0, pid);
}

Result<Launching::Progress> Launching::Advance() {
  if (failure_) return Error(failure_->first, failure_->second);
  while (progress_ != Progress::kRunning) {
    ReceivedStatus received = TRY(ReceiveStatus(socket_.get()));
    if (received.state == ReceivedStatus::kNothing) return progress_;
    if (received.state == ReceivedStatus::kEnd) {
      if (!about_to_run_) return Error(Code::kUnknown, "the container's process ended before its program ran");
      progress_ = Progress::kRunning;
      return progress_;
    }
    const Status& status = received.status;
    switch (status.kind) {
      case Status::kPid: pid_ = status.number; break;
      case Status::kTerminal: terminal_ = std::move(received.descriptor); break;
      case Status::kCreated: progress_ = Progress::kCreated; break;
      case Status::kAboutToRun: about_to_run_ = true; break;
      case Status::kFailed: {
        failure_.emplace(static_cast<Code>(status.code), status.text);
        return Error(failure_->first, failure_->second);
      }
      default: return Error(Code::kInternal, "unknown status of a process that is being started");
    }
  }
  return progress_;
}

}  // namespace crisp::native
