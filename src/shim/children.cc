#include "shim/children.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/strings.h"
#include "sys/file.h"

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

void Children::Adopt(pid_t pid, std::function<void()> adopted) { adoptions_[pid] = std::move(adopted); }

bool Children::TakeAdopted() {
  for (auto it = adoptions_.begin(); it != adoptions_.end(); ++it) {
    siginfo_t info{};
    // Succeeds for our children only, alive or zombie.
    if (waitid(P_PID, static_cast<id_t>(it->first), &info, WEXITED | WNOHANG | WNOWAIT) != 0) continue;
    std::function<void()> adopted = std::move(it->second);
    adoptions_.erase(it);
    adopted();
    return true;
  }
  return false;
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
    while (ReapKnown() || TakeAdopted()) {
    }
    if (runtimes_ > 0 || !adoptions_.empty()) return;
    sys::ExitStatus status;
    pid_t pid = WaitChild(P_ALL, 0, Peek::kLeave, status);
    if (pid == 0) return;
    if (!known_.contains(pid)) WaitChild(P_PID, pid, Peek::kReap, status);
  }
}

static std::vector<pid_t> ChildrenOf(pid_t pid) {
  std::vector<pid_t> found;
  std::string tasks = StrCat("/proc/", pid, "/task");
  DIR* dir = opendir(tasks.c_str());
  if (dir == nullptr) return found;
  while (dirent* entry = readdir(dir)) {
    Result<std::string> children = sys::ReadFile(StrCat(tasks, "/", entry->d_name, "/children"));
    if (!children) continue;
    for (std::string_view word : SplitWords(*children)) {
      if (std::optional<pid_t> child = ParseInt<pid_t>(Trim(word))) found.push_back(*child);
    }
  }
  closedir(dir);
  return found;
}

void KillTree(pid_t pid) {
  constexpr size_t kMax = 10'000;
  std::vector<pid_t> all{pid};
  for (size_t i = 0; i < all.size() && all.size() < kMax; ++i) {
    std::vector<pid_t> children = ChildrenOf(all[i]);
    all.insert(all.end(), children.begin(), children.end());
  }
  // From the top, so that no parent that is still alive makes another.
  for (pid_t one : all) kill(one, SIGKILL);
}

void KillChildrenByArgument(std::string_view argument) {
  for (pid_t child : ChildrenOf(getpid())) {
    Result<std::string> line = sys::ReadFile(StrCat("/proc/", child, "/cmdline"));
    if (!line) continue;
    std::vector<std::string_view> words = Split(*line, '\0');
    if (std::find(words.begin(), words.end(), argument) != words.end()) KillTree(child);
  }
}

}  // namespace crisp::shim
