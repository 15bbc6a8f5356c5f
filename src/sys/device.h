// Device nodes of the node (the machine).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace crisp::sys {

struct DeviceInfo {
  std::string path;  // absolute, as found
  char type = 'c';   // 'c' or 'b'
  uint32_t major = 0, minor = 0;
  mode_t mode = 0;  // permission bits
  uid_t uid = 0;
  gid_t gid = 0;
};

// `path` itself when it is a device (symlinks followed), or all device nodes below it when it is a directory: no
// symlinks, not those that every container gets its own of (pts, shm, mqueue, fd, console, ptmx);
// sorted by path. kInvalidArgument: neither a device nor a directory.
Result<std::vector<DeviceInfo>> ListDevices(const std::string& path);

}  // namespace crisp::sys
