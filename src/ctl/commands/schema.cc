// jsonschema of create, run, runp and pull: what the files that they read may hold.
#include "ctl/schema.h"

#include "base/json.h"
#include "ctl/commands/commands.h"

namespace crisp::ctl {

namespace {

// crictl's ids, so that editors know the two for the same.
Json PodSchema() {
  return SchemaOf(*cri::PodSandboxConfig::descriptor(),
                  "https://k8s.io/cri-api/pkg/apis/runtime/v1/pod-sandbox-config");
}
Json ContainerSchema() {
  return SchemaOf(*cri::ContainerConfig::descriptor(), "https://k8s.io/cri-api/pkg/apis/runtime/v1/container-config");
}

Result<int> SchemaCommand(CLI::App& schema, bool pod, bool container) {
  if (pod) {
    Print(RenderDocument(PodSchema(), OutputFormat::kJson));
  } else if (container) {
    Print(RenderDocument(ContainerSchema(), OutputFormat::kJson));
  } else {
    Print(schema.get_formatter()->make_help(&schema, schema.get_name(), CLI::AppFormatMode::Normal));
  }
  return 0;
}

}  // namespace

void AddSchema(CLI::App& command, Session& session, SchemaKind kind) {
  auto* schema = command.add_subcommand("jsonschema", "the JSON schema of the files")->alias("js");
  auto pod = std::make_shared<bool>(kind == SchemaKind::kPod);
  auto container = std::make_shared<bool>(false);
  if (kind == SchemaKind::kChosen) {
    schema->add_flag("-p,--pod", *pod, "of the pod's file");
    schema->add_flag("-c,--container", *container, "of the container's file");
  }
  // CLI11 takes words for what is required before it looks for sub-commands: what is required is looked at afterwards.
  std::vector<CLI::Option*> required;
  for (CLI::Option* option : command.get_options()) {
    if (!option->get_required()) continue;
    option->required(false);
    required.push_back(option);
  }
  command.parse_complete_callback([&command, required] {
    if (!command.get_subcommands().empty()) return;
    for (CLI::Option* option : required) {
      if (option->count() == 0) throw CLI::RequiredError(option->get_name());
    }
  });
  schema->callback([=, &session] { session.action = [=] { return SchemaCommand(*schema, *pod, *container); }; });
}

}  // namespace crisp::ctl
