#include "sys/spawn.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/strings.h"

extern char** environ;

namespace crisp::sys {

std::string Command::Text() const {
  std::string text = program;
  for (const std::string& arg : args) {
    text += ' ';
    text += arg;
  }
  return text;
}

Result<UniqueFd> PidfdOpen(pid_t pid) {
  long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return Errno(errno, StrCat("pidfd_open ", pid));
  return UniqueFd(static_cast<int>(fd));
}

Result<> PidfdSignal(BorrowedFd pidfd, int signal) {
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0 || errno == ESRCH) return {};
  return Errno(errno, StrCat("send signal ", signal));
}

Result<> Process::Signal(int signal) const { return PidfdSignal(pidfd_, signal); }

Result<ExitStatus> Process::Wait(const Ctx& ctx) const {
  // A stop token cannot wake poll(2); look at it every 100 ms while waiting for the event proper.
  while (true) {
    int timeout = ctx.PollTimeoutMs();
    if (ctx.stop().stop_possible()) timeout = std::min(timeout, 100);
    pollfd event{pidfd_.get(), POLLIN, 0};
    int n = poll(&event, 1, timeout);
    if (n < 0 && errno != EINTR) return Errno(errno, "poll pidfd");
    if (n > 0) break;
    TRY(ctx.Check());
  }
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
    if (errno != EINTR) return Errno(errno, StrCat("wait for process ", pid_));
  }
  if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, 0};
  return ExitStatus{128 + info.si_status, info.si_status};
}

namespace {

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

class FileActions {
 public:
  FileActions() { posix_spawn_file_actions_init(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_;
};

class Attributes {
 public:
  Attributes() { posix_spawnattr_init(&attributes_); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  ~Attributes() { posix_spawnattr_destroy(&attributes_); }
  posix_spawnattr_t* get() { return &attributes_; }

 private:
  posix_spawnattr_t attributes_;
};

Result<pid_t> Start(const Command& command) {
  std::vector<std::string> argv_texts{command.argv0.empty() ? command.program : command.argv0};
  argv_texts.insert(argv_texts.end(), command.args.begin(), command.args.end());
  std::vector<char*> argv = Pointers(argv_texts);
  std::vector<char*> envp;
  if (command.env) envp = Pointers(*command.env);

  // Our descriptors are first moved above all target numbers, so that no dup2 overwrites one that is still needed.
  int highest = 2;
  for (const auto& [target, source] : command.fds) highest = std::max(highest, target);
  std::vector<UniqueFd> moved;
  FileActions actions;
  for (int standard = 0; standard <= 2; ++standard) {
    if (command.fds.contains(standard)) continue;
    posix_spawn_file_actions_addopen(actions.get(), standard, "/dev/null", standard == 0 ? O_RDONLY : O_WRONLY, 0);
  }
  for (const auto& [target, source] : command.fds) {
    int copy = fcntl(source.get(), F_DUPFD_CLOEXEC, highest + 1);
    if (copy < 0) return Errno(errno, StrCat("dup descriptor ", source.get(), " for ", command.program));
    moved.emplace_back(copy);
    posix_spawn_file_actions_adddup2(actions.get(), copy, target);
  }
  // What lies between the named descriptors is close-on-exec already; what lies above is closed for certain.
  posix_spawn_file_actions_addclosefrom_np(actions.get(), highest + 1);
  if (!command.working_dir.empty()) {
    posix_spawn_file_actions_addchdir_np(actions.get(), command.working_dir.c_str());
  }

  Attributes attributes;
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(attributes.get(), &none);
  posix_spawnattr_setsigdefault(attributes.get(), &all);
  short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (command.new_session) flags |= POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(attributes.get(), flags);

  pid_t pid = -1;
  int err = posix_spawnp(&pid, command.program.c_str(), actions.get(), attributes.get(), argv.data(),
                         command.env ? envp.data() : environ);
  if (err != 0) return Errno(err, "start " + command.program);
  return pid;
}

}  // namespace

Result<Process> Spawn(const Command& command) {
  const pid_t pid = TRY(Start(command));
  // No race with pid reuse: we are the parent, and nobody reaps it before we ask.
  Result<UniqueFd> pidfd = PidfdOpen(pid);
  if (!pidfd) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return std::move(pidfd).error();
  }
  return Process(pid, *std::move(pidfd));
}

Result<RunResult> Run(const Ctx& outer, const Command& given, const RunOptions& options) {
  Ctx ctx = outer.WithTimeout(options.timeout);
  TRY(ctx.Check(), given.program);
  Pipe in = TRY(MakePipe()), out = TRY(MakePipe()), err = TRY(MakePipe());
  Command command = given;
  command.fds.insert_or_assign(0, in.read.borrow());
  command.fds.insert_or_assign(1, out.write.borrow());
  command.fds.insert_or_assign(2, err.write.borrow());
  command.new_session = true;  // and a process group, to be killed with all that the program has started itself
  Process child = TRY(Spawn(command));
  in.read.Reset();
  out.write.Reset();
  err.write.Reset();
  fcntl(in.write.get(), F_SETFL, O_NONBLOCK);

  RunResult result;
  size_t fed = 0;
  if (options.input.empty()) in.write.Reset();
  // A pipe to a child that has ended raises SIGPIPE; programs that use Run ignore that signal (see each main).
  auto pump = [&]() -> Result<> {
    bool exited = false;
    while (out.read.ok() || err.read.ok() || !exited) {
      pollfd events[4] = {{out.read.get(), POLLIN, 0},
                          {err.read.get(), POLLIN, 0},
                          {in.write.get(), POLLOUT, 0},
                          {exited ? -1 : child.pidfd().get(), POLLIN, 0}};
      // Once the child has ended, a grandchild that kept the pipes gets only a moment.
      int timeout = std::min(ctx.PollTimeoutMs(), ctx.stop().stop_possible() ? 100 : 3'600'000);
      if (exited) timeout = std::min(timeout, 20);
      int n = poll(events, 4, timeout);
      if (n < 0 && errno != EINTR) return Errno(errno, "poll");
      if (n == 0 && exited) return {};
      TRY(ctx.Check());
      if (n <= 0) continue;
      char buffer[16384];
      auto drain = [&](pollfd& event, UniqueFd& fd, std::string& text) -> Result<> {
        if (event.revents == 0) return {};
        ssize_t got = read(fd.get(), buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) return {};
        if (got <= 0) {
          fd.Reset();
          return {};
        }
        text.append(buffer, static_cast<size_t>(got));
        if (text.size() > options.output_bytes_max) {
          return Error(Code::kResourceExhausted, StrCat("more than ", options.output_bytes_max, " bytes of output"));
        }
        return {};
      };
      TRY(drain(events[0], out.read, result.out));
      TRY(drain(events[1], err.read, result.err));
      if (events[2].revents != 0) {
        ssize_t wrote = write(in.write.get(), options.input.data() + fed, options.input.size() - fed);
        if (wrote > 0) fed += static_cast<size_t>(wrote);
        if ((wrote < 0 && errno != EINTR && errno != EAGAIN) || fed == options.input.size()) in.write.Reset();
      }
      if (events[3].revents != 0) exited = true;
    }
    return {};
  };
  Result<> pumped = pump();
  if (!pumped) {
    // Not reaped yet, so the number is the group's for certain.
    kill(-child.pid(), SIGKILL);
    TRY(child.Signal(SIGKILL));
  }
  result.status = TRY(child.Wait(Ctx().WithTimeout(std::chrono::seconds(10))), given.program);
  if (!pumped) return std::move(pumped).error().Context(given.Text());
  return result;
}

}  // namespace crisp::sys
