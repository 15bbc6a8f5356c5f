#include "native/status.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace crisp::native {

Result<> SendStatus(int socket, const Status& status, int descriptor) {
  size_t size = offsetof(Status, text) + strnlen(status.text, sizeof status.text - 1) + 1;
  iovec part{const_cast<Status*>(&status), size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
  ssize_t n;
  do {
    n = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? Result<>(Errno(errno, "tell the launcher")) : Result<>();
}

bool SendFailure(int socket, const Error& error) {
  Status status;
  status.kind = Status::kFailed;
  status.code = static_cast<uint8_t>(error.code());
  status.number = error.os_errno();
  size_t size = std::min(error.message().size(), sizeof status.text - 1);
  std::memcpy(status.text, error.message().data(), size);
  return SendStatus(socket, status).has_value();
}

Result<ReceivedStatus> ReceiveStatus(int socket) {
  ReceivedStatus received;
  iovec part{&received.status, sizeof received.status};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do {
    n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return received;
  // A reset: what the process had not read died with it.
  if (n == 0 || (n < 0 && errno == ECONNRESET)) {
    received.state = ReceivedStatus::kEnd;
    return received;
  }
  if (n < 0) return Errno(errno, "hear from the process that is being started");
  if (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    int descriptor;
    std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
    received.descriptor = sys::UniqueFd(descriptor);
  }
  received.status.text[sizeof received.status.text - 1] = '\0';
  received.state = ReceivedStatus::kStatus;
  return received;
}

}  // namespace crisp::native
