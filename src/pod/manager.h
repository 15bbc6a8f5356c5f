// Manager: pods and containers, their life and their records. The entrance for cri/ (and later dockershim and the
// virtual kubelet's local provider).
//
// Threading: any thread. Lists and statuses answer from memory and never wait for an operation, a disk or a shim.
// Verbs block until done; each pod and each container has an operation lock, taken pod before container.
// Same request again while the first still runs: joins it and gets its result. The same request again after it is done:
// gets the object that is there. A different request under the same metadata: kAlreadyExists, naming the object.
// A caller that goes away does not cancel half a pod: the verb runs to its end on its own deadline.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/context.h"
#include "pod/feed.h"
#include "pod/streams.h"
#include "spec/plan.h"
#include "spec/types.h"

namespace crisp::state {
class Database;
}
namespace crisp::image {
class Service;
}
namespace crisp::network {
class Network;
}
namespace crisp::runtime {
class Runtime;
}
namespace crisp::cgroup {
class Cgroups;
}

namespace crisp::pod {

class EventRelay;  // pod/events.h
class Hooks;       // pod/hooks.h

using namespace crisp::spec;  // what is asked for and how it is planned (src/spec/)

enum class SandboxState { kReady, kNotReady };
enum class ContainerState { kCreated, kRunning, kExited, kUnknown };

// Immutable snapshots; a change makes a new one.
struct SandboxStatus {
  PodId id;
  SandboxConfig config;
  SandboxState state = SandboxState::kNotReady;
  int64_t created_at = 0;  // unix nanoseconds, like all *_at here
  std::vector<std::string> ips;
  std::string netns_path;
  std::string network_result;  // CNI result JSON
  int shim_pid = 0;
  Resources overhead, resources;  // as last updated
};

// Where the time of one successful call went. Kept in memory only: gone with crispd.
struct CallTiming {
  const char* call = nullptr;  // "RunPodSandbox"
  std::string container;       // its name; "": the pod's own
  int64_t began_at = 0;        // unix nanoseconds
  int64_t took_nanos = 0;
  std::vector<StageTime> stages;
};

struct ContainerStatus {
  ContainerId id;
  PodId pod;
  ContainerConfig config;
  ContainerState state = ContainerState::kCreated;
  int64_t created_at = 0, started_at = 0, finished_at = 0;
  int exit_code = 0;
  std::string reason, message;  // Completed, Error, OOMKilled, ContainerCannotRun/StartError (128), Unknown
  std::string image_id;          // "sha256:…"
  std::string image_digest_ref;  // a repo digest where there is one: image_ref of CRI's ContainerStatus
  std::string log_path;         // absolute; "" without a log
  Resources resources;          // as last updated
  std::optional<ContainerUser> user;
  int stop_signal = 15;
  int pid = 0;
  std::string bundle_dir, rootfs_dir, cgroup_path;
};

// A pod with all its containers as of one moment. `at` is the time of the clock, but greater than that of every earlier
// snapshot or event of this crispd, also when the clock was set back: what has the greater one is the newer truth.
struct PodSnapshot {
  SandboxRef sandbox;
  std::vector<ContainerRef> containers;
  int64_t at = 0;
};

struct SandboxFilter {
  std::string id;  // prefix allowed, as crictl's users expect
  std::optional<SandboxState> state;
  StringMap labels;
};
struct ContainerFilter {
  std::string id, pod;
  std::optional<ContainerState> state;
  StringMap labels;
};

// What a list call gives: snapshots in the order of their ids. Shared by all who ask while nothing changes, so that a
// list of ten thousand costs no more than a pointer. Value; never empty-handed.
template <class Snapshot>
class Listing {
 public:
  using Ref = std::shared_ptr<const Snapshot>;
  using value_type = Ref;
  using const_iterator = typename std::vector<Ref>::const_iterator;

  Listing() : Listing(std::vector<Ref>(), false) {}
  Listing(std::vector<Ref> refs, bool complete)
      : refs_(std::make_shared<const std::vector<Ref>>(std::move(refs))), complete_(complete) {}

  // Nothing was filtered out: what is not here is not there.
  bool complete() const { return complete_; }
  std::span<const Ref> span() const { return *refs_; }
  const_iterator begin() const { return refs_->begin(); }
  const_iterator end() const { return refs_->end(); }
  size_t size() const { return refs_->size(); }
  bool empty() const { return refs_->empty(); }
  const Ref& operator[](size_t at) const { return (*refs_)[at]; }

 private:
  std::shared_ptr<const std::vector<Ref>> refs_;
  bool complete_;
};
using SandboxList = Listing<SandboxStatus>;
using ContainerList = Listing<ContainerStatus>;

// What UpdatePodSandboxResources sets; absent stays.
struct SandboxResources {
  std::optional<Resources> overhead, resources;
};

struct ExecOutput {
  std::string out, err;
  int exit_code = 0;
};

// What a handler's OCI runtime gets to see of a request's annotations: exact keys, none by default (S56).
struct PassedAnnotations {
  std::vector<std::string> pod, container;
};

struct RestoredPod {
  PodId pod;
  std::vector<std::pair<std::string, ContainerId>> containers;  // name in the pod, id
};

// Checkpoints hold every page of a container's memory, and restoring one runs what somebody else has put there: both
// are off unless the node's owner wants them (S54, S55).
struct CheckpointOptions {
  bool enabled = false;
  bool restore = false;
  int64_t bytes_max = 16ll << 30;  // of one archive
  int64_t archives_max = 32;       // in the directory that the next one is to go to
};

struct ManagerOptions {
  std::string root_dir;   // <root>/containers/<id>: upper, work (durable disk)
  std::string state_dir;  // <state>/pods/<id>, <state>/containers/<id>: bundles, rootfs mount points, shm, exits
  std::string default_handler;
  bool disable_proc_mount = false;
  std::string seccomp_profile_dir;  // Localhost profiles are absolute paths; "" = anywhere
  std::vector<std::string> privileged_devices_exclude;  // path prefixes
  std::vector<std::string> cdi_spec_dirs;  // in rising priority
  std::map<std::string, PassedAnnotations> annotations;  // by handler
  Policy policy;
  std::chrono::milliseconds retry_pause{1000};  // before the undo of a pod that failed is tried again; then doubled
  CheckpointOptions checkpoint;
};

class Manager {
 public:
  struct Deps {  // all outlive the manager
    state::Database& db;
    image::Service& images;
    network::Network& network;
    runtime::Runtime& runtime;
    cgroup::Cgroups& cgroups;
    EventRelay& events;  // whose Callbacks() the runtime was made with
    Hooks* hooks = nullptr;  // nobody follows
  };
  // Loads the records (quarantining what does not parse) and returns at once, ready to serve lists. Recover() then
  // brings them into line with what is really there, in parallel, and takes up unfinished removals. Until it has come
  // to a pod, verbs on that pod wait (lists don't): call it on a thread of its own right after Open.
  static Result<std::unique_ptr<Manager>> Open(const ManagerOptions& options, Deps deps);
  virtual ~Manager() = default;

  virtual Result<> Recover(const Ctx& ctx) = 0;
  // Hourly and after Recover: mounts, directories, cgroups, netns and shims of ours that no record names are removed.
  virtual void Sweep(const Ctx& ctx) = 0;

  virtual Result<PodId> RunSandbox(const Ctx& ctx, const SandboxConfig& config) = 0;
  virtual Result<> StopSandbox(const Ctx& ctx, const std::string& id) = 0;    // unknown id: success
  virtual Result<> RemoveSandbox(const Ctx& ctx, const std::string& id) = 0;  // unknown id: success; stops first
  virtual Result<ContainerId> CreateContainer(const Ctx& ctx, const std::string& pod_id, const ContainerConfig& config) = 0;
  virtual Result<> StartContainer(const Ctx& ctx, const std::string& id) = 0;
  virtual Result<> StopContainer(const Ctx& ctx, const std::string& id, std::chrono::seconds grace) = 0;
  virtual Result<> RemoveContainer(const Ctx& ctx, const std::string& id) = 0;  // unknown id: success; kills first
  virtual Result<> UpdateResources(const Ctx& ctx, const std::string& id, const Resources& resources,
                                   const StringMap& annotations) = 0;
  // What a plugin wants for a container: `resources_json` (OCI linux.resources) is set as it stands, no hook is called.
  virtual Result<> AdjustResources(const Ctx& ctx, const std::string& id, const std::string& resources_json) = 0;
  virtual Result<> UpdateSandboxResources(const Ctx& ctx, const std::string& id, const SandboxResources& update) = 0;
  virtual Result<> ReopenLog(const Ctx& ctx, const std::string& id) = 0;
  virtual Result<ExecOutput> ExecSync(const Ctx& ctx, const std::string& id, const std::vector<std::string>& cmd,
                                      std::chrono::seconds timeout) = 0;

  // The Check… of a call that will come soon: cheap, from memory. kNotFound; kFailedPrecondition: not running, not
  // ready; kInvalidArgument: streams that make no sense (StreamWants).
  virtual Result<> CheckExec(const std::string& id, const StreamWants& wants) const = 0;
  virtual Result<> CheckAttach(const std::string& id, const StreamWants& wants) const = 0;
  virtual Result<> CheckPortForward(const std::string& pod_id) const = 0;
  // On return the process runs (an error carries the OCI runtime's message). As the container's user, in its directory.
  virtual Result<StreamSessionPtr> OpenExec(const Ctx& ctx, const std::string& id, const std::vector<std::string>& cmd,
                                            const StreamWants& wants) = 0;
  // Output from now on, none of the past. Whether there is a terminal or a stdin is the container's matter: what it has
  // not is left out (as with containerd). Several clients may be attached at once.
  virtual Result<StreamSessionPtr> OpenAttach(const Ctx& ctx, const std::string& id, const StreamWants& wants) = 0;
  // A TCP connection to localhost in the pod's network, IPv4 before IPv6; non-blocking. kUnavailable: nobody listens.
  virtual Result<sys::UniqueFd> DialPod(const Ctx& ctx, const std::string& pod_id, uint16_t port) = 0;
  // Checkpoints of running containers, which are frozen for it and then go on. kUnimplemented says what this node
  // lacks; kAlreadyExists: nothing is replaced; kResourceExhausted: a limit, or another checkpoint is being made. After
  // an error nothing is left and the containers run as before. `timeout` 0: two minutes. The answer may come up to 30 s
  // later than that: a dump that is under way is let finish, because breaking it off would kill the container.
  virtual Result<> CheckpointContainer(const Ctx& ctx, const std::string& id, const std::string& location,
                                       std::chrono::seconds timeout) = 0;
  // All of `containers` (none: all that run) at one moment, into the directory `dir`, which is made when missing.
  virtual Result<> CheckpointPod(const Ctx& ctx, const std::string& id, const std::string& dir,
                                 const std::vector<std::string>& containers) = 0;
  // A new pod with its containers CREATED, to be restored when they are started. Each container of the checkpoint needs
  // its configuration. A container is restored on its own by creating it from a checkpoint image.
  virtual Result<RestoredPod> RestorePod(const Ctx& ctx, const std::string& dir, const SandboxConfig& config,
                                         const std::vector<ContainerConfig>& containers) = 0;

  // Ids may be unique prefixes of an id; kNotFound names the id, kInvalidArgument an ambiguous prefix.
  // Of the pod's start and those of its containers, in their order; the last kTimingsMax.
  static constexpr size_t kTimingsMax = 64;
  virtual std::vector<CallTiming> Timings(const std::string& pod_id) const = 0;
  virtual Result<SandboxRef> GetSandbox(const std::string& id) const = 0;
  virtual Result<ContainerRef> GetContainer(const std::string& id) const = 0;
  virtual Result<PodSnapshot> GetPod(const std::string& id) const = 0;
  virtual SandboxList ListSandboxes(const SandboxFilter& filter) const = 0;
  virtual ContainerList ListContainers(const ContainerFilter& filter) const = 0;
  // Events from now on (feed.h). At most `events_max` wait for the watcher.
  virtual std::shared_ptr<Watcher> Watch(size_t events_max, std::function<void()> wake) = 0;
};

}  // namespace crisp::pod
