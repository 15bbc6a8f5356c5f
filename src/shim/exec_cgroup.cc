#include "shim/exec_cgroup.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::shim {

Result<> ExecCgroup::Make() {
  for (const std::string& dir : dirs_) {
    if (mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST) {
      Error error = Errno(errno, "mkdir " + dir);
      Remove();
      return error;
    }
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
      Result<std::string> own = sys::ReadFile(dir + file);
      if (!own || !Trim(*own).empty()) continue;
      Result<std::string> parents = sys::ReadFile(StrCat(dir, "/..", file));
      // v2's files may be empty: there that means the parent's.
      if (parents && !Trim(*parents).empty()) TRY(sys::WriteExisting(dir + file, Trim(*parents)));
    }
  }
  return {};
}

void ExecCgroup::Kill() {
  if (dirs_.empty()) return;
  const std::string& dir = dirs_.front();
  if (sys::WriteExisting(dir + "/cgroup.kill", "1")) return;
  // Errors: the cgroup is gone, or this is no freezer; the caller asks Empty and comes again.
  (void)sys::WriteExisting(dir + "/freezer.state", "FROZEN").has_value();
  Result<std::string> pids = sys::ReadFile(dir + "/cgroup.procs");
  if (pids) {
    for (std::string_view line : Split(*pids, '\n')) {
      // A frozen process cannot end and be replaced by another of the same number.
      if (std::optional<pid_t> pid = ParseInt<pid_t>(line); pid && *pid > 1) kill(*pid, SIGKILL);
    }
  }
  (void)sys::WriteExisting(dir + "/freezer.state", "THAWED").has_value();
}

bool ExecCgroup::Empty() const {
  if (dirs_.empty()) return true;
  Result<std::string> pids = sys::ReadFile(dirs_.front() + "/cgroup.procs");
  return !pids || Trim(*pids).empty();
}

bool ExecCgroup::Remove() {
  std::erase_if(dirs_, [](const std::string& dir) { return rmdir(dir.c_str()) == 0 || errno == ENOENT; });
  return dirs_.empty();
}

}  // namespace crisp::shim
