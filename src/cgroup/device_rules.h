// Which devices a container's processes may use: the spec's linux.resources.devices, as v1's devices.allow and devices.deny
// and as v2's BPF program of type BPF_PROG_TYPE_CGROUP_DEVICE (include/uapi/linux/bpf.h).
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace crisp::cgroup {

struct DeviceRule {
  static constexpr int64_t kAny = -1;
  bool allow = false;
  char type = 'a';  // 'a' all, 'c', 'b'
  int64_t major = kAny, minor = kAny;
  std::string access = "rwm";
  bool ForEverything() const;
  bool operator==(const DeviceRule&) const = default;
};

// What every container may use, as runc has it: making nodes, and the devices that every container has.
const std::vector<DeviceRule>& StandardDevices();

// The text for devices.allow or devices.deny. Pure.
std::string RuleText(const DeviceRule& rule);

// What rules come to, one after the other: everything or nothing, but for exceptions (each of type 'c' or 'b').
struct DeviceSet {
  bool allow_all = false;
  std::vector<DeviceRule> exceptions;
  bool operator==(const DeviceSet&) const = default;
};
// Begins with nothing allowed. kUnimplemented: a rule takes back a part of a wider exception, which v1 cannot express. Pure.
Result<DeviceSet> Evaluate(const std::vector<DeviceRule>& rules);
// Fewer rules of the same meaning, where there are such. What two rules allow apart, an open(2) may ask for at once. Pure.
std::vector<DeviceRule> Merged(const std::vector<DeviceRule>& rules);
// The last rule that speaks of an access decides; nobody speaks: refused. Pure.
std::vector<bpf_insn> DeviceProgram(const std::vector<DeviceRule>& rules);

// Both take the place of what was there before, and processes that run notice nothing of what stays allowed.
// v1 writes what differs from devices.list: a cgroup that allows all has no exceptions to keep, and begins anew.
Result<> WriteDeviceRulesV1(const std::string& dir, const std::vector<DeviceRule>& rules);
// v2: in no moment is no program there.
Result<> AttachDeviceRulesV2(const std::string& dir, const std::vector<DeviceRule>& rules);

}  // namespace crisp::cgroup
