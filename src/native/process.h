// What a process is: privileges, limits, labels, seccomp, and at last the program. In the container's process; internal.
#pragma once

#include "native/launch.h"
#include "sys/fd.h"

namespace crisp::native {

// What is written through the node's /proc, which nobody in a container can have replaced (CVE-2025-52881): before the root
// is changed or joined.
Result<> PrepareProcess(const Process& process);
// The labels that the next program to be executed gets: after the hooks that are none of the container's, before the root is
// changed or joined.
Result<> SetExecLabels(const Process& process);
// Of process `pid`, 0: the caller. Raising a hard limit takes CAP_SYS_RESOURCE in the node's user namespace (kernel/sys.c,
// do_prlimit): from there, where the process is to be in another one.
Result<> SetRlimits(const Process& process, pid_t pid);

// A socket that is to get the seccomp notify descriptor; not ok(): none. Before the root is changed.
Result<sys::UniqueFd> ConnectListener(const Seccomp& seccomp);

struct Becoming {
  sys::UniqueFd terminal;  // slave; becomes the controlling terminal and stdio
  sys::UniqueFd listener;
  int in = -1, out = -1, err = -1;
  int preserve_fds = 0;
  std::string listener_state;  // what the listener gets with the descriptor
};
// Session, stdio, the terminal. Pipes and sockets become the user's, so that it can open /dev/stdout.
Result<> TakeStdio(const Process& process, Becoming& becoming);
// Everything up to exec. From here on errors are those of the container's program as much as ours. `about_to_run` is
// called last.
template <class AboutToRun>
Result<> Become(const Process& process, Becoming& becoming, AboutToRun about_to_run);

// The parts of Become, in their order.
Result<> SetLimits(const Process& process);
Result<> EnterWorkingDir(const Process& process);
Result<> DropBounding(const Process& process);
Result<> ChangeUser(const Process& process);
Result<> SetCapabilities(const Process& process);
Result<> InstallSeccomp(const Process& process, Becoming& becoming);
// Where `args[0]` is, searched for in the process's PATH: the error says what is wrong with it.
Result<std::string> FindProgram(const Process& process);

// The last call, with everything ready: nothing else needs to be allowed by the seccomp filter.
class Program {
 public:
  // Signals get their standard actions and are unblocked.
  static Result<Program> Prepare(const Process& process);
  Error Exec();  // returns only when it failed

 private:
  std::string path_, home_;
  std::vector<char*> argv_, envp_;
};

template <class AboutToRun>
Result<> Become(const Process& process, Becoming& becoming, AboutToRun about_to_run) {
  TRY(SetLimits(process));
  Result<> entered = EnterWorkingDir(process);
  TRY(DropBounding(process));
  // Without no_new_privs only CAP_SYS_ADMIN may install a filter: before it goes. With it as late as possible, so that the
  // filter need not allow what we do.
  if (!process.no_new_privileges) TRY(InstallSeccomp(process, becoming));
  TRY(ChangeUser(process));
  if (!entered) TRY(EnterWorkingDir(process));  // only the user may go there
  TRY(SetCapabilities(process));
  Program program = TRY(Program::Prepare(process));
  TRY(about_to_run());
  if (process.no_new_privileges) TRY(InstallSeccomp(process, becoming));
  return program.Exec();
}

}  // namespace crisp::native
