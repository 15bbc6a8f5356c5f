// The processes of containers on this node, as /proc shows them: which cgroup they are in, and who started whom.
// For a runtime on this machine only; crispctl has to be in a PID namespace that sees them. Threading: any thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::ctl {

struct NodeProcess {
  pid_t pid = 0, parent = 0;
  std::string cgroup;   // of the hierarchy that counts processes: v2, or v1's pids
  std::string command;  // its words with spaces between; "[name]" where it has none
};

// All of the node that can be read, by their number.
Result<std::vector<NodeProcess>> NodeProcesses();

// Of the container whose first process is `pid`.
struct ContainerProcesses {
  struct Line {
    int depth = 0;  // 0: not started by another one of the container
    NodeProcess process;
  };
  std::string cgroup;
  std::vector<Line> lines;  // each after the one that started it
};
// Nothing: there is no such process. Those in cgroups below the container's count.
std::optional<ContainerProcesses> ProcessesOf(const std::vector<NodeProcess>& all, pid_t pid);

// Pure: of the text of /proc/PID/cgroup.
std::string CgroupOf(std::string_view text);
// The process number that a runtime tells in a container's verbose status (crisp, containerd and CRI-O: info.pid). 0:
// none.
pid_t PidOfInfo(const std::string& info_json);

}  // namespace crisp::ctl
