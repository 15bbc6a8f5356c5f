// RuntimeService's lists, stats and metrics: each as one reply and as a stream, both from the same list and converter.
#include "base/strings.h"
#include "cri/from_cri.h"
#include "cri/list_streams.h"
#include "cri/runtime_service.h"
#include "cri/to_cri.h"
#include "cri/validate.h"

namespace crisp::cri {
namespace {

// What is read from files is no work for gRPC's own threads.
constexpr Method kListPodSandbox{"ListPodSandbox", Work::kMemory, true};
constexpr Method kListContainers{"ListContainers", Work::kMemory, true};
constexpr Method kContainerStats{"ContainerStats", Work::kQuick, true};
constexpr Method kListContainerStats{"ListContainerStats", Work::kQuick, true};
constexpr Method kPodSandboxStats{"PodSandboxStats", Work::kQuick, true};
constexpr Method kListPodSandboxStats{"ListPodSandboxStats", Work::kQuick, true};
constexpr Method kListMetricDescriptors{"ListMetricDescriptors", Work::kMemory, true};
constexpr Method kListPodSandboxMetrics{"ListPodSandboxMetrics", Work::kQuick, true};
constexpr Method kStreamPodSandboxes{"StreamPodSandboxes", Work::kMemory, true};
constexpr Method kStreamContainers{"StreamContainers", Work::kMemory, true};
constexpr Method kStreamContainerStats{"StreamContainerStats", Work::kQuick, true};
constexpr Method kStreamPodSandboxStats{"StreamPodSandboxStats", Work::kQuick, true};
constexpr Method kStreamPodSandboxMetrics{"StreamPodSandboxMetrics", Work::kQuick, true};

pod::ContainerFilter ToStatsFilter(const v1::ContainerStatsFilter& in) {
  return {.id = in.id(),
          .pod = in.pod_sandbox_id(),
          .state = {},
          .labels = {in.label_selector().begin(), in.label_selector().end()}};
}

pod::SandboxFilter ToStatsFilter(const v1::PodSandboxStatsFilter& in) {
  return {.id = in.id(), .state = {}, .labels = {in.label_selector().begin(), in.label_selector().end()}};
}

template <class Request>
Result<Request> Parse(const grpc::ByteBuffer& bytes) {
  grpc::ByteBuffer consumed = bytes;
  Request request;
  grpc::Status status = grpc::SerializationTraits<Request>::Deserialize(&consumed, &request);
  if (!status.ok()) return Error(Code::kInternal, "the request does not parse");  // as gRPC itself answers it
  return request;
}

grpc::ServerUnaryReactor* UnaryInBytes(Front& front, const Method& method, grpc::CallbackServerContext* context,
                                       std::function<Result<>(const Ctx&)> handler) {
  auto* call = new UnaryCall(front, method, {}, context->deadline());
  call->Start(std::move(handler));
  return call;
}

}  // namespace

#define CALL(name, Request, Response)                                                                              \
  grpc::ServerUnaryReactor* RuntimeService::name(grpc::CallbackServerContext* context, const v1::Request* request, \
                                                 v1::Response* response)
#define HANDLE(method, Request, Response)                       \
  return Unary(deps_.front, method, context, request, response, \
               [this]([[maybe_unused]] const Ctx& ctx, [[maybe_unused]] const v1::Request& req) -> Result<v1::Response>
#define STREAM(name)                                                                                       \
  grpc::ServerWriteReactor<v1::name##Response>* RuntimeService::name(grpc::CallbackServerContext* context, \
                                                                     const v1::name##Request* request)

RuntimeService::RuntimeService(Deps deps, Facts facts)
    : deps_(deps),
      facts_(std::move(facts)),
      encoded_pods_([](const pod::SandboxStatus& pod) { return SandboxToCri(pod).SerializeAsString(); }),
      encoded_containers_(
          [](const pod::ContainerStatus& container) { return ContainerToCri(container).SerializeAsString(); }) {}

grpc::ServerUnaryReactor* RuntimeService::ListPodSandbox(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request, grpc::ByteBuffer* response) {
  return UnaryInBytes(deps_.front, kListPodSandbox, context, [this, request, response](const Ctx&) -> Result<> {
    auto req = TRY(Parse<v1::ListPodSandboxRequest>(*request));
    *response = encoded_pods_.Encode(deps_.pods.ListSandboxes(TRY(ToFilter(req.filter()))));
    return {};
  });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::StreamPodSandboxes(grpc::CallbackServerContext* context,
                                                                      const grpc::ByteBuffer* request) {
  using Stream = ListStream<pod::SandboxRef, grpc::ByteBuffer>;
  return new Stream(deps_.front, kStreamPodSandboxes, context,
                    {.list = [this, bytes = *request](const Ctx&) -> Result<std::vector<pod::SandboxRef>> {
                       auto req = TRY(Parse<v1::StreamPodSandboxesRequest>(bytes));
                       return deps_.pods.ListSandboxes(TRY(ToFilter(req.filter())));
                     },
                     .add = {},
                     .prepare = {},
                     .take = [this](std::span<const pod::SandboxRef> pods, size_t bytes_max, grpc::ByteBuffer& out) {
                       return encoded_pods_.EncodeSome(pods, bytes_max, out);
                     }});
}

grpc::ServerUnaryReactor* RuntimeService::ListContainers(grpc::CallbackServerContext* context,
                                                         const grpc::ByteBuffer* request, grpc::ByteBuffer* response) {
  return UnaryInBytes(deps_.front, kListContainers, context, [this, request, response](const Ctx&) -> Result<> {
    auto req = TRY(Parse<v1::ListContainersRequest>(*request));
    *response = encoded_containers_.Encode(deps_.pods.ListContainers(TRY(ToFilter(req.filter()))));
    return {};
  });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::StreamContainers(grpc::CallbackServerContext* context,
                                                                      const grpc::ByteBuffer* request) {
  using Stream = ListStream<pod::ContainerRef, grpc::ByteBuffer>;
  return new Stream(deps_.front, kStreamContainers, context,
                    {.list = [this, bytes = *request](const Ctx&) -> Result<std::vector<pod::ContainerRef>> {
                       auto req = TRY(Parse<v1::StreamContainersRequest>(bytes));
                       return deps_.pods.ListContainers(TRY(ToFilter(req.filter())));
                     },
                     .add = {},
                     .prepare = {},
                     .take = [this](std::span<const pod::ContainerRef> containers, size_t bytes_max, grpc::ByteBuffer& out) {
                       return encoded_containers_.EncodeSome(containers, bytes_max, out);
                     }});
}

CALL(ContainerStats, ContainerStatsRequest, ContainerStatsResponse) {
  HANDLE(kContainerStats, ContainerStatsRequest, ContainerStatsResponse) {
    TRY(CheckId("container_id", req.container_id()));
    pod::ContainerRef container = TRY(deps_.pods.GetContainer(req.container_id()));
    v1::ContainerStatsResponse out;
    stats_.Fill(ctx, *container, *out.mutable_stats());
    return out;
  });
}

CALL(ListContainerStats, ListContainerStatsRequest, ListContainerStatsResponse) {
  HANDLE(kListContainerStats, ListContainerStatsRequest, ListContainerStatsResponse) {
    v1::ListContainerStatsResponse out;
    for (const pod::ContainerRef& container : deps_.pods.ListContainers(ToStatsFilter(req.filter()))) {
      TRY(ctx.Check());
      stats_.Fill(ctx, *container, *out.add_stats());
    }
    return out;
  });
}

STREAM(StreamContainerStats) {
  using Stream = ListStream<pod::ContainerRef, v1::StreamContainerStatsResponse>;
  return new Stream(
      deps_.front, kStreamContainerStats, context,
      {.list = [this, filter = ToStatsFilter(request->filter())](const Ctx&) -> Result<std::vector<pod::ContainerRef>> {
         return deps_.pods.ListContainers(filter);
       },
       .add =
           [this](const Ctx& ctx, const pod::ContainerRef& container, v1::StreamContainerStatsResponse& out) {
             v1::ContainerStats& added = *out.add_container_stats();
             stats_.Fill(ctx, *container, added);
             return added.ByteSizeLong();
           },
       .prepare = {}});
}

CALL(PodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse) {
  HANDLE(kPodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse) {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    pod::SandboxRef sandbox = TRY(deps_.pods.GetSandbox(req.pod_sandbox_id()));
    if (sandbox->state != pod::SandboxState::kReady) {
      return Error(Code::kUnavailable, StrCat("pod sandbox ", sandbox->id.str(), " is not ready, so it uses nothing"));
    }
    PodAndContainers pod{
        .pod = sandbox,
        .containers = deps_.pods.ListContainers({.id = {}, .pod = sandbox->id.str(), .state = {}, .labels = {}})};
    v1::PodSandboxStatsResponse out;
    pod_stats_.Fill(ctx, pod, *out.mutable_stats());
    return out;
  });
}

CALL(ListPodSandboxStats, ListPodSandboxStatsRequest, ListPodSandboxStatsResponse) {
  HANDLE(kListPodSandboxStats, ListPodSandboxStatsRequest, ListPodSandboxStatsResponse) {
    std::vector<PodAndContainers> pods = ReadyPods(deps_.pods, ToStatsFilter(req.filter()));
    links_.Prepare(pods);
    v1::ListPodSandboxStatsResponse out;
    for (const PodAndContainers& pod : pods) {
      TRY(ctx.Check());
      pod_stats_.Fill(ctx, pod, *out.add_stats());
    }
    return out;
  });
}

STREAM(StreamPodSandboxStats) {
  using Stream = ListStream<PodAndContainers, v1::StreamPodSandboxStatsResponse>;
  return new Stream(
      deps_.front, kStreamPodSandboxStats, context,
      {.list = [this, filter = ToStatsFilter(request->filter())](const Ctx&) -> Result<std::vector<PodAndContainers>> {
         return ReadyPods(deps_.pods, filter);
       },
       .add =
           [this](const Ctx& ctx, const PodAndContainers& pod, v1::StreamPodSandboxStatsResponse& out) {
             v1::PodSandboxStats& added = *out.add_pod_sandbox_stats();
             pod_stats_.Fill(ctx, pod, added);
             return added.ByteSizeLong();
           },
       .prepare = [this](const Ctx&, std::span<const PodAndContainers> pods) { links_.Prepare(pods); }});
}

CALL(ListMetricDescriptors, ListMetricDescriptorsRequest, ListMetricDescriptorsResponse) {
  HANDLE(kListMetricDescriptors, ListMetricDescriptorsRequest, ListMetricDescriptorsResponse) {
    return MetricDescriptors();
  });
}

CALL(ListPodSandboxMetrics, ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse) {
  HANDLE(kListPodSandboxMetrics, ListPodSandboxMetricsRequest, ListPodSandboxMetricsResponse) {
    std::vector<PodAndContainers> pods = ReadyPods(deps_.pods, {});
    links_.Prepare(pods);
    v1::ListPodSandboxMetricsResponse out;
    for (const PodAndContainers& pod : pods) {
      TRY(ctx.Check());
      metrics_.Fill(ctx, pod, *out.add_pod_metrics());
    }
    return out;
  });
}

STREAM(StreamPodSandboxMetrics) {
  using Stream = ListStream<PodAndContainers, v1::StreamPodSandboxMetricsResponse>;
  (void)request;  // it has no filter
  return new Stream(
      deps_.front, kStreamPodSandboxMetrics, context,
      {.list = [this](const Ctx&) -> Result<std::vector<PodAndContainers>> { return ReadyPods(deps_.pods, {}); },
       .add =
           [this](const Ctx& ctx, const PodAndContainers& pod, v1::StreamPodSandboxMetricsResponse& out) {
             v1::PodSandboxMetrics& added = *out.add_pod_sandbox_metrics();
             metrics_.Fill(ctx, pod, added);
             return added.ByteSizeLong();
           },
       .prepare = [this](const Ctx&, std::span<const PodAndContainers> pods) { links_.Prepare(pods); }});
}

#undef CALL
#undef HANDLE
#undef STREAM

}  // namespace crisp::cri
