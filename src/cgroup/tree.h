// One cgroup directory and what is below: listing, killing and removing it. Both cgroup versions.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/context.h"

namespace crisp::cgroup {

// The cgroup directories from `dir` downwards, children before parents. Missing: empty.
Result<std::vector<std::string>> ListTree(const std::string& dir);

// Process ids in `dir` and below, each once. Missing: empty. Zero ids (processes of a namespace we cannot see) are left out.
Result<std::vector<pid_t>> ProcessesBelow(const std::string& dir);

// SIGKILLs every process in `dir` and below until none is left, waiting for their ends by pidfd; catches forks on the
// way by looking again. `freezer_dir` (v1, may be "") is the same cgroup in the freezer hierarchy: frozen while the
// signals are sent, so that no process can fork away, and thawed before the wait.
Result<> KillBySignals(const Ctx& ctx, const std::string& dir, const std::string& freezer_dir);
// cgroup.kill of v2 (Linux 5.14), then waits until cgroup.events says that nothing lives there. kUnimplemented: no such file.
Result<> KillByFile(const Ctx& ctx, const std::string& dir);

// Until the freezer says so: v1's freezer.state, v2's cgroup.freeze and cgroup.events. A freeze that does not end within
// `ctx` is taken back.
Result<> FreezeV1(const Ctx& ctx, const std::string& dir, bool frozen);
Result<> FreezeV2(const Ctx& ctx, const std::string& dir, bool frozen);

// rmdir of the whole tree below and with `dir`, which holds no process any more. Missing: success.
Result<> RemoveEmptyTree(const Ctx& ctx, const std::string& dir);

}  // namespace crisp::cgroup
