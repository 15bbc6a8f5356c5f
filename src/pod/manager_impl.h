// ManagerImpl: the state that the verbs share. Each verb is a file of workflow/; steps that several verbs take are in
// teardown.cc and exits.cc. Lock order: pod's OpLock, container's OpLock, then Store's locks.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cdi/registry.h"
#include "cgroup/cgroup.h"
#include "checkpoint/format.h"
#include "checkpoint/writer.h"
#include "image/service.h"
#include "network/network.h"
#include "pod/events.h"
#include "pod/hooks.h"
#include "pod/host.h"
#include "pod/manager.h"
#include "pod/paths.h"
#include "pod/retries.h"
#include "pod/shim_start.h"
#include "pod/state_machine.h"
#include "pod/store.h"
#include "pod/workers.h"
#include "runtime/runtime.h"
#include "state/database.h"

namespace crisp::pod {

using namespace std::chrono_literals;

// A verb goes on when its caller is gone, so it needs an end of its own.
inline constexpr auto kRunSandboxTimeout = 4min;  // what the kubelet gives RunPodSandbox
inline constexpr auto kVerbTimeout = 2min;
inline constexpr auto kUndoTimeout = 60s;
// StopContainer ends this long after its grace, whatever does not answer (user pain 29).
inline constexpr auto kStopSlack = 10s;
inline constexpr auto kDialTimeout = 10s;                 // of both address families together
inline constexpr size_t kExecOutputBytesMax = 16u << 20;  // of each stream, as the kubelet's own limit (S44)

// The process ended and nobody can tell how: containerd's code and reason, which users look for. 137 would claim that
// we know of a SIGKILL.
inline constexpr int kExitUnknown = 255;
inline constexpr char kReasonUnknown[] = "Unknown";
inline constexpr int kExitStartError = 128;
inline constexpr int kExitKilled = 137;

// What a pod's cgroup allows that holds `containers` and what running them costs.
cgroup::Limits PodLimits(const Resources& containers, const Resources& overhead);

class ManagerImpl final : public Manager {
 public:
  ManagerImpl(ManagerOptions options, Deps deps, std::unique_ptr<Host> host);
  ~ManagerImpl() override;
  Result<> Load();

  Result<> Recover(const Ctx& ctx) override;
  void Sweep(const Ctx& ctx) override;
  Result<PodId> RunSandbox(const Ctx& ctx, const SandboxConfig& config) override;
  Result<> StopSandbox(const Ctx& ctx, const std::string& id) override;
  Result<> RemoveSandbox(const Ctx& ctx, const std::string& id) override;
  Result<ContainerId> CreateContainer(const Ctx& ctx, const std::string& pod_id,
                                      const ContainerConfig& config) override;
  Result<> StartContainer(const Ctx& ctx, const std::string& id) override;
  Result<> StopContainer(const Ctx& ctx, const std::string& id, std::chrono::seconds grace) override;
  Result<> RemoveContainer(const Ctx& ctx, const std::string& id) override;
  Result<> UpdateResources(const Ctx& ctx, const std::string& id, const Resources& resources,
                           const StringMap& annotations) override;
  Result<> AdjustResources(const Ctx& ctx, const std::string& id, const std::string& resources_json) override;
  Result<> UpdateSandboxResources(const Ctx& ctx, const std::string& id, const SandboxResources& update) override;
  Result<> ReopenLog(const Ctx& ctx, const std::string& id) override;
  Result<ExecOutput> ExecSync(const Ctx& ctx, const std::string& id, const std::vector<std::string>& cmd,
                              std::chrono::seconds timeout) override;
  Result<> CheckExec(const std::string& id, const StreamWants& wants) const override;
  Result<> CheckAttach(const std::string& id, const StreamWants& wants) const override;
  Result<> CheckPortForward(const std::string& pod_id) const override;
  Result<StreamSessionPtr> OpenExec(const Ctx& ctx, const std::string& id, const std::vector<std::string>& cmd,
                                    const StreamWants& wants) override;
  Result<StreamSessionPtr> OpenAttach(const Ctx& ctx, const std::string& id, const StreamWants& wants) override;
  Result<sys::UniqueFd> DialPod(const Ctx& ctx, const std::string& pod_id, uint16_t port) override;
  Result<> CheckpointContainer(const Ctx& ctx, const std::string& id, const std::string& location,
                               std::chrono::seconds timeout) override;
  Result<> CheckpointPod(const Ctx& ctx, const std::string& id, const std::string& dir,
                         const std::vector<std::string>& containers) override;
  Result<RestoredPod> RestorePod(const Ctx& ctx, const std::string& dir, const SandboxConfig& config,
                                 const std::vector<ContainerConfig>& containers) override;
  Result<SandboxRef> GetSandbox(const std::string& id) const override { return store_.PodStatus(id); }
  Result<ContainerRef> GetContainer(const std::string& id) const override { return store_.ContainerStatusOf(id); }
  Result<PodSnapshot> GetPod(const std::string& id) const override { return store_.Snapshot(id); }
  SandboxList ListSandboxes(const SandboxFilter& filter) const override { return store_.List(filter); }
  ContainerList ListContainers(const ContainerFilter& filter) const override { return store_.List(filter); }
  std::shared_ptr<Watcher> Watch(size_t events_max, std::function<void()> wake) override {
    return store_.Watch(events_max, std::move(wake));
  }

  // How long a host path may take to answer.
  void SetHostPathTimeout(std::chrono::milliseconds timeout) { host_path_timeout_ = timeout; }
  // Until everything that events and verbs have left for later is done. For tests.
  void DrainBackground();

 private:
  // ---- workflow/: the parts of the verbs ----
  // The pod is new, and recovery would remove it.
  struct RestorePlan;
  Result<RestorePlan> PlanRestorePod(const std::string& dir, const std::vector<ContainerConfig>& containers);
  Result<RestoredPod> MakeRestored(const Ctx& ctx, PodEntry& pod, const RestorePlan& plan,
                                   const std::vector<ContainerConfig>& containers);
  Result<PodId> MakeClaimed(const Ctx& ctx, PodClaim& claim);
  Result<> MakeSandbox(const Ctx& ctx, PodEntry& pod);
  Result<> PlanPod(PodEntry& pod, SandboxPlan& plan);
  Result<> MakePodCgroup(const PodRecord& record);
  bool HandlerHasUserns(const std::string& name) const;
  Result<> MakePodDir(PodEntry& pod);
  void BeginShim(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan, ShimStart& shim);
  Result<> WritePodFiles(PodEntry& pod, const SandboxPlan& plan);
  Result<> AttachAndStartShim(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan, sys::OwnedNamespaces owned,
                              ShimStart& shim);
  Result<> AttachNetwork(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan, sys::BorrowedFd own_netns,
                         std::function<void(const std::string&)> on_netns);
  Result<> StartShim(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan, sys::OwnedNamespaces owned,
                     std::function<Result<std::string>()> await_netns);
  Result<sys::OwnedNamespaces> MakePodUserns(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan);

  // Where a container that is restored comes from: an archive, or the layer of a checkpoint image. Neither: from no
  // checkpoint.
  struct CheckpointSource {
    std::string archive, layer_dir, image_id;
    bool any() const { return !archive.empty() || !layer_dir.empty(); }
  };
  Result<ContainerId> CreateFrom(const Ctx& caller, const std::string& pod_id, const ContainerConfig& config,
                                 const std::string& archive);
  Result<> MakeContainer(const Ctx& ctx, PodEntry& pod, ContainerEntry& container, CheckpointSource source);
  Result<image::ImageRef> PlanRecord(const PodRecord& sandbox, ContainerEntry& container, CheckpointSource& source);
  Result<> CheckImagesAllowed(const Ctx& ctx, const PodRecord& sandbox, const ContainerRecord& record,
                              const image::Image& image, const CheckpointSource& source);
  Result<> MakeRootfs(const Ctx& ctx, const PodRecord& sandbox, ContainerEntry& container, const image::Image& image,
                      const CheckpointSource& source);
  Result<std::vector<VolumeMount>> MakeVolumes(const Ctx& ctx, const PodRecord& sandbox, const ContainerRecord& record,
                                               const image::Image& image);
  Result<> ResolveImageVolumes(ContainerConfig& config);
  Result<> LeaseImageVolumes(const ContainerId& id, const ContainerConfig& config);
  Result<> ReleaseImageVolumes(const ContainerId& id, const ContainerConfig& config);
  // The owner of the lease on the image behind a container's mount; begins with the container's id.
  static std::string ImageVolumeLease(const ContainerId& id, size_t index);
  using UsernsRef = std::shared_ptr<const sys::UniqueFd>;
  Result<UsernsRef> PodUserns(const PodRecord& sandbox);  // nullptr: the node's
  Result<> RelabelMounts(const Ctx& ctx, const ContainerId& id, const ContainerInputs& inputs,
                         const ContainerPlan& plan);
  Result<MountStaging> PlanStaging(const Ctx& ctx, const PodRecord& sandbox, const ContainerRecord& record);
  Result<std::string> TargetPidNamespace(const PodRecord& sandbox, const ContainerConfig& config);
  Result<std::optional<std::string>> SeccompProfile(const ContainerConfig& config);
  Result<std::vector<MountSource>> MountSources(const Ctx& ctx, const PodRecord& sandbox,
                                                const ContainerRecord& record);
  Result<ContainerInputs> GatherInputs(const Ctx& ctx, const PodRecord& sandbox, ContainerEntry& container,
                                       const image::Image& image);
  // Gives a container `resources_json` (OCI linux.resources), which is `update` in CRI's terms, and records it.
  Result<> SetResources(const Ctx& ctx, ContainerEntry& container, const ContainerRecord& record,
                        const std::string& resources_json, const Resources& update);
  // Lets the hooks adjust the planned config.json.
  Result<> AdjustContainer(const Ctx& ctx, const PodRecord& sandbox, ContainerEntry& container,
                           std::string& config_json);
  // Does what the CDI devices of the request ask for to the planned config.json.
  Result<> InjectDevices(const std::vector<std::string>& names, std::string& config_json);
  Result<> StartHeld(const Ctx& ctx, PodEntry& pod, ContainerEntry& container);
  Result<> RunInShim(const Ctx& ctx, PodEntry& pod, ContainerEntry& container);
  cgroup::Limits LimitsHere(const Resources& containers, const Resources& overhead) const;
  Result<> CheckRoom(const ContainerRecord& record, const Resources& update) const;
  Result<> UpdateRunning(const Ctx& ctx, const ContainerRecord& record, const std::string& resources_json, bool v2);
  Result<> LimitHugepages(const ContainerRecord& record, const Resources& update);
  void NoteStartFailed(const Ctx& ctx, ContainerEntry& container, const Error& error);

  // restore.cc
  Result<image::ImageRef> BaseImage(const image::Image& checkpoint);
  Result<> StageCheckpoint(const Ctx& ctx, ContainerEntry& container, const CheckpointSource& source,
                           const image::Image& base);
  Result<> DeleteAsCheckpointed(const Ctx& ctx, ContainerEntry& container);
  Result<> DiscardRestored(const Ctx& caller, PodEntry& pod);
  Result<std::string> PrepareRestore(ContainerEntry& container, const std::string& config_json);
  // checkpoint_container.cc
  Result<> CheckArchiveRoom(const std::string& archive) const;
  struct CheckpointWork {
    std::vector<std::pair<CtrRef, std::string>> archives;  // at least one
    std::string new_dir;                                   // theirs, to be made; "": is there
  };
  Result<> CheckpointAll(const Ctx& ctx, const CheckpointWork& work,
                         const std::function<Result<>(std::vector<checkpoint::ArchiveWriter>&)>& commit);
  Result<> CommitPod(const PodId& id, const CheckpointWork& work, const checkpoint::PodDump& dump,
                     std::vector<checkpoint::ArchiveWriter>& archives);
  Result<> FreezeContainer(const Ctx& ctx, ContainerEntry& container, const std::string& archive, bool new_dir);
  Result<> CaptureContainer(const Ctx& ctx, ContainerEntry& container);
  Result<> ThawContainer(const Ctx& ctx, ContainerEntry& container);
  Result<> ForgetCheckpoint(ContainerEntry& container);

  // ---- teardown.cc: idempotent ends; each is used by its verb, by undo and by recovery ----
  // Ends what runs in the pod, then its shim, its network and its mounts. The pod is held exclusively.
  Result<> StopSandboxHeld(const Ctx& ctx, PodEntry& pod);
  Result<> EndShimAndNetwork(const Ctx& ctx, PodEntry& pod, bool host_network);
  // Everything of a stopped or half-made pod, with its record. Goes on past failed steps; then the record stays.
  Result<> DiscardPod(const Ctx& ctx, PodEntry& pod);
  Result<> FreePod(const Ctx& ctx, PodEntry& pod);
  // `what` for each container of the pod, which is held exclusively, one after the other; the first error.
  Result<> ForEachContainer(const Ctx& ctx, PodEntry& pod, const char* verb,
                            const std::function<Result<>(ContainerEntry&)>& what);
  // Ends a container that runs: the stop signal until `kill_at`, then every means there is. Held.
  Result<> StopHeld(const Ctx& ctx, ContainerEntry& container, Clock::time_point kill_at);
  // Everything of a container that does not run, with its record. Held.
  Result<> DiscardContainer(const Ctx& ctx, ContainerEntry& container);
  Result<> FreeContainer(const Ctx& ctx, ContainerEntry& container);
  // Stops it if need be, records the intent, discards it. Held.
  Result<> RemoveHeld(const Ctx& ctx, ContainerEntry& container);
  void TellStopped(const Ctx& ctx, ContainerEntry& container);
  Hooks::Pass TellRemoved(const Ctx& ctx, ContainerEntry& container);
  // workflow/native.cc: what a native handler leaves to us.
  bool MakesCgroupAhead(const ContainerRecord& record) const;
  // The linux.resources that it has then; "": it may lack some.
  GoingOn<std::string> MakeCgroupAhead(const PodRecord& sandbox, ContainerEntry& container,
                                       std::shared_ptr<const NodeFacts> facts);
  Result<> RemoveCgroupAhead(const Ctx& ctx, const ContainerRecord& record);
  // `limits`: those of the cgroup that was made ahead. Null: there is nothing to be done ahead.
  Result<std::shared_ptr<StartAhead>> PlanStartAhead(const Ctx& ctx, const ContainerRecord& record,
                                                     std::shared_ptr<const nlohmann::json> config,
                                                     const std::string& limits);
  static bool MayBegin(const PodRecord& sandbox, const ContainerConfig& config);
  // Where systemd makes the cgroup: with a process in it, which is to stay until the container's has joined. Else null.
  Result<std::unique_ptr<sys::IdleProcess>> PrepareNative(const Ctx& ctx, const ContainerRecord& record,
                                                          const std::string& config_json, runtime::ContainerSpec& spec);
  runtime::NativeCgroup NativeCgroupOf(const ContainerRecord& record) const;
  // All processes by the freezer, whatever the handler. kNotFound: it has ended. So already: success.
  Result<> SetPaused(const Ctx& ctx, const ContainerRecord& record, bool paused);
  Result<runtime::ExecSpec> MakeExecSpec(const ContainerRecord& record, const std::vector<std::string>& cmd,
                                         bool terminal) const;
  std::vector<CallTiming> Timings(const std::string& pod_id) const override;
  static void NoteTiming(const Ctx& ctx, PodEntry& pod, const char* call, const std::string& container);
  // The OCI runtime's state and the cgroup of a container that has ended. Held.
  Result<> CleanRuntimeState(const Ctx& ctx, ContainerEntry& container);
  // Not there: success. A container that has ended needs it no more. Held.
  Result<> UnmountRootfs(const Ctx& ctx, const ContainerEntry& container);
  // A stop that waits for the end of its grace waits no longer.
  void HurryStop(ContainerEntry& container, Clock::time_point kill_at);
  bool WaitForExit(ContainerEntry& container, Clock::time_point until);
  Result<> Escalate(const Ctx& ctx, ContainerEntry& container);

  // ---- exits.cc ----
  void OnEvent(RuntimeEvent event);
  void NoteExit(ContainerEntry& container, const runtime::ContainerExit& exit);
  // The end of a container that nobody reported: from its exit file, else as given.
  void NoteLost(ContainerEntry& container, int code, const std::string& reason, const std::string& message);
  void OnShimLost(const PodId& id);
  void PostCleaning(CtrRef container);

  // ---- recover.cc ----
  Result<> CheckBootId();
  void MarkAllDead();
  void HoldAll();
  void RecoverAll(const Ctx& ctx);
  void RecoverPod(const Ctx& ctx, PodEntry& pod, std::vector<OpLock::Hold> taken);
  bool Reconnect(const Ctx& ctx, PodEntry& pod);
  void RecoverContainer(const Ctx& ctx, ContainerEntry& container, bool shim_there);
  void RecoverCheckpoint(const Ctx& ctx, ContainerEntry& container, bool may_run);
  void RecoverStart(const Ctx& ctx, ContainerEntry& container);
  void ReconnectLate(PodRef pod);

  // ---- sweep.cc ----
  void SweepPodDirs(const Ctx& ctx);
  void SweepContainerDirs(const Ctx& ctx);
  void SweepLeases();
  void SweepNetwork(const Ctx& ctx);
  void RetryDiscards(const Ctx& ctx);
  // A pod that is being removed, once more. False: it is still there.
  bool RetryDiscard(const PodId& id);
  Result<> FreeUnknownPod(const Ctx& ctx, const PodId& id);
  Result<> FreeUnknownContainer(const Ctx& ctx, const ContainerId& id);

  // Takes the lock; kNotFound when the object was erased while we waited.
  Result<OpLock::Hold> HoldPod(const Ctx& ctx, PodEntry& pod, const char* verb);
  Result<OpLock::Hold> SharePod(const Ctx& ctx, PodEntry& pod, const char* verb);
  Result<OpLock::Hold> HoldContainer(const Ctx& ctx, ContainerEntry& container, const char* verb);
  // Waits for what is being done ahead for its start, and gives it up. Held.
  void DropStartAhead(const Ctx& ctx, ContainerEntry& container);
  // For the start, which takes it.
  Result<OpLock::Hold> HoldForStart(const Ctx& ctx, ContainerEntry& container, const char* verb);
  PodFilePaths FilesOf(const PodRecord& record) const {
    return {record.files_bytes > 0 ? paths_.PodFiles(record.id) : paths_.PodDir(record.id)};
  }
  Result<> UnmountFiles(const PodRecord& record);  // with /dev/shm
  Result<> RemoveDir(const std::string& path);
  Result<> RemoveDir(const std::string& path, const std::stop_token& stop);
  bool DeleteLater(const std::string& removed_dir);
  Result<> ThrowAwayRoot(const ContainerId& id);
  Result<> MakeMountPoints();
  Hooks& hooks() { return deps_.hooks != nullptr ? *deps_.hooks : no_hooks_; }
  SandboxStatus PodStatusOf(const PodId& id);
  ContainerStatus StatusNow(ContainerEntry& container) { return StatusOf(*container.record.Lock(), paths_); }
  NodeFacts FreshFacts() const { return host_->Facts(); }

  const ManagerOptions options_;
  Deps deps_;
  NoHooks no_hooks_;
  const std::shared_ptr<Host> host_;  // shared with threads that a dead path may keep for ever (bounded.h)
  const Paths paths_;
  cdi::Registry cdi_;
  Store store_;
  std::atomic<std::chrono::milliseconds> host_path_timeout_{20s};
  bool rebooted_ = false;  // set by Load only
  // Holds of objects that recovery has not come to yet, by pod; verbs on them wait.
  Synchronized<std::map<PodId, std::vector<OpLock::Hold>>> recovering_;
  std::mutex checkpointing_;  // one checkpoint at a time on a node: they are big. Held throughout, never waited for
  std::stop_source stopping_;
  // Parts of verbs, which wait for them.
  Pool beside_{{.name = "cri-beside", .threads_max = 512, .never_waits = true, .elsewhere = true}};
  Workers exits_{1};                                        // records exits only: nothing here waits for a verb
  Workers background_{3};  // cleaning after exits, late reconnects
  Workers losses_{2};      // lost shims: what they left runs without a log until it is killed, so no cleaning delays it
  std::string mount_points_;                      // "" where they could not be made; fixed after Load
  Synchronized<std::set<std::string>> removing_;  // directories that removals_ has; leaf lock
  std::stop_source stop_removals_;
  Workers removals_{1};  // files of removed containers
  Retries retries_;      // removals and undos of pods that failed
};

// A pod's maps as the kernel wants them, and its root on the node.
sys::IdMaps UsernsMaps(const std::vector<IdMapping>& uids, const std::vector<IdMapping>& gids);
Owner PodRoot(const SandboxConfig& config);

// Makes a manager with another host: tests.
Result<std::unique_ptr<ManagerImpl>> MakeManager(const ManagerOptions& options, Manager::Deps deps,
                                                 std::unique_ptr<Host> host);

}  // namespace crisp::pod
