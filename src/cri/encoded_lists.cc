#include "cri/encoded_lists.h"

#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/support/slice.h>

#include <cstring>

namespace crisp::cri {

std::string AsFirstField(const std::string& message) {
  constexpr uint8_t kTag = 1 << 3 | 2;  // field 1, length-delimited
  uint8_t head[1 + 10];
  head[0] = kTag;
  uint8_t* end = google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(message.size(), head + 1);
  std::string out(reinterpret_cast<const char*>(head), static_cast<size_t>(end - head));
  return out += message;
}

grpc::ByteBuffer Concatenate(const std::vector<const std::string*>& pieces) {
  size_t bytes = 0;
  for (const std::string* piece : pieces) bytes += piece->size();
  grpc::Slice slice(bytes);
  auto* at = const_cast<uint8_t*>(slice.begin());  // new, and nobody else's: as gRPC's own serializer fills its slices
  for (const std::string* piece : pieces) {
    std::memcpy(at, piece->data(), piece->size());
    at += piece->size();
  }
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace crisp::cri
