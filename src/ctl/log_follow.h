// Reading a container's log file from the start or its last lines, and following it through rotation.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "ctl/cri_log.h"

namespace crisp::ctl {

struct LogReading {
  std::string path;
  std::optional<size_t> tail_lines;
  bool follow = false;
  // Asked about once a second while nothing comes; false: read what is left and return.
  std::function<bool()> still_written = [] { return true; };
};

// Blocks; feeds `selector` until the end of the log, or of its bytes_max.
// Rotation (the file is renamed, a new one made at the path) is followed without losing a line: the old file is read
// to its end before the new one is opened.
Result<> ReadLog(const LogReading& reading, LogSelector& selector);

}  // namespace crisp::ctl
