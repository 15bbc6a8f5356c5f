// GetContainerEvents behind a real gRPC server on a unix socket.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <future>

#include "base/log.h"
#include "base/strings.h"
#include "cri/runtime_service.h"
#include "cri/server.h"
#include "cri/testing/fakes.h"

namespace crisp::cri {
namespace {

using grpc::StatusCode;

constexpr size_t kEventsMax = 50;

class EventsTest : public testing::Test {
 protected:
  struct Client {
    explicit Client(v1::RuntimeService::Stub& stub) : reader(stub.GetContainerEvents(&context, {})) {
      reader->WaitForInitialMetadata();  // from here on nothing is missed
    }
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::ContainerEventResponse>> reader;
  };

  void SetUp() override {
    std::string pattern = testing::TempDir() + "events-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    server_ = *Server::Listen({.socket_path = dir_ + "/s"}, {&service_});
    stub_ = Stub();
  }
  void TearDown() override {
    service_.CloseStreams();
    server_.reset();
    std::filesystem::remove_all(dir_);
  }
  std::unique_ptr<v1::RuntimeService::Stub> Stub() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return v1::RuntimeService::NewStub(
        grpc::CreateCustomChannel("unix:" + dir_ + "/s", grpc::InsecureChannelCredentials(), arguments));
  }
  void Publish(const std::string& id, pod::EventType type = pod::EventType::kStarted, size_t bytes = 0) {
    pod::SandboxStatus sandbox;
    sandbox.id = PodId::Random();
    sandbox.config.metadata.uid = "u-1";
    sandbox.config.annotations["filler"] = std::string(bytes, 'x');
    pod::ContainerStatus container;
    container.id = ContainerId::Random();
    container.state = pod::ContainerState::kRunning;
    pod::ObjectEvent event;
    event.type = type;
    event.id = id;
    event.created_at = 42;
    event.sandbox = std::make_shared<const pod::SandboxStatus>(sandbox);
    event.containers = {std::make_shared<const pod::ContainerStatus>(container)};
    pods_.feed.Publish(std::move(event));
  }

  std::string dir_;
  FakeManager pods_;
  FakeNetwork network_;
  FakeRuntime runtime_;
  FakeCgroups cgroups_;
  Front front_{{.observer = {}}};
  DiskUsage layers_{"/nonexistent"};
  FakeStreams streams_;
  RuntimeService service_{{.front = front_,
                           .pods = pods_,
                           .network = network_,
                           .runtime = runtime_,
                           .cgroups = cgroups_,
                           .layers = layers_,
                           .streams = streams_},
                          {.version = "9.9",
                           .default_handler = "runc",
                           .info = {},
                           .events = {.events_max = kEventsMax, .streams_max = 3}}};
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::RuntimeService::Stub> stub_;
};

TEST_F(EventsTest, EachClientIsToldEverythingInOrderAndNothingOld) {
  Publish("before");
  Client first(*stub_), second(*stub_);
  for (int i = 0; i < 20; ++i) Publish(StrCat("c", i), static_cast<pod::EventType>(i % 4));
  for (Client* client : {&first, &second}) {
    for (int i = 0; i < 20; ++i) {
      v1::ContainerEventResponse event;
      ASSERT_TRUE(client->reader->Read(&event));
      EXPECT_EQ(event.container_id(), StrCat("c", i));
      EXPECT_EQ(event.container_event_type(), i % 4);
      EXPECT_EQ(event.created_at(), 42);
      EXPECT_EQ(event.pod_sandbox_status().metadata().uid(), "u-1");
      ASSERT_EQ(event.containers_statuses_size(), 1);
      EXPECT_EQ(event.containers_statuses(0).state(), v1::CONTAINER_RUNNING);
    }
  }
}

TEST_F(EventsTest, AClientThatDoesNotReadLosesItsStreamAndNobodyWaits) {
  Client slow(*stub_), quick(*stub_);
  int published = 0;
  // Each larger than what the transport buffers, so that the slow client's queue fills up.
  for (; published < 200; ++published) {
    Publish(StrCat("c", published), pod::EventType::kStopped, 100'000);
    v1::ContainerEventResponse event;
    ASSERT_TRUE(quick.reader->Read(&event));
    ASSERT_EQ(event.container_id(), StrCat("c", published));
  }
  int read = 0;
  v1::ContainerEventResponse event;
  while (slow.reader->Read(&event)) {
    ASSERT_EQ(event.container_id(), StrCat("c", read++)) << "events are lost only at the end";
  }
  grpc::Status status = slow.reader->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_LT(read, published);
}

TEST_F(EventsTest, TooManyStreamsAreRefused) {
  Client a(*stub_), b(*stub_), c(*stub_);
  Client refused(*stub_);
  v1::ContainerEventResponse event;
  EXPECT_FALSE(refused.reader->Read(&event));
  EXPECT_EQ(refused.reader->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(EventsTest, AClientThatLeavesIsForgotten) {
  for (int round = 0; round < 10; ++round) {
    // The server hears of a client's end a little later than the client; the bound is for one that never does.
    auto stub = Stub();
    std::optional<Client> client;
    v1::ContainerEventResponse event;
    Clock::time_point until = Clock::now() + std::chrono::seconds(60);
    while (true) {
      client.emplace(*stub);
      Publish("x");
      if (client->reader->Read(&event)) break;
      ASSERT_EQ(client->reader->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
      ASSERT_LT(Clock::now(), until) << "streams of clients that have left still count";
    }
    client->context.TryCancel();
    EXPECT_EQ(client->reader->Finish().error_code(), StatusCode::CANCELLED);
  }
}

TEST_F(EventsTest, AStopEndsTheStreams) {
  Client client(*stub_);
  Publish("last");
  v1::ContainerEventResponse event;
  ASSERT_TRUE(client.reader->Read(&event));
  service_.CloseStreams();
  EXPECT_FALSE(client.reader->Read(&event));
  EXPECT_EQ(client.reader->Finish().error_code(), StatusCode::UNAVAILABLE);
  Client late(*stub_);
  EXPECT_FALSE(late.reader->Read(&event));
  EXPECT_EQ(late.reader->Finish().error_code(), StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace crisp::cri
