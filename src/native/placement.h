// Where a new process belongs: cgroups and namespaces. In the child; internal.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "native/launch.h"
#include "sys/fd.h"

namespace crisp::native {

// Process `pid`, which has one thread, joins; 0: the caller. `v2_done`: it was born in the v2 cgroup.
Result<> JoinCgroups(const CgroupPlace& place, bool v2_done, pid_t pid = 0);

// The v1 files by which processes join, opened now for whoever cannot reach them later.
class CgroupFiles {
 public:
  Result<> Open(std::span<const std::string> v1_dirs);
  // The caller, which has one thread, joins, and closes the files.
  Result<> Join();

 private:
  std::vector<sys::UniqueFd> files_;
};

// Those of `join` but user and PID namespaces, opened now and entered in Enter: so that files of the node can be opened
// before and entered after a user namespace is.
class NamespaceFiles {
 public:
  Result<> Open(const std::vector<JoinNamespace>& join);
  Result<> Enter() const;

 private:
  struct Entry {
    uint64_t type;
    sys::UniqueFd fd;
  };
  std::vector<Entry> entries_;
};

// Enters it and becomes its root.
Result<> EnterUserNamespace(sys::BorrowedFd userns);
Result<> BecomeRoot();

// A namespace of the maps that belongs to nobody: for mounts whose ids are mapped.
Result<sys::UniqueFd> MakeUserNamespace(const std::vector<IdMapping>& uids, const std::vector<IdMapping>& gids);
Result<> WriteIdMaps(pid_t pid, const std::vector<IdMapping>& uids, const std::vector<IdMapping>& gids);

const char* NamespaceName(uint64_t type);  // "net"

}  // namespace crisp::native
