#include "stream/spdy_link.h"

#include <vector>

namespace crisp::stream {

using codec::SpdyHeaders;
using codec::SpdySession;
using codec::SpdyStatus;

SpdyLink::SpdyLink(asio::io_context& io, std::chrono::milliseconds idle_timeout, std::unique_ptr<BytePipe> pipe,
                   Role role)
    : Link(io, idle_timeout),
      pipe_(std::move(pipe)),
      session_(role, *this, SpdySession::Limits{.frames = {.header_bytes_max = kHeaderBytesMax}}) {}

void SpdyLink::OnStream(uint32_t stream, const SpdyHeaders& headers) {
  // Nobody takes them any more once a command has its streams, and the session does not count those that are closed in
  // both directions from the beginning (FIN and unidirectional).
  if (arrivals_.size() >= kArrivalsMax) return session_.Reset(stream, SpdyStatus::kRefusedStream);
  (void)OpenInbox(stream);  // at once: data may be in the same packet
  arrivals_.push_back({stream, headers});
  NotifyChange();
}

void SpdyLink::OnReset(uint32_t stream) {
  std::erase_if(arrivals_, [&](const Arrival& arrival) { return arrival.stream == stream; });
  DeliverReset(stream);
  changed_.Notify();  // whoever sends on it
}

std::optional<SpdyLink::Arrival> SpdyLink::NextArrival() {
  if (arrivals_.empty()) return std::nullopt;
  Arrival arrival = std::move(arrivals_.front());
  arrivals_.pop_front();
  return arrival;
}

void SpdyLink::Accept(uint32_t stream) {
  session_.Reply(stream);
  changed_.Notify();
}

uint32_t SpdyLink::Open(const SpdyHeaders& headers) {
  uint32_t stream = session_.Open(headers);
  (void)OpenInbox(stream);
  changed_.Notify();
  return stream;
}

Task<> SpdyLink::Leave() {
  DiscardInput();
  session_.GoAway();
  changed_.Notify();
  Clock::time_point until = Clock::now() + std::chrono::seconds(1);
  while (!over_ && (session_.output_bytes() > 0 || writing_) && Clock::now() < until) {
    co_await changed_.WaitFor(until - Clock::now());
  }
  Abort();
}

Task<bool> SpdyLink::Send(uint32_t channel, std::string_view bytes) {
  while (!bytes.empty()) {
    if (over_ || !session_.writable(channel)) co_return false;
    // Both sides may have sent much before either knew of windows. While so much has come in that we do not read on, wider
    // windows for what goes out are not read either, and what has come in may wait for just that (cat): then TCP binds alone.
    auto windows = paused_ ? SpdySession::Windows::kIgnore : SpdySession::Windows::kBind;
    size_t sent = session_.output_bytes() < kBacklogMax ? session_.Send(channel, bytes, windows) : 0;
    bytes.remove_prefix(sent);
    if (sent > 0) changed_.Notify();
    if (!bytes.empty()) co_await changed_.Wait();
  }
  co_return !over_;
}

void SpdyLink::End(uint32_t channel) {
  session_.End(channel);
  changed_.Notify();
}

void SpdyLink::Reset(uint32_t channel) {
  session_.Reset(channel, SpdyStatus::kCancel);
  DeliverReset(channel);
  changed_.Notify();
}

void SpdyLink::OnConsumed(uint32_t channel, size_t bytes) {
  session_.Consumed(channel, bytes);
  if (session_.output_bytes() > 0) changed_.Notify();
}

Task<> SpdyLink::ReadLoop() {
  std::vector<char> buffer(kReadBytes);
  while (!over_) {
    paused_ = true;
    changed_.Notify();
    co_await WaitUntilUncongested();
    paused_ = false;
    // Answers (to pings, say) that the client does not read.
    while (!over_ && session_.output_bytes() >= 2 * kBacklogMax) co_await changed_.Wait();
    if (over_) break;
    size_t got = co_await pipe_->Read(buffer);
    if (got == 0) break;
    Active();
    Result<> received = session_.Receive(std::string_view(buffer.data(), got));
    changed_.Notify();  // answers, wider windows
    if (!received) {
      LogInfo("a streaming client speaks no SPDY", {{"error", received.error()}});
      DiscardInput();
      // The GOAWAY may still go out; a client that does not take it is not waited for.
      for (int i = 0; i < 2 && session_.output_bytes() > 0 && !over_; ++i)
        co_await changed_.WaitFor(std::chrono::seconds(1));
      break;
    }
  }
  Over();
  pipe_->Close();
}

Task<> SpdyLink::WriteLoop() {
  while (!over_) {
    if (session_.output_bytes() == 0) {
      co_await changed_.Wait();
      continue;
    }
    std::string output = session_.TakeOutput();
    writing_ = true;
    bool sent = co_await pipe_->Write(output);
    writing_ = false;
    if (!sent) break;
    Active();
    changed_.Notify();
  }
  Over();
  pipe_->Close();
}

Task<> SpdyLink::Farewell() {
  DiscardInput();
  // Go's client reads streams' data and the connection's end in different goroutines: an end right behind the last
  // data may overtake it there. So the client closes first, and we only when it does not.
  Clock::time_point until = Clock::now() + kFarewellTime;
  while (!over_ && (session_.output_bytes() > 0 || writing_) && Clock::now() < until) {
    co_await changed_.WaitFor(until - Clock::now());
  }
  while (!over_ && !goaway_ && Clock::now() < until) co_await changed_.WaitFor(until - Clock::now());
  if (!over_) {
    co_await pipe_->EndWrite();
    Clock::time_point last = Clock::now() + std::chrono::seconds(2);
    while (!over_ && Clock::now() < last) co_await changed_.WaitFor(last - Clock::now());
  }
  Abort();
}

}  // namespace crisp::stream
