// The user's terminal: raw mode while a session runs, its size. Restored on every way out, signals included.
// Threading: one RawTerminal at a time.
#pragma once

#include <termios.h>

#include <optional>

#include "base/result.h"
#include "stream/status.h"

namespace crisp::ctl {

class RawTerminal {
 public:
  // kFailedPrecondition: `fd` is no terminal.
  static Result<RawTerminal> Make(int fd);
  RawTerminal(RawTerminal&& other) noexcept : fd_(std::exchange(other.fd_, -1)), before_(other.before_) {}
  RawTerminal& operator=(RawTerminal&&) = delete;
  ~RawTerminal();

 private:
  explicit RawTerminal(int fd) : fd_(fd) {}
  int fd_;
  termios before_{};
};

std::optional<stream::TerminalSize> SizeOfTerminal(int fd);

}  // namespace crisp::ctl
