// version, info, runtime-config, update-runtime-config: what the runtime tells about itself.
#include "base/json.h"
#include "base/strings.h"
#include "ctl/commands/commands.h"

namespace crisp::ctl {

namespace {

Result<int> ShowVersion(Session& session) {
  auto version = TRY(session.client->Call(&Client::Runtime::Version, {}));
  Print(StrCat("Version:  ", version.version(), "\nRuntimeName:  ", version.runtime_name(), "\nRuntimeVersion:  ",
               version.runtime_version(), "\nRuntimeApiVersion:  ", version.runtime_api_version(), "\n"));
  return 0;
}

Result<int> ShowInfo(Session& session, const OutputOption& output, bool quiet) {
  Output format = TRY(output.Get());
  cri::StatusRequest request;
  request.set_verbose(!quiet);
  auto answer = TRY(session.client->Call(&Client::Runtime::Status, request));
  std::map<std::string, std::string> info(answer.info().begin(), answer.info().end());
  Json document = TRY(StatusToJson(answer.status(), info));
  for (const auto& handler : answer.runtime_handlers()) {
    document["runtimeHandlers"].push_back(TRY(MessageToGoJson(handler)));
  }
  if (answer.has_features()) document["features"] = TRY(MessageToGoJson(answer.features()));
  TRY(PrintDocument(document, format));
  return 0;
}

Result<int> ShowRuntimeConfig(Session& session, const OutputOption& output) {
  auto answer = TRY(session.client->Call(&Client::Runtime::RuntimeConfig, {}));
  Output format = TRY(output.Get());
  if (format.IsTable()) {
    Print(StrCat("cgroup driver:   ", cri::CgroupDriver_Name(answer.linux().cgroup_driver()), "\n"));
    return 0;
  }
  TRY(PrintMessage(answer, format));
  return 0;
}

Result<int> UpdateRuntimeConfig(Session& session, const std::string& pod_cidr) {
  cri::UpdateRuntimeConfigRequest request;
  request.mutable_runtime_config()->mutable_network_config()->set_pod_cidr(pod_cidr);
  TRY(session.client->Call(&Client::Runtime::UpdateRuntimeConfig, request));
  return 0;
}

}  // namespace

void AddSystemCommands(CLI::App& app, Session& session) {
  auto* version = app.add_subcommand("version", "the runtime's name and version");
  version->callback([&session] { session.action = [&session] { return ShowVersion(session); }; });

  auto* info = app.add_subcommand("info", "the runtime's status and configuration");
  auto output = std::make_shared<OutputOption>();
  auto quiet = std::make_shared<bool>(false);
  AddOutput(*info, *output, "json");
  info->add_flag("-q,--quiet", *quiet, "only the conditions");
  info->callback([&session, output, quiet] {
    session.action = [&session, output, quiet] { return ShowInfo(session, *output, *quiet); };
  });

  auto* config = app.add_subcommand("runtime-config", "what the runtime tells the kubelet: its cgroup driver");
  auto config_output = std::make_shared<OutputOption>();
  AddOutput(*config, *config_output, "table");
  config->callback([&session, config_output] {
    session.action = [&session, config_output] { return ShowRuntimeConfig(session, *config_output); };
  });

  auto* update = app.add_subcommand("update-runtime-config", "tell the runtime the node's pod CIDR");
  auto cidr = std::make_shared<std::string>();
  update->add_option("-p,--pod-cidr", *cidr, "like 10.88.0.0/16")->required();
  update->callback(
      [&session, cidr] { session.action = [&session, cidr] { return UpdateRuntimeConfig(session, *cidr); }; });
}

}  // namespace crisp::ctl
