#include "pod/dial.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "sys/netns.h"

namespace crisp::pod {

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

Address Localhost(int family, uint16_t port) {
  Address address;
  if (family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.size = sizeof *v4;
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    v6->sin6_addr = in6addr_loopback;
    address.size = sizeof *v6;
  }
  return address;
}

Result<> Connect(const Ctx& ctx, sys::BorrowedFd socket, const Address& address) {
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0) return {};
  if (errno != EINPROGRESS) return Errno(errno, "connect");
  pollfd writable{socket.get(), POLLOUT, 0};
  while (poll(&writable, 1, std::min(ctx.PollTimeoutMs(), ctx.stop().stop_possible() ? 100 : 3'600'000)) <= 0) {
    TRY(ctx.Check(), "connect");
  }
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) return Errno(error, "connect");
  return {};
}

}  // namespace

Result<sys::UniqueFd> DialLocalhost(const Ctx& ctx, const std::string& netns_path, uint16_t port) {
  sys::UniqueFd v4, v6;
  // A socket belongs to the namespace that it was made in, wherever it is used: only socket(2) needs the thread.
  auto make = [&]() -> Result<> {
    constexpr int kType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    v4.Reset(socket(AF_INET, kType, 0));
    v6.Reset(socket(AF_INET6, kType, 0));  // fails in a kernel without IPv6
    return v4.ok() || v6.ok() ? Result<>() : Errno(errno, "socket");
  };
  if (netns_path.empty()) {
    TRY(make());
  } else {
    sys::UniqueFd netns = TRY(sys::OpenNetns(netns_path));
    TRY(sys::RunInNetns(netns, make));
  }
  std::string why;
  for (auto& [family, socket] : {std::pair(AF_INET, &v4), std::pair(AF_INET6, &v6)}) {
    if (!socket->ok()) continue;
    Result<> connected = Connect(ctx, *socket, Localhost(family, port));
    if (connected) return std::move(*socket);
    why += StrCat(why.empty() ? "" : "; ", family == AF_INET ? "127.0.0.1: " : "::1: ", connected.error().message());
    if (connected.error().code() == Code::kCancelled) return std::move(connected).error();
  }
  return Error(Code::kUnavailable, StrCat("port ", port, ": ", why));
}

}  // namespace crisp::pod
