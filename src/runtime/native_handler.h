// The native handler: the pod's shim starts the process itself, from a launch that is made here. Files in the bundle:
//   exec       native::ExecLaunch without a process: what an exec must join, and the container's seccomp program
//   poststop   native::Launch with hooks only, while they are to be run
// Threading: any thread; functions of values and files.
#pragma once

#include "native/launch.h"
#include "runtime/runtime.h"

namespace crisp::runtime {

// A file (memfd) with the launch, for the shim. kInvalidArgument and kUnimplemented name the configuration's member.
Result<sys::UniqueFd> PrepareNativeStart(const ContainerSpec& spec);
// The same where criu makes the process from images, as a command line for the shim to run: its root is bound in the bundle until
// DoneRestoring, which is for the case that the caller died, too.
Result<std::vector<std::string>> PrepareNativeRestore(const ContainerSpec& spec, const std::string& shim_binary,
                                                      const std::string& pid_file);
void DoneRestoring(const std::string& bundle_dir);
// criu's command line for a dump that leaves the container running.
Result<std::vector<std::string>> NativeDumpArgv(const CheckpointSpec& spec);
// The same for a further process. `cgroup_dir`: in which its processes are killed as one, "" = none; the shim makes it.
struct NativeExec {
  sys::UniqueFd launch;
  std::string cgroup_dir;
};
Result<NativeExec> PrepareNativeExec(const ExecSpec& spec, const std::string& name);
// What hooks.poststop asks for, once: a hook that fails is logged (runtime-spec runtime.md#lifecycle).
// What is not done when ctx ends is left to the next call.
Result<> RunPoststopHooks(const Ctx& ctx, const ContainerId& id, const std::string& bundle_dir);

}  // namespace crisp::runtime
