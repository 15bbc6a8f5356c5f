#include "stream/transport.h"

#include <netinet/tcp.h>

#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/write.hpp>

namespace crisp::stream {
namespace {

constexpr int kKeepAliveIdleSeconds = 60, kKeepAliveEverySeconds = 15, kKeepAliveProbes = 4;

class SocketPipe final : public BytePipe {
 public:
  SocketPipe(std::shared_ptr<ClientStream> stream, beast::flat_buffer early)
      : stream_(std::move(stream)), early_(std::move(early)) {}

  Task<size_t> Read(std::span<char> into) override {
    if (early_.size() > 0) {
      size_t got = asio::buffer_copy(asio::buffer(into.data(), into.size()), early_.data());
      early_.consume(got);
      if (early_.size() == 0) early_ = beast::flat_buffer();
      co_return got;
    }
    auto [error, got] = co_await stream_->async_read_some(asio::buffer(into.data(), into.size()), kAwait);
    co_return error ? 0 : got;
  }
  Task<bool> Write(std::string_view bytes) override {
    auto [error, sent] = co_await asio::async_write(*stream_, asio::buffer(bytes.data(), bytes.size()), kAwait);
    co_return !error && sent == bytes.size();
  }
  Task<> EndWrite() override { co_await stream_->EndWrite(); }
  void Close() override { stream_->Close(); }
  bool PeerGone() override { return stream_->PeerGone(); }

 private:
  std::shared_ptr<ClientStream> stream_;
  beast::flat_buffer early_;
};

}  // namespace

ClientStream::ClientStream(tcp::socket socket, std::shared_ptr<asio::ssl::context> tls)
    : socket_(std::move(socket)), context_(std::move(tls)) {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.set_option(asio::socket_base::keep_alive(true), ignored);  // a client whose machine vanished
  for (auto [option, value] :
       {std::pair(TCP_KEEPIDLE, kKeepAliveIdleSeconds), std::pair(TCP_KEEPINTVL, kKeepAliveEverySeconds),
        std::pair(TCP_KEEPCNT, kKeepAliveProbes)}) {
    (void)setsockopt(socket_.native_handle(), IPPROTO_TCP, option, &value, sizeof value);
  }
  if (context_) tls_.emplace(socket_, *context_);
}

Task<bool> ClientStream::Handshake() {
  if (!tls_) co_return true;
  auto [error] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kAwait);
  co_return !error;
}

Task<error_code> ClientStream::HandshakeAsClient(std::string server_name) {
  if (!tls_) co_return error_code();
  // What SSL_set_tlsext_host_name() does, without its C cast.
  SSL_ctrl(tls_->native_handle(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, server_name.data());
  tls_->set_verify_callback(asio::ssl::host_name_verification(server_name));
  auto [error] = co_await tls_->async_handshake(asio::ssl::stream_base::client, kAwait);
  co_return error;
}

Task<> ClientStream::EndWrite() {
  // No close_notify: it would have to wait for the coroutine that reads. Our protocols say themselves where they end.
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  co_return;
}

void ClientStream::Close() {
  error_code ignored;
  socket_.close(ignored);
}

bool ClientStream::PeerGone() {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (!socket_.is_open() || getsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return true;
  return info.tcpi_state == TCP_CLOSE_WAIT || info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_LAST_ACK;
}

void teardown(beast::role_type role, ClientStream& stream, error_code& error) {
  beast::websocket::teardown(role, stream.socket(), error);
}

std::unique_ptr<BytePipe> MakeSocketPipe(std::shared_ptr<ClientStream> stream, beast::flat_buffer early) {
  return std::make_unique<SocketPipe>(std::move(stream), std::move(early));
}

}  // namespace crisp::stream
