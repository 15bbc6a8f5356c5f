#include "runtime/shim_forks.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/log.h"
#include "base/strings.h"
#include "shimapi/message.h"
#include "shimapi/socket.h"

namespace crisp::runtime {

namespace {

constexpr std::chrono::seconds kForkTime{2};  // far below a millisecond, where nothing is wrong
constexpr std::chrono::seconds kEndTime{1};
constexpr std::chrono::seconds kRestAfterSilence{30};

// As long as "POD_ID\0RUN_DIR" less the option, and something to tell whose it is.
Result<std::string> Filler(const sys::Command& shim) {
  const size_t length = shim.args[0].size() + shim.args[1].size(), option = sizeof shimapi::kForkServerOption - 1;
  if (length < option) return Error(Code::kUnavailable, "no room for the command line");
  std::string filler = shim.args[1].substr(0, shim.args[1].rfind('/') + 1);
  filler.resize(length - option, '.');
  return filler;
}

Result<shimapi::Received> Await(sys::BorrowedFd socket, char* buffer, size_t size) {
  const Ctx ctx = Ctx().WithTimeout(kForkTime);
  while (true) {
    pollfd event{socket.get(), POLLIN, 0};
    if (poll(&event, 1, ctx.PollTimeoutMs()) < 0 && errno != EINTR) return Errno(errno, "poll");
    shimapi::Received received = TRY(shimapi::ReceiveMessage(socket, buffer, size));
    if (received.closed) return Error(Code::kAborted, "the shims' fork server has died");
    if (!received.nothing) return received;
    TRY(ctx.Check(), "fork a shim");
  }
}

}  // namespace

ShimForks::~ShimForks() { End(*server_.Lock()); }

void ShimForks::End(Server& server) {
  server.socket.Reset();
  if (server.process && !server.process->Wait(Ctx().WithTimeout(kEndTime))) {
    (void)server.process->Signal(SIGKILL).has_value();
    (void)server.process->Wait(Ctx().WithTimeout(kEndTime)).has_value();
  }
  server.process.reset();
}

Result<> ShimForks::Start(Server& server, const Program& program, const sys::Command& shim) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return Errno(errno, "socketpair");
  sys::UniqueFd ours(pair[0]), theirs(pair[1]);
  sys::Command command = shim;
  command.args = {shimapi::kForkServerOption, TRY(Filler(shim))};
  command.fds.clear();
  command.fds.emplace(shimapi::kForkServerDescriptor, theirs.borrow());
  server.process = TRY(sys::Spawn(command));
  server.socket = std::move(ours);
  server.program = program;
  return {};
}

Result<sys::Process> ShimForks::Fork(const Program& program, const sys::Command& shim) {
  auto server = server_.Lock();
  if (Clock::now() < server->rest_until)
    return Error(Code::kUnavailable, "the shims' fork server gave no answer before");
  if (server->socket.ok() && server->program != program) End(*server);
  const std::string request = StrCat(shim.args[0], std::string_view("\0", 1), shim.args[1]);
  auto send = [&]() -> Result<> {
    return shimapi::SendMessage(server->socket, request, {shim.fds.at(3), shim.fds.at(2)});
  };
  Result<> sent = server->socket.ok() ? send() : Error(Code::kAborted, "not started");
  if (!sent) {
    End(*server);
    Result<> started = Start(*server, program, shim);
    sent = started ? send() : std::move(started);
    if (!sent) return std::move(sent).error().As(Code::kUnavailable);
  }
  char buffer[512];
  Result<shimapi::Received> answer = Await(server->socket, buffer, sizeof buffer);
  if (!answer) {
    if (answer.error().code() == Code::kDeadlineExceeded) {
      // It must not fork any more. And the next pods need not wait as this one did.
      (void)server->process->Signal(SIGKILL).has_value();
      server->rest_until = Clock::now() + kRestAfterSilence;
    }
    End(*server);
    return std::move(answer).error().As(Code::kAborted);
  }
  if (answer->bytes.starts_with("!")) return Error(Code::kUnavailable, std::string(answer->bytes.substr(1)));
  std::optional<pid_t> pid = ParseInt<pid_t>(answer->bytes);
  if (!pid || answer->fds.size() != 1) {
    End(*server);
    return Error(Code::kInternal, "the shims' fork server answers nonsense");
  }
  return sys::Process(*pid, std::move(answer->fds[0]));
}

}  // namespace crisp::runtime
