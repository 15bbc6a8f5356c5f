// The one implementation of Runtime. Private to the module.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <mutex>

#include "base/synchronized.h"
#include "runtime/exec_place.h"
#include "runtime/native_handler.h"
#include "runtime/oci_handler.h"
#include "runtime/runtime.h"
#include "runtime/shim_forks.h"
#include "runtime/shim_link.h"

namespace crisp::runtime {

// One run of `exec`. Its files are removed with it.
struct ExecPlan {
  std::vector<std::string> argv;
  std::string process_file, pid_file, log_file;
  std::string console_socket;  // file name in the run directory's tmp/, "" = no terminal
  std::vector<std::string> cgroup_dirs;
  sys::UniqueFd launch;  // of a native handler: instead of argv and files

  ExecPlan() = default;
  ExecPlan(ExecPlan&&) = default;
  ~ExecPlan();
  shimapi::StartExec Request(uint64_t exec, const ContainerId& container) const;
  // What the request carries: stdio, and the launch where there is one.
  std::vector<sys::BorrowedFd> Fds(std::vector<sys::BorrowedFd> stdio) const;
  // `error`, or what the runtime itself says about its failure.
  Error Explain(Error error, const shimapi::ErrorReply& failure) const;
};

class RuntimeImpl final : public Runtime {
 public:
  static Result<std::unique_ptr<Runtime>> Make(Options options);
  ~RuntimeImpl() override;

  bool HasHandler(const std::string& name) const override;
  std::vector<std::pair<std::string, HandlerFeatures>> Handlers() const override;
  bool IsNative(const std::string& handler) const override;
  Result<sys::OwnedNamespaces> MakeUserns(const Ctx& ctx, const sys::UsernsRequest& request) override;
  Result<std::unique_ptr<sys::IdleProcess>> MakeIdle() override {
    return sys::IdleProcess::Start(options_.shim_binary);
  }
  Result<PodNamespaces> StartPod(const Ctx& ctx, const PodSpec& spec) override;
  Result<PodNamespaces> ReconnectPod(const Ctx& ctx, const PodId& pod, const std::string& run_dir) override;
  Result<> StopPod(const Ctx& ctx, const PodId& pod, const std::string& run_dir) override;
  Result<PreparedStart> PrepareStart(const PodId& pod, const ContainerSpec& spec,
                                     const std::function<Result<>()>& await_cgroup) override;
  Result<> EndBegun(const Ctx& ctx, const PodId& pod, const ContainerId& id) override;
  Result<Started> StartContainer(const Ctx& ctx, const PodId& pod, const ContainerSpec& spec) override;
  Result<> Signal(const Ctx& ctx, const PodId& pod, const ContainerId& id, int signal) override;
  Result<> DeleteContainer(const Ctx& ctx, const PodId& pod, const ContainerId& id, const std::string& handler,
                           const std::string& bundle_dir) override;
  Result<> UpdateContainer(const Ctx& ctx, const ContainerId& id, const std::string& handler,
                           const std::string& resources_json) override;
  Result<> ReopenLog(const Ctx& ctx, const PodId& pod, const ContainerId& id) override;
  Result<> CanCheckpoint(const Ctx& ctx, const std::string& handler) override;
  Result<> PauseContainer(const Ctx& ctx, const ContainerId& id, const std::string& handler) override;
  Result<> ResumeContainer(const Ctx& ctx, const ContainerId& id, const std::string& handler) override;
  Result<> CheckpointContainer(const Ctx& ctx, const CheckpointSpec& spec) override;
  Result<ExecSyncResult> ExecSync(const Ctx& ctx, const PodId& pod, const ContainerId& id, const std::string& handler,
                                  const ExecSpec& spec, std::chrono::seconds timeout, size_t output_bytes_max) override;
  Result<std::unique_ptr<StreamSession>> OpenExec(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                                  const std::string& handler, const ExecSpec& spec,
                                                  const StreamWants& wants) override;
  Result<std::unique_ptr<StreamSession>> OpenAttach(const Ctx& ctx, const PodId& pod, const ContainerId& id,
                                                    const StreamWants& wants) override;

 private:
  using LinkPtr = std::shared_ptr<ShimLink>;
  // A configured handler, and what its program can do: asked at first use, because a start must not wait for it.
  struct Handler {
    explicit Handler(HandlerConfig config) : native(config.type == "native"), oci(std::move(config)) {}
    const HandlerAbilities& Abilities();
    const bool native;
    OciHandler oci;
    std::once_flag probed;
    HandlerAbilities abilities;
  };

  explicit RuntimeImpl(Options options);
  Result<Handler*> FindHandler(const std::string& name) const;
  Result<LinkPtr> FindLink(const Ctx& ctx, const PodId& pod);
  ShimLink::ContainerExited ExitCallback();
  void OnGone(const LinkPtr& link);
  void OnClosed(const LinkPtr& link);
  Result<std::shared_ptr<const sys::UniqueFd>> ShimProgram();
  // A file of a mount namespace with nothing in it, for shims; "" where none could be made: they do without.
  std::string EmptyMounts();
  Result<sys::Process> SpawnShimProcess(const PodSpec& spec);
  Result<LinkPtr> SpawnShim(const PodSpec& spec);
  Result<LinkPtr> Dial(const PodId& pod, const std::string& run_dir);
  Result<PodNamespaces> SetUp(const Ctx& ctx, const PodSpec& spec, ShimLink& link);
  Result<> SetPaused(const Ctx& ctx, const ContainerId& id, const std::string& handler, bool paused);
  bool BeginStart(const PodId& pod, const ContainerSpec& spec, const std::string& launch);
  Result<Started> StartNative(const Ctx& ctx, ShimLink& link, const ContainerSpec& spec);
  Result<Started> RestoreNative(const Ctx& ctx, ShimLink& link, const ContainerSpec& spec);
  Error StartError(const ContainerSpec& spec, Error error, const shimapi::ErrorReply& failure, const std::string& log);
  Result<> Forget(const Ctx& ctx, const PodId& pod, const ContainerId& id);
  void EndByForce(const ShimLink& link);
  Result<std::shared_ptr<const std::vector<sys::MountInfo>>> CgroupMounts();
  Result<ExecPlan> PlanExec(const ShimLink& link, const ContainerId& id, const std::string& handler,
                            const ExecSpec& spec);

  Options options_;
  std::map<std::string, std::unique_ptr<Handler>> handlers_;  // fixed after the constructor
  Synchronized<std::map<PodId, LinkPtr>> links_;              // leaf lock
  struct OpenProgram {
    std::shared_ptr<const sys::UniqueFd> fd;
    struct stat file{};  // before it was opened
  };
  Synchronized<OpenProgram> shim_program_;  // leaf lock
  ShimForks forks_;
  std::atomic<bool> told_of_slow_shims_{false};
  Synchronized<sys::UniqueFd> empty_mounts_;  // made at the first start: with many pods it takes some ms
  Synchronized<std::shared_ptr<const std::vector<sys::MountInfo>>> cgroup_mounts_;  // made at the first exec
  ExecTemplates exec_templates_;
  std::unique_ptr<ShimHub> hub_;
};

// exec_sync.cc
// Runs `plan` in `container` through the shim, collects its output, and kills all of it at the deadline of `ctx`.
Result<ExecSyncResult> RunExecSync(const Ctx& ctx, ShimLink& link, const ContainerId& container, const ExecPlan& plan,
                                   size_t output_bytes_max, shimapi::ErrorReply* failure);

// streams.cc; OpenExec and OpenAttach for one link.
using LinkRef = std::shared_ptr<ShimLink>;
Result<std::unique_ptr<StreamSession>> StartExecSession(const Ctx& ctx, LinkRef link, const ContainerId& container,
                                                        const ExecPlan& plan, const StreamWants& wants,
                                                        shimapi::ErrorReply* failure);
Result<std::unique_ptr<StreamSession>> StartAttachSession(const Ctx& ctx, LinkRef link, const ContainerId& container,
                                                          const StreamWants& wants);

}  // namespace crisp::runtime
