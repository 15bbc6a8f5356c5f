// Logs that anything may have written: the record parser, and the selector that `crispctl logs` shows them with. Cutting
// the bytes into pieces must not change what is shown.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "codec/cri_log.h"
#include "ctl/cri_log.h"

namespace {

std::string Shown(std::string_view bytes, size_t cut) {
  std::string out;
  crisp::ctl::LogSelector selector({}, [&](crisp::codec::LogStream, std::string_view text) { out += text; });
  selector.Feed(bytes.substr(0, cut));
  selector.Feed(bytes.substr(cut));
  selector.Finish();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)crisp::codec::ParseCriLogRecord(bytes);
  if (Shown(bytes, 0) != Shown(bytes, size / 2)) std::abort();
  for (size_t lines : {size_t{0}, size_t{1}, size_t{3}}) {
    if (crisp::ctl::TailOffset(bytes, lines) > size) std::abort();
  }
  return 0;
}
