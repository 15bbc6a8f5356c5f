// StartContainer: exactly once per container. While one runs, another one joins it.
#include <algorithm>
#include <filesystem>

#include "base/failpoint.h"
#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "base/time.h"
#include "checkpoint/format.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

// After a restart nobody knows whether the caller of an earlier start has got its answer. Its repetition, once, is
// answered with success instead of "is already running".
bool TakeUnconfirmed(ContainerEntry& container) {
  auto record = container.record.Lock();
  return record->started_at != 0 && !record->removing && std::exchange(container.start_unconfirmed, false);
}

// The end of what a container wrote may be in it, and a status that is no UTF-8 is one that the kubelet cannot read.
std::string Utf8(const std::string& text) {
  if (IsValidUtf8(text)) return text;
  Result<Json> mended = ParseJson(DumpJson(Json(text)), "message");
  return mended ? mended->get<std::string>() : std::string();
}

}  // namespace

Result<> ManagerImpl::StartContainer(const Ctx& caller, const std::string& id) {
  CtrRef container = TRY(store_.FindContainer(id));
  std::shared_ptr<Flight<bool>> flight;
  {
    auto record = container->record.Lock();
    flight = container->start;
    if (flight == nullptr) container->start = std::make_shared<Flight<bool>>();
  }
  if (flight != nullptr) {
    TRY(flight->Wait(caller, StrCat("StartContainer of ", container->id.str())));
    return {};
  }
  Result<> started;
  Ctx ctx = caller.Detached(kVerbTimeout);
  if (PodRef pod = store_.Pod(container->pod)) {
    started = StartHeld(ctx, *pod, *container);
  } else {
    started = Error(Code::kNotFound, StrCat("container ", container->id.str(), " not found"));
  }
  {
    auto record = container->record.Lock();
    flight = std::exchange(container->start, nullptr);
  }
  if (PodRef pod = started ? store_.Pod(container->pod) : nullptr) {
    NoteTiming(caller, *pod, "StartContainer", container->record.Lock()->config.metadata.name);
  }
  flight->Land(started ? Result<bool>(true) : Result<bool>(started.error()));
  if (started) FAILPOINT("start_container.after_started");
  return started;
}

Result<> ManagerImpl::StartHeld(const Ctx& ctx, PodEntry& pod, ContainerEntry& container) {
  OpLock::Hold pod_hold = TRY(SharePod(ctx, pod, "StartContainer"));
  OpLock::Hold hold = TRY(HoldForStart(ctx, container, "StartContainer"));
  if (TakeUnconfirmed(container)) return {};
  TRY(CheckAllowed(Verb::kStart, *container.record.Lock()));
  if (pod.record.Lock()->phase != PodPhase::kReady) {
    return Error(Code::kFailedPrecondition, StrCat("pod sandbox ", pod.id.str(), " is not ready"));
  }
  Hooks::Pass pass = TRY(hooks().Enter(ctx));
  FAILPOINT("start_container.before_record");
  TRY(store_.Change(container, [](ContainerRecord& r) { r.start_asked_at = UnixNanosNow(); }));
  ctx.Stage("tell the plugins of the start");
  SandboxStatus sandbox = StatusOf(*pod.record.Lock());
  Result<> started = hooks().StartContainer(ctx, sandbox, StatusNow(container));
  if (started) started = RunInShim(ctx, pod, container);
  if (started) {
    hooks().PostStartContainer(ctx, sandbox, StatusNow(container));
  } else {
    pass.reset();
    DropStartAhead(ctx, container);  // else it would make again what is removed now
    NoteStartFailed(ctx, container, started.error());
  }
  return started;
}

Result<> ManagerImpl::RunInShim(const Ctx& ctx, PodEntry& pod, ContainerEntry& container) {
  FAILPOINT("start_container.after_record");
  ContainerRecord record = *container.record.Lock();
  // The kubelet makes the log directory; other clients rely on the runtime.
  if (size_t slash = record.log_path.rfind('/'); slash != std::string::npos && slash > 0) {
    TRY(sys::MakeDirs(record.log_path.substr(0, slash), 0755), "log directory");
  }
  // The shim opens it without following; this names the field.
  std::error_code unreadable;
  if (std::filesystem::is_symlink(std::filesystem::symlink_status(record.log_path, unreadable))) {
    return Error(Code::kFailedPrecondition, StrCat("log_path: ", Quote(record.log_path), " is a symbolic link"));
  }
  FAILPOINT("start_container.after_log_dir");
  runtime::ContainerSpec spec;
  spec.id = container.id;
  spec.handler = record.handler;
  spec.bundle_dir = paths_.Bundle(container.id);
  spec.log_path = record.log_path;
  spec.terminal = record.config.tty;
  spec.stdin_open = record.config.stdin_open;
  spec.stdin_once = record.config.stdin_once;
  spec.oom_event_files = deps_.cgroups.OomEventFiles(record.cgroup_path);
  if (record.restore) {
    TRY(deps_.runtime.CanCheckpoint(ctx, record.handler));
    spec.restore_images_dir = StrCat(paths_.Checkpoint(container.id), "/", checkpoint::kImagesDir);
  }
  std::unique_ptr<sys::IdleProcess> placeholder;  // keeps a scope of systemd's until the container's process is in it
  if (deps_.runtime.IsNative(record.handler)) {
    ctx.Stage("await what was prepared");
    if (container.start_ahead) spec.launch = std::exchange(container.start_ahead, nullptr)->Take().launch;
    if (spec.launch.empty()) {
      ctx.Stage("make the container's cgroup");
      std::string config_json = TRY(sys::ReadFile(paths_.ConfigJson(record.id)));
      placeholder = TRY(PrepareNative(ctx, record, config_json, spec));
    }
    FAILPOINT("start_container.after_cgroup");
  }
  ctx.Stage("start the container in the pod's shim");
  Result<runtime::Started> run = deps_.runtime.StartContainer(ctx, pod.id, spec);
  placeholder.reset();
  if (!run && record.restore) {
    Result<std::string> log = sys::ReadFile(paths_.Bundle(container.id) + "/restore.log", 64u << 20);
    std::string why = log ? checkpoint::LastErrorOfCriuLog(*log) : "";
    return Error(run.error().code(), StrCat("restore: ", run.error().message(), why.empty() ? "" : ": ", why));
  }
  runtime::Started started = TRY(std::move(run));
  FAILPOINT("start_container.after_run");
  TRY(store_.Change(container, [&](ContainerRecord& r) {
    r.started_at = UnixNanosNow();
    // Its exit may have been noted before its start.
    if (r.finished_at != 0 && r.finished_at < r.started_at) r.started_at = r.finished_at;
    r.pid = started.pid;
  }));
  // The container has its own copies of them, and the node's volumes shall not be busy for longer than it runs. A volume from
  // an image has an empty layer in there, without which its directories list nothing: then all stays until the removal.
  bool image_volumes = std::ranges::any_of(record.config.mounts, [](const Mount& mount) { return !mount.image_ref.empty(); });
  Result<> unstaged = image_volumes ? Result<>() : host_->Unstage(paths_.Mounts(container.id));
  if (!unstaged) {
    LogWarning("staged mounts stay until the container is removed",
               {{"container", container.id.str()}, {"error", unstaged.error()}});
  }
  FAILPOINT("start_container.after_unstage");
  if (record.restore) {
    // Its memory once more, on disk. What cannot be removed now goes with the container.
    Result<> removed = sys::RemoveTree(paths_.Checkpoint(container.id));
    if (!removed)
      LogWarning("checkpoint of a restored container stays for now",
                 {{"container", container.id.str()}, {"error", removed.error()}});
  }
  return {};
}

void ManagerImpl::NoteStartFailed(const Ctx& ctx, ContainerEntry& container, const Error& error) {
  Ctx undo = ctx.Detached(kUndoTimeout);
  const bool written = store_.Note(container, [&](ContainerRecord& r) {
    r.exit_code = kExitStartError;
    r.reason = kReasonStartError;
    r.message = Utf8(error.message());
    r.started_at = r.start_asked_at;
    r.finished_at = UnixNanosNow();
  });
  // The runtime leaves nothing of a container that it could not start; this is for what failed after that.
  Result<> cleaned = CleanRuntimeState(undo, container);
  // A crispd that does not know of the failure undoes the start: then it is to be started again.
  if (cleaned && written) cleaned = UnmountRootfs(undo, container);
  if (!cleaned) {
    LogWarning("remains of a container that did not start, removing it will try again",
               {{"container", container.id.str()}, {"error", cleaned.error()}});
  }
}

}  // namespace crisp::pod
