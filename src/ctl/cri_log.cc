#include "ctl/cri_log.h"

#include "base/strings.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

std::string_view TakeWord(std::string_view& rest) {
  size_t blank = rest.find(' ');
  std::string_view word = rest.substr(0, blank);
  rest = blank == std::string_view::npos ? std::string_view() : rest.substr(blank + 1);
  return word;
}

}  // namespace

Result<LogLine> ParseLogLine(std::string_view line) {
  LogLine parsed;
  std::string_view rest = line;
  parsed.time_text = TakeWord(rest);
  parsed.unix_nanos = TRY(ParseRfc3339(parsed.time_text));
  std::string_view stream = TakeWord(rest);
  if (stream == "stderr") {
    parsed.stream = LogStream::kStderr;
  } else if (stream != "stdout") {
    return Error(Code::kInvalidArgument, StrCat("unknown stream ", Quote(stream), " in a log line"));
  }
  std::string_view tags = TakeWord(rest);
  std::string_view first_tag = tags.substr(0, tags.find(':'));
  if (first_tag != "P" && first_tag != "F") {
    return Error(Code::kInvalidArgument, StrCat("unknown tag ", Quote(tags), " in a log line"));
  }
  parsed.partial = first_tag == "P";
  parsed.content = rest;
  return parsed;
}

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
  auto parsed = ParseLogLine(line);
  if (!parsed) {
    Give(LogStream::kStdout, line);
    if (complete) Give(LogStream::kStdout, "\n");
    return;
  }
  if (parsed->unix_nanos < selection_.since_unix_nanos) return;
  if (selection_.only && parsed->stream != *selection_.only) return;
  bool& mid_line = mid_line_[parsed->stream == LogStream::kStderr];
  if (selection_.timestamps && !mid_line) Give(parsed->stream, StrCat(parsed->time_text, " "));
  Give(parsed->stream, parsed->content);
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
