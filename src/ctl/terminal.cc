#include "ctl/terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace crisp::ctl {

namespace {

// For the signal handler.
int g_fd = -1;
termios g_before{};

void RestoreAndDie(int signal) {
  if (g_fd >= 0) tcsetattr(g_fd, TCSANOW, &g_before);
  raise(signal);  // SA_RESETHAND: the default action now
}

}  // namespace

Result<RawTerminal> RawTerminal::Make(int fd) {
  RawTerminal terminal(fd);
  if (tcgetattr(fd, &terminal.before_) != 0) {
    terminal.fd_ = -1;
    return Error(Code::kFailedPrecondition, "stdin is not a terminal: leave -t out, or run this in one");
  }
  g_before = terminal.before_;
  g_fd = fd;
  struct sigaction action{};
  action.sa_handler = RestoreAndDie;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  for (int signal : {SIGTERM, SIGHUP, SIGINT, SIGQUIT}) sigaction(signal, &action, nullptr);
  termios raw = terminal.before_;
  cfmakeraw(&raw);
  if (tcsetattr(fd, TCSANOW, &raw) != 0) return Errno(errno, "make the terminal raw");
  return terminal;
}

RawTerminal::~RawTerminal() {
  if (fd_ < 0) return;
  tcsetattr(fd_, TCSANOW, &before_);
  g_fd = -1;
}

std::optional<stream::TerminalSize> SizeOfTerminal(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return std::nullopt;
  return stream::TerminalSize{size.ws_col, size.ws_row};
}

}  // namespace crisp::ctl
