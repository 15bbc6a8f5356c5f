#include "ctl/usage.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/strings.h"

namespace crisp::ctl {

namespace cri = ::runtime::v1;

double Cores(const cri::CpuUsage& now, const cri::CpuUsage* before) {
  if (now.has_usage_nano_cores()) return static_cast<double>(now.usage_nano_cores().value()) / 1e9;
  if (before == nullptr || now.timestamp() <= before->timestamp()) return 0;
  double used = static_cast<double>(now.usage_core_nano_seconds().value()) -
                static_cast<double>(before->usage_core_nano_seconds().value());
  return std::max(0.0, used / static_cast<double>(now.timestamp() - before->timestamp()));
}

std::string Percent(double cores) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", cores * 100);
  return text;
}

std::vector<Usage> UsageOf(const cri::ListContainerStatsResponse& now, const cri::ListContainerStatsResponse& before,
                           const cri::ListContainersResponse& containers, const cri::ListPodSandboxResponse& pods) {
  std::map<std::string, const cri::CpuUsage*> earlier;
  for (const auto& stats : before.stats()) earlier[stats.attributes().id()] = &stats.cpu();
  std::map<std::string, const cri::PodSandboxMetadata*> pod_by_id, pod_of;  // pod_of: of those that run
  for (const auto& pod : pods.items()) pod_by_id[pod.id()] = &pod.metadata();
  for (const auto& container : containers.containers()) {
    if (container.state() != cri::CONTAINER_RUNNING) continue;
    auto pod = pod_by_id.find(container.pod_sandbox_id());
    pod_of[container.id()] = pod == pod_by_id.end() ? nullptr : pod->second;
  }
  std::vector<Usage> usage;
  for (const auto& stats : now.stats()) {
    auto pod = pod_of.find(stats.attributes().id());
    if (pod == pod_of.end()) continue;
    Usage one{.id = stats.attributes().id(),
              .name = stats.attributes().metadata().name(),
              .cores = Cores(stats.cpu(), earlier[stats.attributes().id()]),
              .memory_bytes = stats.memory().working_set_bytes().value(),
              .disk_bytes = stats.writable_layer().used_bytes().value(),
              .swap_bytes = stats.swap().swap_usage_bytes().value()};
    if (pod->second != nullptr) {
      one.pod = pod->second->name();
      one.pod_namespace = pod->second->namespace_();
    }
    usage.push_back(std::move(one));
  }
  return usage;
}

std::vector<Usage> ByPod(const std::vector<Usage>& containers) {
  std::map<std::pair<std::string, std::string>, Usage> pods;
  for (const Usage& one : containers) {
    Usage& sum = pods[{one.pod_namespace, one.pod}];
    sum.name = sum.pod = one.pod;
    sum.pod_namespace = one.pod_namespace;
    sum.cores += one.cores;
    sum.memory_bytes += one.memory_bytes;
    sum.disk_bytes += one.disk_bytes;
    sum.swap_bytes += one.swap_bytes;
  }
  std::vector<Usage> usage;
  for (auto& [key, sum] : pods) usage.push_back(std::move(sum));
  return usage;
}

Result<UsageOrder> ParseUsageOrder(std::string_view text) {
  if (text == "cpu") return UsageOrder::kCpu;
  if (text == "mem" || text == "memory") return UsageOrder::kMemory;
  if (text == "disk") return UsageOrder::kDisk;
  if (text == "name") return UsageOrder::kName;
  return Error(Code::kInvalidArgument, StrCat("unknown order ", Quote(text), " (cpu, mem, disk, name)"));
}

void SortUsage(std::vector<Usage>& usage, UsageOrder order) {
  auto name = [](const Usage& u) { return std::tie(u.pod_namespace, u.pod, u.name, u.id); };
  std::ranges::stable_sort(usage, [&](const Usage& a, const Usage& b) {
    switch (order) {
      case UsageOrder::kCpu:
        if (a.cores != b.cores) return a.cores > b.cores;
        break;
      case UsageOrder::kMemory:
        if (a.memory_bytes != b.memory_bytes) return a.memory_bytes > b.memory_bytes;
        break;
      case UsageOrder::kDisk:
        if (a.disk_bytes != b.disk_bytes) return a.disk_bytes > b.disk_bytes;
        break;
      case UsageOrder::kName: break;
    }
    return name(a) < name(b);
  });
}

}  // namespace crisp::ctl
