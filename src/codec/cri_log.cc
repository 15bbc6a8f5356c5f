#include "codec/cri_log.h"

#include <cstring>

#include "base/check.h"
#include "base/time.h"

namespace crisp::codec {

namespace {

// Appends records to a buffer; all of one call carry the same time, so it is formatted once.
class RecordWriter {
 public:
  RecordWriter(LogStream stream, int64_t unix_nanos, char* out, size_t size)
      : prefix_(FormatRfc3339Nano(unix_nanos) + (stream == LogStream::kStdout ? " stdout " : " stderr ")),
        out_(out),
        size_(size) {}

  bool HasRoom(size_t text_bytes) const { return size_ - filled_ >= prefix_.size() + 3 + text_bytes; }
  // The text is `head` and `tail`, one after the other.
  void Write(char tag, std::string_view head, std::string_view tail) {
    Append(prefix_);
    const char tag_text[2] = {tag, ' '};
    Append({tag_text, 2});
    Append(head);
    Append(tail);
    Append("\n");
  }
  size_t filled() const { return filled_; }

 private:
  void Append(std::string_view piece) {
    if (piece.empty()) return;  // memcpy wants no null pointer, not even for nothing
    std::memcpy(out_ + filled_, piece.data(), piece.size());
    filled_ += piece.size();
  }
  std::string prefix_;
  char* out_;
  size_t size_;
  size_t filled_ = 0;
};

}  // namespace

size_t CriLogFramer::Push(std::string_view& bytes, int64_t unix_nanos, char* out, size_t out_size) {
  CHECK(out_size >= kCriLogRecordMax);
  RecordWriter writer(stream_, unix_nanos, out, out_size);
  while (!bytes.empty()) {
    // A record's text is at most kCriLogTextMax; a line of exactly that size stays one F record, which is why the newline
    // is looked for one byte further.
    size_t room = kCriLogTextMax - held_.size();
    std::string_view window = bytes.substr(0, room + 1);
    size_t newline = window.find('\n');
    if (newline == std::string_view::npos && window.size() <= room) {
      held_.append(window);
      bytes = {};
      break;
    }
    size_t text_bytes = newline != std::string_view::npos ? newline : room;
    if (!writer.HasRoom(held_.size() + text_bytes)) break;
    writer.Write(newline != std::string_view::npos ? 'F' : 'P', held_, window.substr(0, text_bytes));
    if (held_.capacity() > 256) held_ = std::string();  // an idle stream keeps no buffer
    held_.clear();
    bytes.remove_prefix(newline != std::string_view::npos ? text_bytes + 1 : text_bytes);
  }
  return writer.filled();
}

size_t CriLogFramer::Finish(int64_t unix_nanos, char* out, size_t out_size) {
  CHECK(out_size >= kCriLogRecordMax);
  if (held_.empty()) return 0;
  RecordWriter writer(stream_, unix_nanos, out, out_size);
  writer.Write('P', held_, {});
  held_ = std::string();
  return writer.filled();
}

Result<CriLogRecord> ParseCriLogRecord(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  auto word = [&line]() {
    size_t blank = line.find(' ');
    std::string_view text = line.substr(0, blank);
    line = blank == std::string_view::npos ? std::string_view() : line.substr(blank + 1);
    return text;
  };
  CriLogRecord record;
  record.time = word();
  std::string_view stream = word();
  std::string_view tags = word();
  // Tags are separated by ':'; only the first has a meaning so far.
  std::string_view tag = tags.substr(0, tags.find(':'));
  if (record.time.size() < 20 || (stream != "stdout" && stream != "stderr") || (tag != "F" && tag != "P")) {
    return Error(Code::kInvalidArgument, "not a record of the CRI log format");
  }
  record.stream = stream == "stdout" ? LogStream::kStdout : LogStream::kStderr;
  record.partial = tag == "P";
  record.text = line;
  return record;
}

}  // namespace crisp::codec
