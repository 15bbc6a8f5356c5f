// For this module's kernel tests: a bundle made of the machine's own busybox, in a directory and a cgroup of its own.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "runtime/runtime.h"

namespace crisp::runtime::testing {

// A temporary directory, with a rootfs of busybox inside; removed with everything and with its cgroups at the end.
class Playground {
 public:
  Playground();
  Playground(const Playground&) = delete;
  Playground& operator=(const Playground&) = delete;
  ~Playground();

  const std::string& dir() const { return dir_; }
  const std::string& cgroup() const { return cgroup_; }  // parent of the containers' cgroups, "/crisp-test-…"
  // A bundle that runs `command` under `id`. `adjust` may change the OCI config.
  std::string MakeBundle(const ContainerId& id, const std::vector<std::string>& command,
                         const std::function<void(Json&)>& adjust = nullptr);
  std::string CgroupDir(const std::string& controller, const ContainerId& id) const;

 private:
  std::string dir_, cgroup_;
};

Json Process(const std::vector<std::string>& command);
// All processes whose parent is `pid`, zombies too, as "pid (name) state".
std::vector<std::string> ChildrenOf(pid_t pid);
size_t CountFds(pid_t pid);
bool IsAlive(pid_t pid);  // and no zombie

}  // namespace crisp::runtime::testing
