#include "cri/runtime_service.h"

#include <algorithm>

#include "base/strings.h"
#include "cri/from_cri.h"
#include "cri/to_cri.h"
#include "cri/validate.h"

namespace crisp::cri {
namespace {

// Verbose statuses read a bundle's file, the others answer from memory: each has two entries.
constexpr Method kVersion{"Version", Work::kMemory, true};
constexpr Method kStatus{"Status", Work::kQuick, true};  // the first asks the OCI runtimes what they can do
constexpr Method kRuntimeConfig{"RuntimeConfig", Work::kMemory, true};
constexpr Method kUpdateRuntimeConfig{"UpdateRuntimeConfig", Work::kQuick, false};
constexpr Method kRunPodSandbox{"RunPodSandbox", Work::kSandbox, false};
constexpr Method kStopPodSandbox{"StopPodSandbox", Work::kSandbox, false};
constexpr Method kRemovePodSandbox{"RemovePodSandbox", Work::kSandbox, false};
constexpr Method kPodSandboxStatus{"PodSandboxStatus", Work::kMemory, true};
constexpr Method kCreateContainer{"CreateContainer", Work::kVerb, false};
constexpr Method kStartContainer{"StartContainer", Work::kVerb, false};
constexpr Method kStopContainer{"StopContainer", Work::kStop, false};
constexpr Method kRemoveContainer{"RemoveContainer", Work::kVerb, false};
constexpr Method kContainerStatus{"ContainerStatus", Work::kMemory, true};
constexpr Method kContainerStatusVerbose{"ContainerStatus", Work::kQuick, true};
constexpr Method kUpdateContainerResources{"UpdateContainerResources", Work::kVerb, false};
constexpr Method kUpdatePodSandboxResources{"UpdatePodSandboxResources", Work::kVerb, false};
constexpr Method kReopenContainerLog{"ReopenContainerLog", Work::kQuick, false};
constexpr Method kExecSync{"ExecSync", Work::kExec, true};
constexpr Method kExec{"Exec", Work::kMemory, false};
constexpr Method kAttach{"Attach", Work::kMemory, false};
constexpr Method kPortForward{"PortForward", Work::kMemory, false};

constexpr const char* kApiVersion = "v1";
constexpr const char* kKubeletVersion = "0.1.0";  // the one value that the kubelet accepts

v1::RuntimeCondition Condition(const char* type, bool status, const std::string& reason, const std::string& message) {
  v1::RuntimeCondition condition;
  condition.set_type(type);
  condition.set_status(status);
  condition.set_reason(reason);
  condition.set_message(message);
  return condition;
}

// The container's sandbox_config is the pod's, told again. What it says must be about the pod named by id; what counts
// is what the pod was made with.
Result<> CheckSandboxConfig(const v1::CreateContainerRequest& request, const pod::SandboxStatus& sandbox) {
  if (!request.sandbox_config().has_metadata()) return {};
  const v1::PodSandboxMetadata& told = request.sandbox_config().metadata();
  const spec::SandboxMetadata& ours = sandbox.config.metadata;
  if (told.name() == ours.name && told.namespace_() == ours.pod_namespace && told.uid() == ours.uid) return {};
  return Invalid("sandbox_config.metadata",
                 StrCat("names another pod than ", sandbox.id.str(), " (", ours.pod_namespace, "/", ours.name, ")"));
}

template <class Request>
pod::StreamWants ToWants(const Request& request) {
  return {.tty = request.tty(), .in = request.stdin(), .out = request.stdout(), .err = request.stderr()};
}

Result<std::vector<std::string>> ToCommand(const google::protobuf::RepeatedPtrField<std::string>& words) {
  if (words.empty()) return Invalid("cmd", "missing");
  for (const std::string& word : words) TRY(CheckText("cmd", word));
  return std::vector<std::string>(words.begin(), words.end());
}

std::chrono::seconds Seconds(int64_t value) {
  constexpr int64_t kLongest = 10LL * 365 * 24 * 3600;
  return std::chrono::seconds(std::clamp<int64_t>(value, 0, kLongest));
}

}  // namespace

Result<v1::StatusResponse> RuntimeService::MakeStatus(bool verbose) const {
  v1::StatusResponse out;
  network::NetworkStatus network = deps_.network.Status();
  bool runs = deps_.runtime.HasHandler(facts_.default_handler);
  *out.mutable_status()->add_conditions() =
      Condition("RuntimeReady", runs, runs ? "" : "DefaultHandlerMissing",
                runs ? "" : StrCat("runtime handler \"", facts_.default_handler, "\" cannot be used"));
  *out.mutable_status()->add_conditions() = Condition("NetworkReady", network.ready, network.reason, network.message);
  for (const auto& [name, features] : deps_.runtime.Handlers()) {
    for (const std::string& shown : {name, std::string()}) {
      if (shown.empty() && name != facts_.default_handler) continue;
      v1::RuntimeHandler* handler = out.add_runtime_handlers();
      handler->set_name(shown);
      handler->mutable_features()->set_recursive_read_only_mounts(features.recursive_read_only_mounts);
      handler->mutable_features()->set_user_namespaces(features.user_namespaces);
    }
  }
  out.mutable_features()->set_supplemental_groups_policy(true);
  out.mutable_features()->set_mount_options(true);
  if (verbose) {
    out.mutable_info()->insert(facts_.info.begin(), facts_.info.end());
    if (!network.conflist_json.empty()) (*out.mutable_info())["cniconfig"] = network.conflist_json;
  }
  return out;
}

Result<v1::PodSandboxStatusResponse> RuntimeService::MakeSandboxStatus(
    const v1::PodSandboxStatusRequest& request) const {
  TRY(CheckId("pod_sandbox_id", request.pod_sandbox_id()));
  // One moment's truth: the kubelet takes these container statuses for its own questions, and the timestamp to tell
  // which of a status and an event is the newer.
  pod::PodSnapshot pod = TRY(deps_.pods.GetPod(request.pod_sandbox_id()));
  v1::PodSandboxStatusResponse out;
  *out.mutable_status() = SandboxStatusToCri(*pod.sandbox);
  out.set_timestamp(pod.at);
  for (const pod::ContainerRef& container : pod.containers) {
    *out.add_containers_statuses() = ContainerStatusToCri(*container);
  }
  if (request.verbose()) {
    Info info = SandboxInfo(*pod.sandbox);
    info.merge(TimingInfo(deps_.pods.Timings(request.pod_sandbox_id())));
    out.mutable_info()->insert(info.begin(), info.end());
  }
  return out;
}

Result<v1::ContainerStatusResponse> RuntimeService::MakeContainerStatus(
    const v1::ContainerStatusRequest& request) const {
  TRY(CheckId("container_id", request.container_id()));
  pod::ContainerRef container = TRY(deps_.pods.GetContainer(request.container_id()));
  v1::ContainerStatusResponse out;
  *out.mutable_status() = ContainerStatusToCri(*container);
  if (request.verbose()) {
    Info info = ContainerInfo(*container);
    out.mutable_info()->insert(info.begin(), info.end());
  }
  return out;
}

// The calls. `CALL` opens the adapter with `ctx` and `request` in the handler's scope.
#define CALL(name, Request, Response)                                                                              \
  grpc::ServerUnaryReactor* RuntimeService::name(grpc::CallbackServerContext* context, const v1::Request* request, \
                                                 v1::Response* response)
#define HANDLE(method, Request, Response)                       \
  return Unary(deps_.front, method, context, request, response, \
               [this]([[maybe_unused]] const Ctx& ctx, [[maybe_unused]] const v1::Request& req) -> Result<v1::Response>

CALL(Version, VersionRequest, VersionResponse) {
  HANDLE(kVersion, VersionRequest, VersionResponse) {
    v1::VersionResponse out;
    out.set_version(kKubeletVersion);
    out.set_runtime_name("crisp");
    out.set_runtime_version(facts_.version);
    out.set_runtime_api_version(kApiVersion);
    return out;
  });
}

CALL(Status, StatusRequest, StatusResponse) {
  HANDLE(kStatus, StatusRequest, StatusResponse) { return MakeStatus(req.verbose()); });
}

CALL(RuntimeConfig, RuntimeConfigRequest, RuntimeConfigResponse) {
  HANDLE(kRuntimeConfig, RuntimeConfigRequest, RuntimeConfigResponse) {
    v1::RuntimeConfigResponse out;
    bool systemd = deps_.cgroups.driver() == cgroup::Driver::kSystemd;
    out.mutable_linux()->set_cgroup_driver(systemd ? v1::SYSTEMD : v1::CGROUPFS);
    return out;
  });
}

CALL(UpdateRuntimeConfig, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse) {
  HANDLE(kUpdateRuntimeConfig, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse) {
    const std::string& cidr = req.runtime_config().network_config().pod_cidr();
    if (!cidr.empty()) TRY(deps_.network.SetPodCidr(cidr));
    return v1::UpdateRuntimeConfigResponse();
  });
}

CALL(RunPodSandbox, RunPodSandboxRequest, RunPodSandboxResponse) {
  HANDLE(kRunPodSandbox, RunPodSandboxRequest, RunPodSandboxResponse) {
    spec::SandboxConfig config = TRY(ToSandboxConfig(req));
    const std::string& handler = config.runtime_handler;
    if (!handler.empty() && !deps_.runtime.HasHandler(handler)) {
      return Error(Code::kInvalidArgument, StrCat("no runtime handler ", Quote(handler), " is configured"));
    }
    v1::RunPodSandboxResponse out;
    out.set_pod_sandbox_id(TRY(deps_.pods.RunSandbox(ctx, config)).str());
    return out;
  });
}

CALL(StopPodSandbox, StopPodSandboxRequest, StopPodSandboxResponse) {
  HANDLE(kStopPodSandbox, StopPodSandboxRequest, StopPodSandboxResponse) {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    TRY(deps_.pods.StopSandbox(ctx, req.pod_sandbox_id()));
    return v1::StopPodSandboxResponse();
  });
}

CALL(RemovePodSandbox, RemovePodSandboxRequest, RemovePodSandboxResponse) {
  HANDLE(kRemovePodSandbox, RemovePodSandboxRequest, RemovePodSandboxResponse) {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    TRY(deps_.pods.RemoveSandbox(ctx, req.pod_sandbox_id()));
    return v1::RemovePodSandboxResponse();
  });
}

CALL(PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse) {
  HANDLE(kPodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse) { return MakeSandboxStatus(req); });
}

CALL(CreateContainer, CreateContainerRequest, CreateContainerResponse) {
  HANDLE(kCreateContainer, CreateContainerRequest, CreateContainerResponse) {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    spec::ContainerConfig config = TRY(ToContainerConfig(req));
    pod::SandboxRef sandbox = TRY(deps_.pods.GetSandbox(req.pod_sandbox_id()));
    TRY(CheckSandboxConfig(req, *sandbox));
    v1::CreateContainerResponse out;
    out.set_container_id(TRY(deps_.pods.CreateContainer(ctx, sandbox->id.str(), config)).str());
    return out;
  });
}

CALL(StartContainer, StartContainerRequest, StartContainerResponse) {
  HANDLE(kStartContainer, StartContainerRequest, StartContainerResponse) {
    TRY(CheckId("container_id", req.container_id()));
    TRY(deps_.pods.StartContainer(ctx, req.container_id()));
    return v1::StartContainerResponse();
  });
}

CALL(StopContainer, StopContainerRequest, StopContainerResponse) {
  HANDLE(kStopContainer, StopContainerRequest, StopContainerResponse) {
    TRY(CheckId("container_id", req.container_id()));
    TRY(deps_.pods.StopContainer(ctx, req.container_id(), Seconds(req.timeout())));
    return v1::StopContainerResponse();
  });
}

CALL(RemoveContainer, RemoveContainerRequest, RemoveContainerResponse) {
  HANDLE(kRemoveContainer, RemoveContainerRequest, RemoveContainerResponse) {
    TRY(CheckId("container_id", req.container_id()));
    TRY(deps_.pods.RemoveContainer(ctx, req.container_id()));
    return v1::RemoveContainerResponse();
  });
}

CALL(ContainerStatus, ContainerStatusRequest, ContainerStatusResponse) {
  const Method& method = request->verbose() ? kContainerStatusVerbose : kContainerStatus;
  HANDLE(method, ContainerStatusRequest, ContainerStatusResponse) { return MakeContainerStatus(req); });
}

CALL(UpdateContainerResources, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse) {
  HANDLE(kUpdateContainerResources, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse) {
    TRY(CheckId("container_id", req.container_id()));
    if (!req.has_linux()) return Invalid("linux", "missing: there is nothing to update");
    spec::Resources resources = TRY(ToResources("linux", req.linux()));
    spec::StringMap annotations(req.annotations().begin(), req.annotations().end());
    TRY(deps_.pods.UpdateResources(ctx, req.container_id(), resources, annotations));
    return v1::UpdateContainerResourcesResponse();
  });
}

CALL(UpdatePodSandboxResources, UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse) {
  HANDLE(kUpdatePodSandboxResources, UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse) {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    pod::SandboxResources update;
    if (req.has_overhead()) update.overhead = TRY(ToResources("overhead", req.overhead()));
    if (req.has_resources()) update.resources = TRY(ToResources("resources", req.resources()));
    TRY(deps_.pods.UpdateSandboxResources(ctx, req.pod_sandbox_id(), update));
    return v1::UpdatePodSandboxResourcesResponse();
  });
}

CALL(ReopenContainerLog, ReopenContainerLogRequest, ReopenContainerLogResponse) {
  HANDLE(kReopenContainerLog, ReopenContainerLogRequest, ReopenContainerLogResponse) {
    TRY(CheckId("container_id", req.container_id()));
    TRY(deps_.pods.ReopenLog(ctx, req.container_id()));
    return v1::ReopenContainerLogResponse();
  });
}

CALL(ExecSync, ExecSyncRequest, ExecSyncResponse) {
  HANDLE(kExecSync, ExecSyncRequest, ExecSyncResponse) {
    TRY(CheckId("container_id", req.container_id()));
    std::vector<std::string> cmd = TRY(ToCommand(req.cmd()));
    if (req.timeout() < 0) return Invalid("timeout", "negative");
    pod::ExecOutput output = TRY(deps_.pods.ExecSync(ctx, req.container_id(), cmd, Seconds(req.timeout())));
    v1::ExecSyncResponse out;
    out.set_stdout(std::move(output.out));
    out.set_stderr(std::move(output.err));
    out.set_exit_code(output.exit_code);
    return out;
  });
}

// Refused here already: what would only fail when the client has dialled.
CALL(Exec, ExecRequest, ExecResponse) {
  HANDLE(kExec, ExecRequest, ExecResponse) {
    TRY(CheckId("container_id", req.container_id()));
    std::vector<std::string> cmd = TRY(ToCommand(req.cmd()));
    pod::StreamWants wants = ToWants(req);
    pod::ContainerRef container = TRY(deps_.pods.GetContainer(req.container_id()));
    TRY(deps_.pods.CheckExec(container->id.str(), wants));
    v1::ExecResponse out;
    out.set_url(TRY(deps_.streams.ExecUrl(container->id.str(), cmd, wants)));
    return out;
  });
}

CALL(Attach, AttachRequest, AttachResponse) {
  HANDLE(kAttach, AttachRequest, AttachResponse) {
    TRY(CheckId("container_id", req.container_id()));
    pod::StreamWants wants = ToWants(req);
    pod::ContainerRef container = TRY(deps_.pods.GetContainer(req.container_id()));
    TRY(deps_.pods.CheckAttach(container->id.str(), wants));
    v1::AttachResponse out;
    out.set_url(TRY(deps_.streams.AttachUrl(container->id.str(), wants)));
    return out;
  });
}

CALL(PortForward, PortForwardRequest, PortForwardResponse) {
  HANDLE(kPortForward, PortForwardRequest, PortForwardResponse) {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    std::vector<uint16_t> ports;
    for (int32_t port : req.port()) {
      if (port < 1 || port > UINT16_MAX) return Invalid("port", StrCat(port, " is no port"));
      ports.push_back(static_cast<uint16_t>(port));
    }
    pod::SandboxRef sandbox = TRY(deps_.pods.GetSandbox(req.pod_sandbox_id()));
    TRY(deps_.pods.CheckPortForward(sandbox->id.str()));
    v1::PortForwardResponse out;
    out.set_url(TRY(deps_.streams.PortForwardUrl(sandbox->id.str(), ports)));
    return out;
  });
}

#undef CALL
#undef HANDLE

}  // namespace crisp::cri
