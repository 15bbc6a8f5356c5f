// The log format that the kubelet reads (CRI log format, k8s design-proposals/node/kubelet-cri-logging.md):
//   <RFC3339Nano> stdout|stderr F|P <text>\n
// F ends a line of the container; P is a piece of a line that goes on in the next record of the same stream. Text holds
// at most 16 KiB, so a longer line is cut into P records and a last F one. Text is raw bytes: anything but '\n'.
// Pure: no I/O, no clock. Shared by the shim (writing) and crispctl (reading); allocates only what it holds back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crisp::codec {

enum class LogStream { kStdout, kStderr };

inline constexpr size_t kCriLogTextMax = 16 * 1024;
// No record is longer: time (30), stream (6), tag (1), three blanks, text and the newline.
inline constexpr size_t kCriLogRecordMax = kCriLogTextMax + 48;

// Turns one stream's bytes into records. A line that is not complete yet is held back until it is, or until it exceeds
// kCriLogTextMax, or until Finish; so how the bytes were split between reads never shows in the log.
class CriLogFramer {
 public:
  explicit CriLogFramer(LogStream stream) : stream_(stream) {}

  // Consumes bytes from the front of `bytes` while the records they complete fit into `out`, and returns how many bytes
  // of `out` are filled, always by whole records. `out` must have room for kCriLogRecordMax. Call until `bytes` is empty.
  size_t Push(std::string_view& bytes, int64_t unix_nanos, char* out, size_t out_size);
  // End of the stream: what is held back becomes a P record, because the container never ended that line. 0: nothing.
  size_t Finish(int64_t unix_nanos, char* out, size_t out_size);

  size_t held_bytes() const { return held_.size(); }

 private:
  LogStream stream_;
  std::string held_;
};

struct CriLogRecord {
  std::string_view time;
  LogStream stream = LogStream::kStdout;
  bool partial = false;
  std::string_view text;  // without the newline
};
// One record, with or without its newline. The views point into `line`. kInvalidArgument for anything else.
Result<CriLogRecord> ParseCriLogRecord(std::string_view line);

}  // namespace crisp::codec
