#include "shim/exec.h"

#include <signal.h>

#include "base/log.h"
#include "base/strings.h"

namespace crisp::shim {

namespace {
constexpr std::chrono::milliseconds kRoundTime{5};
constexpr int kKillRoundsMax = 400;   // 2 s: what is still there then hangs in the kernel
constexpr int kRemoveRoundsMax = 6;   // each twice as long as the one before: 0.3 s
}  // namespace

Exec::Exec(Surroundings& around, shimapi::StartExec request, std::function<void(Exec&)> on_over)
    : around_(around), request_(std::move(request)), on_over_(std::move(on_over)), cgroup_(request_.cgroup_dirs) {}

Exec::~Exec() { around_.loop.CancelTimer(timer_); }

Result<> Exec::Start(Asker asker, std::vector<sys::UniqueFd> fds) {
  if (fds.size() != 3) return Error(Code::kInvalidArgument, "exec without stdio");
  TRY(cgroup_.Make());
  std::map<int, sys::BorrowedFd> child_fds;
  for (int i = 0; i < 3; ++i) child_fds.emplace(i, fds[static_cast<size_t>(i)].borrow());
  auto runtime = std::make_unique<RuntimeRun>(around_, request_.pid_file,
                                              [this](Result<pid_t> pid) { OnRuntimeDone(std::move(pid)); });
  if (Result<> started = runtime->Start(request_.argv, child_fds); !started) {
    cgroup_.Remove();
    return started;
  }
  runtime_ = std::move(runtime);
  starter_ = std::move(asker);
  return {};
}

bool Exec::IsStartOf(const Connection* connection, uint32_t seq) const {
  return runtime_ && starter_.seq == seq && starter_.connection.lock().get() == connection;
}

void Exec::OnRuntimeDone(Result<pid_t> pid) {
  runtime_.reset();
  Result<sys::UniqueFd> pidfd = pid ? sys::PidfdOpen(*pid) : Result<sys::UniqueFd>(std::move(pid).error());
  if (!pidfd) {
    starter_.Fail(pidfd.error(), {}, true);
    Kill(std::nullopt);  // whatever a half-done runtime left inside
    return;
  }
  pid_ = *pid;
  pidfd_ = *std::move(pidfd);
  around_.children.Add(pid_, [this](sys::ExitStatus exit) { OnExit(exit); });
  shimapi::Started started;
  started.pid = pid_;
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
  if (runtime_) runtime_->Kill();
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
  const bool process_gone = !runtime_ && !pidfd_.ok();
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
