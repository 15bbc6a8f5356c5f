// SpdySession: one SPDY/3.1 connection without I/O: streams, windows, what must be answered by itself.
//   feed Receive with what was read; it calls Events.   append by Send/End/Reset/…; write what TakeOutput gives.
//
// Flow control: the clients that we meet (spdystream: kubectl, crictl, the kubelet) neither send WINDOW_UPDATE nor
// look at it; they rely on TCP. So the peer's windows are kept from the first byte on but bind us only once it has
// shown that it knows them, by a WINDOW_UPDATE or an initial window in SETTINGS. In the other direction we give windows
// back as bytes are consumed, and do not punish who ignores them: the owner bounds memory by not reading any more.
// Threading: one thread. Memory: limits of SpdyFrameReader, a few words per open stream, and output that nobody takes:
// the owner stops calling Receive and Send while output_bytes() is large.
#pragma once

#include <map>

#include "codec/spdy_frame.h"

namespace crisp::codec {

class SpdySession {
 public:
  class Events {
   public:
    virtual ~Events() = default;
    // The peer opened a stream: answer by Reply, or refuse by Reset. OnEnd follows if its side is already closed.
    virtual void OnStream(uint32_t stream, const SpdyHeaders& headers) = 0;
    virtual void OnReply(uint32_t /*stream*/, const SpdyHeaders& /*headers*/) {}
    virtual void OnData(uint32_t stream, std::string_view bytes) = 0;  // tell Consumed when they are used up
    virtual void OnEnd(uint32_t stream) = 0;                           // the peer sends no more on it
    virtual void OnReset(uint32_t stream) = 0;                         // the stream is gone; nothing else follows
    virtual void OnGoAway() = 0;                                       // the peer opens no more streams
  };
  enum class Role { kServer, kClient };
  struct Limits {
    SpdyFrameReader::Limits frames;
    size_t streams_max = 256;  // that the peer may have open; more are refused one by one
  };

  SpdySession(Role role, Events& events, const Limits& limits);

  // An error ends the connection: a GOAWAY is in the output, nothing more may be received.
  Result<> Receive(std::string_view bytes);

  uint32_t Open(const SpdyHeaders& headers);
  void Reply(uint32_t stream);
  // Appends as much as the peer's windows allow and says how much that is. 0 also when the stream is not open.
  // kIgnore: for whoever does not read what the peer says, and so would not learn of wider windows; they count on, below 0 too.
  enum class Windows { kBind, kIgnore };
  size_t Send(uint32_t stream, std::string_view bytes, Windows windows = Windows::kBind);
  void End(uint32_t stream);
  void Reset(uint32_t stream, SpdyStatus status);
  void Consumed(uint32_t stream, size_t bytes);
  void GoAway();

  // May we still send on it?
  bool writable(uint32_t stream) const;
  size_t output_bytes() const { return output_.size(); }
  std::string TakeOutput() { return std::exchange(output_, {}); }
  size_t streams() const { return streams_.size(); }

 private:
  struct Stream {
    bool theirs_open = true, ours_open = true;
    int64_t send_window = 0;
    uint32_t unacknowledged = 0;  // bytes consumed since the last WINDOW_UPDATE
  };
  using Streams = std::map<uint32_t, Stream>;

  Result<> Handle(const SpdyFrame& frame);
  Result<> HandleSynStream(const SpdyFrame& frame);
  Result<> HandleSettings(const SpdyFrame& frame);
  Result<> HandleWindowUpdate(const SpdyFrame& frame);
  void HandleHeaders(const SpdyFrame& frame);
  void HandleData(const SpdyFrame& frame);
  void HandleFin(uint32_t stream);
  void Acknowledge(uint32_t stream, uint32_t& unacknowledged, size_t bytes);
  void DropIfClosed(Streams::iterator place);

  const Role role_;
  Events& events_;
  const Limits limits_;
  SpdyFrameReader reader_;
  SpdyFrameWriter writer_;
  std::string output_;
  Streams streams_;
  uint32_t last_theirs_ = 0, next_ours_;
  int64_t initial_window_;  // of the peer, for new streams
  int64_t send_window_;     // of the whole connection
  uint32_t unacknowledged_ = 0;
  bool peer_knows_windows_ = false;            // of streams
  bool peer_knows_connection_window_ = false;  // new in 3.1
};

}  // namespace crisp::codec
