#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "base/strings.h"
#include "runtime/native_handler.h"
#include "runtime/runtime_impl.h"
#include "shimapi/socket.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/mount_namespace.h"

namespace crisp::runtime {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
// What a healthy shim needs is below a millisecond, except where a runtime is run.
constexpr milliseconds kCallTime{10'000};
constexpr milliseconds kSetUpTime{10'000};
constexpr milliseconds kDialTime{1000};
constexpr milliseconds kStartTime{120'000};
constexpr milliseconds kShutdownTime{2000};
constexpr milliseconds kDeleteTime{30'000};

std::string Temporary(const std::string& run_dir, std::string_view name) { return StrCat(run_dir, "/tmp/", name); }

// Short enough for a socket address, wherever the run directory is.
std::string ConsoleSocket(const ShimLink& link, std::string_view name) {
  return StrCat("/proc/", link.pid(), "/fd/", shimapi::kShimTmpDescriptor, "/", name);
}

Result<> WaitForEnd(const Ctx& ctx, sys::BorrowedFd pidfd) {
  while (true) {
    pollfd event{pidfd.get(), POLLIN, 0};
    int n = poll(&event, 1, std::min(ctx.PollTimeoutMs(), ctx.stop().stop_possible() ? 100 : 3'600'000));
    if (n > 0) return {};
    if (n < 0 && errno != EINTR) return Errno(errno, "poll");
    TRY(ctx.Check());
  }
}

pid_t ParentOf(pid_t pid) {
  Result<std::string> stat = sys::ReadFile(StrCat("/proc/", pid, "/stat"));
  if (!stat) return 0;
  // "pid (name) state ppid …", and a name may contain anything.
  std::vector<std::string_view> fields =
      SplitWords(std::string_view(*stat).substr(std::min(stat->size(), stat->rfind(')') + 1)));
  return fields.size() > 1 ? ParseInt<pid_t>(fields[1]).value_or(0) : 0;
}

PodNamespaces ToNamespaces(shimapi::HelloReply reply) {
  return {reply.shim_pid,       std::move(reply.net), std::move(reply.ipc),
          std::move(reply.uts), std::move(reply.pid), std::move(reply.user)};
}

ContainerExit ToExit(const shimapi::ContainerState& state) {
  return {state.code, state.signal, state.oom_killed, state.finished_at_unix_nanos};
}
}  // namespace

Result<std::unique_ptr<Runtime>> Runtime::Make(Options options) { return RuntimeImpl::Make(std::move(options)); }

Result<std::unique_ptr<Runtime>> RuntimeImpl::Make(Options options) {
  std::unique_ptr<RuntimeImpl> runtime(new RuntimeImpl(std::move(options)));
  for (const HandlerConfig& config : runtime->options_.handlers) {
    if (config.type != "oci" && config.type != "native")
      return Error(Code::kInvalidArgument, StrCat("handler ", config.name, ": unknown type ", Quote(config.type)));
    runtime->handlers_[config.name] = std::make_unique<Handler>(config);
  }
  runtime->hub_ = TRY(ShimHub::Make([raw = runtime.get()](const LinkPtr& link) { raw->OnGone(link); },
                                    [raw = runtime.get()](const LinkPtr& link) { raw->OnClosed(link); }));
  return std::unique_ptr<Runtime>(std::move(runtime));
}

RuntimeImpl::RuntimeImpl(Options options) : options_(std::move(options)) {}

RuntimeImpl::~RuntimeImpl() { hub_.reset(); }

const HandlerAbilities& RuntimeImpl::Handler::Abilities() {
  std::call_once(probed, [this] {
    if (native) {
      abilities.features = {.recursive_read_only_mounts = true, .user_namespaces = true};
    } else {
      abilities = oci.Probe(Ctx().WithTimeout(seconds(10)));
    }
  });
  return abilities;
}

bool RuntimeImpl::IsNative(const std::string& name) const {
  auto found = handlers_.find(name);
  return found != handlers_.end() && found->second->native;
}

bool RuntimeImpl::HasHandler(const std::string& name) const { return handlers_.contains(name); }

std::vector<std::pair<std::string, HandlerFeatures>> RuntimeImpl::Handlers() const {
  std::vector<std::pair<std::string, HandlerFeatures>> all;
  for (const auto& [name, handler] : handlers_) {
    HandlerFeatures features = handler->Abilities().features;
    features.user_namespaces = features.user_namespaces && options_.user_namespaces;
    all.emplace_back(name, features);
  }
  return all;
}

Result<RuntimeImpl::Handler*> RuntimeImpl::FindHandler(const std::string& name) const {
  auto found = handlers_.find(name);
  if (found == handlers_.end())
    return Error(Code::kInvalidArgument, StrCat("no runtime handler is called ", Quote(name)));
  return found->second.get();
}

Result<RuntimeImpl::LinkPtr> RuntimeImpl::FindLink(const Ctx& ctx, const PodId& pod) {
  auto find = [&]() -> LinkPtr {
    auto links = links_.Lock();
    auto found = links->find(pod);
    return found == links->end() ? nullptr : found->second;
  };
  LinkPtr link = find();
  // The connection broke though the shim lives (it drops a crispd that did not read for long): once more.
  if (link != nullptr && link->closed() && ReconnectPod(ctx, pod, link->run_dir())) link = find();
  if (link == nullptr || link->closed()) return Error(Code::kUnavailable, StrCat("pod ", pod.Short(), " has no shim"));
  return link;
}

ShimLink::ContainerExited RuntimeImpl::ExitCallback() {
  return [this](const PodId& pod, const shimapi::ContainerState& state) {
    Result<ContainerId> id = ContainerId::Parse(state.id);
    if (id && options_.events.on_exit) options_.events.on_exit(pod, *id, ToExit(state));
  };
}

void RuntimeImpl::OnGone(const LinkPtr& link) {
  bool ours;
  {
    auto links = links_.Lock();
    auto found = links->find(link->pod());
    ours = found != links->end() && found->second == link;
    if (ours) links->erase(found);
  }
  if (ours && !link->stopping() && options_.events.on_shim_lost) options_.events.on_shim_lost(link->pod());
}

// A shim that dies closes its connection first: whoever reconnects finds that out.
void RuntimeImpl::OnClosed(const LinkPtr& link) {
  {
    auto links = links_.Lock();
    auto found = links->find(link->pod());
    if (found == links->end() || found->second != link) return;
  }
  if (!link->stopping() && options_.events.on_connection_lost) options_.events.on_connection_lost(link->pod());
}

// ---- pods ----

// Kept from pod to pod: giving the mount up waits for the kernel's RCU. A file that was replaced, by an upgrade, is
// opened anew.
Result<std::shared_ptr<const sys::UniqueFd>> RuntimeImpl::ShimProgram() {
  struct stat now{};
  if (stat(options_.shim_binary.c_str(), &now) != 0) return Errno(errno, "stat " + options_.shim_binary);
  auto same = [&](const struct stat& then) {
    return then.st_dev == now.st_dev && then.st_ino == now.st_ino && then.st_ctim.tv_sec == now.st_ctim.tv_sec &&
           then.st_ctim.tv_nsec == now.st_ctim.tv_nsec;
  };
  {
    auto kept = shim_program_.Lock();
    if (kept->fd != nullptr && same(kept->file)) return kept->fd;
  }
  auto opened = std::make_shared<const sys::UniqueFd>(TRY(sys::OpenProgramReadOnly(options_.shim_binary)));
  *shim_program_.Lock() = {opened, now};
  return opened;
}

std::string RuntimeImpl::EmptyMounts() {
  auto mounts = empty_mounts_.Lock();
  if (!mounts->ok()) {
    Result<sys::UniqueFd> made = sys::MakeBareMountNamespace();
    if (!made) {
      LogWarning("a start takes longer with each pod", {{"error", made.error()}});
      return "";
    }
    *mounts = *std::move(made);
  }
  return StrCat("/proc/", getpid(), "/fd/", mounts->get());
}

// A shim that listens at its socket. Once our copy of that is closed, a shim that dies closes the socket, and whoever
// waits for its answer learns of it.
Result<sys::Process> RuntimeImpl::SpawnShimProcess(const PodSpec& spec) {
  sys::UniqueFd log = TRY(sys::Open(spec.run_dir + "/shim.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  sys::Command command;
  // Containers reach /proc/PID/exe of what the shim makes before it is their program (S24). Our own number: the child
  // has closed the descriptor by then.
  std::shared_ptr<const sys::UniqueFd> program = TRY(ShimProgram());
  command.program = StrCat("/proc/", getpid(), "/fd/", program->get());
  command.argv0 = options_.shim_binary;
  command.args = {spec.pod.str(), spec.run_dir};
  command.env = RuntimeEnvironment();  // which it hands on to the OCI runtimes
  command.working_dir = "/";
  command.fds.emplace(2, log.borrow());
  command.new_session = true;
  auto start = [&](auto with) -> Result<sys::Process> {
    // One of its own for each try: a shim that nobody knows of must not answer for the next.
    sys::UniqueFd listener = TRY(shimapi::Listen(spec.run_dir + "/shim.sock", shimapi::SocketType::kSeqPacket));
    command.fds.insert_or_assign(3, listener.borrow());
    return with();
  };
  Result<sys::Process> forked = start([&] { return forks_.Fork(program, command); });
  if (forked) return forked;
  if (!told_of_slow_shims_.exchange(true))
    LogWarning("shims take longer to start, as at least this one", {{"error", forked.error()}});
  return start([&] { return sys::Spawn(command); });
}

Result<RuntimeImpl::LinkPtr> RuntimeImpl::SpawnShim(const PodSpec& spec) {
  const std::string path = spec.run_dir + "/shim.sock";
  sys::Process process = TRY(SpawnShimProcess(spec));
  auto connect = [&]() -> Result<LinkPtr> {
    sys::UniqueFd socket = TRY(shimapi::Connect(path, shimapi::SocketType::kSeqPacket));
    sys::UniqueFd pidfd = TRY(sys::Dup(process.pidfd()));
    return std::make_shared<ShimLink>(spec.pod, spec.run_dir, std::move(socket), process.pid(), std::move(pidfd),
                                      ExitCallback());
  };
  Result<LinkPtr> link = connect();
  if (!link) {
    TRY(process.Signal(SIGKILL));
    (void)process.Wait(Ctx().WithTimeout(kShutdownTime)).has_value();
    // A shim that could not even start closed the socket before we connected; it said why in its log.
    Result<std::string> said = sys::ReadFile(spec.run_dir + "/shim.log", 64 * 1024);
    return std::move(link).error().Context(StrCat("shim: ", said ? Trim(*said) : std::string_view("no log")));
  }
  return link;
}

Result<PodNamespaces> RuntimeImpl::SetUp(const Ctx& ctx, const PodSpec& spec, ShimLink& link) {
  shimapi::SetupPod request;
  request.own_ipc = spec.own_ipc;
  request.own_uts = spec.own_uts;
  request.shared_pid = spec.shared_pid;
  request.oom_score_adj = spec.oom_score_adj;
  request.hostname = spec.hostname;
  request.netns_path = spec.await_netns ? TRY(spec.await_netns()) : spec.netns_path;
  for (const auto& [name, value] : spec.sysctls) request.sysctls.push_back({name, value});
  if (spec.shared_pid) request.empty_mounts = EmptyMounts();
  sys::UniqueFd netns;
  std::vector<sys::BorrowedFd> fds;
  if (!request.netns_path.empty()) {
    netns = TRY(sys::Open(request.netns_path, O_RDONLY));
    fds.push_back(netns);
  }
  if (spec.owned.user.ok()) {
    request.userns = true;
    fds.push_back(spec.owned.user);
    if (spec.own_ipc) fds.push_back(spec.owned.ipc);
    if (spec.own_uts) fds.push_back(spec.owned.uts);
  }
  return ToNamespaces(TRY(link.Call<shimapi::HelloReply>(ctx, request, kSetUpTime, fds)));
}

Result<sys::OwnedNamespaces> RuntimeImpl::MakeUserns(const Ctx& ctx, const sys::UsernsRequest& request) {
  return sys::MakeUserns(ctx, options_.shim_binary, request);
}

Result<PodNamespaces> RuntimeImpl::StartPod(const Ctx& ctx, const PodSpec& spec) {
  TRY(ctx.Check());
  ctx.Stage("start the pod's shim");
  LinkPtr link = TRY(SpawnShim(spec), "start shim of pod " + spec.pod.str());
  Result<> added = hub_->Add(link);
  ctx.Stage("set up the pod's namespaces");
  Result<PodNamespaces> namespaces = added ? SetUp(ctx, spec, *link) : Result<PodNamespaces>(std::move(added).error());
  if (!namespaces) {
    link->SetStopping();
    EndByForce(*link);
    (void)sys::RemoveFile(spec.run_dir + "/shim.sock").has_value();
    return std::move(namespaces).error().Context("set up the namespaces of pod " + spec.pod.str());
  }
  LinkPtr old;
  {
    auto links = links_.Lock();
    LinkPtr& place = (*links)[spec.pod];
    old = std::exchange(place, link);
  }
  if (old) old->SetStopping();
  if (link->closed()) {
    // It died before its link had a place here, so OnGone passed it over.
    (void)sys::RemoveFile(spec.run_dir + "/shim.sock").has_value();
    return Error(Code::kUnavailable, StrCat("the shim of pod ", spec.pod.str(), " has ended"));
  }
  return namespaces;
}

// SIGKILL for the shim and, before it, for the inits that it runs. Containers' other processes are the caller's to
// kill, by their cgroup.
void RuntimeImpl::EndByForce(const ShimLink& link) {
  Ctx bounded = Ctx().WithTimeout(kShutdownTime);
  std::vector<sys::UniqueFd> inits;
  for (pid_t pid : link.ContainerPids()) {
    Result<sys::UniqueFd> init = sys::PidfdOpen(pid);
    // A child of the shim: not a stranger that got the number after the shim had reaped the init.
    if (!init || ParentOf(pid) != link.pid()) continue;
    if (sys::PidfdSignal(*init, SIGKILL)) inits.push_back(*std::move(init));
  }
  (void)sys::PidfdSignal(link.pidfd(), SIGKILL).has_value();
  if (WaitForEnd(bounded, link.pidfd())) link.Reap();
  for (const sys::UniqueFd& init : inits) (void)WaitForEnd(bounded, init).has_value();
}

Result<RuntimeImpl::LinkPtr> RuntimeImpl::Dial(const PodId& pod, const std::string& run_dir) {
  sys::UniqueFd socket = TRY(shimapi::Connect(run_dir + "/shim.sock", shimapi::SocketType::kSeqPacket));
  shimapi::PeerCredentials peer = TRY(shimapi::Peer(socket));
  // SO_PEERCRED names who called listen(2): a crispd that was killed before its shim did it again, if bad luck has it.
  // So whom we might have to kill later must look like this pod's shim.
  Result<sys::UniqueFd> pidfd = sys::PidfdOpen(peer.pid);
  if (!pidfd) return std::move(pidfd).error().As(Code::kNotFound);
  Result<std::string> line = sys::ReadFile(StrCat("/proc/", peer.pid, "/cmdline"));
  if (!line || !line->ends_with(StrCat('\0', pod.str(), '\0', run_dir, '\0'))) {
    return Error(Code::kNotFound, StrCat("process ", peer.pid, " is not the shim of pod ", pod.Short()));
  }
  return std::make_shared<ShimLink>(pod, run_dir, std::move(socket), peer.pid, *std::move(pidfd), ExitCallback());
}

Result<PodNamespaces> RuntimeImpl::ReconnectPod(const Ctx& ctx, const PodId& pod, const std::string& run_dir) {
  ctx.Stage("reconnect to the pod's shim");
  LinkPtr link = TRY(Dial(pod, run_dir));
  TRY(hub_->Add(link));
  shimapi::Hello hello;
  hello.client = CRISP_VERSION;
  Result<shimapi::HelloReply> reply = link->Call<shimapi::HelloReply>(ctx, hello, kDialTime);
  if (reply && !reply->set_up) reply = Error(Code::kNotFound, "the pod's shim was never set up");
  if (!reply) {
    hub_->Remove(*link);
    if (reply.error().code() == Code::kUnavailable) return std::move(reply).error().As(Code::kNotFound);
    return std::move(reply).error();
  }
  LinkPtr old;
  {
    auto links = links_.Lock();
    old = std::exchange((*links)[pod], link);
  }
  if (old) {
    hub_->Remove(*old);
    old->Close();  // nobody reads it any more: whoever still waits for an answer, because two reconnected at once, is
                   // told
  }
  // The shim died, or dropped us, before the link had a place here, so OnGone passed it over: whoever dials again sees
  // which.
  if (link->closed()) return Error(Code::kUnavailable, StrCat("the shim of pod ", pod.Short(), " has just hung up"));
  for (const shimapi::ContainerState& state : reply->containers) {
    if (state.phase == shimapi::ContainerState::kExited) ExitCallback()(pod, state);
  }
  return ToNamespaces(*std::move(reply));
}

Result<> RuntimeImpl::StopPod(const Ctx& ctx, const PodId& pod, const std::string& run_dir) {
  ctx.Stage("stop the pod's shim");
  LinkPtr link;
  {
    auto links = links_.Lock();
    if (auto found = links->find(pod); found != links->end()) link = found->second;
  }
  if (link == nullptr) {
    Result<LinkPtr> dialled = Dial(pod, run_dir);
    if (!dialled && dialled.error().code() != Code::kNotFound) return std::move(dialled).error();
    if (dialled) {
      link = *std::move(dialled);
      TRY(hub_->Add(link));
    }
  }
  if (link != nullptr) {
    link->SetStopping();
    // Its own deadline: a pod whose caller went away half-way through must not keep a shim that shuts down for ever.
    Ctx bounded = ctx.Detached(kShutdownTime);
    (void)link->Call<shimapi::Ok>(bounded, shimapi::Shutdown(), kShutdownTime).has_value();
    if (!WaitForEnd(bounded, link->pidfd())) {
      LogWarning("shim does not end by itself, killing it", {{"pod", pod.str()}, {"pid", link->pid()}});
      EndByForce(*link);
    }
    TRY(WaitForEnd(ctx.Detached(kShutdownTime), link->pidfd()), "wait for the end of the pod's shim");
    link->Reap();
    auto links = links_.Lock();
    if (auto found = links->find(pod); found != links->end() && found->second == link) links->erase(found);
  }
  TRY(sys::RemoveFile(run_dir + "/shim.sock"));
  return sys::RemoveTree(run_dir + "/tmp");
}

// ---- containers ----

namespace {
shimapi::StartContainer StartRequest(const ContainerSpec& spec) {
  shimapi::StartContainer request;
  request.id = spec.id.str();
  request.log_path = spec.log_path;
  request.terminal = spec.terminal;
  request.stdin_open = spec.stdin_open;
  request.stdin_once = spec.stdin_once;
  request.oom_event_files = spec.oom_event_files;
  return request;
}
}  // namespace

// False: it was not asked for, because this is none of those that may wait or for any other reason.
bool RuntimeImpl::BeginStart(const PodId& pod, const ContainerSpec& spec, const std::string& launch) {
  Result<native::Head> head = native::DecodeHead(launch);
  if (!head || !head->may_wait) return false;
  Result<LinkPtr> link = FindLink(Ctx().WithTimeout(kDialTime), pod);
  Result<sys::UniqueFd> file = NativeLaunchFile(launch);
  if (!link || !file) return false;
  shimapi::PrepareContainer request;
  request.id = spec.id.str();
  request.terminal = spec.terminal;
  request.stdin_open = spec.stdin_open;
  (*link)->Post(request, {file->borrow()});
  return true;
}

Result<PreparedStart> RuntimeImpl::PrepareStart(const PodId& pod, const ContainerSpec& spec,
                                                const std::function<Result<>()>& await_cgroup) {
  // Hooks that are kept here would run for a container that was never started.
  if (TRY(HasPoststopHooks(spec))) return PreparedStart();
  native::Launch launch = TRY(CompileNativeStart(spec, EmptyMounts()));
  PreparedStart prepared;
  prepared.launch = TRY(native::Encode(launch));
  TRY(await_cgroup());
  prepared.begun = BeginStart(pod, spec, prepared.launch);
  // The shim is at work meanwhile.
  if (Result<> kept = KeepNativeStart(spec, launch, exec_templates_); !kept) {
    if (prepared.begun) (void)EndBegun(Ctx().WithTimeout(kCallTime), pod, spec.id).has_value();
    return std::move(kept).error();
  }
  return prepared;
}

Result<> RuntimeImpl::EndBegun(const Ctx& ctx, const PodId& pod, const ContainerId& id) {
  // Not longer: who asks has the cgroup to kill it by, and there may be many in a pod whose shim hangs.
  return Forget(ctx.WithTimeout(kShutdownTime), pod, id);
}

// On an error nothing of the process stays: it is the shim's child and has ended, or ends with its answer.
Result<Started> RuntimeImpl::StartNative(const Ctx& ctx, ShimLink& link, const ContainerSpec& spec) {
  if (!spec.restore_images_dir.empty()) return RestoreNative(ctx, link, spec);
  std::string prepared;
  if (spec.launch.empty()) {
    ctx.Stage("compile the container's configuration");
    native::Launch compiled = TRY(CompileNativeStart(spec, EmptyMounts()), "container " + spec.id.str());
    TRY(KeepNativeStart(spec, compiled, exec_templates_), "container " + spec.id.str());
    prepared = TRY(native::Encode(compiled), "container " + spec.id.str());
  }
  sys::UniqueFd launch = TRY(NativeLaunchFile(prepared.empty() ? spec.launch : prepared));
  shimapi::StartContainer request = StartRequest(spec);
  request.native = true;
  ctx.Stage("start the container's process");
  shimapi::ErrorReply failure;
  Result<shimapi::Started> started = link.Start(ctx, request, kStartTime, {launch.borrow()}, &failure, request.id);
  if (started) return Started{started->pid};
  if (!failure.from_runtime) return std::move(started).error().Context("start container " + spec.id.str());
  return std::move(started).error();
}

Result<Started> RuntimeImpl::RestoreNative(const Ctx& ctx, ShimLink& link, const ContainerSpec& spec) {
  shimapi::StartContainer request = StartRequest(spec);
  request.pid_file = Temporary(link.run_dir(), spec.id.str() + ".pid");
  TRY(sys::RemoveFile(request.pid_file));
  ctx.Stage("restore the container's processes");
  request.argv = TRY(PrepareNativeRestore(spec, exec_templates_, options_.shim_binary, request.pid_file),
                     "container " + spec.id.str());
  shimapi::ErrorReply failure;
  Result<shimapi::Started> started = link.Start(ctx, request, kStartTime, {}, &failure, request.id);
  DoneRestoring(spec.bundle_dir);
  if (started) return Started{started->pid};
  return StartError(spec, std::move(started).error(), failure, "");
}

Result<Started> RuntimeImpl::StartContainer(const Ctx& ctx, const PodId& pod, const ContainerSpec& spec) {
  Handler* handler = TRY(FindHandler(spec.handler));
  LinkPtr link = TRY(FindLink(ctx, pod));
  if (handler->native) return StartNative(ctx, *link, spec);
  shimapi::StartContainer request = StartRequest(spec);
  request.pid_file = Temporary(link->run_dir(), spec.id.str() + ".pid");
  OciHandler::RunFiles files{spec.bundle_dir, request.pid_file, spec.bundle_dir + "/runtime.log", "",
                             spec.restore_images_dir};
  if (spec.terminal) {
    request.console_socket = StrCat(spec.id.Short(), ".tty");
    files.console_socket = ConsoleSocket(*link, request.console_socket);
  }
  request.argv = handler->oci.RunArgv(spec.id, files);
  TRY(sys::RemoveFile(files.log_file));
  TRY(sys::RemoveFile(request.pid_file));

  ctx.Stage("run the OCI runtime");
  shimapi::ErrorReply failure;
  Result<shimapi::Started> started = link->Start(ctx, request, kStartTime, {}, &failure, request.id);
  if (!started) {
    // Whatever a runtime that failed or was killed half-way has left: its state, processes, cgroups. Not where the id
    // is in use by a container that was started before.
    if (started.error().code() != Code::kAlreadyExists) {
      if (Result<> gone = DeleteContainer(ctx.Detached(kDeleteTime), pod, spec.id, spec.handler, spec.bundle_dir);
          !gone) {
        LogWarning("clean up after a failed start, deleting it again is up to the caller",
                   {{"container", spec.id.str()}, {"error", gone.error()}});
      }
    }
    return StartError(spec, std::move(started).error(), failure, files.log_file);
  }
  return Started{started->pid};
}

Error RuntimeImpl::StartError(const ContainerSpec& spec, Error error, const shimapi::ErrorReply& failure,
                              const std::string& log_file) {
  if (!failure.from_runtime) return std::move(error).Context("start container " + spec.id.str());
  Result<std::string> log = sys::ReadFile(log_file);
  std::string message = log ? LastErrorOfLog(*log) : "";
  if (message.empty()) message = std::string(Trim(failure.output));
  if (message.empty()) message = failure.message;
  return Error(error.code(), message);
}

Result<> RuntimeImpl::Signal(const Ctx& ctx, const PodId& pod, const ContainerId& id, int signal) {
  LinkPtr link = TRY(FindLink(ctx, pod));
  shimapi::SignalContainer request;
  request.id = id.str();
  request.signal = signal;
  Result<shimapi::Ok> sent = link->Call<shimapi::Ok>(ctx, request, kCallTime);
  if (!sent && sent.error().code() != Code::kNotFound) return std::move(sent).error();
  return {};
}

// Ends a start that still runs, or the container, and lets the shim forget it. No shim: nothing to do.
Result<> RuntimeImpl::Forget(const Ctx& ctx, const PodId& pod, const ContainerId& id) {
  Result<LinkPtr> link = FindLink(ctx, pod);
  if (!link) return {};
  shimapi::ForgetContainer request;
  request.id = id.str();
  Result<shimapi::Ok> forgotten = (*link)->Call<shimapi::Ok>(ctx, request, kCallTime);
  if (!forgotten && forgotten.error().code() != Code::kUnavailable) return std::move(forgotten).error();
  return {};
}

Result<> RuntimeImpl::DeleteContainer(const Ctx& ctx, const PodId& pod, const ContainerId& id, const std::string& name,
                                      const std::string& bundle_dir) {
  Handler* handler = TRY(FindHandler(name));
  ctx.Stage("delete in the OCI runtime");
  // The shim first: a runtime that is still starting the container, for a crispd that is no more, would leave behind
  // what `delete` has looked for in vain. And `runc delete --force` sleeps 100 ms: what has ended is not forced.
  Result<> forgotten = Forget(ctx, pod, id);
  if (handler->native) {
    // A container that could not be ended is not stopped; the caller comes again.
    TRY(std::move(forgotten));
    DoneRestoring(bundle_dir);
    exec_templates_.Forget(bundle_dir);
    return RunPoststopHooks(ctx, id, bundle_dir);
  }
  sys::RunOptions options;
  options.timeout = kDeleteTime;
  auto delete_as = [&](OciHandler::Deletion deletion) {
    return sys::Run(ctx, ToCommand(handler->oci.DeleteArgv(id, deletion)), options);
  };
  sys::RunResult run = TRY(delete_as(OciHandler::Deletion::kStopped));
  if (run.status.code != 0 && !SaysNotThere(run.err + run.out)) run = TRY(delete_as(OciHandler::Deletion::kForced));
  if (run.status.code != 0 && !SaysNotThere(run.err + run.out)) {
    Error failed(Code::kInternal, StrCat(name, " delete ", id.Short(), ": ", Quote(Trim(run.err), 1024)));
    // A runtime that was killed while it wrote its state can never read it again. What it cannot even tell the state of
    // is no container any more: its processes and cgroups are the caller's to end by the cgroup, the rest is a
    // directory.
    sys::RunResult state = TRY(sys::Run(ctx, ToCommand(handler->oci.StateArgv(id)), options));
    if (state.status.code == 0) return failed;
    LogWarning("the runtime's state of a container is broken, removing it",
               {{"container", id.str()}, {"error", failed}});
    TRY(sys::RemoveTree(handler->oci.StateDir(id)), "broken state of the OCI runtime");
  }
  return forgotten;
}

Result<> RuntimeImpl::UpdateContainer(const Ctx& ctx, const ContainerId& id, const std::string& name,
                                      const std::string& resources_json) {
  Handler* handler = TRY(FindHandler(name));
  if (handler->native) return Error(Code::kInternal, "the cgroup of a native container is the caller's");
  ctx.Stage("update in the OCI runtime");
  sys::RunOptions options;
  options.input = resources_json;
  sys::RunResult run = TRY(sys::Run(ctx, ToCommand(handler->oci.UpdateArgv(id)), options));
  if (run.status.code == 0) return {};
  std::string said(Trim(run.err));
  Code code = SaysNotThere(said) ? Code::kNotFound : Code::kInternal;
  return Error(code, StrCat(name, " update ", id.Short(), ": ", Quote(said, 1024)));
}

Result<> RuntimeImpl::ReopenLog(const Ctx& ctx, const PodId& pod, const ContainerId& id) {
  LinkPtr link = TRY(FindLink(ctx, pod));
  shimapi::ReopenLog request;
  request.id = id.str();
  TRY(link->Call<shimapi::Ok>(ctx, request, kCallTime));
  return {};
}

Result<ExecSyncResult> RuntimeImpl::ExecSync(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                             const std::string& name, const ExecSpec& spec, seconds timeout,
                                             size_t output_bytes_max) {
  TRY(FindHandler(name));
  LinkPtr link = TRY(FindLink(ctx, pod));
  Ctx bounded = timeout.count() > 0 ? ctx.WithTimeout(timeout) : ctx;
  ExecPlan plan = TRY(PlanExec(*link, id, name, spec));
  ctx.Stage("exec");
  shimapi::ErrorReply failure;
  Result<ExecSyncResult> result = RunExecSync(bounded, *link, id, plan, output_bytes_max, &failure);
  if (!result) return plan.Explain(std::move(result).error(), failure);
  return result;
}

// They stay where they are, and the table of a node with many pods is long.
Result<std::shared_ptr<const std::vector<sys::MountInfo>>> RuntimeImpl::CgroupMounts() {
  auto kept = cgroup_mounts_.Lock();
  if (*kept != nullptr) return *kept;
  std::vector<sys::MountInfo> mounts;
  auto add = [&](sys::MountInfo mount) {
    mounts.push_back(std::move(mount));
    return true;
  };
  TRY(sys::EachMountOf("cgroup", sys::kOwnMountInfo, add));
  return *kept = std::make_shared<const std::vector<sys::MountInfo>>(std::move(mounts));
}

Result<ExecPlan> RuntimeImpl::PlanExec(const ShimLink& link, const ContainerId& id, const std::string& name,
                                       const ExecSpec& spec) {
  Handler* handler = TRY(FindHandler(name));
  pid_t init = link.ContainerPid(id.str());
  if (init == 0) return Error(Code::kFailedPrecondition, StrCat("container ", id.Short(), " is not running"));
  const std::string tag = "exec-" + RandomHex(8);
  if (handler->native) {
    ExecPlan plan;
    NativeExec exec = TRY(PrepareNativeExec(exec_templates_, spec, "crisp-" + tag), "container " + id.str());
    plan.launch = std::move(exec.launch);
    if (!exec.cgroup_dir.empty()) plan.cgroup_dirs = {exec.cgroup_dir};
    if (spec.terminal) plan.console_socket = tag + ".tty";
    return plan;
  }
  const std::string base = Temporary(link.run_dir(), tag);
  ExecPlace place;
  if (Result<std::string> cgroups = sys::ReadFile(StrCat("/proc/", init, "/cgroup"))) {
    std::shared_ptr<const std::vector<sys::MountInfo>> mounts = TRY(CgroupMounts());
    place = PlaceExec(handler->Abilities().exec_cgroup, *mounts, *cgroups, "crisp-" + tag);
  }
  ExecPlan plan;
  plan.process_file = base + ".json";
  plan.pid_file = base + ".pid";
  plan.log_file = base + ".log";
  OciHandler::ExecFiles files{plan.process_file, plan.pid_file, plan.log_file, place.argument, ""};
  if (spec.terminal) {
    plan.console_socket = tag + ".tty";
    files.console_socket = ConsoleSocket(link, plan.console_socket);
  }
  plan.argv = handler->oci.ExecArgv(id, files);
  plan.cgroup_dirs = std::move(place.dirs);
  std::string process_json = TRY(spec.process_json());
  TRY(sys::WriteFileAtomic(plan.process_file, process_json, 0600, sys::Durability::kNone));
  return plan;
}

ExecPlan::~ExecPlan() {
  for (const std::string& file : {process_file, pid_file, log_file}) {
    if (!file.empty()) unlink(file.c_str());
  }
}

shimapi::StartExec ExecPlan::Request(uint64_t exec, const ContainerId& container) const {
  shimapi::StartExec request;
  request.exec = exec;
  request.container = container.str();
  request.argv = argv;
  request.pid_file = pid_file;
  request.cgroup_dirs = cgroup_dirs;
  request.native = launch.ok();
  request.console_socket = console_socket;
  return request;
}

std::vector<sys::BorrowedFd> ExecPlan::Fds(std::vector<sys::BorrowedFd> stdio) const {
  if (launch.ok()) stdio.push_back(launch);
  return stdio;
}

Error ExecPlan::Explain(Error error, const shimapi::ErrorReply& failure) const {
  if (!failure.from_runtime || error.code() != Code::kUnknown) return error;
  Result<std::string> log = sys::ReadFile(log_file);
  std::string message = log ? LastErrorOfLog(*log) : "";
  return message.empty() ? std::move(error) : Error(Code::kUnknown, message);
}

Result<std::unique_ptr<StreamSession>> RuntimeImpl::OpenExec(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                                             const std::string& name, const ExecSpec& spec,
                                                             const StreamWants& wants) {
  LinkPtr link = TRY(FindLink(ctx, pod));
  ExecPlan plan = TRY(PlanExec(*link, id, name, spec));
  ctx.Stage("exec");
  shimapi::ErrorReply failure;
  Result<std::unique_ptr<StreamSession>> session = StartExecSession(ctx, link, id, plan, wants, &failure);
  if (!session) return plan.Explain(std::move(session).error(), failure);
  return session;
}

Result<std::unique_ptr<StreamSession>> RuntimeImpl::OpenAttach(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                                               const StreamWants& wants) {
  ctx.Stage("attach");
  return StartAttachSession(ctx, TRY(FindLink(ctx, pod)), id, wants);
}

}  // namespace crisp::runtime
