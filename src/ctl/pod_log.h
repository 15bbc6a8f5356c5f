// The logs of a pod's containers as one, by time. Pure but for the files that are read; one thread.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "ctl/log_follow.h"

namespace crisp::ctl {

struct LogLine {
  int64_t time_unix_nanos = 0;
  LogStream stream = LogStream::kStdout;
  std::string text;  // ends in a newline, unless the log ends here
};

// One container's log, a few lines ahead.
class LogSource {
 public:
  LogSource(std::string name, LogFile file, LogSelection selection);
  LogSource(LogSource&&) = delete;  // the selector's sink knows where it is

  const std::string& name() const { return name_; }
  // The next line; nullptr: there is none now.
  Result<const LogLine*> Peek();
  void Pop() { lines_.pop_front(); }
  // What is left, a line without an end included.
  Result<> Finish();

 private:
  void Take(LogStream stream, std::string_view text);

  std::string name_;
  LogFile file_;
  LogLine begun_[2];  // of each stream
  std::deque<LogLine> lines_;
  LogSelector selector_;
};

// Gives the lines of all, the earliest first, as far as they are there.
using LogSources = std::list<LogSource>;
Result<> MergeLogs(LogSources& sources, const std::function<void(const LogSource&, const LogLine&)>& give);

}  // namespace crisp::ctl
