// What hooks are told, and what their answers do. Plugins themselves: src/nri.
#include "pod/hooks.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>

#include "base/json.h"
#include "base/strings.h"
#include "pod/testing/world.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Container;
using testing::Daemon;
using testing::Sandbox;

// Writes down what it is told, and fails where it shall.
class Recorder final : public Hooks {
 public:
  Result<Pass> Enter(const Ctx&) override {
    ++passes_;
    return Pass(this, [this](const void*) { --passes_; });
  }
  Result<> RunSandbox(const Ctx&, const SandboxStatus& pod) override {
    shown_while_running = manager != nullptr && manager->GetSandbox(pod.id.str());
    return Told("run", pod.config.metadata.name);
  }
  Result<> UpdateSandbox(const Ctx&, const SandboxStatus&, const Resources&, const Resources&) override { return {}; }
  void PostUpdateSandbox(const Ctx&, const SandboxStatus&) override {}
  void StopSandbox(const Ctx&, const SandboxStatus& pod) override {
    for (const ContainerRef& container : manager->ListContainers({.id = {}, .pod = pod.id.str(), .state = {}, .labels = {}})) {
      EXPECT_EQ(container->state, ContainerState::kExited) << "containers end before their pod";
    }
    (void)Told("stop-pod", pod.config.metadata.name);
  }
  Pass RemoveSandbox(const Ctx&, const SandboxStatus& pod) override {
    (void)Told("remove-pod", pod.config.metadata.name);
    return {};
  }
  Result<Adjusted> CreateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& container,
                                   const std::string& config_json) override {
    EXPECT_GT(passes_, 0);
    TRY(Told("create", container.config.metadata.name));
    Json config = Json::parse(config_json);
    config["annotations"]["hooked"] = "yes";
    if (pids_max > 0) config["linux"]["resources"]["pids"] = {{"limit", pids_max}};
    if (!cgroup.empty()) config["linux"]["cgroupsPath"] = cgroup.ends_with("/") ? cgroup + container.id.str() : cgroup;
    return Adjusted{DumpJson(config), cdi_devices};
  }
  void PostCreateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& c) override { (void)Told("post-create", c.config.metadata.name); }
  Result<> StartContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& c) override { return Told("start", c.config.metadata.name); }
  void PostStartContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& c) override { (void)Told("post-start", c.config.metadata.name); }
  Result<std::string> UpdateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& c, const std::string& resources) override {
    TRY(Told("update", c.config.metadata.name));
    Json changed = Json::parse(resources);
    changed["cpu"]["shares"] = 99;
    return DumpJson(changed);
  }
  void PostUpdateContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& c) override { (void)Told("post-update", c.config.metadata.name); }
  void StopContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& c) override {
    EXPECT_EQ(c.state, ContainerState::kExited);
    (void)Told("stop", c.config.metadata.name);
  }
  Pass RemoveContainer(const Ctx&, const SandboxStatus&, const ContainerStatus& c) override {
    (void)Told("remove", c.config.metadata.name);
    return {};
  }

  std::vector<std::string> Take() { return std::exchange(*told_.Lock(), {}); }
  int passes() const { return passes_; }

  Manager* manager = nullptr;
  std::string fail;  // the event that is refused
  std::string cgroup;
  int64_t pids_max = 0;  // > 0: what the container gets
  std::vector<std::string> cdi_devices;
  bool shown_while_running = false;

 private:
  Result<> Told(const std::string& event, const std::string& name) {
    told_.Lock()->push_back(StrCat(event, " ", name));
    return event == fail ? Result<>(Error(Code::kAborted, "not with me")) : Result<>();
  }
  std::atomic<int> passes_ = 0;
  Synchronized<std::vector<std::string>> told_;
};

class HooksTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = sys::Exists("/dev/shm") ? "/dev/shm/pod-test-XXXXXX" : "/tmp/pod-test-XXXXXX";
    dir_ = mkdtemp(name.data());
    daemon_ = std::make_unique<Daemon>(dir_, true, &hooks_);
    hooks_.manager = &**daemon_;
  }
  void TearDown() override {
    daemon_.reset();
    EXPECT_EQ(hooks_.passes(), 0);
    std::filesystem::remove_all(dir_);
  }
  Manager& m() { return **daemon_; }
  std::string Pod() { return m().RunSandbox(ctx_, Sandbox("web")).value().str(); }
  std::string Created(const std::string& pod, std::vector<std::string> command = {"run"}) {
    return m().CreateContainer(ctx_, pod, Container("main", std::move(command))).value().str();
  }
  Json ConfigOf(const std::string& id) { return *ParseJson(*sys::ReadFile(StrCat(dir_, "/state/containers/", id, "/config.json")), "config"); }

  Ctx ctx_;
  std::string dir_;
  Recorder hooks_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(HooksTest, ALifeInOrderEachEventOnce) {
  std::string pod = Pod();
  EXPECT_FALSE(hooks_.shown_while_running);
  std::string id = Created(pod);
  EXPECT_EQ(ConfigOf(id)["annotations"]["hooked"], "yes");
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  ASSERT_TRUE(m().UpdateResources(ctx_, id, {.cpu_shares = 5}, {}));
  EXPECT_EQ(m().GetContainer(id).value()->resources.cpu_shares, 99) << "what a plugin made of it is what is shown";
  ASSERT_TRUE(m().StopContainer(ctx_, id, std::chrono::seconds(0)));
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  EXPECT_THAT(hooks_.Take(), ElementsAre("run web", "create main", "post-create main", "start main", "post-start main", "update main",
                                         "post-update main", "stop main", "stop-pod web", "remove main", "remove-pod web"));
}

TEST_F(HooksTest, AnEndByItselfIsToldBeforeTheRemoval) {
  std::string pod = Pod();
  std::string id = Created(pod, {"exit", "1"});
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  (*daemon_)->DrainBackground();
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  EXPECT_THAT(hooks_.Take(), ElementsAre("run web", "create main", "post-create main", "start main", "post-start main", "stop main", "remove main"));
}

TEST_F(HooksTest, WhatIsRefusedLeavesNothingAndCanBeTriedAgain) {
  hooks_.fail = "run";
  EXPECT_EQ(m().RunSandbox(ctx_, Sandbox("web")).error().code(), Code::kAborted);
  EXPECT_THAT(m().ListSandboxes({}), IsEmpty());
  EXPECT_THAT(hooks_.Take(), ElementsAre("run web"));
  hooks_.fail = "create";
  std::string pod = Pod();
  Result<ContainerId> refused = m().CreateContainer(ctx_, pod, Container("main"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("not with me"));
  EXPECT_THAT(m().ListContainers({}), IsEmpty());
  hooks_.fail = "start";
  std::string id = Created(pod);
  EXPECT_FALSE(m().StartContainer(ctx_, id));
  EXPECT_EQ(m().GetContainer(id).value()->exit_code, 128);
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  hooks_.fail = "stop";
  id = Created(pod);
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  EXPECT_TRUE(m().StopContainer(ctx_, id, std::chrono::seconds(0))) << "nobody keeps a container from being stopped";
}

TEST_F(HooksTest, DevicesAndCgroupsOfPlugins) {
  ASSERT_TRUE(sys::MakeDirs(dir_ + "/cdi", 0755));
  ASSERT_TRUE(sys::WriteFileAtomic(dir_ + "/cdi/v.json",
                                   R"({"cdiVersion":"0.8.0","kind":"v/c","devices":[{"name":"0","containerEdits":{"env":["CDI=1"]}}]})", 0644,
                                   sys::Durability::kNone));
  std::string pod = Pod();
  hooks_.cdi_devices = {"v/c=0"};
  hooks_.cgroup = "/by/a/plugin/";  // and the container's id
  std::string id = Created(pod);
  EXPECT_THAT(ConfigOf(id)["process"]["env"].dump(), HasSubstr("CDI=1"));
  EXPECT_EQ(m().GetContainer(id).value()->cgroup_path, "/by/a/plugin/" + id) << "stats and kills go where it is";
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  hooks_.cgroup = "/by/a/plugin";
  EXPECT_FALSE(m().CreateContainer(ctx_, pod, Container("main"))) << "it could never be removed: not one of ours";
  hooks_.cgroup = "/a/../../b/";
  EXPECT_FALSE(m().CreateContainer(ctx_, pod, Container("main")));
  hooks_.cgroup = "";
  hooks_.cdi_devices = {"v/c=1"};
  EXPECT_EQ(m().CreateContainer(ctx_, pod, Container("main")).error().code(), Code::kNotFound);
}

TEST_F(HooksTest, LimitsOfPlugins) {
  SandboxConfig sandbox = Sandbox("web");
  sandbox.runtime_handler = "native";
  std::string pod = m().RunSandbox(ctx_, sandbox).value().str();
  struct Case {
    const char* place;
    int64_t pids_max;
    int failing;
  };
  for (auto [place, pids_max, failing] : {Case{"", 77, 0}, Case{"/by/a/plugin/", 0, 0}, Case{"", 77, 1}}) {
    hooks_.cgroup = place;
    hooks_.pids_max = pids_max;
    daemon_->world.faults.Lock()->limits_failing = failing;
    std::string id = Created(pod);
    const std::string cgroup = m().GetContainer(id).value()->cgroup_path;
    ASSERT_TRUE(m().StartContainer(ctx_, id));
    std::vector<std::string> made = daemon_->world.Names("resources");
    ASSERT_EQ(made.size(), 1u) << "none is left where it was made first";
    EXPECT_EQ(Json::parse(daemon_->world.Get("resources", cgroup)), ConfigOf(id)["linux"]["resources"]);
    if (pids_max > 0) {
      EXPECT_EQ(ConfigOf(id)["linux"]["resources"]["pids"]["limit"], pids_max);
    }
    ASSERT_TRUE(m().StopContainer(ctx_, id, std::chrono::seconds(0)));
    ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  }
}

TEST_F(HooksTest, CdiDevicesOfRequestsAndPassedAnnotations) {
  ASSERT_TRUE(sys::MakeDirs(dir_ + "/cdi", 0755));
  ASSERT_TRUE(sys::WriteFileAtomic(dir_ + "/cdi/v.json",
                                   R"({"cdiVersion":"0.8.0","kind":"v/c","devices":[{"name":"0","containerEdits":{"env":["CDI=1"]}}]})", 0644,
                                   sys::Durability::kNone));
  SandboxConfig sandbox = Sandbox("web");
  sandbox.annotations = {{"pod.example/passed", "1"}, {"pod.example/passed.x", "2"}};
  std::string pod = m().RunSandbox(ctx_, sandbox).value().str();
  ContainerConfig config = Container("main");
  config.annotations = {{"cdi.k8s.io/x", "v/c=0"}, {"container.example/passed", "3"}};
  std::string id = m().CreateContainer(ctx_, pod, config).value().str();
  Json written = ConfigOf(id);
  EXPECT_THAT(written["process"]["env"].dump(), HasSubstr("CDI=1"));
  EXPECT_EQ(written["annotations"]["pod.example/passed"], "1");
  EXPECT_EQ(written["annotations"]["container.example/passed"], "3");
  EXPECT_FALSE(written["annotations"].contains("pod.example/passed.x"));
  config.metadata.name = "other";
  config.cdi_devices = {"v/c=7"};
  Result<ContainerId> missing = m().CreateContainer(ctx_, pod, config);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("v/c=7"));
}

}  // namespace
}  // namespace crisp::pod
