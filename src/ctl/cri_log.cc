#include "ctl/cri_log.h"

#include "base/strings.h"
#include "base/time.h"
#include "ctl/format.h"

namespace crisp::ctl {

void LogSelector::Feed(std::string_view bytes) {
  while (!bytes.empty() && !done_) {
    size_t newline = bytes.find('\n');
    if (newline == std::string_view::npos) {
      pending_ += bytes;
      if (pending_.size() < kLineBytesMax) return;
      Line(pending_, false);
      pending_.clear();
      return;
    }
    if (pending_.empty()) {
      Line(bytes.substr(0, newline), true);
    } else {
      pending_ += bytes.substr(0, newline);
      Line(pending_, true);
      pending_.clear();
    }
    bytes.remove_prefix(newline + 1);
  }
}

void LogSelector::Finish() {
  if (!pending_.empty() && !done_) Line(pending_, false);
  pending_.clear();
}

void LogSelector::Line(std::string_view line, bool complete) {
  auto parsed = codec::ParseCriLogRecord(line);
  auto time = parsed ? ParseRfc3339(parsed->time) : Result<int64_t>(parsed.error());
  if (!time) {
    Give(LogStream::kStdout, line);
    if (complete) Give(LogStream::kStdout, "\n");
    return;
  }
  time_ = *time;
  if (*time < selection_.since_unix_nanos) return;
  if (selection_.only && parsed->stream != *selection_.only) return;
  bool& mid_line = mid_line_[parsed->stream == LogStream::kStderr];
  if (selection_.timestamps && !mid_line) {
    // All nine digits, as crictl: containerd writes no zeros at the end.
    bool is_utc = parsed->time.ends_with('Z');
    Give(parsed->stream, StrCat(is_utc ? FormatRfc3339Nano(*time) : std::string(parsed->time), " "));
  }
  Give(parsed->stream, parsed->text);
  if (!parsed->partial && complete) Give(parsed->stream, "\n");
  mid_line = parsed->partial;
}

void LogSelector::Give(LogStream stream, std::string_view text) {
  if (done_) return;
  if (selection_.bytes_max) {
    uint64_t left = *selection_.bytes_max - given_;
    if (text.size() >= left) {
      text = text.substr(0, left);
      done_ = true;
    }
  }
  given_ += text.size();
  if (!text.empty()) sink_(stream, text);
}

size_t TailOffset(std::string_view bytes, size_t lines) {
  if (lines == 0) return bytes.size();
  size_t at = bytes.size();
  if (at > 0 && bytes[at - 1] == '\n') --at;  // the newline that ends the last line
  while (at > 0) {
    size_t newline = bytes.rfind('\n', at - 1);
    if (newline == std::string_view::npos) return 0;
    if (--lines == 0) return newline + 1;
    at = newline;
  }
  return 0;
}

}  // namespace crisp::ctl
