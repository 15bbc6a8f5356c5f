// UsageReader: reads what cgroups use, with the files of those that are asked for often kept open.
// Threading: any thread; callers of one cgroup wait for each other.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"
#include "base/synchronized.h"
#include "cgroup/cgroup_files.h"
#include "cgroup/usage.h"

namespace crisp::cgroup {

class UsageReader {
 public:
  // At most about `descriptors_max` stay open between calls: whose files were read longest ago are closed first. What
  // nobody has read for a minute or so is closed as well.
  // `layout` outlives it.
  UsageReader(const Layout& layout, std::vector<std::string> hugepage_sizes, size_t descriptors_max);

  // kNotFound: there is no such cgroup (its processes have ended).
  Result<Usage> Read(const std::string& kernel_path);
  Result<Details> ReadDetails(const std::string& kernel_path);
  size_t descriptors() const;  // open now

 private:
  struct Entry {
    Entry(const Layout& layout, const std::string& kernel_path) : files(layout, kernel_path) {}
    std::mutex mutex;  // guards files
    CgroupFiles files;
  };
  struct Known {
    std::shared_ptr<Entry> entry;
    size_t descriptors = 0;
    Clock::time_point used_at;
  };
  struct State {
    std::map<std::string, Known> all;
    size_t descriptors = 0;
    Clock::time_point look_at;  // for those that nobody reads any more
  };

  template <class T, class F>
  Result<T> With(const std::string& kernel_path, F read);
  std::shared_ptr<Entry> Find(const std::string& kernel_path);
  void Forget(const std::string& kernel_path, const std::shared_ptr<Entry>& entry);
  void Count(const std::string& kernel_path, const std::shared_ptr<Entry>& entry, size_t descriptors);
  static void CloseUnused(State& state, size_t keep, Clock::time_point unused_since);

  Usage ReadUsage(CgroupFiles& files, std::string* memory_stat) const;
  void ReadMemoryV1(CgroupFiles& files, Usage& usage, std::string* stat_text) const;
  void ReadMemoryV2(CgroupFiles& files, Usage& usage, std::string* stat_text) const;
  void CpuDetails(CgroupFiles& files, Details& out) const;
  void MemoryDetails(CgroupFiles& files, const std::string& stat, Details& out) const;
  void IoDetails(CgroupFiles& files, Details& out) const;
  void HugetlbDetails(CgroupFiles& files, Details& out) const;
  void TaskDetails(CgroupFiles& files, Details& out) const;

  const Layout& layout_;
  const std::vector<std::string> hugepage_sizes_;
  const size_t descriptors_max_;
  const Hierarchy* const cpu_;  // of the time used; v2 has it without the controller as well
  const Hierarchy* const memory_;
  const Hierarchy* const pids_;
  Synchronized<State> state_;
};

}  // namespace crisp::cgroup
