// The sub-cgroups that one exec's processes live in, so that a time-out kills exactly them: whatever setsid, double fork
// or reparenting they did, and nothing else of the container. All calls return at once.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace crisp::shim {

class ExecCgroup {
 public:
  ExecCgroup() = default;
  // `dirs` as in shimapi::StartExec; empty: no cgroup, Kill does nothing and Empty is true.
  explicit ExecCgroup(std::vector<std::string> dirs) : dirs_(std::move(dirs)) {}

  // Makes the directories. cpuset ones get their parent's cpus and nodes, without which v1 lets no process in.
  Result<> Make();
  // One round of SIGKILL to everything inside: cgroup.kill where the kernel has it (v2); else frozen, killed one by one
  // and thawed, so that nothing forks away between the list and the signal. Repeat until Empty.
  void Kill();
  bool Empty() const;
  bool has_dirs() const { return !dirs_.empty(); }
  // False: processes are still there (or on their way out). Directories that are gone are forgotten.
  bool Remove();

 private:
  std::vector<std::string> dirs_;
};

}  // namespace crisp::shim
