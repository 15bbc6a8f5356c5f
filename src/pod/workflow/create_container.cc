// CreateContainer: record the intent, then lease, directories, root file system, plan, config.json.
#include <future>

#include "base/failpoint.h"
#include "base/json.h"
#include "base/rollback.h"
#include "base/time.h"
#include "cdi/inject.h"
#include "pod/manager_impl.h"
#include "pod/validate.h"
#include "spec/userns.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

constexpr size_t kSeccompProfileBytesMax = 1u << 20;
constexpr size_t kRoomForLimits = 64u << 10;  // what an update may add

ImageDefaults DefaultsOf(const image::ImageConfig& config) {
  return {config.entrypoint, config.cmd, config.env, config.working_dir, config.stop_signal};
}

rootfs::UserRequest UserRequestOf(const ContainerConfig& config, const image::Image& image) {
  const ContainerSecurity& security = config.security;
  rootfs::UserRequest request;
  request.run_as_user = security.run_as_user;
  request.run_as_group = security.run_as_group;
  request.run_as_username = security.run_as_username;
  request.supplemental_groups = security.supplemental_groups;
  request.merge_image_groups = security.groups_policy == GroupsPolicy::kMerge;
  request.image_user = image.config.user;
  return request;
}

// The same device may be named in both ways: older kubelets know the annotations only.
std::vector<std::string> DevicesOf(const ContainerConfig& config) {
  std::vector<std::string> names = config.cdi_devices;
  for (std::string& name : cdi::DevicesOfAnnotations(config.annotations)) names.push_back(std::move(name));
  return names;
}

// Limits of `after` (OCI linux.resources) that are not so in `before`.
Json Changed(const Json& before, const Json& after) {
  Json out = Json::object();
  for (const char* part : {"cpu", "memory", "unified"}) {
    if (!after.contains(part)) continue;
    Json old = before.contains(part) ? before[part] : Json::object();
    for (const auto& [key, value] : after[part].items()) {
      if (!old.contains(key) || old[key] != value) out[part][key] = value;
    }
  }
  constexpr char kPages[] = "hugepageLimits";
  if (after.contains(kPages) && (!before.contains(kPages) || before[kPages] != after[kPages])) {
    out[kPages] = after[kPages];
  }
  return out;
}

}  // namespace

Result<ContainerId> ManagerImpl::CreateContainer(const Ctx& caller, const std::string& pod_id,
                                                 const ContainerConfig& config) {
  return CreateFrom(caller, pod_id, config, "");
}

// `archive`: of a checkpoint, "" for none (an image may still be one).
Result<ContainerId> ManagerImpl::CreateFrom(const Ctx& caller, const std::string& pod_id, const ContainerConfig& config,
                                            const std::string& archive) {
  TRY(CheckContainerConfig(config));
  PodRef pod = TRY(store_.FindPod(pod_id));
  ContainerClaim claim = TRY(store_.ClaimContainer(pod->id, config));
  if (claim.kind == ContainerClaim::Kind::kThere) return claim.entry->id;
  if (claim.kind == ContainerClaim::Kind::kJoin)
    return claim.flight->Wait(caller, "CreateContainer for this container");
  Result<> made = MakeContainer(caller.Detached(kVerbTimeout), *pod, *claim.entry,
                                {.archive = archive, .layer_dir = {}, .image_id = {}});
  Result<ContainerId> result =
      made ? Result<ContainerId>(claim.entry->id) : Result<ContainerId>(std::move(made).error());
  if (result) NoteTiming(caller, *pod, "CreateContainer", config.metadata.name);
  store_.Land(claim, result);
  return result;
}

Result<> ManagerImpl::MakeContainer(const Ctx& ctx, PodEntry& pod, ContainerEntry& container, CheckpointSource source) {
  OpLock::Hold pod_hold = TRY(SharePod(ctx, pod, "CreateContainer"));
  OpLock::Hold hold = TRY(HoldContainer(ctx, container, "CreateContainer"));
  PodRecord sandbox = *pod.record.Lock();
  if (sandbox.phase != PodPhase::kReady) {
    return Error(Code::kFailedPrecondition, StrCat("pod sandbox ", pod.id.str(), " is not ready"));
  }
  image::ImageRef image = TRY(PlanRecord(sandbox, container, source));
  ContainerRecord planned = *container.record.Lock();
  TRY(CheckImagesAllowed(ctx, sandbox, planned, *image, source));
  FAILPOINT("create_container.before_record");
  TRY(store_.Change(container, [](ContainerRecord&) {}));  // the intent, from PlanRecord
  Rollback undo;
  undo.Add("undo container", [&] { return DiscardContainer(ctx.Detached(kUndoTimeout), container); });
  FAILPOINT("create_container.after_record");
  TRY(deps_.images.Lease(source.image_id.empty() ? image->id : source.image_id, container.id.str()), "image lease");
  ContainerConfig config = container.record.Lock()->config;
  TRY(LeaseImageVolumes(container.id, config));
  FAILPOINT("create_container.after_lease");
  auto facts = std::make_shared<const NodeFacts>(FreshFacts());
  GoingOn<std::string> cgroup = MakeCgroupAhead(sandbox, container, facts);  // waits when destroyed, before the undoing
  ctx.Stage("prepare the container's root file system");
  TRY(MakeRootfs(ctx, sandbox, container, *image, source));
  // The checkpoint image's layer has been copied; what is mounted is the other image's.
  if (!source.image_id.empty()) TRY(deps_.images.Lease(image->id, container.id.str()), "image lease");
  FAILPOINT("create_container.after_rootfs");
  ContainerInputs inputs = TRY(GatherInputs(ctx, sandbox, container, *image));
  FAILPOINT("create_container.after_inputs");
  ContainerPlan plan = TRY(PlanContainer(inputs, *facts, options_.policy));
  for (const std::string& warning : plan.warnings) LogWarning(warning, {{"container", container.id.str()}});
  const std::string as_planned = plan.config_json;
  TRY(InjectDevices(DevicesOf(inputs.config), plan.config_json));
  std::string limits = cgroup.valid() ? cgroup.Take() : std::string();
  FAILPOINT("create_container.after_cgroup");
  ctx.Stage("let the plugins adjust the container");
  Hooks::Pass pass = TRY(hooks().Enter(ctx));
  TRY(AdjustContainer(ctx, sandbox, container, plan.config_json));
  FAILPOINT("create_container.after_hooks");
  TRY(RelabelMounts(ctx, container.id, inputs, plan));
  if (source.any()) plan.config_json = TRY(PrepareRestore(container, plan.config_json));
  // It is read again: by a later crispd's start, for execs, with other limits.
  if (constexpr size_t kMost = JsonLimits().bytes_max - kRoomForLimits; plan.config_json.size() > kMost) {
    return Error(Code::kInvalidArgument,
                 StrCat("config: makes a config.json of ", plan.config_json.size(), " bytes, at most ", kMost));
  }
  if (plan.config_json != as_planned && MakesCgroupAhead(planned)) {
    plan.config = std::make_shared<const Json>(TRY(ParseJson(plan.config_json, "config.json")));
  }
  const ContainerRecord made = *container.record.Lock();
  if (made.cgroup_path != planned.cgroup_path) limits.clear();  // a plugin wanted another one
  container.start_ahead = TRY(PlanStartAhead(ctx, made, plan.config, limits));
  const bool at_once = container.start_ahead && MayBegin(sandbox, inputs.config);
  if (at_once) {
    // The pod's shim is at work while the rest is done here.
    ctx.Stage("begin its start");
    container.start_ahead->Run();
    FAILPOINT("create_container.after_begun");
  }
  TRY(sys::WriteFileAtomic(paths_.ConfigJson(container.id), plan.config_json, 0600, sys::Durability::kNone));
  FAILPOINT("create_container.after_config");
  TRY(store_.Change(container, [&](ContainerRecord& r) {
    r.made = true;
    r.created_at = UnixNanosNow();
    r.stop_signal = plan.stop_signal;
    const ResolvedUser& user = inputs.user;
    r.user = ContainerUser{user.uid, user.gid, {user.additional_gids.begin(), user.additional_gids.end()}};
  }));
  undo.Dismiss();
  if (container.start_ahead && !at_once) ctx.Afterwards([ahead = container.start_ahead] { ahead->Run(); });
  FAILPOINT("create_container.after_created");
  hooks().PostCreateContainer(ctx, StatusOf(sandbox), StatusNow(container));
  return {};
}

// Fills the record with everything that undoing needs to know; not written yet.
Result<image::ImageRef> ManagerImpl::PlanRecord(const PodRecord& sandbox, ContainerEntry& container,
                                                CheckpointSource& source) {
  auto record = container.record.Lock();
  const ContainerConfig& config = record->config;
  image::ImageRef image = TRY(deps_.images.Find(config.image));
  if (image == nullptr) return Error(Code::kNotFound, StrCat("image ", Quote(config.image), " not found"));
  if (image->IsArtifact()) {
    return Error(Code::kFailedPrecondition,
                 StrCat("image ", Quote(config.image), " is an artifact of type ", Quote(image->artifact_type),
                        ", which cannot run: mount it as a volume"));
  }
  if (!image->checkpoint_of.empty()) {
    if (source.any()) return Error(Code::kInvalidArgument, "the image of a pod's checkpoint is a checkpoint itself");
    image::ImageRef base = TRY(BaseImage(*image));
    source.layer_dir = image->layer_dirs.front();
    source.image_id = image->id;
    image = std::move(base);
  }
  record->restore = source.any();
  if (source.any() && sandbox.config.security.namespaces.userns_pod) {
    return Error(Code::kUnimplemented, "restoring a checkpoint in a pod with a user namespace");
  }
  TRY(ResolveImageVolumes(record->config));
  record->log_path = TRY(LogPath(sandbox.config, config));
  cgroup::Location place = TRY(deps_.cgroups.Place(sandbox.cgroup_parent, container.id.str()));
  record->cgroup_oci_path = place.oci_path;
  record->cgroup_path = place.kernel_path;
  record->handler = sandbox.handler;
  record->image_id = image->id;
  if (!image->repo_digests.empty()) record->image_digest_ref = image->repo_digests.front();
  record->resources = config.resources;
  return image;
}

// Each image that the container gets to see, by the signature policy of now: another may have held when it was pulled.
Result<> ManagerImpl::CheckImagesAllowed(const Ctx& ctx, const PodRecord& sandbox, const ContainerRecord& record,
                                         const image::Image& image, const CheckpointSource& source) {
  const ContainerConfig& config = record.config;
  const std::string& pod_namespace = sandbox.config.metadata.pod_namespace;
  const std::string& name = config.user_specified_image.empty() ? config.image : config.user_specified_image;
  if (!source.image_id.empty()) {
    image::ImageRef checkpoint = TRY(deps_.images.Find(source.image_id));
    if (checkpoint == nullptr)
      return Error(Code::kNotFound, StrCat("image ", source.image_id, " was removed meanwhile"));
    TRY(deps_.images.CheckAllowed(ctx, *checkpoint, name, pod_namespace));
  }
  TRY(deps_.images.CheckAllowed(ctx, image, source.image_id.empty() ? name : std::string(), pod_namespace));
  for (const Mount& mount : config.mounts) {
    if (mount.image_ref.empty()) continue;
    image::ImageRef volume = TRY(deps_.images.Find(mount.image_ref));
    if (volume == nullptr) return Error(Code::kNotFound, StrCat("image ", mount.image_ref, " was removed meanwhile"));
    const std::string& said = mount.image_user_specified.empty() ? mount.image : mount.image_user_specified;
    TRY(deps_.images.CheckAllowed(ctx, *volume, said, pod_namespace));
  }
  return {};
}

Result<> ManagerImpl::MakeRootfs(const Ctx& ctx, const PodRecord& sandbox, ContainerEntry& container,
                                 const image::Image& image, const CheckpointSource& source) {
  TRY(sys::MakeDir(paths_.Bundle(container.id), 0700));
  TRY(sys::MakeDir(paths_.ContainerRoot(container.id), 0700));
  FAILPOINT("create_container.after_dirs");
  if (source.any()) TRY(StageCheckpoint(ctx, container, source, image));
  rootfs::RootfsSpec spec;
  spec.layer_dirs = image.layer_dirs;
  spec.bottom_dir = mount_points_;
  spec.container_dir = paths_.ContainerRoot(container.id);
  spec.mount_point = paths_.Rootfs(container.id);
  UsernsRef userns = TRY(PodUserns(sandbox));
  if (userns != nullptr) {
    Owner root = PodRoot(sandbox.config);
    TRY(host_->OpenForUserns(paths_.Bundle(container.id), {paths_.Containers(), paths_.state_dir}, root));
    spec.idmap = {.userns = *userns, .root_uid = root.uid, .root_gid = root.gid};
  }
  TRY(host_->PrepareRootfs(ctx, spec));
  return source.any() ? DeleteAsCheckpointed(ctx, container) : Result<>();
}

Result<std::string> ManagerImpl::TargetPidNamespace(const PodRecord& sandbox, const ContainerConfig& config) {
  const NamespaceOptions& namespaces = config.security.namespaces;
  if (namespaces.pid != NamespaceMode::kTarget) return std::string();
  CtrRef target = TRY(store_.FindContainer(namespaces.target_id), "target container");
  ContainerRecord record = *target->record.Lock();
  if (record.pod != sandbox.id) {
    return Error(Code::kInvalidArgument, StrCat("target container ", record.id.str(), " is in another pod"));
  }
  if (LifeOf(record) != Life::kRunning || record.pid <= 0) {
    return Error(Code::kFailedPrecondition, StrCat("target container ", record.id.str(), " is not running"));
  }
  return StrCat("/proc/", record.pid, "/ns/pid");
}

// The text of the Localhost seccomp profile. Whatever keeps it from being read, the plan refuses the container (S36).
Result<std::optional<std::string>> ManagerImpl::SeccompProfile(const ContainerConfig& config) {
  std::string path = TRY(SeccompProfilePath(config));
  if (path.empty()) return std::optional<std::string>();
  const std::string& dir = options_.seccomp_profile_dir;
  if (!dir.empty() && (!path.starts_with(dir + "/") || path.find("/../") != std::string::npos)) {
    return Error(Code::kInvalidArgument, StrCat("seccomp profile ", Quote(path), " is not below ", dir));
  }
  Result<std::string> text = sys::ReadFile(path, kSeccompProfileBytesMax);
  if (!text) return std::optional<std::string>();
  return std::optional<std::string>(std::move(*text));
}

Result<> ManagerImpl::AdjustContainer(const Ctx& ctx, const PodRecord& sandbox, ContainerEntry& container,
                                      std::string& config_json) {
  Hooks::Adjusted adjusted =
      TRY(hooks().CreateContainer(ctx, StatusOf(sandbox), StatusNow(container), config_json), "plugins");
  container.hooked = true;
  if (adjusted.config_json != config_json) {
    Json config = TRY(ParseJson(adjusted.config_json, "config.json"));
    std::string place = TRY(JsonGet<std::string>(config["linux"], "cgroupsPath"));
    std::string planned = container.record.Lock()->cgroup_oci_path;
    if (place != planned) {
      // By the systemd driver a path is a unit's name, whose directory we would have to guess. And a container's cgroup
      // is killed and removed as a whole, so it must not be one that holds others.
      bool holds_others = place == "/" || StrCat(planned, "/").starts_with(StrCat(place, "/"));
      // What does not end in the container's id the cgroup module refuses to kill and to remove (CheckOurs): such a
      // container could never be removed.
      bool leads_out = !place.starts_with("/") || StrCat(place, "/").find("/../") != std::string::npos ||
                       place.find("/./") != std::string::npos || place.find("//") != std::string::npos ||
                       place.find_first_of(std::string_view("\0\n:", 3)) != std::string::npos ||
                       !place.ends_with("/" + container.id.str());
      if (deps_.cgroups.driver() != cgroup::Driver::kCgroupfs || leads_out || holds_others) {
        return Error(Code::kUnimplemented,
                     StrCat("a plugin wants the cgroup ", Quote(place), ", which cannot be used"));
      }
      TRY(RemoveCgroupAhead(ctx, *container.record.Lock()));
      TRY(store_.Change(container, [&](ContainerRecord& r) { r.cgroup_oci_path = r.cgroup_path = place; }));
    }
    // What it has, for its status, and what later updates begin with.
    Json asked = TRY(ParseJson(config_json, "config.json"));
    Resources changed =
        TRY(ParseResources(DumpJson(Changed(asked["linux"]["resources"], config["linux"]["resources"]))));
    int64_t oom_before = TRY(JsonGet<int64_t>(asked["process"], "oomScoreAdj"));
    int64_t oom_after = TRY(JsonGet<int64_t>(config["process"], "oomScoreAdj"));
    TRY(store_.Change(container, [&](ContainerRecord& r) {
      r.resources = MergeResources(r.resources, changed);
      if (oom_after != oom_before) r.resources.oom_score_adj = oom_after;
    }));
    config_json = std::move(adjusted.config_json);
  }
  return InjectDevices(adjusted.cdi_devices, config_json);
}

Result<> ManagerImpl::InjectDevices(const std::vector<std::string>& names, std::string& config_json) {
  if (names.empty()) return {};
  std::vector<cdi::Edits> edits = TRY(cdi_.Resolve(names));
  config_json = TRY(cdi::Inject(config_json, edits));
  return {};
}

Result<ContainerInputs> ManagerImpl::GatherInputs(const Ctx& ctx, const PodRecord& sandbox, ContainerEntry& container,
                                                  const image::Image& image) {
  ContainerRecord record = *container.record.Lock();
  ContainerInputs in;
  in.sandbox = sandbox.config;
  in.config = record.config;
  in.pod_id = sandbox.id;
  in.id = record.id;
  in.image_name = image.repo_tags.empty() ? record.config.image : image.repo_tags.front();
  in.image = DefaultsOf(image.config);
  in.rootfs = paths_.Rootfs(record.id);
  rootfs::User user = TRY(host_->ResolveUser(in.rootfs, UserRequestOf(record.config, image)));
  in.user = {user.uid, user.gid, user.additional_gids, user.home};
  in.cgroups_path = record.cgroup_oci_path;
  if (!sandbox.host_network)
    in.namespaces.net = sandbox.namespaces.net.empty() ? sandbox.netns_path : sandbox.namespaces.net;
  in.namespaces.ipc = sandbox.namespaces.ipc;
  in.namespaces.uts = sandbox.namespaces.uts;
  in.namespaces.pid = sandbox.namespaces.pid;
  in.namespaces.user = sandbox.namespaces.user;
  in.target_pid_namespace = TRY(TargetPidNamespace(sandbox, record.config));
  PodFilePaths files = FilesOf(sandbox);
  in.files = {files.ResolvConf(), files.Hosts(), files.Hostname(), sandbox.shm_bytes > 0 ? files.Shm() : ""};
  ctx.Stage("open the sources of the container's mounts");
  in.mount_sources = TRY(MountSources(ctx, sandbox, record));
  FAILPOINT("create_container.after_mount_sources");
  ctx.Stage("fill the image's volumes");
  in.volumes = TRY(MakeVolumes(ctx, sandbox, record, image));
  in.devices = TRY(host_->DeviceNodes(record.config.devices));
  if (record.config.security.privileged) in.host_devices = TRY(host_->AllDevices(options_.privileged_devices_exclude));
  in.seccomp_profile = TRY(SeccompProfile(record.config));
  for (const auto& [name, features] : deps_.runtime.Handlers()) {
    if (name == record.handler) in.handler_recursive_readonly = features.recursive_read_only_mounts;
  }
  in.handler_native = deps_.runtime.IsNative(record.handler);
  if (auto passed = options_.annotations.find(record.handler); passed != options_.annotations.end()) {
    in.pod_annotations = passed->second.pod;
    in.container_annotations = passed->second.container;
  }
  return in;
}

}  // namespace crisp::pod
