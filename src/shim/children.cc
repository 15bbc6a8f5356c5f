#include "shim/children.h"

#include <sys/wait.h>

#include <cerrno>
#include <vector>

namespace crisp::shim {

namespace {

enum class Peek { kReap, kLeave };

// 0: no such child has ended.
pid_t WaitChild(idtype_t type, pid_t pid, Peek peek, sys::ExitStatus& status) {
  siginfo_t info{};
  int flags = WEXITED | WNOHANG | (peek == Peek::kLeave ? WNOWAIT : 0);
  int result;
  do {
    result = waitid(type, static_cast<id_t>(pid), &info, flags);
  } while (result != 0 && errno == EINTR);
  if (result != 0 || info.si_pid == 0) return 0;
  if (info.si_code == CLD_EXITED) {
    status = {info.si_status, 0};
  } else {
    status = {128 + info.si_status, info.si_status};
  }
  return info.si_pid;
}

}  // namespace

void Children::Add(pid_t pid, Callback on_exit) { known_[pid] = Child{std::move(on_exit), false}; }

void Children::AddRuntime(pid_t pid, Callback on_exit) {
  known_[pid] = Child{std::move(on_exit), true};
  ++runtimes_;
}

bool Children::IsOurs(pid_t pid) const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

bool Children::ReapKnown() {
  std::vector<pid_t> pids;
  pids.reserve(known_.size());
  for (const auto& [pid, child] : known_) pids.push_back(pid);
  bool any = false;
  for (pid_t pid : pids) {
    sys::ExitStatus status;
    if (!known_.contains(pid) || WaitChild(P_PID, pid, Peek::kReap, status) == 0) continue;
    Child child = std::move(known_[pid]);
    known_.erase(pid);
    any = true;
    child.on_exit(status);  // may add the process that a runtime has made
    if (child.runtime) --runtimes_;
  }
  return any;
}

void Children::Reap() {
  while (true) {
    while (ReapKnown()) {
    }
    if (runtimes_ > 0) return;
    sys::ExitStatus status;
    pid_t pid = WaitChild(P_ALL, 0, Peek::kLeave, status);
    if (pid == 0) return;
    if (!known_.contains(pid)) WaitChild(P_PID, pid, Peek::kReap, status);
  }
}

}  // namespace crisp::shim
