// Messages of WebSocket clients, binary and base64; the first byte chooses. However a message is cut, the same data
// comes of it.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "codec/websocket_channels.h"

namespace {

class Sink : public crisp::codec::ChannelReader::Events {
 public:
  void OnChannelData(uint8_t channel, std::string_view bytes) override {
    last = channel;
    data += bytes;
  }
  void OnChannelClose(uint8_t channel) override { closed += static_cast<char>(channel); }
  std::string data, closed;
  int last = -1;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(bytes + 1), size - 1);
  crisp::codec::WebSocketProtocol protocol;
  protocol.base64 = (bytes[0] & 1) != 0;
  protocol.closes = (bytes[0] & 2) != 0;
  Sink whole, cut;
  crisp::codec::ChannelReader whole_reader(protocol, whole), cut_reader(protocol, cut);
  bool whole_ok = whole_reader.Push(input, true).has_value();
  bool cut_ok = true;
  for (size_t at = 0; at < input.size() && cut_ok; at += 3) {
    cut_ok = cut_reader.Push(input.substr(at, 3), at + 3 >= input.size()).has_value();
  }
  if (whole_ok && cut_ok && (whole.data != cut.data || whole.closed != cut.closed)) std::abort();
  (void)crisp::codec::ChooseCommandProtocol(input);
  (void)crisp::codec::ChooseForwardProtocol(input);
  return 0;
}
