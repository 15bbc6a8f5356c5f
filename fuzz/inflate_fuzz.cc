// The inflater takes any bytes: no crash, constant memory. Output is bounded here as the unpacker bounds it.
#include <cstdint>
#include <span>

#include "codec/inflate.h"

namespace {

class Bounded : public crisp::codec::ByteSink {
 public:
  std::span<char> Room() override { return {buffer_, sizeof buffer_}; }
  crisp::Result<> Filled(size_t bytes) override {
    total_ += bytes;
    if (total_ > (8u << 20)) return crisp::Error(crisp::Code::kResourceExhausted, "enough");
    return {};
  }

 private:
  char buffer_[4096];
  size_t total_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Bounded sink;
  crisp::codec::Inflater inflater(sink);
  for (size_t at = 0; at < bytes.size(); at += 61) {
    if (!inflater.Push(bytes.substr(at, 61))) return 0;
  }
  (void)inflater.Finish().has_value();
  return 0;
}
