// checkpoint, restore: by criu.
#include <linux/sched.h>
#include <limits.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/rollback.h"
#include "base/strings.h"
#include "native/criu.h"
#include "ocicli/commands.h"
#include "ocicli/console.h"
#include "ocicli/create.h"
#include "ocicli/criu_flags.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::ocicli {

namespace {

constexpr std::chrono::minutes kCriuTime{10};

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

Result<native::CriuDirs> MakeDirectories(const Flags& flags) {
  native::CriuDirs dirs;
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

Result<native::DumpPlan> PlanDump(const Session& session, const Record& record) {
  native::Launch launch = TRY(LaunchOf(session, record));
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  const cgroup::Hierarchy* freezer = cgroups->layout().Find("freezer");
  std::string freezer_dir = freezer != nullptr ? freezer->mountpoint + record.cgroup_path : "";
  if (cgroups->unified()) freezer_dir = PlaceOf(*cgroups, record.cgroup_path).v2_dir;
  return native::PlanDump(launch, record.pid, freezer_dir);
}

Result<int> Checkpoint(Session& session, const Flags& flags) {
  sys::UniqueFd lock = TRY(session.store.Lock(flags.words()[0]));
  Record record = TRY(session.store.Load(flags.words()[0]));
  std::string status = StatusOf(session, record);
  if (status != "running") return Error(Code::kFailedPrecondition, StrCat("cannot checkpoint a container that is ", status));
  native::CriuDirs dirs = TRY(MakeDirectories(flags));
  native::DumpPlan plan = TRY(PlanDump(session, record));
  TRY(native::KeepDescriptors(record.pid, dirs.images));
  TRY(RunCriu(session, CriuDumpArgs(flags, plan, dirs), dirs.work + "/dump.log", {}));
  if (!flags.On("leave-running") && !flags.On("pre-dump")) TRY(RemoveContainer(session, record));
  return 0;
}

Result<pid_t> RestoreProcess(const Session& session, const Flags& flags, const native::CriuDirs& dirs, const native::Launch& launch,
                             const cgroup::Cgroups& cgroups, const Record& record) {
  native::RestorePlan plan = TRY(native::PlanRestore(launch, dirs));
  plan.root = session.store.File(record.id, "criu-root");
  plan.pid_file = session.store.File(record.id, "criu-pid");
  plan.cgroup_roots = native::CgroupRoots(HostOf(cgroups.layout()), record.cgroup_path);
  Rollback root;
  root.Add("unmount criu's root", [&]() -> Result<> { return native::ClearRestoreRoot(plan.root), Result<>(); });
  TRY(native::MountRestoreRoot(launch.rootfs, plan.root));
  std::map<int, sys::BorrowedFd> fds = {{0, sys::BorrowedFd(0)}, {1, sys::BorrowedFd(1)}, {2, sys::BorrowedFd(2)}};
  std::vector<sys::UniqueFd> namespaces;
  for (auto [type, number] : {std::pair(CLONE_NEWNET, &plan.net_namespace_fd), std::pair(CLONE_NEWPID, &plan.pid_namespace_fd)}) {
    std::string path = native::JoinedNamespace(launch, static_cast<uint64_t>(type));
    if (path.empty()) continue;
    *number = 3 + static_cast<int>(namespaces.size());
    namespaces.push_back(TRY(sys::Open(path, O_RDONLY)));
    fds.emplace(*number, namespaces.back().borrow());
  }
  TRY(RunCriu(session, CriuRestoreArgs(flags, plan, dirs), dirs.work + "/restore.log", fds));
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
  native::CriuDirs dirs = TRY(MakeDirectories(flags));
  options.make_process = [&](const native::Launch& launch, const cgroup::Cgroups& cgroups, const Record& record) -> Result<pid_t> {
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
