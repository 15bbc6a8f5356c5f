// Numbers in network byte order, as wire formats have them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace crisp::codec {

inline void AppendBigEndian32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

// The first four bytes; `bytes` has them.
inline uint32_t ReadBigEndian32(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

}  // namespace crisp::codec
