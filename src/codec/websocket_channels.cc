#include "codec/websocket_channels.h"

#include <algorithm>
#include <array>

#include "base/strings.h"

namespace crisp::codec {
namespace {

constexpr uint8_t kCloseChannel = 255;
constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr uint8_t kNone = 0xff;

constexpr std::array<uint8_t, 256> MakeDigits() {
  std::array<uint8_t, 256> digits{};
  for (uint8_t& digit : digits) digit = kNone;
  for (size_t i = 0; i < kAlphabet.size(); ++i)
    digits[static_cast<unsigned char>(kAlphabet[i])] = static_cast<uint8_t>(i);
  return digits;
}
constexpr std::array<uint8_t, 256> kDigits = MakeDigits();

Error Bad(std::string_view what) { return Error(Code::kInvalidArgument, StrCat("websocket channel: ", what)); }

// Groups of four characters as bytes. Padding ends the data.
Result<> DecodeQuads(std::string_view quads, std::string& out, bool& padded) {
  for (; quads.size() >= 4; quads.remove_prefix(4)) {
    if (padded) return Bad("data after the padding of base64");
    size_t digits = quads[3] != '=' ? 4 : quads[2] != '=' ? 3 : 2;
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; ++i) {
      uint8_t digit = i < digits ? kDigits[static_cast<unsigned char>(quads[i])] : 0;
      if (digit == kNone) return Bad("not base64");
      bits = bits << 6 | digit;
    }
    padded = digits != 4;
    for (size_t i = 0; i + 1 < digits; ++i) out.push_back(static_cast<char>(bits >> (16 - 8 * i) & 0xff));
  }
  return {};
}

// The first of `ours` that the client offers.
Result<WebSocketProtocol> Choose(std::string_view offered, const std::vector<WebSocketProtocol>& ours,
                                 const WebSocketProtocol& oldest) {
  if (Trim(offered).empty()) return oldest;
  std::vector<std::string_view> names = Split(offered, ',');
  for (std::string_view& name : names) name = Trim(name);
  for (const WebSocketProtocol& protocol : ours) {
    if (std::ranges::find(names, protocol.name) != names.end()) return protocol;
  }
  return Error(Code::kInvalidArgument, StrCat("none of the WebSocket protocols ", Quote(offered), " is spoken here"));
}

}  // namespace

Result<WebSocketProtocol> ChooseCommandProtocol(std::string_view offered) {
  return Choose(offered,
                {{.name = "v5.channel.k8s.io", .closes = true, .version = 5},
                 {.name = "v4.channel.k8s.io", .version = 4},
                 {.name = "v4.base64.channel.k8s.io", .base64 = true, .version = 4},
                 {.name = "channel.k8s.io"},
                 {.name = "base64.channel.k8s.io", .base64 = true}},
                {});
}

Result<WebSocketProtocol> ChooseForwardProtocol(std::string_view offered) {
  return Choose(offered,
                {{.name = "SPDY/3.1+portforward.k8s.io", .tunnel = true},
                 {.name = "v4.channel.k8s.io", .version = 4},
                 {.name = "v4.base64.channel.k8s.io", .base64 = true, .version = 4}},
                {.version = 4});
}

std::string EncodeBase64(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (; !bytes.empty(); bytes.remove_prefix(std::min<size_t>(3, bytes.size()))) {
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i) bits = bits << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u);
    for (size_t i = 0; i < 4; ++i) out.push_back(i <= bytes.size() ? kAlphabet[bits >> (18 - 6 * i) & 63] : '=');
  }
  return out;
}

std::string MakeChannelMessage(const WebSocketProtocol& protocol, uint8_t channel, std::string_view data) {
  if (protocol.base64) return static_cast<char>('0' + channel) + EncodeBase64(data);
  std::string out;
  out.reserve(data.size() + 1);
  out.push_back(static_cast<char>(channel));
  out += data;
  return out;
}

std::string MakeChannelClose(uint8_t channel) { return {static_cast<char>(kCloseChannel), static_cast<char>(channel)}; }

std::string MakePortMessage(const WebSocketProtocol& protocol, uint8_t channel, uint16_t port) {
  const char bytes[] = {static_cast<char>(port & 0xff), static_cast<char>(port >> 8)};
  return MakeChannelMessage(protocol, channel, std::string_view(bytes, sizeof bytes));
}

Result<> ChannelReader::Push(std::string_view piece, bool ends) {
  if (!channel_ && !piece.empty()) {
    uint8_t first = static_cast<uint8_t>(piece[0]);
    if (protocol_.base64) {
      if (first < '0' || first > '9') return Bad("no digit in front");
      first = static_cast<uint8_t>(first - '0');
    }
    channel_ = first;
    piece.remove_prefix(1);
  }
  if (channel_ && !piece.empty()) {
    if (protocol_.closes && *channel_ == kCloseChannel) {
      if (closed_one_ || piece.size() != 1) return Bad("a close of more than one channel");
      closed_one_ = true;
      events_.OnChannelClose(static_cast<uint8_t>(piece[0]));
    } else if (!protocol_.base64) {
      events_.OnChannelData(*channel_, piece);
    }
  }
  if (channel_ && protocol_.base64) TRY(PushBase64(piece, ends));
  if (ends) {
    channel_.reset();
    padded_ = closed_one_ = false;
  }
  return {};
}

Result<> ChannelReader::PushBase64(std::string_view piece, bool ends) {
  std::string plain;
  if (!quad_.empty()) {
    size_t taken = std::min(4 - quad_.size(), piece.size());
    quad_.append(piece.substr(0, taken));
    piece.remove_prefix(taken);
    if (quad_.size() == 4) {
      TRY(DecodeQuads(quad_, plain, padded_));
      quad_.clear();
    }
  }
  size_t whole = piece.size() / 4 * 4;
  TRY(DecodeQuads(piece.substr(0, whole), plain, padded_));
  quad_.append(piece.substr(whole));
  if (!plain.empty()) events_.OnChannelData(*channel_, plain);
  if (ends && !quad_.empty()) return Bad("base64 that is cut off");
  return {};
}

}  // namespace crisp::codec
