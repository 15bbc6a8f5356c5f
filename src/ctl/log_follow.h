// Reading a container's log file from the start or its last lines, and following it through rotation.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "ctl/cri_log.h"
#include "sys/fd.h"

namespace crisp::ctl {

// One log file, read piece by piece.
class LogFile {
 public:
  // `tail_lines`: only from the last lines on. kNotFound: there is none (yet).
  static Result<LogFile> Open(const std::string& path, std::optional<size_t> tail_lines);

  // Feeds what there is, at most `bytes_max`; false: there was nothing more.
  Result<bool> Read(LogSelector& selector, size_t bytes_max);
  // Goes on to the next file where this one was rotated away and a new one stands at the path; false: nothing changed.
  // The old one has to be read to its end before.
  Result<bool> FollowRotation(LogSelector& selector);

 private:
  LogFile(std::string path, sys::UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}
  std::string path_;
  sys::UniqueFd file_;
};

// Wakes when something happens in directories of logs.
class LogWatch {
 public:
  static Result<LogWatch> Make();
  Result<> AddDirectoryOf(const std::string& path);
  // True when something happened, false after a second of silence.
  bool Wait() const;

 private:
  explicit LogWatch(sys::UniqueFd fd) : fd_(std::move(fd)) {}
  sys::UniqueFd fd_;
};

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
