#include "ctl/processes.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "base/json.h"
#include "base/strings.h"
#include "sys/file.h"
#include "sys/process_info.h"

namespace crisp::ctl {

namespace {

std::string CommandOf(const std::string& dir) {
  std::string words = sys::ReadFile(dir + "/cmdline", 64 * 1024).value_or("");
  std::replace(words.begin(), words.end(), '\0', ' ');
  if (std::string_view trimmed = Trim(words); !trimmed.empty()) return std::string(trimmed);
  return StrCat("[", Trim(sys::ReadFile(dir + "/comm", 64).value_or("")), "]");
}

using Children = std::multimap<pid_t, const NodeProcess*>;

void AddTree(const NodeProcess& process, int depth, const Children& children, ContainerProcesses& out) {
  out.lines.push_back({depth, process});
  auto [begin, end] = children.equal_range(process.pid);
  for (auto it = begin; it != end; ++it) AddTree(*it->second, depth + 1, children, out);
}

}  // namespace

std::string CgroupOf(std::string_view text) {
  std::string unified;
  for (std::string_view line : Split(text, '\n')) {
    // "4:cpu,cpuacct:/path", v2 "0::/path"
    size_t first = line.find(':'), second = first == line.npos ? first : line.find(':', first + 1);
    if (second == line.npos) continue;
    std::string path(line.substr(second + 1));
    for (std::string_view controller : Split(line.substr(first + 1, second - first - 1), ',')) {
      if (controller == "pids") return path;
      if (controller.empty()) unified = path;
    }
  }
  return unified;
}

pid_t PidOfInfo(const std::string& info_json) {
  Result<Json> info = ParseJson(info_json, "info");
  if (!info || !info->is_object()) return 0;
  auto pid = info->find("pid");
  return pid != info->end() && pid->is_number_integer() ? pid->get<pid_t>() : 0;
}

Result<std::vector<NodeProcess>> NodeProcesses() {
  std::vector<NodeProcess> all;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    std::optional<pid_t> pid = ParseInt<pid_t>(it->path().filename().string());
    if (!pid) continue;
    const std::string dir = it->path().string();
    std::optional<sys::ProcessStat> stat = sys::ReadProcessStat(*pid);
    Result<std::string> cgroup = sys::ReadFile(dir + "/cgroup", 64 * 1024);
    if (!stat || !cgroup) continue;  // has just ended
    all.push_back({*pid, stat->parent, CgroupOf(*cgroup), CommandOf(dir)});
  }
  if (error) return Errno(error.value(), "list /proc");
  std::ranges::sort(all, {}, &NodeProcess::pid);
  return all;
}

std::optional<ContainerProcesses> ProcessesOf(const std::vector<NodeProcess>& all, pid_t pid) {
  auto first = std::ranges::find(all, pid, &NodeProcess::pid);
  if (first == all.end()) return std::nullopt;
  ContainerProcesses out{.cgroup = first->cgroup, .lines = {}};
  std::set<pid_t> own;
  Children children;
  for (const NodeProcess& process : all) {
    if (process.cgroup == out.cgroup || process.cgroup.starts_with(out.cgroup + "/")) own.insert(process.pid);
  }
  for (const NodeProcess& process : all) {
    if (own.contains(process.pid)) children.emplace(own.contains(process.parent) ? process.parent : 0, &process);
  }
  auto [begin, end] = children.equal_range(0);
  for (auto it = begin; it != end; ++it) AddTree(*it->second, 0, children, out);
  return out;
}

}  // namespace crisp::ctl
