// Channels inside WebSocket messages, as Kubernetes' clients speak them for exec, attach and port-forward
// (k8s.io/apimachinery httpstream/wsstream and remotecommand constants; KEP-4006):
//   binary: one byte channel number, then the data; base64: one digit '0'+number, then the data in base64.
//   v5 only: the two bytes 255, N: no more data comes on channel N.
//   port-forward: port i has the channels 2i (data) and 2i+1 (error); the server first sends each port's number, two
//   bytes little-endian, on both.
// No I/O. Messages are read in pieces of any size, so a message needs no memory of its own. Threading: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::codec {

struct WebSocketProtocol {
  std::string name;  // what was chosen, to be said in Sec-WebSocket-Protocol; "" when the client named none
  bool base64 = false;
  bool closes = false;  // v5: channels can be closed one by one
  int version = 1;      // of remotecommand; from 4 on the error channel carries a metav1.Status
  bool tunnel = false;  // messages carry the bytes of a SPDY connection
};
// The best of what the client offers, in the form of Sec-WebSocket-Protocol's value; no offer: the oldest protocol.
// kInvalidArgument when we speak none of them.
Result<WebSocketProtocol> ChooseCommandProtocol(std::string_view offered);
Result<WebSocketProtocol> ChooseForwardProtocol(std::string_view offered);

// Makes one message.
std::string MakeChannelMessage(const WebSocketProtocol& protocol, uint8_t channel, std::string_view data);
std::string MakeChannelClose(uint8_t channel);  // v5
std::string MakePortMessage(const WebSocketProtocol& protocol, uint8_t channel, uint16_t port);

class ChannelReader {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    virtual void OnChannelData(uint8_t channel, std::string_view data) = 0;
    virtual void OnChannelClose(uint8_t channel) = 0;
  };
  ChannelReader(const WebSocketProtocol& protocol, Events& events) : protocol_(protocol), events_(events) {}

  // A piece of the current message; `ends` with its last one. kInvalidArgument: not such a message.
  Result<> Push(std::string_view piece, bool ends);

 private:
  Result<> PushBase64(std::string_view piece, bool ends);
  const WebSocketProtocol protocol_;
  Events& events_;
  std::optional<uint8_t> channel_;  // of the current message
  std::string quad_;                // base64: characters of a group that is not complete yet
  bool padded_ = false, closed_one_ = false;
};

std::string EncodeBase64(std::string_view bytes);

}  // namespace crisp::codec
