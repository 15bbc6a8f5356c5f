#include "cgroup/tree.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/strings.h"
#include "sys/fd.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::cgroup {

namespace {

// The kernel reports a cgroup that goes away in the middle of a read as ENODEV, one that is gone as ENOENT.
bool IsGone(const Error& error) { return error.os_errno() == ENOENT || error.os_errno() == ENODEV; }

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

Result<std::vector<std::string>> ChildDirs(const std::string& dir) {
  std::unique_ptr<DIR, CloseDir> stream(opendir(dir.c_str()));
  if (stream == nullptr) return Errno(errno, "open " + dir);
  std::vector<std::string> names;
  while (dirent* entry = readdir(stream.get())) {
    std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

Result<> AppendTree(const std::string& dir, std::vector<std::string>& out) {
  Result<std::vector<std::string>> names = ChildDirs(dir);
  if (!names) {
    if (IsGone(names.error())) return {};
    return std::move(names).error();
  }
  for (const std::string& name : *names) TRY(AppendTree(StrCat(dir, "/", name), out));
  out.push_back(dir);
  return {};
}

Result<> AppendProcesses(const std::string& dir, std::vector<pid_t>& out) {
  Result<std::string> text = sys::ReadFile(dir + "/cgroup.procs", 64u << 20);
  if (!text) {
    // A threaded v2 cgroup answers EOPNOTSUPP: its processes are listed by the domain above it.
    if (IsGone(text.error()) || text.error().os_errno() == EOPNOTSUPP) return {};
    return std::move(text).error();
  }
  for (std::string_view line : SplitWords(*text)) {
    if (auto pid = ParseInt<pid_t>(line); pid && *pid > 0) out.push_back(*pid);
  }
  return {};
}

struct Victim {
  pid_t pid;
  sys::UniqueFd pidfd;
};

// A pid read from cgroup.procs may have been given to another process by the time its pidfd is open. So the list is
// read again afterwards: who is in both is ours, or its pidfd names a dead process, which a signal does not hurt.
Result<std::vector<Victim>> OpenVictims(const std::string& dir) {
  std::vector<Victim> opened;
  for (pid_t pid : TRY(ProcessesBelow(dir))) {
    if (Result<sys::UniqueFd> fd = sys::PidfdOpen(pid)) opened.push_back({pid, std::move(*fd)});
  }
  if (opened.empty()) return opened;
  std::vector<pid_t> still = TRY(ProcessesBelow(dir));
  std::erase_if(opened, [&](const Victim& v) { return !std::binary_search(still.begin(), still.end(), v.pid); });
  return opened;
}

// Until one of them has ended, or for `timeout_ms`.
void WaitForAnEnd(const std::vector<Victim>& victims, int timeout_ms) {
  std::vector<pollfd> polls;
  for (const Victim& victim : victims) polls.push_back({victim.pidfd.get(), POLLIN, 0});
  poll(polls.data(), polls.size(), timeout_ms);
}

void Freeze(const std::string& freezer_dir, std::string_view state) {
  if (!freezer_dir.empty()) {
    // Best effort: without freezing a fork bomb takes more rounds, that is all.
    Result<> ignored = sys::WriteExisting(freezer_dir + "/freezer.state", state);
  }
}

bool Populated(const std::string& events) { return events.find("populated 1") != std::string::npos; }

}  // namespace

Result<std::vector<std::string>> ListTree(const std::string& dir) {
  std::vector<std::string> out;
  TRY(AppendTree(dir, out));
  return out;
}

Result<std::vector<pid_t>> ProcessesBelow(const std::string& dir) {
  std::vector<pid_t> pids;
  for (const std::string& each : TRY(ListTree(dir))) TRY(AppendProcesses(each, pids));
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

Result<> KillBySignals(const Ctx& ctx, const std::string& dir, const std::string& freezer_dir) {
  while (true) {
    Freeze(freezer_dir, "FROZEN");
    Result<std::vector<Victim>> victims = OpenVictims(dir);
    if (victims) {
      for (const Victim& victim : *victims) {
        Result<> ignored = sys::PidfdSignal(victim.pidfd, SIGKILL);
      }
    }
    Freeze(freezer_dir, "THAWED");  // on every way out: a frozen process cannot die of its signal
    if (!victims) return std::move(victims).error();
    if (victims->empty()) {
      // Nothing to wait for by descriptor: either all gone, or what is listed died between the two reads.
      if (TRY(ProcessesBelow(dir)).empty()) return {};
    }
    TRY(ctx.Check(), StrCat("kill processes of cgroup ", dir));
    // 100 ms at most: a process that forked before it got its signal shows up only by looking again.
    WaitForAnEnd(*victims, std::min(victims->empty() ? 1 : 100, ctx.PollTimeoutMs()));
  }
}

Result<> KillByFile(const Ctx& ctx, const std::string& dir) {
  sys::UniqueFd events;
  if (Result<sys::UniqueFd> fd = sys::Open(dir + "/cgroup.events", O_RDONLY)) {
    events = std::move(*fd);
  } else {
    if (IsGone(fd.error())) return {};
    return std::move(fd).error();
  }
  if (Result<> killed = sys::WriteExisting(dir + "/cgroup.kill", "1"); !killed) {
    if (!sys::Exists(dir)) return {};
    if (killed.error().os_errno() == ENOENT) return std::move(killed).error().As(Code::kUnimplemented);
    return killed;
  }
  while (true) {
    // Reading arms POLLPRI for the next change (kernfs notification).
    char text[256];
    ssize_t n = pread(events.get(), text, sizeof text, 0);
    if (n < 0 && errno == ENODEV) return {};
    if (n < 0) return Errno(errno, StrCat("read ", dir, "/cgroup.events"));
    if (!Populated(std::string(text, static_cast<size_t>(n)))) return {};
    TRY(ctx.Check(), StrCat("kill processes of cgroup ", dir));
    pollfd poll_events{events.get(), POLLPRI, 0};
    poll(&poll_events, 1, std::min(1000, ctx.PollTimeoutMs()));
  }
}

Result<> FreezeV1(const Ctx& ctx, const std::string& dir, bool frozen) {
  const std::string file = dir + "/freezer.state";
  while (true) {
    // Written again each time: a process that forked meanwhile keeps it FREEZING (cgroup-v1/freezer-subsystem.rst).
    TRY(sys::WriteExisting(file, frozen ? "FROZEN" : "THAWED"));
    std::string state = TRY(sys::ReadFile(file));
    if (Trim(state) == (frozen ? "FROZEN" : "THAWED")) return {};
    if (Result<> on = ctx.Check(); !on) {
      if (frozen) TRY(sys::WriteExisting(file, "THAWED"));
      return on;
    }
    poll(nullptr, 0, std::min(1, ctx.PollTimeoutMs()));
  }
}

Result<> FreezeV2(const Ctx& ctx, const std::string& dir, bool frozen) {
  sys::UniqueFd events = TRY(sys::Open(dir + "/cgroup.events", O_RDONLY));
  TRY(sys::WriteExisting(dir + "/cgroup.freeze", frozen ? "1" : "0"));
  while (true) {
    char text[256];
    ssize_t n = pread(events.get(), text, sizeof text, 0);
    if (n < 0) return Errno(errno, StrCat("read ", dir, "/cgroup.events"));
    std::string_view now(text, static_cast<size_t>(n));
    if (now.find(frozen ? "frozen 1" : "frozen 0") != std::string_view::npos) return {};
    if (Result<> on = ctx.Check(); !on) {
      if (frozen) TRY(sys::WriteExisting(dir + "/cgroup.freeze", "0"));
      return on;
    }
    pollfd changed{events.get(), POLLPRI, 0};
    poll(&changed, 1, std::min(1000, ctx.PollTimeoutMs()));
  }
}

Result<> RemoveEmptyTree(const Ctx& ctx, const std::string& dir) {
  while (true) {
    bool busy = false;
    for (const std::string& each : TRY(ListTree(dir))) {
      if (rmdir(each.c_str()) == 0 || errno == ENOENT || errno == ENODEV) continue;
      if (errno != EBUSY && errno != ENOTEMPTY) return Errno(errno, "rmdir " + each);
      busy = true;
    }
    if (!busy) return {};
    TRY(ctx.Check(), StrCat("remove cgroup ", dir));
    std::vector<Victim> left = TRY(OpenVictims(dir));
    if (!left.empty()) {
      return Error(Code::kFailedPrecondition, StrCat("cgroup ", dir, " has got a process again: ", left[0].pid));
    }
    // Empty and yet busy: its last task is on its way out of the scheduler (cgroup_task_dead), which nothing announces on
    // v1. The only place where we wait by the clock.
    poll(nullptr, 0, std::min(1, ctx.PollTimeoutMs()));
  }
}

}  // namespace crisp::cgroup
