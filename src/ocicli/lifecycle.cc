// create, start, run, kill, delete, pause, resume.
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "ocicli/commands.h"
#include "ocicli/console.h"
#include "ocicli/create.h"
#include "sys/spawn.h"

namespace crisp::ocicli {

namespace {

constexpr std::chrono::seconds kFreezeTime{10}, kKillTime{10};

const std::vector<FlagSpec> kCreateFlags = {
    {"bundle,b", FlagSpec::kText, "directory of config.json (the current one)"},
    {"console-socket", FlagSpec::kText, "unix socket that gets the terminal"},
    {"pid-file", FlagSpec::kText, "file for the process's number"},
    {"no-pivot", FlagSpec::kBool, "move the root instead of pivot_root"},
    {"no-new-keyring", FlagSpec::kBool, "accepted; there is never a new one"},
    {"preserve-fds", FlagSpec::kText, "descriptors beside stdio that the process gets"},
};

std::vector<FlagSpec> With(std::vector<FlagSpec> flags, std::vector<FlagSpec> more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

Result<std::string> AbsolutePath(const std::string& path) {
  char* real = realpath(path.empty() ? "." : path.c_str(), nullptr);
  if (real == nullptr) return Errno(errno, "bundle " + path);
  std::string out = real;
  free(real);
  return out;
}

// systemd's socket activation goes on to the container.
int ListenFds() {
  const char* text = getenv("LISTEN_FDS");
  return text == nullptr ? 0 : ParseInt<int>(text).value_or(0);
}

Result<CreateOptions> OptionsOf(const Flags& flags) {
  CreateOptions options;
  options.id = flags.words()[0];
  options.bundle = TRY(AbsolutePath(flags.Text("bundle")));
  options.console_socket = flags.Text("console-socket");
  options.pid_file = flags.Text("pid-file");
  options.no_pivot = flags.On("no-pivot");
  int64_t preserved = TRY(flags.Number("preserve-fds", 0));
  options.preserve_fds = preserved + ListenFds();
  return options;
}

Result<int> Create(Session& session, const Flags& flags) {
  CreateOptions options = TRY(OptionsOf(flags));
  TRY(CreateContainer(session, options));
  return 0;
}

Result<int> Start(Session& session, const Flags& flags) {
  sys::UniqueFd lock = TRY(session.store.Lock(flags.words()[0]));
  Record record = TRY(session.store.Load(flags.words()[0]));
  std::string status = StatusOf(session, record);
  if (status != "created") return Error(Code::kFailedPrecondition, StrCat("cannot start a container that is ", status));
  TRY(StartContainer(session, record, nullptr));
  return 0;
}

Result<int> RunToEnd(Session& session, const Flags& flags, Created created) {
  Result<int> code = StayInForeground(created.record.pid, std::move(created.terminal));
  if (flags.On("keep")) return code;
  // Somebody else may have deleted it meanwhile.
  Result<sys::UniqueFd> lock = session.store.Lock(created.record.id);
  if (lock) TRY(RemoveContainer(session, created.record));
  return code;
}

Result<int> Run(Session& session, const Flags& flags) {
  CreateOptions options = TRY(OptionsOf(flags));
  options.detach = flags.On("detach");
  // Orphans of a container without a PID namespace of its own are ours, while we are there.
  if (!options.detach && !flags.On("no-subreaper")) prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  Created created = TRY(CreateContainer(session, options));
  Result<> started = StartContainer(session, created.record, &*created.launching);
  if (!started) {
    KillAndReap(*created.launching);
    TRY(RemoveContainer(session, created.record));
    return std::move(started).error();
  }
  created.lock.Reset();
  if (options.detach) return 0;
  return RunToEnd(session, flags, std::move(created));
}

Result<> SignalAll(const Record& record, int signal) {
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  if (signal == SIGKILL) return cgroups->Kill(Ctx().WithTimeout(kKillTime), record.cgroup_path);
  std::vector<pid_t> pids = TRY(cgroups->Processes(record.cgroup_path));
  for (pid_t pid : pids) {
    Result<sys::UniqueFd> process = sys::PidfdOpen(pid);
    // Still one of them after it was opened: so it is the one that was listed.
    std::vector<pid_t> still = TRY(cgroups->Processes(record.cgroup_path));
    if (process && std::find(still.begin(), still.end(), pid) != still.end()) TRY(sys::PidfdSignal(*process, signal));
  }
  return {};
}

// A frozen process of v1 does not die before it is thawed.
void ThawAfterKill(const Record& record) {
  Result<std::unique_ptr<cgroup::Cgroups>> cgroups = OpenCgroups(record.systemd);
  if (!cgroups || !IsFrozen((*cgroups)->layout(), record.cgroup_path)) return;
  (void)(*cgroups)->Freeze(Ctx().WithTimeout(kFreezeTime), record.cgroup_path, false).has_value();
}

Result<int> Kill(Session& session, const Flags& flags) {
  Record record = TRY(session.store.Load(flags.words()[0]));
  int signal = TRY(ParseSignal(flags.words().size() > 1 ? flags.words()[1] : "SIGTERM"));
  if (flags.On("all")) {
    TRY(SignalAll(record, signal));
    return 0;
  }
  Result<sys::UniqueFd> process = OpenProcess(record);
  if (!process) return Error(Code::kFailedPrecondition, "container not running");
  TRY(sys::PidfdSignal(*process, signal));
  if (signal == SIGKILL) ThawAfterKill(record);
  return 0;
}

// A creation that was killed has left a directory without a record, or a record without a process.
Result<int> DeleteUnfinished(Session& session, const std::string& id) {
  TRY(session.store.Remove(id));
  return 0;
}

Result<int> Delete(Session& session, const Flags& flags) {
  const std::string& id = flags.words()[0];
  bool force = flags.On("force");
  Result<sys::UniqueFd> lock = session.store.Lock(id);
  if (!lock) {
    if (force && lock.error().code() == Code::kNotFound) return 0;
    return std::move(lock).error();
  }
  Result<Record> record = session.store.Load(id);
  if (!record) {
    if (force || record.error().code() == Code::kNotFound) return DeleteUnfinished(session, id);
    return std::move(record).error();
  }
  // The lock is ours: nobody is creating it any more.
  std::string status = record->pid == 0 ? "stopped" : StatusOf(session, *record);
  if (!force && status != "stopped" && status != "created") {
    return Error(Code::kFailedPrecondition, StrCat("cannot delete container ", id, " that is not stopped: ", status));
  }
  TRY(RemoveContainer(session, *record));
  return 0;
}

Result<int> Freeze(Session& session, const Flags& flags, bool frozen) {
  sys::UniqueFd lock = TRY(session.store.Lock(flags.words()[0]));
  Record record = TRY(session.store.Load(flags.words()[0]));
  std::string status = StatusOf(session, record);
  if (status != (frozen ? "running" : "paused") && !(frozen && status == "created")) {
    return Error(Code::kFailedPrecondition, StrCat("cannot ", frozen ? "pause" : "resume", " a container that is ", status));
  }
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  TRY(cgroups->Freeze(Ctx().WithTimeout(kFreezeTime), record.cgroup_path, frozen));
  return 0;
}

}  // namespace

Result<int> ParseSignal(const std::string& text) {
  if (auto number = ParseInt<int>(text)) {
    if (*number >= 0 && *number <= SIGRTMAX) return *number;
    return Error(Code::kInvalidArgument, "signal " + Quote(text));
  }
  std::string name;
  for (char c : text) name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  if (name.starts_with("SIG")) name = name.substr(3);
  for (int number = 1; number < 32; ++number) {
    const char* known = sigabbrev_np(number);
    if (known != nullptr && name == known) return number;
  }
  for (auto [base, sign] : {std::pair{std::string("RTMIN"), 1}, {std::string("RTMAX"), -1}}) {
    if (!name.starts_with(base)) continue;
    int from = sign > 0 ? SIGRTMIN : SIGRTMAX;
    if (name == base) return from;
    auto offset = ParseInt<int>(name.substr(std::min(name.size(), base.size() + 1)));
    if (name[base.size()] == (sign > 0 ? '+' : '-') && offset && *offset >= 0 && *offset <= SIGRTMAX - SIGRTMIN) return from + sign * *offset;
  }
  return Error(Code::kInvalidArgument, "signal " + Quote(text));
}

std::vector<Command> LifecycleCommands() {
  return {
      {"create", "<container>", "make a container that waits for its start", 1, 1, kCreateFlags, Create},
      {"start", "<container>", "let a created container run", 1, 1, {}, Start},
      {"run", "<container>", "create and start", 1, 1,
       With(kCreateFlags, {{"detach,d", FlagSpec::kBool, "do not stay until it ends"},
                           {"keep", FlagSpec::kBool, "leave it when it has ended"},
                           {"no-subreaper", FlagSpec::kBool, "do not adopt its orphans"}}),
       Run},
      {"kill", "<container> [signal]", "send a signal (SIGTERM)", 1, 2, {{"all,a", FlagSpec::kBool, "to all of its processes"}}, Kill},
      {"delete", "<container>", "remove what a container holds", 1, 1, {{"force,f", FlagSpec::kBool, "kill it first; missing is success"}}, Delete},
      {"pause", "<container>", "stop all processes", 1, 1, {}, [](Session& s, const Flags& f) { return Freeze(s, f, true); }},
      {"resume", "<container>", "let them go on", 1, 1, {}, [](Session& s, const Flags& f) { return Freeze(s, f, false); }},
  };
}

}  // namespace crisp::ocicli
