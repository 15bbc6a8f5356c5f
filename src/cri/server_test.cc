// The services behind a real gRPC server on a unix socket, over fakes.
#include "cri/server.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <future>

#include "base/log.h"
#include "base/strings.h"
#include "cri/crisp_service.h"
#include "cri/image_service.h"
#include "cri/runtime_service.h"
#include "cri/testing/fakes.h"
#include "sys/file.h"

namespace crisp::cri {
namespace {

using grpc::StatusCode;
using testing::HasSubstr;

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "cri-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    socket_ = dir_ + "/s";
    ASSERT_TRUE(sys::MakeDir(dir_ + "/containers", 0700));
    ASSERT_TRUE(sys::WriteFileAtomic(dir_ + "/containers/f", std::string(10'000, 'x'), 0600, sys::Durability::kNone));
    Result<std::unique_ptr<Server>> server =
        Server::Listen({.socket_path = socket_}, {&runtime_service_, &image_service_, &crisp_service_});
    ASSERT_TRUE(server) << server.error().message();
    server_ = *std::move(server);
    runtime_stub_ = v1::RuntimeService::NewStub(Channel());
    image_stub_ = v1::ImageService::NewStub(Channel());
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(dir_);
  }

  std::shared_ptr<grpc::Channel> Channel() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel("unix:" + socket_, grpc::InsecureChannelCredentials(), arguments);
  }

  // Calls `method` of a stub and returns the status.
  template <class Stub, class Req, class Resp>
  grpc::Status Call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Req&, Resp*),
                    const Req& request, Resp* response, std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    return (stub.*method)(&context, request, response);
  }
  template <class Req, class Resp>
  grpc::Status Runtime(grpc::Status (v1::RuntimeService::Stub::*method)(grpc::ClientContext*, const Req&, Resp*),
                       const Req& request, Resp* response,
                       std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    return Call(*runtime_stub_, method, request, response, timeout);
  }
  template <class Req, class Resp>
  grpc::Status Images(grpc::Status (v1::ImageService::Stub::*method)(grpc::ClientContext*, const Req&, Resp*),
                      const Req& request, Resp* response) {
    return Call(*image_stub_, method, request, response);
  }

  std::string RunPod() {
    v1::RunPodSandboxRequest request;
    v1::PodSandboxMetadata* metadata = request.mutable_config()->mutable_metadata();
    metadata->set_name("p");
    metadata->set_namespace_("n");
    metadata->set_uid("u");
    (*request.mutable_config()->mutable_labels())["app"] = "web";
    v1::RunPodSandboxResponse response;
    grpc::Status status = Runtime(&v1::RuntimeService::Stub::RunPodSandbox, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.pod_sandbox_id();
  }
  std::string Create(const std::string& pod) {
    v1::CreateContainerRequest request;
    request.set_pod_sandbox_id(pod);
    request.mutable_config()->mutable_metadata()->set_name("c");
    request.mutable_config()->mutable_image()->set_image("busybox");
    v1::CreateContainerResponse response;
    grpc::Status status = Runtime(&v1::RuntimeService::Stub::CreateContainer, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.container_id();
  }

  std::string dir_, socket_;
  FakeManager pods_;
  FakeImages images_;
  FakeNetwork network_;
  FakeRuntime runtime_;
  FakeCgroups cgroups_;
  FakeStreams streams_;
  Front front_{{.observer = {}}};
  DiskUsage layers_{"/nonexistent"};
  RuntimeService runtime_service_{{.front = front_,
                                   .pods = pods_,
                                   .network = network_,
                                   .runtime = runtime_,
                                   .cgroups = cgroups_,
                                   .layers = layers_,
                                   .streams = streams_},
                                  {.version = "9.9", .default_handler = "runc", .info = {{"config", "{}"}}}};
  ImageService image_service_{{.front = front_, .images = images_, .runtime = runtime_, .layers = layers_}};
  CrispImagesService crisp_service_{{.front = front_, .images = images_}};
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::RuntimeService::Stub> runtime_stub_;
  std::unique_ptr<v1::ImageService::Stub> image_stub_;
};

using Rt = v1::RuntimeService::Stub;
using Im = v1::ImageService::Stub;

TEST_F(ServerTest, VersionAndStatusAreWhatTheKubeletWants) {
  v1::VersionResponse version;
  ASSERT_TRUE(Runtime(&Rt::Version, v1::VersionRequest(), &version).ok());
  EXPECT_EQ(version.version(), "0.1.0");
  EXPECT_EQ(version.runtime_name(), "crisp");
  EXPECT_EQ(version.runtime_version(), "9.9");
  EXPECT_EQ(version.runtime_api_version(), "v1");

  v1::StatusRequest request;
  v1::StatusResponse status;
  ASSERT_TRUE(Runtime(&Rt::Status, request, &status).ok());
  ASSERT_EQ(status.status().conditions_size(), 2);
  EXPECT_EQ(status.status().conditions(0).type(), "RuntimeReady");
  EXPECT_TRUE(status.status().conditions(0).status());
  EXPECT_EQ(status.status().conditions(1).type(), "NetworkReady");
  EXPECT_FALSE(status.status().conditions(1).status());
  EXPECT_EQ(status.status().conditions(1).reason(), "NetworkPluginNotReady");
  EXPECT_TRUE(status.features().supplemental_groups_policy());
  EXPECT_TRUE(status.info().empty());
  std::map<std::string, bool> handlers;
  for (const v1::RuntimeHandler& handler : status.runtime_handlers()) {
    handlers[handler.name()] = handler.features().recursive_read_only_mounts();
  }
  EXPECT_EQ(handlers, (std::map<std::string, bool>{{"", true}, {"runc", true}, {"crun", false}}));
  request.set_verbose(true);
  ASSERT_TRUE(Runtime(&Rt::Status, request, &status).ok());
  EXPECT_EQ(status.info().at("config"), "{}");

  v1::RuntimeConfigResponse config;
  ASSERT_TRUE(Runtime(&Rt::RuntimeConfig, v1::RuntimeConfigRequest(), &config).ok());
  EXPECT_EQ(config.linux().cgroup_driver(), v1::CGROUPFS);
}

TEST_F(ServerTest, LifeOfAPod) {
  std::string pod = RunPod();
  std::string container = Create(pod);
  v1::StartContainerRequest start;
  v1::StartContainerResponse started;
  start.set_container_id(container);
  ASSERT_TRUE(Runtime(&Rt::StartContainer, start, &started).ok());

  v1::PodSandboxStatusRequest ask;
  ask.set_pod_sandbox_id(pod);
  ask.set_verbose(true);
  v1::PodSandboxStatusResponse status;
  ASSERT_TRUE(Runtime(&Rt::PodSandboxStatus, ask, &status).ok());
  EXPECT_EQ(status.status().state(), v1::SANDBOX_READY);
  EXPECT_EQ(status.status().metadata().uid(), "u");
  EXPECT_EQ(status.containers_statuses_size(), 1);
  EXPECT_GT(status.timestamp(), 0);
  EXPECT_TRUE(status.info().contains("info"));

  v1::ListContainersRequest list;
  v1::ListContainersResponse containers;
  list.mutable_filter()->set_pod_sandbox_id(pod);
  list.mutable_filter()->mutable_state()->set_state(v1::CONTAINER_RUNNING);
  ASSERT_TRUE(Runtime(&Rt::ListContainers, list, &containers).ok());
  ASSERT_EQ(containers.containers_size(), 1);
  EXPECT_EQ(containers.containers(0).id(), container);
  list.mutable_filter()->mutable_state()->set_state(v1::CONTAINER_EXITED);
  ASSERT_TRUE(Runtime(&Rt::ListContainers, list, &containers).ok());
  EXPECT_EQ(containers.containers_size(), 0);
  list.mutable_filter()->mutable_state()->set_state(static_cast<v1::ContainerState>(77));
  EXPECT_EQ(Runtime(&Rt::ListContainers, list, &containers).error_code(), StatusCode::INVALID_ARGUMENT);

  v1::ListPodSandboxRequest pods;
  v1::ListPodSandboxResponse items;
  (*pods.mutable_filter()->mutable_label_selector())["app"] = "web";
  ASSERT_TRUE(Runtime(&Rt::ListPodSandbox, pods, &items).ok());
  EXPECT_EQ(items.items_size(), 1);
  (*pods.mutable_filter()->mutable_label_selector())["app"] = "other";
  ASSERT_TRUE(Runtime(&Rt::ListPodSandbox, pods, &items).ok());
  EXPECT_EQ(items.items_size(), 0);

  v1::ContainerStatusRequest which;
  which.set_container_id(container);
  v1::ContainerStatusResponse shown;
  ASSERT_TRUE(Runtime(&Rt::ContainerStatus, which, &shown).ok());
  EXPECT_EQ(shown.status().user().linux().uid(), 7);
  EXPECT_EQ(shown.status().image_id(), "sha256:" + std::string(64, 'a'));

  v1::UpdateContainerResourcesRequest update;
  v1::UpdateContainerResourcesResponse updated;
  update.set_container_id(container);
  update.mutable_linux()->set_cpu_shares(99);
  ASSERT_TRUE(Runtime(&Rt::UpdateContainerResources, update, &updated).ok());
  which.set_verbose(true);
  ASSERT_TRUE(Runtime(&Rt::ContainerStatus, which, &shown).ok());
  EXPECT_EQ(shown.status().resources().linux().cpu_shares(), 99);
  EXPECT_TRUE(shown.info().contains("info"));
}

TEST_F(ServerTest, StreamsAreCheckedAndAnsweredByUrls) {
  v1::ExecRequest exec;
  v1::ExecResponse exec_reply;
  auto code = [&] { return Runtime(&Rt::Exec, exec, &exec_reply).error_code(); };
  exec.set_container_id("nobody");
  EXPECT_EQ(code(), StatusCode::INVALID_ARGUMENT);  // no command
  exec.add_cmd("sh");
  exec.set_stdout(true);
  EXPECT_EQ(code(), StatusCode::NOT_FOUND);
  std::string pod = RunPod(), container = Create(pod);
  exec.set_container_id(container);
  exec.set_tty(true);
  ASSERT_EQ(code(), StatusCode::OK);
  EXPECT_EQ(exec_reply.url(), StrCat("exec ", container, " sh tty"));

  v1::AttachRequest attach;
  v1::AttachResponse attach_reply;
  attach.set_container_id(container);
  attach.set_stdin(true);
  ASSERT_TRUE(Runtime(&Rt::Attach, attach, &attach_reply).ok());
  EXPECT_EQ(attach_reply.url(), "attach " + container);

  v1::PortForwardRequest forward;
  v1::PortForwardResponse forward_reply;
  forward.set_pod_sandbox_id(pod);
  forward.add_port(80);
  ASSERT_TRUE(Runtime(&Rt::PortForward, forward, &forward_reply).ok());
  EXPECT_EQ(forward_reply.url(), StrCat("forward ", pod, " 1"));
  forward.add_port(65536);
  EXPECT_EQ(Runtime(&Rt::PortForward, forward, &forward_reply).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, UnknownIdsAreNotFoundOrAlreadyDone) {
  for (const std::string& id : {std::string("nobody"), std::string("../../etc"), std::string(64, 'f')}) {
    v1::PodSandboxStatusRequest pod_status;
    v1::PodSandboxStatusResponse pod_status_reply;
    pod_status.set_pod_sandbox_id(id);
    EXPECT_EQ(Runtime(&Rt::PodSandboxStatus, pod_status, &pod_status_reply).error_code(), StatusCode::NOT_FOUND);
    v1::ContainerStatusRequest status;
    v1::ContainerStatusResponse status_reply;
    status.set_container_id(id);
    grpc::Status got = Runtime(&Rt::ContainerStatus, status, &status_reply);
    EXPECT_EQ(got.error_code(), StatusCode::NOT_FOUND);
    EXPECT_THAT(got.error_message(), HasSubstr(id));
    v1::StartContainerRequest start;
    v1::StartContainerResponse start_reply;
    start.set_container_id(id);
    EXPECT_EQ(Runtime(&Rt::StartContainer, start, &start_reply).error_code(), StatusCode::NOT_FOUND);
    v1::ExecSyncRequest exec;
    v1::ExecSyncResponse exec_reply;
    exec.set_container_id(id);
    exec.add_cmd("echo");
    EXPECT_EQ(Runtime(&Rt::ExecSync, exec, &exec_reply).error_code(), StatusCode::NOT_FOUND);
    v1::ReopenContainerLogRequest reopen;
    v1::ReopenContainerLogResponse reopen_reply;
    reopen.set_container_id(id);
    EXPECT_EQ(Runtime(&Rt::ReopenContainerLog, reopen, &reopen_reply).error_code(), StatusCode::NOT_FOUND);
    v1::UpdateContainerResourcesRequest update;
    v1::UpdateContainerResourcesResponse update_reply;
    update.set_container_id(id);
    EXPECT_EQ(Runtime(&Rt::UpdateContainerResources, update, &update_reply).error_code(), StatusCode::INVALID_ARGUMENT);
    update.mutable_linux()->set_cpu_shares(99);
    EXPECT_EQ(Runtime(&Rt::UpdateContainerResources, update, &update_reply).error_code(), StatusCode::NOT_FOUND);
    v1::UpdatePodSandboxResourcesRequest update_pod;
    v1::UpdatePodSandboxResourcesResponse update_pod_reply;
    update_pod.set_pod_sandbox_id(id);
    EXPECT_EQ(Runtime(&Rt::UpdatePodSandboxResources, update_pod, &update_pod_reply).error_code(), StatusCode::NOT_FOUND);
    v1::CreateContainerRequest create;
    v1::CreateContainerResponse create_reply;
    create.set_pod_sandbox_id(id);
    create.mutable_config()->mutable_metadata()->set_name("c");
    create.mutable_config()->mutable_image()->set_image("busybox");
    EXPECT_EQ(Runtime(&Rt::CreateContainer, create, &create_reply).error_code(), StatusCode::NOT_FOUND);

    v1::StopPodSandboxRequest stop_pod;
    v1::StopPodSandboxResponse stop_pod_reply;
    stop_pod.set_pod_sandbox_id(id);
    EXPECT_TRUE(Runtime(&Rt::StopPodSandbox, stop_pod, &stop_pod_reply).ok());
    v1::RemovePodSandboxRequest remove_pod;
    v1::RemovePodSandboxResponse remove_pod_reply;
    remove_pod.set_pod_sandbox_id(id);
    EXPECT_TRUE(Runtime(&Rt::RemovePodSandbox, remove_pod, &remove_pod_reply).ok());
    v1::StopContainerRequest stop;
    v1::StopContainerResponse stop_reply;
    stop.set_container_id(id);
    EXPECT_TRUE(Runtime(&Rt::StopContainer, stop, &stop_reply).ok());
    v1::RemoveContainerRequest remove;
    v1::RemoveContainerResponse remove_reply;
    remove.set_container_id(id);
    EXPECT_TRUE(Runtime(&Rt::RemoveContainer, remove, &remove_reply).ok());
  }
}

TEST_F(ServerTest, EmptyRequestsAreInvalid) {
  struct Row {
    const char* method;
    const char* field;
  } rows[] = {
      {"RuntimeService/RunPodSandbox", "config"},
      {"RuntimeService/StopPodSandbox", "pod_sandbox_id"},
      {"RuntimeService/RemovePodSandbox", "pod_sandbox_id"},
      {"RuntimeService/PodSandboxStatus", "pod_sandbox_id"},
      {"RuntimeService/CreateContainer", "pod_sandbox_id"},
      {"RuntimeService/StartContainer", "container_id"},
      {"RuntimeService/StopContainer", "container_id"},
      {"RuntimeService/RemoveContainer", "container_id"},
      {"RuntimeService/ContainerStatus", "container_id"},
      {"RuntimeService/UpdateContainerResources", "container_id"},
      {"RuntimeService/ReopenContainerLog", "container_id"},
      {"RuntimeService/ExecSync", "container_id"},
      {"ImageService/ImageStatus", "image.image"},
      {"ImageService/PullImage", "image.image"},
      {"ImageService/RemoveImage", "image.image"},
  };
  grpc::GenericStub stub(Channel());
  for (const Row& row : rows) {
    grpc::ClientContext context;
    grpc::ByteBuffer request, response;
    grpc::Slice empty;
    request = grpc::ByteBuffer(&empty, 1);
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, StrCat("/runtime.v1.", row.method), {}, &request, &response,
                   [&](grpc::Status status) { done.set_value(std::move(status)); });
    grpc::Status status = done.get_future().get();
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << row.method << ": " << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(StrCat(row.field, ": missing"))) << row.method;
  }
}

TEST_F(ServerTest, HandlersAndSandboxConfigsMustFit) {
  v1::RunPodSandboxRequest run;
  run.mutable_config()->mutable_metadata()->set_name("p");
  run.mutable_config()->mutable_metadata()->set_namespace_("n");
  run.mutable_config()->mutable_metadata()->set_uid("u");
  run.set_runtime_handler("kata");
  v1::RunPodSandboxResponse run_reply;
  grpc::Status status = Runtime(&Rt::RunPodSandbox, run, &run_reply);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("kata"));

  v1::CreateContainerRequest create;
  create.set_pod_sandbox_id(RunPod());
  create.mutable_config()->mutable_metadata()->set_name("c");
  create.mutable_config()->mutable_image()->set_image("busybox");
  create.mutable_sandbox_config()->mutable_metadata()->set_name("another");
  v1::CreateContainerResponse create_reply;
  status = Runtime(&Rt::CreateContainer, create, &create_reply);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("sandbox_config"));
}

TEST_F(ServerTest, ExecSyncAnswersAndTimesOut) {
  std::string container = Create(RunPod());
  v1::ExecSyncRequest request;
  v1::ExecSyncResponse response;
  request.set_container_id(container);
  request.add_cmd("echo");
  request.add_cmd("hello");
  ASSERT_TRUE(Runtime(&Rt::ExecSync, request, &response).ok());
  EXPECT_EQ(response.stdout(), "hello\n");
  request.clear_cmd();
  EXPECT_EQ(Runtime(&Rt::ExecSync, request, &response).error_code(), StatusCode::INVALID_ARGUMENT);
  request.add_cmd("false");
  ASSERT_TRUE(Runtime(&Rt::ExecSync, request, &response).ok());
  EXPECT_EQ(response.exit_code(), 1);
  request.set_cmd(0, "sleep");
  request.set_timeout(1);
  EXPECT_EQ(Runtime(&Rt::ExecSync, request, &response).error_code(), StatusCode::DEADLINE_EXCEEDED);
  request.set_timeout(-1);
  EXPECT_EQ(Runtime(&Rt::ExecSync, request, &response).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, ACallersEndReachesTheWork) {
  v1::ExecSyncRequest request;
  request.set_container_id(Create(RunPod()));
  request.add_cmd("sleep");
  grpc::ClientContext context;
  v1::ExecSyncResponse response;
  std::promise<grpc::Status> done;
  runtime_stub_->async()->ExecSync(&context, &request, &response, [&](grpc::Status status) { done.set_value(status); });
  while (pods_.sleeping == 0) std::this_thread::yield();
  context.TryCancel();
  EXPECT_EQ(done.get_future().get().error_code(), StatusCode::CANCELLED);
  while (pods_.sleeping != 0) std::this_thread::yield();  // hangs if the cancellation is lost
}

TEST_F(ServerTest, LongExecsDoNotHoldUpOtherCalls) {
  std::string pod = RunPod(), container = Create(pod);
  v1::ExecSyncRequest request;
  request.set_container_id(container);
  request.add_cmd("sleep");
  constexpr int kExecs = 100;
  grpc::ClientContext contexts[kExecs];
  v1::ExecSyncResponse responses[kExecs];
  std::promise<void> done[kExecs];
  for (int i = 0; i < kExecs; ++i) {
    runtime_stub_->async()->ExecSync(&contexts[i], &request, &responses[i],
                                     [&, i](grpc::Status) { done[i].set_value(); });
  }
  while (pods_.sleeping < kExecs) std::this_thread::yield();
  v1::StopContainerRequest stop;
  v1::StopContainerResponse stopped;
  stop.set_container_id(container);
  EXPECT_TRUE(Runtime(&Rt::StopContainer, stop, &stopped).ok());
  v1::ListContainersResponse list;
  EXPECT_TRUE(Runtime(&Rt::ListContainers, v1::ListContainersRequest(), &list).ok());
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::promise<void>& d : done) d.get_future().wait();
}

// A node that is drained: each pod takes its grace, and meanwhile a network plugin hangs.
TEST_F(ServerTest, StopsAndSandboxesThatWaitDoNotHoldUpOtherCalls) {
  std::string pod = RunPod(), container = Create(pod);
  v1::StopContainerRequest stop;
  stop.set_container_id(container);
  stop.set_timeout(7200);
  v1::StopPodSandboxRequest stop_pod;
  stop_pod.set_pod_sandbox_id("hangs");
  constexpr int kEach = 100;
  grpc::ClientContext contexts[2 * kEach];
  v1::StopContainerResponse stopped[kEach];
  v1::StopPodSandboxResponse pods_stopped[kEach];
  std::promise<void> done[2 * kEach];
  for (int i = 0; i < kEach; ++i) {
    runtime_stub_->async()->StopContainer(&contexts[i], &stop, &stopped[i],
                                          [&, i](grpc::Status) { done[i].set_value(); });
    runtime_stub_->async()->StopPodSandbox(&contexts[kEach + i], &stop_pod, &pods_stopped[i],
                                           [&, i](grpc::Status) { done[kEach + i].set_value(); });
  }
  while (pods_.sleeping < 2 * kEach) std::this_thread::yield();  // hangs if they hold up each other
  v1::RemoveContainerRequest remove;
  v1::RemoveContainerResponse removed;
  remove.set_container_id(Create(pod));
  EXPECT_TRUE(Runtime(&Rt::RemoveContainer, remove, &removed).ok());
  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::promise<void>& d : done) d.get_future().wait();
}

TEST_F(ServerTest, ImagesComeAndGo) {
  v1::PullImageRequest pull;
  v1::PullImageResponse pulled;
  pull.mutable_image()->set_image("docker.io/library/busybox:latest");
  ASSERT_TRUE(Images(&Im::PullImage, pull, &pulled).ok());
  v1::ImageStatusRequest ask;
  v1::ImageStatusResponse status;
  ask.mutable_image()->set_image(pulled.image_ref());
  ask.set_verbose(true);
  ASSERT_TRUE(Images(&Im::ImageStatus, ask, &status).ok());
  EXPECT_EQ(status.image().id(), pulled.image_ref());
  EXPECT_EQ(status.image().uid().value(), 1002);
  EXPECT_TRUE(status.info().contains("info"));
  v1::ListImagesRequest list;
  v1::ListImagesResponse images;
  ASSERT_TRUE(Images(&Im::ListImages, list, &images).ok());
  EXPECT_EQ(images.images_size(), 1);
  list.mutable_filter()->mutable_image()->set_image("another");
  ASSERT_TRUE(Images(&Im::ListImages, list, &images).ok());
  EXPECT_EQ(images.images_size(), 0);
  v1::RemoveImageRequest remove;
  v1::RemoveImageResponse removed;
  remove.mutable_image()->set_image(pulled.image_ref());
  ASSERT_TRUE(Images(&Im::RemoveImage, remove, &removed).ok());
  ASSERT_TRUE(Images(&Im::ImageStatus, ask, &status).ok()) << "a missing image is no error";
  EXPECT_FALSE(status.has_image());
  pull.mutable_image()->set_image("missing");
  EXPECT_EQ(Images(&Im::PullImage, pull, &pulled).error_code(), StatusCode::NOT_FOUND);
}

// The kubelet's client hands on the text alone only behind UNKNOWN, and looks at its very beginning.
TEST_F(ServerTest, SentinelsReachTheKubelet) {
  v1::PullImageRequest pull;
  v1::PullImageResponse pulled;
  pull.mutable_image()->set_image("host/unsigned:1");
  grpc::Status status = Images(&Im::PullImage, pull, &pulled);
  EXPECT_EQ(status.error_code(), StatusCode::UNKNOWN);
  EXPECT_EQ(status.error_message(), "SignatureValidationFailed: host/unsigned:1");
  pull.mutable_sandbox_config()->mutable_metadata()->set_namespace_("lax");
  EXPECT_TRUE(Images(&Im::PullImage, pull, &pulled).ok()) << "the pod's namespace has a policy of its own";
  pull.mutable_image()->set_image("host/down:1");
  status = Images(&Im::PullImage, pull, &pulled);
  EXPECT_EQ(status.error_code(), StatusCode::UNKNOWN);
  EXPECT_EQ(status.error_message(), "RegistryUnavailable: no connection");
}

TEST_F(ServerTest, PullTellsHowFarItIs) {
  std::unique_ptr<own::Images::Stub> stub = own::Images::NewStub(Channel());
  own::PullRequest request;
  request.set_image("docker.io/library/busybox:latest");
  grpc::ClientContext context;
  auto updates = stub->Pull(&context, request);
  own::PullUpdate update;
  std::string id;
  bool told = false;
  while (updates->Read(&update)) {
    EXPECT_TRUE(id.empty()) << "something after the last update";
    told = told || update.layers_size() > 0;
    id = update.image_id();
  }
  EXPECT_TRUE(updates->Finish().ok());
  EXPECT_TRUE(told);
  EXPECT_EQ(id, "sha256:" + std::string(64, 'a'));

  request.set_image("missing");
  grpc::ClientContext again;
  updates = stub->Pull(&again, request);
  EXPECT_FALSE(updates->Read(&update));
  EXPECT_EQ(updates->Finish().error_code(), StatusCode::NOT_FOUND);

  own::ImportRequest import;
  own::ImportResponse imported;
  import.set_path("relative.tar");
  grpc::ClientContext third;
  EXPECT_EQ(stub->Import(&third, import, &imported).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, SecretsAppearInNoLog) {
  // The log goes into a pipe for the length of this test.
  Result<sys::Pipe> pipe = sys::MakePipe();
  ASSERT_TRUE(pipe);
  SetLog(LogLevel::kDebug, LogFormat::kText, pipe->write.get());
  v1::PullImageRequest pull;
  v1::PullImageResponse pulled;
  pull.mutable_image()->set_image("host/private:1");
  pull.mutable_auth()->set_username("canary-user");
  pull.mutable_auth()->set_password("canary-password");
  pull.mutable_auth()->set_auth("canary-auth");
  pull.mutable_auth()->set_identity_token("canary-identity");
  pull.mutable_auth()->set_registry_token("canary-registry");
  grpc::Status status = Images(&Im::PullImage, pull, &pulled);
  EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), testing::Not(HasSubstr("canary")));
  pull.mutable_auth()->set_password("open sesame");
  EXPECT_TRUE(Images(&Im::PullImage, pull, &pulled).ok());
  pull.mutable_image()->set_image("https://user:canary-url@host/x?token=canary-query");
  status = Images(&Im::PullImage, pull, &pulled);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), testing::Not(HasSubstr("canary")));
  SetLog(LogLevel::kWarning, LogFormat::kText, 2);
  pipe->write.Reset();
  std::string log = *sys::ReadAll(pipe->read, 1 << 20);
  EXPECT_THAT(log, HasSubstr("PullImage"));
  EXPECT_THAT(log, testing::Not(HasSubstr("canary")));
  EXPECT_THAT(log, testing::Not(HasSubstr("open sesame")));
}

TEST_F(ServerTest, PodCidrReachesTheNetwork) {
  v1::UpdateRuntimeConfigRequest request;
  v1::UpdateRuntimeConfigResponse response;
  ASSERT_TRUE(Runtime(&Rt::UpdateRuntimeConfig, request, &response).ok());
  EXPECT_EQ(network_.pod_cidr, "");
  request.mutable_runtime_config()->mutable_network_config()->set_pod_cidr("10.1.0.0/24");
  ASSERT_TRUE(Runtime(&Rt::UpdateRuntimeConfig, request, &response).ok());
  EXPECT_EQ(network_.pod_cidr, "10.1.0.0/24");
  request.mutable_runtime_config()->mutable_network_config()->set_pod_cidr("nonsense");
  EXPECT_EQ(Runtime(&Rt::UpdateRuntimeConfig, request, &response).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, OversizedMessagesAreRefusedAndTheServerGoesOn) {
  v1::RunPodSandboxRequest request;
  (*request.mutable_config()->mutable_labels())["l"] = std::string(17 << 20, 'x');
  v1::RunPodSandboxResponse response;
  EXPECT_EQ(Runtime(&Rt::RunPodSandbox, request, &response).error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_FALSE(RunPod().empty());
}

TEST_F(ServerTest, BadProtobufsAreRefusedAndTheServerGoesOn) {
  grpc::GenericStub stub(Channel());
  for (int i = 0; i < 1000; ++i) {
    std::string bytes(1 + i % 97, static_cast<char>(i * 31));
    grpc::ClientContext context;
    grpc::Slice slice(bytes);
    grpc::ByteBuffer request(&slice, 1), response;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, "/runtime.v1.RuntimeService/RunPodSandbox", {}, &request, &response,
                   [&](grpc::Status status) { done.set_value(std::move(status)); });
    EXPECT_FALSE(done.get_future().get().ok());
  }
  EXPECT_FALSE(RunPod().empty());
}

TEST_F(ServerTest, AThousandIdleConnections) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_.c_str(), socket_.size() + 1);
  std::vector<sys::UniqueFd> idle;
  for (int i = 0; i < 1000; ++i) {
    sys::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(fd.ok());
    ASSERT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << i;
    if (i % 2) {
      ASSERT_TRUE(sys::WriteAll(fd.borrow(), "PRI * HTTP/2.0\r\n"));  // half a greeting
    }
    idle.push_back(std::move(fd));
  }
  v1::VersionResponse version;
  EXPECT_TRUE(Runtime(&Rt::Version, v1::VersionRequest(), &version).ok());
}

TEST_F(ServerTest, SocketIsPrivateAndNotStolen) {
  struct stat st;
  ASSERT_EQ(stat(socket_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  Result<std::unique_ptr<Server>> second = Server::Listen({.socket_path = socket_}, {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kAlreadyExists);
  v1::VersionResponse version;
  EXPECT_TRUE(Runtime(&Rt::Version, v1::VersionRequest(), &version).ok()) << "the first still serves";
}

TEST_F(ServerTest, ADeadDaemonsSocketIsReplaced) {
  std::string path = dir_ + "/dead";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  {
    sys::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  FakeManager pods;
  RuntimeService service({.front = front_,
                          .pods = pods,
                          .network = network_,
                          .runtime = runtime_,
                          .cgroups = cgroups_,
                          .layers = layers_,
                          .streams = streams_},
                         {});
  EXPECT_TRUE(Server::Listen({.socket_path = path}, {&service}));
  ASSERT_TRUE(sys::WriteFileAtomic(dir_ + "/file", "precious", 0600, sys::Durability::kNone));
  EXPECT_FALSE(Server::Listen({.socket_path = dir_ + "/file"}, {&service}));
  EXPECT_EQ(*sys::ReadFile(dir_ + "/file"), "precious");
  EXPECT_FALSE(Server::Listen({.socket_path = "relative"}, {&service}));
  EXPECT_FALSE(Server::Listen({.socket_path = "/" + std::string(200, 'x')}, {&service}));
}

TEST_F(ServerTest, SlowCallsAreSeen) {
  v1::ExecSyncRequest request;
  request.set_container_id(Create(RunPod()));
  request.add_cmd("sleep");
  grpc::ClientContext context;
  v1::ExecSyncResponse response;
  std::promise<void> done;
  runtime_stub_->async()->ExecSync(&context, &request, &response, [&](grpc::Status) { done.set_value(); });
  while (pods_.sleeping == 0) std::this_thread::yield();
  EXPECT_EQ(front_.ReportSlowCalls(), 1u);
  context.TryCancel();
  done.get_future().wait();
}

TEST_F(ServerTest, DrainEndsNewCallsAndWaitsForOldOnes) {
  v1::ExecSyncRequest request;
  request.set_container_id(Create(RunPod()));
  request.add_cmd("sleep");
  grpc::ClientContext context;
  v1::ExecSyncResponse response;
  std::promise<void> done;
  runtime_stub_->async()->ExecSync(&context, &request, &response, [&](grpc::Status) { done.set_value(); });
  while (pods_.sleeping == 0) std::this_thread::yield();
  front_.Drain(std::chrono::milliseconds(0));  // it goes on: only the waiting has an end
  EXPECT_EQ(pods_.sleeping, 1);
  v1::StopContainerRequest stop;
  v1::StopContainerResponse stopped;
  stop.set_container_id(request.container_id());
  EXPECT_EQ(Runtime(&Rt::StopContainer, stop, &stopped).error_code(), StatusCode::UNAVAILABLE);
  v1::ListContainersResponse list;
  EXPECT_TRUE(Runtime(&Rt::ListContainers, v1::ListContainersRequest(), &list).ok());
  context.TryCancel();
  done.get_future().wait();
  front_.Drain(std::chrono::hours(1));  // hangs if the call is still counted
}

TEST_F(ServerTest, AfterworkKeepsNoCallerWaitingAndDrainWaitsForIt) {
  std::promise<void> go_on;
  std::atomic<bool> over{false};
  pods_.after_exec = [&] {
    go_on.get_future().wait();
    over = true;
  };
  v1::ExecSyncRequest request;
  request.set_container_id(Create(RunPod()));
  request.add_cmd("echo");
  request.add_cmd("x");
  v1::ExecSyncResponse response;
  ASSERT_TRUE(Runtime(&Rt::ExecSync, request, &response).ok());  // hangs if that is waited for
  EXPECT_EQ(response.stdout(), "x\n");
  auto drained = std::async(std::launch::async, [&] {
    front_.Drain(std::chrono::hours(1));
    return over.load();
  });
  go_on.set_value();
  EXPECT_TRUE(drained.get());
}

TEST_F(ServerTest, StatsOfContainers) {
  std::string pod = RunPod(), container = Create(pod);
  v1::ContainerStatsRequest request;
  v1::ContainerStatsResponse response;
  request.set_container_id(container);
  ASSERT_TRUE(Runtime(&Rt::ContainerStats, request, &response).ok());
  EXPECT_EQ(response.stats().attributes().id(), container);
  EXPECT_EQ(response.stats().attributes().metadata().name(), "c");
  EXPECT_FALSE(response.stats().has_cpu()) << "not started: no cgroup";
  EXPECT_TRUE(response.stats().writable_layer().has_used_bytes());

  v1::StartContainerRequest start;
  v1::StartContainerResponse started;
  start.set_container_id(container);
  ASSERT_TRUE(Runtime(&Rt::StartContainer, start, &started).ok());
  v1::ListContainerStatsRequest list;
  v1::ListContainerStatsResponse stats;
  list.mutable_filter()->set_pod_sandbox_id(pod);
  ASSERT_TRUE(Runtime(&Rt::ListContainerStats, list, &stats).ok());
  ASSERT_EQ(stats.stats_size(), 1);
  EXPECT_EQ(stats.stats(0).cpu().usage_core_nano_seconds().value(), 5'000'000u);
  EXPECT_EQ(stats.stats(0).memory().working_set_bytes().value(), 4096u);
  EXPECT_FALSE(stats.stats(0).memory().has_rss_bytes()) << "unknown is not zero";
  (*list.mutable_filter()->mutable_label_selector())["app"] = "other";
  ASSERT_TRUE(Runtime(&Rt::ListContainerStats, list, &stats).ok());
  EXPECT_EQ(stats.stats_size(), 0);
  request.set_container_id("nobody");
  EXPECT_EQ(Runtime(&Rt::ContainerStats, request, &response).error_code(), StatusCode::NOT_FOUND);
}

TEST(DiskUsage, CountsBlocksAndInodesOnce) {
  std::string pattern = testing::TempDir() + "usage-XXXXXX";
  std::string dir = mkdtemp(pattern.data());
  ASSERT_TRUE(sys::MakeDirs(dir + "/a/b", 0700));
  ASSERT_TRUE(sys::WriteFileAtomic(dir + "/a/f", std::string(100'000, 'x'), 0600, sys::Durability::kNone));
  ASSERT_EQ(link((dir + "/a/f").c_str(), (dir + "/a/b/g").c_str()), 0);
  ASSERT_EQ(symlink("/", (dir + "/a/root").c_str()), 0);
  Result<image::FsUsage> usage = MeasureTree(Ctx(), dir);
  ASSERT_TRUE(usage);
  EXPECT_EQ(usage->inodes_used, 4u);  // a, b, f, root
  EXPECT_GE(usage->used_bytes, 100'000u);
  EXPECT_LT(usage->used_bytes, 150'000u);
  EXPECT_EQ(MeasureTree(Ctx(), dir + "/missing")->inodes_used, 0u);

  DiskUsage whole(dir);
  EXPECT_EQ(whole.Total(Ctx())->usage.inodes_used, 4u);
  EXPECT_EQ(whole.Of(Ctx(), "a")->usage.inodes_used, 3u);
  ASSERT_TRUE(sys::MakeDirs(dir + "/new/x", 0700));
  EXPECT_EQ(whole.Of(Ctx(), "new")->usage.inodes_used, 1u) << "came after the measurement";
  EXPECT_EQ(whole.Of(Ctx(), "a")->usage.mountpoint, dir);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace crisp::cri
