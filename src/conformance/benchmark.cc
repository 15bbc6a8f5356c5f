#include "conformance/benchmark.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <mutex>
#include <regex>
#include <stdexcept>
#include <thread>

#include "base/ids.h"
#include "base/strings.h"
#include "base/time.h"
#include "conformance/cri.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

using std::chrono::milliseconds;

constexpr const char* kLabel = "crisptest/benchmark";

struct Sample {
  int64_t start_ns = 0, end_ns = 0;
  std::vector<int64_t> durations_ns;
  Json meta = Json::object();
};

// What one thread measures with: a connection of its own. Errors are thrown and end the run.
class Worker {
 public:
  explicit Worker(const Context& context, milliseconds timeout)
      : cri_(context.runtime_endpoint, context.image_endpoint, timeout, timeout), context_(context) {}

  // A call whose duration goes to the sample.
  Json Timed(Sample& sample, const std::string& rpc, const Json& request) {
    std::chrono::nanoseconds took{};
    Json reply = Do(rpc, request, &took);
    sample.durations_ns.push_back(took.count());
    return reply;
  }
  Json Do(const std::string& rpc, const Json& request, std::chrono::nanoseconds* took = nullptr) {
    auto reply = cri_.Call(rpc, request, {}, took);
    if (!reply) throw std::runtime_error(StrCat(rpc, ": ", reply.error().message()));
    return *std::move(reply);
  }
  Json PodConfig() const {
    std::string name = StrCat("bench-", RandomHex(4));
    return {{"metadata", {{"name", name}, {"uid", name}, {"namespace", "crisptest"}}},
            {"log_directory", context_.work_dir},
            {"labels", {{kLabel, "yes"}}},
            {"linux", {{"cgroup_parent", context_.cgroup_parent.empty() ? "/crisptest" : context_.cgroup_parent}}}};
  }
  Json RunRequest(const Json& config) const {
    return {{"config", config}, {"runtime_handler", context_.runtime_handler}};
  }
  Json CreateRequest(const std::string& pod, const Json& pod_config, const std::string& image) const {
    return {{"pod_sandbox_id", pod},
            {"sandbox_config", pod_config},
            {"config",
             {{"metadata", {{"name", StrCat("c-", RandomHex(4))}}},
              {"image", {{"image", image}, {"user_specified_image", image}}},
              {"command", {"/guest", "hold"}},
              {"linux", Json::object()}}}};
  }
  void EndPod(const std::string& pod) {
    Do("StopPodSandbox", {{"pod_sandbox_id", pod}});
    Do("RemovePodSandbox", {{"pod_sandbox_id", pod}});
  }

 private:
  Cri cri_;
  const Context& context_;
};

class Suite {
 public:
  Suite(const Context& context, const BenchmarkParams& params, const std::vector<std::string>& focus)
      : context_(context),
        params_(params),
        focus_(focus),
        timeout_(params.timeout_seconds * 1000),
        worker_(context, timeout_) {
    image_ = StrCat(context.registry_host, "/crisptest/busybox:latest");
  }

  Json RunAll();
  // What a benchmark that failed has left.
  void RemoveEverything() {
    Json list = worker_.Do("ListPodSandbox", {{"filter", {{"label_selector", {{kLabel, "yes"}}}}}});
    for (const Json& pod : list["items"]) worker_.EndPod(pod["id"]);
  }

 private:
  using Measure = std::function<void(Worker& worker, int index, Sample& sample)>;

  bool Wanted(const std::string& name, int count) const {
    if (count <= 0) return false;
    if (focus_.empty()) return true;
    return std::any_of(focus_.begin(), focus_.end(),
                       [&](const std::string& pattern) { return std::regex_search(name, std::regex(pattern)); });
  }
  // `count` samples by `parallel` threads.
  void Family(const std::string& name, const std::vector<std::string>& operations, int count, int parallel,
              const Measure& measure) {
    if (!Wanted(name, count)) return;
    std::printf("measuring %s, %d samples, %d at a time\n", name.c_str(), count, parallel);
    std::fflush(stdout);
    std::vector<Sample> samples(static_cast<size_t>(count));
    std::atomic<int> next = 0;
    std::mutex mutex;  // guards failure
    std::string failure;
    std::vector<std::thread> threads;
    for (int i = 0; i < std::max(parallel, 1); ++i) {
      threads.emplace_back([&] {
        Worker own(context_, timeout_);
        for (int at = next++; at < count; at = next++) {
          Sample& sample = samples[static_cast<size_t>(at)];
          sample.start_ns = UnixNanosNow();
          try {
            measure(own, at, sample);
          } catch (const std::exception& error) {
            std::lock_guard lock(mutex);
            failure = error.what();
            next = count;
          }
          sample.end_ns = UnixNanosNow();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    if (!failure.empty()) throw std::runtime_error(StrCat(name, ": ", failure));
    Json list = Json::array();
    for (const Sample& sample : samples) {
      list.push_back({{"start_ns", sample.start_ns},
                      {"end_ns", sample.end_ns},
                      {"durations_ns", sample.durations_ns},
                      {"meta", sample.meta}});
    }
    results_.push_back({{"name", name}, {"operations", operations}, {"parallel", parallel}, {"samples", list}});
  }

  void Containers();
  void Pods();
  void Images();
  void Scratch(const std::string& name, int count, int parallel);
  void Execs();
  void Density();

  const Context& context_;
  const BenchmarkParams& params_;
  const std::vector<std::string>& focus_;
  const milliseconds timeout_;
  Worker worker_;
  std::string image_;
  Json results_ = Json::array();
};

void Suite::Containers() {
  if (!Wanted("Container", params_.containers)) return;
  Json config = worker_.PodConfig();
  std::string pod = worker_.Do("RunPodSandbox", worker_.RunRequest(config))["pod_sandbox_id"];
  Family("Container", {"CreateContainer", "StartContainer", "StatusContainer", "StopContainer", "RemoveContainer"},
         params_.containers, params_.containers_parallel, [&](Worker& w, int, Sample& sample) {
           std::string id = w.Timed(sample, "CreateContainer", w.CreateRequest(pod, config, image_))["container_id"];
           sample.meta = {{"podId", pod}, {"containerId", id}};
           w.Timed(sample, "StartContainer", {{"container_id", id}});
           w.Timed(sample, "ContainerStatus", {{"container_id", id}});
           w.Timed(sample, "StopContainer", {{"container_id", id}, {"timeout", 10}});
           w.Timed(sample, "RemoveContainer", {{"container_id", id}});
         });
  worker_.EndPod(pod);
}

void Suite::Pods() {
  Family("PodSandbox", {"CreatePod", "StatusPod", "StopPod", "RemovePod"}, params_.pods, params_.pods_parallel,
         [](Worker& w, int, Sample& sample) {
           Json config = w.PodConfig();
           std::string pod = w.Timed(sample, "RunPodSandbox", w.RunRequest(config))["pod_sandbox_id"];
           sample.meta = {{"podId", pod}, {"podSandboxName", config["metadata"]["name"]}};
           w.Timed(sample, "PodSandboxStatus", {{"pod_sandbox_id", pod}});
           w.Timed(sample, "StopPodSandbox", {{"pod_sandbox_id", pod}});
           w.Timed(sample, "RemovePodSandbox", {{"pod_sandbox_id", pod}});
         });
}

void Suite::Images() {
  std::string run = RandomHex(4);
  auto reference = [&](int index) {
    return params_.pull_image.empty() ? StrCat(context_.registry_host, "/crisptest/small/", run, ":", index)
                                      : params_.pull_image;
  };
  Family("ImageLifecycle", {"PullImage", "StatusImage", "RemoveImage"}, params_.images,
         params_.pull_image.empty() ? params_.images_parallel : 1, [&](Worker& w, int index, Sample& sample) {
           Json image = {{"image", {{"image", reference(index)}}}};
           sample.meta = {{"imageId", w.Timed(sample, "PullImage", image)["image_ref"]}};
           w.Timed(sample, "ImageStatus", image);
           w.Timed(sample, "RemoveImage", image);
         });
  if (!Wanted("ImageListing", params_.images)) return;
  std::vector<std::string> listed = params_.listed_images;
  for (int i = 0; listed.size() < 20 && params_.listed_images.empty(); ++i) {
    listed.push_back(StrCat(context_.registry_host, "/crisptest/small/listed-", run, ":", i));
  }
  for (const std::string& one : listed) worker_.Do("PullImage", {{"image", {{"image", one}}}});
  Family("ImageListing", {"ListImages"}, params_.images, params_.images_parallel,
         [](Worker& w, int, Sample& sample) { w.Timed(sample, "ListImages", Json::object()); });
  for (const std::string& one : listed) worker_.Do("RemoveImage", {{"image", {{"image", one}}}});
}

// A pod with a container from nothing, and its end: the times a kubelet waits for.
void Suite::Scratch(const std::string& name, int count, int parallel) {
  Family(name,
         {"RunPodSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "StopPodSandbox",
          "RemovePodSandbox"},
         count, parallel, [&](Worker& w, int, Sample& sample) {
           Json config = w.PodConfig();
           std::string pod = w.Timed(sample, "RunPodSandbox", w.RunRequest(config))["pod_sandbox_id"];
           std::string id = w.Timed(sample, "CreateContainer", w.CreateRequest(pod, config, image_))["container_id"];
           sample.meta = {{"podId", pod}, {"containerId", id}};
           w.Timed(sample, "StartContainer", {{"container_id", id}});
           w.Timed(sample, "StopContainer", {{"container_id", id}, {"timeout", 10}});
           w.Timed(sample, "RemoveContainer", {{"container_id", id}});
           w.Timed(sample, "StopPodSandbox", {{"pod_sandbox_id", pod}});
           w.Timed(sample, "RemovePodSandbox", {{"pod_sandbox_id", pod}});
         });
}

void Suite::Execs() {
  if (!Wanted("Exec", params_.execs) && !Wanted("Stats", params_.stats)) return;
  Json config = worker_.PodConfig();
  std::string pod = worker_.Do("RunPodSandbox", worker_.RunRequest(config))["pod_sandbox_id"];
  std::string id = worker_.Do("CreateContainer", worker_.CreateRequest(pod, config, image_))["container_id"];
  worker_.Do("StartContainer", {{"container_id", id}});
  Family("Exec", {"ExecSync"}, params_.execs, 1, [&](Worker& w, int, Sample& sample) {
    w.Timed(sample, "ExecSync", {{"container_id", id}, {"cmd", {"/bin/true"}}, {"timeout", 60}});
  });
  Family("Stats", {"ContainerStats", "ListContainerStats"}, params_.stats, 1, [&](Worker& w, int, Sample& sample) {
    w.Timed(sample, "ContainerStats", {{"container_id", id}});
    w.Timed(sample, "ListContainerStats", Json::object());
  });
  worker_.EndPod(pod);
}

// Many pods that stay: how lists and stats answer then.
void Suite::Density() {
  if (!Wanted("Density", params_.density)) return;
  std::vector<std::string> pods;
  for (int i = 0; i < params_.density; ++i) {
    Json config = worker_.PodConfig();
    pods.push_back(worker_.Do("RunPodSandbox", worker_.RunRequest(config))["pod_sandbox_id"]);
    std::string id = worker_.Do("CreateContainer", worker_.CreateRequest(pods.back(), config, image_))["container_id"];
    worker_.Do("StartContainer", {{"container_id", id}});
  }
  Family("Density", {"ListPodSandbox", "ListContainers", "ListContainerStats"}, 20, 1,
         [](Worker& w, int, Sample& sample) {
           w.Timed(sample, "ListPodSandbox", Json::object());
           w.Timed(sample, "ListContainers", Json::object());
           w.Timed(sample, "ListContainerStats", Json::object());
         });
  for (const std::string& pod : pods) worker_.EndPod(pod);
}

Json Suite::RunAll() {
  worker_.Do("PullImage", {{"image", {{"image", image_}}}});
  Containers();
  Pods();
  Images();
  Scratch("PodAndContainer", params_.scratch, 1);
  Execs();
  Density();
  Scratch("Churn", params_.churn, params_.churn_parallel);
  return results_;
}

// critest's file names and form.
Result<> WriteSamples(const Json& family, const std::string& directory) {
  static const std::map<std::string, std::string> kFiles = {{"Container", "container"},
                                                            {"PodSandbox", "pod"},
                                                            {"ImageLifecycle", "image_lifecycle"},
                                                            {"ImageListing", "image_listing"},
                                                            {"PodAndContainer", "pod_container"}};
  std::string name = family["name"], file;
  if (auto known = kFiles.find(name); known != kFiles.end()) file = known->second;
  if (file.empty())
    std::transform(name.begin(), name.end(), std::back_inserter(file),
                   [](char c) { return static_cast<char>(tolower(c)); });
  Json points = Json::array();
  for (const Json& sample : family["samples"]) {
    points.push_back({{"sampleIndex", points.size()},
                      {"startTime", sample["start_ns"]},
                      {"endTime", sample["end_ns"]},
                      {"operationsDurationsNs", sample["durations_ns"]},
                      {"metaInfo", sample["meta"].empty() ? Json() : sample["meta"]}});  // null, as Go's empty map
  }
  return sys::WriteFileAtomic(
      StrCat(directory, "/", file, "_benchmark_data.json"),
      DumpJson(
          {{"operationsNames", family["operations"]}, {"numParallel", family["parallel"]}, {"datapoints", points}}),
      0644, sys::Durability::kNone);
}

}  // namespace

Result<BenchmarkParams> ParseBenchmarkParams(const Json& yaml) {
  BenchmarkParams params;
  const std::map<std::string, int*> numbers = {{"containersNumber", &params.containers},
                                               {"containersNumberParallel", &params.containers_parallel},
                                               {"podsNumber", &params.pods},
                                               {"podsNumberParallel", &params.pods_parallel},
                                               {"imagesNumber", &params.images},
                                               {"imagesNumberParallel", &params.images_parallel},
                                               {"scratchNumber", &params.scratch},
                                               {"execsNumber", &params.execs},
                                               {"densityPods", &params.density},
                                               {"churnNumber", &params.churn},
                                               {"churnNumberParallel", &params.churn_parallel},
                                               {"statsNumber", &params.stats}};
  if (!yaml.is_object()) return Error(Code::kInvalidArgument, "benchmark parameters: not a map");
  for (const auto& [key, value] : yaml.items()) {
    if (auto number = numbers.find(key); number != numbers.end() && value.is_number_integer()) {
      *number->second = value.get<int>();
    } else if (key.ends_with("TimeoutSeconds") && value.is_number_integer()) {
      params.timeout_seconds = std::max(params.timeout_seconds, value.get<int>());
    } else if (key == "imagePullingBenchmarkImage" && value.is_string()) {
      params.pull_image = value;
    } else if (key == "imageListingBenchmarkImages" && value.is_array()) {
      for (const Json& image : value) {
        if (image.is_string()) params.listed_images.push_back(image);
      }
    } else if (!value.is_null()) {
      return Error(Code::kInvalidArgument, StrCat("benchmark parameters: what is ", key, "?"));
    }
  }
  return params;
}

Result<Json> RunBenchmarks(const Context& context, const BenchmarkParams& params, const std::vector<std::string>& focus,
                           const std::string& output_dir) {
  Json results;
  Suite suite(context, params, focus);
  try {
    results = suite.RunAll();
  } catch (const std::exception& error) {
    std::string why = error.what();
    try {
      suite.RemoveEverything();
    } catch (const std::exception& also) {
      why += StrCat("; and pods are left: ", also.what());
    }
    return Error(Code::kInternal, StrCat("benchmark ", why));
  }
  if (output_dir.empty()) return results;
  TRY(sys::MakeDirs(output_dir, 0755));
  for (const Json& family : results) TRY(WriteSamples(family, output_dir));
  return results;
}

void PrintBenchmarks(const Json& benchmarks) {
  std::printf("%-18s %-20s %5s %9s %9s %9s %9s  ms\n", "benchmark", "operation", "n", "min", "p50", "p99", "max");
  for (const Json& family : benchmarks) {
    for (size_t i = 0; i < family["operations"].size(); ++i) {
      std::vector<double> ms;
      for (const Json& sample : family["samples"]) ms.push_back(sample["durations_ns"][i].get<double>() / 1e6);
      std::sort(ms.begin(), ms.end());
      auto at = [&ms](double q) {
        return ms[std::min(ms.size() - 1, static_cast<size_t>(q * static_cast<double>(ms.size())))];
      };
      std::printf("%-18s %-20s %5zu %9.2f %9.2f %9.2f %9.2f\n", family["name"].get<std::string>().c_str(),
                  family["operations"][i].get<std::string>().c_str(), ms.size(), ms.front(), at(0.5), at(0.99),
                  ms.back());
    }
  }
}

}  // namespace crisp::conformance
