// UpdateContainerResources: to the running process by the OCI runtime; a container that is not started yet gets a new
// config.json instead.
#include <algorithm>

#include "base/failpoint.h"
#include "base/json.h"
#include "base/log.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

// `config_json` with `resources` (OCI linux.resources) put over its own.
Result<std::string> WithResources(const std::string& config_json, const std::string& resources, int oom_score_adj) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  Json update = TRY(ParseJson(resources, "resources"));
  if (!config.is_object() || !config["linux"].is_object() || !config["process"].is_object() || !update.is_object()) {
    return Error(Code::kInternal, "config.json has no object \"linux\" or \"process\"");
  }
  // A patch takes lists as a whole; of page sizes, the update names only those that change.
  if (Json* limits = update.contains("hugepageLimits") ? &update["hugepageLimits"] : nullptr) {
    for (const Json& old : config["linux"]["resources"].value("hugepageLimits", Json::array())) {
      bool named = std::any_of(limits->begin(), limits->end(),
                               [&](const Json& each) { return each["pageSize"] == old["pageSize"]; });
      if (!named) limits->push_back(old);
    }
  }
  config["linux"]["resources"].merge_patch(update);
  // No quota is what a new cgroup has, and crun 1.8 cannot write it on v1.
  Json& cpu = config["linux"]["resources"]["cpu"];
  if (cpu.is_object() && cpu.value("quota", int64_t{0}) < 0) cpu.erase("quota");
  if (cpu.empty()) config["linux"]["resources"].erase("cpu");
  config["process"]["oomScoreAdj"] = oom_score_adj;
  return DumpJson(config);
}

}  // namespace

// On v2 a limit below what is used would not be refused but let the kernel kill: a resize never ends a container.
Result<> ManagerImpl::CheckRoom(const ContainerRecord& record, const Resources& update) const {
  if (update.memory_limit_bytes <= 0) return {};
  Result<cgroup::Usage> usage = deps_.cgroups.Read(record.cgroup_path);
  if (!usage || !usage->working_set_bytes) return {};  // the runtime and the kernel have the last word
  if (*usage->working_set_bytes <= static_cast<uint64_t>(update.memory_limit_bytes)) return {};
  return Error(Code::kFailedPrecondition,
               StrCat("memory limit ", update.memory_limit_bytes, " of container ", record.id.str(), ": it uses ",
                      *usage->working_set_bytes, " bytes now"));
}

// crun 1.8 cannot take a quota away on v1 (it writes -1 as an unsigned number): then crisp does. runc has to be told, since
// its next update writes again what it knows.
Result<> ManagerImpl::UpdateRunning(const Ctx& ctx, const ContainerRecord& record, const std::string& resources_json,
                                    bool v2) {
  if (deps_.runtime.IsNative(record.handler)) return deps_.cgroups.UpdateResources(record.cgroup_path, resources_json);
  Result<> updated = deps_.runtime.UpdateContainer(ctx, record.id, record.handler, resources_json);
  if (updated || v2) return updated;
  Json resources = TRY(ParseJson(resources_json, "resources"));
  if (!resources.contains("cpu") || resources["cpu"].value("quota", int64_t{0}) >= 0) return updated;
  resources["cpu"].erase("quota");
  if (resources["cpu"].empty()) resources.erase("cpu");
  TRY(deps_.runtime.UpdateContainer(ctx, record.id, record.handler, DumpJson(resources)));
  return deps_.cgroups.SetLimits(record.cgroup_path, {.cpu_quota_micros = -1});
}

// Page sizes are not among what `runc update` takes from its input.
Result<> ManagerImpl::LimitHugepages(const ContainerRecord& record, const Resources& update) {
  Resources only;
  only.hugepages = update.hugepages;
  cgroup::Limits limits = LimitsHere(only, {});
  if (limits.hugepages.empty()) return {};
  if (deps_.cgroups.HugepageSizes().empty()) return {};  // warned of by the plan
  return deps_.cgroups.SetLimits(record.cgroup_path, limits);
}

Result<> ManagerImpl::UpdateResources(const Ctx& caller, const std::string& id, const Resources& resources,
                                      const StringMap& /*annotations*/) {
  // The annotations are for runtimes with resources of their own; the container's do not change.
  CtrRef container = TRY(store_.FindContainer(id));
  Ctx ctx = caller.Detached(kVerbTimeout);
  OpLock::Hold hold = TRY(HoldContainer(ctx, *container, "UpdateContainerResources"));
  ContainerRecord record = *container->record.Lock();
  TRY(CheckAllowed(Verb::kUpdate, record));
  ResourcesPlan plan = TRY(PlanResourcesUpdate(record.resources, resources, FreshFacts()));
  for (const std::string& warning : plan.warnings) LogWarning(warning, {{"container", record.id.str()}});
  ctx.Stage("let the plugins adjust the update");
  Hooks::Pass pass = TRY(hooks().Enter(ctx));
  SandboxStatus pod = PodStatusOf(record.pod);
  std::string adjusted = TRY(hooks().UpdateContainer(ctx, pod, StatusOf(record, paths_), plan.resources_json), "plugins");
  Resources update = adjusted == plan.resources_json ? resources : MergeResources(resources, TRY(ParseResources(adjusted)));
  TRY(SetResources(ctx, *container, record, adjusted, update));
  hooks().PostUpdateContainer(ctx, pod, StatusNow(*container));
  return {};
}

Result<> ManagerImpl::AdjustResources(const Ctx& ctx, const std::string& id, const std::string& resources_json) {
  CtrRef container = TRY(store_.FindContainer(id));
  OpLock::Hold hold = TRY(HoldContainer(ctx, *container, "update by a plugin"));
  ContainerRecord record = *container->record.Lock();
  TRY(CheckAllowed(Verb::kUpdate, record));
  return SetResources(ctx, *container, record, resources_json, TRY(ParseResources(resources_json)));
}

Result<> ManagerImpl::SetResources(const Ctx& ctx, ContainerEntry& container, const ContainerRecord& record,
                                   const std::string& resources_json, const Resources& update) {
  NodeFacts facts = FreshFacts();
  Resources merged = MergeResources(record.resources, update);
  FAILPOINT("update_resources.before_apply");
  if (LifeOf(record) == Life::kRunning) {
    // Of processes that run already: the score that each was born with stays, and is what the status says.
    merged.oom_score_adj = record.resources.oom_score_adj;
    TRY(CheckRoom(record, update));
    ctx.Stage("update the container's cgroup");
    TRY(UpdateRunning(ctx, record, resources_json, facts.cgroup_v2));
    TRY(LimitHugepages(record, update));
  } else {
    // Its cgroup may have limits that it shall not have any more.
    if (MakesCgroupAhead(record)) TRY(RemoveCgroupAhead(ctx, record));
    std::vector<std::string> warnings;
    std::string config_json = TRY(sys::ReadFile(paths_.ConfigJson(record.id)));
    int oom_score_adj = PlanOomScoreAdj(merged.oom_score_adj, facts, warnings);
    std::string updated = TRY(WithResources(config_json, resources_json, oom_score_adj));
    TRY(sys::WriteFileAtomic(paths_.ConfigJson(record.id), updated, 0600, sys::Durability::kNone));
    for (const std::string& warning : warnings) LogWarning(warning, {{"container", record.id.str()}});
  }
  FAILPOINT("update_resources.after_apply");
  TRY(store_.Change(container, [&](ContainerRecord& r) { r.resources = merged; }));
  FAILPOINT("update_resources.after_record");
  return {};
}

}  // namespace crisp::pod
