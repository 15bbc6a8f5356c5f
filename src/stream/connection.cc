#include "stream/connection.h"

#include <algorithm>
#include <boost/asio/write.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/websocket/rfc6455.hpp>

#include "base/strings.h"
#include "codec/websocket_channels.h"
#include "stream/command.h"
#include "stream/forward.h"
#include "stream/spdy_link.h"
#include "stream/websocket_link.h"

namespace crisp::stream {
namespace {

namespace http = beast::http;
using HttpRequest = http::request<http::empty_body>;
using codec::FindSpdyHeader;
using codec::WebSocketProtocol;

constexpr uint32_t kHttpHeaderBytesMax = 16 << 10;
constexpr const char* kAcceptedVersions = "X-Accepted-Stream-Protocol-Versions";
constexpr size_t kPortsMax = 64;  // of one WebSocket client: two channels each, numbered in one byte

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// remotecommand's versions over SPDY: names as on the wire, best first.
struct SpdyVersion {
  std::string_view name;
  int version;
};
constexpr SpdyVersion kSpdyVersions[] = {{"v5.channel.k8s.io", 5},
                                         {"v4.channel.k8s.io", 4},
                                         {"v3.channel.k8s.io", 3},
                                         {"v2.channel.k8s.io", 2},
                                         {"channel.k8s.io", 1}};

class Connection {
 public:
  Connection(Services& services, Tokens& tokens, std::shared_ptr<ClientStream> stream)
      : services_(services), tokens_(tokens), stream_(std::move(stream)) {}

  Task<> Run() {
    asio::steady_timer deadline(services_.io, services_.creation_timeout);
    deadline.async_wait([stream = stream_](error_code cancelled) {
      if (!cancelled) stream->Close();
    });
    if (!co_await stream_->Handshake()) co_return;
    http::request_parser<http::empty_body> parser;
    parser.header_limit(kHttpHeaderBytesMax);
    auto [error, got] = co_await http::async_read_header(*stream_, buffer_, parser, kAwait);
    if (error) co_return;
    http_ = parser.release();
    std::optional<Request> request = FindRequest();
    stream_->admitted = request.has_value();
    if (!request) {
      co_await Refuse("404 Not Found", "");
    } else if (beast::websocket::is_upgrade(http_)) {
      co_await ServeWebSocket(std::move(*request), deadline);
    } else if (http::token_list(http_[http::field::connection]).exists("upgrade") &&
               beast::iequals(http_[http::field::upgrade], "SPDY/3.1")) {
      co_await ServeSpdy(std::move(*request), deadline);
    } else {
      co_await Refuse("400 Bad Request", "");
    }
  }

 private:
  std::optional<Request> FindRequest() {
    std::string_view target = View(http_.target());
    std::string_view path = target.substr(0, target.find('?'));
    bool method = http_.method() == http::verb::get || http_.method() == http::verb::post;
    for (Verb verb : {Verb::kExec, Verb::kAttach, Verb::kPortForward}) {
      std::string prefix = StrCat("/", VerbName(verb), "/");
      if (method && path.starts_with(prefix)) return tokens_.Redeem(verb, path.substr(prefix.size()));
    }
    return std::nullopt;
  }

  // All values of a header that may be there several times, or be a list.
  std::vector<std::string_view> Offered(const char* name) const {
    std::vector<std::string_view> offered;
    auto [begin, end] = http_.equal_range(name);
    for (auto field = begin; field != end; ++field) {
      for (std::string_view value : Split(View(field->value()), ',')) offered.push_back(Trim(value));
    }
    std::erase(offered, std::string_view());
    return offered;
  }

  Task<> Refuse(std::string_view status, std::string_view headers) {
    co_await Write(StrCat("HTTP/1.1 ", status, "\r\nConnection: close\r\nContent-Length: 0\r\n", headers, "\r\n"));
    co_await stream_->EndWrite();
    // What it may have sent behind its request must be read, or the kernel resets the connection and with it our
    // answer.
    char rest[1024];
    for (size_t total = 0; total < kHttpHeaderBytesMax;) {
      auto [error, got] = co_await stream_->async_read_some(asio::buffer(rest), kAwait);
      if (error) break;
      total += got;
    }
  }

  Task<bool> Write(std::string text) {
    auto [error, sent] = co_await asio::async_write(*stream_, asio::buffer(text), kAwait);
    co_return !error;
  }

  Task<bool> SwitchToSpdy(std::string_view protocol) {
    std::string answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    if (!protocol.empty()) answer += StrCat(kStreamVersion, ": ", protocol, "\r\n");
    co_return co_await Write(answer + "\r\n");
  }

  // ---- SPDY

  Task<> ServeSpdy(Request request, asio::steady_timer& deadline) {
    std::vector<std::string_view> offered = Offered(kStreamVersion);
    if (request.verb == Verb::kPortForward) {
      if (!offered.empty() && std::ranges::find(offered, kForwardProtocol) == offered.end()) {
        co_return co_await Refuse("403 Forbidden", StrCat(kAcceptedVersions, ": ", kForwardProtocol, "\r\n"));
      }
      if (!co_await SwitchToSpdy(offered.empty() ? std::string_view() : kForwardProtocol)) co_return;
      deadline.cancel();
      co_return co_await ForwardOverSpdy(MakeSocketPipe(stream_, std::move(buffer_)), std::move(request));
    }
    SpdyVersion chosen{"", 1};  // clients before Kubernetes 1.1 offer nothing
    if (!offered.empty()) {
      auto found = std::ranges::find_if(kSpdyVersions, [&](const SpdyVersion& version) {
        return std::ranges::find(offered, version.name) != offered.end();
      });
      if (found == std::end(kSpdyVersions)) {
        std::string accepted;
        for (const SpdyVersion& version : kSpdyVersions)
          accepted += StrCat(kAcceptedVersions, ": ", version.name, "\r\n");
        co_return co_await Refuse("403 Forbidden", accepted);
      }
      chosen = *found;
    }
    if (!co_await SwitchToSpdy(chosen.name)) co_return;
    deadline.cancel();
    auto link =
        std::make_shared<SpdyLink>(services_.io, services_.idle_timeout, MakeSocketPipe(stream_, std::move(buffer_)));
    link->Start();
    std::optional<CommandChannels> channels = co_await AwaitStreams(*link, request, chosen.version);
    if (channels) {
      co_await RunCommand(services_, link, std::move(request), *channels, chosen.version);
    } else {
      link->Abort();
    }
    co_await link->Join();
  }

  Task<> ForwardOverSpdy(std::unique_ptr<BytePipe> pipe, Request request) {
    auto link = std::make_shared<SpdyLink>(services_.io, services_.idle_timeout, std::move(pipe));
    link->Start();
    co_await ForwardSpdy(services_, link, std::move(request));
    link->Abort();
    co_await link->Join();
  }

  // Waits until the client has opened the streams that it asked for, by their header streamtype.
  Task<std::optional<CommandChannels>> AwaitStreams(SpdyLink& link, const Request& request, int version) {
    const StreamWants& wants = request.wants;
    size_t missing = 1 + wants.in + wants.out + wants.err + (wants.tty && version >= 3);
    CommandChannels channels;
    bool has_error = false;
    Signal changed(services_.io);
    link.OnChange([&] { changed.Notify(); });
    Clock::time_point until = Clock::now() + services_.creation_timeout;
    while (missing > 0 && !link.over() && Clock::now() < until) {
      std::optional<SpdyLink::Arrival> arrival = link.NextArrival();
      if (!arrival) {
        co_await changed.WaitFor(until - Clock::now());
        continue;
      }
      std::string_view type = FindSpdyHeader(arrival->headers, "streamtype");
      bool wanted = false;
      auto take = [&](std::string_view name, bool asked_for, std::optional<uint32_t>& place) {
        if (type != name || !asked_for || place) return;
        place = arrival->stream;
        wanted = true;
      };
      take("stdin", wants.in, channels.in);
      take("stdout", wants.out, channels.out);
      take("stderr", wants.err, channels.err);
      take("resize", wants.tty && version >= 3, channels.resize);
      if (type == "error" && !has_error) {
        channels.error = arrival->stream;
        has_error = wanted = true;
      }
      if (!wanted) {
        link.Reset(arrival->stream);
        continue;
      }
      link.Accept(arrival->stream);
      --missing;
    }
    link.OnChange(nullptr);
    if (missing > 0) co_return std::nullopt;
    co_return channels;
  }

  // ---- WebSocket

  Task<> ServeWebSocket(Request request, asio::steady_timer& deadline) {
    std::string offered = Join(
        [&] {
          std::vector<std::string> names;
          for (std::string_view name : Offered("Sec-WebSocket-Protocol")) names.emplace_back(name);
          return names;
        }(),
        ",");
    bool forward = request.verb == Verb::kPortForward;
    Result<WebSocketProtocol> chosen =
        forward ? codec::ChooseForwardProtocol(offered) : codec::ChooseCommandProtocol(offered);
    if (!chosen) co_return co_await Refuse("403 Forbidden", "");
    std::vector<uint16_t> ports;
    if (forward && !chosen->tunnel) {
      ports = Ports(request);
      if (ports.empty()) co_return co_await Refuse("400 Bad Request", "");
    }
    auto socket = std::make_unique<WebSocket>(*stream_);
    socket->set_option(beast::websocket::stream_base::decorator([&](beast::websocket::response_type& response) {
      response.set(http::field::server, "crisp");
      if (!chosen->name.empty()) response.set(http::field::sec_websocket_protocol, chosen->name);
    }));
    auto [error] = co_await socket->async_accept(http_, kAwait);
    if (error) co_return;
    deadline.cancel();
    if (forward && chosen->tunnel) {
      co_return co_await ForwardOverSpdy(MakeWebSocketPipe(stream_, std::move(socket)), std::move(request));
    }
    auto link =
        std::make_shared<WebSocketLink>(services_.io, services_.idle_timeout, stream_, std::move(socket), *chosen);
    link->Start();
    if (forward) {
      co_await ForwardWebSocket(services_, link, std::move(request), std::move(ports));
    } else {
      CommandChannels channels = WebSocketChannels(request.wants);
      // An empty message tells the client that we are there (as Kubernetes' own servers do).
      uint32_t first = channels.out ? *channels.out : channels.err ? *channels.err : channels.error;
      link->SendMessage(codec::MakeChannelMessage(*chosen, static_cast<uint8_t>(first), ""));
      co_await RunCommand(services_, link, std::move(request), channels, chosen->version);
    }
    co_await link->Join();
  }

  static CommandChannels WebSocketChannels(const StreamWants& wants) {
    CommandChannels channels;
    if (wants.in) channels.in = 0;
    if (wants.out) channels.out = 1;
    if (wants.err) channels.err = 2;
    channels.error = 3;
    if (wants.tty) channels.resize = 4;
    return channels;
  }

  // From the CRI request, else from the URL's query: port=80&port=81, or port=80,81.
  std::vector<uint16_t> Ports(const Request& request) const {
    if (!request.ports.empty()) return request.ports.size() <= kPortsMax ? request.ports : std::vector<uint16_t>();
    std::vector<uint16_t> ports;
    std::string_view target = View(http_.target());
    size_t question = target.find('?');
    if (question == std::string_view::npos) return ports;
    for (std::string_view parameter : Split(target.substr(question + 1), '&')) {
      if (!parameter.starts_with("port=")) continue;
      for (std::string_view text : Split(parameter.substr(5), ',')) {
        std::optional<uint16_t> port = ParseInt<uint16_t>(text);
        if (!port || *port == 0 || ports.size() == kPortsMax) return {};
        ports.push_back(*port);
      }
    }
    return ports;
  }

  Services& services_;
  Tokens& tokens_;
  const std::shared_ptr<ClientStream> stream_;
  beast::flat_buffer buffer_{kHttpHeaderBytesMax + 4096};
  HttpRequest http_;
};

}  // namespace

Task<> ServeConnection(Services& services, Tokens& tokens, std::shared_ptr<ClientStream> stream) {
  auto connection = std::make_unique<Connection>(services, tokens, stream);
  co_await connection->Run();
  stream->Close();
}

}  // namespace crisp::stream
