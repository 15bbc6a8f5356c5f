#include "sys/userns.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::sys {

namespace {

constexpr std::chrono::milliseconds kHelperTime{10'000};
constexpr size_t kMapBytesMax = 4095;  // the kernel takes a map in one write below the size of a page
constexpr int kHelperSocket = 3;

Result<std::string> MapText(const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& range : ranges) text += StrCat(range.inside, " ", range.outside, " ", range.length, "\n");
  if (text.size() > kMapBytesMax)
    return Error(Code::kInvalidArgument, StrCat(ranges.size(), " ranges of ids are too many"));
  return text;
}

// The helper's errno: 0 once the namespaces stand.
Result<> AwaitHelper(const Ctx& ctx, BorrowedFd socket) {
  pollfd event{socket.get(), POLLIN, 0};
  int ready;
  do {
    ready = poll(&event, 1, ctx.PollTimeoutMs());
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) return Error(Code::kDeadlineExceeded, "the helper that makes a user namespace does not answer");
  int error = 0;
  if (read(socket.get(), &error, sizeof error) != sizeof error) {
    return Error(Code::kInternal, "the helper that makes a user namespace has ended");
  }
  if (error != 0) return Errno(error, "make a user namespace");
  return {};
}

Result<> WriteMap(pid_t pid, const char* file, const std::vector<IdRange>& ranges) {
  std::string text = TRY(MapText(ranges), file);
  Result<> written = WriteExisting(StrCat("/proc/", pid, "/", file), text);
  if (!written && written.error().os_errno() == EINVAL) return std::move(written).error().As(Code::kInvalidArgument);
  return written;
}

// `pid` is our child and not reaped, so the number is its.
Result<OwnedNamespaces> Furnish(const Ctx& ctx, pid_t pid, BorrowedFd socket, const UsernsRequest& request) {
  TRY(AwaitHelper(ctx, socket));
  TRY(WriteMap(pid, "uid_map", request.maps.uids));
  TRY(WriteMap(pid, "gid_map", request.maps.gids));
  OwnedNamespaces out;
  auto open = [&](bool wanted, const char* kind, UniqueFd& fd) -> Result<> {
    if (wanted) fd = TRY(Open(StrCat("/proc/", pid, "/ns/", kind), O_RDONLY));
    return {};
  };
  TRY(open(true, "user", out.user));
  TRY(open(request.net, "net", out.net));
  TRY(open(request.ipc, "ipc", out.ipc));
  TRY(open(request.uts, "uts", out.uts));
  return out;
}

// `socket`: our end of its descriptor 3.
Result<Process> StartHelper(const std::string& helper, std::string kinds, UniqueFd& socket) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return Errno(errno, "socketpair");
  socket = UniqueFd(pair[0]);
  UniqueFd theirs(pair[1]);
  Command command;
  command.program = helper;
  command.args = {"--hold-namespaces", std::move(kinds)};
  command.env.emplace();
  command.working_dir = "/";
  command.fds.emplace(kHelperSocket, theirs.borrow());
  return Spawn(command);
}

}  // namespace

Result<OwnedNamespaces> MakeUserns(const Ctx& caller, const std::string& helper, const UsernsRequest& request) {
  Ctx ctx = caller.WithTimeout(kHelperTime);
  TRY(ctx.Check());
  UniqueFd ours;
  Process process = TRY(StartHelper(helper,
                                    StrCat("user", request.net ? ",net" : "", request.ipc ? ",ipc" : "", request.uts ? ",uts" : ""),
                                    ours),
                        "user namespace");
  Result<OwnedNamespaces> made = Furnish(ctx, process.pid(), ours, request);
  ours.Reset();  // its sign to end
  if (!made) TRY(process.Signal(SIGKILL));
  TRY(process.Wait(ctx.Detached(kHelperTime)), "user namespace");
  return made;
}

Result<std::unique_ptr<IdleProcess>> IdleProcess::Start(const std::string& helper) {
  UniqueFd socket;
  Process process = TRY(StartHelper(helper, "", socket), "idle process");
  return std::unique_ptr<IdleProcess>(new IdleProcess(std::move(socket), std::move(process)));
}

IdleProcess::~IdleProcess() {
  // SIGKILL, which no program can hold up: the wait is short.
  (void)process_.Signal(SIGKILL).has_value();
  (void)process_.Wait(Ctx().WithTimeout(kHelperTime)).has_value();
}

int HoldNamespaces(std::string_view kinds) {
  int flags = 0;
  for (std::string_view kind : Split(kinds, ',')) {
    if (kind == "user") flags |= CLONE_NEWUSER;
    if (kind == "net") flags |= CLONE_NEWNET;
    if (kind == "ipc") flags |= CLONE_NEWIPC;
    if (kind == "uts") flags |= CLONE_NEWUTS;
  }
  // In one call: the kernel makes the user namespace first and lets it own the others.
  int error = unshare(flags) == 0 ? 0 : errno;
  if (write(kHelperSocket, &error, sizeof error) != sizeof error) return 1;
  char byte;
  while (read(kHelperSocket, &byte, 1) < 0 && errno == EINTR) {
  }
  return error == 0 ? 0 : 1;
}

}  // namespace crisp::sys
