// The verbs, on a node made of files.
#include "pod/manager.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <future>
#include <latch>
#include <thread>

#include "base/json.h"
#include "base/strings.h"
#include "pod/testing/world.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::Container;
using testing::Daemon;
using testing::Sandbox;

class ManagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = sys::Exists("/dev/shm") ? "/dev/shm/pod-test-XXXXXX" : "/tmp/pod-test-XXXXXX";
    dir_ = mkdtemp(name.data());
    daemon_ = std::make_unique<Daemon>(dir_);
  }
  void TearDown() override {
    daemon_.reset();
    std::filesystem::remove_all(dir_);
  }
  void Restart() {
    daemon_.reset();
    daemon_ = std::make_unique<Daemon>(dir_);
  }

  Manager& m() { return **daemon_; }
  testing::World& world() { return daemon_->world; }
  std::string Pod(const std::string& name = "web") {
    Result<PodId> id = m().RunSandbox(ctx_, Sandbox(name));
    EXPECT_TRUE(id) << id.error().message();
    return id ? id->str() : "";
  }
  std::string Created(const std::string& pod, std::vector<std::string> command = {"run"}, const std::string& name = "main") {
    Result<ContainerId> id = m().CreateContainer(ctx_, pod, Container(name, std::move(command)));
    EXPECT_TRUE(id) << id.error().message();
    return id ? id->str() : "";
  }
  std::string Running(const std::string& pod, std::vector<std::string> command = {"run"}, const std::string& name = "main") {
    std::string id = Created(pod, std::move(command), name);
    Result<> started = m().StartContainer(ctx_, id);
    EXPECT_TRUE(started) << started.error().message();
    return id;
  }
  ContainerRef Status(const std::string& id) { return *m().GetContainer(id); }
  // Events come on a worker of the manager.
  ContainerRef Exited(const std::string& id) {
    (*daemon_)->DrainBackground();
    ContainerRef status = Status(id);
    EXPECT_EQ(status->state, ContainerState::kExited);
    return status;
  }
  void ExpectNothingLeft() {
    (*daemon_)->DrainBackground();
    EXPECT_THAT(world().Left(), IsEmpty());
    EXPECT_THAT(*daemon_->db->List(kPodTable), IsEmpty());
    EXPECT_THAT(*daemon_->db->List(kContainerTable), IsEmpty());
    EXPECT_THAT(m().ListSandboxes({}), IsEmpty());
    EXPECT_THAT(m().ListContainers({}), IsEmpty());
  }

  std::string dir_;
  std::unique_ptr<Daemon> daemon_;
  Ctx ctx_;
};

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

// ---- exits ----

TEST_F(ManagerTest, ExitReasons) {
  std::string pod = Pod();
  EXPECT_EQ(Exited(Running(pod, {"exit", "0"}, "a"))->reason, "Completed");
  ContainerRef failed = Exited(Running(pod, {"exit", "7"}, "b"));
  EXPECT_EQ(failed->reason, "Error");
  EXPECT_EQ(failed->exit_code, 7);
  EXPECT_LE(failed->started_at, failed->finished_at) << "it ended before its start was recorded";
  ContainerRef oom = Exited(Running(pod, {"oom"}, "c"));
  EXPECT_EQ(oom->reason, "OOMKilled");
  EXPECT_EQ(oom->exit_code, 137);
}

TEST_F(ManagerTest, GraceZeroKillsAtOnceAndAgainIsSuccess) {
  std::string id = Running(Pod(), {"stubborn"});
  ASSERT_TRUE(m().StopContainer(ctx_, id, 0s));
  EXPECT_EQ(Exited(id)->exit_code, 137);
  EXPECT_TRUE(m().StopContainer(ctx_, id, 0s));
  EXPECT_TRUE(m().StopContainer(ctx_, std::string(64, 'e'), 5s)) << "unknown is as good as stopped";
}

TEST_F(ManagerTest, StubbornOneIsKilledAfterItsGrace) {
  std::string id = Running(Pod(), {"stubborn"});
  ASSERT_TRUE(m().StopContainer(ctx_, id, 1s));
  EXPECT_EQ(Exited(id)->exit_code, 137);
}

TEST_F(ManagerTest, SecondStopShortensTheGraceOfTheFirst) {
  std::string pod = Pod();
  std::string id = Running(pod, {"stubborn"});
  auto patient = std::async(std::launch::async, [&] { return m().StopContainer(ctx_, id, 3600s); });
  while (!world().Has("processes", id) || m().ExecSync(ctx_, id, {"x"}, 1s).has_value()) {
    // An exec goes through while a stop waits. Removing must not wait for that hour either.
    if (m().RemoveContainer(ctx_, id)) break;
  }
  EXPECT_TRUE(patient.get());
  EXPECT_EQ(m().GetContainer(id).error().code(), Code::kNotFound);
}

TEST_F(ManagerTest, StopEndsEvenIfTheShimSaysNothing) {
  std::string id = Running(Pod(), {"undead"});
  ASSERT_TRUE(m().StopContainer(ctx_, id, 0s));
  ContainerRef status = Exited(id);
  EXPECT_EQ(status->exit_code, 137);
  EXPECT_THAT(status->message, HasSubstr("did not report"));
  EXPECT_FALSE(world().Has("processes", id)) << "killed by its cgroup";
}

// User pain 29: a hung shim is ended, and the pod with it.
TEST_F(ManagerTest, HungShimIsEnded) {
  std::string pod = Pod();
  std::string id = Running(pod), other = Running(pod, {"run"}, "other");
  world().faults.Lock()->shim_hangs = true;
  ASSERT_TRUE(m().StopContainer(ctx_, id, 10s));
  EXPECT_EQ(Exited(id)->exit_code, 137);
  EXPECT_EQ(Exited(other)->exit_code, 137);
  EXPECT_FALSE(world().Has("shims", pod));
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady);
  world().faults.Lock()->shim_hangs = false;
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, LostShimTakesItsContainersWithIt) {
  std::string pod = Pod();
  std::string id = Running(pod);
  world().KillShim(*PodId::Parse(pod));
  ContainerRef status = Exited(id);
  EXPECT_EQ(status->exit_code, 137);
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady);
  EXPECT_FALSE(world().Has("processes", id)) << "nobody runs without a shim";
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

// ---- idempotence ----

TEST_F(ManagerTest, UnknownAndAgainAreSuccess) {
  std::string unknown = std::string(64, 'a');
  for (const std::string& id : {unknown, std::string("1f6b5d34-uuid"), std::string("../../etc")}) {
    EXPECT_TRUE(m().StopSandbox(ctx_, id));
    EXPECT_TRUE(m().RemoveSandbox(ctx_, id));
    EXPECT_TRUE(m().RemoveContainer(ctx_, id));
    EXPECT_TRUE(m().StopContainer(ctx_, id, 0s));
  }
  std::string pod = Pod();
  std::string id = Running(pod);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(m().RemoveContainer(ctx_, id));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(m().StopSandbox(ctx_, pod));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, StoppingACreatedContainerIsSuccess) {
  std::string id = Created(Pod());
  EXPECT_TRUE(m().StopContainer(ctx_, id, 10s));
  EXPECT_EQ(Status(id)->state, ContainerState::kCreated);
}

// ---- exec, update, log ----

TEST_F(ManagerTest, ExecSync) {
  std::string pod = Pod();
  std::string created = Created(pod, {"run"}, "created");
  EXPECT_EQ(m().ExecSync(ctx_, created, {"ls"}, 1s).error().code(), Code::kFailedPrecondition);
  std::string id = Running(pod);
  Result<ExecOutput> done = m().ExecSync(ctx_, id, {"ls", "-l"}, 1s);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(done->exit_code, 3);
  EXPECT_EQ(ParseJson(done->out, "process")->at("args"), Json::array({"ls", "-l"}));
  EXPECT_EQ(m().ExecSync(ctx_, id, {"sleep"}, 1s).error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(m().ExecSync(ctx_, id, {}, 1s).error().code(), Code::kInvalidArgument);
}

TEST_F(ManagerTest, UpdateOfARunningContainer) {
  std::string id = Running(Pod());
  Resources resources;
  resources.cpu_shares = 512;
  ASSERT_TRUE(m().UpdateResources(ctx_, id, resources, {}));
  EXPECT_THAT(world().Get("updates", id), HasSubstr("512"));
  EXPECT_EQ(Status(id)->resources.cpu_shares, 512);
  ASSERT_TRUE(m().StopContainer(ctx_, id, 0s));
  EXPECT_EQ(m().UpdateResources(ctx_, id, resources, {}).error().code(), Code::kFailedPrecondition);
}

TEST_F(ManagerTest, UpdateOfACreatedContainerChangesItsConfig) {
  std::string id = Created(Pod());
  Resources resources;
  resources.memory_limit_bytes = 64 << 20;
  ASSERT_TRUE(m().UpdateResources(ctx_, id, resources, {}));
  Json config = *ParseJson(*sys::ReadFile(StrCat(dir_, "/state/containers/", id, "/config.json")), "config");
  EXPECT_EQ(config["linux"]["resources"]["memory"]["limit"], 64 << 20);
  EXPECT_TRUE(config["linux"]["resources"].contains("devices")) << "what is not updated stays";
  EXPECT_TRUE(m().StartContainer(ctx_, id));
}

TEST_F(ManagerTest, UpdatesSurviveARestartAndAreKeptAsTheyAre) {
  SandboxConfig config = Sandbox("web");
  config.resources.memory_limit_bytes = 100;
  std::string pod = m().RunSandbox(ctx_, config)->str();
  std::string created = Created(pod), running = Running(pod, {"run"}, "running");
  Resources resources;
  resources.memory_limit_bytes = 200;
  resources.memory_swap_limit_bytes = 300;
  resources.oom_score_adj = 500;
  resources.hugepages = {{"2MB", 4}, {"1GB", 0}};
  for (const std::string& id : {created, running}) ASSERT_TRUE(m().UpdateResources(ctx_, id, resources, {}));
  SandboxResources update;
  update.resources = resources;
  ASSERT_TRUE(m().UpdateSandboxResources(ctx_, pod, update));
  Restart();
  EXPECT_EQ(m().RunSandbox(ctx_, config)->str(), pod) << "a repeated request is still the same one";
  EXPECT_EQ((*m().GetSandbox(pod))->resources.memory_limit_bytes, 200);
  for (const std::string& id : {created, running}) {
    EXPECT_EQ(Status(id)->resources.memory_limit_bytes, 200);
    EXPECT_EQ(Status(id)->resources.memory_swap_limit_bytes, 300);
  }
  EXPECT_EQ(Status(created)->resources.oom_score_adj, 500);
  EXPECT_EQ(Status(running)->resources.oom_score_adj, 0) << "its processes keep the score that they were born with";
  Json planned = *ParseJson(*sys::ReadFile(StrCat(dir_, "/state/containers/", created, "/config.json")), "config");
  EXPECT_EQ(planned["process"]["oomScoreAdj"], 500);
  EXPECT_EQ(planned["linux"]["resources"]["hugepageLimits"], Json::array({{{"pageSize", "2MB"}, {"limit", 4}}}));
  EXPECT_THAT(world().Get("limits", Status(running)->cgroup_path), HasSubstr("2MB=4")) << "runc update ignores them";
}

TEST_F(ManagerTest, ALimitBelowWhatIsUsedIsRefused) {
  std::string id = Running(Pod());
  world().faults.Lock()->memory_used = 1000;
  Resources resources;
  resources.memory_limit_bytes = 999;
  Result<> updated = m().UpdateResources(ctx_, id, resources, {});
  EXPECT_EQ(updated.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(updated.error().message(), HasSubstr("1000"));
  EXPECT_EQ(Status(id)->resources.memory_limit_bytes, 0);
  resources.memory_limit_bytes = 1000;
  EXPECT_TRUE(m().UpdateResources(ctx_, id, resources, {}));
}

TEST_F(ManagerTest, PodResourcesLimitOnlyACgroupOfOurs) {
  SandboxConfig config = Sandbox("ours");
  config.resources.memory_limit_bytes = 100;
  config.overhead.memory_limit_bytes = 7;
  std::string pod = m().RunSandbox(ctx_, config)->str();
  auto limits = [&] { return world().Get("limits", "/crisp/" + pod); };
  EXPECT_THAT(limits(), HasSubstr("memory=107 "));
  SandboxResources update;
  update.resources = Resources{.cpu_period = 100'000, .cpu_quota = 50'000, .cpu_shares = 512, .memory_limit_bytes = 200};
  ASSERT_TRUE(m().UpdateSandboxResources(ctx_, pod, update));
  EXPECT_THAT(limits(), HasSubstr("memory=207 swap=0 shares=512 quota=50000/100000"));
  EXPECT_EQ((*m().GetSandbox(pod))->overhead.memory_limit_bytes, 7) << "what is not said stays";
  update = {};
  update.overhead = Resources{.memory_limit_bytes = 9};
  ASSERT_TRUE(m().UpdateSandboxResources(ctx_, pod, update));
  EXPECT_THAT(limits(), HasSubstr("memory=209 "));

  config.metadata.name = "kubelet's";
  config.cgroup_parent = "/kubepods/pod1";
  std::string theirs = m().RunSandbox(ctx_, config)->str();
  ASSERT_TRUE(m().UpdateSandboxResources(ctx_, theirs, update));
  EXPECT_EQ((*m().GetSandbox(theirs))->overhead.memory_limit_bytes, 9);
  EXPECT_THAT(world().Names("limits"), SizeIs(1));

  update.resources = Resources{.memory_limit_bytes = 5, .memory_swap_limit_bytes = 4};
  EXPECT_EQ(m().UpdateSandboxResources(ctx_, pod, update).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(m().UpdateSandboxResources(ctx_, "nothing", update).error().code(), Code::kNotFound);
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  EXPECT_EQ(m().UpdateSandboxResources(ctx_, pod, {}).error().code(), Code::kFailedPrecondition);
}

TEST_F(ManagerTest, ReopenLogOnlyWhileItRuns) {
  std::string id = Created(Pod());
  EXPECT_EQ(m().ReopenLog(ctx_, id).error().code(), Code::kFailedPrecondition);
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  ASSERT_TRUE(m().ReopenLog(ctx_, id));
  EXPECT_TRUE(world().Has("reopened", id));
}

TEST_F(ManagerTest, LogPathIsBelowTheLogDirectory) {
  SandboxConfig config = Sandbox("web");
  config.log_directory = dir_ + "/logs/pod";
  std::string pod = m().RunSandbox(ctx_, config)->str();
  ContainerConfig container = Container("main");
  container.log_path = "main/0.log";
  std::string id = m().CreateContainer(ctx_, pod, container)->str();
  EXPECT_EQ(Status(id)->log_path, dir_ + "/logs/pod/main/0.log");
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  EXPECT_TRUE(std::filesystem::is_directory(dir_ + "/logs/pod/main")) << "made where the client has not";
}

TEST_F(ManagerTest, TargetPidNamespace) {
  std::string pod = Pod();
  std::string target = Running(pod);
  ContainerConfig config = Container("debug");
  config.security.namespaces.pid = NamespaceMode::kTarget;
  config.security.namespaces.target_id = target;
  std::string id = m().CreateContainer(ctx_, pod, config)->str();
  EXPECT_THAT(*sys::ReadFile(StrCat(dir_, "/state/containers/", id, "/config.json")), HasSubstr("/proc/4711/ns/pid"));
  config.metadata.name = "debug2";
  config.security.namespaces.target_id = Running(Pod("other"));
  EXPECT_EQ(m().CreateContainer(ctx_, pod, config).error().code(), Code::kInvalidArgument) << "another pod's container";
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
  for (const std::string& bad : {std::string(), std::string(".."), std::string("a/b"), std::string("a\0b", 3), long_name,
                                 std::string("a\nb")}) {
    for (auto field : {&SandboxMetadata::name, &SandboxMetadata::pod_namespace, &SandboxMetadata::uid}) {
      SandboxConfig config = Sandbox("ok");
      config.metadata.*field = bad;
      EXPECT_EQ(m().RunSandbox(ctx_, config).error().code(), Code::kInvalidArgument) << bad;
    }
  }
  SandboxConfig config = Sandbox("ok");
  config.log_directory = dir_ + "/logs";
  std::string pod = m().RunSandbox(ctx_, config)->str();
  for (const std::string& bad : {std::string("../x.log"), std::string("/etc/x"), std::string("a/../../b"), std::string(".."),
                                 std::string("a\0b", 3), std::string(5000, 'x')}) {
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

// ---- restarts ----

TEST_F(ManagerTest, RestartKeepsEverything) {
  std::string pod = Pod();
  std::string running = Running(pod), created = Created(pod, {"run"}, "created");
  std::string failed = Running(pod, {"exit", "5"}, "failed");
  (*daemon_)->DrainBackground();
  SandboxRef before = *m().GetSandbox(pod);
  Restart();
  SandboxRef after = *m().GetSandbox(pod);
  EXPECT_EQ(after->state, SandboxState::kReady);
  EXPECT_EQ(after->created_at, before->created_at);
  EXPECT_EQ(after->ips, before->ips);
  EXPECT_EQ(Status(running)->state, ContainerState::kRunning);
  EXPECT_EQ(Status(created)->state, ContainerState::kCreated);
  EXPECT_EQ(Exited(failed)->exit_code, 5);
  EXPECT_TRUE(world().Has("processes", running)) << "no container notices";
  EXPECT_EQ(Pod(), pod) << "the same request finds the same pod";
  EXPECT_EQ(Created(pod, {"run"}, "created"), created);
  ASSERT_TRUE(m().StopContainer(ctx_, running, 5s));
  EXPECT_EQ(Exited(running)->exit_code, 128 + SIGUSR1);
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, RepeatedStartAfterARestartIsAnsweredOnce) {
  std::string id = Running(Pod());
  Restart();
  EXPECT_TRUE(m().StartContainer(ctx_, id)) << "its answer may have been lost with us";
  EXPECT_EQ(m().StartContainer(ctx_, id).error().code(), Code::kFailedPrecondition);
}

TEST_F(ManagerTest, ExitsMeanwhileAreTakenFromTheirFiles) {
  std::string pod = Pod();
  std::string id = Running(pod), lost = Running(pod, {"run"}, "lost");
  daemon_.reset();
  {
    testing::World world(dir_);
    world.End(*ContainerId::Parse(id), 3, false, true);
  }
  daemon_ = std::make_unique<Daemon>(dir_);
  EXPECT_EQ(Exited(id)->exit_code, 3);
  EXPECT_EQ(Status(lost)->state, ContainerState::kRunning);
}

TEST_F(ManagerTest, ShimThatDiedMeanwhile) {
  std::string pod = Pod();
  std::string with_file = Running(pod), without = Running(pod, {"run"}, "without");
  daemon_.reset();
  {
    testing::World world(dir_);
    world.End(*ContainerId::Parse(with_file), 3, false, true);
    world.KillShim(*PodId::Parse(pod));
  }
  daemon_ = std::make_unique<Daemon>(dir_);
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady);
  EXPECT_EQ(Exited(with_file)->exit_code, 3);
  EXPECT_EQ(Exited(without)->exit_code, 255);
  EXPECT_EQ(Status(without)->reason, "Unknown");
  EXPECT_FALSE(world().Has("processes", without));
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, SlowShimIsNotTakenForDead) {
  std::string pod = Pod();
  std::string id = Running(pod);
  daemon_.reset();
  daemon_ = std::make_unique<Daemon>(dir_, false);
  world().faults.Lock()->reconnect_hangs = true;
  auto recovered = std::async(std::launch::async, [&] { return m().Recover(ctx_); });
  ASSERT_TRUE(recovered.get());
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kReady);
  EXPECT_TRUE(world().Has("processes", id));
}

TEST_F(ManagerTest, AfterARebootEverythingIsDead) {
  std::string pod = Pod();
  std::string id = Running(pod), created = Created(pod, {"run"}, "created");
  daemon_.reset();
  testing::World(dir_).Reboot();
  daemon_ = std::make_unique<Daemon>(dir_, false);
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady) << "known before recovery";
  EXPECT_EQ(Status(id)->state, ContainerState::kExited);
  EXPECT_EQ(Status(id)->exit_code, 255);
  ASSERT_TRUE(m().Recover(ctx_));
  EXPECT_THAT(world().Names("networks"), IsEmpty());
  Restart();  // the same boot now
  EXPECT_EQ((*m().GetSandbox(pod))->state, SandboxState::kNotReady);
  EXPECT_EQ(m().StartContainer(ctx_, created).error().code(), Code::kFailedPrecondition);
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

TEST_F(ManagerTest, VerbsWaitForRecoveryListsDoNot) {
  std::string pod = Pod();
  daemon_.reset();
  daemon_ = std::make_unique<Daemon>(dir_, false);
  EXPECT_THAT(m().ListSandboxes({}), SizeIs(1));
  auto stopped = std::async(std::launch::async, [&] { return m().StopSandbox(ctx_, pod); });
  EXPECT_EQ(stopped.wait_for(50ms), std::future_status::timeout);
  EXPECT_TRUE(m().RunSandbox(ctx_, Sandbox("new"))) << "new pods need not wait";
  ASSERT_TRUE(m().Recover(ctx_));
  EXPECT_TRUE(stopped.get());
}

// User pain 22: a start never fails because of a record.
TEST_F(ManagerTest, BadRecordsAreSetAside) {
  std::string pod = Pod();
  std::string id = Running(pod);
  state::Database& db = *daemon_->db;
  auto put = [&](const char* table, const std::string& key, int version, const std::string& value) {
    ASSERT_TRUE(db.Put(table, key, version, value, state::Durability::kProcess));
  };
  put(kPodTable, "no-id", 1, "{}");
  put(kPodTable, std::string(64, '1'), 1, "{\"config\":");
  put(kPodTable, std::string(64, '2'), 99, "{}");
  put(kPodTable, std::string(64, '3'), 1, R"({"config":{"metadata":{"attempt":-1}}})");
  put(kPodTable, std::string(64, '4'), 1, R"({"phase":7})");
  put(kContainerTable, std::string(64, '5'), 1, R"({"pod":")" + std::string(64, '9') + "\"}");
  put(kContainerTable, std::string(64, '6'), 1, R"({"pod":"../.."})");
  Restart();
  EXPECT_THAT(m().ListSandboxes({}), SizeIs(1));
  EXPECT_THAT(m().ListContainers({}), SizeIs(1));
  EXPECT_EQ(Status(id)->state, ContainerState::kRunning);
  EXPECT_THAT(*daemon_->db->List(kPodTable), SizeIs(1));
  EXPECT_THAT(*daemon_->db->List(kContainerTable), SizeIs(1));
}

TEST_F(ManagerTest, SweepRemovesWhatNoRecordNames) {
  std::string pod = Pod();
  std::string id = Running(pod);
  PodId stray = PodId::Random();
  ContainerId stray_container = ContainerId::Random();
  std::string stray_dir = StrCat(dir_, "/state/pods/", stray.str());
  ASSERT_TRUE(sys::MakeDirs(stray_dir + "/shm", 0700));
  world().Put("mounts", stray_dir + "/shm");
  world().Put("shims", stray.str(), stray_dir);
  world().Put("networks", stray.str());
  world().Put("cgroups", "/crisp/" + stray.str());
  world().Put("leases", stray_container.str());
  ASSERT_TRUE(sys::MakeDirs(StrCat(dir_, "/root/containers/", stray_container.str(), "/upper"), 0700));
  ASSERT_TRUE(sys::MakeDirs(StrCat(dir_, "/state/pods/not-an-id"), 0700));
  m().Sweep(ctx_);
  EXPECT_TRUE(std::filesystem::exists(dir_ + "/state/pods/not-an-id")) << "not ours to judge";
  std::filesystem::remove(dir_ + "/state/pods/not-an-id");
  EXPECT_EQ(Status(id)->state, ContainerState::kRunning);
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
