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
// The same for a further process. `cgroup_dir`: in which its processes are killed as one, "" = none; the shim makes it.
struct NativeExec {
  sys::UniqueFd launch;
  std::string cgroup_dir;
};
Result<NativeExec> PrepareNativeExec(const ExecSpec& spec, const std::string& name);
// What hooks.poststop asks for, once: a hook that fails is logged (runtime-spec runtime.md#lifecycle).
Result<> RunPoststopHooks(const ContainerId& id, const std::string& bundle_dir);

}  // namespace crisp::runtime
