// checkpoint, as crictl's; checkpointp and restorep, the same of whole pods.
#include "base/strings.h"
#include "ctl/commands/commands.h"

namespace crisp::ctl {

namespace {

struct CheckpointOptions {
  std::vector<std::string> containers;
  std::string path;
};

Result<int> CheckpointCommand(Session& session, const CheckpointOptions& options) {
  return ForEach(session, options.containers, [&](const std::string& text) -> Result<> {
    cri::CheckpointContainerRequest request;
    request.set_container_id(TRY(FindContainer(*session.client, text)));
    request.set_location(options.path);
    TRY(session.client->Call(&Client::Runtime::CheckpointContainer, request, kPodTimeout),
        StrCat("checkpoint container ", text));
    Print(request.container_id() + "\n");
    return {};
  });
}

struct CheckpointPodOptions {
  std::string pod, path;
  std::vector<std::string> containers;
};

Result<int> CheckpointPodCommand(Session& session, const CheckpointPodOptions& options) {
  cri::CheckpointPodRequest request;
  request.set_pod_sandbox_id(TRY(FindPod(*session.client, options.pod)));
  request.set_output_path(options.path);
  for (const std::string& text : options.containers) {
    request.add_container_ids(TRY(FindContainer(*session.client, text)));
  }
  TRY(session.client->Call(&Client::Runtime::CheckpointPod, request, kPodTimeout),
      StrCat("checkpoint pod ", options.pod));
  Print(request.pod_sandbox_id() + "\n");
  return 0;
}

struct RestorePodOptions {
  std::string path, pod_file, handler;
  std::vector<std::string> container_files;
};

Result<int> RestorePodCommand(Session& session, const RestorePodOptions& options) {
  cri::RestorePodRequest request;
  request.set_checkpoint_path(options.path);
  request.set_runtime_handler(options.handler);
  if (!options.pod_file.empty()) TRY(ReadMessage(options.pod_file, *request.mutable_config()));
  for (const std::string& file : options.container_files) TRY(ReadMessage(file, *request.add_container_configs()));
  auto restored = TRY(session.client->Call(&Client::Runtime::RestorePod, request, kPodTimeout),
                      StrCat("restore a pod from ", options.path));
  Print(restored.pod_sandbox_id() + "\n");
  for (const auto& container : restored.restored_containers()) {
    Print(StrCat(container.container_id(), " ", container.name(), "\n"));
  }
  return 0;
}

}  // namespace

void AddCheckpointCommands(CLI::App& app, Session& session) {
  auto* checkpoint = app.add_subcommand("checkpoint", "write a running container's checkpoint to a file of the node");
  auto options = std::make_shared<CheckpointOptions>();
  checkpoint->add_option("CONTAINER", options->containers)->required();
  checkpoint->add_option("-e,--export", options->path, "absolute path of the archive; must not exist");
  SetAction(*checkpoint, session, [=, &session] { return CheckpointCommand(session, *options); });

  auto* checkpointp = app.add_subcommand("checkpointp", "write checkpoints of a pod's containers to the node");
  auto pod = std::make_shared<CheckpointPodOptions>();
  checkpointp->add_option("POD", pod->pod)->required();
  checkpointp->add_option("-e,--export", pod->path, "absolute path of the directory; must not exist")->required();
  checkpointp->add_option("--container", pod->containers, "only this one, repeated")->allow_extra_args(false);
  SetAction(*checkpointp, session, [=, &session] { return CheckpointPodCommand(session, *pod); });

  auto* restorep = app.add_subcommand("restorep", "make a pod of the checkpoints of another; prints the new ids");
  auto restore = std::make_shared<RestorePodOptions>();
  restorep->add_option("PATH", restore->path, "what checkpointp wrote, an absolute path")->required();
  restorep->add_option("--pod-config", restore->pod_file, "the new pod, JSON or YAML")->required();
  restorep->add_option("--container-config", restore->container_files, "a container of it, JSON or YAML, repeated")
      ->allow_extra_args(false);
  restorep->add_option("-r,--runtime", restore->handler, "runtime handler");
  SetAction(*restorep, session, [=, &session] { return RestorePodCommand(session, *restore); });
}

}  // namespace crisp::ctl
