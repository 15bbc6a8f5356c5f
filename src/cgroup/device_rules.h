// Which devices a container's processes may use: the spec's linux.resources.devices, as v1's devices.allow and devices.deny
// and as v2's BPF program of type BPF_PROG_TYPE_CGROUP_DEVICE (include/uapi/linux/bpf.h).
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace crisp::cgroup {

struct DeviceRule {
  static constexpr int64_t kAny = -1;
  bool allow = false;
  char type = 'a';  // 'a' all, 'c', 'b'
  int64_t major = kAny, minor = kAny;
  std::string access = "rwm";
  bool operator==(const DeviceRule&) const = default;
};

// What every container may use, as runc has it: making nodes, and the devices that every container has.
const std::vector<DeviceRule>& StandardDevices();

// The text for devices.allow or devices.deny. Pure.
std::string RuleText(const DeviceRule& rule);
// The last rule that speaks of an access decides; nobody speaks: refused. Pure.
std::vector<bpf_insn> DeviceProgram(const std::vector<DeviceRule>& rules);

// In the order of the rules; a rule for everything begins anew.
Result<> WriteDeviceRulesV1(const std::string& dir, const std::vector<DeviceRule>& rules);
// Takes the place of programs that were attached before; in no moment is none there.
Result<> AttachDeviceRulesV2(const std::string& dir, const std::vector<DeviceRule>& rules);

}  // namespace crisp::cgroup
