// systemd's notification protocol (man sd_notify): datagrams to the socket named by NOTIFY_SOCKET. Ours, because it is
// three lines of protocol and libsystemd brings half a megabyte of private memory into the process.
// Threading: any thread. Without NOTIFY_SOCKET everything does nothing.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace crisp::daemon {

class Notifier {
 public:
  // Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of the environment: children shall not
  // speak for us. Call it before threads are started.
  Notifier();
  // "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=…"; several separated by newlines.
  void Send(std::string_view message) const;
  // How often the watchdog wants to hear of us, at most: half of what systemd set. Nothing: no watchdog.
  std::optional<std::chrono::microseconds> watchdog_interval() const { return watchdog_; }

 private:
  std::string socket_;
  std::optional<std::chrono::microseconds> watchdog_;
};

}  // namespace crisp::daemon
