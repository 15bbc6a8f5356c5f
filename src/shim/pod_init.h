// PID 1 of a pod's shared PID namespace: a copy of the shim (no exec: there is no file it could come from inside) that
// reaps orphans and nothing else. Containers see it, and one with CAP_SYS_PTRACE may trace it, so it gives everything
// away before the first of them can start: no capability, no file system, no system call but those that it needs.
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "sys/fd.h"

namespace crisp::shim {

// Started in the calling thread's network, IPC and UTS namespaces, and in `userns` where that is valid: then the PID
// namespace is owned by it. `empty_mounts`: a mount namespace with nothing in it, of which it gets a copy; not valid:
// it leaves a copy of the node's, which takes longer with every pod. Confined when this returns. A child of ours to
// reap; it ends by SIGKILL from outside, or when its parent does. On an error nothing stays (a child that failed is a
// zombie).
Result<pid_t> StartPodInit(sys::BorrowedFd userns, sys::BorrowedFd empty_mounts);

}  // namespace crisp::shim
