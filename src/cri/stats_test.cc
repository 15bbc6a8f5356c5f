// Stats and metrics of pods and containers, over fakes.
#include "cri/stats.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <set>

#include "cri/metric_table.h"
#include "cri/pod_metrics.h"
#include "cri/pod_stats.h"
#include "cri/testing/fakes.h"

namespace crisp::cri {
namespace {

using ::testing::ElementsAre;
using ::testing::IsSupersetOf;

constexpr char kUid[] = "12345678-9abc-def0-1234-56789abcdef0";

// Gives what it is told to.
class ScriptedCgroups : public FakeCgroups {
 public:
  Result<cgroup::Usage> Read(const std::string& path) const override {
    ++reads;
    auto found = usage.find(path);
    if (found == usage.end()) return Error(Code::kNotFound, "cgroup " + path + " not found");
    return found->second;
  }
  Result<cgroup::Details> ReadDetails(const std::string& path) const override {
    cgroup::Details out = details;
    out.usage = TRY(Read(path));
    return out;
  }
  std::map<std::string, cgroup::Usage> usage;
};

cgroup::Usage At(int64_t seconds, uint64_t cpu_millis) {
  cgroup::Usage usage;
  usage.at_unix_nanos = seconds * 1'000'000'000;
  usage.cpu_nanos = cpu_millis * 1'000'000;
  return usage;
}

TEST(UsageCache, ReadsOnceForManyWhoAsk) {
  ScriptedCgroups cgroups;
  cgroups.usage["/a"] = At(10, 500);
  UsageCache cache(cgroups, std::chrono::hours(1));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(cache.Of("/a")->usage.cpu_nanos, 500'000'000u);
  EXPECT_EQ(cgroups.reads, 1);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(cache.Of("/gone"));
  EXPECT_EQ(cgroups.reads, 2) << "what is gone is not looked for again and again either";
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(cache.DetailsOf("/a"));
  EXPECT_EQ(cgroups.reads, 3);
}

TEST(UsageCache, TheRateIsTheDifferenceOfTwoReadings) {
  ScriptedCgroups cgroups;
  UsageCache cache(cgroups, std::chrono::milliseconds(0));
  cgroups.usage["/a"] = At(10, 500);
  EXPECT_EQ(cache.Of("/a")->nano_cores, std::nullopt) << "one reading";
  cgroups.usage["/a"] = At(12, 1500);
  EXPECT_EQ(cache.Of("/a")->nano_cores, 500'000'000u) << "a second in two";
  cgroups.usage["/a"].at_unix_nanos += 100'000'000;
  cgroups.usage["/a"].cpu_nanos = 1'600'000'000;
  EXPECT_EQ(cache.Of("/a")->nano_cores, 500'000'000u) << "too close to the one before";
  EXPECT_EQ(cache.Of("/a")->usage.cpu_nanos, 1'600'000'000u) << "the time itself is always the newest";
  cgroups.usage["/a"] = At(14, 1500);
  EXPECT_EQ(cache.Of("/a")->nano_cores, 0u) << "from the reading at 12";
  cgroups.usage["/a"] = At(16, 100);
  EXPECT_EQ(cache.Of("/a")->nano_cores, std::nullopt) << "another cgroup of that name";
  cgroups.usage.clear();
  EXPECT_FALSE(cache.Of("/a"));
}

class PodTest : public testing::Test {
 protected:
  pod::SandboxStatus& Pod() { return pod_; }
  pod::ContainerStatus& AddContainer(const std::string& name, const std::string& cgroup) {
    auto container = std::make_shared<pod::ContainerStatus>();
    container->id = ContainerId::Random();
    container->pod = pod_.id;
    container->config.metadata.name = name;
    container->config.image = "busybox";
    container->state = pod::ContainerState::kRunning;
    container->cgroup_path = cgroup;
    containers_.push_back(container);
    return *container;
  }
  PodAndContainers All() {
    PodAndContainers all{.pod = std::make_shared<const pod::SandboxStatus>(pod_), .containers = {}};
    for (const auto& container : containers_) all.containers.push_back(container);
    return all;
  }
  v1::PodSandboxStats Stats() {
    v1::PodSandboxStats out;
    pod_stats_.Fill(Ctx(), All(), out);
    return out;
  }
  v1::PodSandboxMetrics Metrics() {
    v1::PodSandboxMetrics out;
    metrics_.Fill(Ctx(), All(), out);
    return out;
  }
  void SetUp() override {
    pod_.id = PodId::Random();
    pod_.state = pod::SandboxState::kReady;
    pod_.config.metadata = {.name = "web", .uid = kUid, .pod_namespace = "default", .attempt = 2};
  }

  ScriptedCgroups cgroups_;
  DiskUsage layers_{"/nonexistent"};
  UsageCache usage_{cgroups_, std::chrono::milliseconds(0)};
  PodLinks links_;
  StatsMaker stats_{usage_, layers_};
  PodStatsMaker pod_stats_{cgroups_, usage_, stats_, links_};
  MetricsMaker metrics_{cgroups_, usage_, layers_, links_};
  pod::SandboxStatus pod_;
  std::vector<std::shared_ptr<pod::ContainerStatus>> containers_;
};

TEST_F(PodTest, ItsCgroupIsFoundByItsUid) {
  pod_.config.cgroup_parent = "/kubepods/burstable/pod" + std::string(kUid);
  EXPECT_EQ(PodCgroup(cgroups_, pod_), pod_.config.cgroup_parent);
  pod_.config.cgroup_parent = "/kubepods.slice/kubepods-pod12345678_9abc_def0_1234_56789abcdef0.slice";
  EXPECT_EQ(PodCgroup(cgroups_, pod_), pod_.config.cgroup_parent) << "as systemd has it";
  pod_.config.cgroup_parent = "/everybodys";
  EXPECT_EQ(PodCgroup(cgroups_, pod_), "") << "others may be in there";
  pod_.config.cgroup_parent = "";
  EXPECT_EQ(PodCgroup(cgroups_, pod_), "/crisp/" + pod_.id.str()) << "one of ours";
  pod_.config.metadata.uid = "u";
  pod_.config.cgroup_parent = "/busy";
  EXPECT_EQ(PodCgroup(cgroups_, pod_), "") << "such a short one is in many names";
}

TEST_F(PodTest, StatsComeFromThePodsOwnCgroup) {
  pod_.config.cgroup_parent = "/kubepods/pod" + std::string(kUid);
  cgroup::Usage usage = At(10, 700);
  usage.working_set_bytes = 9000;
  usage.processes = 6;
  cgroups_.usage[pod_.config.cgroup_parent] = usage;
  cgroups_.usage["/a"] = At(10, 500);
  AddContainer("a", "/a");
  v1::PodSandboxStats stats = Stats();
  EXPECT_EQ(stats.attributes().id(), pod_.id.str());
  EXPECT_EQ(stats.attributes().metadata().uid(), kUid);
  EXPECT_EQ(stats.attributes().metadata().attempt(), 2u);
  EXPECT_EQ(stats.linux().cpu().usage_core_nano_seconds().value(), 700'000'000u);
  EXPECT_EQ(stats.linux().cpu().timestamp(), 10'000'000'000);
  EXPECT_EQ(stats.linux().memory().working_set_bytes().value(), 9000u);
  EXPECT_EQ(stats.linux().process().process_count().value(), 6u);
  ASSERT_EQ(stats.linux().containers_size(), 1);
  EXPECT_EQ(stats.linux().containers(0).cpu().usage_core_nano_seconds().value(), 500'000'000u);
  EXPECT_FALSE(stats.linux().has_network()) << "it has no network namespace";
  EXPECT_FALSE(stats.linux().has_io()) << "no pressure on v1";
}

TEST_F(PodTest, StatsAreTheSumWhereItsParentIsEverybodys) {
  pod_.config.cgroup_parent = "/everybodys";
  cgroups_.usage["/everybodys"] = At(10, 100'000);
  cgroups_.usage["/a"] = At(10, 500);
  cgroups_.usage["/b"] = At(11, 200);
  cgroups_.usage["/b"].rss_bytes = 5;
  AddContainer("a", "/a");
  AddContainer("b", "/b");
  AddContainer("gone", "/gone");
  AddContainer("exited", "/a").state = pod::ContainerState::kExited;
  v1::PodSandboxStats stats = Stats();
  EXPECT_EQ(stats.linux().cpu().usage_core_nano_seconds().value(), 700'000'000u);
  EXPECT_EQ(stats.linux().cpu().timestamp(), 11'000'000'000);
  EXPECT_EQ(stats.linux().memory().rss_bytes().value(), 5u);
  EXPECT_EQ(stats.linux().containers_size(), 3)
      << "the one that is going away has attributes, the ended one is left out";
}

TEST_F(PodTest, LinuxIsSetWhateverThereIs) {
  EXPECT_TRUE(Stats().has_linux());
  pod_.netns_path = "/nowhere";
  EXPECT_TRUE(Stats().has_linux());
  EXPECT_FALSE(Stats().linux().has_network());
}

TEST_F(PodTest, PressureHasBothPartsInNanoseconds) {
  cgroup::Usage usage = At(10, 1);
  usage.cpu_pressure = cgroup::Pressure{.some = {.avg10 = 1.5, .avg60 = 0, .avg300 = 0, .total_micros = 7}, .full = {}};
  usage.io_pressure = usage.memory_pressure = usage.cpu_pressure;
  cgroups_.usage["/a"] = usage;
  AddContainer("a", "/a");
  v1::ContainerStats stats = Stats().linux().containers(0);
  EXPECT_EQ(stats.cpu().psi().some().total(), 7000u);
  EXPECT_DOUBLE_EQ(stats.cpu().psi().some().avg10(), 1.5);
  EXPECT_TRUE(stats.cpu().psi().has_full());
  EXPECT_EQ(stats.memory().psi().some().total(), 7000u);
  EXPECT_EQ(stats.io().psi().some().total(), 7000u);
  EXPECT_EQ(stats.io().timestamp(), 10'000'000'000);
}

TEST_F(PodTest, InterfacesOfItsNetworkNamespace) {
  pod_.netns_path = "/proc/self/ns/net";  // where the test runs: whatever is there, but for lo
  std::optional<PodLinks::Reading> reading = links_.Of(pod_);
  if (!reading) GTEST_SKIP() << "wants root";
  for (const sys::LinkCounters& link : reading->links) EXPECT_NE(link.name, "lo");
  v1::PodSandboxStats stats = Stats();
  EXPECT_TRUE(stats.linux().has_network());
  int shown = stats.linux().network().interfaces_size() + (stats.linux().network().has_default_interface() ? 1 : 0);
  EXPECT_EQ(static_cast<size_t>(shown), reading->links.size());
  pod_.config.security.namespaces.network = spec::NamespaceMode::kNode;
  EXPECT_FALSE(links_.Of(pod_)) << "the host's interfaces are not the pod's";
}

// ---- metrics ----

const char* const kNames[] = {"container_blkio_device_usage_total",
                              "container_cpu_cfs_periods_total",
                              "container_cpu_cfs_throttled_periods_total",
                              "container_cpu_cfs_throttled_seconds_total",
                              "container_cpu_system_seconds_total",
                              "container_cpu_usage_seconds_total",
                              "container_cpu_user_seconds_total",
                              "container_file_descriptors",
                              "container_fs_inodes_free",
                              "container_fs_inodes_total",
                              "container_fs_limit_bytes",
                              "container_fs_reads_bytes_total",
                              "container_fs_reads_total",
                              "container_fs_usage_bytes",
                              "container_fs_writes_bytes_total",
                              "container_fs_writes_total",
                              "container_hugetlb_max_usage_bytes",
                              "container_hugetlb_usage_bytes",
                              "container_last_seen",
                              "container_memory_cache",
                              "container_memory_failcnt",
                              "container_memory_failures_total",
                              "container_memory_kernel_usage",
                              "container_memory_mapped_file",
                              "container_memory_max_usage_bytes",
                              "container_memory_rss",
                              "container_memory_swap",
                              "container_memory_usage_bytes",
                              "container_memory_working_set_bytes",
                              "container_network_receive_bytes_total",
                              "container_network_receive_errors_total",
                              "container_network_receive_packets_dropped_total",
                              "container_network_receive_packets_total",
                              "container_network_transmit_bytes_total",
                              "container_network_transmit_errors_total",
                              "container_network_transmit_packets_dropped_total",
                              "container_network_transmit_packets_total",
                              "container_oom_events_total",
                              "container_pressure_cpu_stalled_seconds_total",
                              "container_pressure_cpu_waiting_seconds_total",
                              "container_pressure_io_stalled_seconds_total",
                              "container_pressure_io_waiting_seconds_total",
                              "container_pressure_memory_stalled_seconds_total",
                              "container_pressure_memory_waiting_seconds_total",
                              "container_processes",
                              "container_sockets",
                              "container_spec_cpu_period",
                              "container_spec_cpu_quota",
                              "container_spec_cpu_shares",
                              "container_spec_memory_limit_bytes",
                              "container_spec_memory_reservation_limit_bytes",
                              "container_spec_memory_swap_limit_bytes",
                              "container_start_time_seconds",
                              "container_threads",
                              "container_threads_max",
                              "container_ulimits_soft"};

TEST(MetricDescriptors, AreAllThatTheKubeletKnows) {
  v1::ListMetricDescriptorsResponse all = MetricDescriptors();
  std::vector<std::string> names;
  for (const v1::MetricDescriptor& descriptor : all.descriptors()) {
    names.push_back(descriptor.name());
    EXPECT_FALSE(descriptor.help().empty()) << descriptor.name();
    EXPECT_GE(descriptor.label_keys_size(), 6) << descriptor.name();
  }
  EXPECT_THAT(names, testing::ElementsAreArray(kNames));
}

class MetricsTest : public PodTest {
 protected:
  void SetUp() override {
    PodTest::SetUp();
    pod_.netns_path = "/proc/self/ns/net";
    cgroup::Usage usage = At(2'000'000'000, 3500);
    usage.memory_bytes = 1000;
    usage.working_set_bytes = 900;
    usage.rss_bytes = 800;
    usage.page_faults = 12;
    usage.major_page_faults = 13;
    usage.processes = 9;
    usage.cpu_pressure = cgroup::Pressure{.some = {0, 0, 0, 5'500'000}, .full = {0, 0, 0, 2'000'000}};
    usage.memory_pressure = usage.io_pressure = usage.cpu_pressure;
    cgroups_.usage["/a"] = usage;
    cgroup::Details& d = cgroups_.details;
    d.cpu_user_nanos = 2'000'000'000;
    d.cpu_system_nanos = 1'500'000'000;
    d.cpu_periods = 10;
    d.cpu_throttled_periods = 4;
    d.cpu_throttled_nanos = 1'000'000'000;
    d.cache_bytes = 100;
    d.mapped_file_bytes = 101;
    d.kernel_bytes = 102;
    d.memory_max_bytes = 2000;
    d.swapped_bytes = 103;
    d.limit_hits = 2;
    d.own_page_faults = 10;
    d.own_major_page_faults = 11;
    d.oom_kills = 1;
    d.tasks_max = 50;
    d.pids = {getpid()};
    d.io = {{.major = 4000, .minor = 1, .read_bytes = 1, .write_bytes = 2, .reads = 3, .writes = 4},
            {.major = 4000, .minor = 2, .read_bytes = 5, .write_bytes = 6, .reads = 7, .writes = 8}};
    d.hugetlb = {{.page_size = "2MB", .bytes = 5, .max_bytes = 6}};
    pod::ContainerStatus& container = AddContainer("main", "/a");
    container.started_at = 1'900'000'000'000'000'000;
    container.pid = getpid();
    container.config.user_specified_image = "docker.io/library/busybox:1";
    container.resources.cpu_quota = 20'000;
    container.resources.memory_limit_bytes = 64 << 20;
    container.resources.memory_swap_limit_bytes = 96 << 20;
  }
  // Of the container: the value of the one series with these labels after the base labels.
  std::optional<uint64_t> Value(const v1::ContainerMetrics& metrics, const std::string& name,
                                const std::vector<std::string>& more = {}) {
    for (const v1::Metric& metric : metrics.metrics()) {
      if (metric.name() != name) continue;
      std::vector<std::string> labels(metric.label_values().begin() + 6, metric.label_values().end());
      if (labels == more) return metric.value().value();
    }
    return std::nullopt;
  }
};

TEST_F(MetricsTest, ValuesAndLabels) {
  v1::PodSandboxMetrics all = Metrics();
  EXPECT_EQ(all.pod_sandbox_id(), pod_.id.str());
  ASSERT_EQ(all.container_metrics_size(), 1);
  const v1::ContainerMetrics& m = all.container_metrics(0);
  EXPECT_EQ(m.container_id(), containers_[0]->id.str());
  EXPECT_EQ(Value(m, "container_cpu_usage_seconds_total", {"total"}), 3u) << "whole seconds: CRI has integers";
  EXPECT_EQ(Value(m, "container_cpu_user_seconds_total"), 2u);
  EXPECT_EQ(Value(m, "container_cpu_system_seconds_total"), 1u);
  EXPECT_EQ(Value(m, "container_cpu_cfs_throttled_periods_total"), 4u);
  EXPECT_EQ(Value(m, "container_memory_working_set_bytes"), 900u);
  EXPECT_EQ(Value(m, "container_memory_rss"), 800u);
  EXPECT_EQ(Value(m, "container_memory_max_usage_bytes"), 2000u);
  EXPECT_EQ(Value(m, "container_memory_failures_total", {"pgfault", "container"}), 10u);
  EXPECT_EQ(Value(m, "container_memory_failures_total", {"pgmajfault", "hierarchy"}), 13u);
  EXPECT_EQ(Value(m, "container_oom_events_total"), 1u);
  EXPECT_EQ(Value(m, "container_fs_writes_bytes_total", {"4000:2"}), 6u) << "a device without a node";
  EXPECT_EQ(Value(m, "container_blkio_device_usage_total", {"4000:1", "4000", "1", "Read"}), 1u);
  EXPECT_EQ(Value(m, "container_hugetlb_max_usage_bytes", {"2MB"}), 6u);
  EXPECT_EQ(Value(m, "container_processes"), 1u);
  EXPECT_EQ(Value(m, "container_threads"), 9u);
  EXPECT_EQ(Value(m, "container_threads_max"), 50u);
  EXPECT_GE(Value(m, "container_file_descriptors"), 3u) << "of this test";
  EXPECT_EQ(Value(m, "container_pressure_io_waiting_seconds_total"), 5u);
  EXPECT_EQ(Value(m, "container_pressure_cpu_stalled_seconds_total"), 2u);
  EXPECT_EQ(Value(m, "container_spec_cpu_period"), 100'000u) << "what the kernel takes where nothing is asked";
  EXPECT_EQ(Value(m, "container_spec_cpu_quota"), 20'000u);
  EXPECT_EQ(Value(m, "container_spec_cpu_shares"), 1024u);
  EXPECT_EQ(Value(m, "container_spec_memory_limit_bytes"), 64u << 20);
  EXPECT_EQ(Value(m, "container_spec_memory_swap_limit_bytes"), 96u << 20);
  EXPECT_EQ(Value(m, "container_spec_memory_reservation_limit_bytes"), 0u);
  EXPECT_EQ(Value(m, "container_start_time_seconds"), 1'900'000'000u);
  EXPECT_EQ(Value(m, "container_last_seen"), 2'000'000'000u);
  const v1::Metric& first = m.metrics(0);
  EXPECT_THAT(first.label_values(), IsSupersetOf({"main", "/a", "docker.io/library/busybox:1",
                                                  containers_[0]->id.str().c_str(), "default", "web"}));
  EXPECT_EQ(first.timestamp(), 2'000'000'000'000'000'000);
}

TEST_F(MetricsTest, EverySeriesFitsItsDescriptorAndIsThereOnce) {
  std::map<std::string, int> label_count;
  v1::ListMetricDescriptorsResponse known = MetricDescriptors();
  for (const v1::MetricDescriptor& descriptor : known.descriptors()) {
    label_count[descriptor.name()] = descriptor.label_keys_size();
  }
  AddContainer("other", "/a");
  v1::PodSandboxMetrics all = Metrics();
  std::set<std::string> names, series;
  auto check = [&](const v1::Metric& metric) {
    names.insert(metric.name());
    EXPECT_TRUE(metric.has_value()) << metric.name() << ": the kubelet takes it without looking";
    EXPECT_EQ(metric.label_values_size(), label_count[metric.name()]) << metric.name();
    std::string key = metric.name();
    for (const std::string& label : metric.label_values()) key += "|" + label;
    EXPECT_TRUE(series.insert(key).second) << key << ": a Prometheus registry refuses all for one doubled series";
  };
  for (const v1::Metric& metric : all.metrics()) check(metric);
  for (const v1::ContainerMetrics& container : all.container_metrics()) {
    for (const v1::Metric& metric : container.metrics()) check(metric);
  }
  std::set<std::string> missing(std::begin(kNames), std::end(kNames));
  for (const std::string& name : names) EXPECT_EQ(missing.erase(name), 1u) << name;
  for (const std::string& name : missing) {
    bool needs_the_machine = name.find("network") != std::string::npos ||  // its interfaces
                             name.find("container_fs_") == 0 ||            // the layers' directory
                             name == "container_ulimits_soft";             // may be unlimited
    EXPECT_TRUE(needs_the_machine) << name;
  }
}

TEST_F(MetricsTest, NothingOfWhatDoesNotRun) {
  containers_[0]->state = pod::ContainerState::kExited;
  EXPECT_EQ(Metrics().container_metrics_size(), 0);
  containers_[0]->state = pod::ContainerState::kRunning;
  cgroups_.usage.clear();
  EXPECT_EQ(Metrics().container_metrics(0).metrics_size(), 0) << "it has ended meanwhile";
}

TEST_F(MetricsTest, CfsCountersOnlyWithAQuota) {
  containers_[0]->resources.cpu_quota = 0;
  v1::PodSandboxMetrics all = Metrics();
  EXPECT_EQ(Value(all.container_metrics(0), "container_cpu_cfs_periods_total"), std::nullopt);
  EXPECT_EQ(Value(all.container_metrics(0), "container_spec_cpu_quota"), std::nullopt);
}

}  // namespace
}  // namespace crisp::cri
