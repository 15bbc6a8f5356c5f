// crispctl: crictl's commands for any CRI runtime, and what CRI lacks for crispd. Called by the name crictl (a link) it
// reads crictl's settings file in place of its own.
// Exit codes: 0 done, 1 failed, 2 the command line was not understood; exec gives the command's own.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "base/strings.h"
#include "ctl/commands/commands.h"
#include "ctl/format.h"
#include "ctl/profile.h"
#include "ctl/settings.h"
#include "ctl/tracing.h"

namespace crisp::ctl {
namespace {

constexpr int kUsage = 2;
// What crictl gives instead.
constexpr int kCrictlUsage = 1, kCrictlNoCommand = 3;
constexpr std::chrono::seconds kTimeout{10};

struct Global {
  std::string runtime_endpoint, image_endpoint, timeout, config, retries, cpu_profile, memory_profile;
  bool debug = false;
};
struct Tracing {
  bool enabled = false;
  std::string endpoint = "127.0.0.1:4317";
  int64_t rate_per_million = -1;
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

// crictl looks for whatever runtime is there; ours never touches another's pods unasked.
std::string DefaultEndpoint(const Session& session) {
  std::vector<std::string> here = SocketsHere();
  return session.program == "crictl" && !here.empty() ? here.front() : kDefaultEndpoint;
}

// Flags come before the environment, that before the settings file, that before the default.
Result<> Connect(const Global& global, Tracer* tracer, Session& session) {
  Settings settings = TRY(ReadSettings(global.config));
  session.pull_on_create = settings["pull-image-on-create"] == "true";
  session.no_pull_on_run = settings["disable-pull-on-run"] == "true";
  // gRPC's own complaints repeat what the error says.
  bool debug = global.debug || settings["debug"] == "true";
  setenv("GRPC_VERBOSITY", debug ? "debug" : "none", debug ? 1 : 0);
  std::string runtime =
      FirstOf({global.runtime_endpoint, Environment("CRISP_ENDPOINT"), Environment("CONTAINER_RUNTIME_ENDPOINT"),
               settings["runtime-endpoint"], DefaultEndpoint(session)});
  std::string image =
      FirstOf({global.image_endpoint, global.runtime_endpoint.empty() ? Environment("IMAGE_SERVICE_ENDPOINT") : "",
               global.runtime_endpoint.empty() ? settings["image-endpoint"] : "", runtime});
  std::string timeout = FirstOf({global.timeout, settings["timeout"]});
  session.timeout = kTimeout;
  if (!timeout.empty()) session.timeout = TRY(ParseDuration(timeout));
  std::string retries = FirstOf({global.retries, settings["max-retries"], "0"});
  auto times = ParseInt<int>(retries);
  if (!times) return Error(Code::kInvalidArgument, StrCat("--max-retries wants a number, not ", Quote(retries)));
  session.client = std::make_unique<Client>(runtime, image, session.timeout, *times, tracer);
  return {};
}

void AddTracing(CLI::App& app, Tracing& tracing) {
  app.add_flag("--enable-tracing", tracing.enabled,
               "send a trace of the command and of its calls to an OpenTelemetry collector");
  app.add_option("--tracing-endpoint", tracing.endpoint,
                 StrCat("the collector's address for OTLP over gRPC without TLS (", tracing.endpoint, ")"));
  app.add_option("--tracing-sampling-rate-per-million", tracing.rate_per_million,
                 "how many of a million commands are traced; negative or 1000000: all (-1)");
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
  app.add_option("--profile-cpu", global.cpu_profile, "write a CPU profile of this program, for pprof");
  app.add_option("--profile-mem", global.memory_profile, "write what memory this program holds at its end, for pprof");
}

// crictl's `ps help` is `ps --help`. exec's words are the command's own.
std::vector<std::string> Arguments(CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  bool asks = words.size() >= 2 && (words.back() == "help" || words.back() == "h");
  if (asks) {
    auto command = FindCommand(app, words[words.size() - 2]);
    if (command && (*command)->get_name() != "exec" && (*command)->get_name() != "help") words.back() = "--help";
  }
  std::reverse(words.begin(), words.end());  // as CLI11 takes them
  return words;
}

// The line was not understood: what it says about that, and the exit code.
int Misunderstood(const CLI::ParseError& error, CLI::App& app, Session& session) {
  bool is_command = app.get_subcommands().empty() && dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  if (is_command && !app.remaining().empty() && !app.remaining().front().starts_with('-')) {
    PrintError(session, FindCommand(app, app.remaining().front()).error());
  } else if (app.exit(error) == 0) {
    return 0;
  }
  if (session.program != "crictl") return kUsage;
  return is_command ? kCrictlNoCommand : kCrictlUsage;
}

Result<int> Act(const Global& global, Session& session) {
  std::optional<CpuProfile> profile;
  if (!global.cpu_profile.empty()) profile.emplace(TRY(CpuProfile::Make(global.cpu_profile)));
  auto code = session.action();
  if (profile) TRY(profile->Write(), "--profile-cpu");
  if (!global.memory_profile.empty()) TRY(WriteHeapProfile(global.memory_profile), "--profile-mem");
  return code;
}

// crictl's names where it is called so: traces of both belong to one service.
Tracer::Options ToOptions(const Tracing& tracing, const Session& session) {
  bool crictl = session.program == "crictl";
  return {.endpoint = tracing.endpoint,
          .rate_per_million = tracing.rate_per_million,
          .service = crictl ? "cri-tools" : session.program,
          .name = crictl ? session.command : StrCat(session.program, " ", session.command),
          .command = session.command};
}

// A collector that is not there is no reason for a command to fail.
void Send(Tracer& tracer, const Session& session, int code, const std::string& message) {
  auto sent = tracer.Export(code, message);
  if (sent) return;
  std::fprintf(stderr, "%s: warning: %s\n", session.program.c_str(), Printable(sent.error().message()).c_str());
}

int Main(int argc, char** argv) {
  CLI::App app("crispctl: the command line of a CRI runtime", "crispctl");
  Global global;
  Tracing tracing;
  std::optional<Tracer> tracer;  // outlives the session's client
  Session session;
  session.colours = ColoursOfStdout();
  session.terminal = isatty(STDOUT_FILENO) == 1;
  if (CalledCrictl(argv[0])) session.program = "crictl";
  global.config = DefaultSettingsPath(argv[0]);
  AddGlobal(app, global);
  AddTracing(app, tracing);
  app.set_version_flag("-v,--version",
                       StrCat(session.program, session.program == "crictl" ? " version " : " ", CRISP_VERSION));
  app.require_subcommand(0, 1);
  AddHelpCommands(app, session);
  AddSystemCommands(app, session);
  AddConfigCommands(app, session);
  AddPullCommands(app, session);
  AddImageCommands(app, session);
  AddPodCommands(app, session);
  AddContainerCommands(app, session);
  AddStreamCommands(app, session);
  AddUpdateCommands(app, session);
  AddCheckpointCommands(app, session);
  AddListCommands(app, session);
  AddTreeCommands(app, session);
  AddTraceCommands(app, session);
  AddEventCommands(app, session);
  AddDoctorCommands(app, session);
  AddLogCommands(app, session);
  AddStatsCommands(app, session);
  AddTopCommands(app, session);
  AddDiskCommands(app, session);
  AddManCommands(app, session);
  AddCompletionCommands(app, session);
  try {
    app.parse(Arguments(app, argc, argv));
  } catch (const CLI::ParseError& e) {
    return Misunderstood(e, app, session);
  }
  session.config_path = global.config;
  if (!app.get_subcommands().empty()) session.command = app.get_subcommands().front()->get_name();
  if (tracing.enabled) tracer.emplace(ToOptions(tracing, session));
  if (auto connected = Connect(global, tracer ? &*tracer : nullptr, session); !connected) {
    PrintError(session, connected.error());
    return session.program == "crictl" ? kCrictlUsage : kUsage;
  }
  if (!session.action) {
    std::fputs(app.help().c_str(), stderr);
    return kUsage;
  }
  auto done = Act(global, session);
  if (!done) PrintError(session, done.error());
  // Before a collector may take its time.
  bool written = std::fflush(stdout) == 0;
  int code = done && written ? *done : 1;
  if (tracer) Send(*tracer, session, code, done ? "" : done.error().message());
  return code;
}

}  // namespace
}  // namespace crisp::ctl

int main(int argc, char** argv) { return crisp::ctl::Main(argc, argv); }
