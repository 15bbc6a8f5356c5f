#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/runtime_impl.h"

namespace crisp::runtime {

namespace {

using std::chrono::milliseconds;
constexpr milliseconds kKillTime{3000};
constexpr milliseconds kStartTime{60'000};
// After the exec's process has ended, everything it wrote is in the pipes. What keeps them open then is a process it
// left behind; such a one gets this long to write its last words (`sh -c "echo x &"`), and then nobody listens any
// more.
constexpr milliseconds kDrainTime = kStreamDrainTime;

// One output stream: keeps `bytes_max`, reads and throws away the rest, so that the writer never blocks on us.
class Collector {
 public:
  Collector(sys::UniqueFd pipe, size_t bytes_max) : pipe_(std::move(pipe)), bytes_max_(bytes_max) {}
  int fd() const { return open() ? pipe_.get() : -1; }
  bool open() const { return pipe_.ok() && !ended_; }
  // One read. False: nothing there.
  bool Read() {
    if (!open()) return false;
    char buffer[65536];
    ssize_t n = read(pipe_.get(), buffer, sizeof buffer);
    if (n < 0) return errno == EINTR;
    if (n == 0) {
      ended_ = true;
      return false;
    }
    text.append(buffer, std::min(static_cast<size_t>(n), bytes_max_ - text.size()));
    return true;
  }
  std::string text;

 private:
  sys::UniqueFd pipe_;
  size_t bytes_max_;
  bool ended_ = false;
};

Result<sys::Pipe> MakeReadablePipe() {
  sys::Pipe pipe = TRY(sys::MakePipe());
  if (fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) != 0) return Errno(errno, "set O_NONBLOCK");
  return pipe;
}

bool HasStarted(ExecWait& wait) {
  std::lock_guard lock(wait.lock);
  return wait.started || wait.over;
}

bool Failed(ExecWait& wait, shimapi::ErrorReply* failure) {
  std::lock_guard lock(wait.lock);
  if (wait.failure) *failure = *wait.failure;
  return wait.failure.has_value();
}

// Until the exec is over, or `starting` has ended before it started, or ctx has. Nobody wakes us at its start.
Result<> Collect(const Ctx& ctx, const Ctx& starting, Collector& out, Collector& err, ExecWait& wait) {
  while (true) {
    pollfd events[3] = {{out.fd(), POLLIN, 0}, {err.fd(), POLLIN, 0}, {wait.event.get(), POLLIN, 0}};
    const bool started = HasStarted(wait);
    int timeout = std::min((started ? ctx : starting).PollTimeoutMs(), ctx.stop().stop_possible() ? 100 : 3'600'000);
    if (poll(events, 3, timeout) < 0 && errno != EINTR) return Errno(errno, "poll");
    TRY(ctx.Check());
    if (!started && starting.Expired() && !HasStarted(wait)) return starting.Check();
    if (events[0].revents != 0) out.Read();
    if (events[1].revents != 0) err.Read();
    if (events[2].revents != 0) return {};
  }
}

void Drain(Collector& out, Collector& err) {
  Ctx bounded = Ctx().WithTimeout(kDrainTime);
  while ((out.open() || err.open()) && !bounded.Expired()) {
    bool more = out.Read();
    more |= err.Read();
    if (more) continue;
    pollfd events[2] = {{out.fd(), POLLIN, 0}, {err.fd(), POLLIN, 0}};
    if ((out.open() || err.open()) && poll(events, 2, bounded.PollTimeoutMs()) <= 0) return;
  }
}

}  // namespace

Result<ExecSyncResult> RunExecSync(const Ctx& ctx, ShimLink& link, const ContainerId& container, const ExecPlan& plan,
                                   size_t output_bytes_max, shimapi::ErrorReply* failure) {
  sys::Pipe out_pipe = TRY(MakeReadablePipe()), err_pipe = TRY(MakeReadablePipe());
  sys::UniqueFd null = TRY(sys::Open("/dev/null", O_RDONLY));  // its own: what shares one shares its locks and flags
  auto [exec, wait] = TRY(link.NewExec());
  const Ctx starting = ctx.WithTimeout(kStartTime);
  Result<> ended = link.StartExec(starting, plan.Request(exec, container),
                                  plan.Fds({null.borrow(), out_pipe.write.borrow(), err_pipe.write.borrow()}));
  struct Collectors {
    Collector out, err;
  };
  auto collectors = std::make_shared<Collectors>(Collector(std::move(out_pipe.read), output_bytes_max),
                                                 Collector(std::move(err_pipe.read), output_bytes_max));
  auto& [out, err] = *collectors;
  if (ended) ended = Collect(ctx, starting, out, err, *wait);
  if (ended && Failed(*wait, failure)) ended = ShimLink::ToError(*failure);
  if (!ended) {
    // Started or not: the shim answers once nothing of the exec is left.
    shimapi::KillExec kill;
    kill.exec = exec;
    (void)link.Call<shimapi::Ok>(ctx.Detached(kKillTime), kill, kKillTime).has_value();
    link.ForgetExec(exec);
    return std::move(ended).error();
  }
  link.ForgetExec(exec);
  // Only now: the end of a pipe would have woken us though the end of the exec is what we wait for.
  out_pipe.write.Reset();
  err_pipe.write.Reset();
  Drain(out, err);
  std::lock_guard lock(wait->lock);
  ctx.Afterwards([collectors] {});  // a pipe's end takes the kernel some time
  if (wait->lost) return Error(Code::kUnavailable, "the pod's shim ended during the exec");
  return ExecSyncResult{std::move(out.text), std::move(err.text), wait->exit.code};
}

}  // namespace crisp::runtime
