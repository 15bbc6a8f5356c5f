#include "cri/pod_metrics.h"

#include <sys/statvfs.h>

#include <algorithm>

#include "base/strings.h"
#include "cgroup/place.h"
#include "cri/metric_table.h"
#include "sys/file.h"
#include "sys/process_info.h"

namespace crisp::cri {
namespace {

constexpr uint64_t kNanosPerSecond = 1'000'000'000, kMicrosPerSecond = 1'000'000;
constexpr uint64_t kDescriptorsCountedMax = 50'000;  // of one container
// What the kernel uses where a request says nothing.
constexpr int64_t kDefaultPeriod = 100'000, kDefaultShares = 1024;

using Number = std::optional<uint64_t>;

Number Seconds(Number nanos) { return nanos ? Number(*nanos / kNanosPerSecond) : std::nullopt; }

uint64_t NotNegative(int64_t value) { return value > 0 ? static_cast<uint64_t>(value) : 0; }

}  // namespace

// The metrics of one container or pod.
class MetricsMaker::Series {
 public:
  Series(google::protobuf::RepeatedPtrField<v1::Metric>& out, int64_t at_unix_nanos, std::array<std::string, 6> labels)
      : out_(out), at_unix_nanos_(at_unix_nanos), labels_(std::move(labels)) {}

  void Add(Metric metric, Number value, std::initializer_list<std::string_view> more = {}) {
    if (!value) return;
    const MetricInfo& info = InfoOf(metric);
    v1::Metric& added = *out_.Add();
    added.set_name(info.name);
    added.set_timestamp(at_unix_nanos_);
    added.set_metric_type(info.counter ? v1::COUNTER : v1::GAUGE);
    added.mutable_label_values()->Reserve(static_cast<int>(labels_.size() + more.size()));
    for (const std::string& label : labels_) added.add_label_values(label);
    for (std::string_view label : more) added.add_label_values(label.data(), label.size());
    added.mutable_value()->set_value(*value);
  }
  int64_t at_unix_nanos() const { return at_unix_nanos_; }

 private:
  google::protobuf::RepeatedPtrField<v1::Metric>& out_;
  const int64_t at_unix_nanos_;
  const std::array<std::string, 6> labels_;  // as kBaseLabels
};

v1::ListMetricDescriptorsResponse MetricDescriptors() {
  v1::ListMetricDescriptorsResponse out;
  for (size_t i = 0; i < kMetricCount; ++i) {
    const MetricInfo& info = InfoOf(static_cast<Metric>(i));
    v1::MetricDescriptor& added = *out.add_descriptors();
    added.set_name(info.name);
    added.set_help(info.help);
    for (const char* label : kBaseLabels) added.add_label_keys(label);
    for (const char* label : info.labels) {
      if (label != nullptr) added.add_label_keys(label);
    }
  }
  return out;
}

void MetricsMaker::Cpu(const cgroup::Details& details, const spec::Resources& resources, Series& series) const {
  series.Add(Metric::kCpuUsageSeconds, Seconds(details.usage.cpu_nanos), {"total"});
  series.Add(Metric::kCpuUserSeconds, Seconds(details.cpu_user_nanos));
  series.Add(Metric::kCpuSystemSeconds, Seconds(details.cpu_system_nanos));
  if (resources.cpu_quota > 0) {
    series.Add(Metric::kCpuCfsPeriods, details.cpu_periods);
    series.Add(Metric::kCpuCfsThrottledPeriods, details.cpu_throttled_periods);
    series.Add(Metric::kCpuCfsThrottledSeconds, Seconds(details.cpu_throttled_nanos));
  }
  auto pressure = [&](const std::optional<cgroup::Pressure>& of, Metric stalled, Metric waiting) {
    if (!of) return;
    series.Add(stalled, of->full.total_micros / kMicrosPerSecond);
    series.Add(waiting, of->some.total_micros / kMicrosPerSecond);
  };
  pressure(details.usage.cpu_pressure, Metric::kPressureCpuStalledSeconds, Metric::kPressureCpuWaitingSeconds);
  pressure(details.usage.memory_pressure, Metric::kPressureMemoryStalledSeconds, Metric::kPressureMemoryWaitingSeconds);
  pressure(details.usage.io_pressure, Metric::kPressureIoStalledSeconds, Metric::kPressureIoWaitingSeconds);
}

void MetricsMaker::Memory(const cgroup::Details& details, Series& series) const {
  series.Add(Metric::kMemoryCache, details.cache_bytes);
  series.Add(Metric::kMemoryRss, details.usage.rss_bytes);
  series.Add(Metric::kMemoryKernelUsage, details.kernel_bytes);
  series.Add(Metric::kMemoryMappedFile, details.mapped_file_bytes);
  series.Add(Metric::kMemorySwap, details.swapped_bytes);
  series.Add(Metric::kMemoryFailcnt, details.limit_hits);
  series.Add(Metric::kMemoryUsageBytes, details.usage.memory_bytes);
  series.Add(Metric::kMemoryMaxUsageBytes, details.memory_max_bytes);
  series.Add(Metric::kMemoryWorkingSetBytes, details.usage.working_set_bytes);
  series.Add(Metric::kMemoryFailures, details.own_page_faults, {"pgfault", "container"});
  series.Add(Metric::kMemoryFailures, details.usage.page_faults, {"pgfault", "hierarchy"});
  series.Add(Metric::kMemoryFailures, details.own_major_page_faults, {"pgmajfault", "container"});
  series.Add(Metric::kMemoryFailures, details.usage.major_page_faults, {"pgmajfault", "hierarchy"});
  series.Add(Metric::kOomEvents, details.oom_kills);
  for (const cgroup::Details::Hugetlb& hugetlb : details.hugetlb) {
    series.Add(Metric::kHugetlbUsageBytes, hugetlb.bytes, {hugetlb.page_size});
    series.Add(Metric::kHugetlbMaxUsageBytes, hugetlb.max_bytes, {hugetlb.page_size});
  }
}

std::string MetricsMaker::DeviceName(uint32_t major, uint32_t minor) {
  uint64_t key = uint64_t{major} << 32 | minor;
  {
    auto names = device_names_.Lock();
    if (auto found = names->find(key); found != names->end()) return found->second;
  }
  std::string name;
  Result<std::string> uevent = sys::ReadFile(StrCat("/sys/dev/block/", major, ":", minor, "/uevent"));
  for (std::string_view line : Split(uevent ? std::string_view(*uevent) : std::string_view(), '\n')) {
    if (line.starts_with("DEVNAME=")) name = StrCat("/dev/", line.substr(8));
  }
  constexpr size_t kNamesMax = 1024;
  auto names = device_names_.Lock();
  if (names->size() >= kNamesMax) names->clear();
  names->emplace(key, name);
  return name;
}

void MetricsMaker::DiskIo(const cgroup::Details& details, Series& series) {
  for (const cgroup::Details::DeviceIo& io : details.io) {
    std::string name = DeviceName(io.major, io.minor), major = StrCat(io.major), minor = StrCat(io.minor);
    // Two devices without a node would be one series.
    std::string shown = name.empty() ? StrCat(major, ":", minor) : name;
    series.Add(Metric::kFsReadsBytes, io.read_bytes, {shown});
    series.Add(Metric::kFsReads, io.reads, {shown});
    series.Add(Metric::kFsWritesBytes, io.write_bytes, {shown});
    series.Add(Metric::kFsWrites, io.writes, {shown});
    series.Add(Metric::kBlkioDeviceUsage, io.read_bytes, {shown, major, minor, "Read"});
    series.Add(Metric::kBlkioDeviceUsage, io.write_bytes, {shown, major, minor, "Write"});
  }
}

void MetricsMaker::FileSystem(const Ctx& ctx, const std::string& container_id, Series& series) {
  std::string device = layers_.Device();
  struct statvfs fs;
  if (statvfs(layers_.dir().c_str(), &fs) == 0) {
    series.Add(Metric::kFsInodesFree, fs.f_ffree, {device});
    series.Add(Metric::kFsInodesTotal, fs.f_files, {device});
    series.Add(Metric::kFsLimitBytes, fs.f_blocks * fs.f_frsize, {device});
  }
  if (Result<DiskUsage::Measured> layer = layers_.Of(ctx, container_id)) {
    series.Add(Metric::kFsUsageBytes, layer->usage.used_bytes, {device});
  }
}

void MetricsMaker::Tasks(const cgroup::Details& details, int main_pid, Series& series) const {
  sys::OpenDescriptors open;
  for (int pid : details.pids) {
    if (open.all >= kDescriptorsCountedMax) break;
    sys::OpenDescriptors of_one = sys::CountDescriptors(pid, kDescriptorsCountedMax - open.all);
    open.all += of_one.all;
    open.sockets += of_one.sockets;
  }
  series.Add(Metric::kFileDescriptors, open.all);
  series.Add(Metric::kSockets, open.sockets);
  series.Add(Metric::kProcesses, details.pids.size());
  series.Add(Metric::kThreads, details.usage.processes);
  series.Add(Metric::kThreadsMax, details.tasks_max);
  if (main_pid > 0) series.Add(Metric::kUlimitsSoft, sys::SoftOpenFilesLimit(main_pid), {"max_open_files"});
}

void MetricsMaker::Limits(const pod::ContainerStatus& container, Series& series) const {
  const spec::Resources& limits = container.resources;
  series.Add(Metric::kSpecCpuPeriod, NotNegative(limits.cpu_period > 0 ? limits.cpu_period : kDefaultPeriod));
  series.Add(Metric::kSpecCpuShares, NotNegative(limits.cpu_shares > 0 ? limits.cpu_shares : kDefaultShares));
  if (limits.cpu_quota > 0) series.Add(Metric::kSpecCpuQuota, NotNegative(limits.cpu_quota));
  series.Add(Metric::kSpecMemoryLimitBytes, NotNegative(limits.memory_limit_bytes));
  // The request counts memory and swap together, and so does cgroup v1; v2 has swap alone.
  int64_t swap = limits.memory_swap_limit_bytes;
  if (cgroups_.unified() && swap > 0) swap = std::max<int64_t>(swap - limits.memory_limit_bytes, 0);
  series.Add(Metric::kSpecMemorySwapLimitBytes, NotNegative(swap));
  auto reserved = limits.unified.find("memory.min");
  Number reservation = reserved == limits.unified.end() ? Number(0) : ParseInt<uint64_t>(reserved->second);
  series.Add(Metric::kSpecMemoryReservationLimitBytes, reservation.value_or(0));
  series.Add(Metric::kStartTimeSeconds, NotNegative(container.started_at) / kNanosPerSecond);
  series.Add(Metric::kLastSeen, NotNegative(series.at_unix_nanos()) / kNanosPerSecond);
}

void MetricsMaker::Network(const sys::LinkCounters& link, Series& series) const {
  series.Add(Metric::kNetworkReceiveBytes, link.received.bytes, {link.name});
  series.Add(Metric::kNetworkReceivePackets, link.received.packets, {link.name});
  series.Add(Metric::kNetworkReceivePacketsDropped, link.received.dropped, {link.name});
  series.Add(Metric::kNetworkReceiveErrors, link.received.errors, {link.name});
  series.Add(Metric::kNetworkTransmitBytes, link.sent.bytes, {link.name});
  series.Add(Metric::kNetworkTransmitPackets, link.sent.packets, {link.name});
  series.Add(Metric::kNetworkTransmitPacketsDropped, link.sent.dropped, {link.name});
  series.Add(Metric::kNetworkTransmitErrors, link.sent.errors, {link.name});
}

void MetricsMaker::FillContainer(const Ctx& ctx, const pod::SandboxStatus& pod, const pod::ContainerStatus& container,
                                 v1::ContainerMetrics& out) {
  out.set_container_id(container.id.str());
  std::optional<cgroup::Details> details = usage_.DetailsOf(container.cgroup_path);
  if (!details) return;  // it has ended meanwhile
  const spec::SandboxMetadata& metadata = pod.config.metadata;
  const spec::ContainerConfig& config = container.config;
  Series series(*out.mutable_metrics(), details->usage.at_unix_nanos,
                {config.metadata.name, container.cgroup_path,
                 config.user_specified_image.empty() ? config.image : config.user_specified_image, container.id.str(),
                 metadata.pod_namespace, metadata.name});
  constexpr int kUsual = 64;
  out.mutable_metrics()->Reserve(kUsual);
  Cpu(*details, container.resources, series);
  Memory(*details, series);
  DiskIo(*details, series);
  FileSystem(ctx, container.id.str(), series);
  Tasks(*details, container.pid, series);
  Limits(container, series);
}

void MetricsMaker::Fill(const Ctx& ctx, const PodAndContainers& pod, v1::PodSandboxMetrics& out) {
  const spec::SandboxMetadata& metadata = pod.pod->config.metadata;
  std::string id = pod.pod->id.str();
  out.set_pod_sandbox_id(id);
  if (std::optional<PodLinks::Reading> reading = links_.Of(*pod.pod)) {
    // Where others have the cgroup of a pause container; pods may share a parent, so it alone would not do.
    const std::string& parent = pod.pod->config.cgroup_parent;
    std::string own = cgroup::PlaceForPod(cgroups_.driver(), pod.pod->id).kernel_path;
    Result<cgroup::Location> place = cgroups_.Place(parent, id);
    std::string path = parent.empty() ? own : place ? place->kernel_path : id;
    Series series(*out.mutable_metrics(), reading->at_unix_nanos,
                  {"POD", path, "", id, metadata.pod_namespace, metadata.name});
    for (const sys::LinkCounters& link : reading->links) Network(link, series);
  }
  for (const pod::ContainerRef& container : pod.containers) {
    if (container->state == pod::ContainerState::kRunning) {
      FillContainer(ctx, *pod.pod, *container, *out.add_container_metrics());
    }
  }
}

}  // namespace crisp::cri
