#include "stream/websocket_link.h"

#include <algorithm>
#include <vector>

namespace crisp::stream {
namespace {

constexpr size_t kMessageBytes = 32 << 10;  // of data in one message of ours

class WebSocketPipe final : public BytePipe {
 public:
  WebSocketPipe(std::shared_ptr<ClientStream> stream, std::unique_ptr<WebSocket> socket)
      : stream_(std::move(stream)), socket_(std::move(socket)) {
    socket_->binary(true);
    socket_->auto_fragment(false);
    socket_->read_message_max(0);
  }

  Task<size_t> Read(std::span<char> into) override {
    while (true) {
      auto [error, got] = co_await socket_->async_read_some(asio::buffer(into.data(), into.size()), kAwait);
      if (error) co_return 0;
      if (got > 0) co_return got;  // an empty message is nothing
    }
  }
  Task<bool> Write(std::string_view bytes) override {
    while (!bytes.empty()) {
      std::string_view message = bytes.substr(0, kMessageBytes);
      bytes.remove_prefix(message.size());
      auto [error, sent] = co_await socket_->async_write(asio::buffer(message.data(), message.size()), kAwait);
      if (error) co_return false;
    }
    co_return true;
  }
  Task<> EndWrite() override { co_await socket_->async_close(beast::websocket::close_code::normal, kAwait); }
  void Close() override { stream_->Close(); }
  bool PeerGone() override { return stream_->PeerGone(); }

 private:
  std::shared_ptr<ClientStream> stream_;
  std::unique_ptr<WebSocket> socket_;
};

}  // namespace

WebSocketLink::WebSocketLink(asio::io_context& io, std::chrono::milliseconds idle_timeout,
                             std::shared_ptr<ClientStream> stream, std::unique_ptr<WebSocket> socket,
                             const codec::WebSocketProtocol& protocol)
    : Link(io, idle_timeout),
      stream_(std::move(stream)),
      socket_(std::move(socket)),
      protocol_(protocol),
      reader_(protocol, *this) {
  socket_->binary(!protocol.base64);
  socket_->auto_fragment(false);
  socket_->read_message_max(0);  // we read in pieces and keep none
}

Task<bool> WebSocketLink::Send(uint32_t channel, std::string_view bytes) {
  while (!bytes.empty()) {
    if (over_ || closing_) co_return false;
    if (backlog_ >= kBacklogMax) {
      co_await changed_.Wait();
      continue;
    }
    std::string_view piece = bytes.substr(0, kMessageBytes);
    bytes.remove_prefix(piece.size());
    SendMessage(codec::MakeChannelMessage(protocol_, static_cast<uint8_t>(channel), piece));
  }
  co_return !over_;
}

void WebSocketLink::SendMessage(std::string message) {
  backlog_ += message.size();
  messages_.push_back(std::move(message));
  changed_.Notify();
}

Task<> WebSocketLink::ReadLoop() {
  std::vector<char> buffer(kReadBytes);
  while (!over_) {
    co_await WaitUntilUncongested();
    if (over_) break;
    auto [error, got] = co_await socket_->async_read_some(asio::buffer(buffer), kAwait);
    if (error) break;
    Active();
    Result<> read = reader_.Push(std::string_view(buffer.data(), got), socket_->is_message_done());
    if (!read) {
      LogInfo("a streaming client speaks no channels", {{"error", read.error()}});
      break;
    }
  }
  Over();
  stream_->Close();
}

Task<> WebSocketLink::WriteLoop() {
  while (!over_) {
    if (messages_.empty()) {
      if (closing_) break;
      co_await changed_.Wait();
      continue;
    }
    std::string message = std::move(messages_.front());
    messages_.pop_front();
    auto [error, sent] = co_await socket_->async_write(asio::buffer(message), kAwait);
    backlog_ -= message.size();
    if (error) {
      Over();
      stream_->Close();
      break;
    }
    Active();
    changed_.Notify();
  }
  // Behind the last message. The read loop goes on meanwhile and throws away what the client still sends.
  if (closing_ && !over_) co_await socket_->async_close(beast::websocket::close_code::normal, kAwait);
  closed_ = true;
  changed_.Notify();
}

Task<> WebSocketLink::Farewell() {
  DiscardInput();
  closing_ = true;
  changed_.Notify();
  Clock::time_point until = Clock::now() + kFarewellTime;
  while (!over_ && !closed_ && Clock::now() < until) co_await changed_.WaitFor(until - Clock::now());
  Abort();
}

std::unique_ptr<BytePipe> MakeWebSocketPipe(std::shared_ptr<ClientStream> stream, std::unique_ptr<WebSocket> socket) {
  return std::make_unique<WebSocketPipe>(std::move(stream), std::move(socket));
}

}  // namespace crisp::stream
