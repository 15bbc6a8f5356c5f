// What containers use, from two looks at CRI's stats. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cri/v1/api.pb.h"

namespace crisp::ctl {

// The rate that the runtime tells; without it, of the time between the two readings; 0 without an earlier one.
double Cores(const ::runtime::v1::CpuUsage& now, const ::runtime::v1::CpuUsage* before);
// Hundredths of one core, as "12.34".
std::string Percent(double cores);

struct Usage {
  std::string id, name, pod, pod_namespace;
  double cores = 0;
  uint64_t memory_bytes = 0, disk_bytes = 0, swap_bytes = 0;
};
// One per container of `now` that runs; names of pods by `pods`.
std::vector<Usage> UsageOf(const ::runtime::v1::ListContainerStatsResponse& now,
                           const ::runtime::v1::ListContainerStatsResponse& before,
                           const ::runtime::v1::ListContainersResponse& containers,
                           const ::runtime::v1::ListPodSandboxResponse& pods);
// The sum of each pod's containers; `id` and `name` are the pod's.
std::vector<Usage> ByPod(const std::vector<Usage>& containers);

enum class UsageOrder { kCpu, kMemory, kDisk, kName };
// "cpu", "mem", "disk", "name". kInvalidArgument names them.
Result<UsageOrder> ParseUsageOrder(std::string_view text);
// Most first; names from a to z.
void SortUsage(std::vector<Usage>& usage, UsageOrder order);

}  // namespace crisp::ctl
