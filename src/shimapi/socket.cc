#include "shimapi/socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/strings.h"
#include "shimapi/message.h"

namespace crisp::shimapi {

namespace {

// The address of `path`; `directory` keeps the descriptor open that a long path is named through.
struct Address {
  sockaddr_un socket{};
  sys::UniqueFd directory;
};

Result<Address> AddressOf(const std::string& path) {
  Address address;
  address.socket.sun_family = AF_UNIX;
  std::string name = path;
  if (name.size() >= sizeof address.socket.sun_path) {
    size_t slash = path.rfind('/');
    address.directory = TRY(sys::Open(path.substr(0, slash), O_PATH | O_DIRECTORY));
    name = StrCat("/proc/self/fd/", address.directory.get(), path.substr(slash));
    if (name.size() >= sizeof address.socket.sun_path) return Error(Code::kInvalidArgument, "socket name too long: " + path);
  }
  std::memcpy(address.socket.sun_path, name.data(), name.size());
  return address;
}

Result<sys::UniqueFd> MakeSocket(SocketType type) {
  int fd = socket(AF_UNIX, (type == SocketType::kStream ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Errno(errno, "socket");
  return sys::UniqueFd(fd);
}

const sockaddr* Generic(const Address& address) { return reinterpret_cast<const sockaddr*>(&address.socket); }

}  // namespace

Result<sys::UniqueFd> Listen(const std::string& path, SocketType type) {
  Address address = TRY(AddressOf(path));
  sys::UniqueFd fd = TRY(MakeSocket(type));
  // The mode of a unix socket's file is that of the socket's inode at bind(2).
  if (fchmod(fd.get(), 0600) != 0) return Errno(errno, "chmod " + path);
  unlink(path.c_str());
  if (bind(fd.get(), Generic(address), sizeof address.socket) != 0) return Errno(errno, "bind " + path);
  if (listen(fd.get(), 16) != 0) return Errno(errno, "listen " + path);
  return fd;
}

Result<sys::UniqueFd> Connect(const std::string& path, SocketType type) {
  Address address = TRY(AddressOf(path));
  sys::UniqueFd fd = TRY(MakeSocket(type));
  if (connect(fd.get(), Generic(address), sizeof address.socket) != 0) {
    int err = errno;
    Error error = Errno(err, "connect " + path);
    if (err == ECONNREFUSED) return std::move(error).As(Code::kNotFound);
    if (err == EAGAIN) return std::move(error).As(Code::kUnavailable);
    return error;
  }
  return fd;
}

Result<> SendMessage(sys::BorrowedFd socket, std::string_view bytes, const std::vector<sys::BorrowedFd>& fds) {
  if (fds.size() > kMessageFdsMax) return Error(Code::kInvalidArgument, "too many descriptors for one message");
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMessageFdsMax)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    for (size_t i = 0; i < fds.size(); ++i) {
      int fd = fds[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {};
  int err = errno;
  if (err == EAGAIN || err == ENOBUFS) return Errno(err, "send to shim socket").As(Code::kUnavailable);
  if (err == EPIPE || err == ECONNRESET || err == ENOTCONN) return Errno(err, "send to shim socket").As(Code::kAborted);
  return Errno(err, "send to shim socket");
}

Result<Received> ReceiveMessage(sys::BorrowedFd socket, char* buffer, size_t size) {
  iovec part{buffer, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMessageFdsMax)];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got;
  do {
    got = recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  Received received;
  if (got < 0) {
    if (errno == EAGAIN) {
      received.nothing = true;
      return received;
    }
    if (errno == ECONNRESET) {
      received.closed = true;
      return received;
    }
    return Errno(errno, "receive from shim socket");
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) return Error(Code::kInvalidArgument, "shim message was cut");
  if (got == 0) {
    received.closed = true;
    return received;
  }
  received.bytes = std::string_view(buffer, static_cast<size_t>(got));
  return received;
}

Result<PeerCredentials> Peer(sys::BorrowedFd socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return Errno(errno, "SO_PEERCRED");
  return PeerCredentials{credentials.pid, credentials.uid};
}

}  // namespace crisp::shimapi
