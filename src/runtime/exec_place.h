// Where the processes of one exec are put, so that a time-out can kill exactly them: a sub-cgroup of the container's
// cgroup. Which hierarchies it needs depends on the machine and on the runtime (oci_handler.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/oci_handler.h"
#include "sys/mountinfo.h"

namespace crisp::runtime {

struct ExecPlace {
  std::string argument;           // for `exec --cgroup`; "" = none
  std::vector<std::string> dirs;  // to be made before and removed after; kill through the first one
};

// `proc_cgroup` is /proc/<container's init>/cgroup. Pure.
//   v2:                    <container>/name, killed by cgroup.kill.
//   v1 or hybrid, runc:    the freezer hierarchy only; nothing else of the process's cgroups changes.
//   v1 or hybrid, crun:    crun 1.8 puts the process into <container>/name where that exists, and leaves it in the
//                          *caller's* cgroup in every hierarchy where it does not: so it is made in all of them.
// Nothing suitable: empty, the kill reaches the exec's first process only.
ExecPlace PlaceExec(ExecCgroupSupport support, const std::vector<sys::MountInfo>& mounts, std::string_view proc_cgroup,
                    const std::string& name);

}  // namespace crisp::runtime
