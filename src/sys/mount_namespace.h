// A mount namespace with nothing of the node in it: a copy of it costs two mounts, a copy of the node's own as many as
// the node has, several for each pod.
#pragma once

#include "sys/fd.h"

namespace crisp::sys {

// All that there is is an empty read-only directory. Made on a thread of its own; it lives while the descriptor does.
// Blocking: copies the node's mounts once, some ms with many pods. A process enters a copy of its own by setns and
// unshare (CLONE_NEWNS): one that it alone changes.
Result<UniqueFd> MakeBareMountNamespace();

}  // namespace crisp::sys
