#include "shim/fork_server.h"

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "base/strings.h"
#include "shimapi/message.h"
#include "shimapi/socket.h"
#include "sys/spawn.h"

namespace crisp::shim {

namespace {

// Where the kernel reads our command line, but for the program's name.
std::span<char> CommandLine(int argc, char** argv) {
  const char* end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
  return {argv[1], static_cast<size_t>(end - argv[1])};
}

struct Request {
  std::string command_line;  // as it is to be
  Forked shim;
};

Result<Request> Parse(const shimapi::Received& received, size_t room) {
  Request request;
  size_t border = received.bytes.find('\0');
  if (border == std::string_view::npos) return Error(Code::kInvalidArgument, "no run directory");
  request.command_line = std::string(received.bytes) + '\0';
  // crispd knows a shim by its whole command line.
  if (request.command_line.size() != room) return Error(Code::kFailedPrecondition, "a command line of another length");
  request.shim.run_dir = received.bytes.substr(border + 1);
  return request;
}

Result<pid_t> Fork(sys::UniqueFd& pidfd) {
  int fd = -1;
  clone_args args{};
  args.flags = CLONE_PARENT | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&fd);
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return Errno(errno, "fork a shim");
  if (pid > 0) pidfd = sys::UniqueFd(fd);
  return static_cast<pid_t>(pid);
}

// kNotFound: nobody asks any more.
Result<shimapi::Received> Await(sys::BorrowedFd socket, std::span<char> buffer) {
  while (true) {
    pollfd event{socket.get(), POLLIN, 0};
    if (poll(&event, 1, -1) < 0 && errno != EINTR) return Errno(errno, "poll");
    shimapi::Received received = TRY(shimapi::ReceiveMessage(socket, buffer.data(), buffer.size()));
    if (received.closed) return Error(Code::kNotFound, "closed");
    if (!received.nothing) return received;
  }
}

}  // namespace

std::optional<Forked> ServeForks(int argc, char** argv) {
  prctl(PR_SET_NAME, "crisp-forks");
  prctl(PR_SET_DUMPABLE, 0);
  sys::UniqueFd socket(shimapi::kForkServerDescriptor);
  std::span<char> line = CommandLine(argc, argv);
  static char buffer[8192];
  while (true) {
    Result<shimapi::Received> received = Await(socket, buffer);
    if (!received) return std::nullopt;
    Result<Request> request = received->fds.size() == 2
                                  ? Parse(*received, line.size())
                                  : Error(Code::kInvalidArgument, "a fork without its descriptors");
    sys::UniqueFd pidfd;
    Result<pid_t> pid = request ? Fork(pidfd) : Result<pid_t>(request.error());
    if (pid && *pid == 0) {
      std::memcpy(line.data(), request->command_line.data(), line.size());
      request->shim.listener = std::move(received->fds[0]);
      request->shim.log = std::move(received->fds[1]);
      return std::move(request->shim);
    }
    // A crispd that is gone is seen by the next Await.
    if (!pid) {
      (void)shimapi::SendMessage(socket, "!" + pid.error().message()).has_value();
    } else if (!shimapi::SendMessage(socket, StrCat(*pid), {pidfd})) {
      (void)sys::PidfdSignal(pidfd, SIGKILL).has_value();  // nobody will know of it
    }
  }
}

}  // namespace crisp::shim
