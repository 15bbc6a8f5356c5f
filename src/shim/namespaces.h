// The pod's namespaces, pinned by the shim: IPC and UTS as open descriptors (named /proc/<shim>/fd/<n> for the OCI
// runtime), a shared PID namespace by a tiny init process, the user namespace, which crispd made, as a descriptor too.
// The shim itself stays in the node's namespaces, so the OCI runtimes and hooks that it starts run where they would run
// without it.
#pragma once

#include <string>

#include "shim/children.h"
#include "shimapi/message.h"

namespace crisp::shim {

class Namespaces {
 public:
  // Makes what `request` asks for; `fds` are those of the message. On an error nothing stays.
  Result<> SetUp(const shimapi::SetupPod& request, std::vector<sys::UniqueFd> fds, Children& children);
  bool set_up() const { return set_up_; }
  void FillIn(shimapi::HelloReply& reply) const;
  // Ends the init of a shared PID namespace and, by that, everything inside. Reaped through Children.
  void KillInit();
  bool init_runs() const { return init_pid_ > 0; }
  // It ran, and everything inside has ended with it: nothing can be started in the pod any more.
  bool init_ended() const { return init_ended_; }

 private:
  Result<> Take(const shimapi::SetupPod& request, std::vector<sys::UniqueFd> fds);
  Result<> MakeInside(const shimapi::SetupPod& request, Children& children);
  Result<> StartInit(const std::string& empty_mounts, Children& children);
  bool set_up_ = false;
  sys::UniqueFd user_, ipc_, uts_;
  sys::UniqueFd net_;  // during SetUp only: it is pinned by others
  std::string net_path_;
  pid_t init_pid_ = 0;
  bool init_ended_ = false;
};

// A sysctl of a namespace that is the pod's own, and no way to a file beside it: net.*, kernel.shm*, kernel.msg*,
// kernel.sem, fs.mqueue.*. The path below /proc/sys.
Result<std::string> SysctlFile(const std::string& name, bool own_net, bool own_ipc);

}  // namespace crisp::shim
