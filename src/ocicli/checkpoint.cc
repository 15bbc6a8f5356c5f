// checkpoint, restore: by criu. Beside criu's images stands descriptors.json, as runc writes it: what stdio was.
#include <linux/sched.h>
#include <limits.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/json.h"
#include "base/strings.h"
#include "ocicli/commands.h"
#include "ocicli/console.h"
#include "ocicli/create.h"
#include "ocicli/criu.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::ocicli {

namespace {

constexpr std::chrono::minutes kCriuTime{10};
constexpr char kDescriptors[] = "/descriptors.json";

std::string ReadLink(const std::string& path) {
  char target[PATH_MAX];
  ssize_t n = readlink(path.c_str(), target, sizeof target);
  return n < 0 ? "" : std::string(target, static_cast<size_t>(n));
}

Result<> RunCriu(const Session& session, std::vector<std::string> args, const std::string& log, const std::map<int, sys::BorrowedFd>& fds) {
  sys::Process criu = TRY(sys::Spawn({.program = session.criu, .args = std::move(args), .fds = fds}));
  Result<sys::ExitStatus> status = criu.Wait(Ctx().WithTimeout(kCriuTime));
  if (!status) {
    (void)criu.Signal(SIGKILL).has_value();
    return std::move(status).error().Context("criu");
  }
  if (status->code == 0) return {};
  // The reason is what criu's log says last.
  std::string text = sys::ReadFile(log, 64u << 20).value_or("");
  std::string why;
  for (std::string_view line : Split(text, '\n')) {
    if (line.find("Error (") != std::string_view::npos) why = line;
  }
  return Error(Code::kUnknown, StrCat("criu failed: exit code ", status->code, why.empty() ? "" : ": ", Trim(why), "; see ", log));
}

struct Directories {
  std::string images, work;
};
Result<Directories> MakeDirectories(const Flags& flags) {
  Directories dirs;
  dirs.images = flags.Text("image-path", "checkpoint");
  dirs.work = flags.Text("work-path", dirs.images);
  TRY(sys::MakeDirs(dirs.images, 0700));
  TRY(sys::MakeDirs(dirs.work, 0700));
  return dirs;
}

// What the container was started with: its mounts and namespaces.
Result<native::Launch> LaunchOf(const Session& session, const Record& record) {
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  std::string config = TRY(sys::ReadFile(session.store.File(record.id, "config.json")));
  native::CompileInput input;
  input.config_json = config;
  input.id = record.id;
  input.bundle = record.bundle;
  input.host = HostOf(cgroups->layout());
  input.cgroup = PlaceOf(*cgroups, record.cgroup_path);
  return native::Compile(input);
}

std::vector<std::string> MaskedFiles(const native::Launch& launch, const std::string& root) {
  std::vector<std::string> files;
  for (const std::string& path : launch.masked_paths) {
    struct stat st{};
    if (stat((root + path).c_str(), &st) == 0 && !S_ISDIR(st.st_mode)) files.push_back(path);
  }
  return files;
}

std::string JoinedNetwork(const native::Launch& launch) {
  for (const native::JoinNamespace& join : launch.join) {
    if (join.type == CLONE_NEWNET) return join.path;
  }
  return "";
}

Result<> KeepDescriptors(pid_t pid, const std::string& images) {
  Json names = Json::array();
  for (int fd = 0; fd < 3; ++fd) names.push_back(ReadLink(StrCat("/proc/", pid, "/fd/", fd)));
  return sys::WriteFileAtomic(images + kDescriptors, DumpJson(names), 0600, sys::Durability::kNone);
}

Result<DumpPlan> PlanDump(const Session& session, const Record& record) {
  native::Launch launch = TRY(LaunchOf(session, record));
  DumpPlan plan;
  plan.pid = record.pid;
  plan.rootfs = record.rootfs;
  plan.masked_files = MaskedFiles(launch, StrCat("/proc/", record.pid, "/root"));
  plan.mounts = std::move(launch.mounts);
  if (!JoinedNetwork(launch).empty()) {
    struct stat st{};
    if (stat(StrCat("/proc/", record.pid, "/ns/net").c_str(), &st) == 0) plan.net_namespace_inode = StrCat(st.st_ino);
  }
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  const cgroup::Hierarchy* freezer = cgroups->layout().Find("freezer");
  if (freezer != nullptr) plan.freezer_dir = freezer->mountpoint + record.cgroup_path;
  if (cgroups->unified()) plan.freezer_dir = PlaceOf(*cgroups, record.cgroup_path).v2_dir;
  return plan;
}

Result<int> Checkpoint(Session& session, const Flags& flags) {
  sys::UniqueFd lock = TRY(session.store.Lock(flags.words()[0]));
  Record record = TRY(session.store.Load(flags.words()[0]));
  std::string status = StatusOf(session, record);
  if (status != "running") return Error(Code::kFailedPrecondition, StrCat("cannot checkpoint a container that is ", status));
  Directories dirs = TRY(MakeDirectories(flags));
  DumpPlan plan = TRY(PlanDump(session, record));
  TRY(KeepDescriptors(record.pid, dirs.images));
  TRY(RunCriu(session, DumpArgs(flags, plan, dirs.images, dirs.work), dirs.work + "/dump.log", {}));
  if (!flags.On("leave-running") && !flags.On("pre-dump")) TRY(RemoveContainer(session, record));
  return 0;
}

// criu wants its root to be a mount point: the root file system, bound beside the record.
class RestoreRoot {
 public:
  explicit RestoreRoot(std::string path) : path_(std::move(path)) {}
  RestoreRoot(const RestoreRoot&) = delete;
  RestoreRoot& operator=(const RestoreRoot&) = delete;
  ~RestoreRoot() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
    rmdir(path_.c_str());
  }
  Result<> Mount(const std::string& rootfs) {
    TRY(sys::MakeDir(path_, 0700));
    if (mount(rootfs.c_str(), path_.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0) return Errno(errno, "bind " + rootfs);
    mounted_ = true;
    if (mount(nullptr, path_.c_str(), nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) return Errno(errno, "make private " + path_);
    return {};
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

Result<std::vector<std::string>> KeptPipes(const std::string& images) {
  std::string text = TRY(sys::ReadFile(images + kDescriptors));
  Json json = TRY(ParseJson(text, "descriptors.json"));
  std::vector<std::string> pipes;
  for (size_t fd = 0; fd < 3 && json.is_array() && fd < json.size(); ++fd) {
    std::string name = json[fd].is_string() ? json[fd].get<std::string>() : "";
    pipes.push_back(name.starts_with("pipe:") ? name : "");
  }
  return pipes;
}

Result<pid_t> RestoreProcess(const Session& session, const Flags& flags, const Directories& dirs, const native::Launch& launch,
                             const cgroup::Cgroups& cgroups, const Record& record) {
  RestoreRoot root(session.store.File(record.id, "criu-root"));
  TRY(root.Mount(launch.rootfs));
  RestorePlan plan;
  plan.root = session.store.File(record.id, "criu-root");
  plan.pid_file = session.store.File(record.id, "criu-pid");
  plan.mounts = launch.mounts;
  plan.masked_files = MaskedFiles(launch, "");
  plan.cgroup_roots = CgroupRoots(cgroups.layout(), record.cgroup_path);
  plan.pipes = TRY(KeptPipes(dirs.images));
  std::map<int, sys::BorrowedFd> fds = {{0, sys::BorrowedFd(0)}, {1, sys::BorrowedFd(1)}, {2, sys::BorrowedFd(2)}};
  sys::UniqueFd network;
  if (std::string path = JoinedNetwork(launch); !path.empty()) {
    network = TRY(sys::Open(path, O_RDONLY));
    plan.net_namespace_fd = 3;
    fds.emplace(3, network.borrow());
  }
  TRY(RunCriu(session, RestoreArgs(flags, plan, dirs.images, dirs.work), dirs.work + "/restore.log", fds));
  std::string text = TRY(sys::ReadFile(plan.pid_file, 64));
  auto pid = ParseInt<pid_t>(Trim(text));
  if (!pid || *pid <= 1) return Error(Code::kInternal, StrCat("criu's pid file says ", Quote(text)));
  return *pid;
}

Result<int> Restore(Session& session, const Flags& flags) {
  CreateOptions options;
  options.id = flags.words()[0];
  char real[PATH_MAX];
  if (realpath(flags.Text("bundle", ".").c_str(), real) == nullptr) return Errno(errno, "bundle");
  options.bundle = real;
  options.pid_file = flags.Text("pid-file");
  options.console_socket = flags.Text("console-socket");
  options.detach = flags.On("detach");
  Directories dirs = TRY(MakeDirectories(flags));
  options.make_process = [&](const native::Launch& launch, const cgroup::Cgroups& cgroups, const Record& record) -> Result<pid_t> {
    if (launch.process.terminal) return Error(Code::kUnimplemented, "restore of a container with a terminal");
    return RestoreProcess(session, flags, dirs, launch, cgroups, record);
  };
  if (!options.detach && !flags.On("no-subreaper")) prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  Created created = TRY(CreateContainer(session, options));
  created.lock.Reset();
  if (options.detach) return 0;
  Result<int> code = StayInForeground(created.record.pid, {});
  Result<sys::UniqueFd> lock = session.store.Lock(created.record.id);
  if (lock) TRY(RemoveContainer(session, created.record));
  return code;
}

std::vector<FlagSpec> With(std::vector<FlagSpec> more) {
  std::vector<FlagSpec> flags = {
      {"image-path", FlagSpec::kText, "directory of the images (checkpoint)"},
      {"work-path", FlagSpec::kText, "directory of criu's logs (that of the images)"},
      {"tcp-established", FlagSpec::kBool, "with open TCP connections"},
      {"ext-unix-sk", FlagSpec::kBool, "with unix sockets to outside"},
      {"shell-job", FlagSpec::kBool, "with a terminal that is not its own"},
      {"file-locks", FlagSpec::kBool, "with file locks"},
      {"manage-cgroups-mode", FlagSpec::kText, "soft, full, strict or ignore"},
      {"empty-ns", FlagSpec::kList, "namespace whose contents are left out"},
      {"auto-dedup", FlagSpec::kBool, "of memory pages"},
      {"lazy-pages", FlagSpec::kBool, "memory follows later"},
  };
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

}  // namespace

std::vector<Command> CheckpointCommands() {
  return {
      {"checkpoint", "<container>", "write a running container to files", 1, 1,
       With({{"leave-running", FlagSpec::kBool, "do not stop it"},
             {"pre-dump", FlagSpec::kBool, "memory only, and leave it running"},
             {"parent-path", FlagSpec::kText, "earlier images, relative to these"},
             {"page-server", FlagSpec::kText, "ADDRESS:PORT that gets the memory"},
             {"status-fd", FlagSpec::kText, "told when pages can be asked for"}}),
       Checkpoint},
      {"restore", "<container>", "make a container from such files", 1, 1,
       With({{"bundle,b", FlagSpec::kText, "directory of config.json (the current one)"},
             {"console-socket", FlagSpec::kText, "refused: no terminals"},
             {"detach,d", FlagSpec::kBool, "do not stay until it ends"},
             {"pid-file", FlagSpec::kText, "file for the process's number"},
             {"no-subreaper", FlagSpec::kBool, "do not adopt its orphans"},
             {"no-pivot", FlagSpec::kBool, "accepted"},
             {"lsm-profile", FlagSpec::kText, "TYPE:NAME"},
             {"lsm-mount-context", FlagSpec::kText, "SELinux context of mounts"}}),
       Restore},
  };
}

}  // namespace crisp::ocicli
