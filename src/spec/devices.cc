// Device nodes and who may use them.
#include <set>

#include "base/strings.h"
#include "spec/parts.h"

namespace crisp::spec {

namespace {

Result<> CheckPermissions(const DeviceNode& device) {
  if (device.permissions.empty() || device.permissions.size() > 3 ||
      device.permissions.find_first_not_of("rwm") != std::string::npos) {
    return Invalid(StrCat("device ", Quote(device.container_path), ": permissions ", Quote(device.permissions),
                          " are not of r, w, m"));
  }
  return {};
}

Json OciDevice(const DeviceNode& device, const std::string& path) {
  return {{"path", path},          {"type", std::string(1, device.type)}, {"major", device.major},
          {"minor", device.minor}, {"fileMode", device.mode & 07777},     {"uid", device.uid},
          {"gid", device.gid}};
}

Json AllowRule(const DeviceNode& device) {
  return {{"allow", true},
          {"type", std::string(1, device.type)},
          {"major", device.major},
          {"minor", device.minor},
          {"access", device.permissions}};
}

}  // namespace

// The first rule refuses everything; the runtimes add the nodes that the runtime-spec promises (null, zero, full,
// random, urandom, tty, console, ptmx, pts) by themselves.
Result<DevicesPlan> PlanDevices(const Planning& p) {
  DevicesPlan plan;
  plan.rules.push_back({{"allow", p.privileged()}, {"access", "rwm"}});
  std::set<std::string> seen;
  for (const DeviceNode& device : p.in.devices) {
    std::string path = TRY(CleanPath(device.container_path, "device: container path"));
    TRY(CheckPermissions(device));
    if (!p.privileged()) plan.rules.push_back(AllowRule(device));
    if (!seen.insert(path).second) continue;
    if (p.userns() && path != device.host_path) {
      // No nodes can be made in a user namespace; runtimes bind the node's own of the same path instead.
      plan.mounts.push_back({{"destination", path},
                             {"type", "bind"},
                             {"source", device.host_path},
                             {"options", {"bind", "rprivate", "nosuid", "noexec"}}});
      continue;
    }
    plan.devices.push_back(OciDevice(device, path));
  }
  if (!p.privileged()) return plan;
  for (const DeviceNode& device : p.in.host_devices) {
    if (seen.insert(device.container_path).second) plan.devices.push_back(OciDevice(device, device.container_path));
  }
  return plan;
}

}  // namespace crisp::spec
