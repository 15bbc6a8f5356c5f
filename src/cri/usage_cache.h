// UsageCache: what cgroups use, read at most once in a second however many ask, and the rate that follows from two
// readings. Threading: any thread. Reads cgroup files: never on gRPC's own thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/context.h"
#include "base/synchronized.h"
#include "cgroup/cgroup.h"

namespace crisp::cri {

class UsageCache {
 public:
  // `cgroups` outlives it. A reading is given out again until it is older than `young`.
  explicit UsageCache(const cgroup::Cgroups& cgroups, std::chrono::milliseconds young = std::chrono::seconds(1))
      : cgroups_(cgroups), young_(young) {}

  struct Reading {
    cgroup::Usage usage;
    // Nanoseconds of processor time in a second, between the last two readings that are at least half a second apart;
    // absent until there are two.
    std::optional<uint64_t> nano_cores;
  };
  // Absent: there is no such cgroup (any more).
  std::optional<Reading> Of(const std::string& cgroup_path);
  std::optional<cgroup::Details> DetailsOf(const std::string& cgroup_path);

 private:
  struct Entry {
    std::mutex mutex;  // guards all below
    std::optional<Reading> last;
    std::optional<cgroup::Details> details;
    Clock::time_point read_at, details_at;
    int64_t rate_from = 0;  // unix nanoseconds of the reading that the next rate begins with; 0: none yet
    uint64_t rate_from_cpu = 0;
    std::optional<uint64_t> nano_cores;
  };
  struct Known {
    std::shared_ptr<Entry> entry;
    Clock::time_point used_at;
  };
  std::shared_ptr<Entry> Find(const std::string& cgroup_path);
  bool IsYoung(Clock::time_point read_at) const;
  static void Take(Entry& entry, cgroup::Usage usage);

  const cgroup::Cgroups& cgroups_;
  const std::chrono::milliseconds young_;
  Synchronized<std::map<std::string, Known>> all_;
};

}  // namespace crisp::cri
