// At every failpoint that the verbs pass: the program is killed there (and, in another run, the step fails there); a new
// one recovers, the caller repeats its calls, and in the end nothing is left. Also with a second kill within the recovery.
// The killed program is this test binary itself, run again on the same directory.
#include <gmock/gmock.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "base/strings.h"
#include "pod/testing/world.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::pod {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;
using testing::Container;
using testing::Daemon;
using testing::Sandbox;

constexpr char kDirVariable[] = "CRISP_POD_TEST_DIR";
constexpr char kModeVariable[] = "CRISP_POD_TEST_MODE";  // "recover": only that

// Tries as a kubelet does: again until it succeeds.
template <class Call>
auto Insist(const char* what, Call call) -> decltype(call()) {
  for (int i = 0; i < 4; ++i) {
    if (auto done = call()) return done;
  }
  auto last = call();
  EXPECT_TRUE(last) << what << ": " << last.error().message();
  return last;
}

// A pod of two containers is checkpointed and restored under another name, and goes.
void MoveAPod(Daemon& daemon) {
  Ctx ctx;
  Manager& m = *daemon;
  const std::string dir = daemon.world.Dir("moved");
  const std::vector<ContainerConfig> configs = {Container("a", {"run"}), Container("b", {"run"})};
  if (!sys::Exists(dir + "/pod.dump")) {
    EXPECT_FALSE(sys::Exists(dir)) << "half a pod's checkpoint is left";
    auto pod = Insist("RunPodSandbox", [&] { return m.RunSandbox(ctx, Sandbox("moves")); });
    if (!pod) return;
    for (const ContainerConfig& config : configs) {
      auto id = Insist("CreateContainer", [&] { return m.CreateContainer(ctx, pod->str(), config); });
      if (id && (*m.GetContainer(id->str()))->state == ContainerState::kCreated) {
        (void)Insist("StartContainer", [&] { return m.StartContainer(ctx, id->str()); });
      }
    }
    (void)Insist("CheckpointPod", [&]() -> Result<> {
      Result<> made = m.CheckpointPod(ctx, pod->str(), dir, {});
      return sys::Exists(dir + "/pod.dump") ? Result<>() : std::move(made);
    });
  }
  (void)Insist("RestorePod", [&]() -> Result<> {
    Result<RestoredPod> restored = m.RestorePod(ctx, dir, Sandbox("restored"), configs);
    if (restored) return {};
    for (const SandboxRef& there : m.ListSandboxes({.state = SandboxState::kReady})) {
      if (there->config.metadata.name != "restored") continue;
      // The answer was lost, not the pod.
      EXPECT_EQ(m.ListContainers({.pod = there->id.str()}).size(), configs.size()) << "half a restored pod is left";
      return {};
    }
    return std::move(restored).error();
  });
  for (const SandboxRef& there : m.ListSandboxes({})) {
    if (there->config.metadata.name == "web") continue;
    (void)Insist("RemovePodSandbox", [&] { return m.RemoveSandbox(ctx, there->id.str()); });
  }
}

// All verbs, each repeated until it succeeds; repeatable from the start on whatever an earlier, killed run has left.
void LiveOneLife(Daemon& daemon) {
  Ctx ctx;
  Manager& m = *daemon;
  // A pod that was being stopped when the program died: its client goes on with that.
  for (const SandboxRef& old : m.ListSandboxes({.state = SandboxState::kNotReady})) {
    (void)Insist("StopPodSandbox", [&] { return m.StopSandbox(ctx, old->id.str()); });
    (void)Insist("RemovePodSandbox", [&] { return m.RemoveSandbox(ctx, old->id.str()); });
  }
  SandboxConfig web = Sandbox("web");
  web.security.namespaces.userns_pod = true;
  web.security.namespaces.uids =
      web.security.namespaces.gids = {{.host_id = 100000, .container_id = 0, .length = 65536}};
  auto pod = Insist("RunPodSandbox", [&] { return m.RunSandbox(ctx, web); });
  if (!pod) return;
  auto container = [&](const std::string& name, std::vector<std::string> command) {
    ContainerConfig config = Container(name, command);
    config.mounts.push_back({.container_path = "/models", .readonly = true, .image = "busybox"});
    auto id = Insist("CreateContainer", [&]() -> Result<ContainerId> {
      auto made = m.CreateContainer(ctx, pod->str(), config);
      if (made || made.error().code() != Code::kAlreadyExists) return made;
      // It had its life before the program died: a kubelet sees that in the list.
      for (const ContainerRef& old : m.ListContainers({.pod = pod->str(), .state = ContainerState::kExited})) {
        if (old->config.metadata.name == name) return old->id;
      }
      return made;
    });
    return id ? id->str() : std::string();
  };
  auto start = [&](const std::string& id) {
    (void)Insist("StartContainer", [&]() -> Result<> {
      Result<> started = m.StartContainer(ctx, id);
      // Refused because it has been started: as asked.
      auto status = m.GetContainer(id);
      if (!started && status && (*status)->started_at != 0 && (*status)->reason != "StartError") return {};
      // A start that failed is final; the kubelet makes a new attempt, which is not what is tried here.
      if (!started && status && (*status)->reason == "StartError") return {};
      return started;
    });
  };
  std::string runs = container("runs", {"run"}), ends = container("ends", {"exit", "9"}), waits = container("waits", {"run"});
  Resources resources;
  resources.cpu_shares = 100;
  (void)Insist("update of a created one", [&] { return m.UpdateResources(ctx, waits, resources, {}); });
  SandboxResources pod_resources;
  pod_resources.resources = resources;
  (void)Insist("UpdatePodSandboxResources", [&] { return m.UpdateSandboxResources(ctx, pod->str(), pod_resources); });
  start(runs);
  start(ends);
  daemon->DrainBackground();
  auto ended = m.GetContainer(ends);
  ASSERT_TRUE(ended);
  if ((*ended)->reason != "StartError") {
    EXPECT_EQ((*ended)->state, ContainerState::kExited);
    EXPECT_EQ((*ended)->exit_code, 9) << "no exit code is lost";
  }
  if ((*m.GetContainer(runs))->state == ContainerState::kRunning) {
    (void)Insist("ExecSync", [&] { return m.ExecSync(ctx, runs, {"ls"}, 1s); });
    (void)Insist("update of a running one", [&] { return m.UpdateResources(ctx, runs, resources, {}); });
    (void)Insist("ReopenLog", [&] { return m.ReopenLog(ctx, runs); });
    const std::string archive = daemon.world.Dir("runs.tar");
    (void)Insist("CheckpointContainer", [&]() -> Result<> {
      Result<> made = m.CheckpointContainer(ctx, runs, archive, 0s);
      return sys::Exists(archive) ? Result<>() : std::move(made);  // in place: as asked
    });
  }
  if ((*m.GetContainer(runs))->state == ContainerState::kRunning) MoveAPod(daemon);
  (void)Insist("StopContainer", [&] { return m.StopContainer(ctx, runs, 5s); });
  (void)Insist("RemoveContainer", [&] { return m.RemoveContainer(ctx, ends); });
  auto stubborn = container("stubborn", {"stubborn"});
  start(stubborn);
  (void)Insist("StopPodSandbox", [&] { return m.StopSandbox(ctx, pod->str()); });
  EXPECT_EQ((*m.GetSandbox(pod->str()))->state, SandboxState::kNotReady);
  (void)Insist("RemovePodSandbox", [&] { return m.RemoveSandbox(ctx, pod->str()); });
}

void Audit(Daemon& daemon) {
  daemon->DrainBackground();
  daemon->Sweep(Ctx());  // undos that failed are finished by it
  daemon->DrainBackground();
  EXPECT_THAT(daemon.world.Left(), IsEmpty());
  for (const auto& entry : std::filesystem::directory_iterator(daemon.world.Dir(""))) {
    EXPECT_FALSE(entry.path().filename().string().starts_with(".crisp-checkpoint")) << "half a checkpoint is left";
  }
  if (const std::string moved = daemon.world.Dir("moved"); sys::Exists(moved)) {
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(moved)) {
      EXPECT_FALSE(entry.path().filename().string().starts_with(".crisp-checkpoint")) << "half a checkpoint is left";
      ++files;
    }
    EXPECT_EQ(files, 3) << "two archives and pod.dump";
  }
  EXPECT_THAT(*daemon.db->List(kPodTable), IsEmpty());
  EXPECT_THAT(*daemon.db->List(kContainerTable), IsEmpty());
}

// Not a test of its own: what the spawned program runs.
TEST(CrashChild, Life) {
  const char* dir = getenv(kDirVariable);
  if (dir == nullptr) GTEST_SKIP() << "run by the tests below";
  Daemon daemon(dir);
  if (getenv(kModeVariable) != nullptr) return daemon->DrainBackground();
  LiveOneLife(daemon);
  Audit(daemon);
}

class CrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // In memory where that is possible: hundreds of databases are opened and closed here.
    std::string name = sys::Exists("/dev/shm") ? "/dev/shm/pod-crash-XXXXXX" : "/tmp/pod-crash-XXXXXX";
    base_ = mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(base_); }

  // Runs the life on `dir` with these variables; how it ended.
  static sys::RunResult Child(const std::string& dir, const std::string& failpoints, const std::string& trace = "",
                              const char* mode = nullptr) {
    std::vector<std::string> env;
    for (char** each = environ; *each != nullptr; ++each) {
      if (!std::string_view(*each).starts_with("CRISP_") && !std::string_view(*each).starts_with("GTEST_")) env.push_back(*each);
    }
    env.push_back(StrCat(kDirVariable, "=", dir));
    if (!failpoints.empty()) env.push_back("CRISP_FAILPOINTS=" + failpoints);
    if (mode != nullptr) env.push_back(StrCat(kModeVariable, "=", mode));
    if (!trace.empty()) env.push_back("CRISP_FAILPOINTS_TRACE=" + trace);
    auto done = sys::Run(Ctx(), {.program = "/proc/self/exe", .args = {"--gtest_filter=CrashChild.Life", "--gtest_color=no"}, .env = env},
                         {.timeout = 60s});
    EXPECT_TRUE(done) << done.error().message();
    return done ? *done : sys::RunResult();
  }

  std::string NewDir() {
    std::string dir = StrCat(base_, "/", ++dirs_);
    std::filesystem::create_directories(dir);
    return dir;
  }

  // Every failpoint that a whole life, or only a recovery, passes, with how often.
  std::map<std::string, int> Passed(const std::string& dir, const char* mode = nullptr) {
    std::string trace = base_ + "/trace";
    std::filesystem::remove(trace);
    sys::RunResult run = Child(dir, "", trace, mode);
    EXPECT_EQ(run.status.code, 0) << run.out << run.err;
    std::map<std::string, int> passed;
    std::ifstream in(trace);
    for (std::string line; std::getline(in, line);) ++passed[line];
    return passed;
  }

  // A new program on what the killed one has left.
  void ExpectRecovery(const std::string& dir, const std::string& after) {
    SCOPED_TRACE(after);
    Daemon daemon(dir);
    LiveOneLife(daemon);
    Audit(daemon);
  }

  std::string base_;
  int dirs_ = 0;
};

TEST_F(CrashTest, KilledAtEveryStep) {
  std::map<std::string, int> points = Passed(NewDir());
  EXPECT_GE(points.size(), 50u) << "verbs without failpoints between their steps";
  int kills = 0;
  for (const auto& [point, times] : points) {
    std::set<int> which = {1, times};  // the first and the last time
    for (int nth : which) {
      std::string spec = StrCat(point, "=kill*", nth);
      std::string dir = NewDir();
      sys::RunResult run = Child(dir, spec);
      // A later passing may be missed in a run that takes another way (events come on another thread).
      if (nth == 1) {
        EXPECT_EQ(run.status.signal, SIGKILL) << spec << "\n" << run.out << run.err;
      }
      kills += run.status.signal == SIGKILL;
      ExpectRecovery(dir, spec);
      std::filesystem::remove_all(dir);
      if (HasFailure()) return;
    }
  }
  RecordProperty("kills", kills);
  std::printf("%d kills at %zu failpoints\n", kills, points.size());
}

TEST_F(CrashTest, FailedAtEveryStep) {
  for (const auto& [point, times] : Passed(NewDir())) {
    for (int nth : std::set<int>{1, times}) {
      std::string spec = StrCat(point, "=error*", nth), dir = NewDir();
      sys::RunResult run = Child(dir, spec);
      EXPECT_EQ(run.status.code, 0) << spec << "\n" << run.out << run.err;
      std::filesystem::remove_all(dir);
      if (HasFailure()) return;
    }
  }
}

// The recovery itself is killed, at every step that it passes after a kill in the middle of each verb.
TEST_F(CrashTest, KilledAgainWithinRecovery) {
  int kills = 0;
  for (const char* first : {"run_sandbox.after_network", "run_sandbox.after_shim", "create_container.after_rootfs",
                            "start_container.after_run", "remove_container.after_record", "stop_sandbox.after_shim",
                            "remove_sandbox.after_record"}) {
    std::string once = StrCat(first, "=kill");
    std::string rehearsal = NewDir();
    Child(rehearsal, once);
    for (const auto& [point, times] : Passed(rehearsal, "recover")) {
      std::string dir = NewDir();
      Child(dir, once);
      sys::RunResult run = Child(dir, StrCat(point, "=kill"), "", "recover");
      // Cleaning after exits is in the background: the first kill may have come before it or after.
      bool background = point.starts_with("clean_container.") && run.status.code == 0;
      EXPECT_TRUE(run.status.signal == SIGKILL || background) << first << " then " << point << "\n" << run.out << run.err;
      ++kills;
      ExpectRecovery(dir, StrCat(first, " then ", point));
      std::filesystem::remove_all(dir);
      if (HasFailure()) return;
    }
    std::filesystem::remove_all(rehearsal);
  }
  std::printf("%d kills\n", kills);
}

}  // namespace
}  // namespace crisp::pod
