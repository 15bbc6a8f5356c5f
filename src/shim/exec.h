// One exec: a process that an OCI runtime puts into a running container, with stdio that belongs to crispd.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "shim/container.h"
#include "shim/exec_cgroup.h"

namespace crisp::shim {

class Exec {
 public:
  // `on_over`: the exec has ended, was reported, and can be destroyed (not from within the callback).
  Exec(Surroundings& around, shimapi::StartExec request, std::function<void(Exec&)> on_over);
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;
  ~Exec();

  // `fds`: stdin, stdout, stderr, and of a native one the launch. An error: nothing was started, and nobody was answered.
  Result<> Start(Asker asker, sys::BorrowedFd container, std::vector<sys::UniqueFd> fds);
  // Kills every process of the exec; `killer` is answered when none is left.
  void Kill(std::optional<Asker> killer);
  // What is left of the exec's cgroup because processes live on in it.
  ExecCgroup TakeLeftover() { return std::move(cgroup_); }
  const std::string& container() const { return request_.container; }
  bool IsStartOf(const Connection* connection, uint32_t seq) const;

 private:
  Result<std::unique_ptr<ProcessStart>> StartProcess(sys::BorrowedFd container, const std::vector<sys::UniqueFd>& fds);
  void OnStarted(Result<NewProcess> process);
  Result<> HandOver(sys::BorrowedFd terminal) const;
  void OnExit(sys::ExitStatus status);
  void KillRound();
  void MaybeOver();
  void AnswerKillers();

  Surroundings& around_;
  shimapi::StartExec request_;
  std::function<void(Exec&)> on_over_;
  ExecCgroup cgroup_;  // without directories once they are removed
  std::unique_ptr<ProcessStart> start_;  // while it is under way
  pid_t pid_ = 0;
  sys::UniqueFd pidfd_;  // while the process runs
  Asker starter_;
  std::vector<Asker> killers_;
  bool killing_ = false;
  bool over_ = false;
  int rounds_ = 0;
  Loop::Id timer_ = 0;
};

}  // namespace crisp::shim
