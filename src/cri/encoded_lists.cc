#include "cri/encoded_lists.h"

#include <google/protobuf/io/coded_stream.h>

#include <cstring>

namespace crisp::cri {

void AppendFieldHead(std::string& out, int field, size_t bytes) {
  constexpr int kLengthDelimited = 2;
  uint8_t head[1 + 10];  // the fields here are all below 16
  head[0] = static_cast<uint8_t>(field << 3 | kLengthDelimited);
  uint8_t* end = google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(bytes, head + 1);
  out.append(reinterpret_cast<const char*>(head), static_cast<size_t>(end - head));
}

std::string AsFirstField(const std::string& message) {
  std::string out;
  AppendFieldHead(out, 1, message.size());
  return out += message;
}

grpc::ByteBuffer ToByteBuffer(std::string bytes) {
  auto* owned = new std::string(std::move(bytes));
  grpc::Slice slice(owned->data(), owned->size(), [](void* text) { delete static_cast<std::string*>(text); }, owned);
  return grpc::ByteBuffer(&slice, 1);
}

EncodedPieces::EncodedPieces(const std::vector<std::string_view>& pieces) {
  size_t bytes = 0;
  ends_.reserve(pieces.size());
  for (std::string_view piece : pieces) ends_.push_back(bytes += piece.size());
  bytes_ = grpc::Slice(bytes);
  auto* at = const_cast<uint8_t*>(bytes_.begin());  // new, and nobody else's: as gRPC's own serializer fills its slices
  for (size_t i = 0; i < pieces.size();) {
    // What lies together already is copied together.
    const char* from = pieces[i].data();
    size_t run = 0;
    for (; i < pieces.size() && pieces[i].data() == from + run; ++i) run += pieces[i].size();
    std::memcpy(at, from, run);
    at += run;
  }
}

std::string_view EncodedPieces::operator[](size_t at) const {
  return std::string_view(reinterpret_cast<const char*>(bytes_.begin()) + BeginOf(at), ends_[at] - BeginOf(at));
}

std::vector<grpc::ByteBuffer> EncodedPieces::Batches(size_t items_max, size_t bytes_max) const {
  std::vector<grpc::ByteBuffer> out;
  for (size_t i = 0; i < size();) {
    size_t begin = BeginOf(i), end = begin;
    for (size_t n = 0; i < size() && n < items_max && end - begin < bytes_max; ++n) end = ends_[i++];
    grpc::Slice part = bytes_.sub(begin, end);
    out.emplace_back(&part, 1);
  }
  return out;
}

}  // namespace crisp::cri
