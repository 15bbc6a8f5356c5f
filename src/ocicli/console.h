// The terminal of a container's process: handed to whoever asked for it, or relayed to our own stdio.
#pragma once

#include <sys/types.h>

#include <string>

#include "sys/fd.h"

namespace crisp::ocicli {

// Sends the master over the unix socket at `path` (SCM_RIGHTS), with the terminal's name as text, as runc does.
Result<> SendTerminal(const std::string& path, sys::BorrowedFd master);

// Until our child `pid` has ended and `terminal` (not ok(): none) has nothing more to say: copies between it and our
// stdio, passes signals on, reaps all children. Changes the signal mask. The exit code, 128 + n for signal n.
Result<int> StayInForeground(pid_t pid, sys::UniqueFd terminal);

}  // namespace crisp::ocicli
