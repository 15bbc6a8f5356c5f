// CRIU's images, version 1.1 (https://criu.org/Images), as far as they are looked into: a file is two magic numbers and
// then entries, each its length and a protobuf message. Private to the module. Pure; errors are kInvalidArgument.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crisp::checkpoint {

inline constexpr size_t kImageBytesMax = 4u << 20;

inline Error Bad(std::string_view why) { return Error(Code::kInvalidArgument, std::string(why)); }

// A protobuf message, field after field.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}
  uint64_t number = 0, value = 0;  // of a varint or a fixed field
  std::string_view bytes;          // of one with a length
  bool is_bytes = false;

  Result<bool> Next() {
    if (rest_.empty()) return false;
    uint64_t key = TRY(Varint());
    number = key >> 3;
    is_bytes = false;
    switch (key & 7) {
      case 0: value = TRY(Varint()); return true;
      case 1: return Skip(8);
      case 5: return Skip(4);
      case 2: {
        uint64_t length = TRY(Varint());
        if (length > rest_.size()) return Bad("a field is cut off");
        bytes = rest_.substr(0, length);
        rest_.remove_prefix(length);
        is_bytes = true;
        return true;
      }
      default: return Bad("a field of an unknown kind");
    }
  }
  Result<uint64_t> Varint() {
    uint64_t out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return Bad("a number is cut off");
      auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      out |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return out;
    }
    return Bad("a number without end");
  }
  bool empty() const { return rest_.empty(); }

 private:
  Result<bool> Skip(size_t n) {
    if (rest_.size() < n) return Bad("a field is cut off");
    rest_.remove_prefix(n);
    value = 0;
    return true;
  }
  std::string_view rest_;
};

// At least one. `magic`: of the kind of image.
Result<> ForEachEntry(std::string_view image, uint32_t magic, const std::function<Result<>(std::string_view)>& entry);

}  // namespace crisp::checkpoint
