// CRI's RuntimeService. Each call: check and convert (from_cri.h), ask the manager, convert back. Calls that it does
// not implement answer UNIMPLEMENTED by name. Threading: any thread (gRPC's). Everything in Deps outlives the service.
#pragma once

#include "cri/v1/api.grpc.pb.h"

#include "cgroup/cgroup.h"
#include "cri/call.h"
#include "cri/encoded_lists.h"
#include "cri/event_streams.h"
#include "cri/info.h"
#include "cri/pod_metrics.h"
#include "cri/pod_stats.h"
#include "cri/stats.h"
#include "cri/streams.h"
#include "cri/usage_cache.h"
#include "network/network.h"
#include "pod/manager.h"
#include "runtime/runtime.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

// The lists and stats that a kubelet asks for all the time are answered in bytes (encoded_lists.h), in one piece or
// streamed.
using ListsInBytes =
    v1::RuntimeService::WithRawCallbackMethod_ListPodSandbox<v1::RuntimeService::WithRawCallbackMethod_ListContainers<
        v1::RuntimeService::WithRawCallbackMethod_StreamPodSandboxes<
            v1::RuntimeService::WithRawCallbackMethod_StreamContainers<v1::RuntimeService::CallbackService>>>>;
using RuntimeServiceBase = v1::RuntimeService::WithRawCallbackMethod_ListContainerStats<
    v1::RuntimeService::WithRawCallbackMethod_StreamContainerStats<
        v1::RuntimeService::WithRawCallbackMethod_ListPodSandboxStats<
            v1::RuntimeService::WithRawCallbackMethod_StreamPodSandboxStats<ListsInBytes>>>>;

class RuntimeService final : public RuntimeServiceBase {
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
  RuntimeService(Deps deps, Facts facts);

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
// And of those that are answered in bytes (runtime_lists.cc).
#define CRISP_CRI_BYTES(name)                                                                           \
  grpc::ServerUnaryReactor* name(grpc::CallbackServerContext* context, const grpc::ByteBuffer* request, \
                                 grpc::ByteBuffer* response) override
  CRISP_CRI_BYTES(ListPodSandbox);

  CRISP_CRI_CALL(CreateContainer, CreateContainerRequest, CreateContainerResponse);
  CRISP_CRI_CALL(StartContainer, StartContainerRequest, StartContainerResponse);
  CRISP_CRI_CALL(StopContainer, StopContainerRequest, StopContainerResponse);
  CRISP_CRI_CALL(RemoveContainer, RemoveContainerRequest, RemoveContainerResponse);
  CRISP_CRI_BYTES(ListContainers);
  CRISP_CRI_CALL(ContainerStatus, ContainerStatusRequest, ContainerStatusResponse);
  CRISP_CRI_CALL(UpdateContainerResources, UpdateContainerResourcesRequest, UpdateContainerResourcesResponse);
  CRISP_CRI_CALL(ReopenContainerLog, ReopenContainerLogRequest, ReopenContainerLogResponse);
  CRISP_CRI_CALL(ExecSync, ExecSyncRequest, ExecSyncResponse);

  CRISP_CRI_CALL(Exec, ExecRequest, ExecResponse);
  CRISP_CRI_CALL(Attach, AttachRequest, AttachResponse);
  CRISP_CRI_CALL(PortForward, PortForwardRequest, PortForwardResponse);
  CRISP_CRI_CALL(ContainerStats, ContainerStatsRequest, ContainerStatsResponse);
  CRISP_CRI_BYTES(ListContainerStats);
  CRISP_CRI_CALL(PodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse);
  CRISP_CRI_BYTES(ListPodSandboxStats);
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

// The same for calls that answer with a stream of lists (runtime_lists.cc).
#define CRISP_CRI_STREAM(name)                                                           \
  grpc::ServerWriteReactor<grpc::ByteBuffer>* name(grpc::CallbackServerContext* context, \
                                                   const grpc::ByteBuffer* request) override
  CRISP_CRI_STREAM(StreamPodSandboxes);
  CRISP_CRI_STREAM(StreamContainers);
  CRISP_CRI_STREAM(StreamContainerStats);
  CRISP_CRI_STREAM(StreamPodSandboxStats);
  grpc::ServerWriteReactor<v1::StreamPodSandboxMetricsResponse>* StreamPodSandboxMetrics(
      grpc::CallbackServerContext* context, const v1::StreamPodSandboxMetricsRequest* request) override;

 private:
  Result<v1::StatusResponse> MakeStatus(bool verbose) const;
  Result<v1::PodSandboxStatusResponse> MakeSandboxStatus(const v1::PodSandboxStatusRequest& request) const;
  Result<v1::ContainerStatusResponse> MakeContainerStatus(const v1::ContainerStatusRequest& request) const;

  const Deps deps_;
  const Facts facts_;
  EncodedList<pod::SandboxStatus> encoded_pods_;
  EncodedList<pod::ContainerStatus> encoded_containers_;
  UsageCache usage_{deps_.cgroups};
  PodLinks links_;
  StatsMaker stats_{usage_, deps_.layers};
  PodStatsMaker pod_stats_{deps_.cgroups, usage_, stats_, links_};
  MetricsMaker metrics_{deps_.cgroups, usage_, deps_.layers, links_};
  EventStreams events_{deps_.pods, facts_.events};
};

}  // namespace crisp::cri
