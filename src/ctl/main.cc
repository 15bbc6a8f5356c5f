// crispctl: crictl's commands for any CRI runtime, and what CRI lacks for crispd. Called by the name crictl (a link) it
// reads crictl's settings file in place of its own.
// Exit codes: 0 done, 1 failed, 2 the command line was not understood; exec gives the command's own.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/settings.h"

namespace crisp::ctl {
namespace {

constexpr int kUsage = 2;
// What crictl gives instead.
constexpr int kCrictlUsage = 1, kCrictlNoCommand = 3;
constexpr std::chrono::seconds kTimeout{10};

struct Global {
  std::string runtime_endpoint, image_endpoint, timeout, config, retries;
  bool debug = false;
};
// Of crictl, for scripts that have them; without effect here.
struct Ignored {
  std::string tracing_endpoint, sampling, cpu_profile, memory_profile;
  bool tracing = false;
};

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string FirstOf(std::initializer_list<std::string> texts) {
  for (const std::string& text : texts) {
    if (!text.empty()) return text;
  }
  return "";
}

constexpr const char* kCrictlSettingsPath = "/etc/crictl.yaml";

bool CalledCrictl(std::string_view program) { return program.substr(program.rfind('/') + 1) == "crictl"; }

// crictl's own order: /etc, then beside the program.
std::string DefaultSettingsPath(std::string_view program) {
  size_t slash = program.rfind('/');
  if (!CalledCrictl(program)) return kSettingsPath;
  if (slash == std::string_view::npos || access(kCrictlSettingsPath, F_OK) == 0) return kCrictlSettingsPath;
  std::string beside = StrCat(program.substr(0, slash), "/crictl.yaml");
  return access(beside.c_str(), F_OK) == 0 ? beside : kCrictlSettingsPath;
}

// Flags come before the environment, that before the settings file, that before the default.
Result<> Connect(const Global& global, Session& session) {
  Settings settings = TRY(ReadSettings(global.config));
  session.pull_on_create = settings["pull-image-on-create"] == "true";
  session.no_pull_on_run = settings["disable-pull-on-run"] == "true";
  // gRPC's own complaints repeat what the error says.
  bool debug = global.debug || settings["debug"] == "true";
  setenv("GRPC_VERBOSITY", debug ? "debug" : "none", debug ? 1 : 0);
  std::string runtime =
      FirstOf({global.runtime_endpoint, Environment("CRISP_ENDPOINT"), Environment("CONTAINER_RUNTIME_ENDPOINT"),
               settings["runtime-endpoint"], kDefaultEndpoint});
  std::string image =
      FirstOf({global.image_endpoint, global.runtime_endpoint.empty() ? Environment("IMAGE_SERVICE_ENDPOINT") : "",
               global.runtime_endpoint.empty() ? settings["image-endpoint"] : "", runtime});
  std::string timeout = FirstOf({global.timeout, settings["timeout"]});
  session.timeout = kTimeout;
  if (!timeout.empty()) session.timeout = TRY(ParseDuration(timeout));
  std::string retries = FirstOf({global.retries, settings["max-retries"], "0"});
  auto times = ParseInt<int>(retries);
  if (!times) return Error(Code::kInvalidArgument, StrCat("--max-retries wants a number, not ", Quote(retries)));
  session.client = std::make_unique<Client>(runtime, image, session.timeout, *times);
  return {};
}

void AddIgnored(CLI::App& app, Ignored& ignored) {
  const char* why = "accepted for crictl's sake, without effect";
  app.add_flag("--enable-tracing", ignored.tracing, why);
  app.add_option("--tracing-endpoint", ignored.tracing_endpoint, why);
  app.add_option("--tracing-sampling-rate-per-million", ignored.sampling, why);
  app.add_option("--profile-cpu", ignored.cpu_profile, why);
  app.add_option("--profile-mem", ignored.memory_profile, why);
}

void AddGlobal(CLI::App& app, Global& global) {
  app.add_option("-c,--config", global.config, "settings file")->envname("CRI_CONFIG_FILE");
  app.add_option(
      "-r,--runtime-endpoint", global.runtime_endpoint,
      StrCat("socket of the runtime, also CRISP_ENDPOINT or CONTAINER_RUNTIME_ENDPOINT (", kDefaultEndpoint, ")"));
  app.add_option("-i,--image-endpoint", global.image_endpoint, "socket of the image service, where it is another");
  app.add_option("-t,--timeout", global.timeout, "for calls that answer at once, like 5s (10s)");
  app.add_option("--max-retries", global.retries,
                 "try a connection again so often, with growing pauses; negative: for ever (0)");
  app.add_flag("-D,--debug", global.debug, "let gRPC tell what it does");
}

void AddHelp(CLI::App& app, Session& session) {
  auto* help = app.add_subcommand("help", "what there is, or how a command is used");
  auto name = std::make_shared<std::string>();
  help->add_option("COMMAND", *name);
  help->callback([&app, &session, name] {
    session.action = [&app, name]() -> Result<int> {
      auto found = app.get_subcommands([&](CLI::App* command) { return command->check_name(*name); });
      if (found.empty() && !name->empty()) {
        return Error(Code::kInvalidArgument, StrCat("no such command: ", Quote(*name), " (crispctl help lists them)"));
      }
      // Not app.help(): that shows the help of the command that was called, which is this one.
      CLI::App* command = found.empty() ? &app : found.front();
      Print(app.get_formatter()->make_help(command, command->get_name(), CLI::AppFormatMode::Normal));
      return 0;
    };
  });
}

int Main(int argc, char** argv) {
  CLI::App app("crispctl: the command line of a CRI runtime", "crispctl");
  Global global;
  Session session;
  session.colours = ColoursOfStdout();
  session.terminal = isatty(STDOUT_FILENO) == 1;
  global.config = DefaultSettingsPath(argv[0]);
  Ignored ignored;
  AddGlobal(app, global);
  AddIgnored(app, ignored);
  AddHelp(app, session);
  app.set_version_flag("-v,--version", "crispctl " CRISP_VERSION);
  app.require_subcommand(0, 1);
  AddSystemCommands(app, session);
  AddConfigCommands(app, session);
  AddPullCommands(app, session);
  AddImageCommands(app, session);
  AddPodCommands(app, session);
  AddContainerCommands(app, session);
  AddStreamCommands(app, session);
  AddCheckpointCommands(app, session);
  AddListCommands(app, session);
  AddTreeCommands(app, session);
  AddTraceCommands(app, session);
  AddEventCommands(app, session);
  AddDoctorCommands(app, session);
  AddLogCommands(app, session);
  AddStatsCommands(app, session);
  AddCompletionCommands(app, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (app.exit(e) == 0) return 0;
    if (!CalledCrictl(argv[0])) return kUsage;
    return app.get_subcommands().empty() && dynamic_cast<const CLI::ExtrasError*>(&e) != nullptr ? kCrictlNoCommand
                                                                                                 : kCrictlUsage;
  }
  session.config_path = global.config;
  if (auto connected = Connect(global, session); !connected) {
    PrintError(connected.error());
    return kUsage;
  }
  if (!session.action) {
    std::fputs(app.help().c_str(), stderr);
    return kUsage;
  }
  auto code = session.action();
  if (!code) {
    PrintError(code.error());
    return 1;
  }
  return std::fflush(stdout) == 0 ? *code : 1;
}

}  // namespace
}  // namespace crisp::ctl

int main(int argc, char** argv) { return crisp::ctl::Main(argc, argv); }
