#include "ctl/pod_log.h"

namespace crisp::ctl {

LogSource::LogSource(std::string name, LogFile file, LogSelection selection)
    : name_(std::move(name)),
      file_(std::move(file)),
      selector_(selection, [this](LogStream stream, std::string_view text) { Take(stream, text); }) {
  begun_[1].stream = LogStream::kStderr;
}

void LogSource::Take(LogStream stream, std::string_view text) {
  LogLine& line = begun_[stream == LogStream::kStderr];
  if (line.text.empty()) line.time_unix_nanos = selector_.time_unix_nanos();
  line.text += text;
  if (!line.text.ends_with('\n')) return;
  lines_.push_back(std::move(line));
  line = LogLine{.stream = stream, .text = ""};
}

Result<const LogLine*> LogSource::Peek() {
  constexpr size_t kAhead = 256 << 10;
  while (lines_.empty()) {
    if (TRY(file_.Read(selector_, kAhead))) continue;
    if (!lines_.empty()) break;  // the last piece had something
    if (!TRY(file_.FollowRotation(selector_))) return nullptr;
    if (lines_.empty() && selector_.done()) return nullptr;
  }
  return &lines_.front();
}

Result<> LogSource::Finish() {
  while (TRY(file_.Read(selector_, SIZE_MAX))) {
  }
  selector_.Finish();
  for (LogLine& line : begun_) {
    if (!line.text.empty()) lines_.push_back(std::move(line));
  }
  return {};
}

Result<> MergeLogs(LogSources& sources, const std::function<void(const LogSource&, const LogLine&)>& give) {
  while (true) {
    LogSource* first = nullptr;
    const LogLine* earliest = nullptr;
    for (LogSource& source : sources) {
      const LogLine* line = TRY(source.Peek());
      if (line == nullptr || (earliest != nullptr && earliest->time_unix_nanos <= line->time_unix_nanos)) continue;
      first = &source;
      earliest = line;
    }
    if (first == nullptr) return {};
    give(*first, *earliest);
    first->Pop();
  }
}

}  // namespace crisp::ctl
