// Streamed lists behind a real gRPC server, over fakes: equal to the unary replies, in batches, cancellable, bounded.
#include "cri/list_streams.h"

#include <gmock/gmock.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <unistd.h>

#include <filesystem>

#include "cri/encoded_lists.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "cri/server.h"
#include "cri/testing/fakes.h"

namespace crisp::cri {
namespace {

using grpc::StatusCode;
using Rt = v1::RuntimeService::Stub;

// Equal messages have equal texts.
template <class Message>
std::string TextOf(const Message& message) {
  std::string out;
  google::protobuf::io::StringOutputStream stream(&out);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);  // maps in the order of their keys
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return out;
}

// When a layer was measured may differ.
void DropTimes(v1::ContainerStats& stats) { stats.mutable_writable_layer()->clear_timestamp(); }
void DropTimes(v1::PodSandboxStats& stats) {
  for (v1::ContainerStats& container : *stats.mutable_linux()->mutable_containers()) DropTimes(container);
}
void DropTimes(auto&) {}

template <class A, class B>
void ExpectSame(A unary, B streamed) {
  ASSERT_EQ(static_cast<size_t>(unary.size()), streamed.size());
  for (int i = 0; i < unary.size(); ++i) {
    DropTimes(unary[i]);
    DropTimes(streamed[static_cast<size_t>(i)]);
    EXPECT_EQ(TextOf(unary[i]), TextOf(streamed[static_cast<size_t>(i)])) << i;
  }
}

class Served : public testing::Test {
 protected:
  void Serve(const std::vector<grpc::Service*>& services) {
    std::string pattern = testing::TempDir() + "lists-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    Result<std::unique_ptr<Server>> server = Server::Listen({.socket_path = dir_ + "/s"}, services);
    ASSERT_TRUE(server) << server.error().message();
    server_ = *std::move(server);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto channel = grpc::CreateCustomChannel("unix:" + dir_ + "/s", grpc::InsecureChannelCredentials(), arguments);
    runtime_ = v1::RuntimeService::NewStub(channel);
    images_ = v1::ImageService::NewStub(channel);
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(dir_);
  }

  struct Context : grpc::ClientContext {
    Context() { set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60)); }
  };

  std::string dir_;
  Front front_{{.observer = {}}};
  std::unique_ptr<Server> server_;
  std::unique_ptr<Rt> runtime_;
  std::unique_ptr<v1::ImageService::Stub> images_;
};

class Lists : public Served {
 protected:
  void SetUp() override { Serve({&runtime_service_, &image_service_}); }

  std::string AddPod(const std::string& name) {
    spec::SandboxConfig config;
    config.metadata = {.name = name, .uid = "uid-" + name, .pod_namespace = "n", .attempt = 0};
    config.labels = {{"app", name}};
    return pods_.RunSandbox(Ctx(), config)->str();
  }
  std::string AddContainer(const std::string& pod, bool running, const std::string& annotation = "") {
    spec::ContainerConfig config;
    config.metadata.name = "c";
    config.labels = {{"app", "web"}, {"other", "label"}};
    if (!annotation.empty()) config.annotations = {{"big", annotation}};
    std::string id = pods_.CreateContainer(Ctx(), pod, config)->str();
    if (running) {
      EXPECT_TRUE(pods_.StartContainer(Ctx(), id));
    }
    return id;
  }

  // All items of a stream; `items` takes them from a message.
  template <class Item, class Stub, class Req, class Resp>
  std::vector<Item> Read(Stub& stub,
                         std::unique_ptr<grpc::ClientReader<Resp>> (Stub::*method)(grpc::ClientContext*, const Req&),
                         const Req& request, const google::protobuf::RepeatedPtrField<Item>& (Resp::*items)() const,
                         int* messages = nullptr) {
    Context context;
    auto reader = (stub.*method)(&context, request);
    std::vector<Item> out;
    Resp message;
    while (reader->Read(&message)) {
      EXPECT_GT((message.*items)().size(), 0) << "an empty batch";
      EXPECT_LE((message.*items)().size(), kBatchItemsMax);
      out.insert(out.end(), (message.*items)().begin(), (message.*items)().end());
      if (messages != nullptr) ++*messages;
    }
    grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return out;
  }

  FakeManager pods_;
  FakeImages fake_images_;
  FakeNetwork network_;
  FakeRuntime fake_runtime_;
  FakeCgroups cgroups_;
  DiskUsage layers_{"/nonexistent"};
  FakeStreams streams_;
  RuntimeService runtime_service_{{.front = front_,
                                   .pods = pods_,
                                   .network = network_,
                                   .runtime = fake_runtime_,
                                   .cgroups = cgroups_,
                                   .layers = layers_,
                                   .streams = streams_},
                                  {.version = "9.9", .default_handler = "runc", .info = {}}};
  ImageService image_service_{{.front = front_, .images = fake_images_, .runtime = fake_runtime_, .layers = layers_}};
};

TEST_F(Lists, ManyContainersComeInBatches) {
  std::string pod = AddPod("web"), other = AddPod("other");
  for (int i = 0; i < 2'500; ++i) AddContainer(i % 5 == 0 ? other : pod, i % 2 == 0);
  int messages = 0;
  v1::StreamContainersRequest request;
  v1::ListContainersRequest list;
  v1::ListContainersResponse unary;
  Context context;
  ASSERT_TRUE(runtime_->ListContainers(&context, list, &unary).ok());
  ASSERT_EQ(unary.containers_size(), 2'500);
  ExpectSame(unary.containers(),
             Read(*runtime_, &Rt::StreamContainers, request, &v1::StreamContainersResponse::containers, &messages));
  EXPECT_EQ(messages, 3);

  request.mutable_filter()->set_pod_sandbox_id(other);
  request.mutable_filter()->mutable_state()->set_state(v1::CONTAINER_RUNNING);
  *list.mutable_filter() = request.filter();
  Context filtered;
  ASSERT_TRUE(runtime_->ListContainers(&filtered, list, &unary).ok());
  ASSERT_EQ(unary.containers_size(), 250);
  ExpectSame(unary.containers(),
             Read(*runtime_, &Rt::StreamContainers, request, &v1::StreamContainersResponse::containers));
}

TEST_F(Lists, BigItemsMakeShortBatches) {
  std::string pod = AddPod("web");
  for (int i = 0; i < 40; ++i) AddContainer(pod, false, std::string(200'000, 'x'));
  int messages = 0;
  auto all = Read(*runtime_, &Rt::StreamContainers, v1::StreamContainersRequest(),
                  &v1::StreamContainersResponse::containers, &messages);
  EXPECT_EQ(all.size(), 40u);
  EXPECT_GE(messages, 7) << "a mebibyte each";
}

TEST_F(Lists, NothingIsAnEmptyStream) {
  EXPECT_TRUE(
      Read(*runtime_, &Rt::StreamContainers, v1::StreamContainersRequest(), &v1::StreamContainersResponse::containers)
          .empty());
  EXPECT_TRUE(Read(*runtime_, &Rt::StreamPodSandboxStats, v1::StreamPodSandboxStatsRequest(),
                   &v1::StreamPodSandboxStatsResponse::pod_sandbox_stats)
                  .empty());
}

TEST_F(Lists, PodsStatsAndMetricsEqualTheirUnaryReplies) {
  for (const char* name : {"a", "b", "c"}) {
    std::string pod = AddPod(name);
    AddContainer(pod, true);
    AddContainer(pod, false);
  }
  std::string stopped = AddPod("stopped");
  ASSERT_TRUE(pods_.StopSandbox(Ctx(), stopped));

  Context c1, c2, c3, c4;
  v1::ListPodSandboxResponse pods;
  ASSERT_TRUE(runtime_->ListPodSandbox(&c1, {}, &pods).ok());
  EXPECT_EQ(pods.items_size(), 4);
  ExpectSame(pods.items(), Read(*runtime_, &Rt::StreamPodSandboxes, v1::StreamPodSandboxesRequest(),
                                &v1::StreamPodSandboxesResponse::pod_sandboxes));

  v1::ListContainerStatsResponse stats;
  ASSERT_TRUE(runtime_->ListContainerStats(&c2, {}, &stats).ok());
  EXPECT_EQ(stats.stats_size(), 6);
  ExpectSame(stats.stats(), Read(*runtime_, &Rt::StreamContainerStats, v1::StreamContainerStatsRequest(),
                                 &v1::StreamContainerStatsResponse::container_stats));

  v1::ListPodSandboxStatsResponse pod_stats;
  ASSERT_TRUE(runtime_->ListPodSandboxStats(&c3, {}, &pod_stats).ok());
  ASSERT_EQ(pod_stats.stats_size(), 3) << "a stopped pod uses nothing";
  EXPECT_EQ(pod_stats.stats(0).linux().containers_size(), 1);
  ExpectSame(pod_stats.stats(), Read(*runtime_, &Rt::StreamPodSandboxStats, v1::StreamPodSandboxStatsRequest(),
                                     &v1::StreamPodSandboxStatsResponse::pod_sandbox_stats));

  v1::ListPodSandboxMetricsResponse metrics;
  ASSERT_TRUE(runtime_->ListPodSandboxMetrics(&c4, {}, &metrics).ok());
  auto streamed = Read(*runtime_, &Rt::StreamPodSandboxMetrics, v1::StreamPodSandboxMetricsRequest(),
                       &v1::StreamPodSandboxMetricsResponse::pod_sandbox_metrics);
  ASSERT_EQ(metrics.pod_metrics_size(), 3);
  ASSERT_EQ(streamed.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(metrics.pod_metrics(i).pod_sandbox_id(), streamed[static_cast<size_t>(i)].pod_sandbox_id());
    EXPECT_EQ(metrics.pod_metrics(i).container_metrics_size(), 1);
  }
}

TEST_F(Lists, FiltersOfPodStats) {
  std::string a = AddPod("a"), b = AddPod("b");
  v1::StreamPodSandboxStatsRequest request;
  request.mutable_filter()->set_id(a);
  auto by_id =
      Read(*runtime_, &Rt::StreamPodSandboxStats, request, &v1::StreamPodSandboxStatsResponse::pod_sandbox_stats);
  ASSERT_EQ(by_id.size(), 1u);
  EXPECT_EQ(by_id[0].attributes().id(), a);
  request.mutable_filter()->clear_id();
  (*request.mutable_filter()->mutable_label_selector())["app"] = "b";
  auto by_label =
      Read(*runtime_, &Rt::StreamPodSandboxStats, request, &v1::StreamPodSandboxStatsResponse::pod_sandbox_stats);
  ASSERT_EQ(by_label.size(), 1u);
  EXPECT_EQ(by_label[0].attributes().id(), b);

  v1::PodSandboxStatsResponse one;
  v1::PodSandboxStatsRequest of;
  of.set_pod_sandbox_id(a);
  Context c1, c2, c3;
  ASSERT_TRUE(runtime_->PodSandboxStats(&c1, of, &one).ok());
  EXPECT_EQ(one.stats().attributes().metadata().name(), "a");
  ASSERT_TRUE(pods_.StopSandbox(Ctx(), a));
  EXPECT_EQ(runtime_->PodSandboxStats(&c2, of, &one).error_code(), StatusCode::UNAVAILABLE);
  of.set_pod_sandbox_id("nobody");
  EXPECT_EQ(runtime_->PodSandboxStats(&c3, of, &one).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(Lists, Images) {
  Context c1;
  v1::ListImagesResponse unary;
  ASSERT_TRUE(fake_images_.Pull(Ctx(), "busybox:1", {}, {}, "", ""));
  ASSERT_TRUE(images_->ListImages(&c1, {}, &unary).ok());
  ASSERT_EQ(unary.images_size(), 1);
  using Im = v1::ImageService::Stub;
  v1::StreamImagesRequest request;
  ExpectSame(unary.images(), Read(*images_, &Im::StreamImages, request, &v1::StreamImagesResponse::images));
  request.mutable_filter()->mutable_image()->set_image("nothing:1");
  EXPECT_TRUE(Read(*images_, &Im::StreamImages, request, &v1::StreamImagesResponse::images).empty());
}

TEST_F(Lists, AnErrorOfTheListIsTheStreamsEnd) {
  v1::StreamContainersRequest request;
  request.mutable_filter()->mutable_state()->set_state(static_cast<v1::ContainerState>(77));
  Context context;
  auto reader = runtime_->StreamContainers(&context, request);
  v1::StreamContainersResponse message;
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::INVALID_ARGUMENT);
  front_.Drain(std::chrono::milliseconds(0));
  Context late;
  reader = runtime_->StreamContainers(&late, {});
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::UNAVAILABLE) << "we are stopping";
}

TEST(EncodedList, KeepsWhatTheLastCompleteListHad) {
  int encoded = 0;
  EncodedList<int> list([&](const int& value) {
    ++encoded;
    return std::string(static_cast<size_t>(value), 'x');
  });
  auto text = [](const grpc::ByteBuffer& bytes) {
    grpc::Slice slice;
    EXPECT_TRUE(bytes.DumpToSingleSlice(&slice).ok());
    return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
  };
  std::vector<std::shared_ptr<const int>> refs = {std::make_shared<const int>(1), std::make_shared<const int>(300)};
  std::string once = text(list.Of(refs, true)->pieces.All());
  EXPECT_EQ(once, "\x0a\x01x" + ("\x0a\xac\x02" + std::string(300, 'x')));
  EXPECT_EQ(text(list.Of(refs, true)->pieces.All()), once);
  EXPECT_EQ(encoded, 2) << "each once";
  EXPECT_EQ(text(list.Of({}, false)->pieces.All()), "");
  std::weak_ptr<const int> old = refs[0];
  for (int round = 0; round < 1000; ++round) {
    refs[0] = std::make_shared<const int>(round % 7);
    EXPECT_EQ(text(list.Of(refs, true)->pieces.All()).size(), 2u + static_cast<size_t>(round % 7) + 303u);
    EXPECT_EQ(list.size(), 2u) << "what is gone is forgotten";
  }
  EXPECT_EQ(encoded, 1002);
  EXPECT_TRUE(old.expired());
  std::vector<std::shared_ptr<const int>> part = {refs[1]}, reversed = {refs[1], refs[0]};
  EXPECT_EQ(text(list.Of(part, false)->pieces.All()), once.substr(3));
  EXPECT_EQ(text(list.Of(reversed, false)->pieces.All()).size(), 2u + 999 % 7 + 303u);
  EXPECT_EQ(encoded, 1002) << "from what is kept";
  for (int round = 0; round < 1000; ++round) {
    part[0] = std::make_shared<const int>(1);
    list.Of(part, false);
  }
  EXPECT_LE(list.size(), 2u) << "lists of some do not add up";
}

TEST(EncodedPieces, Batches) {
  std::vector<std::string> texts;
  for (int i = 0; i < 25; ++i) texts.push_back(std::string(10, static_cast<char>('a' + i)));
  EncodedPieces pieces(std::vector<std::string_view>(texts.begin(), texts.end()));
  ASSERT_EQ(pieces.size(), 25u);
  EXPECT_EQ(pieces[24], std::string(10, 'y'));
  auto lengths = [](const std::vector<grpc::ByteBuffer>& batches) {
    std::vector<size_t> out;
    for (const grpc::ByteBuffer& batch : batches) out.push_back(batch.Length());
    return out;
  };
  EXPECT_THAT(lengths(pieces.Batches(10, 1000)), testing::ElementsAre(100, 100, 50));
  EXPECT_THAT(lengths(pieces.Batches(1000, 95)), testing::ElementsAre(100, 100, 50));
  EXPECT_THAT(lengths(EncodedPieces({}).Batches(10, 1000)), testing::IsEmpty());
}

// ---- what a slow client costs ----

constexpr int kBigItems = 128;  // 64 MiB, more than gRPC buffers for a stream
constexpr Method kTestStream{"StreamContainers", Work::kMemory, true};

class BigService final : public v1::RuntimeService::CallbackService {
 public:
  BigService(Front& front, std::chrono::milliseconds bound) : front_(front), bound_(bound) {}
  grpc::ServerWriteReactor<v1::StreamContainersResponse>* StreamContainers(
      grpc::CallbackServerContext* context, const v1::StreamContainersRequest*) override {
    using Item = std::shared_ptr<int>;
    using Stream = ListStream<Item, v1::StreamContainersResponse>;
    return new Stream(front_, kTestStream, context,
                      {.list = [this](const Ctx&) -> Result<std::vector<Item>> {
                         std::vector<Item> items(kBigItems, alive);
                         return items;
                       },
                       .add =
                           [this](const Ctx&, const Item&, v1::StreamContainersResponse& out) {
                             out.add_containers()->set_id(std::string(512 << 10, 'x'));
                             return size_t{512 << 10};
                           },
                       .prepare = {}},
                      bound_);
  }
  std::shared_ptr<int> alive = std::make_shared<int>();  // one use for each item that a stream still holds

 private:
  Front& front_;
  const std::chrono::milliseconds bound_;
};

class SlowClient : public Served {
 protected:
  // Until nothing of the stream is left; its bound is for a hang only.
  void ExpectReleased(const BigService& service) {
    Clock::time_point until = Clock::now() + std::chrono::seconds(60);
    while (service.alive.use_count() > 1 && Clock::now() < until) usleep(1000);
    EXPECT_EQ(service.alive.use_count(), 1);
  }
};

TEST_F(SlowClient, HoldsABoundedAmount) {
  BigService service(front_, kStreamBound);
  Serve({&service});
  Context context;
  auto reader = runtime_->StreamContainers(&context, {});
  v1::StreamContainersResponse message;
  ASSERT_TRUE(reader->Read(&message));
  // Something for the server to do meanwhile: whole streams, read to their ends.
  for (int i = 0; i < 3; ++i) {
    Context other_context;
    auto other = runtime_->StreamContainers(&other_context, {});
    int read = 0;
    while (other->Read(&message)) read += message.containers_size();
    EXPECT_TRUE(other->Finish().ok());
    EXPECT_EQ(read, kBigItems);
    EXPECT_GT(service.alive.use_count(), 1) << "the one that nobody reads has gone on to its end";
  }
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  ExpectReleased(service);
}

TEST_F(SlowClient, IsLetGoWhenItsTimeIsUp) {
  BigService service(front_, std::chrono::milliseconds(50));
  Serve({&service});
  Context context;
  auto reader = runtime_->StreamContainers(&context, {});
  v1::StreamContainersResponse message;
  ASSERT_TRUE(reader->Read(&message));  // it has begun
  ExpectReleased(service);
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
}

}  // namespace
}  // namespace crisp::cri
