// config.json (OCI runtime-spec 1.3, Linux) to a Launch: checks it, decides everything that can be decided beforehand,
// compiles seccomp rules by libseccomp. Of the node it knows what `Host` says; it opens nothing.
//
// What the spec has and this cannot do is refused with kUnimplemented, and listed in docs/native.md. linux.resources
// are no part of it: they are written into the cgroup by whoever makes it (cgroup/resources.h). Errors name the member
// ("linux.seccomp.syscalls[3].action: …"); malformed input is kInvalidArgument. Threading: any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "native/launch.h"

namespace crisp::native {

// Of the node, as far as a configuration's meaning depends on it.
struct Host {
  bool unified = false;  // cgroup v2 only
  struct Hierarchy {
    std::string controllers;  // "cpu,cpuacct"; "name=systemd"
    std::string mount_point;  // of the node
  };
  std::vector<Hierarchy> hierarchies;  // v1; with v2 beside it as "" (hybrid)
};

struct CompileInput {
  std::string_view config_json;
  std::string id, bundle;  // a relative root.path is below the bundle
  Host host;
  CgroupPlace cgroup;  // the container's, made by the caller; goes into Launch::cgroup as it is
};

Result<Launch> Compile(const CompileInput& input);
// The same for who has parsed it already: input.config_json is not looked at.
Result<Launch> Compile(const nlohmann::json& config, const CompileInput& input);

// hooks.poststop of a configuration: run by whoever deletes the container.
Result<std::vector<Hook>> PoststopHooks(std::string_view config_json);
Result<std::vector<Hook>> PoststopHooksOf(const nlohmann::json& config);

// What holds for every process of the container, to be kept for CompileExec: the namespaces that it does not share with
// whoever made it, and what the specification has in `linux` and not in `process`.
ExecLaunch ExecTemplate(const Launch& launch);
// The same with all of `config`'s process, as one beside the container's own has it: for WithCommand.
Result<ExecLaunch> ExecTemplate(const Launch& launch, const nlohmann::json& config);

// A further process: `process_json` is the spec's process object.
struct ExecInput {
  std::string_view process_json;
  ExecLaunch container;  // of ExecTemplate
  CgroupPlace cgroup;
};
Result<ExecLaunch> CompileExec(const ExecInput& input);

// A further process like the container's own (same user, capabilities, environment, directory) that runs `command`,
// which is not empty. `container`: of ExecTemplate with a process.
struct CommandInput {
  const std::vector<std::string>& command;
  bool terminal = false;  // TERM is xterm then, where the container says nothing else
  CgroupPlace cgroup;
};
Result<ExecLaunch> WithCommand(const ExecLaunch& container, const CommandInput& input);
inline bool HasProcess(const ExecLaunch& container) { return !container.process.args.empty(); }

// The spec's linux.seccomp as a BPF program. Programs are kept (a few, by the text of the rules): nearly all containers
// of a node have the same one, and compiling it takes longer than the rest of a start.
Result<Seccomp> CompileSeccomp(std::string_view seccomp_json);

// The options of mounts that have a meaning here; any other is one of the file system's.
std::vector<std::string> MountOptions();

}  // namespace crisp::native
