// Several connections over one, as NRI does it (github.com/containerd/nri, pkg/net/multiplex): frames of
//   connection (4 bytes, big endian) · length (4, big endian) · payload
// Payloads are pieces of that connection's byte stream.
// Pure: no I/O. The reader is one connection's; not shared between threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::codec {

inline constexpr size_t kNriMuxHeaderBytes = 8;
inline constexpr size_t kNriMuxPayloadBytesMax = (4u << 20) + 10;  // one ttRPC message with its header

struct NriMuxFrame {
  uint32_t connection = 0;
  std::string payload;
  bool operator==(const NriMuxFrame&) const = default;
};

// `message` is one whole ttRPC frame, at most kNriMuxPayloadBytesMax. It is cut where Go's plugins need it: their
// reader takes one payload per read, first into a buffer of 4096 bytes and then straight into the rest of the message,
// and a payload that does not fit is the end of the connection. More than 256 payloads in a row would be, too.
std::string EncodeNriMux(uint32_t connection, std::string_view message);

class NriMuxReader {
 public:
  // Appends the frames that `bytes` complete. kDataLoss: a payload over the limit.
  Result<> Push(std::string_view bytes, std::vector<NriMuxFrame>& frames);

 private:
  std::string held_;  // less than one frame
};

}  // namespace crisp::codec
