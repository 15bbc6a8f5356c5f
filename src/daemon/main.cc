// crispd: the container runtime's daemon. Parses the command line, reads the configuration, builds the daemon, waits.
#include <absl/synchronization/mutex.h>
#include <grpc/support/log.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "base/log.h"
#include "base/strings.h"
#include "daemon/assembly.h"
#include "daemon/config.h"
#include "daemon/daemon.h"
#include "daemon/notify.h"
#include "sys/file.h"

namespace crisp::daemon {
namespace {

constexpr const char* kDefaultFile = "/etc/crisp/crispd.toml";

struct Arguments {
  std::string file;
  std::vector<std::string> settings;
  std::string config_verb;  // "default", "check", "dump"; "" = run the daemon
};

// Whose value it is that CheckConfig refuses.
std::string Where(const Arguments& arguments, const std::string& text, const std::string& file, const Error& error) {
  for (const std::string& setting : arguments.settings) {
    const std::string key(Trim(std::string_view(setting).substr(0, setting.find('='))));
    if (error.message().starts_with(key + ": ")) return "--set ";
  }
  return PlaceOf(error, text, file);
}

// The file must be there if it was named; the default one may be missing.
Result<Config> LoadConfig(const Arguments& arguments) {
  Config config;
  std::string file = arguments.file.empty() ? kDefaultFile : arguments.file;
  Result<std::string> text = sys::ReadFile(file);
  if (text) {
    TRY(ApplyToml(config, *text, file));
  } else if (!arguments.file.empty() || text.error().code() != Code::kNotFound) {
    return std::move(text).error();
  }
  for (const std::string& setting : arguments.settings) TRY(ApplySetting(config, setting));
  Result<> right = CheckConfig(config);
  if (!right) return Error(Code::kInvalidArgument, Where(arguments, text ? *text : std::string(), file, right.error()) + right.error().message());
  return config;
}

LogLevel LevelOf(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  return name == "error" ? LogLevel::kError : LogLevel::kInfo;
}

void LogOfGrpc(gpr_log_func_args* args) {
  LogLevel level = args->severity == GPR_LOG_SEVERITY_ERROR  ? LogLevel::kError
                   : args->severity == GPR_LOG_SEVERITY_INFO ? LogLevel::kInfo
                                                             : LogLevel::kDebug;
  Log(level, "grpc", {{"text", args->message}});
}

// What must be so before the first thread and the first large allocation.
void PrepareProcess() {
  // Passwords of registries pass through our memory: no core file (row S58), and no look inside for processes that
  // share our user but not all of our capabilities (containers with hostPID).
  prctl(PR_SET_DUMPABLE, 0);
  // Arenas of many threads keep what they once held; two are enough for 2000 calls a second.
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_TRIM_THRESHOLD, 256 << 10);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  // We never fork, and gRPC's support for it costs a lock on each poll.
  setenv("GRPC_ENABLE_FORK_SUPPORT", "false", 1);
  gpr_set_log_function(LogOfGrpc);
  // Debian's library is built with the search for deadlocks on: each of gRPC's locks is entered into a graph.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
}

// Calls that still run are waited for, but not longer than this: being cut off is what every step is made for.
void EndAtTheLatest() {
  constexpr unsigned kSeconds = 10;
  signal(SIGALRM, [](int) { _exit(0); });
  alarm(kSeconds);
}

int Fail(const Error& error) {
  std::cerr << "crispd: " << error.message() << "\n";
  return 1;
}

int ConfigVerb(const Arguments& arguments) {
  if (arguments.config_verb == "default") {
    std::cout << DumpConfig(Config(), true);
    return 0;
  }
  Result<Config> config = LoadConfig(arguments);
  if (!config) return Fail(config.error());
  if (arguments.config_verb == "dump") {
    std::cout << DumpConfig(*config, false);
    return 0;
  }
  const std::vector<std::string> missing = MissingHandlers(*config);
  for (const std::string& name : missing) {
    const std::string text = StrCat("handlers.", name, ".binary: no program ", Quote(config->handlers.at(name).binary), " is there");
    if (name == config->runtime_default_handler) return Fail(Error(Code::kFailedPrecondition, text + ", and it is the default handler's"));
    std::cerr << "crispd: warning: " << text << ", so the handler will be left out\n";
  }
  std::cout << "the configuration is right\n";
  return 0;
}

int RunDaemon(const Arguments& arguments) {
  Result<Config> config = LoadConfig(arguments);
  if (!config) return Fail(config.error());
  PrepareProcess();
  SetLog(LevelOf(config->log_level), config->log_format == "json" ? LogFormat::kJson : LogFormat::kText);
  Notifier notifier;
  Result<std::unique_ptr<Daemon>> daemon = Daemon::Start(*config);
  if (!daemon) {
    LogError("cannot start", {{"error", daemon.error()}});
    return 1;
  }
  (*daemon)->RunUntilSignal(notifier);
  EndAtTheLatest();
  daemon->reset();
  LogInfo("stopped");
  return 0;
}

int Main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("crispd: runs Kubernetes pods", "crispd");
  app.set_version_flag("--version", "crispd " CRISP_VERSION);
  app.add_option("-c,--config", arguments.file,
                 StrCat("configuration file (default: ", kDefaultFile, ", if it is there)"));
  app.add_option("--set", arguments.settings, "one key of the configuration: --set log.level=debug")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  CLI::App* config = app.add_subcommand("config", "look at the configuration instead of running");
  config->fallthrough();
  config->require_subcommand(1);
  for (auto [verb, about] : {std::pair("default", "print the defaults, with explanations"),
                             std::pair("check", "tell whether the configuration is right"),
                             std::pair("dump", "print the configuration as it would be used")}) {
    config->add_subcommand(verb, about)->fallthrough()->callback([&arguments, verb = std::string(verb)] {
      arguments.config_verb = verb;
    });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return arguments.config_verb.empty() ? RunDaemon(arguments) : ConfigVerb(arguments);
}

}  // namespace
}  // namespace crisp::daemon

int main(int argc, char** argv) { return crisp::daemon::Main(argc, argv); }
