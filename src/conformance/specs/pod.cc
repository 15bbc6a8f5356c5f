// The life of a pod sandbox.
#include <set>

#include "base/strings.h"
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

SPEC(PodSandbox, RunIsReady, .like = {136},
     .faults = {"RunPodSandbox:noop", "ListPodSandbox:-items", "PodSandboxStatus:status.state=SANDBOX_NOTREADY"}) {
  Pod pod = RunPod();
  ASSERT_NE(pod.id, "");
  EXPECT_TRUE(IsListed(Call("ListPodSandbox")["items"], pod.id));
  EXPECT_EQ(PodStatus(pod.id)["state"], "SANDBOX_READY");
}
SPEC(PodSandbox, StoppedIsNotReady, .like = {137}, .faults = {"StopPodSandbox:noop", "PodSandboxStatus:stale"}) {
  Pod pod = RunPod();
  PodStatus(pod.id);
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  EXPECT_EQ(PodStatus(pod.id)["state"], "SANDBOX_NOTREADY");
}
SPEC(PodSandbox, RemovedIsGone, .like = {138}, .faults = {"RemovePodSandbox:noop"}) {
  Pod pod = RunPod();
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  Call("RemovePodSandbox", {{"pod_sandbox_id", pod.id}});
  EXPECT_FALSE(IsListed(Call("ListPodSandbox")["items"], pod.id));
}
SPEC(PodSandbox, AttributesAreKept, .like = {139},
     .faults = {"PodSandboxStatus:status.labels={}", "PodSandboxStatus:-status.annotations",
                "ListPodSandbox:items.*.created_at=0", "PodSandboxStatus:status.metadata.attempt=0"}) {
  Json more = {{"labels", {{"label", "value"}}}, {"annotations", {{"note", "some text"}}}};
  Pod pod = RunPod(more);
  Json status = PodStatus(pod.id);
  Json list = Call("ListPodSandbox", {{"filter", {{"id", pod.id}}}});
  ASSERT_EQ(list.at("items").size(), 1u);
  for (const Json& seen : {status, list.at("items").at(0)}) {
    EXPECT_EQ(seen.at("id"), pod.id);
    EXPECT_EQ(seen.at("metadata"), pod.config["metadata"]);
    EXPECT_EQ(Merged(seen.at("labels"), pod.config["labels"]), seen.at("labels")) << "CRI-O adds labels, none may go";
    EXPECT_EQ(seen.at("annotations").at("note"), "some text");
    EXPECT_EQ(seen.at("state"), "SANDBOX_READY");
    EXPECT_GT(seen.at("created_at"), 0);
  }
}
SPEC(PodSandbox, StopStopsItsContainers, .faults = {"StopPodSandbox:noop"}) {
  Pod pod = RunPod();
  std::string id = Run(pod);
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  EXPECT_EQ(Status(id)["state"], "CONTAINER_EXITED");
}
SPEC(PodSandbox, RemoveRemovesItsContainers, .faults = {"RemovePodSandbox:noop"}) {
  Pod pod = RunPod();
  std::string id = Run(pod);
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  Call("RemovePodSandbox", {{"pod_sandbox_id", pod.id}});
  MustFail("ContainerStatus", {{"container_id", id}}, {Code::kNotFound});
}
SPEC(PodSandbox, StoppedTakesNoContainers, .faults = {"StopPodSandbox:noop"}) {
  Pod pod = RunPod();
  Call("StopPodSandbox", {{"pod_sandbox_id", pod.id}});
  MustNotRun(pod, Json::object());
}
SPEC(PodSandbox, UnknownHandlerIsRefused, .faults = {"RunPodSandbox:swallow"}) {
  MustFail("RunPodSandbox", {{"config", PodConfig()}, {"runtime_handler", "no-such-handler"}});
}
SPEC(PodSandbox, ListFilters, .faults = {"ListPodSandbox<-filter", "ListPodSandbox:-items"}) {
  std::string value = Unique();
  Pod ready = RunPod({{"labels", {{"find", value}}}}), stopped = RunPod({{"labels", {{"find", value}}}});
  Call("StopPodSandbox", {{"pod_sandbox_id", stopped.id}});
  auto ids = [&](const Json& filter) {
    std::set<std::string> found;
    Json reply = Call("ListPodSandbox", {{"filter", filter}});
    for (const Json& item : reply["items"]) found.insert(item.at("id"));
    return found;
  };
  Json by_label = {{"label_selector", {{"find", value}}}};
  EXPECT_EQ(ids(by_label), (std::set<std::string>{ready.id, stopped.id}));
  EXPECT_EQ(ids(Merged(by_label, {{"state", {{"state", "SANDBOX_READY"}}}})), std::set<std::string>{ready.id});
  EXPECT_EQ(ids({{"id", stopped.id}}), std::set<std::string>{stopped.id});
}

SPEC(PodSandbox, SafeSysctls, .like = {58}, .faults = {"RunPodSandbox<-config.linux.sysctls"}) {
  Pod pod = RunPod(
      {{"linux", {{"sysctls", {{"kernel.shm_rmid_forced", "1"}, {"net.ipv4.ip_local_port_range", "1024 65000"}}}}}});
  EXPECT_EQ(Sh(Run(pod), "cat /proc/sys/kernel/shm_rmid_forced; cat /proc/sys/net/ipv4/ip_local_port_range"),
            "1\n1024\t65000\n");
}
SPEC(PodSandbox, UnsafeSysctls, .like = {59}, .faults = {"RunPodSandbox<-config.linux.sysctls"}) {
  Pod pod = RunPod({{"linux", {{"sysctls", {{"fs.mqueue.msg_max", "100"}, {"net.ipv4.conf.all.log_martians", "1"}}}}}});
  EXPECT_EQ(Sh(Run(pod), "cat /proc/sys/fs/mqueue/msg_max /proc/sys/net/ipv4/conf/all/log_martians"), "100\n1\n");
}

// The metrics that critest wants of every container and pod.
const std::vector<std::string>& MetricNames() {
  static const std::vector<std::string> kNames = {"container_blkio_device_usage_total",
                                                  "container_cpu_system_seconds_total",
                                                  "container_cpu_usage_seconds_total",
                                                  "container_cpu_user_seconds_total",
                                                  "container_fs_reads_total",
                                                  "container_fs_usage_bytes",
                                                  "container_fs_writes_total",
                                                  "container_last_seen",
                                                  "container_memory_cache",
                                                  "container_memory_failcnt",
                                                  "container_memory_max_usage_bytes",
                                                  "container_memory_rss",
                                                  "container_memory_swap",
                                                  "container_memory_usage_bytes",
                                                  "container_memory_working_set_bytes",
                                                  "container_network_receive_bytes_total",
                                                  "container_network_transmit_bytes_total",
                                                  "container_processes",
                                                  "container_spec_cpu_period",
                                                  "container_spec_cpu_shares",
                                                  "container_spec_memory_limit_bytes",
                                                  "container_start_time_seconds",
                                                  "container_threads",
                                                  "container_threads_max"};
  return kNames;
}

SPEC(PodSandbox, MetricDescriptors, .like = {140},
     .faults = {"ListMetricDescriptors:-descriptors", "ListMetricDescriptors:descriptors.*.help="}) {
  Needs("ListMetricDescriptors");
  Json reply = Call("ListMetricDescriptors");
  std::set<std::string> names;
  for (const Json& one : reply["descriptors"]) {
    names.insert(one.at("name"));
    EXPECT_NE(one.at("help"), "") << one.at("name");
    EXPECT_FALSE(one.at("label_keys").empty()) << one.at("name");
  }
  for (const std::string& name : MetricNames()) EXPECT_TRUE(names.contains(name)) << name;
}
SPEC(PodSandbox, MetricsOfAPod, .like = {141},
     .faults = {"ListPodSandboxMetrics:-pod_metrics", "ListPodSandboxMetrics:pod_metrics.*.container_metrics=[]"}) {
  Needs("ListPodSandboxMetrics");
  Pod pod = RunPod();
  std::string id = Run(
      pod, {{"linux",
             {{"resources", {{"memory_limit_in_bytes", 64 << 20}, {"cpu_quota", 50000}, {"cpu_period", 100000}}}}}});
  Sh(id, "dd if=/dev/zero of=/tmp/file bs=64k count=16 conv=fsync 2>/dev/null");
  Json descriptors = Call("ListMetricDescriptors");
  std::map<std::string, size_t> keys;
  for (const Json& one : descriptors["descriptors"]) keys[one.at("name")] = one.at("label_keys").size();
  std::set<std::string> seen;
  Eventually("the metrics hold the container", [&] {
    Json reply = Call("ListPodSandboxMetrics");
    for (const Json& one : reply["pod_metrics"]) {
      if (one.at("pod_sandbox_id") != pod.id) continue;
      for (const Json& metric : one.at("metrics")) {
        seen.insert(metric.at("name"));
        EXPECT_EQ(metric.at("label_values").size(), keys[metric.at("name")]) << metric.at("name");
      }
      for (const Json& container : one.at("container_metrics")) {
        if (container.at("container_id") != id) continue;
        for (const Json& metric : container.at("metrics")) {
          seen.insert(metric.at("name"));
          EXPECT_EQ(metric.at("label_values").size(), keys[metric.at("name")]) << metric.at("name");
        }
        return true;
      }
    }
    return false;
  });
  for (const std::string& name : MetricNames()) {
    // Only where the file system is a block device's.
    if (name == "container_blkio_device_usage_total" || name == "container_fs_reads_total" ||
        name == "container_fs_writes_total")
      continue;
    EXPECT_TRUE(seen.contains(name)) << name;
  }
}

}  // namespace
}  // namespace crisp::conformance
