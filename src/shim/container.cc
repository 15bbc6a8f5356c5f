#include "shim/container.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace crisp::shim {

namespace {

// How long the report of an exit waits for the rest of the output. A container with a PID namespace of its own has none
// by then: the kernel ends everything inside before its init can be waited for. Only in a PID namespace that is shared
// can a process survive and hold the pipe; what it writes later still goes to the log.
constexpr std::chrono::milliseconds kDrainTime{100};
constexpr size_t kOutputTailBytes = 4096;

}  // namespace

Container::Container(Surroundings& around, shimapi::StartContainer request, Callbacks callbacks)
    : around_(around),
      request_(std::move(request)),
      callbacks_(std::move(callbacks)),
      out_(codec::LogStream::kStdout, around.loop, log_),
      err_(codec::LogStream::kStderr, around.loop, log_),
      oom_(around.loop) {
  state_.id = request_.id;
  for (codec::LogStream stream : {codec::LogStream::kStdout, codec::LogStream::kStderr}) {
    PumpOf(stream).CopyTo([this, stream](std::string_view bytes) {
      for (Attachment* client : clients_) client->Write(stream, bytes);
    });
  }
}

Container::~Container() {
  around_.loop.CancelTimer(drain_timer_);
  out_.Drain();
  err_.Drain();
  EndClients();
}

void Container::TakeOurs(Stdio& stdio) {
  out_pipe_ = std::move(stdio.out_read);
  err_pipe_ = std::move(stdio.err_read);
  stdin_ = std::move(stdio.in_write);
}

Result<std::unique_ptr<ProcessStart>> Container::StartProcess(const std::vector<sys::UniqueFd>& fds) {
  Stdio stdio = TRY(MakeStdio(request_.stdin_open && !request_.terminal));
  TakeOurs(stdio);
  auto done = [this](Result<NewProcess> process) { OnStarted(std::move(process)); };
  if (request_.native) {
    if (fds.size() != 1) return Error(Code::kInvalidArgument, "a native start without its launch");
    auto launcher = std::make_unique<NativeStart>(around_);
    native::LaunchOptions options = TRY(NativeOptions(stdio));
    TRY(launcher->Start(fds[0], std::nullopt, options, done));
    return launcher;
  }
  if (request_.terminal) {
    if (request_.console_socket.empty() || request_.console_socket.find('/') != std::string::npos) {
      return Error(Code::kInvalidArgument, "a terminal needs the name of a console socket");
    }
    console_ = TRY(shimapi::Listen(StrCat(around_.run_dir, "/tmp/", request_.console_socket), shimapi::SocketType::kStream));
  }
  std::map<int, sys::BorrowedFd> inherited{{1, stdio.out_write.borrow()}, {2, stdio.err_write.borrow()}};
  if (stdio.in_read.ok()) inherited.emplace(0, stdio.in_read.borrow());
  auto runtime = std::make_unique<RuntimeRun>(around_, request_.pid_file, done);
  TRY(runtime->Start(request_.argv, inherited));
  return runtime;
}

std::unique_ptr<ProcessStart> Container::GoOn(PreparedStart& prepared) {
  std::unique_ptr<NativeStart> start = prepared.TakeProcess();
  if (!start->Go([this](Result<NewProcess> process) { OnStarted(std::move(process)); })) return nullptr;
  Stdio stdio = prepared.TakeStdio();
  TakeOurs(stdio);
  return start;
}

Result<> Container::Start(Asker asker, std::vector<sys::UniqueFd> fds, std::unique_ptr<PreparedStart> prepared) {
  log_ = TRY(LogFile::Open(request_.log_path));
  if (prepared != nullptr) start_ = GoOn(*prepared);
  // One that has ended while it waited may have been killed for its memory.
  if (prepared != nullptr && start_ == nullptr) oom_.PassOver(request_.oom_event_files);
  if (start_ == nullptr) start_ = TRY(StartProcess(fds));
  starter_ = std::move(asker);
  return {};
}

void Container::CancelStart() {
  if (!start_) return;
  cancelled_ = true;
  start_->Kill();
}

bool Container::IsStartOf(const Connection* connection, uint32_t seq) const {
  return start_ && starter_.seq == seq && starter_.connection.lock().get() == connection;
}

void Container::OnStarted(Result<NewProcess> process) {
  // Until the end: while it is there, what nobody knows is not reaped.
  std::unique_ptr<ProcessStart> start = std::move(start_);
  Asker asker = std::move(starter_);
  Result<> taken = process ? TakeOver(*std::move(process)) : Result<>(std::move(process).error());
  if (!request_.console_socket.empty()) unlink(StrCat(around_.run_dir, "/tmp/", request_.console_socket).c_str());
  console_.Reset();
  if (!taken) {
    if (process) start->Kill();  // it runs, and nobody would know of it
    asker.Fail(taken.error(), OutputTail(), true);
    state_.phase = shimapi::ContainerState::kExited;
    out_pipe_.Reset();
    err_pipe_.Reset();
    stdin_.Reset();
    callbacks_.on_start_failed(*this);
    return;
  }
  shimapi::Started started;
  started.pid = state_.pid;
  asker.Answer(started);
  if (!cancelled_) return;
  // It was quicker than our signal.
  if (Result<> killed = Signal(SIGKILL); !killed) {
    LogWarning("container of a cancelled start could not be killed", {{"container", request_.id}, {"error", killed.error()}});
  }
}

// The container runs: its process and its output are ours from now on.
Result<> Container::TakeOver(NewProcess process) {
  pidfd_ = TRY(sys::PidfdOpen(process.pid));
  oom_.Start(request_.oom_event_files);
  if (request_.terminal) {
    if (process.terminal.ok()) {
      TRY(TakeTerminal(std::move(process.terminal)));
    } else {
      TRY(TakeConsole());
    }
    err_pipe_.Reset();
  }
  TRY(out_.Start(std::move(out_pipe_), [this] { OnStreamEnd(); }));
  if (err_pipe_.ok()) TRY(err_.Start(std::move(err_pipe_), [this] { OnStreamEnd(); }));
  state_.pid = process.pid;
  state_.phase = shimapi::ContainerState::kRunning;
  around_.children.Add(process.pid, [this](sys::ExitStatus status) { OnExit(status); });
  return {};
}

// The runtime has connected to our socket, sent the master of the terminal and ended: everything is there already.
Result<> Container::TakeConsole() {
  int accepted = accept4(console_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (accepted < 0) return Errno(errno, "accept the runtime's terminal");
  sys::UniqueFd connection(accepted);
  shimapi::Received received = TRY(shimapi::ReceiveMessage(connection, Scratch(), kScratchBytes));
  if (received.fds.size() != 1) return Error(Code::kInternal, "the runtime sent no terminal");
  return TakeTerminal(std::move(received.fds[0]));
}

Result<> Container::TakeTerminal(sys::UniqueFd master) {
  TRY(SetNonBlocking(master));
  stdin_ = TRY(sys::Dup(master));
  out_pipe_ = std::move(master);
  return {};
}

std::string Container::OutputTail() {
  std::string tail;
  for (sys::UniqueFd* pipe : {&out_pipe_, &err_pipe_}) {
    if (!pipe->ok()) continue;
    char* buffer = Scratch();
    ssize_t n;
    while ((n = read(pipe->get(), buffer, kScratchBytes)) > 0) {
      tail.append(buffer, static_cast<size_t>(n));
      if (tail.size() > kOutputTailBytes) tail.erase(0, tail.size() - kOutputTailBytes);
    }
  }
  return tail;
}

Result<> Container::Signal(int signal) {
  if (!running() || exited_) return {};
  return sys::PidfdSignal(pidfd_, signal);
}

Result<> Container::ReopenLog() {
  Result<> reopened = log_.Reopen();
  if (!alive() && !streams_open()) log_.Close();
  return reopened;
}

shimapi::ContainerState Container::state() const {
  shimapi::ContainerState state = state_;
  state.log_bytes_lost = log_.bytes_lost();
  return state;
}

void Container::OnExit(sys::ExitStatus status) {
  state_.finished_at_unix_nanos = UnixNanosNow();
  state_.code = status.code;
  state_.signal = status.signal;
  state_.oom_killed = oom_.Finish(status.signal == SIGKILL);
  exited_ = true;
  pidfd_.Reset();
  out_.Drain();
  err_.Drain();
  if (!streams_open()) {
    if (alive()) Finish();
    return;
  }
  drain_timer_ = around_.loop.After(kDrainTime, [this] {
    drain_timer_ = 0;
    if (alive()) Finish();
  });
}

void Container::OnStreamEnd() {
  if (!exited_ || streams_open()) return;
  if (alive()) {
    Finish();
  } else {
    log_.Close();
  }
}

void Container::Finish() {
  around_.loop.CancelTimer(std::exchange(drain_timer_, 0));
  state_.phase = shimapi::ContainerState::kExited;
  CloseInput();
  if (!streams_open()) log_.Close();
  // docs/formats/exit-file.md. The file first, then the event: whoever learns of the exit finds the file.
  std::string text = StrCat("crisp-exit 1\ncode ", state_.code, "\nsignal ", state_.signal, "\noom_killed ",
                            state_.oom_killed ? 1 : 0, "\nfinished_at ", state_.finished_at_unix_nanos, "\n");
  Result<> written = sys::WriteFileAtomic(StrCat(around_.run_dir, "/exits/", request_.id), text, 0600, sys::Durability::kNone);
  if (!written) LogError("exit file not written, only the event tells", {{"container", request_.id}, {"error", written.error()}});
  callbacks_.on_exited(*this);
  EndClients();
}

Result<shimapi::Attached> Container::Attach(Attachment& client, const shimapi::Attach& wants,
                                            std::vector<sys::UniqueFd> fds) {
  if (!running() || exited_) return Error(Code::kFailedPrecondition, "the container is not running");
  shimapi::Attached attached;
  attached.terminal = request_.terminal;
  attached.in = wants.in && request_.stdin_open && stdin_.ok() && !input_ended_;
  attached.out = wants.out && out_.open();
  attached.err = wants.err && err_.open();
  size_t next = 0;
  auto take = [&](bool wanted, bool there) {
    sys::UniqueFd fd;
    if (wanted && next < fds.size()) fd = std::move(fds[next++]);
    return there ? std::move(fd) : sys::UniqueFd();
  };
  sys::UniqueFd in = take(wants.in, attached.in), out = take(wants.out, attached.out),
                err = take(wants.err, attached.err);
  if (next != fds.size() || in.ok() != attached.in || out.ok() != attached.out || err.ok() != attached.err) {
    return Error(Code::kInvalidArgument, "attach with other descriptors than it names");
  }
  TRY(client.Start(*this, std::move(in), std::move(out), std::move(err)));
  clients_.push_back(&client);
  return attached;
}

Result<> Container::Resize(uint16_t width, uint16_t height) {
  if (!request_.terminal || !stdin_.ok()) return Error(Code::kFailedPrecondition, "the container has no terminal");
  winsize size{};
  size.ws_col = width;
  size.ws_row = height;
  if (ioctl(stdin_.get(), TIOCSWINSZ, &size) != 0) return Errno(errno, "resize the terminal");
  return {};
}

void Container::EndClients() {
  for (Attachment* client : std::exchange(clients_, {})) client->OnContainerEnd(state_.code, state_.signal);
  // Nobody is waited for any longer: a process that survives in a shared PID namespace may go on writing to the log.
  out_.ReleaseAll();
  err_.ReleaseAll();
}

void Container::TakeInput(std::string_view bytes) {
  if (!stdin_.ok()) return;  // the container has closed it
  input_ = bytes;
  FlushInput();
}

void Container::FlushInput() {
  ssize_t n = write(stdin_.get(), input_.data(), input_.size());
  if (n < 0 && errno != EAGAIN && errno != EINTR) return CloseInput();
  if (n > 0) input_.erase(0, static_cast<size_t>(n));
  if (!input_.empty()) {
    if (input_watch_ != 0) return;
    Result<Loop::Id> watch = around_.loop.Watch(stdin_, EPOLLOUT, [this](uint32_t) { FlushInput(); });
    if (!watch) return CloseInput();
    input_watch_ = *watch;
    return;
  }
  if (input_ended_) return CloseInput();
  input_ = std::string();
  around_.loop.Unwatch(std::exchange(input_watch_, 0));
  for (Attachment* client : clients_) client->ResumeInput();
}

void Container::OnInputEnd() {
  // A terminal's input cannot end without the terminal.
  if (!request_.stdin_once || request_.terminal) return;
  input_ended_ = true;
  if (input_.empty()) CloseInput();
}

void Container::CloseInput() {
  around_.loop.Unwatch(std::exchange(input_watch_, 0));
  input_ = std::string();
  stdin_.Reset();
  for (Attachment* client : clients_) client->ResumeInput();
}

}  // namespace crisp::shim
