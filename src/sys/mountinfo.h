// /proc/PID/mountinfo as values (proc(5)). Pure parser plus two readers.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::sys {

struct MountInfo {
  int id = 0;
  int parent = 0;
  std::string root;         // of the mount within its filesystem
  std::string mountpoint;   // as seen from our root, octal escapes decoded
  std::vector<std::string> options;        // per mount: rw, nosuid, …
  int shared = 0;           // peer group, 0: not shared
  int master = 0;           // peer group it receives from, 0: no slave
  std::string fstype;
  std::string source;
  std::vector<std::string> super_options;  // per filesystem; cgroup v1 names its controllers here
};

inline constexpr char kOwnMountInfo[] = "/proc/self/mountinfo";

// Lines that do not parse are left out: a newer kernel may add fields, never change these.
std::vector<MountInfo> ParseMountInfo(std::string_view text);
// The file may be big (thousands of pods): 64 MiB at most.
Result<std::vector<MountInfo>> ReadMountInfo(const std::string& path = kOwnMountInfo);
// Line by line, of file systems whose type begins with `fstype`, as long as `more` says so: the kernel writes
// each line when it is read, and a node has four for each pod.
Result<> EachMountOf(std::string_view fstype, const std::string& path, const std::function<bool(MountInfo)>& more);
// The mount that `path` (absolute, without symlinks and "..") lies on: the longest mountpoint that contains it, and of
// several on one place the last, which hides the others. nullptr: none.
const MountInfo* FindMount(const std::vector<MountInfo>& mounts, std::string_view path);

}  // namespace crisp::sys
