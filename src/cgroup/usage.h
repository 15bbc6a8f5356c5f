// What a cgroup has used, read from the kernel's files: cgroup v1 (Documentation/admin-guide/cgroup-v1/memory.rst,
// cpuacct.rst) and v2 (cgroup-v2.rst). A number that the kernel does not give is absent, never zero.
#pragma once

#include <cstdint>
#include <optional>

#include "cgroup/hierarchy.h"

namespace crisp::cgroup {

struct Usage {
  int64_t at_unix_nanos = 0;
  std::optional<uint64_t> cpu_nanos;  // all processors together, since the cgroup was made
  std::optional<uint64_t> memory_bytes;
  std::optional<uint64_t> working_set_bytes;  // memory that cannot simply be dropped: without the inactive file cache
  std::optional<uint64_t> available_bytes;    // limit - working set; absent without a limit
  std::optional<uint64_t> rss_bytes;
  std::optional<uint64_t> page_faults, major_page_faults;
  std::optional<uint64_t> swap_bytes, swap_available_bytes;
  std::optional<uint64_t> processes;
};

// kNotFound: there is no such cgroup (its processes have ended).
Result<Usage> ReadUsage(const Layout& layout, const std::string& kernel_path);

}  // namespace crisp::cgroup
