#include "daemon/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "base/strings.h"
#include "sys/fd.h"

namespace crisp::daemon {
namespace {

std::string TakeVariable(const char* name) {
  const char* value = getenv(name);
  std::string taken = value ? value : "";
  unsetenv(name);
  return taken;
}

}  // namespace

Notifier::Notifier() : socket_(TakeVariable("NOTIFY_SOCKET")) {
  std::optional<int64_t> usec = ParseInt<int64_t>(TakeVariable("WATCHDOG_USEC"));
  std::string pid = TakeVariable("WATCHDOG_PID");
  if (usec && *usec > 0 && (pid.empty() || ParseInt<pid_t>(pid) == getpid())) {
    watchdog_ = std::chrono::microseconds(*usec / 2);
  }
}

void Notifier::Send(std::string_view message) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.empty() || socket_.size() >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  if (socket_[0] == '@') address.sun_path[0] = '\0';  // systemd's way to write an abstract address
  sys::UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.ok()) return;
  socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  // Nobody to tell about an error: whoever listens notices the missing message.
  (void)sendto(fd.get(), message.data(), message.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
               length);
}

}  // namespace crisp::daemon
