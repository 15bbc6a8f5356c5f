// Datagrams with descriptors over the shim's SOCK_SEQPACKET socket, and the sockets themselves. A socket's path may be
// longer than sockaddr_un holds (108 bytes): it is named through /proc/self/fd/<directory>/ then.
// Threading: one sender and one receiver per socket at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sys/fd.h"

namespace crisp::shimapi {

enum class SocketType { kStream, kSeqPacket };

// Bound and listening at `path`, mode 0600, non-blocking. A stale socket file is replaced.
Result<sys::UniqueFd> Listen(const std::string& path, SocketType type);
// kNotFound: no such file or nobody listens. Does not wait: a full backlog is kUnavailable.
Result<sys::UniqueFd> Connect(const std::string& path, SocketType type);

// Non-blocking. kUnavailable: the peer does not read and the buffer is full; kAborted: the peer is gone.
Result<> SendMessage(sys::BorrowedFd socket, std::string_view bytes, const std::vector<sys::BorrowedFd>& fds = {});

struct Received {
  bool closed = false;          // the peer is gone
  bool nothing = false;         // would block
  std::string_view bytes;       // into the caller's buffer
  std::vector<sys::UniqueFd> fds;
};
// Non-blocking. A datagram or a list of descriptors that had to be cut is kInvalidArgument.
Result<Received> ReceiveMessage(sys::BorrowedFd socket, char* buffer, size_t size);

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
};
// Who was at the other end when the connection was made (SO_PEERCRED).
Result<PeerCredentials> Peer(sys::BorrowedFd socket);

}  // namespace crisp::shimapi
