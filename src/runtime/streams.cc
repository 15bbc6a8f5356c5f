// Stream sessions: execs with streams, and attached clients.
#include "runtime/streams.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "base/strings.h"
#include "runtime/runtime_impl.h"
#include "shimapi/socket.h"

namespace crisp::runtime {

namespace {

using std::chrono::milliseconds;
constexpr milliseconds kStartTime{60'000};
constexpr milliseconds kCallTime{10'000};
constexpr milliseconds kKillTime{3000};
// What an attached client has not read yet and the container need not wait for. The kernel's default limit for one
// pipe; pages count when they are used only.
constexpr int kAttachPipeBytes = 1 << 20;

Result<> SetNonBlocking(sys::BorrowedFd fd) {
  int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) return Errno(errno, "set O_NONBLOCK");
  return {};
}

// The pipes of one session: our ends, and those that go to the process or to the shim (not ok() where not wanted).
struct Pipes {
  StreamFds ours;
  sys::UniqueFd in, out, err;

  static Result<Pipes> Make(const StreamWants& wants) {
    Pipes pipes;
    if (wants.in) {
      sys::Pipe pipe = TRY(sys::MakePipe());
      pipes.ours.in = std::move(pipe.write);
      pipes.in = std::move(pipe.read);
      TRY(SetNonBlocking(pipes.ours.in));
    }
    for (auto [wanted, our, their] :
         {std::tuple(wants.out, &pipes.ours.out, &pipes.out), std::tuple(wants.err, &pipes.ours.err, &pipes.err)}) {
      if (!wanted) continue;
      sys::Pipe pipe = TRY(sys::MakePipe());
      *our = std::move(pipe.read);
      *their = std::move(pipe.write);
      TRY(SetNonBlocking(*our));
    }
    return pipes;
  }
};

class Session : public StreamSession {
 public:
  Session(LinkRef link, uint64_t number, std::shared_ptr<EndNotice> notice, StreamFds fds)
      : link_(std::move(link)), number_(number), notice_(std::move(notice)), fds_(std::move(fds)) {}

  StreamFds TakeFds() override { return std::move(fds_); }
  void OnExit(std::function<void(Result<int>)> callback) override { notice_->OnTold(std::move(callback)); }

 protected:
  // Nobody hears of the end from now on. False: it has ended already.
  bool Leave() {
    notice_->Drop();
    link_->ForgetSession(number_);
    return !notice_->told();
  }

  const LinkRef link_;
  const uint64_t number_;
  const std::shared_ptr<EndNotice> notice_;
  StreamFds fds_;
};

class ExecSession final : public Session {
 public:
  ExecSession(LinkRef link, uint64_t number, std::shared_ptr<EndNotice> notice, StreamFds fds, sys::UniqueFd terminal)
      : Session(std::move(link), number, std::move(notice), std::move(fds)), terminal_(std::move(terminal)) {}
  ~ExecSession() override {
    if (!Leave()) return;
    shimapi::KillExec kill;
    kill.exec = number_;
    link_->Post(kill);
  }

  Result<> Resize(uint16_t width, uint16_t height) override {
    if (!terminal_.ok()) return Error(Code::kFailedPrecondition, "the exec has no terminal");
    winsize size{};
    size.ws_col = width;
    size.ws_row = height;
    if (ioctl(terminal_.get(), TIOCSWINSZ, &size) != 0) return Errno(errno, "resize the terminal");
    return {};
  }

 private:
  const sys::UniqueFd terminal_;
};

class AttachSession final : public Session {
 public:
  AttachSession(LinkRef link, uint64_t number, std::shared_ptr<EndNotice> notice, StreamFds fds,
                const ContainerId& container, bool terminal)
      : Session(std::move(link), number, std::move(notice), std::move(fds)),
        container_(container),
        terminal_(terminal) {}
  ~AttachSession() override {
    if (!Leave()) return;
    shimapi::Detach detach;
    detach.attach = number_;
    link_->Post(detach);
  }

  Result<> Resize(uint16_t width, uint16_t height) override {
    if (!terminal_) return Error(Code::kFailedPrecondition, "the container has no terminal");
    shimapi::ResizeTerminal resize;
    resize.container = container_.str();
    resize.width = width;
    resize.height = height;
    link_->Post(resize);
    return {};
  }

 private:
  const ContainerId container_;
  const bool terminal_;
};

// Where the runtime sends the master of a new terminal to: a socket in the shim's tmp/, listening while this lives.
class Console {
 public:
  static Result<Console> Listen(const ShimLink& link, const std::string& name) {
    Console console;
    console.path_ = StrCat(link.run_dir(), "/tmp/", name);
    console.socket_ = TRY(shimapi::Listen(console.path_, shimapi::SocketType::kStream));
    return console;
  }
  Console(Console&& other) noexcept : path_(std::exchange(other.path_, {})), socket_(std::move(other.socket_)) {}
  ~Console() {
    if (!path_.empty()) unlink(path_.c_str());
  }

  // The runtime has connected, sent and ended: everything is there already.
  Result<sys::UniqueFd> Take() {
    sys::UniqueFd connection(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection.ok()) return Errno(errno, "accept the runtime's terminal");
    char name[4096];
    shimapi::Received received = TRY(shimapi::ReceiveMessage(connection, name, sizeof name));
    int number = 0;
    if (received.fds.size() != 1 || ioctl(received.fds[0].get(), TIOCGPTN, &number) != 0) {
      return Error(Code::kInternal, "the runtime sent no terminal");
    }
    TRY(SetNonBlocking(received.fds[0]));
    return std::move(received.fds[0]);
  }

 private:
  Console() = default;
  std::string path_;
  sys::UniqueFd socket_;
};

}  // namespace

Result<std::unique_ptr<StreamSession>> StartExecSession(const Ctx& ctx, LinkRef link, const ContainerId& container,
                                                        const ExecPlan& plan, const StreamWants& wants,
                                                        shimapi::ErrorReply* failure) {
  const bool terminal = !plan.console_socket.empty();
  std::optional<Console> console;
  if (terminal) console.emplace(TRY(Console::Listen(*link, plan.console_socket)));
  Pipes pipes = TRY(Pipes::Make(terminal ? StreamWants() : wants));
  sys::UniqueFd null = TRY(sys::Open("/dev/null", O_RDWR));
  std::vector<sys::BorrowedFd> fds;
  for (const sys::UniqueFd* fd : {&pipes.in, &pipes.out, &pipes.err}) fds.push_back(fd->ok() ? *fd : null);

  auto notice = std::make_shared<EndNotice>();
  const uint64_t number = TRY(link->NewSession(notice));
  Result<shimapi::Started> started = link->Start(ctx, plan.Request(number, container), kStartTime, plan.Fds(fds), failure, "");
  if (!started) {
    // Also after a time-out: the shim answers once nothing of the exec is left.
    shimapi::KillExec kill;
    kill.exec = number;
    (void)link->Call<shimapi::Ok>(ctx.Detached(kKillTime), kill, kKillTime).has_value();
    link->ForgetSession(number);
    return std::move(started).error();
  }
  sys::UniqueFd master;
  auto take_terminal = [&]() -> Result<> {
    master = TRY(console->Take());
    pipes.ours.out = TRY(sys::Dup(master));
    if (wants.in) pipes.ours.in = TRY(sys::Dup(master));
    return {};
  };
  Result<> taken = terminal ? take_terminal() : Result<>();
  // Its destructor ends what a failure leaves.
  auto session = std::make_unique<ExecSession>(link, number, notice, std::move(pipes.ours), std::move(master));
  if (!taken) return std::move(taken).error();
  return session;
}

Result<std::unique_ptr<StreamSession>> StartAttachSession(const Ctx& ctx, LinkRef link, const ContainerId& container,
                                                          const StreamWants& wants) {
  Pipes pipes = TRY(Pipes::Make(wants));
  for (const sys::UniqueFd* fd : {&pipes.out, &pipes.err}) {
    if (fd->ok()) fcntl(fd->get(), F_SETPIPE_SZ, kAttachPipeBytes);  // refused: it stays as it is
  }
  auto notice = std::make_shared<EndNotice>();
  const uint64_t number = TRY(link->NewSession(notice));
  shimapi::Attach request;
  request.attach = number;
  request.container = container.str();
  request.in = wants.in;
  request.out = wants.out;
  request.err = wants.err;
  std::vector<sys::BorrowedFd> fds;
  for (const sys::UniqueFd* fd : {&pipes.in, &pipes.out, &pipes.err}) {
    if (fd->ok()) fds.push_back(*fd);
  }
  Result<shimapi::Attached> attached = link->Call<shimapi::Attached>(ctx, request, kCallTime, fds);
  if (!attached) {
    // After a time-out it may be attached nevertheless.
    shimapi::Detach detach;
    detach.attach = number;
    if (attached.error().code() == Code::kDeadlineExceeded || attached.error().code() == Code::kCancelled)
      link->Post(detach);
    link->ForgetSession(number);
    return std::move(attached).error();
  }
  if (!attached->in) pipes.ours.in.Reset();
  if (!attached->out) pipes.ours.out.Reset();
  if (!attached->err) pipes.ours.err.Reset();
  return std::make_unique<AttachSession>(link, number, notice, std::move(pipes.ours), container, attached->terminal);
}

}  // namespace crisp::runtime
