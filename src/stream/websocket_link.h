// A Link whose channels are inside WebSocket messages, and WebSocket messages as a plain pipe (for SPDY inside).
#pragma once

#include <boost/beast/websocket/stream.hpp>
#include <deque>

#include "codec/websocket_channels.h"
#include "stream/link.h"
#include "stream/transport.h"

namespace crisp::stream {

// No compression: the output of programs over loopback does not need it, and it is a way to make us use memory.
using WebSocket = beast::websocket::stream<ClientStream&, false>;

class WebSocketLink final : public Link, private codec::ChannelReader::Events {
 public:
  // After the opening handshake. `stream` is what `socket` refers to.
  WebSocketLink(asio::io_context& io, std::chrono::milliseconds idle_timeout, std::shared_ptr<ClientStream> stream,
                std::unique_ptr<WebSocket> socket, const codec::WebSocketProtocol& protocol);

  Task<bool> Send(uint32_t channel, std::string_view bytes) override;
  void End(uint32_t) override {}  // no protocol has it in this direction: the connection's end is every channel's
  void Reset(uint32_t) override {}
  Task<> Farewell() override;
  // Queues one message as it is; for small ones.
  void SendMessage(std::string message);
  const codec::WebSocketProtocol& protocol() const { return protocol_; }

 private:
  Task<> ReadLoop() override;
  Task<> WriteLoop() override;
  void CloseTransport() override { stream_->Close(); }
  bool PeerGone() override { return stream_->PeerGone(); }
  void OnChannelData(uint8_t channel, std::string_view data) override { Deliver(channel, data); }
  void OnChannelClose(uint8_t channel) override { DeliverEnd(channel); }

  std::shared_ptr<ClientStream> stream_;
  std::unique_ptr<WebSocket> socket_;
  const codec::WebSocketProtocol protocol_;
  codec::ChannelReader reader_;
  std::deque<std::string> messages_;
  size_t backlog_ = 0;  // bytes in messages_ and in the one that is being written
  bool closing_ = false, closed_ = false;
};

std::unique_ptr<BytePipe> MakeWebSocketPipe(std::shared_ptr<ClientStream> stream, std::unique_ptr<WebSocket> socket);

}  // namespace crisp::stream
