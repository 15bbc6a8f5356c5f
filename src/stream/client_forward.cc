// The client's half of port-forward: listeners here, a pair of SPDY streams for each connection.
#include <signal.h>

#include <boost/asio/detached.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/write.hpp>

#include "base/strings.h"
#include "stream/dial.h"

namespace crisp::stream {
namespace {

constexpr const char* kTunnelProtocol = "SPDY/3.1+portforward.k8s.io";

class ForwardClient {
 public:
  ForwardClient(asio::io_context& io, const DialOptions& options, std::vector<ForwardedPort> ports,
                const std::function<void(std::string_view)>& say)
      : io_(io), options_(options), ports_(std::move(ports)), say_(say), tasks_(io), changed_(io), signals_(io) {}

  Task<> Run(Target target) {
    result = co_await Serve(std::move(target));
    io_.stop();
  }

  Result<> result;

 private:
  Task<Result<>> Serve(Target target) {
    Result<> linked = co_await MakeLink(target);
    if (!linked) co_return linked;
    error_code ignored;
    signals_.add(SIGINT, ignored);
    signals_.add(SIGTERM, ignored);
    signals_.async_wait([this](error_code error, int) {
      stopped_ = stopped_ || !error;
      changed_.Notify();
    });
    link_->OnChange([this] { changed_.Notify(); });
    for (const ForwardedPort& port : ports_) {
      if (Result<> listening = Listen(port); !listening) co_return listening;
    }
    while (!stopped_ && !link_->over()) co_await changed_.Wait();
    bool lost = !stopped_;
    co_await link_->Leave();
    if (lost) co_return Error(Code::kUnavailable, "lost the connection to the pod");
    co_return Result<>();
  }

  Task<Result<>> MakeLink(const Target& target) {
    auto stream = co_await Connect(io_, target, options_);
    if (!stream) co_return std::move(stream).error();
    std::unique_ptr<BytePipe> pipe;
    if (options_.transport == Transport::kSpdy) {
      auto upgrade = co_await UpgradeToSpdy(*stream, target, std::string(kForwardProtocol));
      if (!upgrade) co_return std::move(upgrade).error();
      pipe = std::move(upgrade->pipe);
    } else {
      auto upgrade = co_await UpgradeToWebSocket(*stream, target, kTunnelProtocol);
      if (!upgrade) {
        co_return std::move(upgrade.error()).Context(
            "port-forward over WebSocket (a runtime that does not speak it wants --transport spdy)");
      }
      if (upgrade->protocol != kTunnelProtocol) {
        co_return Error(Code::kUnimplemented,
                        "the runtime does not speak port-forward over WebSocket: use --transport spdy");
      }
      pipe = MakeWebSocketPipe(*stream, std::move(upgrade->socket));
    }
    link_ = std::make_shared<SpdyLink>(io_, kNeverIdle, std::move(pipe), SpdyLink::Role::kClient);
    link_->Start();
    co_return Result<>();
  }

  // On both loopback addresses; one of them is enough.
  Result<> Listen(ForwardedPort port) {
    std::string why;
    bool any = false;
    for (const char* address : {"127.0.0.1", "::1"}) {
      error_code error;
      tcp::endpoint place(asio::ip::make_address(address), port.local);
      tcp::acceptor acceptor(io_);
      acceptor.open(place.protocol(), error);
      if (!error && place.address().is_v6()) acceptor.set_option(asio::ip::v6_only(true), error);
      if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
      if (!error) acceptor.bind(place, error);
      if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
      if (error) {
        why = error.message();
        continue;
      }
      port.local = acceptor.local_endpoint().port();  // ::1 gets the same one as 127.0.0.1
      any = true;
      const char* shown = place.address().is_v6() ? "[::1]" : address;
      say_(StrCat("Forwarding from ", shown, ":", port.local, " -> ", port.remote));
      tasks_.Spawn(AcceptAll(std::move(acceptor), port));
    }
    if (any) return {};
    return Error(Code::kUnavailable, StrCat("cannot listen on local port ", port.local, ": ", why,
                                            " (name another one, or :", port.remote, " for any)"));
  }

  Task<> AcceptAll(tcp::acceptor acceptor, ForwardedPort port) {
    while (true) {
      auto [error, socket] = co_await acceptor.async_accept(kAwait);
      if (error) co_return;
      say_(StrCat("Handling connection for ", port.local));
      tasks_.Spawn(Forward(std::make_shared<tcp::socket>(std::move(socket)), port));
    }
  }

  Task<> Forward(std::shared_ptr<tcp::socket> local, ForwardedPort port) {
    std::string id = StrCat(next_request_++), remote = StrCat(port.remote);
    uint32_t error = link_->Open({{"streamtype", "error"}, {"port", remote}, {"requestid", id}});
    link_->End(error);  // we send nothing on it
    uint32_t data = link_->Open({{"streamtype", "data"}, {"port", remote}, {"requestid", id}});
    tasks_.Spawn(ToPod(local, data));
    auto inbox = link_->OpenInbox(data), error_inbox = link_->OpenInbox(error);
    while (true) {
      if (std::string bytes = std::exchange(inbox->bytes, {}); !bytes.empty()) {
        auto [failed, sent] = co_await asio::async_write(*local, asio::buffer(bytes), kAwait);
        link_->Consumed(data, bytes.size());
        if (failed) break;
      } else if (inbox->ended || inbox->reset) {
        break;
      } else {
        co_await inbox->changed.Wait();
      }
    }
    error_code ignored;
    local->shutdown(tcp::socket::shutdown_send, ignored);
    if (inbox->reset || !inbox->ended) local->close(ignored);
    while (!error_inbox->ended && !error_inbox->reset) co_await error_inbox->changed.Wait();
    if (!error_inbox->bytes.empty()) {
      say_(StrCat("an error occurred forwarding ", port.local, " -> ", port.remote, ": ", Trim(error_inbox->bytes)));
    }
    local->close(ignored);
    link_->Reset(data);
  }

  Task<> ToPod(std::shared_ptr<tcp::socket> local, uint32_t data) {
    std::string buffer(Link::kReadBytes, '\0');
    while (true) {
      auto [error, got] = co_await local->async_read_some(asio::buffer(buffer), kAwait);
      if (error) break;
      if (!co_await link_->Send(data, std::string_view(buffer).substr(0, got))) co_return;
    }
    link_->End(data);
  }

  asio::io_context& io_;
  const DialOptions options_;
  const std::vector<ForwardedPort> ports_;
  const std::function<void(std::string_view)>& say_;
  std::shared_ptr<SpdyLink> link_;
  Tasks tasks_;
  Signal changed_;
  asio::signal_set signals_;
  uint32_t next_request_ = 0;
  bool stopped_ = false;
};

}  // namespace

Result<ForwardedPort> ParseForwardedPort(std::string_view text) {
  size_t colon = text.find(':');
  ForwardedPort port;
  auto remote = ParseInt<uint16_t>(colon == std::string_view::npos ? text : text.substr(colon + 1));
  std::string_view before = colon == std::string_view::npos ? "" : text.substr(0, colon);
  auto local = remote;
  if (colon != std::string_view::npos) local = before.empty() ? std::optional<uint16_t>(0) : ParseInt<uint16_t>(before);
  if (!remote || *remote == 0 || !local) {
    return Error(Code::kInvalidArgument, StrCat("no port to forward: ", Quote(text), " (like 8080:80, 80, or :80)"));
  }
  return ForwardedPort{*local, *remote};
}

Result<> ForwardPorts(const std::string& url, const DialOptions& options, const std::vector<ForwardedPort>& ports,
                      const std::function<void(std::string_view)>& say) {
  Target target = TRY(ParseTarget(url));
  asio::io_context loop;
  ForwardClient client(loop, options, ports, say);
  asio::co_spawn(loop, client.Run(std::move(target)), asio::detached);
  loop.run();
  return std::move(client.result);
}

}  // namespace crisp::stream
