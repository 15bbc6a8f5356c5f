// UpdateContainerResources: to the running process by the OCI runtime; a container that is not started yet gets a new
// config.json instead.
#include "base/failpoint.h"
#include "base/json.h"
#include "base/log.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

// `config_json` with `resources` (OCI linux.resources) put over its own.
Result<std::string> WithResources(const std::string& config_json, const std::string& resources) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  Json update = TRY(ParseJson(resources, "resources"));
  if (!config.is_object() || !config["linux"].is_object() || !update.is_object()) {
    return Error(Code::kInternal, "config.json has no object \"linux\"");
  }
  config["linux"]["resources"].merge_patch(update);
  return DumpJson(config);
}

}  // namespace

Result<> ManagerImpl::UpdateResources(const Ctx& caller, const std::string& id, const Resources& resources,
                                      const StringMap& /*annotations*/) {
  // The annotations are for runtimes with resources of their own; the container's do not change.
  CtrRef container = TRY(store_.FindContainer(id));
  Ctx ctx = caller.Detached(kVerbTimeout);
  OpLock::Hold hold = TRY(HoldContainer(ctx, *container, "UpdateContainerResources"));
  ContainerRecord record = *container->record.Lock();
  TRY(CheckAllowed(Verb::kUpdate, record));
  ResourcesPlan plan = TRY(PlanResourcesUpdate(resources, FreshFacts()));
  for (const std::string& warning : plan.warnings) LogWarning(warning, {{"container", record.id.str()}});
  ctx.Stage("let the plugins adjust the update");
  Hooks::Pass pass = TRY(hooks().Enter(ctx));
  SandboxStatus pod = PodStatusOf(record.pod);
  std::string adjusted = TRY(hooks().UpdateContainer(ctx, pod, StatusOf(record, paths_), plan.resources_json), "plugins");
  TRY(SetResources(ctx, *container, record, adjusted));
  Resources shown = adjusted == plan.resources_json ? resources : MergeResources(resources, TRY(ParseResources(adjusted)));
  TRY(store_.Change(*container, [&](ContainerRecord& r) { r.resources = MergeResources(r.resources, shown); }));
  FAILPOINT("update_resources.after_record");
  hooks().PostUpdateContainer(ctx, pod, StatusNow(*container));
  return {};
}

Result<> ManagerImpl::AdjustResources(const Ctx& ctx, const std::string& id, const std::string& resources_json) {
  CtrRef container = TRY(store_.FindContainer(id));
  OpLock::Hold hold = TRY(HoldContainer(ctx, *container, "update by a plugin"));
  ContainerRecord record = *container->record.Lock();
  TRY(CheckAllowed(Verb::kUpdate, record));
  Resources resources = TRY(ParseResources(resources_json));
  TRY(SetResources(ctx, *container, record, resources_json));
  return store_.Change(*container, [&](ContainerRecord& r) { r.resources = MergeResources(r.resources, resources); });
}

Result<> ManagerImpl::SetResources(const Ctx& ctx, ContainerEntry& container, const ContainerRecord& record,
                                   const std::string& resources_json) {
  FAILPOINT("update_resources.before_apply");
  if (LifeOf(record) == Life::kRunning) {
    ctx.Stage("update the container's cgroup");
    TRY(deps_.runtime.UpdateContainer(ctx, record.id, record.handler, resources_json));
  } else {
    std::string config_json = TRY(sys::ReadFile(paths_.ConfigJson(container.id)));
    std::string updated = TRY(WithResources(config_json, resources_json));
    TRY(sys::WriteFileAtomic(paths_.ConfigJson(container.id), updated, 0600, sys::Durability::kNone));
  }
  FAILPOINT("update_resources.after_apply");
  return {};
}

}  // namespace crisp::pod
