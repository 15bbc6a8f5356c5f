#include "cri/pod_stats.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "base/time.h"
#include "cgroup/place.h"

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
  std::unordered_map<std::string_view, size_t> index;
  for (const pod::SandboxRef& pod : pods.ListSandboxes(filter)) {
    index.emplace(pod->id.str(), out.size());
    out.push_back({.pod = pod, .containers = {}});
  }
  if (out.empty()) return out;
  pod::ContainerFilter running{.id = {}, .pod = {}, .state = pod::ContainerState::kRunning, .labels = {}};
  if (out.size() == 1) running.pod = out[0].pod->id.str();
  for (const pod::ContainerRef& container : pods.ListContainers(running)) {
    auto found = index.find(container->pod.str());
    if (found != index.end()) out[found->second].containers.push_back(container);
  }
  return out;
}

// ---- network ----

void PodLinks::Read(const std::vector<std::string>& netns_paths) {
  int64_t at = UnixNanosNow();
  auto read = sys::ReadLinkCounters(netns_paths);
  if (!read) return;  // what was read before may still do
  auto& links = *read;
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
  BeginPrepare(pods, [] {});
}

GoingOn<void> PodLinks::BeginPrepare(std::span<const PodAndContainers> pods, std::function<void()> then) {
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
  if (wanted.empty()) return {};
  auto shared = std::make_shared<const std::vector<std::string>>(std::move(wanted));
  GoingOn<void> going_on = TryBeside(pool_, [this, shared, then = std::move(then)] {
    Read(*shared);
    then();
  });
  if (!going_on.valid()) Read(*shared);
  return going_on;
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
  // Whoever names no parent gets a cgroup of ours for the pod.
  if (parent.empty()) return cgroup::PlaceForPod(cgroups.driver(), pod.id).kernel_path;
  Result<cgroup::Location> place = cgroups.Place(parent, pod.id.str());
  if (!place) return {};
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

PodStatsMaker::PodStatsMaker(const cgroup::Cgroups& cgroups, UsageCache& usage, StatsMaker& containers, PodLinks& links)
    : cgroups_(cgroups),
      usage_(usage),
      containers_(containers),
      links_(links),
      names_([](const pod::SandboxStatus& pod) {
        v1::PodSandboxAttributes attributes;
        FillAttributes(pod, attributes);
        return attributes.SerializeAsString();
      }) {}

void PodStatsMaker::FillUse(const PodAndContainers& pod, v1::LinuxPodSandboxStats& out) {
  if (std::optional<UsageCache::Reading> reading = ReadPod(pod)) {
    FillCpu(*reading, *out.mutable_cpu());
    FillMemory(reading->usage, *out.mutable_memory());
    FillIo(reading->usage, [&] { return out.mutable_io(); });
    if (reading->usage.processes) {
      out.mutable_process()->set_timestamp(reading->usage.at_unix_nanos);
      out.mutable_process()->mutable_process_count()->set_value(*reading->usage.processes);
    }
  }
}

void PodStatsMaker::ReadAhead(const PodAndContainers& pod) {
  (void)ReadPod(pod);
  for (const pod::ContainerRef& container : pod.containers) {
    if (container->state == pod::ContainerState::kRunning) (void)usage_.Of(container->cgroup_path);
  }
}

void PodStatsMaker::FillNetworkOf(const PodAndContainers& pod, v1::LinuxPodSandboxStats& out) {
  if (std::optional<PodLinks::Reading> links = links_.Of(*pod.pod)) FillNetwork(*links, *out.mutable_network());
}

void PodStatsMaker::Fill(const Ctx& ctx, const PodAndContainers& pod, v1::PodSandboxStats& out) {
  FillAttributes(*pod.pod, *out.mutable_attributes());
  v1::LinuxPodSandboxStats& stats = *out.mutable_linux();
  FillUse(pod, stats);
  FillNetworkOf(pod, stats);
  for (const pod::ContainerRef& container : pod.containers) {
    if (container->state == pod::ContainerState::kRunning) containers_.Fill(ctx, *container, *stats.add_containers());
  }
}

// ---- many ----

PodStatsMaker::List PodStatsMaker::ListOf(std::vector<PodAndContainers> pods) {
  std::vector<pod::SandboxRef> refs;
  std::vector<pod::ContainerRef> containers;
  List list;
  for (const PodAndContainers& pod : pods) {
    refs.push_back(pod.pod);
    list.first_container.push_back(containers.size());
    containers.insert(containers.end(), pod.containers.begin(), pod.containers.end());
  }
  list.first_container.push_back(containers.size());
  list.pods = std::move(pods);
  list.names = names_.Of(refs, false);
  list.containers = containers_.NamesOf(containers, false);
  return list;
}

Result<size_t> PodStatsMaker::Encode(const Ctx& ctx, const List& list, size_t first, size_t count, size_t bytes_max,
                                     grpc::ByteBuffer& out) {
  static_assert(v1::PodSandboxStats::kAttributesFieldNumber == 1);
  constexpr size_t kOfNetwork = 64;  // about what it takes
  // The networks take half as long as the rest, of which their thread then does what it can, from the end.
  std::atomic<size_t> reached = first;
  auto read_ahead = [&] {
    for (size_t at = first + count; at > reached;) ReadAhead(list.pods[--at]);
  };
  GoingOn<void> beside = links_.BeginPrepare(std::span(list.pods).subspan(first, count), read_ahead);
  // Whichever way we leave, it is not waited for longer than it must.
  struct Enough {
    std::atomic<size_t>& reached;
    void Now() { reached = SIZE_MAX; }
    ~Enough() { Now(); }
  } enough{reached};
  StatsMaker::FactsRef facts = containers_.FactsOf(ctx, list.containers);
  std::vector<std::string> use;  // of each, in protobuf's form, which takes the parts of a message in any order
  size_t estimate = 0;
  for (size_t at = first; at < first + count && estimate < bytes_max; ++at) {
    TRY(ctx.Check());
    reached = at;
    v1::LinuxPodSandboxStats numbers;
    FillUse(list.pods[at], numbers);
    use.push_back(numbers.SerializeAsString());
    size_t containers = list.first_container[at];
    containers_.Append(*facts, containers, list.first_container[at + 1] - containers,
                       v1::LinuxPodSandboxStats::kContainersFieldNumber, use.back());
    estimate += list.names->pieces[at].size() + use.back().size() + kOfNetwork;
  }
  enough.Now();
  if (beside.valid()) beside.Wait();
  std::string bytes;
  for (size_t i = 0; i < use.size(); ++i) {
    v1::LinuxPodSandboxStats network;
    FillNetworkOf(list.pods[first + i], network);
    network.AppendToString(&use[i]);
    std::string_view names = list.names->pieces[first + i];
    std::string head;
    AppendFieldHead(head, v1::PodSandboxStats::kLinuxFieldNumber, use[i].size());
    AppendFieldHead(bytes, 1, names.size() + head.size() + use[i].size());
    bytes.append(names).append(head).append(use[i]);
  }
  out = ToByteBuffer(std::move(bytes));
  return use.size();
}

}  // namespace crisp::cri
