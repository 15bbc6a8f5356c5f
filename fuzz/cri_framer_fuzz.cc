// Whatever a container writes: the log consists of whole records, and its texts put together give what was written. The
// first byte says how the rest is split into reads.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "codec/cri_log.h"

using namespace crisp::codec;

static std::string Joined(std::string_view log) {
  std::string joined;
  while (!log.empty()) {
    size_t end = log.find('\n');
    if (end == std::string_view::npos) std::abort();
    auto record = ParseCriLogRecord(log.substr(0, end));
    if (!record || record->text.size() > kCriLogTextMax) std::abort();
    joined += record->text;
    if (!record->partial) joined += '\n';
    log.remove_prefix(end + 1);
  }
  return joined;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  (void)ParseCriLogRecord(input).has_value();
  const size_t step = size_t{data[0]} * 97 + 1;
  CriLogFramer framer(LogStream::kStderr);
  std::string log, out(kCriLogRecordMax, '\0');
  for (size_t at = 0; at < input.size(); at += step) {
    std::string_view read = input.substr(at, step);
    while (!read.empty()) log.append(out, 0, framer.Push(read, 1'767'366'245'000'000'007, out.data(), out.size()));
  }
  log.append(out, 0, framer.Finish(1'767'366'245'000'000'007, out.data(), out.size()));
  if (Joined(log) != input) std::abort();
  return 0;
}
