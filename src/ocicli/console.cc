#include "ocicli/console.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "base/strings.h"

namespace crisp::ocicli {

namespace {

Result<sys::UniqueFd> Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return Error(Code::kInvalidArgument, StrCat("console socket ", Quote(path), " is too long"));
  std::memcpy(address.sun_path, path.data(), path.size());
  sys::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.ok()) return Errno(errno, "socket");
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Errno(errno, "connect to console socket " + path);
  }
  return fd;
}

// Our own terminal passes everything on as it is typed, until the end.
class RawMode {
 public:
  RawMode() {
    if (!isatty(0) || tcgetattr(0, &before_) != 0) return;
    termios raw = before_;
    cfmakeraw(&raw);
    raw.c_oflag |= OPOST;
    changed_ = tcsetattr(0, TCSANOW, &raw) == 0;
  }
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;
  ~RawMode() {
    if (changed_) tcsetattr(0, TCSANOW, &before_);
  }

 private:
  termios before_{};
  bool changed_ = false;
};

void CopyWindowSize(sys::BorrowedFd terminal) {
  winsize size{};
  if (ioctl(0, TIOCGWINSZ, &size) == 0) ioctl(terminal.get(), TIOCSWINSZ, &size);
}

class Foreground {
 public:
  Foreground(pid_t pid, sys::UniqueFd terminal) : pid_(pid), terminal_(std::move(terminal)) {}

  Result<int> Run() {
    TRY(TakeSignals());
    std::optional<RawMode> raw;
    if (terminal_.ok()) {
      raw.emplace();
      CopyWindowSize(terminal_);
    }
    Reap();  // what ended before the signals were ours
    while (!code_ || terminal_.ok()) TRY(Turn());
    return *code_;
  }

 private:
  Result<> TakeSignals() {
    sigset_t all;
    sigfillset(&all);
    for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&all, fault);
    sigprocmask(SIG_SETMASK, &all, nullptr);
    signals_ = sys::UniqueFd(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
    return signals_.ok() ? Result<>() : Result<>(Errno(errno, "signalfd"));
  }
  Result<> Turn() {
    // With the process gone, only what its terminal still holds is left.
    pollfd polls[3] = {{signals_.get(), POLLIN, 0}, {terminal_.get(), POLLIN, 0}, {terminal_.ok() && input_ && !code_ ? 0 : -1, POLLIN, 0}};
    if (poll(polls, 3, code_ ? 1000 : -1) < 0 && errno != EINTR) return Errno(errno, "poll");
    if (polls[1].revents != 0) {
      CopyOutput();
    } else if (code_) {
      terminal_.Reset();  // somebody else in the container holds it
    }
    if (polls[2].revents != 0) CopyInput();
    if (polls[0].revents != 0) HandleSignals();
    return {};
  }
  void CopyOutput() {
    char buffer[16384];
    ssize_t n = read(terminal_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) return;
    // EIO: nobody has the other side open any more.
    if (n <= 0 || !sys::WriteAll(sys::BorrowedFd(1), std::string_view(buffer, static_cast<size_t>(n)))) terminal_.Reset();
  }
  void CopyInput() {
    char buffer[4096];
    ssize_t n = read(0, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) return;
    if (n > 0) {
      input_ = sys::WriteAll(terminal_, std::string_view(buffer, static_cast<size_t>(n))).has_value();
      return;
    }
    input_ = false;
    constexpr char kEnd = 4;  // what a terminal has for an end of file
    (void)sys::WriteAll(terminal_, std::string_view(&kEnd, 1)).has_value();
  }
  void HandleSignals() {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      auto number = static_cast<int>(info.ssi_signo);
      if (number == SIGCHLD) {
        Reap();
      } else if (number == SIGWINCH && terminal_.ok()) {
        CopyWindowSize(terminal_);
      } else if (number != SIGPIPE && number != SIGURG && !code_) {
        kill(pid_, number);  // not reaped yet: the number is its
      }
    }
  }
  void Reap() {
    int status = 0;
    while (pid_t ended = waitpid(-1, &status, WNOHANG)) {
      if (ended < 0) return;
      if (ended == pid_) code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
  }

  const pid_t pid_;
  sys::UniqueFd terminal_, signals_;
  bool input_ = true;
  std::optional<int> code_;
};

}  // namespace

Result<> SendTerminal(const std::string& path, sys::BorrowedFd master) {
  sys::UniqueFd socket = TRY(Connect(path));
  char name[64] = "/dev/ptmx";
  if (ptsname_r(master.get(), name, sizeof name) != 0) std::strcpy(name, "/dev/ptmx");
  iovec part{name, std::strlen(name)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  int fd = master.get();
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) return Errno(errno, "send the terminal to " + path);
  return {};
}

Result<int> StayInForeground(pid_t pid, sys::UniqueFd terminal) { return Foreground(pid, std::move(terminal)).Run(); }

}  // namespace crisp::ocicli
