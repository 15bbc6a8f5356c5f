// What /proc tells about processes of others (proc(5)). A process that ends meanwhile is nothing, never an error.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace crisp::sys {

struct OpenDescriptors {
  uint64_t all = 0, sockets = 0;
};
// At most `max` are looked at.
OpenDescriptors CountDescriptors(pid_t pid, uint64_t max);

// The soft limit of open files; absent: unlimited, or no such process. (prlimit(2) would need CAP_SYS_RESOURCE.)
std::optional<uint64_t> SoftOpenFilesLimit(pid_t pid);
// Pure: of the text of /proc/PID/limits.
std::optional<uint64_t> ParseSoftOpenFilesLimit(std::string_view limits);

}  // namespace crisp::sys
