// The tar reader takes any bytes in any pieces: no crash, no memory beyond its limits, and the same entries whichever way
// the bytes are cut.
#include <cstdint>
#include <cstdlib>

#include "codec/tar.h"

namespace {

class Digest : public crisp::codec::TarSink {
 public:
  crisp::Result<> OnEntry(const crisp::codec::TarEntry& entry) override {
    Mix(entry.path);
    Mix(entry.link_target);
    if (entry.path.empty() || entry.path.find('\0') != std::string::npos) std::abort();
    size_ = entry.size;
    return {};
  }
  crisp::Result<> OnData(uint64_t offset, std::string_view bytes) override {
    if (offset + bytes.size() > size_) std::abort();
    return {};
  }
  crisp::Result<> OnEntryEnd() override { return {}; }
  uint64_t value() const { return value_; }

 private:
  void Mix(std::string_view text) {
    for (char c : text) value_ = value_ * 1099511628211u + static_cast<unsigned char>(c);
  }
  uint64_t value_ = 14695981039346656037u, size_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Digest whole, cut;
  crisp::codec::TarReader one(whole), two(cut);
  bool one_ok = one.Push(bytes).has_value(), two_ok = true;
  for (size_t at = 0; two_ok && at < bytes.size(); at += 97) two_ok = two.Push(bytes.substr(at, 97)).has_value();
  if (one_ok != two_ok || (one_ok && whole.value() != cut.value())) std::abort();
  if (one_ok && one.Finish().has_value() != two.Finish().has_value()) std::abort();
  return 0;
}
