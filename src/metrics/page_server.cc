#include "metrics/page_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/strings.h"

namespace crisp::metrics {
namespace {

constexpr size_t kRequestBytesMax = 8 << 10;
constexpr time_t kClientSeconds = 2;
constexpr int kBacklog = 16;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

Result<Address> ParseAddress(const std::string& text) {
  size_t colon = text.rfind(':');
  std::string host = text.substr(0, colon == std::string::npos ? 0 : colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  std::optional<uint16_t> port =
      colon == std::string::npos ? std::nullopt : ParseInt<uint16_t>(std::string_view(text).substr(colon + 1));
  Address out;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (port && inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(*port);
    out.size = sizeof *v4;
  } else if (port && inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(*port);
    out.size = sizeof *v6;
  } else {
    return Error(Code::kInvalidArgument, StrCat(Quote(text), " is not IP:PORT"));
  }
  return out;
}

// The first line of a request, or nothing when the client is too slow or sends too much.
std::string ReadRequestLine(sys::BorrowedFd client) {
  std::string request;
  char buffer[1024];
  while (request.size() < kRequestBytesMax && request.find("\r\n\r\n") == std::string::npos) {
    ssize_t got = read(client.get(), buffer, sizeof buffer);
    if (got <= 0) return {};
    request.append(buffer, static_cast<size_t>(got));
  }
  return request.substr(0, request.find("\r\n"));
}

}  // namespace

Result<std::unique_ptr<PageServer>> PageServer::Listen(const std::string& address, std::string path,
                                                       std::function<std::string()> page) {
  Address where = TRY(ParseAddress(address));
  std::unique_ptr<PageServer> server(new PageServer);
  server->path_ = std::move(path);
  server->page_ = std::move(page);
  server->listener_ = sys::UniqueFd(socket(where.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!server->listener_.ok()) return Errno(errno, "socket");
  int on = 1;
  (void)setsockopt(server->listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  auto* raw = reinterpret_cast<sockaddr*>(&where.storage);
  if (bind(server->listener_.get(), raw, where.size) != 0) return Errno(errno, "bind " + address);
  if (listen(server->listener_.get(), kBacklog) != 0) return Errno(errno, "listen on " + address);
  if (getsockname(server->listener_.get(), raw, &where.size) != 0) return Errno(errno, "getsockname");
  server->port_ = ntohs(reinterpret_cast<sockaddr_in*>(raw)->sin_port);  // the same place for IPv6
  server->stop_ = sys::UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!server->stop_.ok()) return Errno(errno, "eventfd");
  server->thread_ = std::thread([raw_server = server.get()] { raw_server->Serve(); });
  return server;
}

PageServer::~PageServer() {
  if (!thread_.joinable()) return;
  (void)eventfd_write(stop_.get(), 1);
  thread_.join();
}

void PageServer::Serve() {
  pollfd waits[] = {{listener_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
  while (true) {
    if (poll(waits, 2, -1) < 0 && errno != EINTR) return;
    if (waits[1].revents != 0) return;
    if (waits[0].revents == 0) continue;
    sys::UniqueFd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client.ok()) Answer(std::move(client));
  }
}

void PageServer::Answer(sys::UniqueFd client) {
  timeval bound{.tv_sec = kClientSeconds, .tv_usec = 0};
  (void)setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
  (void)setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
  std::string line = ReadRequestLine(client);
  if (line.empty()) return;
  bool found = line == StrCat("GET ", path_, " HTTP/1.1") || line == StrCat("GET ", path_, " HTTP/1.0");
  std::string body = found ? page_() : "not found\n";
  std::string reply =
      StrCat("HTTP/1.1 ", found ? "200 OK" : "404 Not Found",
             "\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\nContent-Length: ", body.size(),
             "\r\n\r\n", body);
  // A client that went away is no concern of ours.
  for (size_t done = 0; done < reply.size();) {
    ssize_t sent = send(client.get(), reply.data() + done, reply.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return;
    done += static_cast<size_t>(sent);
  }
}

}  // namespace crisp::metrics
