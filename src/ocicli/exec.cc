// exec: a further process in a running container.
#include <sys/prctl.h>

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "native/compile.h"
#include "ocicli/commands.h"
#include "ocicli/console.h"
#include "ocicli/create.h"
#include "sys/file.h"

namespace crisp::ocicli {

namespace {

Result<Json> ProcessOfConfig(const std::string& config_json) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  auto process = config.find("process");
  return process != config.end() && process->is_object() ? *process : Json::object();
}

// "uid[:gid]"
Result<> SetUser(const std::string& text, Json& process) {
  std::vector<std::string_view> parts = Split(text, ':');
  auto uid = ParseInt<uint32_t>(parts[0]);
  auto gid = parts.size() > 1 ? ParseInt<uint32_t>(parts[1]) : std::optional<uint32_t>(0);
  if (!uid || !gid || parts.size() > 2) return Error(Code::kInvalidArgument, StrCat("--user ", Quote(text), " is not uid[:gid]"));
  if (!process.contains("user") || !process["user"].is_object()) process["user"] = Json::object();
  process["user"]["uid"] = *uid;
  if (parts.size() > 1) process["user"]["gid"] = *gid;
  return {};
}

Result<> AddGroups(const std::vector<std::string>& groups, Json& process) {
  for (const std::string& group : groups) {
    auto gid = ParseInt<uint32_t>(group);
    if (!gid) return Error(Code::kInvalidArgument, StrCat("--additional-gids ", Quote(group), " is no number"));
    process["user"]["additionalGids"].push_back(*gid);
  }
  return {};
}

void AddCapabilities(const std::vector<std::string>& names, Json& process) {
  for (const char* set : {"bounding", "effective", "permitted"}) {
    Json& list = process["capabilities"][set];
    for (const std::string& name : names) {
      if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
    }
  }
}

Result<Session*> CheckRunning(Session& session, const Record& record) {
  std::string status = StatusOf(session, record);
  if (status == "running" || status == "created") return &session;
  if (status == "paused") return Error(Code::kFailedPrecondition, "cannot exec in a paused container (resume it first)");
  return Error(Code::kFailedPrecondition, StrCat("cannot exec in a ", status, " container"));
}

// Where the container's own process is: it may have moved below its cgroup, and given that to controllers, so that v2
// takes no process there any more.
std::string V2CgroupOf(const Record& record) {
  std::string text = sys::ReadFile(StrCat("/proc/", record.pid, "/cgroup")).value_or("");
  for (std::string_view line : Split(text, '\n')) {
    if (line.starts_with("0::" + record.cgroup_path)) return std::string(line.substr(3));
  }
  return record.cgroup_path;
}

Result<native::CgroupPlace> PlaceOfExec(const Record& record, const std::string& below) {
  std::unique_ptr<cgroup::Cgroups> cgroups = TRY(OpenCgroups(record.systemd));
  std::string path = cgroups->unified() ? V2CgroupOf(record) : record.cgroup_path;
  if (!below.empty()) {
    if (below.find("..") != std::string::npos || below.find(':') != std::string::npos) {
      return Error(Code::kInvalidArgument, StrCat("--cgroup ", Quote(below), " is not a path below the container's"));
    }
    path = record.cgroup_path + (below.starts_with('/') ? "" : "/") + below;
    while (path.ends_with('/')) path.pop_back();
  }
  return PlaceOf(*cgroups, path);
}

Result<native::ExecInput> InputOf(const Session& session, const Record& record, const std::string& process, const std::string& cgroup) {
  std::string bytes = TRY(sys::ReadFile(session.store.File(record.id, "exec"), native::kLaunchBytesMax));
  native::ExecInput input;
  input.process_json = process;
  input.container = TRY(native::DecodeExecLaunch(bytes));
  input.cgroup = TRY(PlaceOfExec(record, cgroup));
  return input;
}

Result<int> Exec(Session& session, const Flags& flags) {
  // No lock: an exec may last as long as the container.
  Record record = TRY(session.store.Load(flags.words()[0]));
  TRY(CheckRunning(session, record));
  std::string config = TRY(sys::ReadFile(session.store.File(record.id, "config.json")));
  std::string process = TRY(ProcessOfFlags(config, flags));
  native::ExecInput input = TRY(InputOf(session, record, process, flags.Text("cgroup")));
  native::ExecLaunch launch = TRY(native::CompileExec(input));
  bool detach = flags.On("detach");
  std::string console = flags.Text("console-socket");
  if (launch.process.terminal && detach && console.empty()) {
    return Error(Code::kInvalidArgument, "a terminal of a process that is left alone needs --console-socket");
  }
  if (!launch.process.terminal && !console.empty()) return Error(Code::kInvalidArgument, "--console-socket without a terminal");
  sys::UniqueFd container = TRY(OpenProcess(record));
  native::LaunchOptions options{.in = 0, .out = 1, .err = 2};
  int64_t preserved = TRY(flags.Number("preserve-fds", 0));
  options.preserve_fds = TRY(PreservedFds(preserved));
  if (!detach && !flags.On("no-subreaper")) prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  std::string bytes = TRY(native::Encode(launch));
  native::Launching launching = TRY(native::Launching::StartExec(bytes, container, options));
  Result<> ran = Await(launching, native::Launching::Progress::kRunning);
  sys::UniqueFd terminal = launching.TakeTerminal();
  if (ran && terminal.ok() && !console.empty()) {
    ran = SendTerminal(console, terminal);
    terminal.Reset();
  }
  if (ran) ran = WritePidFile(flags.Text("pid-file"), launching.pid());
  if (!ran) {
    KillAndReap(launching);
    return std::move(ran).error();
  }
  Reap(launching.helper_pid());
  if (detach) return 0;
  return StayInForeground(launching.pid(), std::move(terminal));
}

}  // namespace

const std::vector<FlagSpec>& ExecFlags() {
  static const std::vector<FlagSpec> kFlags = {
      {"console-socket", FlagSpec::kText, "unix socket that gets the terminal"},
      {"cwd", FlagSpec::kText, "working directory"},
      {"env,e", FlagSpec::kList, "KEY=value, beside the container's"},
      {"tty,t", FlagSpec::kBool, "with a terminal"},
      {"user,u", FlagSpec::kText, "uid[:gid]"},
      {"additional-gids,g", FlagSpec::kList, "further groups"},
      {"process,p", FlagSpec::kText, "file with the spec's process object"},
      {"detach,d", FlagSpec::kBool, "do not stay until it ends"},
      {"pid-file", FlagSpec::kText, "file for the process's number"},
      {"process-label", FlagSpec::kText, "SELinux label"},
      {"apparmor", FlagSpec::kText, "AppArmor profile"},
      {"no-new-privs", FlagSpec::kBool, "set no_new_privs"},
      {"cap,c", FlagSpec::kList, "a capability beside the container's"},
      {"preserve-fds", FlagSpec::kText, "descriptors beside stdio that the process gets"},
      {"cgroup", FlagSpec::kText, "path of a cgroup below the container's"},
      {"ignore-paused", FlagSpec::kBool, "accepted; a paused container is refused all the same"},
      {"no-subreaper", FlagSpec::kBool, "do not adopt its orphans"},
  };
  return kFlags;
}

Result<std::string> ProcessOfFlags(const std::string& config_json, const Flags& flags) {
  if (flags.Has("process")) return sys::ReadFile(flags.Text("process"));
  Json process = TRY(ProcessOfConfig(config_json));
  std::vector<std::string> args(flags.words().begin() + 1, flags.words().end());
  if (args.empty()) return Error(Code::kInvalidArgument, "exec: no command");
  process["args"] = args;
  process["terminal"] = flags.On("tty");
  if (flags.Has("cwd")) process["cwd"] = flags.Text("cwd");
  for (const std::string& each : flags.List("env")) process["env"].push_back(each);
  if (flags.Has("user")) TRY(SetUser(flags.Text("user"), process));
  TRY(AddGroups(flags.List("additional-gids"), process));
  AddCapabilities(flags.List("cap"), process);
  if (flags.Has("no-new-privs")) process["noNewPrivileges"] = flags.On("no-new-privs");
  if (flags.Has("apparmor")) process["apparmorProfile"] = flags.Text("apparmor");
  if (flags.Has("process-label")) process["selinuxLabel"] = flags.Text("process-label");
  return DumpJson(process);
}

std::vector<Command> ExecCommands() {
  return {{"exec", "<container> <command> [args]", "run a further process", 1, SIZE_MAX, ExecFlags(), Exec}};
}

}  // namespace crisp::ocicli
