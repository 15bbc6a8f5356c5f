// All child processes of the shim: the ones it knows (OCI runtimes at work, containers' inits, exec'd processes, the pod's
// init) and orphans, which come to it because it is a child subreaper. Every zombie is reaped.
//
// The race this solves: a container's init may die before the runtime that made it has told us its pid. While any
// runtime is at work, unknown zombies are therefore left alone; once none is, they are orphans for certain. (runc's
// init becomes our child when runc exits; crun forks twice, so its init may be ours while crun still runs.)
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
  bool IsOurs(pid_t pid) const;  // a child of this process, alive or zombie
  // On SIGCHLD, and after Add of a process that may be dead already.
  void Reap();
  size_t known() const { return known_.size(); }

 private:
  struct Child {
    Callback on_exit;
    bool runtime;
  };
  bool ReapKnown();
  std::map<pid_t, Child> known_;
  int runtimes_ = 0;
};

}  // namespace crisp::shim
