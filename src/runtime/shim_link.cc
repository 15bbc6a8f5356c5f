#include "runtime/shim_link.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "base/strings.h"
#include "shimapi/socket.h"

namespace crisp::runtime {

using std::chrono::milliseconds;

namespace {
constexpr milliseconds kCancelTime{3000};
constexpr milliseconds kPostTime{100};

Error Gone() { return Error(Code::kUnavailable, "the pod's shim is gone"); }

void Wake(sys::BorrowedFd eventfd) {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t ignored = write(eventfd.get(), &one, sizeof one);
}

Result<sys::UniqueFd> MakeEvent() {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return Errno(errno, "eventfd");
  return sys::UniqueFd(fd);
}

// The sequence number of an encoded message (docs/formats/shim-protocol.md, header).
void SetSeq(std::string& bytes, uint32_t seq) {
  for (size_t i = 0; i < 4; ++i) bytes[12 + i] = static_cast<char>(seq >> (8 * i) & 0xff);
}
}  // namespace

void EndNotice::Tell(Result<int> end) {
  std::lock_guard lock(lock_);
  if (end_) return;
  end_ = std::move(end);
  if (!callback_) return;
  called_ = true;
  callback_(*end_);
}

void EndNotice::OnTold(std::function<void(Result<int>)> callback) {
  std::lock_guard lock(lock_);
  callback_ = std::move(callback);
  if (!end_ || called_ || !callback_) return;
  called_ = true;
  callback_(*end_);
}

void EndNotice::Drop() {
  std::lock_guard lock(lock_);
  callback_ = nullptr;
}

bool EndNotice::told() const {
  std::lock_guard lock(lock_);
  return end_.has_value();
}

ShimLink::ShimLink(PodId pod, std::string run_dir, sys::UniqueFd socket, pid_t pid, sys::UniqueFd pidfd,
                   ContainerExited on_exited)
    : pod_(std::move(pod)),
      run_dir_(std::move(run_dir)),
      socket_(std::move(socket)),
      pid_(pid),
      pidfd_(std::move(pidfd)),
      on_exited_(std::move(on_exited)) {}

Error ShimLink::ToError(const shimapi::ErrorReply& reply) {
  bool known = reply.code >= 1 && reply.code <= 16;
  return Error(known ? static_cast<Code>(reply.code) : Code::kInternal, reply.message);
}

Result<> ShimLink::Send(const Ctx& ctx, std::string_view bytes, const std::vector<sys::BorrowedFd>& fds) {
  // Datagrams are sent whole, so several threads may send at once.
  while (true) {
    Result<> sent = shimapi::SendMessage(socket_, bytes, fds);
    if (sent || sent.error().code() != Code::kUnavailable) {
      if (!sent && sent.error().code() == Code::kAborted) return Gone();
      return sent;
    }
    // A shim that does not read: wait for room, but no longer than we may.
    TRY(ctx.Check(), "the pod's shim does not read");
    pollfd writable{socket_.get(), POLLOUT, 0};
    poll(&writable, 1, std::min(ctx.PollTimeoutMs(), 100));
  }
}

Result<> ShimLink::Await(const Ctx& ctx, Pending& pending) {
  std::unique_lock lock(lock_);
  auto ready = [&] { return pending.done || closed_; };
  if (!ready()) answered_.wait_until(lock, ctx.stop(), ctx.deadline(), ready);
  if (pending.done) return {};
  if (closed_) return Gone();
  TRY(ctx.Check(), "wait for the pod's shim");
  return Error(Code::kCancelled, "wait for the pod's shim");
}

Result<std::string> ShimLink::Exchange(const Ctx& ctx, std::string bytes, const std::vector<sys::BorrowedFd>& fds,
                                       const Mode& mode) {
  auto pending = std::make_shared<Pending>();
  pending->container = mode.container;
  uint32_t seq;
  {
    std::lock_guard lock(lock_);
    if (closed_) return Gone();
    seq = NextSeq();
    pending_.emplace(seq, pending);
  }
  SetSeq(bytes, seq);
  Result<> done = Send(ctx, bytes, fds);
  if (done) done = Await(ctx, *pending);
  if (!done && done.error().code() != Code::kUnavailable && mode.cancel) {
    Ctx short_while = ctx.Detached(kCancelTime);
    shimapi::Cancel cancel;
    cancel.seq = seq;
    if (Call<shimapi::Ok>(short_while, cancel, kCancelTime)) (void)Await(short_while, *pending).has_value();
  }
  std::lock_guard lock(lock_);
  pending_.erase(seq);
  if (!done) return std::move(done).error();
  return std::move(pending->bytes);
}

uint32_t ShimLink::NextSeq() {
  while (++last_seq_ == 0 || pending_.contains(last_seq_)) {  // 0 marks events
  }
  return last_seq_;
}

void ShimLink::PostBytes(std::string bytes, const std::vector<sys::BorrowedFd>& fds) {
  {
    std::lock_guard lock(lock_);
    if (closed_) return;
    SetSeq(bytes, NextSeq());
  }
  if (Result<> sent = Send(Ctx().WithTimeout(kPostTime), bytes, fds);
      !sent && sent.error().code() != Code::kUnavailable) {
    LogWarning("shim was not told", {{"pod", pod_.str()}, {"error", sent.error()}});
  }
}

Result<std::pair<uint64_t, std::shared_ptr<ExecWait>>> ShimLink::NewExec() {
  auto wait = std::make_shared<ExecWait>();
  wait->event = TRY(MakeEvent());
  std::lock_guard lock(lock_);
  if (closed_) return Gone();
  execs_.emplace(++last_exec_, wait);
  return std::make_pair(last_exec_, wait);
}

Result<> ShimLink::StartExec(const Ctx& ctx, const shimapi::StartExec& request,
                             const std::vector<sys::BorrowedFd>& fds) {
  std::string bytes = TRY(shimapi::Encode(0, request));
  {
    std::lock_guard lock(lock_);
    if (closed_) return Gone();
    const uint32_t seq = NextSeq();
    auto pending = std::make_shared<Pending>();
    pending->exec = request.exec;
    pending_.emplace(seq, std::move(pending));
    SetSeq(bytes, seq);
  }
  return Send(ctx, bytes, fds);
}

void ShimLink::ForgetExec(uint64_t exec) {
  std::lock_guard lock(lock_);
  execs_.erase(exec);
  std::erase_if(pending_, [&](const auto& entry) { return entry.second->exec == exec; });
}

void ShimLink::OnExecAnswer(uint64_t exec, shimapi::Type type, std::string_view bytes) {
  auto found = execs_.find(exec);
  if (found == execs_.end()) return;
  std::lock_guard wait_lock(found->second->lock);
  if (type != shimapi::Type::kError) {
    found->second->started = true;
    return;
  }
  Result<shimapi::ErrorReply> failure = shimapi::Decode<shimapi::ErrorReply>(bytes);
  if (!failure) {
    failure = shimapi::ErrorReply{};
    failure->message = "the pod's shim says that the exec did not start, and not why";
  }
  found->second->failure = *std::move(failure);
  found->second->over = true;
  Wake(found->second->event);
}

Result<uint64_t> ShimLink::NewSession(std::shared_ptr<EndNotice> notice) {
  std::lock_guard lock(lock_);
  if (closed_) return Gone();
  sessions_.emplace(++last_exec_, std::move(notice));
  return last_exec_;
}

void ShimLink::ForgetSession(uint64_t number) {
  std::lock_guard lock(lock_);
  sessions_.erase(number);
}

void ShimLink::TellSession(uint64_t number, Result<int> end) {
  std::shared_ptr<EndNotice> notice;
  {
    std::lock_guard lock(lock_);
    auto found = sessions_.find(number);
    if (found == sessions_.end()) return;
    notice = found->second;
  }
  notice->Tell(std::move(end));
}

pid_t ShimLink::ContainerPid(const std::string& id) const {
  std::lock_guard lock(lock_);
  auto found = pids_.find(id);
  return found == pids_.end() ? 0 : found->second;
}

std::vector<pid_t> ShimLink::ContainerPids() const {
  std::lock_guard lock(lock_);
  std::vector<pid_t> pids;
  for (const auto& [id, pid] : pids_) pids.push_back(pid);
  return pids;
}

void ShimLink::SetStopping() {
  std::lock_guard lock(lock_);
  stopping_ = true;
}

bool ShimLink::stopping() const {
  std::lock_guard lock(lock_);
  return stopping_;
}

bool ShimLink::closed() const {
  std::lock_guard lock(lock_);
  return closed_;
}

void ShimLink::Close() {
  std::map<uint64_t, std::shared_ptr<EndNotice>> sessions;
  {
    std::lock_guard lock(lock_);
    closed_ = true;
    answered_.notify_all();
    for (const auto& [id, wait] : execs_) {
      std::lock_guard wait_lock(wait->lock);
      if (!wait->over) wait->lost = true;
      wait->over = true;
      Wake(wait->event);
    }
    sessions.swap(sessions_);
  }
  for (const auto& [number, notice] : sessions) notice->Tell(Gone());  // without our lock: it calls out
}

void ShimLink::Reap() const {
  siginfo_t info{};
  waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
}

ShimLink::ReadResult ShimLink::ReadOne(char* buffer, size_t size) {
  Result<shimapi::Received> received = shimapi::ReceiveMessage(socket_, buffer, size);
  if (!received) {
    LogWarning("shim sends nonsense, dropping the connection", {{"pod", pod_.str()}, {"error", received.error()}});
    return ReadResult::kClosed;
  }
  if (received->nothing) return ReadResult::kEmpty;
  if (received->closed) return ReadResult::kClosed;
  Result<shimapi::Header> header = shimapi::DecodeHeader(received->bytes);
  if (!header) {
    LogWarning("shim sends nonsense, dropping the connection", {{"pod", pod_.str()}, {"error", header.error()}});
    return ReadResult::kClosed;
  }
  if (header->seq == 0) {
    OnEvent(header->type, received->bytes);
    return ReadResult::kMore;
  }
  OnAnswer(*header, received->bytes);
  return ReadResult::kMore;
}

void ShimLink::OnAnswer(const shimapi::Header& header, std::string_view bytes) {
  std::unique_lock lock(lock_);
  auto found = pending_.find(header.seq);
  if (found == pending_.end()) return;  // nobody waits for it any more
  Pending& pending = *found->second;
  if (pending.exec != 0) return OnExecAnswer(pending.exec, header.type, bytes);
  // Here and not by the waiting thread: a short container's end may be the very next message.
  if (header.type == shimapi::Type::kStarted && !pending.container.empty()) {
    if (auto started = shimapi::Decode<shimapi::Started>(bytes)) pids_[pending.container] = started->pid;
  } else if (header.type == shimapi::Type::kHelloReply) {
    if (auto reply = shimapi::Decode<shimapi::HelloReply>(bytes)) {
      for (const shimapi::ContainerState& state : reply->containers) {
        if (state.phase == shimapi::ContainerState::kRunning) pids_[state.id] = state.pid;
      }
    }
  }
  pending.bytes = bytes;
  pending.done = true;
  lock.unlock();
  answered_.notify_all();
}

void ShimLink::OnEvent(shimapi::Type type, std::string_view bytes) {
  if (type == shimapi::Type::kContainerExited) {
    Result<shimapi::ContainerExited> event = shimapi::Decode<shimapi::ContainerExited>(bytes);
    if (!event) return;
    {
      std::lock_guard lock(lock_);
      pids_.erase(event->state.id);
    }
    on_exited_(pod_, event->state);
  } else if (type == shimapi::Type::kExecExited) {
    Result<shimapi::ExecExited> event = shimapi::Decode<shimapi::ExecExited>(bytes);
    if (!event) return;
    TellSession(event->exec, event->code);
    std::lock_guard lock(lock_);
    auto found = execs_.find(event->exec);
    if (found == execs_.end()) return;
    std::lock_guard wait_lock(found->second->lock);
    found->second->exit = *event;
    found->second->over = true;
    Wake(found->second->event);
  } else if (type == shimapi::Type::kAttachEnded) {
    Result<shimapi::AttachEnded> event = shimapi::Decode<shimapi::AttachEnded>(bytes);
    if (!event) return;
    if (event->reason == shimapi::AttachEnded::kContainerEnded) {
      TellSession(event->attach, event->code);
    } else {
      TellSession(event->attach,
                  Error(Code::kResourceExhausted, "the attached client did not read the container's output"));
    }
  }
}

// epoll data: the link's id, doubled; odd for its process. 0 is the wake-up.
Result<std::unique_ptr<ShimHub>> ShimHub::Make(Callback on_gone, Callback on_closed) {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) return Errno(errno, "epoll_create");
  sys::UniqueFd epoll(fd);
  sys::UniqueFd wake = TRY(MakeEvent());
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) return Errno(errno, "epoll_ctl");
  std::unique_ptr<ShimHub> hub(new ShimHub(std::move(epoll), std::move(wake), std::move(on_gone), std::move(on_closed)));
  hub->thread_ = std::thread([raw = hub.get()] { raw->Loop(); });
  return hub;
}

ShimHub::~ShimHub() {
  {
    std::lock_guard lock(lock_);
    ending_ = true;
  }
  Wake(wake_);
  thread_.join();
}

Result<> ShimHub::Add(std::shared_ptr<ShimLink> link) {
  std::lock_guard lock(lock_);
  uint64_t id = ++last_id_;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = id * 2;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link->socket().get(), &event) != 0) return Errno(errno, "watch the shim's socket");
  event.data.u64 = id * 2 + 1;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, link->pidfd().get(), &event) != 0) {
    Error error = Errno(errno, "watch the shim's process");
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->socket().get(), nullptr);
    return error;
  }
  watched_.emplace(id, Watched{std::move(link)});
  return {};
}

void ShimHub::Remove(const ShimLink& link) {
  std::lock_guard lock(lock_);
  for (auto it = watched_.begin(); it != watched_.end(); ++it) {
    if (it->second.link.get() != &link) continue;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link.socket().get(), nullptr);
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link.pidfd().get(), nullptr);
    watched_.erase(it);
    return;
  }
}

void ShimHub::Loop() {
  while (true) {
    epoll_event events[32];
    int n = epoll_wait(epoll_.get(), events, 32, -1);
    // Sockets first: what a shim said before it ended is heard before its end.
    for (int pass = 0; pass < 2; ++pass) {
      for (int i = 0; i < n; ++i) {
        uint64_t data = events[i].data.u64;
        if (data == 0) {
          std::lock_guard lock(lock_);
          if (ending_) return;
        } else if (data % 2 == 0 && pass == 0) {
          OnSocket(data / 2);
        } else if (data % 2 == 1 && pass == 1) {
          OnProcessEnd(data / 2);
        }
      }
    }
  }
}

void ShimHub::OnSocket(uint64_t id) {
  std::shared_ptr<ShimLink> link;
  {
    std::lock_guard lock(lock_);
    auto found = watched_.find(id);
    if (found == watched_.end()) return;
    link = found->second.link;
  }
  static thread_local std::string buffer(shimapi::kMessageBytesMax, '\0');
  ShimLink::ReadResult result;
  do {
    result = link->ReadOne(buffer.data(), buffer.size());
  } while (result == ShimLink::ReadResult::kMore);
  if (result != ShimLink::ReadResult::kClosed) return;
  const bool first = !link->closed();
  link->Close();
  {
    std::lock_guard lock(lock_);
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->socket().get(), nullptr);
  }
  if (first) on_closed_(link);
}

void ShimHub::OnProcessEnd(uint64_t id) {
  OnSocket(id);
  std::shared_ptr<ShimLink> link;
  {
    std::lock_guard lock(lock_);
    auto found = watched_.find(id);
    if (found == watched_.end()) return;
    link = std::move(found->second.link);
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->socket().get(), nullptr);
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link->pidfd().get(), nullptr);
    watched_.erase(found);
  }
  link->Reap();
  link->Close();
  on_gone_(link);
}

}  // namespace crisp::runtime
