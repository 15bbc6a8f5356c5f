// ttRPC frames (github.com/containerd/ttrpc, PROTOCOL.md): the light gRPC of containerd's shims and NRI plugins.
//   length of the body (4 bytes, big endian) · stream (4, big endian) · type (1) · flags (1) · body
// Streams are numbered by the client, odd. Unary calls only: one request, one response on the same stream.
// Pure: no I/O. Values and a reader for one connection's bytes; not shared between threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::codec {

inline constexpr size_t kTtrpcHeaderBytes = 10;
inline constexpr size_t kTtrpcBodyBytesMax = 4u << 20;  // as every implementation has it

enum class TtrpcType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

struct TtrpcFrame {
  uint32_t stream = 0;
  TtrpcType type = TtrpcType::kRequest;
  uint8_t flags = 0;
  std::string body;
  bool operator==(const TtrpcFrame&) const = default;
};

// kResourceExhausted: the body is longer than kTtrpcBodyBytesMax.
Result<std::string> EncodeTtrpc(const TtrpcFrame& frame);

// Puts frames together from bytes in pieces of any size.
class TtrpcReader {
 public:
  // Appends the frames that `bytes` complete. kDataLoss: no ttRPC, or a body over the limit; the connection is of no
  // use any more, and every later call gives the same error.
  Result<> Push(std::string_view bytes, std::vector<TtrpcFrame>& frames);

 private:
  std::string held_;  // less than one frame
};

}  // namespace crisp::codec
