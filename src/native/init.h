// The processes that a start consists of: the container's own, and a helper where one is needed. Each runs in a child
// that has just been made, and never returns. Internal.
//
//   no hooks, no other user namespace:  launcher ── clone3 ──► container's process
//   else:                               launcher ──► stage ──► container's process (CLONE_PARENT: the launcher's child)
//   exec in a PID namespace:            launcher ──► entrance ──► the process (CLONE_PARENT); the entrance in the
//                                       launcher's memory where it may, so that nothing is copied for it
//   a user namespace to be joined:      launcher ──► stage, and ──► entrance ──► container's process
// The stage stays in the node's namespaces and runs the hooks; the entrance has no way back from the user namespace.
#pragma once

#include <string_view>

#include "native/launch.h"
#include "native/launcher.h"

namespace crisp::native {

// Of the node, or of the launcher: what a child is made from.
struct InitContext {
  std::string_view bytes;  // the Launch or ExecLaunch
  LaunchOptions options;
  int status = -1;  // socket of status.h
  int pidfd = -1;   // exec: of the container's process
  bool v2_joined = false;
  bool bare = false;  // Head::bare: it was made in the launcher's mount namespace, and is to leave that
};

[[noreturn]] void RunContainer(const InitContext& context);
[[noreturn]] void RunStage(const InitContext& context);
[[noreturn]] void RunExec(const InitContext& context);
// The entrance of an exec, in the memory of the launcher, which sleeps meanwhile (CLONE_VM | CLONE_VFORK): it changes
// nothing there and leaves nothing behind. It must not wait for anything, so it joins only those
// of the container's cgroups that cannot hold it up; the process joins the rest itself. Returns its exit code.
int RunExecEntrance(const InitContext& context);

}  // namespace crisp::native
