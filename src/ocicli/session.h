// What all commands share: the global flags, the store, and where cgroups are.
#pragma once

#include <memory>
#include <string>

#include "cgroup/cgroup.h"
#include "native/compile.h"
#include "ocicli/store.h"

namespace crisp::ocicli {

struct Session {
  Store store{"/run/crisp-oci"};
  bool systemd = false;         // --systemd-cgroup
  std::string criu = "criu";    // --criu
};

// Takes any path: crisp-oci's callers say which cgroup it shall be.
Result<std::unique_ptr<cgroup::Cgroups>> OpenCgroups(bool systemd);

// config.json's linux.cgroupsPath as the kernel shows it: "/parent/id" (a relative one is below "/"), or with systemd
// "slice:prefix:name". "" = of the container's id. kInvalidArgument: it does not fit the driver. Pure.
Result<std::string> KernelPath(const std::string& cgroups_path, const std::string& id, bool systemd);

native::CgroupPlace PlaceOf(const cgroup::Cgroups& cgroups, const std::string& kernel_path);
native::Host HostOf(const cgroup::Layout& layout);
bool IsFrozen(const cgroup::Layout& layout, const std::string& kernel_path);

// Store::StatusOf, and "paused".
std::string StatusOf(const Session& session, const Record& record);
// Of config.json's hooks those of one kind ("poststart").
Result<std::vector<native::Hook>> HooksOf(const std::string& config_json, const char* kind);
// Each by itself; those that fail are logged.
void RunHooksAndLog(const Session& session, const Record& record, const char* kind, const char* status);

}  // namespace crisp::ocicli
