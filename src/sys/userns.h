// User namespaces and what is owned by them (user_namespaces(7)). Only a process with a single thread may make or enter
// a user namespace, and crispd has many: a helper program makes it, we write its maps from outside and keep
// descriptors. Nothing is left of the helper; a namespace lives as long as a descriptor, a process or a mount uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/context.h"
#include "sys/fd.h"
#include "sys/spawn.h"

namespace crisp::sys {

// `length` ids from `inside` on are those from `outside` on in our own user namespace.
struct IdRange {
  uint32_t inside = 0, outside = 0, length = 0;
  bool operator==(const IdRange&) const = default;
};
struct IdMaps {
  std::vector<IdRange> uids, gids;
  bool operator==(const IdMaps&) const = default;
};

struct UsernsRequest {
  IdMaps maps;
  bool net = false, ipc = false, uts = false;  // further new namespaces, owned by the user namespace
};
struct OwnedNamespaces {
  UniqueFd user, net, ipc, uts;
};

// `helper` is run as `<helper> --hold-namespaces user[,net][,ipc][,uts]`: see HoldNamespaces. Any thread; blocks for
// about a millisecond, at most 10 s. kInvalidArgument: the kernel does not take the maps.
Result<OwnedNamespaces> MakeUserns(const Ctx& ctx, const std::string& helper, const UsernsRequest& request);

// A process of the helper's that does nothing, for who needs a process before there is one. The destructor ends it, and so
// does our own end.
class IdleProcess {
 public:
  static Result<std::unique_ptr<IdleProcess>> Start(const std::string& helper);
  ~IdleProcess();
  pid_t pid() const { return process_.pid(); }

 private:
  IdleProcess(UniqueFd socket, Process process) : socket_(std::move(socket)), process_(std::move(process)) {}
  UniqueFd socket_;  // its end is the helper's sign to end
  Process process_;
};

// What the helper does in its only thread: unshares what `kinds` names, writes the errno of that (4 bytes) to
// descriptor 3 and waits until its other end is closed. The exit code.
int HoldNamespaces(std::string_view kinds);

}  // namespace crisp::sys
