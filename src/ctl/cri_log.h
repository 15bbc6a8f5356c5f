// Reading the kubelet's log format: `<RFC 3339 time> <stdout|stderr> <tags> <content>\n`, first tag P (more of this
// line follows) or F (line complete); Kubernetes' "CRI log format" (kubelet-cri-logging proposal). Pure: bytes in,
// pieces out. Any thread; an object is its owner's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "codec/cri_log.h"

namespace crisp::ctl {

using codec::LogStream;

struct LogSelection {
  int64_t since_unix_nanos = 0;
  std::optional<uint64_t> bytes_max;  // of content, as --limit-bytes
  std::optional<LogStream> only;
  bool timestamps = false;
};

// Gives the selected content of a log that comes in pieces. Lines that do not parse are given as they are on stdout: a
// reader wants to see them rather than a complaint.
class LogSelector {
 public:
  using Sink = std::function<void(LogStream, std::string_view)>;
  LogSelector(LogSelection selection, Sink sink) : selection_(selection), sink_(std::move(sink)) {}

  void Feed(std::string_view bytes);
  // The log ends here, perhaps within a line.
  void Finish();
  bool done() const { return done_; }  // bytes_max reached
  // When the record was written that the sink is given just now; that of the last one for what does not parse.
  int64_t time_unix_nanos() const { return time_; }

 private:
  void Line(std::string_view line, bool complete);
  void Give(LogStream stream, std::string_view text);

  static constexpr size_t kLineBytesMax = 1u << 20;  // longer ones are cut into pieces
  LogSelection selection_;
  Sink sink_;
  std::string pending_;
  bool mid_line_[2] = {false, false};  // the last piece of the stream was partial: no new timestamp
  uint64_t given_ = 0;
  int64_t time_ = 0;
  bool done_ = false;
};

// Where the last `lines` lines of `bytes` begin; the whole of it when there are fewer. A last line without newline
// counts.
size_t TailOffset(std::string_view bytes, size_t lines);

}  // namespace crisp::ctl
