// A Link whose channels are the streams of a SPDY/3.1 connection.
#pragma once

#include <deque>

#include "codec/spdy.h"
#include "stream/link.h"
#include "stream/transport.h"

namespace crisp::stream {

class SpdyLink final : public Link, private codec::SpdySession::Events {
 public:
  using Role = codec::SpdySession::Role;
  SpdyLink(asio::io_context& io, std::chrono::milliseconds idle_timeout, std::unique_ptr<BytePipe> pipe,
           Role role = Role::kServer);

  Task<bool> Send(uint32_t channel, std::string_view bytes) override;
  void End(uint32_t channel) override;
  void Reset(uint32_t channel) override;
  Task<> Farewell() override;

  // The client's role: a new stream, with an inbox for what the peer sends on it.
  uint32_t Open(const codec::SpdyHeaders& headers);
  // The client's good-bye: says that nothing more comes, and closes as soon as that is written.
  Task<> Leave();

  // Streams that the client has opened, in their order. Accept (with an inbox, if bytes are to come) or Reset each.
  struct Arrival {
    uint32_t stream = 0;
    codec::SpdyHeaders headers;
  };
  std::optional<Arrival> NextArrival();
  void Accept(uint32_t stream);

 private:
  static constexpr size_t kArrivalsMax = 256;          // that wait for NextArrival
  static constexpr size_t kHeaderBytesMax = 8u << 10;  // of one stream; ours are a few words

  Task<> ReadLoop() override;
  Task<> WriteLoop() override;
  void CloseTransport() override { pipe_->Close(); }
  bool PeerGone() override { return pipe_->PeerGone(); }
  void OnConsumed(uint32_t channel, size_t bytes) override;

  void OnStream(uint32_t stream, const codec::SpdyHeaders& headers) override;
  void OnData(uint32_t stream, std::string_view bytes) override { Deliver(stream, bytes); }
  void OnEnd(uint32_t stream) override { DeliverEnd(stream); }
  void OnReset(uint32_t stream) override;
  void OnGoAway() override { goaway_ = true; }

  std::unique_ptr<BytePipe> pipe_;
  codec::SpdySession session_;
  std::deque<Arrival> arrivals_;
  bool goaway_ = false, writing_ = false;
  bool paused_ = false;  // nothing is read: too much waits
};

}  // namespace crisp::stream
