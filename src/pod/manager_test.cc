// The verbs that make, find and remove, on a node made of files.
#include "pod/manager.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <future>
#include <latch>
#include <thread>

#include "base/json.h"
#include "base/strings.h"
#include "pod/testing/manager_fixture.h"
#include "pod/testing/world.h"
#include "pod/workers.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using namespace std::chrono_literals;
using testing::Container;
using testing::Daemon;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ManagerTest;
using testing::Sandbox;
using ::testing::SizeIs;

TEST_F(ManagerTest, OneWholeLife) {
  std::string pod = Pod();
  SandboxRef sandbox = *m().GetSandbox(pod);
  EXPECT_EQ(sandbox->state, SandboxState::kReady);
  EXPECT_THAT(sandbox->ips, ElementsAre("10.1.2.3"));
  EXPECT_EQ(sandbox->shim_pid, 4242);
  EXPECT_GT(sandbox->created_at, 0);
  EXPECT_EQ(*sys::ReadFile(StrCat(dir_, "/state/pods/", pod, "/files/hostname")), "web\n");
  EXPECT_EQ(world().Get("networks", pod), R"({"ports":1})") << "a port without host port is documentation";

  std::string id = Created(pod);
  ContainerRef created = Status(id);
  EXPECT_EQ(created->state, ContainerState::kCreated);
  EXPECT_EQ(created->image_id, "sha256:" + std::string(64, 'b'));
  EXPECT_EQ(created->stop_signal, SIGUSR1) << "the image's";
  EXPECT_GT(created->created_at, 0);
  EXPECT_EQ(created->started_at, 0);
  EXPECT_TRUE(created->user.has_value());
  EXPECT_TRUE(world().Has("leases", id));
  EXPECT_FALSE(world().Has("processes", id));

  ASSERT_TRUE(m().StartContainer(ctx_, id));
  EXPECT_EQ(Status(id)->state, ContainerState::kRunning);
  EXPECT_EQ(Status(id)->pid, 4711);
  EXPECT_GE(Status(id)->started_at, created->created_at);

  ASSERT_TRUE(m().StopContainer(ctx_, id, 30s));
  EXPECT_EQ(world().Get("signals", id), StrCat(SIGUSR1));
  ContainerRef ended = Exited(id);
  EXPECT_EQ(ended->exit_code, 128 + SIGUSR1);
  EXPECT_EQ(ended->reason, "Error");
  EXPECT_GE(ended->finished_at, ended->started_at);
  EXPECT_EQ(ended->pid, 0);
  EXPECT_FALSE(world().Has("oci", id)) << "the runtime's state goes at exit";

  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  EXPECT_EQ(m().GetContainer(id).error().code(), Code::kNotFound);
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady);
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, TheShimStartsBesideTheNetworkPlugins) {
  world().faults.Lock()->setup_waits_for_shim = true;
  std::string pod = Pod();
  EXPECT_EQ((*m().GetSandbox(pod))->shim_pid, 4242);
  EXPECT_THAT((*m().GetSandbox(pod))->ips, ElementsAre("10.1.2.3"));
}

TEST_F(ManagerTest, SysctlsOfTheNetworkAreSetAfterThePlugins) {
  SandboxConfig config = Sandbox("web");
  config.sysctls = {{"net.ipv4.ip_local_port_range", "1024 65535"}};
  int set_up = -1;
  world().faults.Lock()->after_setup = [&] { set_up = world().faults.Lock()->shims_set_up; };
  ASSERT_TRUE(m().RunSandbox(ctx_, config));
  EXPECT_EQ(set_up, 0);
  EXPECT_EQ(world().faults.Lock()->shims_set_up, 1);
}

TEST_F(ManagerTest, WhatFailsBesideTheOtherIsUndoneWithIt) {
  world().faults.Lock()->shim_starts_failing = 1;
  EXPECT_THAT(m().RunSandbox(ctx_, Sandbox("web")).error().message(), HasSubstr("the shim does not start"));
  ExpectNothingLeft();
  world().faults.Lock()->failing_after_netns = 1;
  EXPECT_THAT(m().RunSandbox(ctx_, Sandbox("web")).error().message(), HasSubstr("no address left"));
  ExpectNothingLeft();
}

class NativeTest : public ManagerTest {
 protected:
  std::string NativePod() {
    SandboxConfig config = Sandbox("web");
    config.runtime_handler = "native";
    config.log_directory = dir_ + "/logs";
    return m().RunSandbox(ctx_, config).value().str();
  }
  // As the daemon has it: the work waits until the caller has the answer.
  std::string CreatedBut(const std::shared_ptr<Afterwork>& afterwork, const std::string& pod) {
    ContainerConfig config = Container("main");
    config.resources.memory_limit_bytes = 1 << 30;
    config.log_path = "main.log";
    Ctx ctx = ctx_;
    ctx.CollectAfterwork(afterwork);
    return m().CreateContainer(ctx, pod, config).value().str();
  }
  // What its start had from before, "" for nothing.
  std::string LaunchOfStart(const std::string& id) { return world().Get("launches", id); }
  bool HasCgroup(const std::string& container) {
    for (const std::string& name : world().Names("cgroups")) {
      if (name.ends_with(container)) return true;
    }
    return false;
  }
};

TEST_F(NativeTest, AStartTakesWhatWasMadeAheadOrMakesIt) {
  std::string pod = NativePod();
  auto afterwork = std::make_shared<Afterwork>();
  std::string id = CreatedBut(afterwork, pod);
  EXPECT_FALSE(afterwork->empty());
  afterwork->Run();
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  EXPECT_THAT(LaunchOfStart(id), HasSubstr("1073741824"));
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  id = CreatedBut(afterwork, pod);
  ASSERT_TRUE(m().StartContainer(ctx_, id)) << "which comes before that";
  EXPECT_THAT(LaunchOfStart(id), HasSubstr("1073741824"));
  afterwork->Run();
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(NativeTest, AnUpdateMakesWhatWasMadeAheadVoid) {
  std::string pod = NativePod();
  for (bool before_the_work : {true, false}) {
    auto afterwork = std::make_shared<Afterwork>();
    std::string id = CreatedBut(afterwork, pod);
    if (!before_the_work) afterwork->Run();
    ASSERT_TRUE(m().UpdateResources(ctx_, id, {.memory_limit_bytes = 2 << 20}, {}));
    EXPECT_FALSE(HasCgroup(id)) << "its limits may be others";
    if (before_the_work) afterwork->Run();
    EXPECT_FALSE(HasCgroup(id)) << "nor made again";
    ASSERT_TRUE(m().StartContainer(ctx_, id));
    EXPECT_EQ(LaunchOfStart(id), "") << "the start has made it of the new config.json";
    ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  }
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(NativeTest, AStartIsBegunWhereTheContainerHasAPidNamespaceOfItsOwn) {
  std::string pod = NativePod();
  auto create = [&](const std::string& name) {
    ContainerConfig config = Container(name);
    config.security.namespaces.pid = spec::NamespaceMode::kContainer;
    config.log_path = name + ".log";
    return m().CreateContainer(ctx_, pod, config).value().str();
  };
  std::string id = create("started");
  EXPECT_TRUE(world().Has("begun", id)) << "before the caller has its answer";
  EXPECT_EQ(Status(id)->state, ContainerState::kCreated);
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  EXPECT_NE(LaunchOfStart(id), "");
  EXPECT_FALSE(world().Has("begun", id));

  id = create("updated");
  ASSERT_TRUE(m().UpdateResources(ctx_, id, {.memory_limit_bytes = 2 << 20}, {}));
  EXPECT_FALSE(world().Has("begun", id)) << "with the limits of before";
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  EXPECT_EQ(LaunchOfStart(id), "");

  id = create("removed");
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  EXPECT_FALSE(world().Has("begun", id));

  id = create("failed");
  ASSERT_TRUE(sys::MakeDirs(dir_ + "/logs", 0755));
  ASSERT_EQ(symlink("/elsewhere", Status(id)->log_path.c_str()), 0);
  EXPECT_THAT(m().StartContainer(ctx_, id).error().message(), HasSubstr("symbolic link"));
  EXPECT_FALSE(world().Has("begun", id));

  id = create("left");
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(NativeTest, WorkThatComesAfterTheEndMakesNothing) {
  std::string pod = NativePod();
  auto removed = std::make_shared<Afterwork>(), stopped = std::make_shared<Afterwork>(),
       failed = std::make_shared<Afterwork>();
  ASSERT_TRUE(m().RemoveContainer(ctx_, CreatedBut(removed, pod)));
  removed->Run();
  // A start that fails before it gets there.
  std::string id = CreatedBut(failed, pod);
  ASSERT_TRUE(sys::MakeDirs(dir_ + "/logs", 0755));
  ASSERT_EQ(symlink("/elsewhere", Status(id)->log_path.c_str()), 0);
  EXPECT_THAT(m().StartContainer(ctx_, id).error().message(), HasSubstr("symbolic link"));
  failed->Run();
  EXPECT_FALSE(HasCgroup(id));
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  CreatedBut(stopped, pod);
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  stopped->Run();
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, FilesOfARemovedContainerGoInTheBackground) {
  std::string pod = Pod(), id = Created(pod);
  const std::string root = StrCat(dir_, "/root/containers/", id), removed = StrCat(dir_, "/root/removed/", id);
  ASSERT_TRUE(sys::Exists(root));
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  EXPECT_FALSE(sys::Exists(root));
  // As a crash leaves it.
  (*daemon_)->DrainBackground();
  ASSERT_TRUE(sys::MakeDirs(removed + "/upper/etc", 0700));
  Restart();
  (*daemon_)->Sweep(ctx_);
  (*daemon_)->DrainBackground();
  EXPECT_FALSE(sys::Exists(removed));
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST(Workers, TakesNoMoreThanMayWait) {
  Workers workers(1);
  std::promise<void> begun, go_on;
  int done = 0;
  workers.Post([&] {
    begun.set_value();
    go_on.get_future().wait();
  });
  begun.get_future().wait();
  EXPECT_TRUE(workers.TryPost([&] { ++done; }, 2));
  EXPECT_TRUE(workers.TryPost([&] { ++done; }, 2));
  EXPECT_FALSE(workers.TryPost([&] { ++done; }, 2));
  go_on.set_value();
  workers.Drain();
  EXPECT_EQ(done, 2);
}

TEST_F(ManagerTest, RemovingAPodStopsAndRemovesAllOfIt) {
  std::string pod = Pod();
  Running(pod, {"run"}, "a");
  Running(pod, {"stubborn"}, "b");
  Created(pod, {"run"}, "c");
  Running(pod, {"exit", "0"}, "d");
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, ConfigJsonIsPrivateAndPlanned) {
  std::string id = Created(Pod());
  std::string path = StrCat(dir_, "/state/containers/", id, "/config.json");
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));
  Json config = *ParseJson(*sys::ReadFile(path), "config");
  EXPECT_EQ(config["root"]["path"], StrCat(dir_, "/state/containers/", id, "/rootfs"));
  EXPECT_TRUE(std::filesystem::exists(StrCat(dir_, "/root/containers/", id, "/volumes")));
  EXPECT_EQ(Status(id)->cgroup_path, config["linux"]["cgroupsPath"]);
}

TEST_F(ManagerTest, GivenParentIsUsedAndNoCgroupOfOursIsMade) {
  SandboxConfig config = Sandbox("web");
  config.cgroup_parent = "/kubepods/pod1";
  std::string pod = m().RunSandbox(ctx_, config)->str();
  std::string id = Created(pod);
  EXPECT_EQ(Status(id)->cgroup_path, "/kubepods/pod1/" + id);
  EXPECT_THAT(world().Names("cgroups"), IsEmpty());
  config.metadata.name = "other";
  config.cgroup_parent = "x.slice";
  EXPECT_EQ(m().RunSandbox(ctx_, config).error().code(), Code::kInvalidArgument);
}

TEST_F(ManagerTest, ImagesAreJudgedWhenAContainerIsCreated) {
  std::string pod = Pod();
  auto refused = [&](const char* reference) {
    return StrCat("docker.io/library/busybox:latest as \"", reference, "\" in ", Sandbox("web").metadata.pod_namespace);
  };
  ContainerConfig config = Container("main");
  world().faults.Lock()->image_refused = refused("busybox");
  Result<ContainerId> id = m().CreateContainer(ctx_, pod, config);
  ASSERT_FALSE(id);
  EXPECT_THAT(id.error().message(), ::testing::StartsWith("SignatureValidationFailed: "));
  EXPECT_THAT(m().ListContainers({}), IsEmpty());
  config.user_specified_image = "quay.io/said:1";
  world().faults.Lock()->image_refused = refused("quay.io/said:1");
  EXPECT_FALSE(m().CreateContainer(ctx_, pod, config)) << "what the caller says counts";
  world().faults.Lock()->image_refused = refused("busybox");
  EXPECT_TRUE(m().CreateContainer(ctx_, pod, config));
}

TEST_F(ManagerTest, HostNetworkAndHostIpcNeedNeitherNetworkNorShm) {
  SandboxConfig config = Sandbox("host");
  config.port_mappings.clear();
  config.security.namespaces.network = NamespaceMode::kNode;
  config.security.namespaces.ipc = NamespaceMode::kNode;
  config.security.namespaces.pid = NamespaceMode::kNode;
  std::string pod = m().RunSandbox(ctx_, config)->str();
  EXPECT_THAT(world().Names("networks"), IsEmpty());
  EXPECT_THAT(world().Names("mounts"), SizeIs(1)) << "its files only";
  EXPECT_THAT((*m().GetSandbox(pod))->ips, IsEmpty());
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

// ---- names ----

TEST_F(ManagerTest, SameRequestAgainGivesTheSameObject) {
  std::string pod = Pod();
  EXPECT_EQ(Pod(), pod);
  std::string id = Created(pod);
  EXPECT_EQ(Created(pod), id);
  EXPECT_THAT(world().Names("shims"), SizeIs(1));
}

TEST_F(ManagerTest, AnotherRequestUnderATakenNameIsRefused) {
  std::string pod = Pod();
  SandboxConfig other = Sandbox("web");
  other.hostname = "different";
  Result<PodId> refused = m().RunSandbox(ctx_, other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kAlreadyExists);
  EXPECT_THAT(refused.error().message(), HasSubstr(pod));
  std::string id = Created(pod);
  Result<ContainerId> taken = m().CreateContainer(ctx_, pod, Container("main", {"other"}));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code(), Code::kAlreadyExists);
  EXPECT_THAT(taken.error().message(), HasSubstr(id));
  EXPECT_NE(m().RunSandbox(ctx_, Sandbox("web", 1))->str(), pod) << "another attempt is another pod";
  EXPECT_TRUE(m().CreateContainer(ctx_, pod, Container("main", {"other"}, 1)));
}

// A repeated request may be one whose answer was lost, but not after the container has had its life.
TEST_F(ManagerTest, AnExitedContainerIsNotGivenAgain) {
  std::string pod = Pod();
  std::string id = Created(pod);
  EXPECT_EQ(m().CreateContainer(ctx_, pod, Container("main"))->str(), id);
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  EXPECT_EQ(m().CreateContainer(ctx_, pod, Container("main"))->str(), id) << "still running";
  ASSERT_TRUE(m().StopContainer(ctx_, id, 0s));
  Result<ContainerId> again = m().CreateContainer(ctx_, pod, Container("main"));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kAlreadyExists);
  EXPECT_THAT(again.error().message(), HasSubstr(id));
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  EXPECT_NE(m().CreateContainer(ctx_, pod, Container("main"))->str(), id);
}

TEST_F(ManagerTest, AContainerThatCannotBeDeletedDoesNotKeepItsPodUp) {
  std::string pod = Pod();
  std::string id = Created(pod);
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  world().faults.Lock()->deletes_failing = 1000;
  EXPECT_TRUE(m().StopSandbox(ctx_, pod));
  EXPECT_EQ((*m().GetContainer(id))->state, ContainerState::kExited);
  EXPECT_THAT(world().Names("networks"), IsEmpty());
  EXPECT_THAT(world().Names("shims"), IsEmpty());
  EXPECT_FALSE(m().RemoveSandbox(ctx_, pod)) << "nothing is forgotten";
  world().faults.Lock()->deletes_failing = 0;
  EXPECT_TRUE(m().RemoveSandbox(ctx_, pod));
}

TEST_F(ManagerTest, AFailedUndoIsTriedAgainByItself) {
  daemon_.reset();
  daemon_ = std::make_unique<Daemon>(dir_, true, nullptr, 1ms);
  world().faults.Lock()->shim_starts_failing = 1;
  world().faults.Lock()->teardowns_failing = 4;
  EXPECT_FALSE(m().RunSandbox(ctx_, Sandbox("web")));
  for (int i = 0; i < 1000 && !(*daemon_).db->List(kPodTable)->empty(); ++i) std::this_thread::sleep_for(10ms);
  ExpectNothingLeft();
}

// Without waiting for a verb that would notice: exits would not be heard of until then.
TEST_F(ManagerTest, ABrokenConnectionToAShimIsMadeAnewAtOnce) {
  std::string pod = Pod();
  std::string id = Running(pod);
  world().events.on_connection_lost(*PodId::Parse(pod));
  (*daemon_)->DrainBackground();
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kReady) << "it lives";
  EXPECT_EQ(Status(id)->state, ContainerState::kRunning);
  world().Remove("shims", pod);
  world().events.on_connection_lost(*PodId::Parse(pod));
  (*daemon_)->DrainBackground();
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady);
  EXPECT_EQ(Exited(id)->exit_code, 137);
}

TEST_F(ManagerTest, StoppedPodKeepsItsNameUntilItIsRemoved) {
  std::string pod = Pod();
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  EXPECT_EQ(m().RunSandbox(ctx_, Sandbox("web")).error().code(), Code::kAlreadyExists);
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  EXPECT_NE(Pod(), pod);
}

TEST_F(ManagerTest, RetriesJoinTheRunningOperation) {
  std::latch in_setup(1), go(1);
  world().faults.Lock()->in_setup = [&] {
    in_setup.count_down();
    go.wait();
  };
  auto first = std::async(std::launch::async, [&] { return m().RunSandbox(ctx_, Sandbox("web")); });
  in_setup.wait();
  world().faults.Lock()->in_setup = nullptr;
  // A retry whose caller has no time left leaves the operation running.
  EXPECT_EQ(m().RunSandbox(ctx_.WithTimeout(0ms), Sandbox("web")).error().code(), Code::kDeadlineExceeded);
  auto second = std::async(std::launch::async, [&] { return m().RunSandbox(ctx_, Sandbox("web")); });
  SandboxConfig other = Sandbox("web");
  other.hostname = "different";
  EXPECT_EQ(m().RunSandbox(ctx_, other).error().code(), Code::kAlreadyExists);
  EXPECT_THAT(m().ListSandboxes({}), IsEmpty()) << "not listed before it is made";
  go.count_down();
  EXPECT_EQ(first.get()->str(), second.get()->str());
  EXPECT_THAT(world().Names("shims"), SizeIs(1));
}

TEST_F(ManagerTest, CallerThatGoesAwayDoesNotCancelHalfAPod) {
  std::stop_source gone;
  Ctx ctx(Clock::time_point::max(), gone.get_token(), "r");
  world().faults.Lock()->in_setup = [&] { gone.request_stop(); };
  ASSERT_TRUE(m().RunSandbox(ctx, Sandbox("web")));
  EXPECT_THAT(m().ListSandboxes({}), SizeIs(1));
}

// ---- failures ----

TEST_F(ManagerTest, FailedPodLeavesNothingAndFreesItsName) {
  world().faults.Lock()->setups_failing = 1;
  Result<PodId> failed = m().RunSandbox(ctx_, Sandbox("web"));
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message(), HasSubstr("no address left"));
  ExpectNothingLeft();
  world().faults.Lock()->shim_starts_failing = 1;
  ASSERT_FALSE(m().RunSandbox(ctx_, Sandbox("web")));
  ExpectNothingLeft();
  Pod();
}

TEST_F(ManagerTest, UndoThatFailsIsFinishedByTheSweep) {
  world().faults.Lock()->shim_starts_failing = 1;
  world().faults.Lock()->teardowns_failing = 1;
  ASSERT_FALSE(m().RunSandbox(ctx_, Sandbox("web")));
  EXPECT_THAT(world().Names("networks"), SizeIs(1));
  EXPECT_THAT(m().ListSandboxes({}), IsEmpty());
  Pod();  // the name is free all the same
  m().Sweep(ctx_);
  EXPECT_THAT(world().Names("networks"), SizeIs(1));
  ASSERT_TRUE(m().RemoveSandbox(ctx_, m().ListSandboxes({})[0]->id.str()));
  ExpectNothingLeft();
}

// User pain 19: the pod stays, not ready, until its network is really gone.
TEST_F(ManagerTest, PodStaysNotReadyUntilItsNetworkIsGone) {
  std::string pod = Pod();
  world().faults.Lock()->teardowns_failing = 2;
  Result<> stopped = m().StopSandbox(ctx_, pod);
  ASSERT_FALSE(stopped);
  EXPECT_THAT(stopped.error().message(), HasSubstr("DEL failed"));
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady);
  EXPECT_FALSE(m().RemoveSandbox(ctx_, pod));
  EXPECT_TRUE(m().GetSandbox(pod));
  EXPECT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, ContainerErrors) {
  std::string pod = Pod();
  ContainerConfig config = Container("main");
  config.image = "not-here:v1";
  Result<ContainerId> no_image = m().CreateContainer(ctx_, pod, config);
  EXPECT_EQ(no_image.error().code(), Code::kNotFound);
  EXPECT_THAT(no_image.error().message(), HasSubstr("not-here"));
  EXPECT_EQ(m().CreateContainer(ctx_, std::string(64, 'a'), Container("x")).error().code(), Code::kNotFound);
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  EXPECT_EQ(m().CreateContainer(ctx_, pod, Container("main")).error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(world().Names("leases"), IsEmpty());
  SandboxConfig unknown = Sandbox("h");
  unknown.runtime_handler = "nope";
  EXPECT_EQ(m().RunSandbox(ctx_, unknown).error().code(), Code::kInvalidArgument);
  for (const char* verb : {"start", "exec", "reopen", "update"}) {
    std::string id = std::string(64, 'c');
    Result<> done;
    if (*verb == 's') done = m().StartContainer(ctx_, id);
    if (*verb == 'e') done = Error(m().ExecSync(ctx_, id, {"x"}, 1s).error());
    if (*verb == 'r') done = m().ReopenLog(ctx_, id);
    if (*verb == 'u') done = m().UpdateResources(ctx_, id, {}, {});
    EXPECT_EQ(done.error().code(), Code::kNotFound) << verb;
  }
}

// User pain 13.
TEST_F(ManagerTest, DeadVolumeHoldsUpNobody) {
  std::string pod = Pod();
  auto dead = std::make_shared<std::latch>(1), left = std::make_shared<std::latch>(1);
  world().faults.Lock()->in_mount_sources = [dead, left] {
    dead->wait();
    left->count_down();
  };
  (*daemon_)->SetHostPathTimeout(20ms);
  ContainerConfig config = Container("main");
  config.mounts.push_back({.container_path = "/data", .host_path = "/dead"});
  EXPECT_EQ(m().CreateContainer(ctx_, pod, config).error().code(), Code::kDeadlineExceeded);
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
  dead->count_down();
  left->wait();
}

TEST_F(ManagerTest, StartErrorIsRecorded) {
  std::string id = Created(Pod(), {"missing"});
  Result<> started = m().StartContainer(ctx_, id);
  ASSERT_FALSE(started);
  ContainerRef status = Exited(id);
  EXPECT_EQ(status->exit_code, 128);
  EXPECT_EQ(status->reason, "StartError");
  EXPECT_THAT(status->message, HasSubstr("executable file not found"));
  EXPECT_GT(status->started_at, 0);
  EXPECT_GE(status->finished_at, status->started_at);
  EXPECT_EQ(m().StartContainer(ctx_, id).error().code(), Code::kFailedPrecondition);
}

TEST_F(ManagerTest, MessagesAreUtf8) {
  std::string id = Created(Pod(), {"gibberish"});
  EXPECT_FALSE(m().StartContainer(ctx_, id));
  EXPECT_EQ(Exited(id)->message, "no \uFFFD good");
}

TEST_F(ManagerTest, StartsOnlyOnce) {
  std::string pod = Pod();
  std::string id = Running(pod);
  EXPECT_EQ(m().StartContainer(ctx_, id).error().code(), Code::kFailedPrecondition);
  std::latch in_start(1), go(1);
  std::string slow = Created(pod, {"run"}, "slow");
  world().faults.Lock()->in_start = [&] {
    in_start.count_down();
    go.wait();
  };
  auto first = std::async(std::launch::async, [&] { return m().StartContainer(ctx_, slow); });
  in_start.wait();
  auto stages = std::make_shared<Stages>("");
  Ctx joining = ctx_;
  joining.TrackStages(stages);
  auto second = std::async(std::launch::async, [&] { return m().StartContainer(joining, slow); });
  while (std::string_view(stages->Current()) != "wait for the same call") std::this_thread::yield();
  EXPECT_EQ(m().StartContainer(ctx_.WithTimeout(0ms), slow).error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(Status(slow)->state, ContainerState::kCreated);
  go.count_down();
  EXPECT_TRUE(first.get());
  EXPECT_TRUE(second.get()) << "joined";
}

// ---- lists ----

TEST_F(ManagerTest, Filters) {
  std::string a = Pod("a"), b = Pod("b");
  std::string in_a = Running(a), in_b = Created(b);
  ASSERT_TRUE(m().StopSandbox(ctx_, b));
  EXPECT_THAT(m().ListSandboxes({}), SizeIs(2));
  EXPECT_THAT(m().ListSandboxes({.id = a.substr(0, 20)}), SizeIs(1));
  EXPECT_THAT(m().ListSandboxes({.state = SandboxState::kNotReady}), SizeIs(1));
  EXPECT_THAT(m().ListSandboxes({.labels = {{"app", "a"}}}), SizeIs(1));
  EXPECT_THAT(m().ListSandboxes({.labels = {{"app", "a"}, {"x", ""}}}), IsEmpty());
  EXPECT_THAT(m().ListContainers({.pod = a}), SizeIs(1));
  EXPECT_THAT(m().ListContainers({.state = ContainerState::kCreated}), SizeIs(1));
  EXPECT_THAT(m().ListContainers({.id = in_a, .pod = b}), IsEmpty());
  EXPECT_EQ((*m().GetContainer(in_b.substr(0, 16)))->id.str(), in_b);
  EXPECT_EQ(m().GetContainer("").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(m().GetSandbox("zz").error().code(), Code::kNotFound);
}

TEST_F(ManagerTest, AmbiguousPrefix) {
  for (int i = 0; i < 17; ++i) Pod(StrCat("p", i));  // of 17 two begin with the same digit
  bool ambiguous = false;
  for (char c : std::string("0123456789abcdef")) {
    Result<SandboxRef> found = m().GetSandbox(std::string(1, c));
    ambiguous = ambiguous || (!found && found.error().code() == Code::kInvalidArgument);
  }
  EXPECT_TRUE(ambiguous);
}

// S51
TEST_F(ManagerTest, S51HostileNamesAndPaths) {
  std::string long_name(4096, 'x');
  for (const std::string& bad :
       {std::string(), std::string(".."), std::string("a/b"), std::string("a\0b", 3), long_name, std::string("a\nb")}) {
    for (auto field : {&SandboxMetadata::name, &SandboxMetadata::pod_namespace, &SandboxMetadata::uid}) {
      SandboxConfig config = Sandbox("ok");
      config.metadata.*field = bad;
      EXPECT_EQ(m().RunSandbox(ctx_, config).error().code(), Code::kInvalidArgument) << bad;
    }
  }
  SandboxConfig config = Sandbox("ok");
  config.log_directory = dir_ + "/logs";
  std::string pod = m().RunSandbox(ctx_, config)->str();
  for (const std::string& bad : {std::string("../x.log"), std::string("/etc/x"), std::string("a/../../b"),
                                 std::string(".."), std::string("a\0b", 3), std::string(5000, 'x')}) {
    ContainerConfig container = Container("c");
    container.log_path = bad;
    EXPECT_EQ(m().CreateContainer(ctx_, pod, container).error().code(), Code::kInvalidArgument) << bad;
  }
  for (const char* bad : {"", "relative", "/x/../y"}) {
    ContainerConfig container = Container("c");
    container.mounts.push_back({.container_path = "/ok", .host_path = bad});
    EXPECT_EQ(m().CreateContainer(ctx_, pod, container).error().code(), Code::kInvalidArgument) << bad;
    container.mounts[0] = {.container_path = bad, .host_path = "/tmp"};
    EXPECT_EQ(m().CreateContainer(ctx_, pod, container).error().code(), Code::kInvalidArgument) << bad;
  }
  EXPECT_THAT(m().ListContainers({}), IsEmpty());
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

// ---- many at once ----

TEST_F(ManagerTest, ManyLivesAtOnce) {
  auto life = [&](int worker) {
    for (int i = 0; i < 5; ++i) {
      std::string pod = Pod(StrCat("w", worker, "-", i));
      std::string a = Running(pod, {"run"}, "a"), b = Running(pod, {"exit", "1"}, "b");
      EXPECT_FALSE(m().ListContainers({.pod = pod}).empty());
      if (i % 2 == 0) {
        EXPECT_TRUE(m().StopContainer(ctx_, a, 1s));
      }
      EXPECT_TRUE(m().RemoveSandbox(ctx_, pod));
    }
  };
  std::vector<std::future<void>> workers;
  for (int i = 0; i < 8; ++i) workers.push_back(std::async(std::launch::async, life, i));
  for (auto& worker : workers) worker.get();
  ExpectNothingLeft();
}

TEST_F(ManagerTest, VerbsOnOneContainerAtOnce) {
  std::string pod = Pod();
  for (int round = 0; round < 10; ++round) {
    std::string name = StrCat("c", round);
    std::string id = Created(pod, {"run"}, name);
    std::vector<std::future<void>> calls;
    auto call = [&](auto f) { calls.push_back(std::async(std::launch::async, f)); };
    call([&] { (void)m().StartContainer(ctx_, id).has_value(); });
    call([&] { (void)m().StartContainer(ctx_, id).has_value(); });
    call([&] { EXPECT_TRUE(m().StopContainer(ctx_, id, 0s)); });
    call([&] { EXPECT_TRUE(m().RemoveContainer(ctx_, id)); });
    call([&] { EXPECT_TRUE(m().RemoveContainer(ctx_, id)); });
    call([&] { m().ListContainers({}); });
    for (auto& each : calls) each.get();
  }
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

}  // namespace
}  // namespace crisp::pod
