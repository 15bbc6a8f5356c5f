#include "cri/runtime_service.h"

#include <algorithm>

#include "base/strings.h"
#include "base/time.h"
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
constexpr Method kListPodSandbox{"ListPodSandbox", Work::kMemory, true};
constexpr Method kCreateContainer{"CreateContainer", Work::kVerb, false};
constexpr Method kStartContainer{"StartContainer", Work::kVerb, false};
constexpr Method kStopContainer{"StopContainer", Work::kStop, false};
constexpr Method kRemoveContainer{"RemoveContainer", Work::kVerb, false};
constexpr Method kListContainers{"ListContainers", Work::kMemory, true};
constexpr Method kContainerStatus{"ContainerStatus", Work::kMemory, true};
constexpr Method kContainerStatusVerbose{"ContainerStatus", Work::kQuick, true};
constexpr Method kUpdateContainerResources{"UpdateContainerResources", Work::kVerb, false};
constexpr Method kReopenContainerLog{"ReopenContainerLog", Work::kQuick, false};
constexpr Method kContainerStats{"ContainerStats", Work::kQuick, true};
constexpr Method kListContainerStats{"ListContainerStats", Work::kQuick, true};
constexpr Method kExecSync{"ExecSync", Work::kExec, true};

constexpr const char* kApiVersion = "v1";
constexpr const char* kKubeletVersion = "0.1.0";  // the one value that the kubelet accepts

// Plans refuse pods with user namespaces for now, whatever the OCI runtime could do.
constexpr bool kUserNamespaces = false;

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

std::chrono::seconds Seconds(int64_t value) {
  constexpr int64_t kLongest = 10LL * 365 * 24 * 3600;
  return std::chrono::seconds(std::clamp<int64_t>(value, 0, kLongest));
}

grpc::ServerUnaryReactor* Unimplemented(grpc::CallbackServerContext* context, const char* name) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish({grpc::StatusCode::UNIMPLEMENTED, StrCat(name, " is not implemented")});
  return reactor;
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
      handler->mutable_features()->set_user_namespaces(features.user_namespaces && kUserNamespaces);
    }
  }
  out.mutable_features()->set_supplemental_groups_policy(true);
  if (verbose) {
    out.mutable_info()->insert(facts_.info.begin(), facts_.info.end());
    if (!network.conflist_json.empty()) (*out.mutable_info())["cniconfig"] = network.conflist_json;
  }
  return out;
}

Result<v1::PodSandboxStatusResponse> RuntimeService::MakeSandboxStatus(
    const v1::PodSandboxStatusRequest& request) const {
  TRY(CheckId("pod_sandbox_id", request.pod_sandbox_id()));
  pod::SandboxRef sandbox = TRY(deps_.pods.GetSandbox(request.pod_sandbox_id()));
  v1::PodSandboxStatusResponse out;
  *out.mutable_status() = SandboxStatusToCri(*sandbox);
  out.set_timestamp(UnixNanosNow());
  for (const pod::ContainerRef& container :
       deps_.pods.ListContainers({.id = {}, .pod = sandbox->id.str(), .state = {}, .labels = {}})) {
    *out.add_containers_statuses() = ContainerStatusToCri(*container);
  }
  if (request.verbose()) {
    Info info = SandboxInfo(*sandbox);
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

Result<v1::ListContainerStatsResponse> RuntimeService::ListStats(const Ctx& ctx,
                                                                 const v1::ListContainerStatsRequest& request) {
  pod::ContainerFilter filter{
      .id = request.filter().id(),
      .pod = request.filter().pod_sandbox_id(),
      .state = {},
      .labels = {request.filter().label_selector().begin(), request.filter().label_selector().end()}};
  v1::ListContainerStatsResponse out;
  for (const pod::ContainerRef& container : deps_.pods.ListContainers(filter)) {
    TRY(ctx.Check());
    *out.add_stats() = stats_.Make(ctx, *container);
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

CALL(ListPodSandbox, ListPodSandboxRequest, ListPodSandboxResponse) {
  HANDLE(kListPodSandbox, ListPodSandboxRequest, ListPodSandboxResponse) {
    v1::ListPodSandboxResponse out;
    for (const pod::SandboxRef& sandbox : deps_.pods.ListSandboxes(TRY(ToFilter(req.filter())))) {
      *out.add_items() = SandboxToCri(*sandbox);
    }
    return out;
  });
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

CALL(ListContainers, ListContainersRequest, ListContainersResponse) {
  HANDLE(kListContainers, ListContainersRequest, ListContainersResponse) {
    v1::ListContainersResponse out;
    for (const pod::ContainerRef& container : deps_.pods.ListContainers(TRY(ToFilter(req.filter())))) {
      *out.add_containers() = ContainerToCri(*container);
    }
    return out;
  });
}

CALL(ContainerStatus, ContainerStatusRequest, ContainerStatusResponse) {
  const Method& method = request->verbose() ? kContainerStatusVerbose : kContainerStatus;
  HANDLE(method, ContainerStatusRequest, ContainerStatusResponse) { return MakeContainerStatus(req); });
}

CALL(UpdateContainerResources, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse) {
  HANDLE(kUpdateContainerResources, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse) {
    TRY(CheckId("container_id", req.container_id()));
    spec::Resources resources = TRY(ToResources("linux", req.linux()));
    spec::StringMap annotations(req.annotations().begin(), req.annotations().end());
    TRY(deps_.pods.UpdateResources(ctx, req.container_id(), resources, annotations));
    return v1::UpdateContainerResourcesResponse();
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
    if (req.cmd().empty()) return Invalid("cmd", "missing");
    for (const std::string& word : req.cmd()) TRY(CheckText("cmd", word));
    if (req.timeout() < 0) return Invalid("timeout", "negative");
    std::vector<std::string> cmd(req.cmd().begin(), req.cmd().end());
    pod::ExecOutput output = TRY(deps_.pods.ExecSync(ctx, req.container_id(), cmd, Seconds(req.timeout())));
    v1::ExecSyncResponse out;
    out.set_stdout(std::move(output.out));
    out.set_stderr(std::move(output.err));
    out.set_exit_code(output.exit_code);
    return out;
  });
}

CALL(ContainerStats, ContainerStatsRequest, ContainerStatsResponse) {
  HANDLE(kContainerStats, ContainerStatsRequest, ContainerStatsResponse) {
    TRY(CheckId("container_id", req.container_id()));
    pod::ContainerRef container = TRY(deps_.pods.GetContainer(req.container_id()));
    v1::ContainerStatsResponse out;
    *out.mutable_stats() = stats_.Make(ctx, *container);
    return out;
  });
}

CALL(ListContainerStats, ListContainerStatsRequest, ListContainerStatsResponse) {
  HANDLE(kListContainerStats, ListContainerStatsRequest, ListContainerStatsResponse) { return ListStats(ctx, req); });
}

#undef CALL
#undef HANDLE

#define CRISP_UNIMPLEMENTED(name, Request, Response)                                                       \
  grpc::ServerUnaryReactor* RuntimeService::name(grpc::CallbackServerContext* context, const v1::Request*, \
                                                 v1::Response*) {                                          \
    return Unimplemented(context, #name);                                                                  \
  }
CRISP_UNIMPLEMENTED(Exec, ExecRequest, ExecResponse)
CRISP_UNIMPLEMENTED(Attach, AttachRequest, AttachResponse)
CRISP_UNIMPLEMENTED(PortForward, PortForwardRequest, PortForwardResponse)
CRISP_UNIMPLEMENTED(PodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse)
CRISP_UNIMPLEMENTED(ListPodSandboxStats, ListPodSandboxStatsRequest, ListPodSandboxStatsResponse)
CRISP_UNIMPLEMENTED(ListMetricDescriptors, ListMetricDescriptorsRequest, ListMetricDescriptorsResponse)
CRISP_UNIMPLEMENTED(ListPodSandboxMetrics, ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse)
CRISP_UNIMPLEMENTED(UpdatePodSandboxResources, UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse)
#undef CRISP_UNIMPLEMENTED

}  // namespace crisp::cri
