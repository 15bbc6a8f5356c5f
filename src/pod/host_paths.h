// What host paths of a request really are: mount sources and devices. Syscalls, but no privilege needed.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "pod/staging.h"
#include "spec/plan.h"

namespace crisp::pod {

// See Host::MountSources, DeviceNodes, AllDevices.
Result<std::vector<spec::MountSource>> FindMountSources(const std::vector<spec::Mount>& mounts,
                                                        const MountStaging& staging);
// See Host::OpenForUserns.
Result<> OpenForUserns(const std::string& dir, const std::vector<std::string>& parents, uint32_t gid);
Result<std::vector<spec::DeviceNode>> FindDeviceNodes(const std::vector<spec::Device>& devices);
Result<std::vector<spec::DeviceNode>> FindAllDevices(const std::vector<std::string>& exclude);

}  // namespace crisp::pod
