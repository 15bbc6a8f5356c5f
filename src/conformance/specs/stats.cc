// The values of stats: do they say what the container does?
#include <algorithm>
#include <future>
#include <thread>

#include "base/strings.h"
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

class Stats : public Spec {
 protected:
  Json StatsOf(const std::string& id) { return Call("ContainerStats", {{"container_id", id}}).at("stats"); }
  uint64_t Value(const Json& stats, const char* part, const char* field) {
    if (!stats.contains(part) || !stats[part].contains(field))
      throw Failure(StrCat("the stats have no ", part, ".", field));
    return stats[part][field]["value"].get<uint64_t>();
  }
};

#define STATS_SPEC(name_, ...)                                                            \
  class Stats_##name_ : public Stats {                                                    \
   protected:                                                                             \
    void Body() override;                                                                 \
  };                                                                                      \
  static const bool registered_stats_##name_ =                                            \
      internal::Register({"Stats", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<Stats_##name_>);          \
  void Stats_##name_::Body()

STATS_SPEC(ProcessorTimeGrows, .faults = {"ContainerStats:stale", "ContainerStats:-stats.cpu",
                                          "ContainerStats:stats.cpu.usage_core_nano_seconds.value=5"}) {
  std::string id = Run(RunPod());
  uint64_t before = Value(StatsOf(id), "cpu", "usage_core_nano_seconds");
  Exec(id, {"/guest", "spin", "400"});
  Eventually("400 ms of processor time are counted", [&] {
    uint64_t grown = Value(StatsOf(id), "cpu", "usage_core_nano_seconds") - before;
    return grown >= 350'000'000u && grown < 5'000'000'000u;
  });
}
STATS_SPEC(MemoryIsCounted,
           .faults = {"ContainerStats:stats.memory.working_set_bytes.value=0", "ContainerStats:-stats.memory",
                      "ContainerStats:stats.memory.usage_bytes.value=1"}) {
  Pod pod = RunPod();
  std::string id = Run(pod, {{"command", {"/guest", "eat", "40"}}});
  WaitLog(pod, "eaten");
  Eventually("40 MiB are in the working set", [&] {
    uint64_t bytes = Value(StatsOf(id), "memory", "working_set_bytes");
    return bytes >= (38u << 20) && bytes < (80u << 20);
  });
  Json stats = StatsOf(id);
  EXPECT_GE(Value(stats, "memory", "usage_bytes"), 38u << 20);
  EXPECT_GE(Value(stats, "memory", "rss_bytes"), 38u << 20);
}
STATS_SPEC(AvailableMemoryFollowsTheLimit, .faults = {"ContainerStats:stats.memory.available_bytes.value=0",
                                                      "CreateContainer<-config.linux.resources"}) {
  std::string id = Run(RunPod(), {{"linux", {{"resources", {{"memory_limit_in_bytes", 128 << 20}}}}}});
  Json stats = StatsOf(id);
  EXPECT_EQ(Value(stats, "memory", "available_bytes") + Value(stats, "memory", "working_set_bytes"), 128u << 20);
}
STATS_SPEC(WritableLayerGrows, .faults = {"ContainerStats:-stats.writable_layer",
                                          "ContainerStats:stats.writable_layer.used_bytes.value=1"}) {
  std::string id = Run(RunPod());
  Sh(id, "dd if=/dev/zero of=/file bs=1M count=8 2>/dev/null; touch /a /b /c");
  Eventually("8 MiB are counted", [&] {
    Json stats = StatsOf(id);
    return Value(stats, "writable_layer", "used_bytes") >= (8u << 20) &&
           Value(stats, "writable_layer", "inodes_used") >= 4;
  });
  EXPECT_NE(StatsOf(id)["writable_layer"]["fs_id"]["mountpoint"], "");
}
STATS_SPEC(TimestampsAreNow,
           .faults = {"ContainerStats:stats.cpu.timestamp=0", "ContainerStats:stats.memory.timestamp=0"}) {
  std::string id = Run(RunPod());
  Json stats = StatsOf(id);
  auto now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const char* part : {"cpu", "memory"}) {
    int64_t at = stats[part]["timestamp"];
    EXPECT_LT(std::abs(now - at), 60'000'000'000) << part;
  }
}
STATS_SPEC(AttributesAreTheContainers,
           .faults = {"ContainerStats:stats.attributes.labels={}", "ContainerStats:-stats.attributes.metadata"}) {
  std::string id = Run(RunPod(), {{"labels", {{"a", "b"}}}, {"annotations", {{"c", "d"}}}});
  Json stats = StatsOf(id);
  EXPECT_EQ(stats.at("attributes").at("id"), id);
  EXPECT_EQ(stats.at("attributes").at("metadata").at("name"), "main");
  EXPECT_EQ(stats.at("attributes").at("labels").at("a"), "b");
  EXPECT_EQ(stats.at("attributes").at("annotations").at("c"), "d");
}
STATS_SPEC(SwapIsThere, .faults = {"ContainerStats:-stats.swap"}) {
  std::string id = Run(RunPod());
  Json stats = StatsOf(id);
  if (!stats.contains("swap") && context().fault.empty()) throw Unsupported("the runtime's stats have no swap");
  EXPECT_EQ(Value(stats, "swap", "swap_usage_bytes"), 0u);
  EXPECT_GT(stats.at("swap").at("timestamp"), 0);
}
STATS_SPEC(PressureIsThere, .faults = {"ContainerStats:-stats.cpu.psi"}) {
  std::string id = Run(RunPod());
  Json stats = StatsOf(id);
  if (!stats.at("cpu").contains("psi") && context().fault.empty())
    throw Unsupported("no pressure in the stats (cgroup v1, or a kernel or runtime without it)");
  EXPECT_TRUE(stats.at("cpu").at("psi").contains("Some"));
}
STATS_SPEC(PodsAddUpTheirContainers, .faults = {"PodSandboxStats:stats.linux.containers=[]",
                                                "PodSandboxStats:stats.linux.memory.working_set_bytes.value=0",
                                                "PodSandboxStats:-stats.linux.network",
                                                "PodSandboxStats:stats.linux.process.process_count.value=0"}) {
  Pod pod = RunPod();
  Needs("PodSandboxStats", {{"pod_sandbox_id", pod.id}});
  std::string one =
      Run(pod, {{"metadata", {{"name", "one"}}}, {"command", {"/guest", "eat", "20"}}, {"log_path", "one.log"}});
  std::string two =
      Run(pod, {{"metadata", {{"name", "two"}}}, {"command", {"/guest", "eat", "20"}}, {"log_path", "two.log"}});
  WaitLog(pod, "eaten", "one.log");
  WaitLog(pod, "eaten", "two.log");
  Json stats;
  Eventually("40 MiB are counted for the pod", [&] {
    stats = Call("PodSandboxStats", {{"pod_sandbox_id", pod.id}}).at("stats");
    return stats.at("linux").at("memory").at("working_set_bytes").at("value") >= (38u << 20);
  });
  EXPECT_EQ(stats.at("attributes").at("id"), pod.id);
  EXPECT_EQ(stats.at("linux").at("containers").size(), 2u);
  EXPECT_GE(stats.at("linux").at("process").at("process_count").at("value"), 2);
  EXPECT_NE(stats.at("linux").at("network").at("default_interface").at("name"), "");
}
STATS_SPEC(NetworkIsCounted,
           .faults = {"PodSandboxStats:stale", "PodSandboxStats:-stats.linux.network.default_interface"}) {
  Pod server = RunPod(), client = RunPod();
  Needs("PodSandboxStats", {{"pod_sandbox_id", server.id}});
  Run(server, {{"image", {{"image", Image("web")}}}, {"command", Json::array()}});
  WaitLog(server, "serving");
  auto bytes = [&](const char* field) -> uint64_t {
    Json stats = Call("PodSandboxStats", {{"pod_sandbox_id", server.id}}).at("stats");
    return stats.at("linux").at("network").at("default_interface").at(field).at("value");
  };
  uint64_t received = bytes("rx_bytes"), sent = bytes("tx_bytes");
  std::string address = PodStatus(server.id)["network"]["ip"], id = Run(client);
  for (int i = 0; i < 5; ++i) Sh(id, StrCat("/guest get ", address, " 80"));
  uint64_t last = 0;
  try {
    Eventually("five requests are counted",
               [&] { return (last = bytes("rx_bytes")) >= received + 500 && bytes("tx_bytes") >= sent + 500; });
  } catch (const Failure& failure) {
    throw Failure(StrCat(failure.what(), "; rx_bytes was ", received, " and is ", last));
  }
}
STATS_SPEC(OfAnUnknownContainerFail, .faults = {"ContainerStats:swallow"}) {
  MustFail("ContainerStats", {{"container_id", "no-such-container"}});
}

// ---- lists piece by piece: the same as at once

class Pieces : public Spec {
 protected:
  std::vector<Json> Collect(const std::string& rpc, const Json& request, const char* field) {
    auto stream = cri().Open(rpc, request);
    if (!stream) throw Failure(stream.error().message());
    std::vector<Json> all;
    while (true) {
      auto piece = (*stream)->Next(patience());
      if (!piece && piece.error().code() == Code::kOutOfRange) return all;
      if (!piece && piece.error().code() == Code::kUnimplemented && context().fault.empty())
        throw Unsupported(StrCat("the runtime does not have ", rpc));
      if (!piece) throw Failure(StrCat(rpc, ": ", piece.error().message()));
      for (const Json& one : (*piece)[field]) all.push_back(one);
    }
  }
  static std::vector<std::string> Ids(const Json& list, const std::vector<std::string>& path) {
    std::vector<std::string> ids;
    for (const Json& one : list) {
      const Json* at = &one;
      for (const std::string& key : path) at = &(*at)[key];
      ids.push_back(at->get<std::string>());
    }
    std::sort(ids.begin(), ids.end());
    return ids;
  }
};

#define STREAM_EQUALS(name_, stream_, stream_field_, unary_, unary_field_, filter_, ...)                  \
  class Stream_##name_ : public Pieces {                                                                  \
   protected:                                                                                             \
    void Body() override {                                                                                \
      Pod pod = RunPod();                                                                                 \
      std::string id = Run(pod), other = Run(pod, {{"metadata", {{"name", "other"}}}});                   \
      Json request = filter_;                                                                             \
      const std::vector<std::string> path = {__VA_ARGS__};                                                \
      auto pieces = Ids(Json(Collect(stream_, request, stream_field_)), path);                            \
      Json reply = Call(unary_, request);                                                                 \
      EXPECT_FALSE(pieces.empty());                                                                       \
      EXPECT_EQ(pieces, Ids(reply[unary_field_], path));                                                  \
    }                                                                                                     \
  };                                                                                                      \
  static const bool registered_stream_##name_ = internal::Register(                                       \
      {"Streams", #name_, __FILE__, __LINE__, SpecOptions{.faults = {stream_ ":lose", stream_ ":noop"}}}, \
      new testing::internal::TestFactoryImpl<Stream_##name_>)

#define OF_POD Json({{"filter", {{"pod_sandbox_id", pod.id}}}})
#define OF_ID Json({{"filter", {{"id", pod.id}}}})
STREAM_EQUALS(PodSandboxes, "StreamPodSandboxes", "pod_sandboxes", "ListPodSandbox", "items", OF_ID, "id");
STREAM_EQUALS(Containers, "StreamContainers", "containers", "ListContainers", "containers", OF_POD, "id");
STREAM_EQUALS(ContainerStats, "StreamContainerStats", "container_stats", "ListContainerStats", "stats", OF_POD,
              "attributes", "id");
STREAM_EQUALS(PodSandboxStats, "StreamPodSandboxStats", "pod_sandbox_stats", "ListPodSandboxStats", "stats", OF_ID,
              "attributes", "id");

class Stream_Images : public Pieces {
 protected:
  void Body() override {
    std::string reference = Image("small/" + Unique(), "v1");
    Json request = {{"filter", {{"image", {{"image", reference}}}}}};
    auto pieces = Ids(Json(Collect("StreamImages", request, "images")), {"id"});
    EXPECT_EQ(pieces.size(), 1u);
    EXPECT_EQ(pieces, Ids(Call("ListImages", request)["images"], {"id"}));
  }
};
static const bool registered_stream_images = internal::Register(
    {"Streams", "Images", __FILE__, __LINE__, SpecOptions{.faults = {"StreamImages:lose", "StreamImages:noop"}}},
    new testing::internal::TestFactoryImpl<Stream_Images>);

class Stream_Metrics : public Pieces {
 protected:
  void Body() override {
    Pod pod = RunPod();
    Run(pod);
    bool found = false;
    for (const Json& one : Collect("StreamPodSandboxMetrics", Json::object(), "pod_sandbox_metrics")) {
      found = found || (one.at("pod_sandbox_id") == pod.id && !one.at("container_metrics").empty());
    }
    EXPECT_TRUE(found) << "the pod is not in the stream";
  }
};
static const bool registered_stream_metrics =
    internal::Register({"Streams", "PodSandboxMetrics", __FILE__, __LINE__,
                        SpecOptions{.faults = {"StreamPodSandboxMetrics:lose", "StreamPodSandboxMetrics:noop"}}},
                       new testing::internal::TestFactoryImpl<Stream_Metrics>);

// 400 containers of one pod, never started: more than one piece, and every one exactly once.
class Stream_LargeList : public Pieces {
 protected:
  void Body() override {
    constexpr size_t kCount = 400, kThreads = 4;
    Pod pod = RunPod();
    std::string image = Image("small/" + Unique(), "v1"), text(500, 'x');
    std::vector<std::string> ids(kCount);
    std::vector<std::future<void>> threads;
    for (size_t thread = 0; thread < kThreads; ++thread) {
      threads.push_back(std::async(std::launch::async, [&, thread] {
        for (size_t i = thread; i < kCount; i += kThreads) {
          ids[i] = Create(pod, {{"metadata", {{"name", StrCat("c", i)}}},
                                {"image", {{"image", image}}},
                                {"command", {"/hello"}},
                                {"annotations", {{"long", text}}}});
        }
      }));
    }
    for (auto& thread : threads) thread.wait();
    for (auto& thread : threads) thread.get();
    std::sort(ids.begin(), ids.end());
    Json request = {{"filter", {{"pod_sandbox_id", pod.id}}}};
    EXPECT_EQ(Ids(Call("ListContainers", request)["containers"], {"id"}), ids);
    auto pieces = Collect("StreamContainers", request, "containers");
    EXPECT_EQ(Ids(Json(pieces), {"id"}), ids);
  }
};
static const bool registered_stream_large =
    internal::Register({"Streams", "LargeList", __FILE__, __LINE__,
                        SpecOptions{.faults = {"ListContainers:-containers.0", "StreamContainers:lose"},
                                    .timeout_seconds = 600}},  // CRI-O starts its OCI runtime for each
                       new testing::internal::TestFactoryImpl<Stream_LargeList>);

}  // namespace
}  // namespace crisp::conformance
