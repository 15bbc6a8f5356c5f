#include "codec/spdy.h"

#include <algorithm>

#include "base/strings.h"

namespace crisp::codec {
namespace {

constexpr int64_t kDefaultWindow = 64 << 10;
constexpr int64_t kWindowMax = 0x7fffffff;
constexpr uint32_t kAcknowledgeFrom = 32 << 10;  // half of the window that every peer starts with
constexpr size_t kDataFrameMax = 32 << 10;       // so that streams take turns

Error Broken(std::string_view what) { return Error(Code::kInvalidArgument, StrCat("spdy: ", what)); }

}  // namespace

SpdySession::SpdySession(Role role, Events& events, const Limits& limits)
    : role_(role),
      events_(events),
      limits_(limits),
      reader_(limits.frames),
      next_ours_(role == Role::kServer ? 2 : 1),
      initial_window_(kDefaultWindow),
      send_window_(kDefaultWindow) {}

Result<> SpdySession::Receive(std::string_view bytes) {
  while (true) {
    Result<std::optional<SpdyFrame>> frame = reader_.Next(bytes);
    Result<> handled;
    if (!frame) {
      handled = std::move(frame).error();
    } else if (!*frame) {
      return {};
    } else {
      handled = Handle(**frame);
    }
    if (!handled) {
      constexpr uint32_t kProtocolError = 1;
      SpdyFrameWriter::GoAway(output_, last_theirs_, kProtocolError);
      return handled;
    }
  }
}

Result<> SpdySession::Handle(const SpdyFrame& frame) {
  switch (frame.type) {
    case SpdyType::kData: HandleData(frame); return {};
    case SpdyType::kSynStream: return HandleSynStream(frame);
    case SpdyType::kSynReply:
    case SpdyType::kHeaders: HandleHeaders(frame); return {};
    case SpdyType::kRstStream:
      if (streams_.erase(frame.stream) > 0) events_.OnReset(frame.stream);
      return {};
    case SpdyType::kSettings: return HandleSettings(frame);
    case SpdyType::kPing: {
      bool theirs = frame.value % 2 == (role_ == Role::kServer ? 1 : 0);
      if (theirs) SpdyFrameWriter::Ping(output_, frame.value);
      return {};
    }
    case SpdyType::kGoAway: events_.OnGoAway(); return {};
    case SpdyType::kWindowUpdate: return HandleWindowUpdate(frame);
  }
  return {};
}

Result<> SpdySession::HandleSynStream(const SpdyFrame& frame) {
  bool theirs = frame.stream != 0 && frame.stream % 2 == (role_ == Role::kServer ? 1 : 0);
  if (!theirs) return Broken(StrCat("SYN_STREAM of stream ", frame.stream));
  if (frame.stream <= last_theirs_) {
    // The draft: a number that was used before is a stream error, a smaller one a session error. Both mean the same
    // bug of the peer.
    return Broken(StrCat("SYN_STREAM of stream ", frame.stream, " after ", last_theirs_));
  }
  last_theirs_ = frame.stream;
  if (frame.bad_headers || streams_.size() >= limits_.streams_max) {
    SpdyStatus status = frame.bad_headers ? SpdyStatus::kProtocolError : SpdyStatus::kRefusedStream;
    SpdyFrameWriter::RstStream(output_, frame.stream, status);
    return {};
  }
  Stream stream;
  stream.send_window = initial_window_;
  stream.ours_open = (frame.flags & kSpdyUnidirectional) == 0;
  streams_.emplace(frame.stream, stream);
  events_.OnStream(frame.stream, frame.headers);
  if (frame.flags & kSpdyFin) HandleFin(frame.stream);
  return {};
}

void SpdySession::HandleHeaders(const SpdyFrame& frame) {
  auto found = streams_.find(frame.stream);
  if (found == streams_.end()) return;  // it may have been reset while this was on its way
  if (frame.bad_headers) {
    Reset(frame.stream, SpdyStatus::kProtocolError);
    events_.OnReset(frame.stream);
    return;
  }
  if (frame.type == SpdyType::kSynReply) events_.OnReply(frame.stream, frame.headers);
  if (frame.flags & kSpdyFin) HandleFin(frame.stream);
}

void SpdySession::HandleData(const SpdyFrame& frame) {
  auto found = streams_.find(frame.stream);
  if (found == streams_.end() || !found->second.theirs_open) {
    // On its way while we reset the stream, or a peer that does not know its streams: an answer to each piece would let
    // it make us talk, so there is none. The bytes do count for the connection's window.
    Acknowledge(0, unacknowledged_, frame.data.size());
    return;
  }
  if (!frame.data.empty()) events_.OnData(frame.stream, frame.data);
  if (frame.flags & kSpdyFin) HandleFin(frame.stream);
}

void SpdySession::HandleFin(uint32_t stream) {
  auto found = streams_.find(stream);
  if (found == streams_.end() || !found->second.theirs_open) return;
  found->second.theirs_open = false;
  events_.OnEnd(stream);
  found = streams_.find(stream);  // the event may have ended or reset it
  if (found != streams_.end()) DropIfClosed(found);
}

Result<> SpdySession::HandleSettings(const SpdyFrame& frame) {
  for (const auto& [id, value] : frame.settings) {
    if (id != kSpdyInitialWindowSetting) continue;
    if (value > kWindowMax) return Broken(StrCat("initial window of ", value));
    int64_t change = static_cast<int64_t>(value) - initial_window_;
    initial_window_ = value;
    peer_knows_windows_ = true;
    for (auto& [number, stream] : streams_) stream.send_window += change;
  }
  return {};
}

Result<> SpdySession::HandleWindowUpdate(const SpdyFrame& frame) {
  if (frame.stream == 0) {
    peer_knows_connection_window_ = true;
    send_window_ += frame.value;
    if (send_window_ > kWindowMax) return Broken("the connection's window wraps");
    return {};
  }
  peer_knows_windows_ = true;
  auto found = streams_.find(frame.stream);
  if (found == streams_.end()) return {};
  found->second.send_window += frame.value;
  if (found->second.send_window > kWindowMax) {
    Reset(frame.stream, SpdyStatus::kFlowControlError);
    events_.OnReset(frame.stream);
  }
  return {};
}

uint32_t SpdySession::Open(const SpdyHeaders& headers) {
  uint32_t number = next_ours_;
  next_ours_ += 2;
  Stream stream;
  stream.send_window = initial_window_;
  streams_.emplace(number, stream);
  writer_.SynStream(output_, number, headers, 0);
  return number;
}

void SpdySession::Reply(uint32_t stream) {
  if (streams_.contains(stream)) writer_.SynReply(output_, stream, {}, 0);
}

bool SpdySession::writable(uint32_t stream) const {
  auto found = streams_.find(stream);
  return found != streams_.end() && found->second.ours_open;
}

size_t SpdySession::Send(uint32_t stream, std::string_view bytes, Windows windows) {
  auto found = streams_.find(stream);
  if (found == streams_.end() || !found->second.ours_open) return 0;
  int64_t allowed = static_cast<int64_t>(bytes.size());
  const bool bound = windows == Windows::kBind;
  if (bound && peer_knows_windows_) allowed = std::min(allowed, found->second.send_window);
  if (bound && peer_knows_connection_window_) allowed = std::min(allowed, send_window_);
  if (allowed <= 0) return 0;
  found->second.send_window -= allowed;
  send_window_ -= allowed;
  bytes = bytes.substr(0, static_cast<size_t>(allowed));
  for (std::string_view rest = bytes; !rest.empty();) {
    std::string_view piece = rest.substr(0, kDataFrameMax);
    SpdyFrameWriter::Data(output_, stream, piece, 0);
    rest.remove_prefix(piece.size());
  }
  return bytes.size();
}

void SpdySession::End(uint32_t stream) {
  auto found = streams_.find(stream);
  if (found == streams_.end() || !found->second.ours_open) return;
  found->second.ours_open = false;
  SpdyFrameWriter::Data(output_, stream, {}, kSpdyFin);
  DropIfClosed(found);
}

void SpdySession::Reset(uint32_t stream, SpdyStatus status) {
  if (streams_.erase(stream) > 0) SpdyFrameWriter::RstStream(output_, stream, status);
}

void SpdySession::Consumed(uint32_t stream, size_t bytes) {
  Acknowledge(0, unacknowledged_, bytes);
  auto found = streams_.find(stream);
  if (found != streams_.end() && found->second.theirs_open) Acknowledge(stream, found->second.unacknowledged, bytes);
}

void SpdySession::Acknowledge(uint32_t stream, uint32_t& unacknowledged, size_t bytes) {
  unacknowledged += static_cast<uint32_t>(bytes);
  if (unacknowledged < kAcknowledgeFrom) return;
  SpdyFrameWriter::WindowUpdate(output_, stream, unacknowledged);
  unacknowledged = 0;
}

void SpdySession::GoAway() { SpdyFrameWriter::GoAway(output_, last_theirs_, 0); }

void SpdySession::DropIfClosed(Streams::iterator place) {
  if (!place->second.theirs_open && !place->second.ours_open) streams_.erase(place);
}

}  // namespace crisp::codec
