#include "runtime/exec_place.h"

#include <algorithm>
#include <optional>

#include "base/strings.h"

namespace crisp::runtime {

namespace {

// The directory of cgroup `path` in the hierarchy that `mount` shows, if it lies below the mount's root.
std::optional<std::string> DirectoryOf(const sys::MountInfo& mount, std::string_view path) {
  std::string_view below = path;
  if (mount.root != "/") {
    if (!below.starts_with(mount.root)) return std::nullopt;
    below.remove_prefix(mount.root.size());
    if (!below.empty() && !below.starts_with('/')) return std::nullopt;
  }
  return StrCat(mount.mountpoint, below == "/" ? std::string_view() : below);
}

// `controllers` as in /proc/PID/cgroup: "cpu,cpuacct", "name=systemd", "" for v2.
const sys::MountInfo* HierarchyOf(const std::vector<sys::MountInfo>& mounts, std::string_view controllers) {
  for (const sys::MountInfo& mount : mounts) {
    if (controllers.empty()) {
      if (mount.fstype == "cgroup2") return &mount;
      continue;
    }
    if (mount.fstype != "cgroup") continue;
    std::vector<std::string_view> wanted = Split(controllers, ',');
    bool all = std::all_of(wanted.begin(), wanted.end(), [&](std::string_view one) {
      return std::find(mount.super_options.begin(), mount.super_options.end(), one) != mount.super_options.end();
    });
    if (all) return &mount;
  }
  return nullptr;
}

}  // namespace

ExecPlace PlaceExec(ExecCgroupSupport support, const std::vector<sys::MountInfo>& mounts, std::string_view proc_cgroup,
                    const std::string& name) {
  if (support == ExecCgroupSupport::kNone) return {};
  bool has_v1 = false;
  std::optional<std::string> freezer, unified;
  std::vector<std::string> all;
  bool all_known = true;
  for (std::string_view line : Split(proc_cgroup, '\n')) {
    size_t first = line.find(':');
    size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    std::string_view controllers = line.substr(first + 1, second - first - 1);
    std::string_view path = line.substr(second + 1);
    if (!path.starts_with('/')) continue;
    const sys::MountInfo* mount = HierarchyOf(mounts, controllers);
    // A v1 controller that is mounted nowhere cannot be joined, and a container in a hierarchy's root has no cgroup there.
    if (mount == nullptr) continue;
    std::optional<std::string> dir = DirectoryOf(*mount, path);
    if (!dir || path == "/") {
      all_known = false;
      continue;
    }
    std::string sub = StrCat(*dir, "/", name);
    if (controllers.empty()) {
      unified = sub;
    } else {
      has_v1 = true;
      if (controllers == "freezer") freezer = sub;
    }
    if (controllers != "freezer") all.push_back(sub);
  }
  if (!has_v1) return unified ? ExecPlace{name, {*unified}} : ExecPlace{};
  if (!freezer) return {};
  if (support == ExecCgroupSupport::kPerController) return ExecPlace{"freezer:" + name, {*freezer}};
  if (!all_known) return {};
  all.insert(all.begin(), *freezer);
  return ExecPlace{name, std::move(all)};
}

}  // namespace crisp::runtime
