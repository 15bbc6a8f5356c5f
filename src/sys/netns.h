// Network namespaces: made and entered on threads of their own, so that no shared thread ever changes its namespace,
// and pinned by a bind mount (man 7 namespaces) so that they outlive us.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sys/fd.h"
#include "sys/netlink_route.h"

namespace crisp::sys {

struct NewNetns {
  UniqueFd fd;        // the namespace lives while this or a pin does
  RouteSocket route;  // works inside it
};

// The root of an instance of proc of its own, mounted nowhere, for the sysctls of a few namespaces. Below /proc the kernel
// keeps a namespace's net/ipv4 and net/ipv6 from the first look until the namespace ends, in one hash chain for all of
// them: with 700 pods every look, the host's too, would take 0.9 ms. Closing it takes 0.15 ms.
Result<UniqueFd> OpenOwnProc();

// A new, empty namespace with lo up. `sysctls` (path below /proc/sys, value) are set inside, by `proc` (else by /proc); a
// missing file is skipped (a kernel without IPv6). Blocking: 0.3-0.5 ms.
using Sysctls = std::vector<std::pair<std::string, std::string>>;
Result<NewNetns> CreateNetns(const Sysctls& sysctls = {}, std::optional<BorrowedFd> proc = {});

// The same for a new namespace that somebody else made (one that a user namespace owns).
Result<NewNetns> FurnishNetns(UniqueFd netns, const Sysctls& sysctls = {}, std::optional<BorrowedFd> proc = {});

// Binds the namespace to `path` (a new file). Unpin undoes it; not pinned or missing is success.
Result<> PinNetns(BorrowedFd netns, const std::string& path);
Result<> UnpinNetns(const std::string& path);
// Of a pin; kNotFound when it is missing, kFailedPrecondition when it is no network namespace.
Result<UniqueFd> OpenNetns(const std::string& path);

// Runs `work` on a thread that has entered the namespace, and waits for it.
Result<> RunInNetns(BorrowedFd netns, const std::function<Result<>()>& work);
Result<RouteSocket> OpenRouteSocketIn(BorrowedFd netns);

}  // namespace crisp::sys
