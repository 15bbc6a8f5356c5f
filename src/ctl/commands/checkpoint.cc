// checkpoint: as crictl's.
#include "base/strings.h"
#include "ctl/commands/commands.h"

namespace crisp::ctl {

namespace {

struct CheckpointOptions {
  std::string container, path;
};

Result<int> CheckpointCommand(Session& session, const CheckpointOptions& options) {
  cri::CheckpointContainerRequest request;
  request.set_container_id(TRY(FindContainer(*session.client, options.container)));
  request.set_location(options.path);
  TRY(session.client->Call(&Client::Runtime::CheckpointContainer, request, kPodTimeout),
      StrCat("checkpoint container ", options.container));
  Print(request.container_id() + "\n");
  return 0;
}

}  // namespace

void AddCheckpointCommands(CLI::App& app, Session& session) {
  auto* checkpoint = app.add_subcommand("checkpoint", "write a running container's checkpoint to a file of the node");
  auto options = std::make_shared<CheckpointOptions>();
  checkpoint->add_option("CONTAINER", options->container)->required();
  checkpoint->add_option("-e,--export", options->path, "absolute path of the archive; must not exist")->required();
  checkpoint->callback(
      [=, &session] { session.action = [=, &session] { return CheckpointCommand(session, *options); }; });
}

}  // namespace crisp::ctl
