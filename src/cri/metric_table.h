// Names, help texts, types and labels of the metrics of pod_metrics.h. Pure.
#pragma once

#include <array>
#include <span>

namespace crisp::cri {

enum class Metric {
  kBlkioDeviceUsage,
  kCpuCfsPeriods,
  kCpuCfsThrottledPeriods,
  kCpuCfsThrottledSeconds,
  kCpuSystemSeconds,
  kCpuUsageSeconds,
  kCpuUserSeconds,
  kFileDescriptors,
  kFsInodesFree,
  kFsInodesTotal,
  kFsLimitBytes,
  kFsReadsBytes,
  kFsReads,
  kFsUsageBytes,
  kFsWritesBytes,
  kFsWrites,
  kHugetlbMaxUsageBytes,
  kHugetlbUsageBytes,
  kLastSeen,
  kMemoryCache,
  kMemoryFailcnt,
  kMemoryFailures,
  kMemoryKernelUsage,
  kMemoryMappedFile,
  kMemoryMaxUsageBytes,
  kMemoryRss,
  kMemorySwap,
  kMemoryUsageBytes,
  kMemoryWorkingSetBytes,
  kNetworkReceiveBytes,
  kNetworkReceiveErrors,
  kNetworkReceivePacketsDropped,
  kNetworkReceivePackets,
  kNetworkTransmitBytes,
  kNetworkTransmitErrors,
  kNetworkTransmitPacketsDropped,
  kNetworkTransmitPackets,
  kOomEvents,
  kPressureCpuStalledSeconds,
  kPressureCpuWaitingSeconds,
  kPressureIoStalledSeconds,
  kPressureIoWaitingSeconds,
  kPressureMemoryStalledSeconds,
  kPressureMemoryWaitingSeconds,
  kProcesses,
  kSockets,
  kSpecCpuPeriod,
  kSpecCpuQuota,
  kSpecCpuShares,
  kSpecMemoryLimitBytes,
  kSpecMemoryReservationLimitBytes,
  kSpecMemorySwapLimitBytes,
  kStartTimeSeconds,
  kThreads,
  kThreadsMax,
  kUlimitsSoft,
};
inline constexpr size_t kMetricCount = static_cast<size_t>(Metric::kUlimitsSoft) + 1;

// The labels that every metric begins with, as cAdvisor has them in a kubelet: `id` is the cgroup's path, `name` the
// container's id.
inline constexpr std::array<const char*, 6> kBaseLabels = {"container", "id", "image", "name", "namespace", "pod"};

struct MetricInfo {
  const char* name;
  bool counter;  // else a gauge
  const char* help;
  std::array<const char*, 4> labels;  // after the base labels; null: no more
};
const MetricInfo& InfoOf(Metric metric);

}  // namespace crisp::cri
