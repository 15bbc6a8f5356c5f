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

// A process number that is given again names another process: with the time of its start it is told apart.
struct ProcessStat {
  char state = '?';        // 'Z' and 'X': ended
  uint64_t start_ticks = 0;  // since boot
  pid_t parent = 0;
};
std::optional<ProcessStat> ReadProcessStat(pid_t pid);
// Pure: of the text of /proc/PID/stat, whose second field is a name that may hold anything.
std::optional<ProcessStat> ParseProcessStat(std::string_view stat);

}  // namespace crisp::sys
