// What happens to pods and containers that are there: stops, execs, updates, restarts of crispd. On a node made of
// files.
#include "pod/manager.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <future>

#include "base/json.h"
#include "base/strings.h"
#include "pod/testing/manager_fixture.h"
#include "pod/testing/world.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using namespace std::chrono_literals;
using testing::Container;
using testing::Daemon;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ManagerTest;
using testing::Sandbox;
using ::testing::SizeIs;

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

// They may be there for days: those of jobs, and of each restart.
TEST_F(ManagerTest, AnEndedContainerKeepsNoMount) {
  std::string pod = Pod();
  std::string created = Created(pod, {"run"}, "created"), running = Running(pod, {"run"}, "running");
  std::string ended = Running(pod, {"exit", "0"}, "ended"), stopped = Running(pod, {"stubborn"}, "stopped");
  std::string failed = Created(pod, {"missing"}, "failed"), untold = Running(pod, {"undead"}, "untold");
  EXPECT_FALSE(m().StartContainer(ctx_, failed));
  Exited(ended);
  for (const std::string& id : {stopped, untold}) ASSERT_TRUE(m().StopContainer(ctx_, id, 0s));
  (*daemon_)->DrainBackground();
  auto rootfs = [&](const std::string& id) { return StrCat(dir_, "/state/containers/", id, "/rootfs"); };
  auto mounted = [&](const std::string& id) { return world().Has("mounts", rootfs(id)); };
  EXPECT_TRUE(mounted(created));
  EXPECT_TRUE(mounted(running));
  EXPECT_FALSE(mounted(ended));
  EXPECT_FALSE(mounted(stopped));
  EXPECT_FALSE(mounted(failed));
  EXPECT_FALSE(mounted(untold)) << "its shim has not told of its end";
  world().Put("mounts", rootfs(ended));  // as if we had been killed before
  Restart();
  (*daemon_)->DrainBackground();
  EXPECT_FALSE(mounted(ended));
  EXPECT_TRUE(mounted(created));
  EXPECT_TRUE(mounted(running));
  EXPECT_EQ(Exited(ended)->reason, "Completed") << "and is there all the same";
  ASSERT_TRUE(m().RemoveContainer(ctx_, ended));
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  ExpectNothingLeft();
}

// The disk is full from its start on. A crispd that cannot know of its failure gives it back, to be started again.
TEST_F(ManagerTest, AFailedStartThatIsNotRecordedKeepsItsMount) {
  std::string id = Created(Pod(), {"missing"});
  signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  world().faults.Lock()->in_start = [&] {
    const rlimit full{0, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &full);
  };
  Result<> started = m().StartContainer(ctx_, id);
  const bool mounted = world().Has("mounts", StrCat(dir_, "/state/containers/", id, "/rootfs"));
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_FALSE(started);
  EXPECT_EQ(Status(id)->state, ContainerState::kExited);
  EXPECT_TRUE(mounted);
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
  update.resources =
      Resources{.cpu_period = 100'000, .cpu_quota = 50'000, .cpu_shares = 512, .memory_limit_bytes = 200};
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

TEST_F(ManagerTest, AConfigurationThatCouldNotBeReadAgainIsRefused) {
  SandboxConfig sandbox = Sandbox("web");
  sandbox.runtime_handler = "native";
  std::string pod = m().RunSandbox(ctx_, sandbox).value().str();
  std::string large = Created(pod, {"run", std::string(4'000'000, 'x')});
  Error refused = m().CreateContainer(ctx_, pod, Container("larger", {"run", std::string(4u << 20, 'x')})).error();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("config: makes a config.json of 4"));
  Restart();
  Result<> started = m().StartContainer(ctx_, large);
  EXPECT_TRUE(started) << started.error().message();
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

}  // namespace
}  // namespace crisp::pod
