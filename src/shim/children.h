// All child processes of the shim: the ones it knows (OCI runtimes at work, containers' inits, exec'd processes, the pod's
// init) and orphans, which come to it because it is a child subreaper. Every zombie is reaped.
//
// The race this solves: a container's init may die before the runtime that made it has told us its pid. While any
// runtime is at work, unknown zombies are therefore left alone; once none is, they are orphans for certain. runc's init
// becomes our child when runc exits. crun forks a worker: its init may be ours while crun still runs, or a moment after
// crun has ended, when the worker ends, too.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>

#include "sys/spawn.h"

namespace crisp::shim {

class Children {
 public:
  using Callback = std::function<void(sys::ExitStatus)>;
  // `pid` is a child of ours and not reaped yet. The callback runs once, from Reap, with the process already reaped.
  void Add(pid_t pid, Callback on_exit);
  // The same for a runtime at work: until its callback has run, unknown zombies wait.
  void AddRuntime(pid_t pid, Callback on_exit);
  // No callback for it any more: it is an unknown one.
  void Forget(pid_t pid) { known_.erase(pid); }
  // `pid` is or soon will be our child, because a runtime's worker that is its parent is about to end. Calls `adopted` from
  // Reap once it is; unknown zombies wait until then. Forget: it is not waited for any longer.
  void Adopt(pid_t pid, std::function<void()> adopted);
  void ForgetAdoption(pid_t pid) { adoptions_.erase(pid); }
  // Unknown zombies wait until as many Releases came: a process that is being started has no callback yet.
  void Hold() { ++runtimes_; }
  void Release() { --runtimes_; }
  // On SIGCHLD, and after Add of a process that may be dead already.
  void Reap();
  size_t known() const { return known_.size(); }

 private:
  struct Child {
    Callback on_exit;
    bool runtime;
  };
  bool ReapKnown();
  bool TakeAdopted();
  std::map<pid_t, Child> known_;
  std::map<pid_t, std::function<void()>> adoptions_;
  int runtimes_ = 0;
};

// SIGKILL to `pid` and everything that descends from it, as far as parents are still alive. For a runtime that hangs: its
// workers and hooks. (Children of processes that ended before are somebody else's by then.)
void KillTree(pid_t pid);
// The same for children of ours that have `argument` in their command line: crun's worker, which is not crun's child.
void KillChildrenByArgument(std::string_view argument);

}  // namespace crisp::shim
