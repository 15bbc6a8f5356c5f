// The spec's linux.resources (runtime-spec config-linux.md#control-groups) written into a cgroup, of a container that is
// made or that runs already. limits.h is the part of it that pods have, too.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroup/device_rules.h"
#include "cgroup/hierarchy.h"
#include "cgroup/limits.h"

namespace crisp::cgroup {

struct FileWrite {
  std::string controller, file, value;
  std::string other_file, other_value;  // where `file` does not exist; "" = `value`
  bool before_limits = false;
  bool operator==(const FileWrite&) const = default;
};

struct Resources {
  Limits limits;
  std::vector<FileWrite> writes;  // everything else, as files of this machine's layout
  bool check_memory = false;      // a memory limit below what is used is refused on v2, too
  // Absent: as they are. A container gets StandardDevices after them.
  std::optional<std::vector<DeviceRule>> devices;
};

// kInvalidArgument names the member; kFailedPrecondition: what this machine's cgroups cannot do. Pure but for `layout`.
Result<Resources> ParseResources(std::string_view resources_json, const Layout& layout);
Result<> WriteResources(const Layout& layout, const std::string& kernel_path, const Resources& resources);

}  // namespace crisp::cgroup
