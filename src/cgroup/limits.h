// Writing a cgroup's limits: which file gets which text, in which order, on cgroup v1 (Documentation/admin-guide/
// cgroup-v1) and v2 (cgroup-v2.rst). What the OCI runtime writes for containers, for cgroups that have no OCI runtime.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cgroup/hierarchy.h"

namespace crisp::cgroup {

// 0, "" and empty: left as it is. -1: no limit.
struct Limits {
  int64_t cpu_shares = 0;  // 2 … 262144, as cgroup v1 counts them
  int64_t cpu_quota_micros = 0, cpu_period_micros = 0;
  int64_t memory_bytes = 0;
  int64_t memory_swap_bytes = 0;                            // memory and swap together, so never less than the memory
  std::vector<std::pair<std::string, uint64_t>> hugepages;  // page size ("2MB"), bytes

  bool operator==(const Limits&) const = default;
};

// v2's weight for v1's shares: 2 … 262144 onto 1 … 10000, as Debian's runc and crun map them.
uint64_t WeightOfShares(int64_t shares);

// kInvalidArgument: limits that contradict each other. kFailedPrecondition: a controller is missing. kNotFound: no such
// cgroup. The kernel's own refusals (a memory limit below what is used, on v1) are passed on.
Result<> WriteLimits(const Layout& layout, const std::string& kernel_path, const Limits& limits);

}  // namespace crisp::cgroup
