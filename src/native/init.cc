#include "native/init.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "base/strings.h"
#include "native/hooks.h"
#include "native/placement.h"
#include "native/process.h"
#include "native/root.h"
#include "native/status.h"
#include "sys/file.h"

namespace crisp::native {

namespace {

// What the container's process and its stage say to each other, one byte each time. -1: there is no stage.
class Stage {
 public:
  explicit Stage(int socket) : socket_(socket) {}
  bool there() const { return socket_ >= 0; }
  Result<> Say() const {
    char byte = '+';
    return send(socket_, &byte, 1, MSG_NOSIGNAL) == 1 ? Result<>() : Result<>(Errno(errno, "the other side is gone"));
  }
  Result<> Await() const {
    char byte;
    ssize_t n;
    do {
      n = recv(socket_, &byte, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n == 1 ? Result<>() : Result<>(Error(Code::kAborted, "the other side is gone"));
  }
  Result<> Ask() {
    TRY(Say());
    asked_ = true;
    return Await();
  }
  // After Ask: AwaitExec is to know. Before it the other side would take it for the question, and learns by the end.
  void SayFailed() const {
    if (asked_) (void)Say().has_value();
  }
  // What Await does; and who it was, by the number in our PID namespace (SO_PASSCRED).
  Result<pid_t> AwaitPid() const {
    char byte;
    iovec part{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred))] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t n;
    do {
      n = recvmsg(socket_, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    cmsghdr* header = n == 1 ? CMSG_FIRSTHDR(&message) : nullptr;
    if (header == nullptr || header->cmsg_type != SCM_CREDENTIALS)
      return Error(Code::kAborted, "the other side is gone");
    ucred peer{};
    std::memcpy(&peer, CMSG_DATA(header), sizeof peer);
    return peer.pid;
  }
  // False: the other side has failed.
  bool AwaitExec() const {
    char byte;
    ssize_t n;
    do {
      n = recv(socket_, &byte, 1, 0);
    } while (n < 0 && errno == EINTR);
    return n == 0;
  }
  int socket() const { return socket_; }

 private:
  int socket_;
  bool asked_ = false;
};

[[noreturn]] void Fail(int status, const Error& error) {
  // Who created the container may be gone when it is started: what is left is the container's own stderr.
  if (!SendFailure(status, error)) dprintf(2, "crisp: %s\n", error.message().c_str());
  _exit(1);
}

// From birth: what dies with the launcher as long as it is not the container's program, is not looked into by others,
// and has its few descriptors only.
void Begin(const InitContext& context, std::initializer_list<int> more) {
  prctl(PR_SET_DUMPABLE, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "crisp-launch");
  signal(SIGPIPE, SIG_IGN);  // a hook need not read its state; the program gets the standard action
  std::vector<int> keep{0,
                        1,
                        2,
                        context.status,
                        context.options.in,
                        context.options.out,
                        context.options.err,
                        context.options.start_fifo,
                        context.pidfd};
  for (int i = 0; i < context.options.preserve_fds; ++i) keep.push_back(3 + i);
  keep.insert(keep.end(), more);
  std::sort(keep.begin(), keep.end());
  unsigned next = 0;
  for (int fd : keep) {
    if (fd < 0) continue;
    if (static_cast<unsigned>(fd) > next) close_range(next, static_cast<unsigned>(fd) - 1, 0);
    next = static_cast<unsigned>(fd) + 1;
  }
  close_range(next, ~0u, 0);
}

Result<> SetTimeOffsets(const std::string& offsets) {
  if (unshare(CLONE_NEWTIME) != 0) return Errno(errno, "make a time namespace");
  if (!offsets.empty()) TRY(sys::WriteExisting("/proc/self/timens_offsets", offsets), "linux.timeOffsets");
  sys::UniqueFd fd = TRY(sys::Open("/proc/self/ns/time_for_children", O_RDONLY));
  return setns(fd.get(), CLONE_NEWTIME) == 0 ? Result<>() : Result<>(Errno(errno, "enter the time namespace"));
}

Result<> SetNames(const Launch& launch) {
  if (!launch.hostname.empty() && sethostname(launch.hostname.data(), launch.hostname.size()) != 0) {
    return Errno(errno, "set host name " + Quote(launch.hostname));
  }
  if (!launch.domainname.empty() && setdomainname(launch.domainname.data(), launch.domainname.size()) != 0) {
    return Errno(errno, "set domain name " + Quote(launch.domainname));
  }
  // By the node's /proc, before the root changes: it shows the namespaces of whoever looks.
  for (const KeyValue& sysctl : launch.sysctls) {
    std::string file = sysctl.key;
    if (file.find('/') == std::string::npos) std::replace(file.begin(), file.end(), '.', '/');
    TRY(sys::WriteExisting("/proc/sys/" + file, sysctl.value), "sysctl " + sysctl.key);
  }
  return {};
}

Result<> AwaitByte(int pipe) {
  char byte;
  ssize_t n;
  do {
    n = read(pipe, &byte, 1);
  } while (n < 0 && errno == EINTR);
  return n == 1 ? Result<>() : Result<>(Errno(n < 0 ? errno : EPIPE, "wait for the start"));
}

Result<> AwaitStart(int fifo, int status) {
  // From here on it is the container that waits: it outlives whoever created it, who may end as soon as it is told.
  prctl(PR_SET_PDEATHSIG, 0);
  Status created;
  created.kind = Status::kCreated;
  TRY(SendStatus(status, created));
  return AwaitByte(fifo);
}

// `alone`: who created the container need not be there any more when it is started.
Result<> TellAboutToRun(int status, bool alone) {
  Status about;
  about.kind = Status::kAboutToRun;
  prctl(PR_SET_PDEATHSIG, 0);
  Result<> told = SendStatus(status, about);
  return alone ? Result<>() : told;
}

// Ours as the node sees it, by the node's /proc: before the root changes.
Result<pid_t> PidOnNode() {
  char text[32];
  ssize_t n = readlink("/proc/self", text, sizeof text);
  std::optional<pid_t> pid;
  if (n > 0) pid = ParseInt<pid_t>(std::string_view(text, static_cast<size_t>(n)));
  if (!pid) return Errno(n < 0 ? errno : EINVAL, "read /proc/self");
  return *pid;
}

Result<std::string> ListenerState(const Launch& launch) {
  const Seccomp& seccomp = launch.process.seccomp;
  if (seccomp.listener_path.empty()) return std::string();
  // "as seen by the runtime" (config-linux.md#containerprocessstate).
  pid_t pid = TRY(PidOnNode());
  return StrCat("{\"ociVersion\":", JsonString(launch.oci_version), ",\"fds\":[\"seccompFd\"],\"pid\":", pid,
                ",\"metadata\":", JsonString(seccomp.listener_metadata),
                ",\"state\":", StateJson(launch, "creating", pid), "}");
}

// What only the process that was made from the node's side can do.
struct Prepared {
  NamespaceFiles namespaces;
  Sources sources;
  sys::UniqueFd listener;
};

Result<> Prepare(const Launch& launch, sys::BorrowedFd userns, WhichSources which, Prepared& out) {
  TRY(PrepareProcess(launch.process));
  TRY(out.namespaces.Open(launch.join));
  out.sources = TRY(OpenSources(launch, userns, which));
  out.listener = TRY(ConnectListener(launch.process.seccomp));
  return {};
}

// Their programs are the image's, so they get what the container's program gets and no more (as runc and crun do).
Result<> RunStartHooks(const Launch& launch) {
  if (launch.start_container.empty()) return {};
  signal(SIGPIPE, SIG_IGN);
  Result<> ran = RunHooks(launch.start_container, "startContainer", StateJson(launch, "created", getpid()));
  signal(SIGPIPE, SIG_DFL);
  return ran;
}

// The container's process from here to its program.
Result<> Contain(const Launch& launch, const InitContext& context, Stage& stage, Prepared prepared) {
  TRY(prepared.namespaces.Enter());
  Becoming becoming;
  becoming.listener_state = TRY(ListenerState(launch));
  if ((launch.new_namespaces & CLONE_NEWCGROUP) != 0 && unshare(CLONE_NEWCGROUP) != 0) {
    return Errno(errno, "make a cgroup namespace");
  }
  if ((launch.new_namespaces & CLONE_NEWTIME) != 0) TRY(SetTimeOffsets(launch.time_offsets));
  TRY(SetNames(launch));
  // Of the node's /proc, which bare mounts are without.
  const bool bare = prepared.sources.bare.ok();
  if (bare) TRY(SetExecLabels(launch.process));
  Root root(launch, std::move(prepared.sources));
  TRY(root.Build());
  if (launch.process.terminal) becoming.terminal = TRY(root.MakeTerminal(context.status));
  if (stage.there()) TRY(stage.Ask(), "hooks");
  if (!launch.create_container.empty()) {
    TRY(RunHooks(launch.create_container, "createContainer", StateJson(launch, "creating", getpid())));
  }
  // Those are the node's programs, and not the profile's; what follows is the container's (as in runc).
  if (!bare) TRY(SetExecLabels(launch.process));
  TRY(root.MakeWorkingDir());
  TRY(root.Enter());
  becoming.in = context.options.in;
  becoming.out = context.options.out;
  becoming.err = context.options.err;
  becoming.preserve_fds = context.options.preserve_fds;
  becoming.listener = std::move(prepared.listener);
  const bool created = context.options.start_fifo >= 0 && !context.options.wait_late;
  // Who creates a container learns at once that its program is not there.
  if (created && !launch.process.args.empty() && !launch.process.args[0].starts_with(".")) {
    TRY(FindProgram(launch.process));
  }
  if (created) TRY(AwaitStart(context.options.start_fifo, context.status));
  TRY(TakeStdio(launch.process, becoming));
  close_range(3 + static_cast<unsigned>(context.options.preserve_fds), ~0u, CLOSE_RANGE_CLOEXEC);
  return Become(launch.process, becoming, [&]() -> Result<> {
    if (context.options.wait_late) TRY(AwaitByte(context.options.start_fifo));
    TRY(RunStartHooks(launch));
    return TellAboutToRun(context.status, created);
  });
}

[[noreturn]] void ContainOrFail(const Launch& launch, const InitContext& context, Stage stage, Prepared prepared) {
  Result<> contained = Contain(launch, context, stage, std::move(prepared));
  stage.SayFailed();
  Fail(context.status, contained.error());
}

Result<Launch> Decoded(const InitContext& context) { return DecodeLaunch(context.bytes); }

// ---- the stage ----

Result<pid_t> Clone(uint64_t flags) {
  clone_args args{};
  args.flags = flags;
  if ((flags & CLONE_PARENT) == 0) args.exit_signal = SIGCHLD;
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return Errno(errno, "make the container's process");
  return static_cast<pid_t>(pid);
}

Result<> TellPid(int status, pid_t pid) {
  Status told;
  told.kind = Status::kPid;
  told.number = pid;
  return SendStatus(status, told);
}

std::string UserNamespaceOf(const Launch& launch) {
  for (const JoinNamespace& join : launch.join) {
    if (join.type == CLONE_NEWUSER) return join.path;
  }
  return {};
}

uint64_t CloneFlags(const Launch& launch) { return launch.new_namespaces & ~uint64_t{CLONE_NEWCGROUP | CLONE_NEWTIME}; }

// Enters the user namespace and makes the container's process there. It is sent by the number it has in the node's PID
// namespace, which is ours.
[[noreturn]] void RunEntrance(const Launch& launch, const InitContext& context, sys::BorrowedFd userns, Stage stage) {
  auto run = [&]() -> Result<> {
    sys::UniqueFd pid_namespace;
    for (const JoinNamespace& join : launch.join) {
      if (join.type == CLONE_NEWPID) pid_namespace = TRY(sys::Open(join.path, O_RDONLY), "pid namespace");
    }
    Prepared prepared;
    TRY(JoinCgroups(launch.cgroup, false));
    TRY(Prepare(launch, userns, WhichSources::kAll, prepared));
    TRY(SetRlimits(launch.process, 0));
    if (pid_namespace.ok() && setns(pid_namespace.get(), CLONE_NEWPID) != 0)
      return Errno(errno, "join the pid namespace");
    TRY(EnterUserNamespace(userns));
    pid_t pid = TRY(Clone(CloneFlags(launch) | CLONE_PARENT));
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      ContainOrFail(launch, context, stage, std::move(prepared));
    }
    return TellPid(context.status, pid);
  };
  Result<> made = run();
  if (!made) Fail(context.status, made.error());
  _exit(0);
}

// New user namespace: the stage writes the maps, then the process becomes its root.
[[noreturn]] void RunMapped(const Launch& launch, const InitContext& context, Stage stage, Prepared prepared) {
  auto run = [&]() -> Result<> {
    TRY(stage.Await(), "user namespace");  // before the maps are there we are nobody
    TRY(BecomeRoot());
    return Contain(launch, context, stage, std::move(prepared));
  };
  Result<> contained = run();
  stage.SayFailed();
  Fail(context.status, contained.error());
}

Result<> MakeMapped(const Launch& launch, const InitContext& context, Stage ours, Stage theirs) {
  // Another namespace of the same maps will do for ids on mounts.
  sys::UniqueFd maps;
  for (const Mount& mount : launch.mounts) {
    if (mount.idmap && !maps.ok()) maps = TRY(MakeUserNamespace(launch.uid_map, launch.gid_map));
  }
  Prepared prepared;
  TRY(Prepare(launch, maps, WhichSources::kAll, prepared));
  pid_t pid = TRY(Clone(CloneFlags(launch) | CLONE_PARENT));
  if (pid == 0) {
    close(ours.socket());
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    RunMapped(launch, context, theirs, std::move(prepared));
  }
  TRY(TellPid(context.status, pid));
  // It, and not we: hooks are none of the container's, nor under its limits. It waits for its maps.
  TRY(JoinCgroups(launch.cgroup, false, pid));
  TRY(SetRlimits(launch.process, pid));
  TRY(WriteIdMaps(pid, launch.uid_map, launch.gid_map));
  return ours.Say();
}

Result<> MakeJoined(const Launch& launch, const InitContext& context, Stage ours, Stage theirs) {
  sys::UniqueFd userns = TRY(sys::Open(UserNamespaceOf(launch), O_RDONLY), "user namespace");
  pid_t pid = TRY(Clone(CLONE_PARENT));
  if (pid == 0) {
    close(ours.socket());
    RunEntrance(launch, context, userns, theirs);
  }
  return {};
}

Result<> MakePlain(const Launch& launch, const InitContext& context, Stage ours, Stage theirs) {
  pid_t pid = TRY(Clone(CloneFlags(launch) | CLONE_PARENT));
  if (pid == 0) {
    close(ours.socket());
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Prepared prepared;
    Result<> done = JoinCgroups(launch.cgroup, false);
    if (done) done = Prepare(launch, sys::BorrowedFd(-1), WhichSources::kNecessary, prepared);
    if (!done) Fail(context.status, done.error());
    ContainOrFail(launch, context, theirs, std::move(prepared));
  }
  return TellPid(context.status, pid);
}

Result<> HoldStage(const Launch& launch, const InitContext& context) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return Errno(errno, "socketpair");
  int on = 1;
  if (setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) return Errno(errno, "SO_PASSCRED");
  Stage ours(pair[0]), theirs(pair[1]);
  if ((launch.new_namespaces & CLONE_NEWUSER) != 0) {
    TRY(MakeMapped(launch, context, ours, theirs));
  } else if (!UserNamespaceOf(launch).empty()) {
    TRY(MakeJoined(launch, context, ours, theirs));
  } else {
    TRY(MakePlain(launch, context, ours, theirs));
  }
  close(theirs.socket());
  Result<pid_t> pid = ours.AwaitPid();
  if (!pid) return {};  // the process has failed and said why
  // Before it goes on: an entrance that made it may be slower than it is.
  TRY(TellPid(context.status, *pid));
  TRY(RunHooks(launch.prestart, "prestart", StateJson(launch, "creating", *pid)));
  TRY(RunHooks(launch.create_runtime, "createRuntime", StateJson(launch, "creating", *pid)));
  TRY(ours.Say());
  // A container that waits for its start outlives us: its hooks are the business of who starts it.
  if (launch.poststart.empty() || context.options.start_fifo >= 0) return {};
  if (!ours.AwaitExec()) return {};
  return RunHooks(launch.poststart, "poststart", StateJson(launch, "running", *pid));
}

}  // namespace

void RunContainer(const InitContext& context) {
  Begin(context, {});
  Result<Launch> launch = Decoded(context);
  if (!launch) Fail(context.status, launch.error());
  Prepared prepared;
  Result<> done = JoinCgroups(launch->cgroup, context.v2_joined);
  const WhichSources which = context.bare ? WhichSources::kForBareMounts : WhichSources::kNecessary;
  if (done) done = Prepare(*launch, sys::BorrowedFd(-1), which, prepared);
  if (!done) Fail(context.status, done.error());
  ContainOrFail(*launch, context, Stage(-1), std::move(prepared));
}

void RunStage(const InitContext& context) {
  Begin(context, {});
  Result<Launch> launch = Decoded(context);
  if (!launch) Fail(context.status, launch.error());
  Result<> held = HoldStage(*launch, context);
  if (!held) Fail(context.status, held.error());
  _exit(0);
}

namespace {

// All but cgroups, and the PID namespace, which only children are born into.
Result<> JoinContainer(const ExecLaunch& launch, const InitContext& context) {
  TRY(PrepareProcess(launch.process));
  TRY(SetExecLabels(launch.process));
  if ((launch.namespaces & CLONE_NEWUSER) != 0) TRY(SetRlimits(launch.process, 0));
  // All at once: the kernel checks for each what the ones before have given (kernel/nsproxy.c, validate_nsset).
  if (launch.namespaces != 0 && setns(context.pidfd, static_cast<int>(launch.namespaces)) != 0) {
    return Errno(errno, "join the container's namespaces");
  }
  return (launch.namespaces & CLONE_NEWUSER) != 0 ? BecomeRoot() : Result<>();
}

Result<> BecomeExec(const ExecLaunch& launch, const InitContext& context) {
  Becoming becoming;
  if (launch.process.terminal) {
    sys::UniqueFd root = TRY(sys::Open("/", O_PATH | O_DIRECTORY));
    Terminal terminal = TRY(OpenTerminal(root, launch.process));
    Status told;
    told.kind = Status::kTerminal;
    TRY(SendStatus(context.status, told, terminal.master.get()));
    becoming.terminal = std::move(terminal.slave);
  }
  becoming.in = context.options.in;
  becoming.out = context.options.out;
  becoming.err = context.options.err;
  becoming.preserve_fds = context.options.preserve_fds;
  TRY(TakeStdio(launch.process, becoming));
  close_range(3 + static_cast<unsigned>(context.options.preserve_fds), ~0u, CLOSE_RANGE_CLOEXEC);
  return Become(launch.process, becoming, [&] { return TellAboutToRun(context.status, false); });
}

// What is in the container's PID namespace can be reached from inside by whoever may trace processes there: it is born
// when nothing of the node is reached through it any more, but for files of the container's own v1 cgroups that it
// joins first of all (`cgroups`); the devices' and the pids' it is born in.
Result<> MakeExec(const ExecLaunch& launch, const InitContext& context, CgroupFiles cgroups) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return Errno(errno, "socketpair");
  Stage ours(pair[0]), theirs(pair[1]);
  pid_t pid = TRY(Clone(CLONE_PARENT));
  if (pid == 0) {
    close(ours.socket());
    close(context.pidfd);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    auto run = [&]() -> Result<> {
      // The launcher learns the number before it can learn of anything else.
      TRY(theirs.Await());
      TRY(cgroups.Join());
      return BecomeExec(launch, context);
    };
    Fail(context.status, run().error());
  }
  TRY(TellPid(context.status, pid));
  return ours.Say();
}

Result<> EnterForExec(const InitContext& context) {
  ExecLaunch launch = TRY(DecodeExecLaunch(context.bytes));
  CgroupPlace& place = launch.cgroup;
  const size_t stopping = std::min<size_t>(place.v1_stopping, place.v1_dirs.size());
  CgroupFiles cgroups;
  TRY(cgroups.Open(std::span(place.v1_dirs).last(stopping)));
  place.v1_dirs.resize(place.v1_dirs.size() - stopping);
  TRY(JoinCgroups(place, false));
  TRY(JoinContainer(launch, context));
  return MakeExec(launch, context, std::move(cgroups));
}

}  // namespace

int RunExecEntrance(const InitContext& context) {
  Begin(context, {});
  Result<> done = EnterForExec(context);
  if (!done) (void)SendFailure(context.status, done.error());
  prctl(PR_SET_DUMPABLE, 0);  // the launcher's: a change of ids that failed half-way has reset it
  return done ? 0 : 1;
}

void RunExec(const InitContext& context) {
  Begin(context, {});
  auto run = [&]() -> Result<> {
    ExecLaunch launch = TRY(DecodeExecLaunch(context.bytes));
    TRY(JoinCgroups(launch.cgroup, context.v2_joined));
    TRY(JoinContainer(launch, context));
    if ((launch.namespaces & CLONE_NEWPID) == 0) return BecomeExec(launch, context);
    return MakeExec(launch, context, {});
  };
  Result<> done = run();
  if (!done) Fail(context.status, done.error());
  _exit(0);
}

}  // namespace crisp::native
