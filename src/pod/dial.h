// A connection to localhost inside a network namespace: the pod's end of a forwarded port.
#pragma once

#include <cstdint>
#include <string>

#include "base/context.h"
#include "sys/fd.h"

namespace crisp::pod {

// Non-blocking, connected; 127.0.0.1 before ::1. `netns_path` "": the node's own network. Blocks until connected,
// refused by both (kUnavailable, naming both reasons) or the end of `ctx`. Any thread: the caller's own stays where it
// is.
Result<sys::UniqueFd> DialLocalhost(const Ctx& ctx, const std::string& netns_path, uint16_t port);

}  // namespace crisp::pod
