// CheckpointContainer and CheckpointPod (KEP-2008, KEP-5823): freeze, capture, thaw, then write the archives.
// Containers go on running whatever happens; what a crash of ours leaves frozen or half written, recovery thaws and
// removes.
#include <unistd.h>

#include <algorithm>
#include <set>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "checkpoint/diff.h"
#include "checkpoint/format.h"
#include "pod/checkpoint.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

// CRIU has code of its own running inside the processes that it dumps: killing it half-way kills them. So it may go on
// for so long after the caller's time is over.
constexpr auto kDumpGrace = 30s;
constexpr int kThawRetries = 2;

Result<> CheckEnabled(const CheckpointOptions& options) {
  if (options.enabled) return {};
  return Error(Code::kUnimplemented, "checkpoints are turned off on this node (checkpoint.enabled)");
}

std::string PodCheckpointTag(const PodId& id) { return id.str(); }

std::chrono::milliseconds TimeLeft(const Ctx& ctx) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::max(ctx.deadline() - Clock::now(), Clock::duration::zero()));
}

std::string DirOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

// One that holds something belongs to whoever put it there.
void RemoveEmptyDir(const std::string& dir) { (void)rmdir(dir.c_str()); }

Result<> ForgetPodCheckpoint(const ContainerRecord& record) {
  const std::string dump = StrCat(DirOf(record.checkpoint_to), "/", checkpoint::kPodDump);
  TRY(checkpoint::ArchiveWriter::Discard(dump, PodCheckpointTag(record.pod)));
  if (sys::Exists(dump)) return {};  // all of them are in place
  return checkpoint::ArchiveWriter::Withdraw(record.checkpoint_to, record.checkpoint_inode);
}

}  // namespace

std::string CheckpointTag(const ContainerId& id) { return id.str(); }

// S54: what a flood of checkpoints can take of the node. Called with the turn held.
Result<> ManagerImpl::CheckArchiveRoom(const std::string& archive) const {
  const size_t there = TRY(checkpoint::CountArchives(archive));
  if (there < static_cast<size_t>(options_.checkpoint.archives_max)) return {};
  return Error(Code::kResourceExhausted,
               StrCat("there are ", there, " checkpoints in that directory already (checkpoint.archives_max)"));
}

// The container is held and running. From here on ThawContainer is owed.
Result<> ManagerImpl::FreezeContainer(const Ctx& ctx, ContainerEntry& container, const std::string& archive,
                                      bool new_dir) {
  ContainerRecord record = *container.record.Lock();
  Result<cgroup::Usage> usage = deps_.cgroups.Read(record.cgroup_path);
  const uint64_t bytes_max = static_cast<uint64_t>(options_.checkpoint.bytes_max);
  if (usage && usage->working_set_bytes.value_or(0) > bytes_max) {
    return Error(Code::kResourceExhausted,
                 StrCat("container ", record.id.str(), " uses more memory than checkpoint.bytes_max"));
  }
  TRY(store_.Change(container, [&](ContainerRecord& r) {
    r.checkpoint_to = archive;
    r.checkpoint_dir_ours = new_dir;
  }));
  FAILPOINT("checkpoint.after_record");
  TRY(sys::RemoveTree(paths_.Dump(record.id)));
  TRY(sys::MakeDir(paths_.Dump(record.id), 0700));
  TRY(sys::MakeDir(StrCat(paths_.Dump(record.id), "/", checkpoint::kImagesDir), 0700));
  FAILPOINT("checkpoint.after_dirs");
  TRY(SetPaused(ctx, record, true), StrCat("container ", record.id.str()));
  FAILPOINT("checkpoint.after_pause");
  return {};
}

// Of a frozen container: its memory and its changed files, into the dump directory.
Result<> ManagerImpl::CaptureContainer(const Ctx& ctx, ContainerEntry& container) {
  ContainerRecord record = *container.record.Lock();
  const std::string dump = paths_.Dump(record.id);
  Ctx patient = ctx.Detached(TimeLeft(ctx) + kDumpGrace);
  runtime::CheckpointSpec spec;
  spec.id = record.id;
  spec.handler = record.handler;
  spec.dirs = {StrCat(dump, "/", checkpoint::kImagesDir), dump};
  if (deps_.runtime.IsNative(record.handler)) {
    // Frozen by its cgroup: whoever has this number and is in there is the container's, and cannot go.
    std::vector<pid_t> there = TRY(deps_.cgroups.Processes(record.cgroup_path));
    if (std::find(there.begin(), there.end(), record.pid) == there.end()) {
      return Error(Code::kFailedPrecondition, StrCat("container ", record.id.str(), " has just ended"));
    }
    spec.pid = record.pid;
    spec.bundle_dir = paths_.Bundle(record.id);
    spec.config_json = TRY(sys::ReadFile(paths_.ConfigJson(record.id)));
    spec.cgroup = NativeCgroupOf(record);
  }
  Result<> dumped = deps_.runtime.CheckpointContainer(patient, spec);
  if (!dumped) {
    Result<std::string> log = sys::ReadFile(StrCat(dump, "/", checkpoint::kDumpLog), 64u << 20);
    std::string why = log ? checkpoint::LastErrorOfCriuLog(*log) : "";
    return Error(dumped.error().code(), StrCat(dumped.error().message(), why.empty() ? "" : ": ", why));
  }
  FAILPOINT("checkpoint.after_dump");
  TRY(ctx.Check());
  ctx.Stage("collect the container's changed files");
  image::ImageRef image = deps_.images.Find(record.image_id).value_or(nullptr);
  if (image == nullptr) {
    LogWarning("image of a container is gone, files that it replaced whole directories of are not listed as deleted",
               {{"container", record.id.str()}});
  }
  checkpoint::Diff diff = TRY(checkpoint::WriteDiff(
      ctx, rootfs::UpperDir(paths_.ContainerRoot(record.id)), image ? image->layer_dirs : std::vector<std::string>(),
      StrCat(dump, "/", checkpoint::kDiffTar), static_cast<uint64_t>(options_.checkpoint.bytes_max)));
  if (!diff.deleted.empty()) {
    TRY(sys::WriteFileAtomic(StrCat(dump, "/", checkpoint::kDeletedFiles), checkpoint::EncodeDeletedFiles(diff.deleted),
                             0600, sys::Durability::kNone));
  }
  FAILPOINT("checkpoint.after_diff");
  return {};
}

// Idempotent, and without regard to anybody's deadline.
Result<> ManagerImpl::ThawContainer(const Ctx& ctx, ContainerEntry& container) {
  ContainerRecord record = *container.record.Lock();
  Ctx own = ctx.Detached(kUndoTimeout);
  Result<> resumed = SetPaused(own, record, false);
  for (int i = 0; i < kThawRetries && !resumed && resumed.error().code() != Code::kNotFound; ++i) {
    resumed = SetPaused(own, record, false);
  }
  // Not found: it has ended meanwhile.
  if (!resumed && resumed.error().code() != Code::kNotFound) return std::move(resumed).error();
  FAILPOINT("checkpoint.after_resume");
  return {};
}

// What a checkpoint leaves besides its archive, and the archives of a pod's that has not become one. Idempotent; recovery
// calls it for those that we died in.
Result<> ManagerImpl::ForgetCheckpoint(ContainerEntry& container) {
  ContainerRecord record = *container.record.Lock();
  if (record.checkpoint_to.empty()) return {};
  TRY(checkpoint::ArchiveWriter::Discard(record.checkpoint_to, CheckpointTag(record.id)));
  if (record.checkpoint_inode != 0) TRY(ForgetPodCheckpoint(record));
  TRY(sys::RemoveTree(paths_.Dump(record.id)));
  FAILPOINT("checkpoint.after_clean");
  if (record.checkpoint_dir_ours) RemoveEmptyDir(DirOf(record.checkpoint_to));
  store_.Note(container, [](ContainerRecord& r) {
    r.checkpoint_to.clear();
    r.checkpoint_inode = 0;
    r.checkpoint_dir_ours = false;
  });
  return {};
}

Result<> ManagerImpl::CheckpointContainer(const Ctx& caller, const std::string& id, const std::string& location,
                                          std::chrono::seconds timeout) {
  TRY(CheckEnabled(options_.checkpoint));
  CtrRef container = TRY(store_.FindContainer(id));
  Ctx ctx = caller.Detached(timeout.count() > 0 ? std::chrono::milliseconds(timeout) : kVerbTimeout);
  Result<> written = CheckpointAll(ctx, {{{container, location}}, ""}, [](std::vector<checkpoint::ArchiveWriter>& archives) {
    return archives.front().Commit();
  });
  if (!written) return std::move(written).error().Context(StrCat("checkpoint of container ", container->id.str()));
  LogInfo("container checkpointed", {{"container", container->id.str()}, {"to", location}});
  return {};
}

// All of them frozen together, then captured, thawed, written; `commit` gives the archives their names.
Result<> ManagerImpl::CheckpointAll(const Ctx& ctx, const CheckpointWork& work,
                                    const std::function<Result<>(std::vector<checkpoint::ArchiveWriter>&)>& commit) {
  const auto& containers = work.archives;
  std::unique_lock turn(checkpointing_, std::try_to_lock);
  if (!turn.owns_lock()) return Error(Code::kResourceExhausted, "another checkpoint is being made; one at a time");
  std::vector<OpLock::Hold> holds;
  std::set<ContainerId> frozen;  // could not be thawed: the record goes on saying so, for the next start of crispd
  Rollback clean;                // runs in any case
  for (const auto& [container, location] : containers) {
    holds.push_back(TRY(HoldContainer(ctx, *container, "a checkpoint")));
    TRY(CheckAllowed(Verb::kCheckpoint, *container->record.Lock()));
  }
  // The other way round nobody would know whose directory it is. One that is new has room.
  TRY(CheckArchiveRoom(work.new_dir.empty() ? containers.front().second : work.new_dir));
  std::vector<checkpoint::ArchiveWriter> archives;
  for (const auto& [container, location] : containers) {
    const std::string handler = container->record.Lock()->handler;
    TRY(deps_.runtime.CanCheckpoint(ctx, handler));
  }
  {
    Rollback thaw;  // runs in any case
    for (const auto& [container, location] : containers) {
      clean.Add("remove what a checkpoint has left", [this, &frozen, c = container] {
        return frozen.contains(c->id) ? Result<>() : ForgetCheckpoint(*c);
      });
      thaw.Add("resume the container after its checkpoint", [this, &ctx, &frozen, c = container] {
        Result<> thawed = ThawContainer(ctx, *c);
        if (!thawed) frozen.insert(c->id);
        return thawed;
      });
      TRY(FreezeContainer(ctx, *container, location, !work.new_dir.empty()));
    }
    for (const auto& [container, location] : containers) TRY(CaptureContainer(ctx, *container));
  }
  if (!frozen.empty()) {
    return Error(Code::kInternal, StrCat("container ", frozen.begin()->str(), " could not be resumed and is frozen"));
  }
  // All that follows is about files. It may hang (a dead NFS), and must not keep anybody from stopping the containers:
  // where one is removed meanwhile, its archive fails.
  holds.clear();
  ctx.Stage("write the checkpoint");
  if (!work.new_dir.empty()) TRY(sys::MakeDir(work.new_dir, 0700));
  FAILPOINT("checkpoint.after_new_dir");
  for (const auto& [container, location] : containers) {
    archives.push_back(TRY(checkpoint::ArchiveWriter::Create(location, CheckpointTag(container->id),
                                                             static_cast<uint64_t>(options_.checkpoint.bytes_max))));
    ContainerRecord record = *container->record.Lock();
    TRY(FillArchive(ctx, paths_, record, archives.back()));
    FAILPOINT("checkpoint.after_archive");
  }
  TRY(ctx.Check());
  return commit(archives);
}

// All or nothing: whatever is in place before pod.dump, ForgetCheckpoint takes away again.
Result<> ManagerImpl::CommitPod(const PodId& id, const CheckpointWork& work, const checkpoint::PodDump& dump,
                                std::vector<checkpoint::ArchiveWriter>& archives) {
  for (size_t i = 0; i < archives.size(); ++i) {
    const uint64_t inode = TRY(archives[i].Inode());
    TRY(store_.Change(*work.archives[i].first, [&](ContainerRecord& r) { r.checkpoint_inode = inode; }));
  }
  for (checkpoint::ArchiveWriter& archive : archives) {
    TRY(archive.Commit());
    FAILPOINT("checkpoint_pod.after_commit");
  }
  const std::string dir = DirOf(work.archives.front().second);
  TRY(checkpoint::CommitText(StrCat(dir, "/", checkpoint::kPodDump), PodCheckpointTag(id),
                             checkpoint::EncodePodDump(dump)));
  FAILPOINT("checkpoint_pod.after_dump");
  return {};
}

Result<> ManagerImpl::CheckpointPod(const Ctx& caller, const std::string& id, const std::string& dir,
                                    const std::vector<std::string>& container_ids) {
  TRY(CheckEnabled(options_.checkpoint));
  PodRef pod = TRY(store_.FindPod(id));
  Ctx ctx = caller.Detached(caller.deadline() == Clock::time_point::max() ? kVerbTimeout : TimeLeft(caller));
  OpLock::Hold pod_hold = TRY(SharePod(ctx, *pod, "CheckpointPod"));
  PodRecord sandbox = *pod->record.Lock();
  if (sandbox.phase != PodPhase::kReady)
    return Error(Code::kFailedPrecondition, StrCat("pod sandbox ", pod->id.str(), " is not ready"));
  // In the order of their ids, so that two verbs that hold several cannot hold each other up.
  std::map<ContainerId, CtrRef> chosen;
  for (const std::string& text : container_ids) {
    CtrRef container = TRY(store_.FindContainer(text));
    if (container->pod != pod->id)
      return Error(Code::kInvalidArgument, StrCat("container ", text, " is not of this pod"));
    chosen[container->id] = container;
  }
  if (container_ids.empty()) {
    for (const CtrRef& container : store_.ContainersOf(pod->id)) {
      if (LifeOf(*container->record.Lock()) == Life::kRunning) chosen[container->id] = container;
    }
  }
  if (chosen.empty()) return Error(Code::kFailedPrecondition, StrCat("nothing runs in pod sandbox ", pod->id.str()));

  if (sys::Exists(StrCat(dir, "/", checkpoint::kPodDump))) {
    return Error(Code::kAlreadyExists, StrCat(Quote(dir), " holds a checkpoint, which is not replaced"));
  }
  CheckpointWork work;
  if (!sys::Exists(dir)) work.new_dir = dir;
  checkpoint::PodDump dump{sandbox.id.str(),
                           sandbox.config.metadata.name,
                           sandbox.config.metadata.uid,
                           sandbox.config.metadata.pod_namespace,
                           {}};
  for (const auto& [container_id, container] : chosen) {
    const std::string name = container->record.Lock()->config.metadata.name;
    const std::string archive = StrCat(container_id.str(), ".tar");
    dump.members.push_back({name, archive});
    work.archives.emplace_back(container, StrCat(dir, "/", archive));
  }
  pod_hold.Release();  // from here on the containers' own holds count
  Result<> written = CheckpointAll(ctx, work, [&](std::vector<checkpoint::ArchiveWriter>& archives) {
    return CommitPod(pod->id, work, dump, archives);
  });
  if (!written) return std::move(written).error().Context(StrCat("checkpoint of pod sandbox ", pod->id.str()));
  LogInfo("pod checkpointed", {{"pod", pod->id.str()}, {"containers", work.archives.size()}, {"to", dir}});
  return {};
}

}  // namespace crisp::pod
