// Checkpoint and restore, on a node made of files.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "base/stages.h"
#include "base/strings.h"
#include "checkpoint/files.h"
#include "pod/testing/world.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using namespace std::chrono_literals;
using testing::Container;
using testing::Daemon;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Sandbox;
namespace fs = std::filesystem;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = sys::Exists("/dev/shm") ? "/dev/shm/pod-test-XXXXXX" : "/tmp/pod-test-XXXXXX";
    dir_ = mkdtemp(name.data());
    daemon_ = std::make_unique<Daemon>(dir_);
  }
  void TearDown() override {
    daemon_.reset();
    fs::remove_all(dir_);
  }
  Manager& m() { return **daemon_; }
  testing::World& world() { return daemon_->world; }
  std::string Pod(const std::string& name = "web") { return m().RunSandbox(ctx_, Sandbox(name))->str(); }
  std::string Running(const std::string& pod, const std::string& name = "main") {
    std::string id = m().CreateContainer(ctx_, pod, Container(name))->str();
    EXPECT_TRUE(m().StartContainer(ctx_, id));
    return id;
  }
  std::string At(const std::string& name) { return dir_ + "/" + name; }
  void ExpectNothingBegun() {
    EXPECT_THAT(world().Names("paused"), IsEmpty());
    for (const auto& entry : fs::directory_iterator(dir_)) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".crisp")) << entry.path();
    }
    for (const auto& container : fs::directory_iterator(At("root/containers"))) {
      EXPECT_FALSE(fs::exists(container.path() / "dump")) << container.path();
    }
  }
  // The archive as the layer of the image "checkpointed".
  void MakeImage(const std::string& archive) {
    fs::create_directory(At("checkpoint-layer"));
    sys::UniqueFd fd = *sys::Open(archive, O_RDONLY);
    ASSERT_TRUE(checkpoint::UnpackArchive(ctx_, fd, At("checkpoint-layer")));
  }

  Ctx ctx_;
  std::string dir_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(CheckpointTest, AContainerGoesOnAndIsRestoredElsewhere) {
  std::string id = Running(Pod());
  Result<> done = m().CheckpointContainer(ctx_, id, At("c.tar"), 0s);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ((*m().GetContainer(id))->state, ContainerState::kRunning);
  ExpectNothingBegun();

  MakeImage(At("c.tar"));
  ContainerConfig config = Container("main");
  config.image = "checkpointed";
  std::string pod = Pod("other");
  Result<ContainerId> restored = m().CreateContainer(ctx_, pod, config);
  ASSERT_TRUE(restored) << restored.error().message();
  ContainerRef status = *m().GetContainer(restored->str());
  EXPECT_EQ(status->state, ContainerState::kCreated);
  EXPECT_EQ(status->image_id, "sha256:" + std::string(64, 'b')) << "the image that it was made of";
  EXPECT_EQ(world().Get("leases", restored->str()), status->image_id);
  ASSERT_TRUE(m().StartContainer(ctx_, restored->str()));
  EXPECT_EQ(world().Get("restored", restored->str()), "memory of " + id);
  EXPECT_FALSE(fs::exists(At(StrCat("root/containers/", restored->str(), "/checkpoint"))))
      << "its memory stays on disk";
}

TEST_F(CheckpointTest, AFailedDumpChangesNothing) {
  std::string id = Running(Pod());
  world().faults.Lock()->checkpoints_failing = 1;
  Result<> done = m().CheckpointContainer(ctx_, id, At("c.tar"), 5s);
  EXPECT_THAT(done.error().message(), HasSubstr("no such luck"));
  EXPECT_FALSE(fs::exists(At("c.tar")));
  EXPECT_EQ((*m().GetContainer(id))->state, ContainerState::kRunning);
  ExpectNothingBegun();
  EXPECT_TRUE(m().CheckpointContainer(ctx_, id, At("c.tar"), 5s));
}

TEST_F(CheckpointTest, Refusals) {
  std::string pod = Pod();
  std::string created = m().CreateContainer(ctx_, pod, Container("late"))->str();
  EXPECT_EQ(m().CheckpointContainer(ctx_, created, At("c.tar"), 0s).error().code(), Code::kFailedPrecondition);
  std::string id = Running(pod);
  std::ofstream(At("c.tar")) << "mine";
  EXPECT_EQ(m().CheckpointContainer(ctx_, id, At("c.tar"), 0s).error().code(), Code::kAlreadyExists);
  EXPECT_EQ(*sys::ReadFile(At("c.tar")), "mine");
  EXPECT_EQ(m().CheckpointContainer(ctx_, id, At("no/dir/c.tar"), 0s).error().code(), Code::kNotFound);
  fs::create_directory(At("full"));
  for (int i = 0; i < 32; ++i) std::ofstream(At(StrCat("full/", i, ".tar")));
  EXPECT_EQ(m().CheckpointContainer(ctx_, id, At("full/c.tar"), 0s).error().code(), Code::kResourceExhausted);
  ExpectNothingBegun();
}

TEST_F(CheckpointTest, MountsComeFromTheRequestOnly) {
  std::string pod = Pod();
  ContainerConfig config = Container("main");
  Mount mount;
  mount.container_path = "/secrets";
  mount.host_path = dir_;
  config.mounts.push_back(mount);
  std::string id = m().CreateContainer(ctx_, pod, config)->str();
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  ASSERT_TRUE(m().CheckpointContainer(ctx_, id, At("c.tar"), 0s));
  MakeImage(At("c.tar"));
  config.image = "checkpointed";
  config.mounts.clear();
  std::string other = Pod("other");
  Result<ContainerId> refused = m().CreateContainer(ctx_, other, config);
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.error().message(), HasSubstr("/secrets"));
  EXPECT_THAT(m().ListContainers({.id = {}, .pod = other, .state = {}, .labels = {}}), IsEmpty());
  config.mounts.push_back(mount);
  EXPECT_TRUE(m().CreateContainer(ctx_, other, config));
}

TEST_F(CheckpointTest, AnImageThatOnlyClaimsToBeOne) {
  fs::create_directory(At("checkpoint-layer"));
  ContainerConfig config = Container("main");
  config.image = "checkpointed";
  std::string pod = Pod();
  EXPECT_EQ(m().CreateContainer(ctx_, pod, config).error().code(), Code::kInvalidArgument);
  std::ofstream(At("checkpoint-layer/config.dump")) << R"({"id":"x","rootfsImageName":"elsewhere"})";
  EXPECT_EQ(m().CreateContainer(ctx_, pod, config).error().code(), Code::kNotFound);
  std::ofstream(At("checkpoint-layer/config.dump")) << R"({"id":"x","rootfsImageName":"busybox"})";
  EXPECT_EQ(m().CreateContainer(ctx_, pod, config).error().code(), Code::kInvalidArgument) << "no images of processes";
  EXPECT_THAT(m().ListContainers({}), IsEmpty());
}

TEST_F(CheckpointTest, APodWithAllItsContainers) {
  std::string pod = Pod();
  std::string a = Running(pod, "a"), b = Running(pod, "b");
  Result<> done = m().CheckpointPod(ctx_, pod, At("p"), {});
  ASSERT_TRUE(done) << done.error().message();
  ExpectNothingBegun();
  EXPECT_EQ(m().CheckpointPod(ctx_, pod, At("p"), {}).error().code(), Code::kAlreadyExists);

  std::vector<ContainerConfig> configs = {Container("b"), Container("a")};
  EXPECT_EQ(m().RestorePod(ctx_, At("p"), Sandbox("new"), {Container("a")}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(
      m().RestorePod(ctx_, At("p"), Sandbox("new"), {Container("a"), Container("b"), Container("c")}).error().code(),
      Code::kInvalidArgument);
  EXPECT_EQ(m().RestorePod(ctx_, At("p"), Sandbox("web"), configs).error().code(), Code::kAlreadyExists);
  Result<RestoredPod> restored = m().RestorePod(ctx_, At("p"), Sandbox("new"), configs);
  ASSERT_TRUE(restored) << restored.error().message();
  ASSERT_EQ(restored->containers.size(), 2u);
  for (const auto& [name, id] : restored->containers) {
    EXPECT_EQ((*m().GetContainer(id.str()))->state, ContainerState::kCreated);
    ASSERT_TRUE(m().StartContainer(ctx_, id.str()));
    EXPECT_EQ(world().Get("restored", id.str()), "memory of " + (name == "a" ? a : b));
  }
}

TEST_F(CheckpointTest, ChosenContainersOfAPod) {
  std::string pod = Pod(), other = Pod("other");
  std::string a = Running(pod, "a"), stranger = Running(other, "x");
  (void)Running(pod, "b");
  EXPECT_EQ(m().CheckpointPod(ctx_, pod, At("p"), {stranger}).error().code(), Code::kInvalidArgument);
  ASSERT_TRUE(m().CheckpointPod(ctx_, pod, At("p"), {a}));
  EXPECT_TRUE(m().RestorePod(ctx_, At("p"), Sandbox("new"), {Container("a")}));
}

TEST_F(CheckpointTest, APodThatCannotBeRestoredLeavesNothing) {
  std::string pod = Pod();
  std::string a = Running(pod, "a");
  ASSERT_TRUE(m().CheckpointPod(ctx_, pod, At("p"), {}));
  std::ofstream(At(StrCat("p/", a, ".tar"))) << "garbage";
  EXPECT_FALSE(m().RestorePod(ctx_, At("p"), Sandbox("new"), {Container("a")}));
  EXPECT_EQ(m().ListSandboxes({}).size(), 1u);
  EXPECT_EQ(m().RestorePod(ctx_, At("nothing"), Sandbox("new"), {}).error().code(), Code::kNotFound);
}

// Nobody is told the id of a pod that goes again.
TEST_F(CheckpointTest, WhoJoinsARestoreGetsItsResult) {
  std::string pod = Pod();
  std::string a = Running(pod, "a");
  ASSERT_TRUE(m().CheckpointPod(ctx_, pod, At("p"), {}));
  for (bool fails : {false, true}) {
    if (fails) std::ofstream(At(StrCat("p/", a, ".tar"))) << "garbage";
    SandboxConfig config = Sandbox(fails ? "bad" : "good");
    std::optional<Result<PodId>> joined;
    std::thread joiner;
    world().faults.Lock()->in_setup = [&, begun = false]() mutable {
      if (std::exchange(begun, true)) return;
      Ctx ctx;
      auto stages = std::make_shared<Stages>("begin");
      ctx.TrackStages(stages);
      joiner = std::thread([&, ctx] { joined = m().RunSandbox(ctx, config); });
      while (stages->Current() != std::string_view("wait for the same call")) std::this_thread::yield();
    };
    Result<RestoredPod> restored = m().RestorePod(ctx_, At("p"), config, {Container("a")});
    joiner.join();
    world().faults.Lock()->in_setup = nullptr;
    ASSERT_EQ(restored.has_value(), !fails);
    ASSERT_EQ(joined->has_value(), !fails);
    if (fails) {
      EXPECT_EQ(joined->error().message(), restored.error().message());
      EXPECT_EQ(m().ListSandboxes({}).size(), 2u) << "the checkpointed one and the good one";
    } else {
      EXPECT_EQ(**joined, restored->pod);
    }
  }
  EXPECT_TRUE(m().RunSandbox(ctx_, Sandbox("bad"))) << "its name is free";
}

TEST_F(CheckpointTest, AFailedPodCheckpointLeavesNothing) {
  std::string pod = Pod();
  (void)Running(pod, "a");
  (void)Running(pod, "b");
  world().faults.Lock()->checkpoints_failing = 1;
  EXPECT_FALSE(m().CheckpointPod(ctx_, pod, At("p"), {}));
  EXPECT_FALSE(fs::exists(At("p")));
  fs::create_directory(At("q"));
  world().faults.Lock()->checkpoints_failing = 1;
  EXPECT_FALSE(m().CheckpointPod(ctx_, pod, At("q"), {}));
  EXPECT_TRUE(fs::is_empty(At("q"))) << "whoever made the directory keeps it";
  ExpectNothingBegun();
}

}  // namespace
}  // namespace crisp::pod
