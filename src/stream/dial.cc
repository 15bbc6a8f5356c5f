#include "stream/dial.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include "base/strings.h"

namespace crisp::stream {
namespace {

namespace http = beast::http;
namespace ssl = asio::ssl;

constexpr std::chrono::seconds kDialTime(15);  // to connect, and again to upgrade
constexpr size_t kRefusalBytesMax = 16 << 10;

Result<std::shared_ptr<ssl::context>> MakeContext(const DialOptions& options) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_client);
  error_code error;
  context->set_verify_mode(options.ca.empty() ? ssl::verify_none : ssl::verify_peer, error);
  if (!options.ca.empty()) {
    context->load_verify_file(options.ca, error);
    if (error) return Error(Code::kInvalidArgument, StrCat("CA certificate ", options.ca, ": ", error.message()));
  }
  if (options.cert.empty() != options.key.empty()) {
    return Error(Code::kInvalidArgument, "a TLS certificate and its key go together: give both or none");
  }
  if (options.cert.empty()) return context;
  context->use_certificate_chain_file(options.cert, error);
  if (error) return Error(Code::kInvalidArgument, StrCat("certificate ", options.cert, ": ", error.message()));
  context->use_private_key_file(options.key, ssl::context::pem, error);
  if (error) return Error(Code::kInvalidArgument, StrCat("private key ", options.key, ": ", error.message()));
  return context;
}

// Closes `stream` when it takes too long; goes with the step.
asio::steady_timer Deadline(const std::shared_ptr<ClientStream>& stream) {
  asio::steady_timer timer(stream->get_executor(), kDialTime);
  timer.async_wait([stream](error_code cancelled) {
    if (!cancelled) stream->Close();
  });
  return timer;
}

std::string HostHeader(const Target& target) {
  bool v6 = target.host.find(':') != std::string::npos;
  return StrCat(v6 ? "[" : "", target.host, v6 ? "]" : "", ":", target.port);
}

Error Refused(unsigned status, std::string_view body) {
  std::string text(Trim(body));
  return Error(Code::kFailedPrecondition,
               StrCat("the streaming server refused with HTTP status ", status, text.empty() ? "" : ": ", text));
}

std::string Text(beast::string_view text) { return std::string(text.data(), text.size()); }

}  // namespace

Result<Target> ParseTarget(std::string_view url) {
  Target target;
  std::string_view rest = url;
  auto bad = [&] { return Error(Code::kInvalidArgument, StrCat("not a streaming server's URL: ", Quote(url))); };
  if (rest.starts_with("https://")) {
    target.tls = true;
  } else if (!rest.starts_with("http://")) {
    return bad();
  }
  rest.remove_prefix(rest.find("//") + 2);
  size_t slash = std::min(rest.find('/'), rest.size());
  target.path = slash == rest.size() ? "/" : std::string(rest.substr(slash));
  std::string_view authority = rest.substr(0, slash);
  size_t colon = authority.rfind(':');
  if (colon != std::string_view::npos && authority.find(']', colon) != std::string_view::npos) {
    colon = std::string_view::npos;  // inside an IPv6 address
  }
  target.port = colon == std::string_view::npos ? (target.tls ? "443" : "80") : authority.substr(colon + 1);
  std::string_view host = authority.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  target.host = host;
  if (target.host.empty() || !ParseInt<uint16_t>(target.port)) return bad();
  return target;
}

Task<Result<std::shared_ptr<ClientStream>>> Connect(asio::io_context& io, Target target, DialOptions options) {
  std::shared_ptr<ssl::context> context;
  if (target.tls) {
    auto made = MakeContext(options);
    if (!made) co_return std::move(made).error();
    context = *std::move(made);
  }
  tcp::resolver resolver(io);
  auto [unresolved, places] = co_await resolver.async_resolve(target.host, target.port, kAwait);
  if (unresolved) {
    co_return Error(Code::kUnavailable, StrCat("streaming server ", target.host, ": ", unresolved.message()));
  }
  auto stream = std::make_shared<ClientStream>(tcp::socket(io), context);
  asio::steady_timer deadline = Deadline(stream);
  auto [unreached, place] = co_await asio::async_connect(stream->socket(), places, kAwait);
  if (unreached) {
    co_return Error(Code::kUnavailable, StrCat("cannot reach the streaming server ", HostHeader(target), ": ",
                                               unreached.message(),
                                               " (is its address reachable from here? crispd: stream.address)"));
  }
  error_code ignored;
  stream->socket().set_option(tcp::no_delay(true), ignored);
  if (error_code error = co_await stream->HandshakeAsClient(options.server_name)) {
    co_return Error(Code::kUnavailable, StrCat("TLS with the streaming server ", HostHeader(target), ": ",
                                               error.message(), " (--tls-ca, --tls-cert, --tls-key, --tls-sni)"));
  }
  co_return stream;
}

Task<Result<SpdyUpgrade>> UpgradeToSpdy(std::shared_ptr<ClientStream> stream, Target target, std::string versions) {
  asio::steady_timer deadline = Deadline(stream);
  http::request<http::empty_body> request(http::verb::post, target.path, 11);
  request.set(http::field::host, HostHeader(target));
  request.set(http::field::connection, "Upgrade");
  request.set(http::field::upgrade, "SPDY/3.1");
  request.set(http::field::content_length, "0");
  for (std::string_view version : Split(versions, ',')) {
    request.insert(kStreamVersion, beast::string_view(version.data(), version.size()));
  }
  auto [unsent, sent] = co_await http::async_write(*stream, request, kAwait);
  if (unsent) co_return Error(Code::kUnavailable, StrCat("streaming server: ", unsent.message()));
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kRefusalBytesMax);
  auto [error, got] = co_await http::async_read_header(*stream, buffer, parser, kAwait);
  if (error) co_return Error(Code::kUnavailable, StrCat("streaming server: ", error.message()));
  if (parser.get().result() != http::status::switching_protocols) {
    (void)co_await http::async_read(*stream, buffer, parser, kAwait);
    co_return Refused(parser.get().result_int(), parser.get().body());
  }
  SpdyUpgrade upgrade;
  upgrade.version = Text(parser.get()[kStreamVersion]);
  upgrade.pipe = MakeSocketPipe(std::move(stream), std::move(buffer));
  co_return upgrade;
}

Task<Result<WebSocketUpgrade>> UpgradeToWebSocket(std::shared_ptr<ClientStream> stream, Target target,
                                                  std::string protocols) {
  asio::steady_timer deadline = Deadline(stream);
  WebSocketUpgrade upgrade;
  upgrade.socket = std::make_unique<WebSocket>(*stream);
  auto offer = [protocols](beast::websocket::request_type& request) {
    request.set(http::field::sec_websocket_protocol, protocols);
  };
  upgrade.socket->set_option(beast::websocket::stream_base::decorator(offer));
  beast::websocket::response_type response;
  auto [error] = co_await upgrade.socket->async_handshake(response, HostHeader(target), target.path, kAwait);
  if (error == beast::websocket::error::upgrade_declined) {
    co_return Refused(response.result_int(), response.body());
  }
  if (error) co_return Error(Code::kUnavailable, StrCat("WebSocket with the streaming server: ", error.message()));
  upgrade.protocol = Text(response[http::field::sec_websocket_protocol]);
  co_return upgrade;
}

}  // namespace crisp::stream
