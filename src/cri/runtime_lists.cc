// RuntimeService's lists, stats and metrics: each as one reply and as a stream, both from the same list and converter.
#include <limits>
#include <numeric>

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

// A handler of `Request` that fills the reply's bytes.
template <class Request, class Handler>
grpc::ServerUnaryReactor* UnaryInBytes(Front& front, const Method& method, grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request, Handler handler) {
  auto* call = new UnaryCall(front, method, {}, context->deadline());
  call->Start([request, handler = std::move(handler)](const Ctx& ctx) -> Result<> {
    return handler(ctx, TRY(Parse<Request>(*request)));
  });
  return call;
}

constexpr size_t kNoBound = std::numeric_limits<size_t>::max();

// A stream of messages that are ready: what is the same for all batches is made once.
using BytesStream = ListStream<grpc::ByteBuffer, grpc::ByteBuffer>;
Result<size_t> TakeOne(const Ctx&, std::span<const grpc::ByteBuffer> batches, size_t, grpc::ByteBuffer& out) {
  out = batches[0];
  return 1;
}

// A stream of numbers: each batch reads those of some places in the list, which are its items.
using PlacesStream = ListStream<size_t, grpc::ByteBuffer>;
std::vector<size_t> Places(size_t count) {
  std::vector<size_t> places(count);
  std::iota(places.begin(), places.end(), size_t{0});
  return places;
}

}  // namespace

#define CALL(name, Request, Response)                                                                              \
  grpc::ServerUnaryReactor* RuntimeService::name(grpc::CallbackServerContext* context, const v1::Request* request, \
                                                 v1::Response* response)
#define HANDLE(method, Request, Response)                       \
  return Unary(deps_.front, method, context, request, response, \
               [this]([[maybe_unused]] const Ctx& ctx, [[maybe_unused]] const v1::Request& req) -> Result<v1::Response>
#define CALL_IN_BYTES(name)                                                            \
  grpc::ServerUnaryReactor* RuntimeService::name(grpc::CallbackServerContext* context, \
                                                 const grpc::ByteBuffer* request, grpc::ByteBuffer* response)
#define HANDLE_IN_BYTES(method, Request)                                  \
  return UnaryInBytes<v1::Request>(deps_.front, method, context, request, \
                                   [this, response]([[maybe_unused]] const Ctx& ctx, const v1::Request& req) -> Result<>
#define STREAM_IN_BYTES(name)                                                                            \
  grpc::ServerWriteReactor<grpc::ByteBuffer>* RuntimeService::name(grpc::CallbackServerContext* context, \
                                                                   const grpc::ByteBuffer* request)

RuntimeService::RuntimeService(Deps deps, Facts facts)
    : deps_(deps),
      facts_(std::move(facts)),
      encoded_pods_([](const pod::SandboxStatus& pod) { return SandboxToCri(pod).SerializeAsString(); }),
      encoded_containers_(
          [](const pod::ContainerStatus& container) { return ContainerToCri(container).SerializeAsString(); }) {}

CALL_IN_BYTES(ListPodSandbox) {
  HANDLE_IN_BYTES(kListPodSandbox, ListPodSandboxRequest) {
    pod::SandboxList pods = deps_.pods.ListSandboxes(TRY(ToFilter(req.filter())));
    *response = encoded_pods_.Of(pods.span(), pods.complete())->pieces.All();
    return {};
  });
}

STREAM_IN_BYTES(StreamPodSandboxes) {
  auto list = [this, bytes = *request](const Ctx&) -> Result<std::vector<grpc::ByteBuffer>> {
    auto req = TRY(Parse<v1::StreamPodSandboxesRequest>(bytes));
    pod::SandboxList pods = deps_.pods.ListSandboxes(TRY(ToFilter(req.filter())));
    return encoded_pods_.Of(pods.span(), pods.complete())->pieces.Batches(kBatchItemsMax, kBatchBytesMax);
  };
  return new BytesStream(deps_.front, kStreamPodSandboxes, context,
                         {.list = list, .add = {}, .prepare = {}, .take = TakeOne});
}

CALL_IN_BYTES(ListContainers) {
  HANDLE_IN_BYTES(kListContainers, ListContainersRequest) {
    pod::ContainerList containers = deps_.pods.ListContainers(TRY(ToFilter(req.filter())));
    *response = encoded_containers_.Of(containers.span(), containers.complete())->pieces.All();
    return {};
  });
}

STREAM_IN_BYTES(StreamContainers) {
  auto list = [this, bytes = *request](const Ctx&) -> Result<std::vector<grpc::ByteBuffer>> {
    auto req = TRY(Parse<v1::StreamContainersRequest>(bytes));
    pod::ContainerList containers = deps_.pods.ListContainers(TRY(ToFilter(req.filter())));
    return encoded_containers_.Of(containers.span(), containers.complete())
        ->pieces.Batches(kBatchItemsMax, kBatchBytesMax);
  };
  return new BytesStream(deps_.front, kStreamContainers, context,
                         {.list = list, .add = {}, .prepare = {}, .take = TakeOne});
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

CALL_IN_BYTES(ListContainerStats) {
  HANDLE_IN_BYTES(kListContainerStats, ListContainerStatsRequest) {
    pod::ContainerList containers = deps_.pods.ListContainers(ToStatsFilter(req.filter()));
    StatsMaker::Names names = stats_.NamesOf(containers.span(), containers.complete());
    TRY(stats_.Encode(ctx, names, 0, containers.size(), kNoBound, *response));
    return {};
  });
}

STREAM_IN_BYTES(StreamContainerStats) {
  auto names = std::make_shared<StatsMaker::Names>();
  auto list = [this, bytes = *request, names](const Ctx&) -> Result<std::vector<size_t>> {
    auto req = TRY(Parse<v1::StreamContainerStatsRequest>(bytes));
    pod::ContainerList containers = deps_.pods.ListContainers(ToStatsFilter(req.filter()));
    *names = stats_.NamesOf(containers.span(), containers.complete());
    return Places(containers.size());
  };
  auto take = [this, names](const Ctx& ctx, std::span<const size_t> places, size_t bytes_max, grpc::ByteBuffer& out) {
    return stats_.Encode(ctx, *names, places[0], places.size(), bytes_max, out);
  };
  return new PlacesStream(deps_.front, kStreamContainerStats, context,
                          {.list = list, .add = {}, .prepare = {}, .take = take});
}

CALL(PodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse) {
  HANDLE(kPodSandboxStats, PodSandboxStatsRequest, PodSandboxStatsResponse) {
    TRY(CheckId("pod_sandbox_id", req.pod_sandbox_id()));
    pod::SandboxRef sandbox = TRY(deps_.pods.GetSandbox(req.pod_sandbox_id()));
    if (sandbox->state != pod::SandboxState::kReady) {
      return Error(Code::kUnavailable, StrCat("pod sandbox ", sandbox->id.str(), " is not ready, so it uses nothing"));
    }
    pod::ContainerList running = deps_.pods.ListContainers(
        {.id = {}, .pod = sandbox->id.str(), .state = pod::ContainerState::kRunning, .labels = {}});
    PodAndContainers pod{.pod = sandbox, .containers = {running.begin(), running.end()}};
    v1::PodSandboxStatsResponse out;
    pod_stats_.Fill(ctx, pod, *out.mutable_stats());
    return out;
  });
}

CALL_IN_BYTES(ListPodSandboxStats) {
  HANDLE_IN_BYTES(kListPodSandboxStats, ListPodSandboxStatsRequest) {
    PodStatsMaker::List list = pod_stats_.ListOf(ReadyPods(deps_.pods, ToStatsFilter(req.filter())));
    TRY(pod_stats_.Encode(ctx, list, 0, list.pods.size(), kNoBound, *response));
    return {};
  });
}

STREAM_IN_BYTES(StreamPodSandboxStats) {
  auto pods = std::make_shared<PodStatsMaker::List>();
  auto list = [this, bytes = *request, pods](const Ctx&) -> Result<std::vector<size_t>> {
    auto req = TRY(Parse<v1::StreamPodSandboxStatsRequest>(bytes));
    *pods = pod_stats_.ListOf(ReadyPods(deps_.pods, ToStatsFilter(req.filter())));
    return Places(pods->pods.size());
  };
  auto take = [this, pods](const Ctx& ctx, std::span<const size_t> places, size_t bytes_max, grpc::ByteBuffer& out) {
    return pod_stats_.Encode(ctx, *pods, places[0], places.size(), bytes_max, out);
  };
  return new PlacesStream(deps_.front, kStreamPodSandboxStats, context,
                          {.list = list, .add = {}, .prepare = {}, .take = take});
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

grpc::ServerWriteReactor<v1::StreamPodSandboxMetricsResponse>* RuntimeService::StreamPodSandboxMetrics(
    grpc::CallbackServerContext* context, const v1::StreamPodSandboxMetricsRequest* request) {
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
#undef CALL_IN_BYTES
#undef HANDLE_IN_BYTES
#undef STREAM_IN_BYTES

}  // namespace crisp::cri
