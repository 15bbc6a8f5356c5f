// Carries out a Launch: makes the container's process, in its namespaces, its root and with its privileges, and says when
// the container's own program runs. Nothing of another program is executed but hooks.
//
// Threading: for a single-threaded process (the pod's shim, crisp-oci): children are copies of the caller, and the caller's
// PID namespace for children changes for a moment. The caller blocks neither in Start nor in Advance: it watches fd(). It
// is, or becomes for the children, the parent: it reaps pid(), and helper_pid() where that is set; with hooks, a new user
// namespace or one to join, a further short-lived child of the caller's may be seen.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "native/launch.h"
#include "sys/fd.h"

namespace crisp::native {

struct LaunchOptions {
  // The process's stdio; the terminal's where the process has one, then only for hooks. All valid.
  int in = -1, out = -1, err = -1;
  // A fifo opened O_RDWR: the process is made but waits for one byte before it becomes the container's program (OCI's
  // "created"). -1: it goes on at once.
  int start_fifo = -1;
  // With start_fifo, the read end of a pipe then: nobody is told of kCreated, and the process waits as late as it can,
  // with its privileges dropped. Where the pipe's other end is closed it ends, as where the launcher does.
  bool wait_late = false;
  int preserve_fds = 0;  // 3 … 3+n-1 go on to the process
};

class Launching {
 public:
  // `launch`: of Encode. It is read until the return; the children have copies.
  static Result<Launching> Start(std::string_view launch, const LaunchOptions& options);
  // Into the container whose process `pidfd` is.
  static Result<Launching> StartExec(std::string_view exec_launch, sys::BorrowedFd pidfd, const LaunchOptions& options);

  Launching(Launching&&) = default;
  Launching& operator=(Launching&&) = default;

  // Readable when there is something for Advance.
  sys::BorrowedFd fd() const { return socket_; }
  enum class Progress {
    kWorking,
    kCreated,  // waits for the fifo's byte; fd() tells of nothing but the end of that
    kRunning,  // the program runs. Nothing more comes
  };
  // Takes what has come, without waiting. An error is the end: the process was not started, or could not become its program;
  // what is left of it ends by itself and is to be reaped all the same. It comes again at each further call.
  Result<Progress> Advance();

  pid_t pid() const { return pid_; }               // of the container's process; 0 until it is known
  pid_t helper_pid() const { return helper_pid_; }  // 0: none
  // The master of the terminal, once: valid from kCreated or kRunning on.
  sys::UniqueFd TakeTerminal() { return std::move(terminal_); }

 private:
  explicit Launching(sys::UniqueFd socket) : socket_(std::move(socket)) {}
  friend class Starter;
  sys::UniqueFd socket_, terminal_;
  pid_t pid_ = 0, helper_pid_ = 0;
  bool about_to_run_ = false;
  std::optional<std::pair<Code, std::string>> failure_;  // what Advance has returned, and returns again
  Progress progress_ = Progress::kWorking;
};

}  // namespace crisp::native
