// What NRI plugins are told, in which order, and what they may refuse.
#include <algorithm>
#include <atomic>
#include <future>
#include <thread>

#include "base/strings.h"
#include "conformance/nri_plugin.h"
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

// A hook that blocks until it is let go. Runtimes give up on a plugin after some seconds: specs are quick.
class Gate {
 public:
  void Enter() {
    std::unique_lock lock(mutex_);
    entered_ = true;
    changed_.notify_all();
    changed_.wait_for(lock, std::chrono::seconds(20), [this] { return open_; });
  }
  bool WaitEntered(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [this] { return entered_; });
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool entered_ = false, open_ = false;
};

class Nri : public Spec {
 protected:
  NriPlugin& Connect(std::map<std::string, NriPlugin::Handler> handlers = {}, const std::string& index = "00",
                     bool wait = true) {
    if (context().nri_socket.empty()) throw Unsupported("--nri-socket does not name the runtime's NRI socket");
    auto plugin = NriPlugin::Connect(context().nri_socket, index, Unique("crisptest-"), std::move(handlers));
    if (!plugin) throw Failure(plugin.error().message());
    auto shared = std::make_shared<std::unique_ptr<NriPlugin>>(*std::move(plugin));
    AtEnd([shared] { shared->reset(); });
    if (wait && !(*shared)->WaitSynchronized(patience())) throw Failure("the runtime does not synchronize the plugin");
    return **shared;
  }
  // Events of one pod, or of one container, in the order in which they came.
  std::vector<std::string> Methods(const NriPlugin& plugin, const std::string& pod, const std::string& container = "") {
    std::vector<std::string> methods;
    for (const NriPlugin::Event& event : plugin.events()) {
      if (event.Pod() == pod && event.Container() == container) methods.push_back(event.method);
    }
    return methods;
  }
  void ExpectOrder(const std::vector<std::string>& methods, const std::vector<std::string>& wanted) {
    size_t at = 0;
    for (const std::string& method : methods) {
      if (at < wanted.size() && method == wanted[at]) ++at;
    }
    EXPECT_EQ(at, wanted.size()) << "wanted " << Join(wanted, " ") << ", saw " << Join(methods, " ");
    for (const std::string& method : wanted)
      EXPECT_EQ(std::count(methods.begin(), methods.end(), method), 1) << method << " in " << Join(methods, " ");
  }
  const NriPlugin::Event* Find(const std::vector<NriPlugin::Event>& events, const std::string& method) {
    for (const auto& event : events) {
      if (event.method == method) return &event;
    }
    return nullptr;
  }
  bool PodListed(const std::string& uid) {
    Json reply = Call("ListPodSandbox");
    return std::any_of(reply["items"].begin(), reply["items"].end(),
                       [&](const Json& pod) { return pod.at("metadata").at("uid") == uid; });
  }
  size_t ContainersOf(const std::string& pod) {
    return Call("ListContainers", {{"filter", {{"pod_sandbox_id", pod}}}})["containers"].size();
  }
  void StopPod(const std::string& pod) { Call("StopPodSandbox", {{"pod_sandbox_id", pod}}); }
  void RemovePod(const std::string& pod) { Call("RemovePodSandbox", {{"pod_sandbox_id", pod}}); }
};

#define NRI_SPEC(name_, ...)                                                                            \
  class NRI_##name_ : public Nri {                                                                      \
   protected:                                                                                           \
    void Body() override;                                                                               \
  };                                                                                                    \
  static const bool registered_nri_##name_ =                                                            \
      internal::Register({"NRI", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__, .serial = true}}, \
                         new testing::internal::TestFactoryImpl<NRI_##name_>);                          \
  void NRI_##name_::Body()

NRI_SPEC(PodLifeInOrder, .like = {97},
         .faults = {"RunPodSandbox<config.metadata.name=other", "RemovePodSandbox:noop"}) {
  NriPlugin& plugin = Connect();
  Pod pod = RunPod();
  StopPod(pod.id);
  RemovePod(pod.id);
  Eventually("the plugin hears of the removal", [&] {
    auto methods = Methods(plugin, pod.id);
    return std::find(methods.begin(), methods.end(), "RemovePodSandbox") != methods.end();
  });
  ExpectOrder(Methods(plugin, pod.id), {"RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"});
  auto events = plugin.events();
  const auto* run = Find(events, "RunPodSandbox");
  ASSERT_NE(run, nullptr);
  EXPECT_EQ(run->request["pod"]["name"], pod.config["metadata"]["name"]);
  EXPECT_EQ(run->request["pod"]["namespace"], pod.config["metadata"]["namespace"]);
  EXPECT_EQ(run->request["pod"]["uid"], pod.config["metadata"]["uid"]);
}

NRI_SPEC(ContainerLifeInOrder, .like = {98},
         .faults = {"StartContainer:noop; StopContainer:noop", "CreateContainer<config.metadata.name=other"}) {
  NriPlugin& plugin = Connect();
  Pod pod = RunPod();
  std::string id = Run(pod);
  Stop(id, 10);
  Remove(id);
  Eventually("the plugin hears of the removal", [&] {
    auto methods = Methods(plugin, pod.id, id);
    return std::find(methods.begin(), methods.end(), "RemoveContainer") != methods.end();
  });
  ExpectOrder(Methods(plugin, pod.id, id), {"CreateContainer", "StartContainer", "StopContainer", "RemoveContainer"});
  for (const auto& event : plugin.events()) {
    if (event.Container() == id) {
      EXPECT_EQ(event.request["container"]["name"], "main") << event.method;
    }
  }
}

NRI_SPEC(FailedContainerStopsByItself, .like = {99}, .faults = {"CreateContainer<config.command=[\"/bin/true\"]"}) {
  NriPlugin& plugin = Connect();
  Pod pod = RunPod();
  std::string id = Run(pod, {{"command", {"/bin/sh", "-c", "exit 1"}}});
  EXPECT_EQ(WaitExited(id)["exit_code"], 1);
  Eventually("the plugin hears of the end before anybody removes the container", [&] {
    auto methods = Methods(plugin, pod.id, id);
    return std::find(methods.begin(), methods.end(), "StopContainer") != methods.end();
  });
  Remove(id);
  Eventually("the plugin hears of the removal", [&] {
    auto methods = Methods(plugin, pod.id, id);
    return std::find(methods.begin(), methods.end(), "RemoveContainer") != methods.end();
  });
  ExpectOrder(Methods(plugin, pod.id, id), {"CreateContainer", "StartContainer", "StopContainer", "RemoveContainer"});
}

NRI_SPEC(PodIsHiddenWhileItsHookRuns, .like = {100},
         .faults = {"RunPodSandbox:noop", "PodSandboxStatus:status.state=SANDBOX_READY; PodSandboxStatus:swallow"}) {
  Gate gate;
  std::string id;
  NriPlugin& plugin = Connect({{"RunPodSandbox", [&](const Json&) -> Result<Json> {
                                  gate.Enter();
                                  return Json::object();
                                }}});
  Json config = PodConfig();
  auto run = std::async(std::launch::async, [&] {
    return Try("RunPodSandbox", {{"config", config}, {"runtime_handler", context().runtime_handler}});
  });
  bool entered = gate.WaitEntered(patience());
  bool listed = false, is_ready = false;
  std::string seen;
  if (entered) {
    try {
      seen = plugin.events().at(0).Pod();
      listed = PodListed(config["metadata"]["uid"]);
      auto status = Try("PodSandboxStatus", {{"pod_sandbox_id", seen}});
      is_ready = status && (*status)["status"]["state"] == "SANDBOX_READY";
    } catch (const std::exception& error) {
      gate.Open();
      run.wait();
      throw Failure(error.what());
    }
  }
  gate.Open();
  auto reply = run.get();
  ASSERT_TRUE(entered) << "the hook was not called";
  EXPECT_FALSE(listed) << "the pod is listed while its hook runs";
  EXPECT_FALSE(is_ready) << "the pod is ready while its hook runs";
  ASSERT_TRUE(reply) << reply.error().message();
  EXPECT_EQ((*reply)["pod_sandbox_id"], seen);
  EXPECT_EQ(PodStatus(seen)["state"], "SANDBOX_READY");
}

NRI_SPEC(NoContainerBeforeThePodsHookIsOver, .like = {101}, .faults = {"CreateContainer:swallow"}) {
  Gate gate;
  NriPlugin& plugin = Connect({{"RunPodSandbox", [&](const Json&) -> Result<Json> {
                                  gate.Enter();
                                  return Json::object();
                                }}});
  Image("busybox");
  Json config = PodConfig();
  auto run = std::async(std::launch::async, [&] {
    return Try("RunPodSandbox", {{"config", config}, {"runtime_handler", context().runtime_handler}});
  });
  bool entered = gate.WaitEntered(patience()), created = true;
  if (entered) {
    Pod early{plugin.events().at(0).Pod(), config, config["log_directory"]};
    created = TryCreate(early, Json::object()).has_value();
  }
  gate.Open();
  auto reply = run.get();
  ASSERT_TRUE(entered) << "the hook was not called";
  EXPECT_FALSE(created) << "a container is created in a pod whose hook still runs";
  ASSERT_TRUE(reply) << reply.error().message();
  Start(Create({(*reply)["pod_sandbox_id"], config, config["log_directory"]}));
}

NRI_SPEC(FailedPodHookLeavesNothing, .like = {102}, .faults = {"RunPodSandbox:swallow"}) {
  std::atomic<int> calls = 0;
  NriPlugin& plugin = Connect({{"RunPodSandbox", [&](const Json&) -> Result<Json> {
                                  if (calls++ == 0) return Error(Code::kInternal, "refused by the spec");
                                  return Json::object();
                                }}});
  Json config = PodConfig();
  MustFail("RunPodSandbox", {{"config", config}, {"runtime_handler", context().runtime_handler}});
  EXPECT_EQ(plugin.events().at(0).method, "RunPodSandbox");
  EXPECT_FALSE(PodListed(config["metadata"]["uid"]));
  EXPECT_EQ(PodStatus(RunPodWith(config).id)["state"], "SANDBOX_READY");
}

NRI_SPEC(ContainersAreStoppedBeforeThePodsStopHook, .like = {103},
         .faults = {"ContainerStatus:status.state=CONTAINER_RUNNING", "StopPodSandbox:noop"}) {
  Gate gate;
  Connect({{"StopPodSandbox", [&](const Json&) -> Result<Json> {
              gate.Enter();
              return Json::object();
            }}});
  Pod pod = RunPod();
  std::string id = Run(pod);
  auto stop = std::async(std::launch::async, [&] { return Try("StopPodSandbox", {{"pod_sandbox_id", pod.id}}); });
  bool entered = gate.WaitEntered(patience());
  auto status = Try("ContainerStatus", {{"container_id", id}}),
       pod_status = Try("PodSandboxStatus", {{"pod_sandbox_id", pod.id}});
  gate.Open();
  auto reply = stop.get();
  ASSERT_TRUE(entered) << "the hook was not called";
  ASSERT_TRUE(status && pod_status);
  EXPECT_EQ((*status)["status"]["state"], "CONTAINER_EXITED");
  EXPECT_EQ((*pod_status)["status"]["id"], pod.id);
  EXPECT_TRUE(reply) << reply.error().message();
}

NRI_SPEC(SecondStopIsNoEventAndThePodIsNotReused, .like = {104},
         .faults = {"StopPodSandbox:fail", "RemovePodSandbox:noop"}) {
  NriPlugin& plugin = Connect();
  Pod pod = RunPod();
  StopPod(pod.id);
  StopPod(pod.id);
  if (TryCreate(pod, Json::object()))
    throw Unsupported("the runtime creates containers in stopped pods, as containerd does");
  RemovePod(pod.id);
  Eventually("the plugin hears of the removal", [&] {
    auto methods = Methods(plugin, pod.id);
    return std::find(methods.begin(), methods.end(), "RemovePodSandbox") != methods.end();
  });
  ExpectOrder(Methods(plugin, pod.id), {"RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"});
  for (const auto& event : plugin.events()) EXPECT_NE(event.method, "CreateContainer");
}

NRI_SPEC(ContainerIsHiddenWhileItsHookRuns, .like = {105},
         .faults = {"CreateContainer:noop", "ListContainers:-containers"}) {
  Gate gate;
  Connect({{"CreateContainer", [&](const Json&) -> Result<Json> {
              gate.Enter();
              return Json::object();
            }}});
  Pod pod = RunPod();
  Image("busybox");
  auto create = std::async(std::launch::async, [&] { return TryCreate(pod, Json::object()); });
  bool entered = gate.WaitEntered(patience());
  auto list = Try("ListContainers", {{"filter", {{"pod_sandbox_id", pod.id}}}});
  gate.Open();
  auto id = create.get();
  ASSERT_TRUE(entered) << "the hook was not called";
  ASSERT_TRUE(list);
  EXPECT_EQ((*list)["containers"].size(), 0u) << "the container is listed while its hook runs";
  ASSERT_TRUE(id) << id.error().message();
  EXPECT_EQ(ContainersOf(pod.id), 1u);
}

NRI_SPEC(FailedContainerHookLeavesNothing, .like = {106}, .faults = {"CreateContainer:swallow"}) {
  std::atomic<int> calls = 0;
  Connect({{"CreateContainer", [&](const Json&) -> Result<Json> {
              if (calls++ == 0) return Error(Code::kInternal, "refused by the spec");
              return Json::object();
            }}});
  Pod pod = RunPod();
  Image("busybox");
  auto refused = TryCreate(pod, Json::object());
  EXPECT_FALSE(refused) << "a container is created although its hook failed";
  EXPECT_EQ(ContainersOf(pod.id), 0u);
  Start(Create(pod));
}

bool Has(const std::vector<std::string>& list, const std::string& id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

NRI_SPEC(LatePluginIsToldWhatThereIs, .like = {107},
         .faults = {"RunPodSandbox:pod_sandbox_id=other", "CreateContainer:container_id=other; StartContainer:noop"}) {
  Connect();
  Pod pod = RunPod();
  std::string id = Run(pod);
  NriPlugin& late = Connect({}, "10");
  EXPECT_TRUE(Has(late.synced_pods(), pod.id));
  EXPECT_TRUE(Has(late.synced_containers(), id));
  std::string next = Run(pod, {{"metadata", {{"name", "next"}}}});
  EXPECT_TRUE(Has(Methods(late, pod.id, next), "CreateContainer"));
}

constexpr auto kSynchronizing =
    std::chrono::milliseconds(1500);  // less than the 2 s that NRI gives a plugin by default

class NriLate : public Nri {
 protected:
  // Containers before, while and after a second plugin is synchronized: it must hear of every one.
  void NothingIsLost(int before, int during, int after) {
    Connect();
    Pod pod = RunPod();
    Image("busybox");
    std::mutex mutex;
    std::vector<std::string> ids;
    auto run = [&] {
      auto id = TryCreate(pod, {{"metadata", {{"name", Unique("c-")}}}});
      if (!id) throw Failure(id.error().message());
      (void)Try("StartContainer", {{"container_id", *id}});
      std::lock_guard lock(mutex);
      ids.push_back(*id);
    };
    for (int i = 0; i < before; ++i) run();
    Gate gate;
    NriPlugin& late = Connect({{"Synchronize",
                                [&](const Json&) -> Result<Json> {
                                  gate.Enter();
                                  return Json::object();
                                }}},
                              "10", false);
    if (!gate.WaitEntered(patience())) throw Failure("the second plugin is not synchronized");
    std::vector<std::future<void>> running;
    for (int i = 0; i < during; ++i) running.push_back(std::async(std::launch::async, run));
    // A runtime may make the calls wait for the plugin. One that does not has this long to end them and so to lose the
    // containers; half a second was seen to be too short on a busy machine.
    const auto until = std::chrono::steady_clock::now() + kSynchronizing;
    for (auto& one : running) one.wait_until(until);
    gate.Open();
    bool synchronized = late.WaitSynchronized(patience());
    for (auto& one : running) one.get();
    ASSERT_TRUE(synchronized);
    for (int i = 0; i < after; ++i) run();
    for (const std::string& id : ids) {
      EXPECT_TRUE(Has(late.synced_containers(), id) || Has(Methods(late, pod.id, id), "CreateContainer"))
          << id << " is lost";
    }
    EXPECT_EQ(ids.size(), static_cast<size_t>(before + during + after));
  }
};

#define NRI_LATE_SPEC(name_, call_, ...)                                                                \
  class NRI_##name_ : public NriLate {                                                                  \
   protected:                                                                                           \
    void Body() override { call_; }                                                                     \
  };                                                                                                    \
  static const bool registered_nri_##name_ =                                                            \
      internal::Register({"NRI", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__, .serial = true}}, \
                         new testing::internal::TestFactoryImpl<NRI_##name_>)

NRI_LATE_SPEC(ContainerOfWhileSynchronizingIsNotLost, NothingIsLost(1, 1, 0), .like = {108},
              .faults = {"CreateContainer:container_id=other"});
NRI_LATE_SPEC(ContainersAroundSynchronizingAreNotLost, NothingIsLost(2, 3, 2), .like = {109},
              .faults = {"CreateContainer:container_id=other"});

}  // namespace
}  // namespace crisp::conformance
