// CheckpointContainer, CheckpointPod and RestorePod: a few lines each, like the calls of runtime_service.cc.
#include "base/strings.h"
#include "cri/from_cri.h"
#include "cri/runtime_service.h"
#include "cri/validate.h"

namespace crisp::cri {
namespace {

constexpr Method kCheckpointContainer{"CheckpointContainer", Work::kVerb, false};
constexpr Method kCheckpointPod{"CheckpointPod", Work::kVerb, false};
constexpr Method kRestorePod{"RestorePod", Work::kSandbox, false};

// No option is known yet, and one that is not obeyed must not be taken for one that is (KEP-5823).
Result<> CheckNoOptions(const google::protobuf::Map<std::string, std::string>& options) {
  if (options.empty()) return {};
  return Invalid("options", StrCat("unknown key ", Quote(options.begin()->first)));
}

Result<spec::SandboxConfig> SandboxOf(const v1::RestorePodRequest& request) {
  v1::RunPodSandboxRequest run;
  if (request.has_config()) *run.mutable_config() = request.config();
  run.set_runtime_handler(request.runtime_handler());
  return ToSandboxConfig(run);
}

Result<std::vector<spec::ContainerConfig>> ContainersOf(const v1::RestorePodRequest& request) {
  std::vector<spec::ContainerConfig> configs;
  for (const v1::ContainerConfig& each : request.container_configs()) {
    v1::CreateContainerRequest create;
    *create.mutable_config() = each;
    configs.push_back(TRY(ToContainerConfig(create)));
  }
  return configs;
}

}  // namespace

grpc::ServerUnaryReactor* RuntimeService::CheckpointContainer(grpc::CallbackServerContext* context,
                                                              const v1::CheckpointContainerRequest* request,
                                                              v1::CheckpointContainerResponse* response) {
  using Response = Result<v1::CheckpointContainerResponse>;
  auto call = [this](const Ctx& ctx, const v1::CheckpointContainerRequest& req) -> Response {
    TRY(CheckId("container_id", req.container_id()));
    TRY(CheckAbsolutePath("location", req.location()));
    constexpr int64_t kSecondsMax = 24 * 3600;
    if (req.timeout() < 0 || req.timeout() > kSecondsMax) return Invalid("timeout", "not within 0 s … a day");
    TRY(deps_.pods.CheckpointContainer(ctx, req.container_id(), req.location(), std::chrono::seconds(req.timeout())));
    return v1::CheckpointContainerResponse();
  };
  return Unary(deps_.front, kCheckpointContainer, context, request, response, call);
}

grpc::ServerUnaryReactor* RuntimeService::CheckpointPod(grpc::CallbackServerContext* context,
                                                        const v1::CheckpointPodRequest* request,
                                                        v1::CheckpointPodResponse* response) {
  using Response = Result<v1::CheckpointPodResponse>;
  auto call = [this](const Ctx& ctx, const v1::CheckpointPodRequest& req) -> Response {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    TRY(CheckAbsolutePath("output_path", req.output_path()));
    TRY(CheckNoOptions(req.options()));
    for (const std::string& id : req.container_ids()) TRY(CheckId("container_ids", id));
    std::vector<std::string> ids(req.container_ids().begin(), req.container_ids().end());
    TRY(deps_.pods.CheckpointPod(ctx, req.pod_sandbox_id(), req.output_path(), ids));
    return v1::CheckpointPodResponse();
  };
  return Unary(deps_.front, kCheckpointPod, context, request, response, call);
}

grpc::ServerUnaryReactor* RuntimeService::RestorePod(grpc::CallbackServerContext* context,
                                                     const v1::RestorePodRequest* request,
                                                     v1::RestorePodResponse* response) {
  auto call = [this](const Ctx& ctx, const v1::RestorePodRequest& req) -> Result<v1::RestorePodResponse> {
    TRY(CheckAbsolutePath("checkpoint_path", req.checkpoint_path()));
    TRY(CheckNoOptions(req.options()));
    spec::SandboxConfig sandbox = TRY(SandboxOf(req));
    const std::string& handler = sandbox.runtime_handler;
    if (!handler.empty() && !deps_.runtime.HasHandler(handler)) {
      return Error(Code::kInvalidArgument, StrCat("no runtime handler ", Quote(handler), " is configured"));
    }
    std::vector<spec::ContainerConfig> containers = TRY(ContainersOf(req));
    pod::RestoredPod restored = TRY(deps_.pods.RestorePod(ctx, req.checkpoint_path(), sandbox, containers));
    v1::RestorePodResponse out;
    out.set_pod_sandbox_id(restored.pod.str());
    for (const auto& [name, id] : restored.containers) {
      v1::RestoredContainer* container = out.add_restored_containers();
      container->set_name(name);
      container->set_container_id(id.str());
    }
    return out;
  };
  return Unary(deps_.front, kRestorePod, context, request, response, call);
}

}  // namespace crisp::cri
