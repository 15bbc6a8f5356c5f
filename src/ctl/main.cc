// crispctl: crictl's commands for any CRI runtime, and what CRI lacks for crispd.
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
constexpr std::chrono::seconds kTimeout{10};

struct Global {
  std::string runtime_endpoint, image_endpoint, timeout, config = kSettingsPath;
  bool debug = false;
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

// Flags come before the environment, that before the settings file, that before the default.
Result<> Connect(const Global& global, Session& session) {
  Settings settings = TRY(ReadSettings(global.config));
  std::string runtime =
      FirstOf({global.runtime_endpoint, Environment("CRISP_ENDPOINT"), Environment("CONTAINER_RUNTIME_ENDPOINT"),
               settings["runtime-endpoint"], kDefaultEndpoint});
  std::string image =
      FirstOf({global.image_endpoint, global.runtime_endpoint.empty() ? Environment("IMAGE_SERVICE_ENDPOINT") : "",
               global.runtime_endpoint.empty() ? settings["image-endpoint"] : "", runtime});
  std::string timeout = FirstOf({global.timeout, settings["timeout"]});
  session.timeout = kTimeout;
  if (!timeout.empty()) session.timeout = TRY(ParseDuration(timeout));
  session.client = std::make_unique<Client>(runtime, image, session.timeout);
  return {};
}

void AddGlobal(CLI::App& app, Global& global) {
  app.add_option("-c,--config", global.config, "settings file")->envname("CRI_CONFIG_FILE");
  app.add_option(
      "-r,--runtime-endpoint", global.runtime_endpoint,
      StrCat("socket of the runtime, also CRISP_ENDPOINT or CONTAINER_RUNTIME_ENDPOINT (", kDefaultEndpoint, ")"));
  app.add_option("-i,--image-endpoint", global.image_endpoint, "socket of the image service, where it is another");
  app.add_option("-t,--timeout", global.timeout, "for calls that answer at once, like 5s (10s)");
  app.add_flag("-D,--debug", global.debug, "let gRPC tell what it does");
}

int Main(int argc, char** argv) {
  CLI::App app("crispctl: the command line of a CRI runtime", "crispctl");
  Global global;
  Session session;
  session.colours = ColoursOfStdout();
  session.terminal = isatty(STDOUT_FILENO) == 1;
  AddGlobal(app, global);
  app.set_version_flag("--version", "crispctl " CRISP_VERSION);
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
  AddLogCommands(app, session);
  AddStatsCommands(app, session);
  AddCompletionCommands(app, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : kUsage;
  }
  session.config_path = global.config;
  if (global.debug) setenv("GRPC_VERBOSITY", "debug", 1);
  // gRPC's own complaints repeat what the error says.
  else
    setenv("GRPC_VERBOSITY", "none", 0);

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
