// crisp-oci: an OCI runtime by runc's command line, with crisp's native launcher. See README.md.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/time.h"
#include "ocicli/commands.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace crisp::ocicli {
namespace {

const std::vector<FlagSpec> kGlobalFlags = {
    {"root", FlagSpec::kText, "directory of containers' states (/run/crisp-oci)"},
    {"log", FlagSpec::kText, "file for messages, beside stderr"},
    {"log-format", FlagSpec::kText, "text or json"},
    {"debug", FlagSpec::kBool, "accepted; there is nothing more to say"},
    {"systemd-cgroup", FlagSpec::kBool, "cgroups are scopes of systemd"},
    {"criu", FlagSpec::kText, "program for checkpoints (criu)"},
    {"rootless", FlagSpec::kText, "accepted; only root can be served"},
    {"version,v", FlagSpec::kBool, "print the version"},
    {"help,h", FlagSpec::kBool, "print this"},
};

std::vector<Command> AllCommands() {
  std::vector<Command> all;
  for (auto make : {LifecycleCommands, ExecCommands, QueryCommands, UpdateCommands, EventsCommands, CheckpointCommands, FeatureCommands}) {
    for (Command& command : make()) all.push_back(std::move(command));
  }
  return all;
}

void PrintHelp() {
  std::printf("crisp-oci [flags] command [flags] [words]\n\ncommands:\n");
  for (const Command& command : AllCommands()) std::printf("   %-12s%-40s%s\n", command.name, command.usage, command.help);
  std::printf("\nflags:\n%s", FlagsHelp(kGlobalFlags).c_str());
}

void PrintVersion() { std::printf("crisp-oci version %s\nspec: 1.3.0\n", CRISP_VERSION); }

// Callers show the last line of the log, or stderr, to their users: logrus's keys, as runc has them.
std::string ErrorLine(const std::string& message, bool json) {
  std::string time = FormatRfc3339Nano(UnixNanosNow());
  if (json) return DumpJson({{"level", "error"}, {"msg", message}, {"time", time}}) + "\n";
  return StrCat("time=\"", time, "\" level=error msg=", Quote(message, 16u << 10), "\n");
}

void Report(const Flags& global, const Error& error) {
  bool json = global.Text("log-format") == "json";
  std::fprintf(stderr, "%s", ErrorLine(error.message(), json).c_str());
  std::string log = global.Text("log");
  if (log.empty()) return;
  Result<sys::UniqueFd> file = sys::Open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (file) (void)sys::WriteAll(*file, ErrorLine(error.message(), json)).has_value();
}

Result<int> RunCommand(const Flags& global) {
  if (global.words().empty()) return Error(Code::kInvalidArgument, "no command; see crisp-oci --help");
  const std::vector<Command> commands = AllCommands();
  auto command = std::find_if(commands.begin(), commands.end(), [&](const Command& each) { return each.name == global.words()[0]; });
  if (command == commands.end()) return Error(Code::kInvalidArgument, StrCat("unknown command ", Quote(global.words()[0])));
  std::vector<FlagSpec> specs = command->flags;
  specs.push_back({"help,h", FlagSpec::kBool, "print this"});
  Flags flags = TRY(Flags::Parse(specs, {global.words().begin() + 1, global.words().end()}), command->name);
  if (flags.On("help")) {
    std::printf("crisp-oci %s [flags] %s\n\n%s\n%s", command->name, command->usage, command->help, FlagsHelp(specs).c_str());
    return 0;
  }
  if (flags.words().size() < command->words_min || flags.words().size() > command->words_max) {
    return Error(Code::kInvalidArgument, StrCat(command->name, ": wants ", *command->usage ? command->usage : "no words"));
  }
  Session session;
  if (global.Has("root")) session.store = Store(global.Text("root"));
  session.systemd = global.On("systemd-cgroup");
  session.criu = global.Text("criu", "criu");
  return command->run(session, flags);
}

// What becomes a container's process is a copy of us first: our file must not be writable through it (CVE-2019-5736).
Result<> BecomeReadOnly(char** argv) {
  constexpr const char* kSelf = "/proc/self/exe";
  struct statvfs fs{};
  if (statvfs(kSelf, &fs) != 0) return Errno(errno, kSelf);
  if ((fs.f_flag & ST_RDONLY) != 0) return (void)prctl(PR_SET_NAME, "crisp-oci"), Result<>();
  sys::UniqueFd program = TRY(sys::OpenProgramReadOnly(kSelf));
  execveat(program.get(), "", argv, environ, AT_EMPTY_PATH);
  return Errno(errno, "run crisp-oci read-only");
}

bool MakesProcesses(const Flags& global) {
  if (global.words().empty()) return false;
  const std::string& name = global.words()[0];
  return name == "create" || name == "run" || name == "exec" || name == "start" || name == "restore";
}

int Main(int argc, char** argv) {
  umask(022);
  signal(SIGPIPE, SIG_IGN);  // a hook need not read its state
  prctl(PR_SET_DUMPABLE, 0);
  Result<Flags> global = Flags::Parse(kGlobalFlags, {argv + 1, argv + argc});
  if (!global) {
    std::fprintf(stderr, "%s", ErrorLine(global.error().message(), false).c_str());
    return 1;
  }
  if (global->On("version")) return PrintVersion(), 0;
  if (global->On("help")) return PrintHelp(), 0;
  bool json = global->Text("log-format") == "json";
  SetLog(LogLevel::kWarning, json ? LogFormat::kJson : LogFormat::kText);
  Result<> read_only = MakesProcesses(*global) ? BecomeReadOnly(argv) : Result<>();
  Result<int> code = read_only ? RunCommand(*global) : Result<int>(std::move(read_only).error());
  if (code) return *code;
  Report(*global, code.error());
  // As runc: what exec could not run is told apart from a program's own codes.
  return !global->words().empty() && global->words()[0] == "exec" ? 255 : 1;
}

}  // namespace
}  // namespace crisp::ocicli

int main(int argc, char** argv) { return crisp::ocicli::Main(argc, argv); }
