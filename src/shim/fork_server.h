// crisp-shim --fork-server FILLER: makes shims by forking itself, for a crispd at the other end of descriptor 3. A fork
// needs no exec and no start of a program (on x86 the C library asks the processor for its features, which a virtual
// machine traps, tens of times), and shares the pages that the start has written.
//
// A request is "POD_ID\0RUN_DIR" with the descriptors of the shim's socket and of its log. The answer is the shim's
// number with its pidfd, or "!" and why there is none. The shim is crispd's child, not ours (CLONE_PARENT). FILLER
// keeps room for "POD_ID\0RUN_DIR" on the command line, which becomes the shim's. Threading: one thread.
#pragma once

#include <optional>
#include <string>

#include "sys/fd.h"

namespace crisp::shim {

struct Forked {
  std::string run_dir;
  sys::UniqueFd listener, log;
};

// Serves. Returns in each new shim, what it is; in the server nothing, when crispd has closed the connection
// or what it says cannot be received.
std::optional<Forked> ServeForks(int argc, char** argv);

}  // namespace crisp::shim
