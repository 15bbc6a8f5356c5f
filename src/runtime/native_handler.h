// The native handler: the pod's shim starts the process itself, from a launch that is made here. Files in the bundle:
//   exec       native::ExecLaunch: what an exec must join, and what its process has but for the command
//   poststop   native::Launch with hooks only, while they are to be run
// Threading: any thread; functions of values and files.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/synchronized.h"
#include "native/launch.h"
#include "runtime/runtime.h"

namespace crisp::runtime {

// The files "exec" of the containers that were started or executed in last: probes come again and again. Threading:
// any.
class ExecTemplates {
 public:
  using Ptr = std::shared_ptr<const native::ExecLaunch>;
  Result<Ptr> Get(const std::string& bundle_dir);
  // Whoever writes the file, which has so many bytes.
  void Put(const std::string& bundle_dir, size_t bytes, native::ExecLaunch launch);
  void Forget(const std::string& bundle_dir);  // whoever removes it

 private:
  void Keep(const std::string& bundle_dir, size_t bytes, Ptr launch);
  struct Kept {
    std::string bundle_dir;
    Ptr launch;
  };
  Synchronized<std::list<Kept>> kept_;  // the last used first; leaf lock
};

// kInvalidArgument and kUnimplemented name the configuration's member. `bare_mounts`: as in native::Launch.
Result<native::Launch> CompileNativeStart(const ContainerSpec& spec, std::string bare_mounts);
// What later verbs need of it.
Result<> KeepNativeStart(const ContainerSpec& spec, const native::Launch& launch, ExecTemplates& templates);
// Whether that leaves something for RunPoststopHooks.
Result<bool> HasPoststopHooks(const ContainerSpec& spec);
// A file (memfd) with it, for the shim.
Result<sys::UniqueFd> NativeLaunchFile(const std::string& launch);
// The same where criu makes the process from images, as a command line for the shim to run: its root is bound in the
// bundle until DoneRestoring, which is for the case that the caller died, too.
Result<std::vector<std::string>> PrepareNativeRestore(const ContainerSpec& spec, ExecTemplates& templates,
                                                      const std::string& shim_binary, const std::string& pid_file);
void DoneRestoring(const std::string& bundle_dir);
// criu's command line for a dump that leaves the container running.
Result<std::vector<std::string>> NativeDumpArgv(const CheckpointSpec& spec);
// The same for a further process. `cgroup_dir`: in which its processes are killed as one, "" = none; the shim makes it.
struct NativeExec {
  sys::UniqueFd launch;
  std::string cgroup_dir;
};
Result<NativeExec> PrepareNativeExec(ExecTemplates& templates, const ExecSpec& spec, const std::string& name);
// What hooks.poststop asks for, once: a hook that fails is logged (runtime-spec runtime.md#lifecycle).
// What is not done when ctx ends is left to the next call.
Result<> RunPoststopHooks(const Ctx& ctx, const ContainerId& id, const std::string& bundle_dir);

}  // namespace crisp::runtime
