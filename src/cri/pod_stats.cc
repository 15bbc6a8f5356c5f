#include "cri/pod_stats.h"

#include <algorithm>

#include "base/time.h"

namespace crisp::cri {
namespace {

constexpr std::chrono::seconds kYoung(1);
constexpr size_t kNamespacesBeforeForgetting = 1024;
constexpr char kDefaultInterface[] = "eth0";  // as CNI runtimes name it

using Number = std::optional<uint64_t>;

void Add(Number& sum, Number part) {
  if (part) sum = sum.value_or(0) + *part;
}

// Sums what can be summed: limits and pressure cannot.
void Add(UsageCache::Reading& sum, const UsageCache::Reading& part) {
  sum.usage.at_unix_nanos = std::max(sum.usage.at_unix_nanos, part.usage.at_unix_nanos);
  for (auto field : {&cgroup::Usage::cpu_nanos, &cgroup::Usage::memory_bytes, &cgroup::Usage::working_set_bytes,
                     &cgroup::Usage::rss_bytes, &cgroup::Usage::page_faults, &cgroup::Usage::major_page_faults,
                     &cgroup::Usage::swap_bytes, &cgroup::Usage::processes}) {
    Add(sum.usage.*field, part.usage.*field);
  }
  Add(sum.nano_cores, part.nano_cores);
}

void FillInterface(const sys::LinkCounters& link, v1::NetworkInterfaceUsage& out) {
  out.set_name(link.name);
  out.mutable_rx_bytes()->set_value(link.received.bytes);
  out.mutable_rx_errors()->set_value(link.received.errors);
  out.mutable_tx_bytes()->set_value(link.sent.bytes);
  out.mutable_tx_errors()->set_value(link.sent.errors);
}

void FillNetwork(const PodLinks::Reading& reading, v1::NetworkUsage& out) {
  out.set_timestamp(reading.at_unix_nanos);
  const std::vector<sys::LinkCounters>& links = reading.links;
  auto main = std::find_if(links.begin(), links.end(), [](const auto& link) { return link.name == kDefaultInterface; });
  if (main == links.end()) main = links.begin();
  for (auto link = links.begin(); link != links.end(); ++link) {
    FillInterface(*link, link == main ? *out.mutable_default_interface() : *out.add_interfaces());
  }
}

void FillAttributes(const pod::SandboxStatus& pod, v1::PodSandboxAttributes& out) {
  out.set_id(pod.id.str());
  const spec::SandboxMetadata& metadata = pod.config.metadata;
  out.mutable_metadata()->set_name(metadata.name);
  out.mutable_metadata()->set_uid(metadata.uid);
  out.mutable_metadata()->set_namespace_(metadata.pod_namespace);
  out.mutable_metadata()->set_attempt(metadata.attempt);
  out.mutable_labels()->insert(pod.config.labels.begin(), pod.config.labels.end());
  out.mutable_annotations()->insert(pod.config.annotations.begin(), pod.config.annotations.end());
}

bool HasOwnNetwork(const pod::SandboxStatus& pod) {
  return pod.config.security.namespaces.network == spec::NamespaceMode::kPod && !pod.netns_path.empty();
}

}  // namespace

std::vector<PodAndContainers> ReadyPods(const pod::Manager& pods, pod::SandboxFilter filter) {
  filter.state = pod::SandboxState::kReady;
  std::vector<PodAndContainers> out;
  std::map<std::string, size_t> index;
  for (pod::SandboxRef& pod : pods.ListSandboxes(filter)) {
    index.emplace(pod->id.str(), out.size());
    out.push_back({.pod = std::move(pod), .containers = {}});
  }
  if (out.empty()) return out;
  pod::ContainerFilter of_pod;
  if (out.size() == 1) of_pod.pod = out[0].pod->id.str();
  for (pod::ContainerRef& container : pods.ListContainers(of_pod)) {
    auto found = index.find(container->pod.str());
    if (found != index.end()) out[found->second].containers.push_back(std::move(container));
  }
  return out;
}

// ---- network ----

void PodLinks::Read(const std::vector<std::string>& netns_paths) {
  int64_t at = UnixNanosNow();
  auto links = sys::ReadLinkCounters(netns_paths);
  Clock::time_point now = Clock::now();
  auto all = all_.Lock();
  if (all->size() > kNamespacesBeforeForgetting) {
    std::erase_if(*all, [&](const auto& known) { return now - known.second.read_at > kYoung; });
  }
  for (size_t i = 0; i < netns_paths.size(); ++i) {
    Known& known = (*all)[netns_paths[i]];
    known.read_at = now;
    known.reading.reset();
    if (links[i]) known.reading = Reading{.links = *std::move(links[i]), .at_unix_nanos = at};
  }
}

void PodLinks::Prepare(std::span<const PodAndContainers> pods) {
  std::vector<std::string> wanted;
  {
    Clock::time_point now = Clock::now();
    auto all = all_.Lock();
    for (const PodAndContainers& pod : pods) {
      if (!HasOwnNetwork(*pod.pod)) continue;
      auto found = all->find(pod.pod->netns_path);
      if (found == all->end() || now - found->second.read_at >= kYoung) wanted.push_back(pod.pod->netns_path);
    }
  }
  if (!wanted.empty()) Read(wanted);
}

std::optional<PodLinks::Reading> PodLinks::Of(const pod::SandboxStatus& pod) {
  if (!HasOwnNetwork(pod)) return std::nullopt;
  {
    auto all = all_.Lock();
    auto found = all->find(pod.netns_path);
    if (found != all->end() && Clock::now() - found->second.read_at < 2 * kYoung) return found->second.reading;
  }
  Read({pod.netns_path});
  auto all = all_.Lock();
  auto found = all->find(pod.netns_path);
  return found == all->end() ? std::nullopt : found->second.reading;
}

// ---- pods ----

std::string PodCgroup(const cgroup::Cgroups& cgroups, const pod::SandboxStatus& pod) {
  const std::string& parent = pod.config.cgroup_parent;
  Result<cgroup::Location> place = cgroups.Place(parent, pod.id.str());
  if (!place) return {};
  // Whoever names no parent gets a cgroup of ours for the pod.
  if (parent.empty()) return cgroups.driver() == cgroup::Driver::kCgroupfs ? place->kernel_path : std::string();
  size_t last = place->kernel_path.rfind('/');
  if (last == std::string::npos || last == 0) return {};
  std::string path = place->kernel_path.substr(0, last);
  // "pod<uid>"; with systemd the dashes of the uid are underscores.
  constexpr size_t kUidLengthMin = 8;
  std::string uid = pod.config.metadata.uid;
  if (uid.size() < kUidLengthMin) return {};
  std::string name = path.substr(path.rfind('/') + 1);
  if (name.find(uid) != std::string::npos) return path;
  std::replace(uid.begin(), uid.end(), '-', '_');
  return name.find(uid) != std::string::npos ? path : std::string();
}

std::optional<UsageCache::Reading> PodStatsMaker::ReadPod(const PodAndContainers& pod) {
  if (std::string path = PodCgroup(cgroups_, *pod.pod); !path.empty()) {
    if (std::optional<UsageCache::Reading> reading = usage_.Of(path)) return reading;
  }
  std::optional<UsageCache::Reading> sum;
  for (const pod::ContainerRef& container : pod.containers) {
    if (container->state != pod::ContainerState::kRunning) continue;
    std::optional<UsageCache::Reading> part = usage_.Of(container->cgroup_path);
    if (!part) continue;
    if (!sum) sum.emplace();
    Add(*sum, *part);
  }
  return sum;
}

void PodStatsMaker::Fill(const Ctx& ctx, const PodAndContainers& pod, v1::PodSandboxStats& out) {
  FillAttributes(*pod.pod, *out.mutable_attributes());
  v1::LinuxPodSandboxStats& stats = *out.mutable_linux();
  if (std::optional<UsageCache::Reading> reading = ReadPod(pod)) {
    FillCpu(*reading, *stats.mutable_cpu());
    FillMemory(reading->usage, *stats.mutable_memory());
    FillIo(reading->usage, [&] { return stats.mutable_io(); });
    if (reading->usage.processes) {
      stats.mutable_process()->set_timestamp(reading->usage.at_unix_nanos);
      stats.mutable_process()->mutable_process_count()->set_value(*reading->usage.processes);
    }
  }
  if (std::optional<PodLinks::Reading> links = links_.Of(*pod.pod)) FillNetwork(*links, *stats.mutable_network());
  for (const pod::ContainerRef& container : pod.containers) {
    if (container->state == pod::ContainerState::kRunning) containers_.Fill(ctx, *container, *stats.add_containers());
  }
}

}  // namespace crisp::cri
