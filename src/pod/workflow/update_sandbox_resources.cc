// UpdatePodSandboxResources: "called after the kubelet reconfigures the pod-level cgroups" (KEP-1287): a pod cgroup
// that the caller named is the caller's, and is not written behind its back; one that we made ourselves is ours to
// limit. What the pod may use is recorded in both cases.
#include <algorithm>

#include "base/failpoint.h"
#include "pod/manager_impl.h"

namespace crisp::pod {

namespace {

// The pod's containers and what running them costs, together. -1 and 0 (unlimited, not said) are not added to.
int64_t Sum(int64_t containers, int64_t overhead) {
  return containers > 0 && overhead > 0 ? containers + overhead : containers;
}

}  // namespace

cgroup::Limits PodLimits(const Resources& containers, const Resources& overhead) {
  cgroup::Limits limits;
  limits.cpu_shares = Sum(containers.cpu_shares, overhead.cpu_shares);
  limits.cpu_period_micros = containers.cpu_period;
  bool same_period = overhead.cpu_period == 0 || overhead.cpu_period == containers.cpu_period;
  limits.cpu_quota_micros = Sum(containers.cpu_quota, same_period ? overhead.cpu_quota : 0);
  limits.memory_bytes = Sum(containers.memory_limit_bytes, overhead.memory_limit_bytes);
  limits.memory_swap_bytes = Sum(containers.memory_swap_limit_bytes, overhead.memory_limit_bytes);
  for (const HugepageLimit& limit : containers.hugepages) limits.hugepages.emplace_back(limit.page_size, limit.limit);
  return limits;
}

// The kubelet names every page size that it knows with a limit of 0, also those that nothing here could limit.
cgroup::Limits ManagerImpl::LimitsHere(const Resources& containers, const Resources& overhead) const {
  cgroup::Limits limits = PodLimits(containers, overhead);
  std::vector<std::string> sizes = deps_.cgroups.HugepageSizes();
  std::erase_if(limits.hugepages, [&](const auto& limit) {
    return limit.second == 0 && std::find(sizes.begin(), sizes.end(), limit.first) == sizes.end();
  });
  if (!deps_.cgroups.SwapAccounting()) limits.memory_swap_bytes = 0;
  return limits;
}

Result<> ManagerImpl::UpdateSandboxResources(const Ctx& caller, const std::string& id, const SandboxResources& update) {
  PodRef pod = TRY(store_.FindPod(id));
  Ctx ctx = caller.Detached(kVerbTimeout);
  OpLock::Hold hold = TRY(HoldPod(ctx, *pod, "UpdatePodSandboxResources"));
  PodRecord record = *pod->record.Lock();
  if (record.phase != PodPhase::kReady) {
    return Error(Code::kFailedPrecondition, StrCat("pod sandbox ", record.id.str(), " is not ready"));
  }
  Resources overhead = MergeResources(record.overhead, update.overhead.value_or(Resources()));
  Resources resources = MergeResources(record.resources, update.resources.value_or(Resources()));
  for (const Resources* each : {&overhead, &resources}) {
    TRY(PlanResourcesUpdate({}, *each, FreshFacts()), StrCat("pod sandbox ", record.id.str()));  // can it be at all?
  }
  ctx.Stage("tell the plugins of the update");
  Hooks::Pass pass = TRY(hooks().Enter(ctx));
  TRY(hooks().UpdateSandbox(ctx, StatusOf(record), overhead, resources), "plugins");
  FAILPOINT("update_sandbox_resources.before_apply");
  if (!record.cgroup_path.empty()) {
    ctx.Stage("limit the pod's cgroup");
    TRY(deps_.cgroups.SetLimits(record.cgroup_path, LimitsHere(resources, overhead)));
  }
  FAILPOINT("update_sandbox_resources.after_apply");
  TRY(store_.Change(*pod, [&](PodRecord& r) {
    r.overhead = overhead;
    r.resources = resources;
  }));
  FAILPOINT("update_sandbox_resources.after_record");
  hooks().PostUpdateSandbox(ctx, StatusOf(*pod->record.Lock()));
  return {};
}

}  // namespace crisp::pod
