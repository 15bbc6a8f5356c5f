#include "codec/ttrpc.h"

#include "base/strings.h"
#include "codec/big_endian.h"

namespace crisp::codec {

Result<std::string> EncodeTtrpc(const TtrpcFrame& frame) {
  if (frame.body.size() > kTtrpcBodyBytesMax) {
    return Error(Code::kResourceExhausted, StrCat("ttRPC message of ", frame.body.size(), " bytes, at most ",
                                                  kTtrpcBodyBytesMax, " are allowed"));
  }
  std::string out;
  out.reserve(kTtrpcHeaderBytes + frame.body.size());
  AppendBigEndian32(out, static_cast<uint32_t>(frame.body.size()));
  AppendBigEndian32(out, frame.stream);
  out.push_back(static_cast<char>(frame.type));
  out.push_back(static_cast<char>(frame.flags));
  out += frame.body;
  return out;
}

Result<> TtrpcReader::Push(std::string_view bytes, std::vector<TtrpcFrame>& frames) {
  held_ += bytes;
  size_t at = 0;
  while (held_.size() - at >= kTtrpcHeaderBytes) {
    std::string_view head = std::string_view(held_).substr(at);
    uint32_t length = ReadBigEndian32(head);
    auto type = static_cast<uint8_t>(head[8]);
    bool known = type >= static_cast<uint8_t>(TtrpcType::kRequest) && type <= static_cast<uint8_t>(TtrpcType::kData);
    if (length > kTtrpcBodyBytesMax || !known) {
      held_.erase(0, at);
      return Error(Code::kDataLoss, length > kTtrpcBodyBytesMax ? StrCat("ttRPC message of ", length, " bytes")
                                                                : StrCat("ttRPC message of unknown type ", type));
    }
    if (head.size() < kTtrpcHeaderBytes + length) break;
    frames.push_back({.stream = ReadBigEndian32(head.substr(4)),
                      .type = static_cast<TtrpcType>(type),
                      .flags = static_cast<uint8_t>(head[9]),
                      .body = std::string(head.substr(kTtrpcHeaderBytes, length))});
    at += kTtrpcHeaderBytes + length;
  }
  held_.erase(0, at);
  return {};
}

}  // namespace crisp::codec
