// Runtime: what runs containers. The one entrance to this module for pod/.
//
// A pod has one shim (crisp-shim), reached by a SOCK_SEQPACKET socket at <pod run dir>/shim.sock; messages in
// shimapi/. The shim owns what must not die with crispd: stdio, log files, exit codes (a file first, then the event),
// exec sessions, the pod's IPC/UTS namespaces and, for a shared PID namespace, its init. The shim is told complete
// command lines; that runc or crun is behind them is known only here, in the handler.
//
// Threading: any thread. Calls on one container are the caller's to serialise; different containers run in parallel.
// Every wait has a deadline (Ctx); a shim that does not answer within it gives kDeadlineExceeded, never a hang.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/ids.h"
#include "runtime/streams.h"
#include "sys/fd.h"
#include "sys/userns.h"

namespace crisp::runtime {

struct HandlerConfig {
  std::string name;      // RuntimeClass handler name, e.g. "runc"
  std::string type;      // "oci": any OCI command-line runtime; "native": the shim itself (native/launcher.h)
  std::string binary;    // "oci": absolute path or name in PATH
  std::string root_dir;  // --root of the OCI runtime: state, dies with the boot
  bool systemd_cgroup = false;
  std::vector<std::string> extra_args;  // global options before the sub-command
};

struct HandlerFeatures {  // from `<binary> features` (runtime-spec features.md) or by probing
  bool recursive_read_only_mounts = false;
  bool user_namespaces = false;
};

struct PodSpec {
  PodId pod;
  std::string run_dir;      // <state>/pods/<id>, exists, 0700; shim.sock, exits/, logs of the shim live here
  std::string netns_path;   // "" = the node's network
  // Says netns_path where it is not known yet. Called once, when the shim runs, in StartPod's thread; may block. On an
  // error the shim is ended.
  std::function<Result<std::string>()> await_netns;
  bool own_ipc = true;      // false: the node's
  bool own_uts = true;      // false with the node's network, as the kubelet expects
  bool shared_pid = false;  // a PID namespace with the shim's tiny init
  std::string hostname;     // set in the own UTS namespace
  std::map<std::string, std::string> sysctls;  // checked by pod/plan; applied by the shim inside its namespaces
  // A pod with a user namespace (from MakeUserns) has its own IPC and UTS namespaces in here; not ok() without one.
  sys::OwnedNamespaces owned;
  int oom_score_adj = -998;  // of the shim; clamped with a warning where the kernel refuses
};

// Paths for OCI `linux.namespaces[].path`; "" = the container makes its own or uses the node's (see PodSpec).
struct PodNamespaces {
  pid_t shim_pid = 0;
  std::string net, ipc, uts, pid;
  std::string user;  // "": the node's
};

// What a native handler must know of the container's cgroup, which its caller has made (Runtime::IsNative).
struct NativeCgroup {
  std::vector<std::string> v1_dirs;  // one for each hierarchy
  std::string v2_dir;
  struct Hierarchy {
    std::string controllers, mount_point;  // "cpu,cpuacct", "name=systemd", "" for v2
  };
  std::vector<Hierarchy> hierarchies;  // of the node
  bool unified = false;
};

struct ContainerSpec {
  ContainerId id;
  std::string handler;
  std::string bundle_dir;  // holds config.json; ours
  std::string log_path;    // absolute; "" = output is discarded
  bool terminal = false;
  bool stdin_open = false;                   // keep a stdin that attach can write to
  bool stdin_once = false;                   // close it when the first attached client goes
  std::vector<std::string> oom_event_files;  // read at exit for an `oom_kill N` line with N > 0
  std::string restore_images_dir;            // CRIU's images to restore it from, "" = start it; the directory is ours
  std::shared_ptr<const nlohmann::json> config;  // native handlers only: what the bundle's config.json says
  NativeCgroup cgroup;                           // likewise
  std::string launch;  // likewise: what PrepareStart has made of these two, "" = StartContainer does it
};

struct PreparedStart {
  std::string launch;  // for ContainerSpec; "" = nothing, StartContainer does it all
  // The pod's shim was asked to make the container's process: it waits for StartContainer, and is gone with our
  // connection to the shim. What has not become of it StartContainer does.
  bool begun = false;
};

// Where a checkpoint goes: two existing directories of ours.
struct CheckpointDirs {
  std::string images, work;  // CRIU's images; its log and statistics
};
struct CheckpointSpec {
  ContainerId id;
  std::string handler;
  CheckpointDirs dirs;
  // Native handlers only:
  pid_t pid = 0;
  std::string bundle_dir, config_json;
  NativeCgroup cgroup;
};

struct ContainerExit {
  int code = 0;  // exit code, or 128 + signal
  int signal = 0;
  bool oom_killed = false;
  int64_t finished_at_unix_nanos = 0;
};

struct Started {
  pid_t pid = 0;  // of the container's init, in our PID namespace; reaped by the shim only
};

struct ExecSpec {
  std::vector<std::string> cmd;
  bool terminal = false;
  // OCI process object for the runtime's --process. A native handler knows it from the start, and does not ask but for
  // a container that an older crisp has started.
  std::function<Result<std::string>()> process_json;
  std::string bundle_dir;  // native handlers only
  NativeCgroup cgroup;     // likewise
};

struct ExecSyncResult {
  std::string out, err;  // each at most output_bytes_max; the rest is thrown away, not buffered
  int exit_code = 0;
};

// What a pod's shim tells without being asked. Called on the module's own event thread: return quickly, post work on.
struct Events {
  std::function<void(const PodId&, const ContainerId&, const ContainerExit&)> on_exit;
  // The shim is gone (crash, kill): whatever it ran is dead or about to be killed by the pod module.
  std::function<void(const PodId&)> on_shim_lost;
  // The connection to a shim broke though it may live: until somebody reconnects the pod, nothing is heard of it.
  std::function<void(const PodId&)> on_connection_lost;
};

class Runtime {
 public:
  struct Options {
    std::string shim_binary;  // crisp-shim
    std::vector<HandlerConfig> handlers;
    Events events;
    bool user_namespaces =
        false;  // this node's kernel and disk can do them (rootfs::ProbeIdmap); else no handler has them
  };
  static Result<std::unique_ptr<Runtime>> Make(Options options);
  virtual ~Runtime() = default;  // leaves all pods running

  virtual bool HasHandler(const std::string& name) const = 0;
  virtual std::vector<std::pair<std::string, HandlerFeatures>> Handlers() const = 0;

  // A handler without a runtime of its own: the container's cgroup, its limits and its freezing are the caller's.
  virtual bool IsNative(const std::string& handler) const = 0;

  // A user namespace and those that it shall own, for PodSpec::owned and for mounts with ids of their own. It lives as
  // long as the descriptors, so there is nothing to undo.
  virtual Result<sys::OwnedNamespaces> MakeUserns(const Ctx& ctx, const sys::UsernsRequest& request) = 0;
  // A process that does nothing, for a cgroup that systemd makes with a process in it only.
  virtual Result<std::unique_ptr<sys::IdleProcess>> MakeIdle() = 0;
  // Starts the pod's shim and waits until its namespaces stand. On error no process stays.
  virtual Result<PodNamespaces> StartPod(const Ctx& ctx, const PodSpec& spec) = 0;
  // After a restart of crispd: connects to the shim that is still there. kNotFound: no shim (dead). Re-subscribes to
  // its events; exits that happened meanwhile are delivered through on_exit before this returns or come from ReadExit.
  virtual Result<PodNamespaces> ReconnectPod(const Ctx& ctx, const PodId& pod, const std::string& run_dir) = 0;
  // Kills what the shim still has, ends it, waits for it, by force if it does not listen. Gone: success.
  virtual Result<> StopPod(const Ctx& ctx, const PodId& pod, const std::string& run_dir) = 0;

  // Native handlers: what can be done of a start before it is asked for. Good for the same config.json and cgroup only.
  // Where nothing is started with it, EndBegun leaves no more than a file of the bundle. `await_cgroup` returns when the
  // cgroup has its limits; called at most once, before a process is begun. Its error is ours.
  virtual Result<PreparedStart> PrepareStart(const PodId& pod, const ContainerSpec& spec,
                                             const std::function<Result<>()>& await_cgroup) = 0;
  // Ends the process that was begun, and waits for its end. There is none: success.
  virtual Result<> EndBegun(const Ctx& ctx, const PodId& pod, const ContainerId& id) = 0;
  // Runs `<runtime> run --detach` or `restore --detach`: on return the container's process has been started. The error
  // carries the runtime's own message ("exec: \"foo\": executable file not found in $PATH"). On error nothing of the
  // container stays.
  virtual Result<Started> StartContainer(const Ctx& ctx, const PodId& pod, const ContainerSpec& spec) = 0;
  // To the container's init (pidfd; no race with pid reuse). Not running: success.
  virtual Result<> Signal(const Ctx& ctx, const PodId& pod, const ContainerId& id, int signal) = 0;
  // `<runtime> delete --force`, or the poststop hooks of the native handler, and forgetting it in the shim. Idempotent.
  virtual Result<> DeleteContainer(const Ctx& ctx, const PodId& pod, const ContainerId& id, const std::string& handler,
                                   const std::string& bundle_dir) = 0;
  // `<runtime> update --resources -`; `resources_json` is the OCI linux.resources object.
  virtual Result<> UpdateContainer(const Ctx& ctx, const ContainerId& id, const std::string& handler,
                                   const std::string& resources_json) = 0;
  virtual Result<> ReopenLog(const Ctx& ctx, const PodId& pod, const ContainerId& id) = 0;

  // kUnimplemented says what is missing to checkpoint and restore containers of this handler: the kernel, the OCI
  // runtime or CRIU. Asks each of them, every time.
  virtual Result<> CanCheckpoint(const Ctx& ctx, const std::string& handler) = 0;
  // `<runtime> pause` and `resume`: all processes by the cgroup freezer. Paused resp. running already: success. Not of
  // native handlers.
  virtual Result<> PauseContainer(const Ctx& ctx, const ContainerId& id, const std::string& handler) = 0;
  virtual Result<> ResumeContainer(const Ctx& ctx, const ContainerId& id, const std::string& handler) = 0;
  // `<runtime> checkpoint --leave-running`, or CRIU itself, of a running or paused container, which is as before in any
  // case. CRIU is killed at the deadline of `ctx` only: a process that it holds just then is lost.
  virtual Result<> CheckpointContainer(const Ctx& ctx, const CheckpointSpec& spec) = 0;

  // Runs a command to its end inside the container. At `timeout` (0: none) the whole tree of the exec is killed and
  // the error is kDeadlineExceeded. The process of a caller that goes away (ctx) is killed too.
  virtual Result<ExecSyncResult> ExecSync(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                          const std::string& handler, const ExecSpec& spec,
                                          std::chrono::seconds timeout, size_t output_bytes_max) = 0;

  // Starts a command with the streams that `wants` names; see streams.h. On return it runs.
  virtual Result<std::unique_ptr<StreamSession>> OpenExec(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                                          const std::string& handler, const ExecSpec& spec,
                                                          const StreamWants& wants) = 0;
  // A client of a running container's output from now on, and of its stdin. kUnimplemented: the pod's shim is of a
  // crisp that could not do that yet.
  virtual Result<std::unique_ptr<StreamSession>> OpenAttach(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                                            const StreamWants& wants) = 0;

  // The exit file of a container, written by its shim before anyone is told. Missing: nullopt. Works without a shim.
  static Result<std::optional<ContainerExit>> ReadExit(const std::string& pod_run_dir, const ContainerId& id);
};

}  // namespace crisp::runtime
