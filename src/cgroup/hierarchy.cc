#include "cgroup/hierarchy.h"

#include <algorithm>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::cgroup {

namespace {

constexpr std::string_view kStandardRoot = "/sys/fs/cgroup";

// Mount options of a v1 hierarchy that are no controllers (kernel/cgroup/cgroup-v1.c, cgroup1_show_options).
bool IsFlag(std::string_view option) {
  static constexpr std::string_view kFlags[] = {"rw",  "ro",   "noprefix", "xattr", "cpuset_v2_mode", "clone_children",
                                                "all", "none", "favordynmods", "seclabel"};
  return std::find(std::begin(kFlags), std::end(kFlags), option) != std::end(kFlags) ||
         option.starts_with("release_agent=");
}

Hierarchy FromV1(const sys::MountInfo& mount) {
  Hierarchy out;
  for (const std::string& option : mount.super_options) {
    if (option.starts_with("name=")) {
      out.name = option.substr(5);
    } else if (!IsFlag(option)) {
      out.controllers.push_back(option);
    }
  }
  return out;
}

Hierarchy FromV2(const std::string& mountpoint) {
  Hierarchy out;
  out.v2 = true;
  // Missing on a v2 tree that is not the root of its namespace's view: then no controller is usable there either.
  std::string text = sys::ReadFile(mountpoint + "/cgroup.controllers").value_or("");
  for (std::string_view word : SplitWords(text)) out.controllers.emplace_back(word);
  return out;
}

bool SameHierarchy(const Hierarchy& a, const Hierarchy& b) {
  return a.v2 == b.v2 && (a.v2 || (a.controllers == b.controllers && a.name == b.name));
}

}  // namespace

bool Hierarchy::Has(const std::string& controller) const {
  return std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
}

const Hierarchy* Layout::Find(const std::string& controller) const {
  for (const Hierarchy& hierarchy : hierarchies) {
    if (hierarchy.Has(controller)) return &hierarchy;
  }
  return nullptr;
}

Result<Layout> DetectLayout(const std::vector<sys::MountInfo>& mounts, const std::string& root) {
  Layout layout;
  // A mount that shows only a part of a tree (a bind of somebody's cgroup) counts only where nothing better is there:
  // that is how a container without a cgroup namespace sees its own.
  for (bool whole : {true, false}) {
    for (const sys::MountInfo& mount : mounts) {
      bool v2 = mount.fstype == "cgroup2";
      if ((!v2 && mount.fstype != "cgroup") || (mount.root == "/") != whole) continue;
      std::string mountpoint = mount.mountpoint;
      if (mountpoint.starts_with(kStandardRoot)) mountpoint = root + mountpoint.substr(kStandardRoot.size());
      Hierarchy found = v2 ? FromV2(mountpoint) : FromV1(mount);
      found.mountpoint = mountpoint;
      bool known = std::any_of(layout.hierarchies.begin(), layout.hierarchies.end(),
                               [&](const Hierarchy& other) { return SameHierarchy(other, found); });
      if (!known) layout.hierarchies.push_back(std::move(found));
    }
  }
  if (layout.hierarchies.empty()) {
    return Error(Code::kFailedPrecondition, "no cgroup hierarchy is mounted on this machine");
  }
  layout.unified = layout.hierarchies.size() == 1 && layout.hierarchies[0].v2;
  return layout;
}

}  // namespace crisp::cgroup
