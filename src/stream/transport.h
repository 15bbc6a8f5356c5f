// ClientStream: a client's TCP connection, with or without TLS, as one type for Beast's templates.
// BytePipe: bytes in both directions, over a ClientStream or inside WebSocket messages.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/role.hpp>
#include <boost/beast/websocket/teardown.hpp>
#include <optional>
#include <span>
#include <string_view>

#include "stream/loop.h"

namespace crisp::stream {

using boost::asio::ip::tcp;
namespace beast = boost::beast;

// As on the wire, for both ends.
inline constexpr const char* kStreamVersion = "X-Stream-Protocol-Version";
inline constexpr std::string_view kForwardProtocol = "portforward.k8s.io";

class ClientStream {
 public:
  using executor_type = tcp::socket::executor_type;
  using lowest_layer_type = tcp::socket::lowest_layer_type;
  ClientStream(tcp::socket socket, std::shared_ptr<asio::ssl::context> tls);

  executor_type get_executor() { return socket_.get_executor(); }
  tcp::socket& socket() { return socket_; }
  lowest_layer_type& lowest_layer() { return socket_.lowest_layer(); }
  Task<bool> Handshake();  // the server's, of TLS, if there is any
  Task<error_code> HandshakeAsClient(std::string server_name);
  Task<> EndWrite();       // TCP's FIN, after what was written
  void Close();            // at once; what waits on it ends
  bool admitted = false;  // it had a token
  const Clock::time_point since = Clock::now();
  // Has the client closed its side or gone, although we have not read all that it sent?
  bool PeerGone();

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    auto start = [this](auto handler, const Buffers& into) {
      if (tls_) {
        tls_->async_read_some(into, std::move(handler));
      } else {
        socket_.async_read_some(into, std::move(handler));
      }
    };
    return asio::async_initiate<Token, void(error_code, size_t)>(start, token, buffers);
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    auto start = [this](auto handler, const Buffers& from) {
      if (tls_) {
        tls_->async_write_some(from, std::move(handler));
      } else {
        socket_.async_write_some(from, std::move(handler));
      }
    };
    return asio::async_initiate<Token, void(error_code, size_t)>(start, token, buffers);
  }

 private:
  tcp::socket socket_;
  std::shared_ptr<asio::ssl::context> context_;
  std::optional<asio::ssl::stream<tcp::socket&>> tls_;
};

// How Beast's WebSocket takes the connection down at its end.
template <class Handler>
void async_teardown(beast::role_type role, ClientStream& stream, Handler&& handler) {
  beast::websocket::async_teardown(role, stream.socket(), std::forward<Handler>(handler));
}
void teardown(beast::role_type role, ClientStream& stream, error_code& error);
inline void beast_close_socket(ClientStream& stream) { stream.Close(); }

class BytePipe {
 public:
  virtual ~BytePipe() = default;
  virtual Task<size_t> Read(std::span<char> into) = 0;   // 0: no more comes
  virtual Task<bool> Write(std::string_view bytes) = 0;  // all of them; false: the connection is gone
  virtual Task<> EndWrite() = 0;                         // the peer sees an end, not a reset
  virtual void Close() = 0;
  virtual bool PeerGone() = 0;
};

// `early`: what was read together with the HTTP request.
std::unique_ptr<BytePipe> MakeSocketPipe(std::shared_ptr<ClientStream> stream, beast::flat_buffer early);

}  // namespace crisp::stream
