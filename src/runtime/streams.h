// StreamSession: an exec that somebody talks to, or a client that is attached to a container. What it says and hears
// goes through descriptors that lead to the process or to its shim: no byte of it passes through this module.
//
// Threading: calls on one session are the caller's to serialise; none blocks for longer than a message to a shim takes.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "sys/fd.h"

namespace crisp::runtime {

// Which streams a client wants. Legal, as the kubelet's streaming library has it: at least one of them, and stderr not
// together with a terminal (which has one output only).
struct StreamWants {
  bool tty = false, in = false, out = false, err = false;
};

// Non-blocking and close-on-exec, all of them. A stream that was not asked for, or that the container has not, is not
// ok().
struct StreamFds {
  sys::UniqueFd
      in;  // write end of the process's stdin; closing it is its end of file (a terminal has none: send it ^D)
  sys::UniqueFd out;  // read end of stdout, or of the terminal
  sys::UniqueFd err;  // read end of stderr; a terminal has none
};
// Of an exec with a terminal `in` and `out` are duplicates of the terminal's master: when the last process has closed
// the terminal, reading says EIO, which is its end of file.

// When OnExit has come, everything that the exec's own process wrote is in the pipes: read on until the end of file. A
// process that it left behind (`sh -c "daemon &"`) may hold a pipe open for ever, though. So from this time after the
// exit on, the first moment in which a pipe has nothing to read counts as its end; and so do a pipe's worth of bytes
// (F_GETPIPE_SZ) read after that time, for one that never stops writing. The same as for ExecSync. (An attach needs
// none of this: its pipes are closed by the shim.)
inline constexpr std::chrono::milliseconds kStreamDrainTime{100};

class StreamSession {
 public:
  // Ends it: an exec is killed with everything that it has started (its sub-cgroup), unless its process has ended by
  // itself; an attach is detached, and the container does not notice (but for stdin_once). Returns at once, the shim
  // does the rest. After it OnExit's callback is not running and never will.
  virtual ~StreamSession() = default;

  // Once; the second time all are not ok().
  virtual StreamFds TakeFds() = 0;
  // Of the terminal, in characters. kFailedPrecondition without one.
  virtual Result<> Resize(uint16_t width, uint16_t height) = 0;
  // `callback` is called once, with the exit code (128 + signal) of the exec's process or of the attached container, or
  // with the error that ended the session: kUnavailable, the shim is gone; kResourceExhausted, an attached client did
  // not read. On another thread, or from within OnExit when it is over already. It returns quickly and must not destroy
  // the session. Of an attach all output is in the pipes, and the pipes are closed, when it comes. Replaces an earlier
  // callback.
  virtual void OnExit(std::function<void(Result<int>)> callback) = 0;
};

}  // namespace crisp::runtime
