#include "stream/server.h"

#include <signal.h>

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <set>
#include <thread>

#include "base/strings.h"
#include "stream/connection.h"
#include "stream/tls.h"

namespace crisp::stream {
namespace {

constexpr std::chrono::milliseconds kAcceptPause(100);  // after an error that time may cure: no descriptors left
constexpr int kPoolThreads = 16;
constexpr int kDialThreads = 16;

Result<tcp::endpoint> ParseAddress(const std::string& text) {
  size_t colon = text.rfind(':');
  std::optional<uint16_t> port =
      colon == std::string::npos ? std::nullopt : ParseInt<uint16_t>(std::string_view(text).substr(colon + 1));
  std::string host = text.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  error_code error;
  asio::ip::address address = asio::ip::make_address(host, error);
  if (!port || error) return Error(Code::kInvalidArgument, StrCat(Quote(text), " is not IP:PORT"));
  return tcp::endpoint(address, *port);
}

// What clients are told to dial: of a server on all addresses the loopback one, as the kubelet is on this node.
std::string Authority(const tcp::endpoint& endpoint) {
  asio::ip::address address = endpoint.address();
  if (address.is_unspecified()) {
    address = address.is_v6() ? asio::ip::address(asio::ip::address_v6::loopback())
                              : asio::ip::address(asio::ip::address_v4::loopback());
  }
  std::string host = address.to_string();
  return StrCat(address.is_v6() ? StrCat("[", host, "]") : host, ":", endpoint.port());
}

}  // namespace

struct Server::Impl {
  Impl(const Options& given, Backend& backend)
      : options(given),
        tokens(given.tokens),
        tls(given.tls_cert, given.tls_key),
        pool({.name = "stream", .threads_max = kPoolThreads}),
        dials({.name = "stream-dial", .threads_max = kDialThreads}),
        services{.io = io,
                 .pool = pool,
                 .dials = dials,
                 .backend = backend,
                 .ctx = Ctx(Clock::time_point::max(), stop.get_token(), "stream"),
                 .idle_timeout = given.idle_timeout,
                 .creation_timeout = given.creation_timeout} {}

  Result<> Open() {
    tcp::endpoint endpoint = TRY(ParseAddress(options.address));
    TRY(tls.Load());
    error_code error;
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (!error) endpoint = acceptor.local_endpoint(error);
    if (error) return Error(Code::kUnavailable, StrCat("listen on ", options.address, ": ", error.message()));
    bool secure = !options.tls_cert.empty() || !options.tls_key.empty();
    base_url = StrCat(secure ? "https" : "http", "://", Authority(endpoint));
    port = endpoint.port();
    asio::co_spawn(io, Accept(), [](std::exception_ptr) {});
    thread = std::thread([this] { Loop(); });
    return {};
  }

  void Loop() {
    // Signals are the main thread's. SIGPIPE would come from pipes whose reader has gone; we look at EPIPE.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "stream-loop");
    while (true) {
      try {
        io.run();
        return;
      } catch (const std::exception& thrown) {
        LogError("a streaming connection threw", {{"what", thrown.what()}});  // std::bad_alloc
      }
    }
  }

  Task<> Accept() {
    while (true) {
      auto [error, socket] = co_await acceptor.async_accept(kAwait);
      if (!acceptor.is_open()) co_return;
      if (error) {
        asio::steady_timer pause(io, kAcceptPause);
        co_await pause.async_wait(kAwait);
        continue;
      }
      if (connections >= options.connections_max && !DropOldestStranger()) continue;  // closes it
      auto stream = std::make_shared<ClientStream>(std::move(socket), tls.Context());
      ++connections;
      streams.insert(stream);
      asio::co_spawn(io, ServeConnection(services, tokens, stream), [this, stream](std::exception_ptr thrown) {
        if (thrown) LogError("a streaming connection threw");
        stream->Close();
        streams.erase(stream);
        --connections;
      });
    }
  }

  // Anybody on the node can connect: who has shown no token makes room for who may still have one.
  bool DropOldestStranger() {
    std::shared_ptr<ClientStream> oldest;
    for (const auto& stream : streams) {
      if (!stream->admitted && (oldest == nullptr || stream->since < oldest->since)) oldest = stream;
    }
    if (oldest == nullptr) return false;
    oldest->admitted = true;  // not a second time while it ends
    oldest->Close();
    return true;
  }

  void Stop() {
    stop.request_stop();
    asio::post(io, [this] {
      error_code ignored;
      acceptor.close(ignored);
      for (const auto& stream : streams) stream->Close();
    });
    if (thread.joinable()) thread.join();  // when the last connection has ended
  }

  const Options options;
  std::stop_source stop;
  Tokens tokens;
  TlsFiles tls;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  Pool pool, dials;  // end before the loop that their work answers to
  Services services;
  std::set<std::shared_ptr<ClientStream>> streams;
  std::atomic<size_t> connections{0};
  std::string base_url;
  int port = 0;
  std::thread thread;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() { impl_->Stop(); }

Result<std::unique_ptr<Server>> Server::Listen(const Options& options, Backend& backend) {
  auto impl = std::make_unique<Impl>(options, backend);
  TRY(impl->Open());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Result<std::string> Server::Issue(Request request) {
  Verb verb = request.verb;
  std::string token = TRY(impl_->tokens.Issue(std::move(request)));
  return StrCat(impl_->base_url, "/", VerbName(verb), "/", token);
}

int Server::port() const { return impl_->port; }
size_t Server::connections() const { return impl_->connections; }

}  // namespace crisp::stream
