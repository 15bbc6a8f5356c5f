#include "shim/shim.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "sys/file.h"

namespace crisp::shim {

namespace {
using std::chrono::milliseconds;
constexpr milliseconds kShutdownTime{1000};
constexpr milliseconds kOrphanCheckTime{60'000};
constexpr size_t kAttachmentsMax = 64;

Result<sys::UniqueFd> WatchSignals() {
  sigset_t handled;
  sigemptyset(&handled);
  for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGPIPE}) sigaddset(&handled, signal);
  if (sigprocmask(SIG_BLOCK, &handled, nullptr) != 0) return Errno(errno, "block signals");
  int fd = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return Errno(errno, "signalfd");
  return sys::UniqueFd(fd);
}

void SetOomScore(int wanted) {
  Result<> set = sys::WriteExisting("/proc/self/oom_score_adj", StrCat(wanted));
  if (!set) LogWarning("keeping the inherited oom_score_adj", {{"error", set.error()}});
}
}  // namespace

Shim::Shim(Loop& loop, std::string run_dir, sys::UniqueFd listener)
    : loop_(loop), around_{loop, children_, std::move(run_dir)}, listener_(std::move(listener)) {}

Result<> Shim::Run() {
  signals_ = TRY(WatchSignals());
  TRY(loop_.Watch(signals_, EPOLLIN, [this](uint32_t) { OnSignal(); }));
  TRY(loop_.Watch(listener_, EPOLLIN, [this](uint32_t) { Accept(); }));
  loop_.SetBeforeSleep([this] { BeforeSleep(); });
  children_.Reap();  // what ended before the signal was watched
  loop_.Run();
  return {};
}

void Shim::OnSignal() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) terminated_ = true;
  }
  children_.Reap();
}

void Shim::Accept() {
  int fd = accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  // Not make_shared: without RTTI that would link libstdc++'s exceptions.
  ConnectionPtr connection(new Connection(++last_connection_, sys::UniqueFd(fd)));
  // The socket's mode keeps others out; this holds even where somebody changed it.
  Result<shimapi::PeerCredentials> peer = shimapi::Peer(connection->fd());
  if (!peer || peer->uid != geteuid()) return;
  Result<Loop::Id> watch = loop_.Watch(connection->fd(), EPOLLIN, [this, weak = std::weak_ptr(connection)](uint32_t events) {
    ConnectionPtr strong = weak.lock();
    if (strong == nullptr) return;
    if (events & EPOLLOUT) strong->FlushQueue();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) OnReadable(strong);
  });
  if (!watch) return;
  connection->watch = *watch;
  connections_.emplace(connection->id(), connection);
}

void Shim::OnReadable(const ConnectionPtr& connection) {
  Result<shimapi::Received> received = shimapi::ReceiveMessage(connection->fd(), Scratch(), kScratchBytes);
  if (received && received->nothing) return;
  if (!received || received->closed) return Drop(connection);
  Dispatch(connection, received->bytes, std::move(received->fds));
}

void Shim::Drop(const ConnectionPtr& connection) {
  loop_.Unwatch(connection->watch);
  // Nobody is left to read these execs' results.
  for (const auto& [key, exec] : execs_) {
    if (key.first == connection->id()) exec->Kill(std::nullopt);
  }
  for (const auto& [id, prepared] : prepared_) {
    if (prepared.connection == connection->id()) prepared.start->Kill();
  }
  std::erase_if(attachments_, [&](const auto& attachment) { return attachment.first.first == connection->id(); });
  connections_.erase(connection->id());
}

template <class Message>
Result<> Shim::Call(const Asker& asker, std::string_view bytes, std::vector<sys::UniqueFd>& fds) {
  Message message = TRY(shimapi::Decode<Message>(bytes));
  return Handle(asker, message, fds);
}

void Shim::Dispatch(const ConnectionPtr& connection, std::string_view bytes, std::vector<sys::UniqueFd> fds) {
  Result<shimapi::Header> header = shimapi::DecodeHeader(bytes);
  if (!header) {
    LogWarning("dropping a connection", {{"error", header.error()}});
    return Drop(connection);
  }
  Asker asker{connection, header->seq};
  auto call = [&]() -> Result<> {
    using shimapi::Type;
    switch (header->type) {
      case Type::kHello: return Call<shimapi::Hello>(asker, bytes, fds);
      case Type::kSetupPod: return Call<shimapi::SetupPod>(asker, bytes, fds);
      case Type::kStartContainer: return Call<shimapi::StartContainer>(asker, bytes, fds);
      case Type::kPrepareContainer: return Call<shimapi::PrepareContainer>(asker, bytes, fds);
      case Type::kSignalContainer: return Call<shimapi::SignalContainer>(asker, bytes, fds);
      case Type::kReopenLog: return Call<shimapi::ReopenLog>(asker, bytes, fds);
      case Type::kForgetContainer: return Call<shimapi::ForgetContainer>(asker, bytes, fds);
      case Type::kStartExec: return Call<shimapi::StartExec>(asker, bytes, fds);
      case Type::kKillExec: return Call<shimapi::KillExec>(asker, bytes, fds);
      case Type::kCancel: return Call<shimapi::Cancel>(asker, bytes, fds);
      case Type::kAttach: return Call<shimapi::Attach>(asker, bytes, fds);
      case Type::kDetach: return Call<shimapi::Detach>(asker, bytes, fds);
      case Type::kResizeTerminal: return Call<shimapi::ResizeTerminal>(asker, bytes, fds);
      case Type::kShutdown: return Call<shimapi::Shutdown>(asker, bytes, fds);
      default: return Error(Code::kUnimplemented, StrCat("this shim (", CRISP_VERSION, ") does not know message ",
                                                         static_cast<int>(header->type)));
    }
  };
  if (Result<> called = call(); !called) asker.Fail(called.error());
}

shimapi::HelloReply Shim::Report() const {
  shimapi::HelloReply reply;
  reply.version = CRISP_VERSION;
  reply.shim_pid = getpid();
  namespaces_.FillIn(reply);
  for (const auto& [id, container] : containers_) reply.containers.push_back(container->state());
  return reply;
}

Result<> Shim::Handle(const Asker& asker, const shimapi::Hello&, std::vector<sys::UniqueFd>&) {
  if (ConnectionPtr connection = asker.connection.lock()) connection->subscribed = true;
  asker.Answer(Report());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::SetupPod& message, std::vector<sys::UniqueFd>& fds) {
  SetOomScore(message.oom_score_adj);
  if (ConnectionPtr connection = asker.connection.lock()) connection->subscribed = true;
  TRY(namespaces_.SetUp(message, std::move(fds), children_));
  asker.Answer(Report());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::StartContainer& message, std::vector<sys::UniqueFd>& fds) {
  if (shutting_down_) return Error(Code::kFailedPrecondition, "the pod is being stopped");
  ContainerId id = TRY(ContainerId::Parse(message.id));
  if (containers_.contains(id.str())) return Error(Code::kAlreadyExists, StrCat("container ", id.str(), " was started before"));
  if (forgotten_.contains(id.str())) return Error(Code::kUnavailable, StrCat("container ", id.str(), " is being forgotten"));
  auto container = std::make_unique<Container>(
      around_, message,
      Container::Callbacks{[this](Container& failed) { DropContainer(failed.id()); },
                           [this](Container& exited) { OnContainerExited(exited); }});
  TRY(container->Start(asker, std::move(fds), message.native ? TakePrepared(asker, id.str()) : nullptr));
  containers_.emplace(id.str(), std::move(container));
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::PrepareContainer& message, std::vector<sys::UniqueFd>& fds) {
  if (shutting_down_) return Error(Code::kFailedPrecondition, "the pod is being stopped");
  ContainerId id = TRY(ContainerId::Parse(message.id));
  if (containers_.contains(id.str()) || prepared_.contains(id.str())) {
    return Error(Code::kAlreadyExists, StrCat("container ", id.str(), " was begun before"));
  }
  auto ended = [this, id = id.str()] { loop_.After(milliseconds(0), [this, id] { DropPrepared(id); }); };
  std::unique_ptr<PreparedStart> start = TRY(PreparedStart::Make(around_, message, fds, ended));
  prepared_.emplace(id.str(), Prepared{asker.connection.lock()->id(), std::move(start)});
  asker.Answer(shimapi::Ok());
  return {};
}

// Null: there is none, or of another crispd, which may have meant another launch.
std::unique_ptr<PreparedStart> Shim::TakePrepared(const Asker& asker, const std::string& id) {
  auto prepared = prepared_.extract(id);
  if (prepared.empty() || prepared.mapped().connection != asker.connection.lock()->id()) return nullptr;
  return std::move(prepared.mapped().start);
}

void Shim::OnContainerExited(Container& container) {
  shimapi::ContainerExited event;
  event.state = container.state();
  for (const auto& [key, connection] : connections_) {
    if (connection->subscribed) Asker{connection, 0}.Answer(event);
  }
  if (forgotten_.contains(container.id())) DropContainer(container.id());
}

// Not at once: we may stand in a callback of the container itself.
void Shim::DropContainer(const std::string& id) {
  loop_.After(milliseconds(0), [this, id] {
    containers_.erase(id);
    TellForgotten(id);
  });
}

void Shim::DropPrepared(const std::string& id) {
  auto found = prepared_.find(id);
  if (found == prepared_.end() || !found->second.start->ended()) return;
  prepared_.erase(found);
  TellForgotten(id);
}

void Shim::TellForgotten(const std::string& id) {
  if (containers_.contains(id) || prepared_.contains(id)) return;
  auto forgotten = forgotten_.extract(id);
  if (forgotten.empty()) return;
  for (const Asker& asker : forgotten.mapped()) asker.Answer(shimapi::Ok());
}

void Shim::DropExec(const std::pair<uint64_t, uint64_t>& key) {
  auto found = execs_.find(key);
  if (found == execs_.end()) return;
  std::erase_if(leftovers_, [this](auto& leftover) { return leftover.second.Remove() || !containers_.contains(leftover.first); });
  ExecCgroup cgroup = found->second->TakeLeftover();
  if (cgroup.has_dirs()) leftovers_.emplace_back(found->second->container(), std::move(cgroup));
  execs_.erase(found);
}

Result<> Shim::Handle(const Asker& asker, const shimapi::SignalContainer& message, std::vector<sys::UniqueFd>&) {
  auto found = containers_.find(message.id);
  if (found == containers_.end()) return Error(Code::kNotFound, StrCat("container ", Quote(message.id), " is not known here"));
  if (message.signal < 1 || message.signal > 64) return Error(Code::kInvalidArgument, StrCat("signal ", message.signal));
  TRY(found->second->Signal(message.signal));
  asker.Answer(shimapi::Ok());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::ReopenLog& message, std::vector<sys::UniqueFd>&) {
  auto found = containers_.find(message.id);
  if (found == containers_.end()) return Error(Code::kNotFound, StrCat("container ", Quote(message.id), " is not known here"));
  TRY(found->second->ReopenLog());
  asker.Answer(shimapi::Ok());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::ForgetContainer& message, std::vector<sys::UniqueFd>&) {
  if (auto found = prepared_.find(message.id); found != prepared_.end()) {
    found->second.start->Kill();
    forgotten_[message.id].push_back(asker);  // answered by DropPrepared
    return {};
  }
  if (auto found = containers_.find(message.id); found != containers_.end()) {
    Container& container = *found->second;
    if (container.alive()) {
      container.CancelStart();
      TRY(container.Signal(SIGKILL));
      forgotten_[message.id].push_back(asker);  // answered by DropContainer
      return {};
    }
    containers_.erase(found);
  }
  asker.Answer(shimapi::Ok());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::StartExec& message, std::vector<sys::UniqueFd>& fds) {
  auto found = containers_.find(message.container);
  if (found == containers_.end()) return Error(Code::kNotFound, StrCat("container ", Quote(message.container), " is not known here"));
  // Without a pidfd its process has ended, and the rest of its output is waited for.
  if (!found->second->running() || found->second->pidfd().get() < 0) {
    return Error(Code::kFailedPrecondition, "the container is not running");
  }
  ConnectionPtr connection = asker.connection.lock();
  std::pair<uint64_t, uint64_t> key(connection->id(), message.exec);
  if (execs_.contains(key)) return Error(Code::kAlreadyExists, "this exec was started before");
  auto exec = std::make_unique<Exec>(around_, message, [this, key](Exec&) {
    loop_.After(milliseconds(0), [this, key] { DropExec(key); });
  });
  TRY(exec->Start(asker, found->second->pidfd(), std::move(fds)));
  execs_.emplace(key, std::move(exec));
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::KillExec& message, std::vector<sys::UniqueFd>&) {
  auto found = execs_.find({asker.connection.lock()->id(), message.exec});
  if (found == execs_.end()) {
    asker.Answer(shimapi::Ok());
  } else {
    found->second->Kill(asker);
  }
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::Attach& message, std::vector<sys::UniqueFd>& fds) {
  auto found = containers_.find(message.container);
  if (found == containers_.end())
    return Error(Code::kNotFound, StrCat("container ", Quote(message.container), " is not known here"));
  if (attachments_.size() >= kAttachmentsMax) {
    return Error(Code::kResourceExhausted, StrCat(kAttachmentsMax, " clients are attached to this pod already"));
  }
  std::pair<uint64_t, uint64_t> key(asker.connection.lock()->id(), message.attach);
  if (attachments_.contains(key)) return Error(Code::kAlreadyExists, "this attach was made before");
  auto attachment = std::make_unique<Attachment>(loop_, asker, message, [this, key](Attachment&) {
    loop_.After(milliseconds(0), [this, key] { attachments_.erase(key); });
  });
  shimapi::Attached attached = TRY(found->second->Attach(*attachment, message, std::move(fds)));
  attachments_.emplace(key, std::move(attachment));
  asker.Answer(attached);
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::Detach& message, std::vector<sys::UniqueFd>&) {
  attachments_.erase({asker.connection.lock()->id(), message.attach});
  asker.Answer(shimapi::Ok());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::ResizeTerminal& message, std::vector<sys::UniqueFd>&) {
  auto found = containers_.find(message.container);
  if (found == containers_.end())
    return Error(Code::kNotFound, StrCat("container ", Quote(message.container), " is not known here"));
  TRY(found->second->Resize(message.width, message.height));
  asker.Answer(shimapi::Ok());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::Cancel& message, std::vector<sys::UniqueFd>&) {
  const Connection* connection = asker.connection.lock().get();
  for (const auto& [id, container] : containers_) {
    if (container->IsStartOf(connection, message.seq)) container->CancelStart();
  }
  for (const auto& [key, exec] : execs_) {
    if (exec->IsStartOf(connection, message.seq)) exec->Kill(std::nullopt);
  }
  asker.Answer(shimapi::Ok());
  return {};
}

Result<> Shim::Handle(const Asker& asker, const shimapi::Shutdown&, std::vector<sys::UniqueFd>&) {
  shutdown_askers_.push_back(asker);
  if (shutting_down_) return {};
  shutting_down_ = true;
  for (const auto& [key, exec] : execs_) exec->Kill(std::nullopt);
  for (const auto& [id, prepared] : prepared_) prepared.start->Kill();
  for (const auto& [id, container] : containers_) {
    container->CancelStart();
    TRY(container->Signal(SIGKILL));
  }
  namespaces_.KillInit();
  shutdown_timer_ = loop_.After(kShutdownTime, [this] { shutdown_timer_ = 0; });
  return {};
}

bool Shim::AnyAlive() const {
  for (const auto& [id, container] : containers_) {
    if (container->alive()) return true;
  }
  return false;
}

bool Shim::Reachable() const { return sys::Exists(around_.run_dir + "/shim.sock"); }

void Shim::ContinueShutdown() {
  if (shutdown_timer_ != 0 && (AnyAlive() || children_.known() > 0)) return;
  for (const Asker& asker : shutdown_askers_) asker.Answer(shimapi::Ok());
  loop_.Stop();
}

void Shim::BeforeSleep() {
  std::vector<ConnectionPtr> broken;
  for (const auto& [key, connection] : connections_) {
    if (connection->broken()) broken.push_back(connection);
    if (connection->wants_to_write() == connection->watched_for_writing) continue;
    connection->watched_for_writing = connection->wants_to_write();
    loop_.Change(connection->watch, connection->watched_for_writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }
  for (const ConnectionPtr& connection : broken) Drop(connection);
  if (shutting_down_) return ContinueShutdown();
  // Without its init the pod is of no use: our end tells crispd, once the containers' exits are told.
  if ((terminated_ || namespaces_.init_ended()) && !AnyAlive()) return loop_.Stop();

  // Nothing runs and nobody is connected: has the pod been removed behind our back? A timer only in this rare state.
  const bool alone = connections_.empty() && !AnyAlive();
  if (!alone) {
    loop_.CancelTimer(std::exchange(orphan_timer_, 0));
  } else if (orphan_timer_ == 0) {
    orphan_timer_ = loop_.After(kOrphanCheckTime, [this] {
      orphan_timer_ = 0;
      // One that was never set up nobody knows of: whoever asked for it has ended, or has asked for another.
      if (Reachable() && namespaces_.set_up()) return;
      LogInfo("the pod's directory is gone, or the shim was never used, ending");
      loop_.Stop();
    });
  }
}

}  // namespace crisp::shim
