// Restore: CreateContainer from a checkpoint image, and RestorePod. The container is planned from the live request like
// any other; the archive adds its memory and its changed files, and StartContainer lets the OCI runtime restore instead
// of run.
#include <fcntl.h>
#include <sys/stat.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "checkpoint/diff.h"
#include "checkpoint/files.h"
#include "checkpoint/format.h"
#include "checkpoint/processes.h"
#include "pod/checkpoint.h"
#include "pod/manager_impl.h"
#include "pod/validate.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

constexpr size_t kPodDumpBytesMax = 1u << 20;
constexpr char kNodeCriuConfig[] = "/etc/criu/runc.conf";  // where runc looks by itself; --tcp-close and the like
constexpr size_t kNodeCriuConfigBytesMax = 64 * 1024;

Result<> CheckRestoreEnabled(const CheckpointOptions& options) {
  if (options.restore) return {};
  return Error(Code::kUnimplemented, "restoring checkpoints is turned off on this node (checkpoint.restore)");
}

// Regular, and nothing that somebody put there as a link to something else.
Result<sys::UniqueFd> OpenArchive(const std::string& path) {
  sys::UniqueFd fd = TRY(sys::Open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), "checkpoint");
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return Errno(errno, "stat " + path);
  if (!S_ISREG(info.st_mode)) return Error(Code::kInvalidArgument, StrCat(Quote(path), " is no archive"));
  return fd;
}

}  // namespace

// The image that the container of the checkpoint ran from: what the root file system is made of.
Result<image::ImageRef> ManagerImpl::BaseImage(const image::Image& image) {
  TRY(CheckRestoreEnabled(options_.checkpoint));
  if (image.layer_dirs.size() != 1) return Error(Code::kInvalidArgument, "a checkpoint image has one layer");
  const std::string text =
      TRY(checkpoint::ReadMember(image.layer_dirs.front(), checkpoint::kConfigDump), "checkpoint image");
  checkpoint::ContainerDump dump = TRY(checkpoint::ParseContainerDump(text));
  for (const std::string& name : {dump.image_ref, dump.image}) {
    if (name.empty()) continue;
    Result<image::ImageRef> base = deps_.images.Find(name);
    if (base && *base != nullptr && (*base)->checkpoint_of.empty()) return base;
  }
  return Error(Code::kNotFound, StrCat("image ", Quote(dump.image.empty() ? dump.image_ref : dump.image),
                                       ", which the checkpoint was made of, is not on this node; pull it first"));
}

// Brings the checkpoint's files into a directory of the container and its changed files into the upper directory.
Result<> ManagerImpl::StageCheckpoint(const Ctx& ctx, ContainerEntry& container, const CheckpointSource& source,
                                      const image::Image& base) {
  const std::string dir = paths_.Checkpoint(container.id);
  const std::string upper = rootfs::UpperDir(paths_.ContainerRoot(container.id));
  ctx.Stage("unpack the checkpoint");
  TRY(sys::MakeDir(dir, 0700));
  FAILPOINT("restore.after_dir");
  if (!source.archive.empty()) {
    sys::UniqueFd archive = TRY(OpenArchive(source.archive));
    TRY(checkpoint::UnpackArchive(ctx, archive, dir), "checkpoint");
  } else {
    TRY(checkpoint::CopyLayer(ctx, source.layer_dir, dir), "checkpoint image");
  }
  const std::string config = TRY(checkpoint::ReadMember(dir, checkpoint::kConfigDump));
  TRY(checkpoint::ParseContainerDump(config));
  if (!sys::Exists(StrCat(dir, "/", checkpoint::kImagesDir)))
    return Error(Code::kInvalidArgument, "the checkpoint has no images of processes");
  FAILPOINT("restore.after_unpack");
  TRY(sys::MakeDir(upper, 0755));
  return ApplyDiff(ctx, dir, upper, base.layer_dirs);
}

// After the root file system is mounted.
Result<> ManagerImpl::DeleteAsCheckpointed(const Ctx& ctx, ContainerEntry& container) {
  Result<std::string> list =
      sys::ReadFile(StrCat(paths_.Checkpoint(container.id), "/", checkpoint::kDeletedFiles), 64u << 20);
  if (!list && list.error().os_errno() == ENOENT) return {};
  if (!list) return std::move(list).error();
  std::vector<std::string> paths = TRY(checkpoint::ParseDeletedFiles(*list));
  return checkpoint::ApplyDeleted(ctx, paths_.Rootfs(container.id), paths);
}

// Checks the planned config.json against the checkpoint, and returns the one to restore with.
Result<std::string> ManagerImpl::PrepareRestore(ContainerEntry& container, const std::string& config_json) {
  std::string spec = TRY(checkpoint::ReadMember(paths_.Checkpoint(container.id), checkpoint::kSpecDump));
  TRY(CheckMounts(spec, config_json));
  checkpoint::ProcessRules rules = TRY(checkpoint::RulesOf(config_json));
  TRY(checkpoint::CheckProcesses(StrCat(paths_.Checkpoint(container.id), "/", checkpoint::kImagesDir), rules));
  // CRIU makes a UTS namespace with the host name of then (runc 1.1 tells it of network and PID namespaces only), and one
  // that it is told to join (--join-ns) CRIU 3.17 gives that name, too.
  PodRef pod = TRY(store_.FindPod(container.record.Lock()->pod.str()));
  PodRecord sandbox = *pod->record.Lock();
  std::string hostname = TRY(sys::ReadFile(FilesOf(sandbox).Hostname()));
  TRY(checkpoint::SetHostname(paths_.Checkpoint(container.id), Trim(hostname)), "host name of the restored container");
  const std::string path = paths_.Bundle(container.id) + "/criu.conf";
  RestoreConfig plan =
      TRY(PlanRestore(config_json, path, sys::ReadFile(kNodeCriuConfig, kNodeCriuConfigBytesMax).value_or("")));
  TRY(sys::WriteFileAtomic(path, plan.criu_config, 0600, sys::Durability::kNone));
  return plan.config_json;
}

// What cannot be removed now is removed later: no client knows of it.
Result<> ManagerImpl::DiscardRestored(const Ctx& caller, PodEntry& pod) {
  Result<> removed = RemoveSandbox(caller.Detached(kUndoTimeout), pod.id.str());
  if (removed) return removed;
  store_.Note(pod, [](PodRecord& r) { r.phase = PodPhase::kRemoving; });
  retries_.Add(pod.id);
  return removed;
}

struct ManagerImpl::RestorePlan {
  std::map<std::string, std::string> archives;  // by the container's name
};

Result<ManagerImpl::RestorePlan> ManagerImpl::PlanRestorePod(const std::string& dir,
                                                             const std::vector<ContainerConfig>& containers) {
  sys::UniqueFd file = TRY(OpenArchive(StrCat(dir, "/", checkpoint::kPodDump)));
  const std::string text = TRY(sys::ReadAll(file, kPodDumpBytesMax));
  checkpoint::PodDump dump = TRY(checkpoint::ParsePodDump(text));
  RestorePlan plan;
  for (const checkpoint::PodDump::Member& member : dump.members) {
    if (!plan.archives.emplace(member.container, StrCat(dir, "/", member.archive)).second) {
      return Error(Code::kInvalidArgument, StrCat("the checkpoint has container ", Quote(member.container), " twice"));
    }
  }
  std::set<std::string> asked;
  for (const ContainerConfig& each : containers) {
    const std::string& name = each.metadata.name;
    if (!plan.archives.contains(name))
      return Error(Code::kInvalidArgument, StrCat("the checkpoint has no container ", Quote(name)));
    if (!asked.insert(name).second)
      return Error(Code::kInvalidArgument, StrCat("two configurations for container ", Quote(name)));
  }
  for (const auto& [name, archive] : plan.archives) {
    // What a container may do is the caller's to say, never the archive's (S55).
    if (!asked.contains(name))
      return Error(Code::kInvalidArgument, StrCat("no configuration for the checkpoint's container ", Quote(name)));
  }
  return plan;
}

Result<RestoredPod> ManagerImpl::RestorePod(const Ctx& caller, const std::string& dir, const SandboxConfig& config,
                                            const std::vector<ContainerConfig>& containers) {
  TRY(CheckRestoreEnabled(options_.checkpoint));
  RestorePlan plan = TRY(PlanRestorePod(dir, containers));
  const std::string handler = config.runtime_handler.empty() ? options_.default_handler : config.runtime_handler;
  TRY(deps_.runtime.CanCheckpoint(caller, handler));
  TRY(CheckSandboxConfig(config));
  PodClaim claim = TRY(store_.ClaimPod(config));
  if (claim.kind != PodClaim::Kind::kNew) return Error(Code::kAlreadyExists, "a pod sandbox has that name");
  claim.entry->record.Lock()->restoring = true;
  Result<RestoredPod> restored = MakeRestored(caller, *claim.entry, plan, containers);
  // Only now: who runs the same pod meanwhile shall not be told the id of one that goes again.
  store_.Land(claim, restored ? Result<PodId>(restored->pod) : Result<PodId>(restored.error()));
  if (restored) LogInfo("pod restored, its containers can be started", {{"pod", restored->pod.str()}, {"from", dir}});
  return restored;
}

Result<RestoredPod> ManagerImpl::MakeRestored(const Ctx& caller, PodEntry& pod, const RestorePlan& plan,
                                              const std::vector<ContainerConfig>& containers) {
  RestoredPod restored{pod.id, {}};
  Rollback undo;
  // Also where the sandbox's own making fails when it stands already.
  undo.Add("remove a pod that could not be restored", [&] { return DiscardRestored(caller, pod); });
  TRY(MakeSandbox(caller.Detached(kRunSandboxTimeout), pod));
  FAILPOINT("restore_pod.after_sandbox");
  for (const ContainerConfig& each : containers) {
    const std::string& name = each.metadata.name;
    restored.containers.emplace_back(name, TRY(CreateFrom(caller, pod.id.str(), each, plan.archives.at(name)),
                                               StrCat("container ", Quote(name))));
    FAILPOINT("restore_pod.after_container");
  }
  TRY(store_.Change(pod, [](PodRecord& r) { r.restoring = false; }));
  undo.Dismiss();
  FAILPOINT("restore_pod.after_record");
  return restored;
}

}  // namespace crisp::pod
