// Which cgroup hierarchies this machine has, read from mountinfo. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "sys/mountinfo.h"

namespace crisp::cgroup {

// One mounted hierarchy.
struct Hierarchy {
  std::string mountpoint;
  bool v2 = false;
  std::vector<std::string> controllers;  // v1: of its mount options ("name=systemd" is none); v2: cgroup.controllers
  std::string name;                      // v1 named hierarchy: "systemd"

  bool Has(const std::string& controller) const;
};

struct Layout {
  std::vector<Hierarchy> hierarchies;
  bool unified = false;  // one v2 hierarchy and nothing else

  const Hierarchy* Find(const std::string& controller) const;  // the one which `controller` is bound to; nullptr
};

// From all mounts of the machine. `standard_root` ("/sys/fs/cgroup") is replaced by `root` in mount points, so that a
// fixture tree can stand in for it. kFailedPrecondition: no cgroup hierarchy is mounted.
// A hierarchy that is mounted twice is taken once, from the first mount that shows its root.
Result<Layout> DetectLayout(const std::vector<sys::MountInfo>& mounts, const std::string& root);

}  // namespace crisp::cgroup
