// Cgroup limits and the OOM score.
#include <algorithm>

#include "base/strings.h"
#include "spec/parts.h"

namespace crisp::spec {

namespace {

bool Contains(const std::vector<std::string>& all, std::string_view one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

Result<> Need(const NodeFacts& node, const char* controller, const char* what) {
  if (Contains(node.cgroup_controllers, controller)) return {};
  return NotHere(StrCat(what, ": this node has no cgroup controller \"", controller, "\""));
}

Result<Json> PlanCpu(const Resources& r, const NodeFacts& node) {
  Json cpu = Json::object();
  if (r.cpu_shares < 0 || r.cpu_period < 0) return Invalid("negative cpu shares or period");
  if (r.cpu_shares != 0) cpu["shares"] = r.cpu_shares;
  if (r.cpu_quota != 0) cpu["quota"] = r.cpu_quota;
  if (r.cpu_period != 0) cpu["period"] = r.cpu_period;
  if (!cpu.empty()) TRY(Need(node, "cpu", "cpu shares or quota"));
  for (const std::string* list : {&r.cpuset_cpus, &r.cpuset_mems}) {
    if (list->empty()) continue;
    if (list->find_first_not_of("0123456789,-") != std::string::npos) {
      return Invalid(StrCat("cpuset ", Quote(*list), " is not a list of numbers"));
    }
    TRY(Need(node, "cpuset", "cpuset"));
  }
  if (!r.cpuset_cpus.empty()) cpu["cpus"] = r.cpuset_cpus;
  if (!r.cpuset_mems.empty()) cpu["mems"] = r.cpuset_mems;
  return cpu;
}

// OCI's swap is memory+swap, as CRI's. Without a wish for swap there shall be none (as containerd does it): a limited
// container must not escape its limit into the node's swap.
Result<Json> PlanMemory(const Resources& r, const NodeFacts& node, std::vector<std::string>& warnings) {
  Json memory = Json::object();
  if (r.memory_limit_bytes < -1) return Invalid(StrCat("memory limit ", r.memory_limit_bytes));
  if (r.memory_limit_bytes != 0) {
    TRY(Need(node, "memory", "memory limit"));
    memory["limit"] = r.memory_limit_bytes;
    if (r.memory_swap_limit_bytes == 0 && node.swap_accounting) memory["swap"] = r.memory_limit_bytes;
  }
  if (r.memory_swap_limit_bytes == 0) return memory;
  if (r.memory_swap_limit_bytes < -1) return Invalid(StrCat("memory and swap limit ", r.memory_swap_limit_bytes));
  // No kernel can do that: v1 wants memory <= memory+swap, and v2 gets the difference.
  if (r.memory_swap_limit_bytes > 0 && r.memory_limit_bytes <= 0) {
    return Invalid("a limit of memory and swap needs a limit of memory");
  }
  if (r.memory_swap_limit_bytes > 0 && r.memory_swap_limit_bytes < r.memory_limit_bytes) {
    return Invalid("the limit of memory and swap is less than that of memory alone");
  }
  if (node.swap_accounting) {
    memory["swap"] = r.memory_swap_limit_bytes;
  } else {
    warnings.push_back("this node does not account swap, ignoring the swap limit");
  }
  return memory;
}

// The kubelet sends a limit of 0 for every page size that it knows, also where no controller could enforce it.
Result<Json> PlanHugepages(const Resources& r, const NodeFacts& node, std::vector<std::string>& warnings) {
  Json limits = Json::array();
  for (const HugepageLimit& limit : r.hugepages) {
    if (Contains(node.hugepage_sizes, limit.page_size)) {
      limits.push_back({{"pageSize", limit.page_size}, {"limit", limit.limit}});
    } else if (limit.limit == 0) {
      continue;
    } else if (node.hugepage_sizes.empty()) {
      warnings.push_back(
          StrCat("this node has no hugetlb controller, ignoring the limit for ", Quote(limit.page_size)));
    } else {
      return NotHere(StrCat("this node has no huge pages of size ", Quote(limit.page_size)));
    }
  }
  return limits;
}

// cgroup.* (freeze, kill, type, procs …) is no resource. Whatever else is not there the node does not have.
Result<> CheckUnifiedController(std::string_view file, const NodeFacts& node) {
  static constexpr std::string_view kControllers[] = {"cpu",     "cpuset", "io",   "memory",
                                                      "hugetlb", "pids",   "rdma", "misc"};
  std::string controller(file.substr(0, file.find('.')));
  if (std::find(std::begin(kControllers), std::end(kControllers), controller) == std::end(kControllers)) {
    return Invalid(StrCat("unified ", file, ": not a file of a cgroup controller"));
  }
  return Need(node, controller.c_str(), "unified cgroup settings");
}

Result<Json> PlanUnified(const Resources& r, const NodeFacts& node) {
  Json unified = Json::object();
  if (!r.unified.empty() && !node.cgroup_v2) return NotHere("unified cgroup settings need cgroup v2");
  for (const auto& [file, value] : r.unified) {
    // File names of one cgroup directory: "memory.high". Never a path.
    bool good = !file.empty() && file.find('.') != std::string::npos && file[0] != '.' &&
                file.find("..") == std::string::npos &&
                file.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
                    std::string::npos;
    if (!good) return Invalid(StrCat("bad name of a unified cgroup setting: ", Quote(file)));
    TRY(CheckUnifiedController(file, node));
    if (value.find('\0') != std::string::npos) return Invalid(StrCat("unified ", file, ": value contains a NUL"));
    unified[file] = value;
  }
  return unified;
}

}  // namespace

Result<Json> PlanResources(const Resources& resources, const NodeFacts& node, std::vector<std::string>& warnings) {
  Json out = Json::object();
  auto put = [&](const char* name, Json value) {
    if (!value.empty()) out[name] = std::move(value);
  };
  put("cpu", TRY(PlanCpu(resources, node)));
  put("memory", TRY(PlanMemory(resources, node, warnings)));
  put("hugepageLimits", TRY(PlanHugepages(resources, node, warnings)));
  put("unified", TRY(PlanUnified(resources, node)));
  return out;
}

int PlanOomScoreAdj(int64_t wanted, const NodeFacts& node, std::vector<std::string>& warnings) {
  int score = static_cast<int>(std::clamp<int64_t>(wanted, -1000, 1000));
  bool may_lower = node.capability_bounds & oci::CapabilityBit(*oci::CapabilityNumber("CAP_SYS_RESOURCE"));
  if (may_lower || score >= node.oom_score_adj) return score;
  warnings.push_back(
      StrCat("without CAP_SYS_RESOURCE oom_score_adj cannot be ", score, ", using ", node.oom_score_adj));
  return node.oom_score_adj;
}

Result<ResourcesPlan> PlanResourcesUpdate(const Resources& current, const Resources& update, const NodeFacts& node) {
  Resources merged = MergeResources(current, update);
  std::vector<std::string> ignored;
  TRY(PlanResources(merged, node, ignored));
  Resources sent = update;
  // crun writes the one of a pair that it is not given as the default, and v2 has one file for quota and period.
  if (sent.cpu_quota != 0 || sent.cpu_period != 0) {
    sent.cpu_quota = merged.cpu_quota;
    sent.cpu_period = merged.cpu_period;
  }
  if (sent.memory_limit_bytes != 0 || sent.memory_swap_limit_bytes != 0) {
    sent.memory_limit_bytes = merged.memory_limit_bytes;
    sent.memory_swap_limit_bytes = merged.memory_swap_limit_bytes;
  }
  ResourcesPlan plan;
  plan.resources_json = DumpJson(TRY(PlanResources(sent, node, plan.warnings)));
  return plan;
}

Result<Resources> ParseResources(const std::string& resources_json) {
  Json in = TRY(ParseJson(resources_json, "resources"));
  if (!in.is_object()) return Invalid("resources: an object is wanted");
  Resources out;
  if (in.contains("cpu")) {
    const Json& cpu = in["cpu"];
    out.cpu_shares = TRY(JsonGet<int64_t>(cpu, "shares"));
    out.cpu_quota = TRY(JsonGet<int64_t>(cpu, "quota"));
    out.cpu_period = TRY(JsonGet<int64_t>(cpu, "period"));
    out.cpuset_cpus = TRY(JsonGet<std::string>(cpu, "cpus"));
    out.cpuset_mems = TRY(JsonGet<std::string>(cpu, "mems"));
  }
  if (in.contains("memory")) {
    out.memory_limit_bytes = TRY(JsonGet<int64_t>(in["memory"], "limit"));
    out.memory_swap_limit_bytes = TRY(JsonGet<int64_t>(in["memory"], "swap"));
  }
  if (in.contains("hugepageLimits")) {
    for (const Json& each : in["hugepageLimits"]) {
      std::string size = TRY(JsonGet<std::string>(each, "pageSize"));
      out.hugepages.push_back({size, TRY(JsonGet<uint64_t>(each, "limit"))});
    }
  }
  out.unified = TRY((JsonGet<std::map<std::string, std::string>>(in, "unified")));
  return out;
}

Resources MergeResources(const Resources& current, const Resources& update) {
  Resources merged = current;
  auto take = [](auto& into, const auto& from) {
    if (from != std::decay_t<decltype(from)>{}) into = from;
  };
  take(merged.cpu_period, update.cpu_period);
  take(merged.cpu_quota, update.cpu_quota);
  take(merged.cpu_shares, update.cpu_shares);
  take(merged.memory_limit_bytes, update.memory_limit_bytes);
  if (update.memory_limit_bytes != 0) merged.memory_swap_limit_bytes = 0;
  take(merged.memory_swap_limit_bytes, update.memory_swap_limit_bytes);
  take(merged.oom_score_adj, update.oom_score_adj);
  take(merged.cpuset_cpus, update.cpuset_cpus);
  take(merged.cpuset_mems, update.cpuset_mems);
  for (const HugepageLimit& limit : update.hugepages) {
    auto same = [&](const HugepageLimit& other) { return other.page_size == limit.page_size; };
    auto found = std::find_if(merged.hugepages.begin(), merged.hugepages.end(), same);
    if (found != merged.hugepages.end()) {
      found->limit = limit.limit;
    } else {
      merged.hugepages.push_back(limit);
    }
  }
  for (const auto& [file, value] : update.unified) merged.unified[file] = value;
  return merged;
}

}  // namespace crisp::spec
