#include "codec/nri_mux.h"

#include "base/strings.h"
#include "codec/big_endian.h"

namespace crisp::codec {

namespace {

constexpr size_t kFirstPayloadBytes = 4096;  // Go's bufio

void AppendFrame(std::string& out, uint32_t connection, std::string_view payload) {
  AppendBigEndian32(out, connection);
  AppendBigEndian32(out, static_cast<uint32_t>(payload.size()));
  out += payload;
}

}  // namespace

std::string EncodeNriMux(uint32_t connection, std::string_view message) {
  std::string out;
  out.reserve(message.size() + 2 * kNriMuxHeaderBytes);
  AppendFrame(out, connection, message.substr(0, kFirstPayloadBytes));
  if (message.size() > kFirstPayloadBytes) AppendFrame(out, connection, message.substr(kFirstPayloadBytes));
  return out;
}

Result<> NriMuxReader::Push(std::string_view bytes, std::vector<NriMuxFrame>& frames) {
  held_ += bytes;
  size_t at = 0;
  while (held_.size() - at >= kNriMuxHeaderBytes) {
    std::string_view head = std::string_view(held_).substr(at);
    uint32_t length = ReadBigEndian32(head.substr(4));
    if (length > kNriMuxPayloadBytesMax) {
      held_.erase(0, at);
      return Error(Code::kDataLoss, StrCat("multiplexed payload of ", length, " bytes"));
    }
    if (head.size() < kNriMuxHeaderBytes + length) break;
    frames.push_back({ReadBigEndian32(head), std::string(head.substr(kNriMuxHeaderBytes, length))});
    at += kNriMuxHeaderBytes + length;
  }
  held_.erase(0, at);
  return {};
}

}  // namespace crisp::codec
