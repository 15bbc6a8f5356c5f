// The parts that PlanContainer is put together from; each file plans one topic. Internal to the module.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "oci/runtime_spec.h"
#include "spec/plan.h"

namespace crisp::spec {

// What the parts of one container's plan share.
struct Planning {
  const ContainerInputs& in;
  const NodeFacts& node;
  const Policy& policy;
  std::vector<std::string>& warnings;
  std::string_view arch;  // never empty

  const ContainerSecurity& security() const { return in.config.security; }
  bool privileged() const { return in.config.security.privileged; }
  bool userns() const { return in.sandbox.security.namespaces.userns_pod; }
  void Warn(std::string text) const { warnings.push_back(std::move(text)); }
};

inline Error Invalid(std::string message) { return Error(Code::kInvalidArgument, std::move(message)); }
inline Error NotHere(std::string message) { return Error(Code::kFailedPrecondition, std::move(message)); }

// An absolute path without NUL, at most 4095 bytes, cleaned lexically ("//", ".", ".."). `what` names it in the error.
Result<std::string> CleanPath(std::string_view path, std::string_view what);
// `path` is `directory` or below it; both clean.
bool IsWithin(std::string_view path, std::string_view directory);

// sandbox.cc
// The pod's host name: the node's with its network, else the one asked for, else one made from the pod's name or id.
Result<std::string> PodHostname(const SandboxConfig& config, const PodId& id, const NodeFacts& node);

// process.cc
Result<oci::CapabilitySet> PlanCapabilities(const Planning& p);  // the bounding set
Result<Json> PlanProcess(const Planning& p, oci::CapabilitySet capabilities);
// mounts.cc. `root_propagation` becomes linux.rootfsPropagation, "" = leave it out.
struct MountsPlan {
  Json mounts = Json::array();
  std::string root_propagation;
};
Result<MountsPlan> PlanMounts(const Planning& p);
// devices.cc
struct DevicesPlan {
  Json devices = Json::array();  // linux.devices
  Json rules = Json::array();    // linux.resources.devices
  Json mounts = Json::array();   // devices that are no nodes of the container's own
};
Result<DevicesPlan> PlanDevices(const Planning& p);
// resources.cc
Result<Json> PlanResources(const Resources& resources, const NodeFacts& node, std::vector<std::string>& warnings);
// security.cc
Result<Json> PlanSeccomp(const Planning& p, oci::CapabilitySet capabilities);  // null: unconfined
Result<std::string> PlanAppArmor(const Planning& p);                           // "": none
struct SelinuxLabels {
  std::string process, mount;
};
Result<SelinuxLabels> PlanSelinux(const Planning& p);
struct ProcPaths {
  std::vector<std::string> masked, readonly;
};
Result<ProcPaths> PlanProcPaths(const Planning& p);

}  // namespace crisp::spec
