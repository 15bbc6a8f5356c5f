// CRI's RuntimeService. Each call: check and convert (from_cri.h), ask the manager, convert back. Calls that it does
// not implement answer UNIMPLEMENTED by name. Threading: any thread (gRPC's). Everything in Deps outlives the service.
#pragma once

#include "cri/v1/api.grpc.pb.h"

#include "cgroup/cgroup.h"
#include "cri/call.h"
#include "cri/event_streams.h"
#include "cri/info.h"
#include "cri/stats.h"
#include "cri/streams.h"
#include "network/network.h"
#include "pod/manager.h"
#include "runtime/runtime.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

class RuntimeService final : public v1::RuntimeService::CallbackService {
 public:
  struct Deps {
    Front& front;
    pod::Manager& pods;
    network::Network& network;
    runtime::Runtime& runtime;
    cgroup::Cgroups& cgroups;
    DiskUsage& layers;  // of the containers' writable layers
    Streams& streams;
  };
  struct Facts {
    std::string version;          // of crispd
    std::string default_handler;  // also reported under the name ""
    Info info;                    // for Status with verbose: "config" and whatever else does not change
    EventStreams::Options events = {};
  };
  RuntimeService(Deps deps, Facts facts)
      : deps_(deps), facts_(std::move(facts)), stats_(deps.cgroups, deps.layers), events_(deps.pods, facts_.events) {}

  // Ends the streams that have no end of their own. To be called before the server shuts down.
  void CloseStreams() { events_.Close(); }

// The signature that the generated base class gives each unary call.
#define CRISP_CRI_CALL(name, Request, Response)                                                    \
  grpc::ServerUnaryReactor* name(grpc::CallbackServerContext* context, const v1::Request* request, \
                                 v1::Response* response) override
  CRISP_CRI_CALL(Version, VersionRequest, VersionResponse);
  CRISP_CRI_CALL(Status, StatusRequest, StatusResponse);
  CRISP_CRI_CALL(RuntimeConfig, RuntimeConfigRequest, RuntimeConfigResponse);
  CRISP_CRI_CALL(UpdateRuntimeConfig, UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse);

  CRISP_CRI_CALL(RunPodSandbox, RunPodSandboxRequest, RunPodSandboxResponse);
  CRISP_CRI_CALL(StopPodSandbox, StopPodSandboxRequest, StopPodSandboxResponse);
  CRISP_CRI_CALL(RemovePodSandbox, RemovePodSandboxRequest, RemovePodSandboxResponse);
  CRISP_CRI_CALL(PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse);
  CRISP_CRI_CALL(ListPodSandbox, ListPodSandboxRequest, ListPodSandboxResponse);

  CRISP_CRI_CALL(CreateContainer, CreateContainerRequest, CreateContainerResponse);
  CRISP_CRI_CALL(StartContainer, StartContainerRequest, StartContainerResponse);
  CRISP_CRI_CALL(StopContainer, StopContainerRequest, StopContainerResponse);
  CRISP_CRI_CALL(RemoveContainer, RemoveContainerRequest, RemoveContainerResponse);
  CRISP_CRI_CALL(ListContainers, ListContainersRequest, ListContainersResponse);
  CRISP_CRI_CALL(ContainerStatus, ContainerStatusRequest, ContainerStatusResponse);
  CRISP_CRI_CALL(UpdateContainerResources, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse);
  CRISP_CRI_CALL(ReopenContainerLog, ReopenContainerLogRequest, ReopenContainerLogResponse);
  CRISP_CRI_CALL(ExecSync, ExecSyncRequest, ExecSyncResponse);

  CRISP_CRI_CALL(Exec, ExecRequest, ExecResponse);
  CRISP_CRI_CALL(Attach, AttachRequest, AttachResponse);
  CRISP_CRI_CALL(PortForward, PortForwardRequest, PortForwardResponse);
  CRISP_CRI_CALL(ContainerStats, ContainerStatsRequest, ContainerStatsResponse);
  CRISP_CRI_CALL(ListContainerStats, ListContainerStatsRequest, ListContainerStatsResponse);
  CRISP_CRI_CALL(PodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse);
  CRISP_CRI_CALL(ListPodSandboxStats, ListPodSandboxStatsRequest, ListPodSandboxStatsResponse);
  CRISP_CRI_CALL(CheckpointContainer, CheckpointContainerRequest, CheckpointContainerResponse);
  CRISP_CRI_CALL(CheckpointPod, CheckpointPodRequest, CheckpointPodResponse);
  CRISP_CRI_CALL(RestorePod, RestorePodRequest, RestorePodResponse);
  CRISP_CRI_CALL(ListMetricDescriptors, ListMetricDescriptorsRequest, ListMetricDescriptorsResponse);
  CRISP_CRI_CALL(ListPodSandboxMetrics, ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse);
  CRISP_CRI_CALL(UpdatePodSandboxResources, UpdatePodSandboxResourcesRequest, UpdatePodSandboxResourcesResponse);
  EventStreams::Reactor* GetContainerEvents(grpc::CallbackServerContext* context,
                                            const v1::GetEventsRequest*) override {
    return events_.Open(context);
  }

 private:
  Result<v1::StatusResponse> MakeStatus(bool verbose) const;
  Result<v1::PodSandboxStatusResponse> MakeSandboxStatus(const v1::PodSandboxStatusRequest& request) const;
  Result<v1::ListContainerStatsResponse> ListStats(const Ctx& ctx, const v1::ListContainerStatsRequest& request);
  Result<v1::ContainerStatusResponse> MakeContainerStatus(const v1::ContainerStatusRequest& request) const;

  const Deps deps_;
  const Facts facts_;
  StatsMaker stats_;
  EventStreams events_;
};

}  // namespace crisp::cri
