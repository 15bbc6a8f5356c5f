// CDI specifications (container device interface, github.com/cncf-tags/container-device-interface, SPEC.md 0.3.0 to
// 1.1.0): what a vendor says has to be done to a container that gets one of its devices.
// Pure: no I/O. Values; any thread. A file is the node owner's or a device plugin's, which run as root: it is trusted
// in what it asks for, not in its form. An unknown key makes a file invalid: half of a device is worse than none.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::cdi {

struct DeviceNode {
  std::string path;       // in the container; absolute
  std::string host_path;  // on the node; the same when the file names none
  std::string type;       // "b", "c", "u" (unbuffered c) or "p"; "" until it has been looked at
  std::optional<int64_t> major, minor;
  std::optional<uint32_t> mode, uid, gid;  // permission bits
  std::string permissions = "rwm";         // of the cgroup rule
};

struct Mount {
  std::string host_path, container_path, type;
  std::vector<std::string> options;
};

struct Hook {
  std::string name;  // as OCI has it: "prestart", "createRuntime", …
  std::string path;  // absolute, on the node
  std::vector<std::string> args, env;
  std::optional<int64_t> timeout_seconds;
};

struct Edits {
  std::vector<std::string> env;  // "NAME=value"
  std::vector<DeviceNode> device_nodes;
  std::vector<Mount> mounts;
  std::vector<Hook> hooks;
  std::vector<uint32_t> additional_gids;
  std::vector<std::string> net_devices;  // interfaces of the node; refused when applied
  std::string intel_rdt_json;            // OCI linux.intelRdt; "": none
};

struct Spec {
  std::string kind;  // "vendor.com/class"
  Edits edits;       // of every container that gets any of the devices
  std::map<std::string, Edits> devices;
};

enum class Syntax { kJson, kYaml };

// One file of at most 4 MiB and 4096 devices. kInvalidArgument names `what` and the member that is wrong.
Result<Spec> ParseSpec(std::string_view text, Syntax syntax, std::string_view what);

// "vendor.com/class=name". kInvalidArgument names it.
struct DeviceName {
  std::string kind, name;
};
Result<DeviceName> ParseDeviceName(std::string_view qualified);

// Devices that a container's annotations ask for: keys "cdi.k8s.io/…", values of names separated by commas. Any other
// key is somebody else's, however similar (S56).
std::vector<std::string> DevicesOfAnnotations(const std::map<std::string, std::string>& annotations);

}  // namespace crisp::cdi
