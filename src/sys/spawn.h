// Starting other programs. crispd never forks: everything goes through posix_spawn (glibc: CLONE_VM|CLONE_VFORK, so a
// big multi-threaded parent costs nothing), and a child is waited for and signalled by its pidfd only.
// Threading: any thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "sys/fd.h"

namespace crisp::sys {

// A program to be run, as a value.
struct Command {
  std::string program;             // absolute path, or a name looked up in our PATH
  std::string argv0;               // what the program is called; "" = `program`
  std::vector<std::string> args;   // without argv[0]
  std::optional<std::vector<std::string>> env;  // "KEY=value"; our own environment when unset
  std::string working_dir;         // ours when empty
  // Child's descriptor number → our descriptor. 0, 1, 2 not named here become /dev/null. Nothing else is inherited.
  std::map<int, BorrowedFd> fds;
  bool new_session = false;        // setsid: a daemon that shall outlive us
  std::string Text() const;        // for messages: program and arguments
};

struct ExitStatus {
  int code = 0;    // exit code, or 128 + signal
  int signal = 0;  // the signal that killed it, or 0
};

// A running child. Move-only; does not kill or reap in its destructor: say what you want.
class Process {
 public:
  Process(pid_t pid, UniqueFd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid() const { return pid_; }
  BorrowedFd pidfd() const { return pidfd_; }
  Result<> Signal(int signal) const;  // gone: success
  // Waits until it ends and reaps it. kDeadlineExceeded/kCancelled leave it running.
  Result<ExitStatus> Wait(const Ctx& ctx) const;

 private:
  pid_t pid_;
  UniqueFd pidfd_;
};

Result<Process> Spawn(const Command& command);

struct RunOptions {
  std::string input;                         // given on stdin
  size_t output_bytes_max = 1u << 20;        // of stdout and of stderr each; more: the child is killed
  std::chrono::milliseconds timeout{30'000};  // also bounded by ctx
};
struct RunResult {
  ExitStatus status;
  std::string out;
  std::string err;
};
// Runs to the end and collects the output. When ctx or the timeout ends, the child and what it has started in its process
// group are killed, the child is reaped, and the result is an error; a non-zero exit is no error here.
Result<RunResult> Run(const Ctx& ctx, const Command& command, const RunOptions& options = {});

Result<UniqueFd> PidfdOpen(pid_t pid);
Result<> PidfdSignal(BorrowedFd pidfd, int signal);  // ESRCH: success

}  // namespace crisp::sys
