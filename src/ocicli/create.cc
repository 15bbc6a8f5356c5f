#include "ocicli/create.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/json.h"
#include "base/log.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "base/time.h"
#include "native/compile.h"
#include "ocicli/console.h"
#include "sys/file.h"
#include "sys/process_info.h"
#include "sys/spawn.h"

namespace crisp::ocicli {

namespace {

constexpr std::chrono::seconds kRemovalTime{30};

Ctx RemovalCtx() { return Ctx().WithTimeout(kRemovalTime); }

struct Configuration {
  std::string text, cgroups_path, resources, annotations, oci_version;
  bool terminal = false;
};

Result<Configuration> ReadConfiguration(const std::string& bundle) {
  Configuration out;
  out.text = TRY(sys::ReadFile(bundle + "/config.json"));
  Json json = TRY(ParseJson(out.text, "config.json"));
  if (!json.is_object()) return Error(Code::kInvalidArgument, "config.json is not an object");
  out.oci_version = TRY(JsonGet<std::string>(json, "ociVersion"), "config.json");
  if (!out.oci_version.starts_with("1.")) {
    return Error(Code::kInvalidArgument, StrCat("config.json: ociVersion ", Quote(out.oci_version), " is not 1.x"));
  }
  auto object = [](const Json& in, const char* key) {
    auto found = in.find(key);
    return found != in.end() && found->is_object() ? *found : Json::object();
  };
  out.terminal = TRY(JsonGet<bool>(object(json, "process"), "terminal"), "process");
  out.annotations = DumpJson(object(json, "annotations"));
  Json linux_part = object(json, "linux");
  out.cgroups_path = TRY(JsonGet<std::string>(linux_part, "cgroupsPath"), "linux");
  out.resources = DumpJson(object(linux_part, "resources"));
  return out;
}

Result<> CheckTerminal(const Configuration& config, const CreateOptions& options) {
  if (config.terminal && options.detach && options.console_socket.empty()) {
    return Error(Code::kInvalidArgument, "a terminal of a container that is left alone needs --console-socket");
  }
  if (!config.terminal && !options.console_socket.empty()) {
    return Error(Code::kInvalidArgument, "--console-socket, but process.terminal is false");
  }
  return {};
}

// Keeps a scope of systemd alive until the container's process has joined.
class Placeholder {
 public:
  Placeholder() : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (true) pause();
  }
  Placeholder(const Placeholder&) = delete;
  Placeholder& operator=(const Placeholder&) = delete;
  ~Placeholder() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    Reap(pid_);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

// One container being made, step by step.
class Creation {
 public:
  Creation(const Session& session, const CreateOptions& options) : session_(session), options_(options) {}

  Result<Created> Run() {
    config_ = TRY(ReadConfiguration(options_.bundle));
    TRY(CheckTerminal(config_, options_));
    sys::UniqueFd lock = TRY(session_.store.Create(options_.id));
    undo_.Add("forget the container", [this] { return session_.store.Remove(options_.id); });
    TRY(Begin());
    TRY(MakeLaunch());
    TRY(MakeCgroup());
    return options_.make_process ? MakeOtherwise(std::move(lock)) : MakeAndWait(std::move(lock));
  }

 private:
  Result<Created> MakeAndWait(sys::UniqueFd lock) {
    native::Launching launching = TRY(Launch());
    Result<> waits = Await(launching, native::Launching::Progress::kCreated);
    placeholder_.reset();
    Result<sys::UniqueFd> terminal = waits ? Finish(launching) : Result<sys::UniqueFd>(std::move(waits).error());
    if (!terminal) {
      KillAndReap(launching);
      return std::move(terminal).error();
    }
    Reap(launching.helper_pid());
    undo_.Dismiss();
    return Created{record_, std::move(lock), std::move(launching), *std::move(terminal)};
  }

  Result<Created> MakeOtherwise(sys::UniqueFd lock) {
    TRY(sys::RemoveFile(File("start")));
    record_.pid = TRY(options_.make_process(launch_, *cgroups_, record_));
    placeholder_.reset();
    TRY(SaveProcess());
    undo_.Dismiss();
    return Created{record_, std::move(lock), std::nullopt, {}};
  }

  Result<> Begin() {
    record_.id = options_.id;
    record_.bundle = options_.bundle;
    record_.oci_version = config_.oci_version;
    record_.annotations = config_.annotations;
    record_.created_unix_nanos = UnixNanosNow();
    record_.systemd = session_.systemd;
    const char* user = getenv("USER");
    record_.owner = user == nullptr ? "" : user;
    TRY(sys::WriteFileAtomic(File("config.json"), config_.text, 0600, sys::Durability::kNone));
    if (mkfifo(File("start").c_str(), 0600) != 0) return Errno(errno, "make the start fifo");
    return session_.store.Save(record_);
  }

  Result<> MakeLaunch() {
    cgroups_ = TRY(OpenCgroups(session_.systemd));
    path_ = TRY(KernelPath(config_.cgroups_path, options_.id, session_.systemd));
    native::CompileInput input;
    input.config_json = config_.text;
    input.id = options_.id;
    input.bundle = options_.bundle;
    input.host = HostOf(cgroups_->layout());
    input.cgroup = PlaceOf(*cgroups_, path_);
    launch_ = TRY(native::Compile(input));
    launch_.no_pivot = options_.no_pivot;
    record_.rootfs = launch_.rootfs;
    std::string exec = TRY(native::Encode(native::ExecTemplate(launch_)));
    return sys::WriteFileAtomic(File("exec"), exec, 0600, sys::Durability::kNone);
  }

  Result<> MakeCgroup() {
    // What is in it would be limited, frozen and killed with the container.
    std::vector<pid_t> others = TRY(cgroups_->Processes(path_));
    if (!others.empty()) {
      return Error(Code::kFailedPrecondition, StrCat("cgroup ", path_, " has processes already, e.g. ", others[0]));
    }
    record_.cgroup_path = path_;
    TRY(session_.store.Save(record_));
    undo_.Add("remove the cgroup", [this] { return cgroups_->Remove(RemovalCtx(), path_); });
    if (!session_.systemd) return cgroups_->CreateForContainer(path_, config_.resources);
    placeholder_.emplace();
    return cgroups_->CreateScope(Ctx().WithTimeout(kRemovalTime), path_, config_.resources, placeholder_->pid());
  }

  Result<native::Launching> Launch() {
    start_ = TRY(sys::Open(File("start"), O_RDWR));
    native::LaunchOptions options;
    options.in = 0;
    options.out = 1;
    options.err = 2;
    options.start_fifo = start_.get();
    options.preserve_fds = TRY(PreservedFds(options_.preserve_fds));
    std::string bytes = TRY(native::Encode(launch_));
    return native::Launching::Start(bytes, options);
  }

  // The terminal, where it stays with us.
  Result<sys::UniqueFd> Finish(native::Launching& launching) {
    record_.pid = launching.pid();
    TRY(SaveProcess());
    sys::UniqueFd terminal = launching.TakeTerminal();
    if (terminal.ok() && !options_.console_socket.empty()) {
      TRY(SendTerminal(options_.console_socket, terminal));
      terminal.Reset();
    }
    return terminal;
  }

  Result<> SaveProcess() {
    std::optional<sys::ProcessStat> stat = sys::ReadProcessStat(record_.pid);
    if (!stat) return Error(Code::kUnknown, "the container's process ended before its start");
    record_.pid_start_ticks = stat->start_ticks;
    TRY(session_.store.Save(record_));
    return WritePidFile(options_.pid_file, record_.pid);
  }

  std::string File(const char* name) const { return session_.store.File(options_.id, name); }

  const Session& session_;
  const CreateOptions& options_;
  Configuration config_;
  Record record_;
  std::unique_ptr<cgroup::Cgroups> cgroups_;
  std::string path_;
  native::Launch launch_;
  std::optional<Placeholder> placeholder_;
  sys::UniqueFd start_;
  Rollback undo_;
};

}  // namespace

Result<Created> CreateContainer(const Session& session, const CreateOptions& options) { return Creation(session, options).Run(); }

Result<> StartContainer(const Session& session, const Record& record, native::Launching* launching) {
  const std::string file = session.store.File(record.id, "start");
  sys::UniqueFd fifo = TRY(sys::Open(file, O_WRONLY | O_NONBLOCK), "start");
  if (write(fifo.get(), "+", 1) != 1) return Errno(errno, "start the container");
  TRY(sys::RemoveFile(file));
  // The container's process has the fifo open until it becomes its program, or ends: POLLERR says that nobody has.
  pollfd gone{fifo.get(), 0, 0};
  while (poll(&gone, 1, -1) < 0 && errno == EINTR) {
  }
  if (launching != nullptr) TRY(Await(*launching, native::Launching::Progress::kRunning));
  RunHooksAndLog(session, record, "poststart", "running");
  return {};
}

Result<> RemoveContainer(const Session& session, const Record& record) {
  if (Result<sys::UniqueFd> process = OpenProcess(record)) {
    TRY(sys::PidfdSignal(*process, SIGKILL));
    pollfd ended{process->get(), POLLIN, 0};
    poll(&ended, 1, RemovalCtx().PollTimeoutMs());
  }
  if (!record.cgroup_path.empty()) {
    std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
    TRY(cgroups->Remove(RemovalCtx(), record.cgroup_path));
  }
  Record stopped = record;
  stopped.pid = 0;
  RunHooksAndLog(session, stopped, "poststop", "stopped");
  return session.store.Remove(record.id);
}

Result<> Await(native::Launching& launching, native::Launching::Progress wanted) {
  while (TRY(launching.Advance()) != wanted) {
    pollfd event{launching.fd().get(), POLLIN, 0};
    if (poll(&event, 1, -1) < 0 && errno != EINTR) return Errno(errno, "poll");
  }
  return {};
}

void Reap(pid_t pid) {
  if (pid <= 0) return;
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void KillAndReap(const native::Launching& launching) {
  for (pid_t pid : {launching.helper_pid(), launching.pid()}) {
    if (pid <= 0) continue;
    kill(pid, SIGKILL);  // our child, not reaped
    Reap(pid);
  }
}

Result<> WritePidFile(const std::string& path, pid_t pid) {
  if (path.empty()) return {};
  return sys::WriteFileAtomic(path, StrCat(pid), 0644, sys::Durability::kNone);
}

Result<int> PreservedFds(int64_t count) {
  constexpr int64_t kMax = 1024;
  if (count < 0 || count > kMax) return Error(Code::kInvalidArgument, StrCat("--preserve-fds ", count, " is out of range"));
  for (int fd = 3; fd < 3 + count; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) return Error(Code::kInvalidArgument, StrCat("--preserve-fds: descriptor ", fd, " is not open"));
  }
  return static_cast<int>(count);
}

}  // namespace crisp::ocicli
