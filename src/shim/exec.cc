#include "shim/exec.h"

#include <signal.h>

#include "base/log.h"
#include "base/strings.h"
#include "shimapi/socket.h"

namespace crisp::shim {

namespace {
constexpr std::chrono::milliseconds kRoundTime{5};
constexpr int kKillRoundsMax = 400;   // 2 s: what is still there then hangs in the kernel
constexpr int kRemoveRoundsMax = 6;   // each twice as long as the one before: 0.3 s
}  // namespace

Exec::Exec(Surroundings& around, shimapi::StartExec request, std::function<void(Exec&)> on_over)
    : around_(around), request_(std::move(request)), on_over_(std::move(on_over)), cgroup_(request_.cgroup_dirs) {}

Exec::~Exec() { around_.loop.CancelTimer(timer_); }

Result<std::unique_ptr<ProcessStart>> Exec::StartProcess(sys::BorrowedFd container,
                                                         const std::vector<sys::UniqueFd>& fds) {
  auto done = [this](Result<NewProcess> process) { OnStarted(std::move(process)); };
  if (request_.native) {
    native::LaunchOptions options;
    options.in = fds[0].get();
    options.out = fds[1].get();
    options.err = fds[2].get();
    auto launcher = std::make_unique<NativeStart>(around_);
    TRY(launcher->Start(fds[3], container, options, done));
    return launcher;
  }
  std::map<int, sys::BorrowedFd> inherited;
  for (int i = 0; i < 3; ++i) inherited.emplace(i, fds[static_cast<size_t>(i)].borrow());
  auto runtime = std::make_unique<RuntimeRun>(around_, request_.pid_file, done);
  TRY(runtime->Start(request_.argv, inherited));
  return runtime;
}

Result<> Exec::Start(Asker asker, sys::BorrowedFd container, std::vector<sys::UniqueFd> fds) {
  if (fds.size() != (request_.native ? 4 : 3)) return Error(Code::kInvalidArgument, "exec without stdio");
  TRY(cgroup_.Make());
  Result<std::unique_ptr<ProcessStart>> started = StartProcess(container, fds);
  if (!started) {
    cgroup_.Remove();
    return std::move(started).error();
  }
  start_ = *std::move(started);
  starter_ = std::move(asker);
  return {};
}

bool Exec::IsStartOf(const Connection* connection, uint32_t seq) const {
  return start_ && starter_.seq == seq && starter_.connection.lock().get() == connection;
}

void Exec::OnStarted(Result<NewProcess> process) {
  // Until the end: while it is there, what nobody knows is not reaped.
  std::unique_ptr<ProcessStart> start = std::move(start_);
  Result<sys::UniqueFd> pidfd = process ? sys::PidfdOpen(process->pid) : Result<sys::UniqueFd>(std::move(process).error());
  Result<> handed = pidfd && process->terminal.ok() ? HandOver(process->terminal) : Result<>();
  if (pidfd && !handed) {
    (void)sys::PidfdSignal(*pidfd, SIGKILL).has_value();  // and reaped as an orphan
    pidfd = std::move(handed).error();
  }
  if (!pidfd) {
    start->Kill();
    starter_.Fail(pidfd.error(), {}, true);
    Kill(std::nullopt);  // whatever a half-done start left inside
    return;
  }
  pid_ = process->pid;
  pidfd_ = *std::move(pidfd);
  around_.children.Add(pid_, [this](sys::ExitStatus exit) { OnExit(exit); });
  shimapi::Started started;
  started.pid = pid_;
  starter_.Answer(started);
  if (killing_) KillRound();
}

// To crispd's socket, as an OCI runtime sends it.
Result<> Exec::HandOver(sys::BorrowedFd terminal) const {
  if (request_.console_socket.empty() || request_.console_socket.find('/') != std::string::npos) {
    return Error(Code::kInvalidArgument, "a terminal needs the name of a console socket");
  }
  std::string path = StrCat(around_.run_dir, "/tmp/", request_.console_socket);
  sys::UniqueFd socket = TRY(shimapi::Connect(path, shimapi::SocketType::kStream));
  return shimapi::SendMessage(socket, "terminal", {terminal});
}

void Exec::OnExit(sys::ExitStatus status) {
  pidfd_.Reset();
  shimapi::ExecExited exited;
  exited.exec = request_.exec;
  exited.code = status.code;
  exited.signal = status.signal;
  Asker{starter_.connection, 0}.Answer(exited);
  rounds_ = 0;
  MaybeOver();
}

void Exec::Kill(std::optional<Asker> killer) {
  if (killer) killers_.push_back(std::move(*killer));
  if (!killing_) rounds_ = 0;
  killing_ = true;
  if (start_) start_->Kill();
  KillRound();
}

void Exec::KillRound() {
  around_.loop.CancelTimer(std::exchange(timer_, 0));
  // Without a cgroup its descendants by parent are all that can be found.
  if (pidfd_.ok()) KillTree(pid_);
  cgroup_.Kill();
  MaybeOver();
}

void Exec::AnswerKillers() {
  for (const Asker& killer : std::exchange(killers_, {})) killer.Answer(shimapi::Ok());
}

// Over when the process has been reaped and, if the exec was killed, nothing is left in its cgroup. An exec that ended by
// itself may leave processes behind on purpose (`sh -c "daemon &"`): they stay, and so does their cgroup. A few rounds are
// needed all the same: crun's worker, and a process that has just been reaped, are in the cgroup a moment longer.
void Exec::MaybeOver() {
  if (over_) return;
  const bool process_gone = !start_ && !pidfd_.ok();
  const bool gave_up = rounds_ >= (killing_ ? kKillRoundsMax : kRemoveRoundsMax);
  if (process_gone && (cgroup_.Remove() || gave_up)) {
    if (killing_ && gave_up) LogWarning("processes of an exec survive SIGKILL, leaving them", {{"container", request_.container}});
    over_ = true;
    AnswerKillers();
    on_over_(*this);
    return;
  }
  if (!process_gone && (!killing_ || gave_up)) {  // OnExit comes
    AnswerKillers();
    return;
  }
  ++rounds_;
  around_.loop.CancelTimer(timer_);
  timer_ = around_.loop.After(killing_ ? kRoundTime : kRoundTime * (1 << rounds_), [this] {
    timer_ = 0;
    if (killing_) {
      KillRound();
    } else {
      MaybeOver();
    }
  });
}

}  // namespace crisp::shim
