#include "shim/exec.h"

#include <signal.h>

#include "base/log.h"
#include "base/strings.h"

namespace crisp::shim {

namespace {
constexpr std::chrono::milliseconds kRoundTime{5};
constexpr int kKillRoundsMax = 400;    // 2 s: what is still there then hangs in the kernel
constexpr int kRemoveRoundsMax = 10;
}  // namespace

Exec::Exec(Surroundings& around, shimapi::StartExec request, std::function<void(Exec&)> on_over)
    : around_(around), request_(std::move(request)), on_over_(std::move(on_over)), cgroup_(request_.cgroup_dirs) {}

Exec::~Exec() { around_.loop.CancelTimer(timer_); }

Result<> Exec::Start(Asker asker, std::vector<sys::UniqueFd> fds) {
  if (request_.argv.empty() || fds.size() != 3) return Error(Code::kInvalidArgument, "exec without command line or stdio");
  TRY(cgroup_.Make());
  sys::Command command;
  command.program = request_.argv.front();
  command.args.assign(request_.argv.begin() + 1, request_.argv.end());
  command.working_dir = "/";
  for (int i = 0; i < 3; ++i) command.fds.emplace(i, fds[static_cast<size_t>(i)].borrow());
  Result<sys::Process> spawned = sys::Spawn(command);
  if (!spawned) {
    cgroup_.Remove();
    return std::move(spawned).error();
  }
  runtime_ = *std::move(spawned);
  starter_ = std::move(asker);
  around_.children.AddRuntime(runtime_->pid(), [this](sys::ExitStatus status) { OnRuntimeExit(status); });
  return {};
}

bool Exec::IsStartOf(const Connection* connection, uint32_t seq) const {
  return runtime_ && starter_.seq == seq && starter_.connection.lock().get() == connection;
}

void Exec::OnRuntimeExit(sys::ExitStatus status) {
  runtime_.reset();
  auto take_over = [&]() -> Result<pid_t> {
    if (status.signal != 0) return Error(Code::kUnknown, StrCat("the runtime was killed by signal ", status.signal));
    if (status.code != 0) return Error(Code::kUnknown, StrCat("the runtime exited with code ", status.code));
    pid_t pid = TRY(TakePidFile(around_, request_.pid_file));
    pidfd_ = TRY(sys::PidfdOpen(pid));
    around_.children.Add(pid, [this](sys::ExitStatus exit) { OnExit(exit); });
    return pid;
  };
  Result<pid_t> pid = take_over();
  if (!pid) {
    starter_.Fail(pid.error(), {}, true);
    Kill(std::nullopt);  // whatever a half-done runtime left inside
    return;
  }
  shimapi::Started started;
  started.pid = *pid;
  starter_.Answer(started);
  if (killing_) KillRound();
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
  if (runtime_) (void)runtime_->Signal(SIGKILL).has_value();
  KillRound();
}

void Exec::KillRound() {
  around_.loop.CancelTimer(std::exchange(timer_, 0));
  if (pidfd_.ok()) (void)sys::PidfdSignal(pidfd_, SIGKILL).has_value();
  cgroup_.Kill();
  MaybeOver();
}

void Exec::AnswerKillers() {
  for (const Asker& killer : std::exchange(killers_, {})) killer.Answer(shimapi::Ok());
}

// Over when the process has been reaped and, if the exec was killed, nothing is left in its cgroup. An exec that ended by
// itself may leave processes behind on purpose (`sh -c "daemon &"`): they stay, and so does their cgroup until the
// container is deleted.
void Exec::MaybeOver() {
  if (over_) return;
  const bool process_gone = !runtime_ && !pidfd_.ok();
  const bool gave_up = rounds_ >= (killing_ ? kKillRoundsMax : kRemoveRoundsMax);
  if (process_gone && (cgroup_.Remove() || (!killing_ && !cgroup_.Empty()) || gave_up)) {
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
  timer_ = around_.loop.After(kRoundTime, [this] {
    timer_ = 0;
    if (killing_) {
      KillRound();
    } else {
      MaybeOver();
    }
  });
}

}  // namespace crisp::shim
