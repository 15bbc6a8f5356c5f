// Where cgroups go: names and paths only. Pure.
#pragma once

#include <string>

#include "base/ids.h"
#include "cgroup/cgroup.h"

namespace crisp::cgroup {

// See Cgroups::Place.
Result<Location> PlaceFor(Driver driver, const std::string& parent, const std::string& name);

// A pod's own cgroup, for whoever names no parent: "/crisp/<id>"; systemd: the slice "crisp-<id>.slice".
struct PodPlace {
  std::string parent;  // for PlaceFor: of what is in it
  std::string kernel_path;
};
PodPlace PlaceForPod(Driver driver, const PodId& id);

// "a-b-c.slice" → "/a.slice/a-b.slice/a-b-c.slice", "-.slice" → "/" (systemd.slice(5)). kInvalidArgument: not a slice name.
Result<std::string> ExpandSlice(const std::string& slice);

// kInvalidArgument unless the last part of `kernel_path` carries one of our ids, and no part is ".." or empty.
Result<> CheckOurs(const std::string& kernel_path);

// kInvalidArgument unless it is an absolute path without empty parts, ".", ".." and ":", and not "/".
Result<> CheckClean(const std::string& kernel_path);

}  // namespace crisp::cgroup
