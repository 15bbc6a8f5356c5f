// What a cgroup has used, read from the kernel's files: cgroup v1 (Documentation/admin-guide/cgroup-v1/: memory.rst,
// cpuacct.rst, blkio-controller.rst, hugetlb.rst, pids.rst) and v2 (cgroup-v2.rst), pressure (accounting/psi.rst).
// A number that the kernel does not give is absent, never zero. Values; bytes and nanoseconds unless said otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace crisp::cgroup {

// Time that tasks stood still for want of a resource.
struct Pressure {
  struct Line {
    double avg10 = 0, avg60 = 0, avg300 = 0;  // per cent
    uint64_t total_micros = 0;
  };
  Line some;  // at least one task waited
  Line full;  // all waited; zero where the kernel does not give it (cpu before 5.13)
};

struct Usage {
  int64_t at_unix_nanos = 0;
  std::optional<uint64_t> cpu_nanos;  // all processors together, since the cgroup was made
  std::optional<uint64_t> memory_bytes;
  std::optional<uint64_t> working_set_bytes;  // memory that cannot simply be dropped: without the inactive file cache
  std::optional<uint64_t> available_bytes;    // limit - working set; absent without a limit
  std::optional<uint64_t> rss_bytes;
  std::optional<uint64_t> page_faults, major_page_faults;
  std::optional<uint64_t> swap_bytes, swap_available_bytes;
  std::optional<uint64_t> processes;                                   // tasks, as the pids controller counts them
  std::optional<Pressure> cpu_pressure, memory_pressure, io_pressure;  // v2 only
};

// What monitoring wants on top of it.
struct Details {
  Usage usage;
  std::optional<uint64_t> cpu_user_nanos, cpu_system_nanos;
  std::optional<uint64_t> cpu_periods, cpu_throttled_periods, cpu_throttled_nanos;
  std::optional<uint64_t> cache_bytes, mapped_file_bytes, kernel_bytes, memory_max_bytes, swapped_bytes;
  std::optional<uint64_t> limit_hits;                              // times that memory hit its limit
  std::optional<uint64_t> own_page_faults, own_major_page_faults;  // without the cgroups below
  std::optional<uint64_t> oom_kills;
  std::optional<uint64_t> tasks_max;  // 0: no limit
  std::vector<int> pids;              // of the cgroup and those below

  struct DeviceIo {
    uint32_t major = 0, minor = 0;
    uint64_t read_bytes = 0, write_bytes = 0, reads = 0, writes = 0;
  };
  std::vector<DeviceIo> io;  // by device number; devices with any I/O only

  struct Hugetlb {
    std::string page_size;  // "2MB"
    uint64_t bytes = 0;
    std::optional<uint64_t> max_bytes;  // v1 only
  };
  std::vector<Hugetlb> hugetlb;
};

}  // namespace crisp::cgroup
