// update, updatep: other limits for containers and pods that run.
#include "ctl/commands/commands.h"
#include "ctl/format.h"

namespace crisp::ctl {

namespace {

struct ResourceOptions {
  int64_t cpu_period = 0, cpu_quota = 0, cpu_share = 0, oom_score_adj = 0;
  std::string cpuset_cpus, cpuset_mems, memory, memory_swap;
  std::vector<std::string> unified;
};

void AddResources(CLI::App& command, ResourceOptions& options) {
  command.add_option("--cpu-period", options.cpu_period, "CFS period, microseconds");
  command.add_option("--cpu-quota", options.cpu_quota, "CFS quota, microseconds");
  command.add_option("--cpu-share", options.cpu_share, "CPU shares (relative weight)");
  command.add_option("--cpuset-cpus", options.cpuset_cpus, "CPUs, like 0-2,7");
  command.add_option("--cpuset-mems", options.cpuset_mems, "memory nodes");
  command.add_option("--memory", options.memory, "memory limit, like 512Mi");
  command.add_option("--memory-swap", options.memory_swap, "memory and swap limit, like 1Gi");
  command.add_option("--unified", options.unified, "cgroup v2 FILE=VALUE, repeated")->allow_extra_args(false);
}

Result<cri::LinuxContainerResources> ToResources(const ResourceOptions& options) {
  cri::LinuxContainerResources resources;
  resources.set_cpu_period(options.cpu_period);
  resources.set_cpu_quota(options.cpu_quota);
  resources.set_cpu_shares(options.cpu_share);
  resources.set_oom_score_adj(options.oom_score_adj);
  resources.set_cpuset_cpus(options.cpuset_cpus);
  resources.set_cpuset_mems(options.cpuset_mems);
  if (!options.memory.empty()) resources.set_memory_limit_in_bytes(TRY(ParseBytes(options.memory)));
  if (!options.memory_swap.empty()) resources.set_memory_swap_limit_in_bytes(TRY(ParseBytes(options.memory_swap)));
  TRY(AddPairs(options.unified, "--unified", *resources.mutable_unified()));
  return resources;
}

struct UpdateOptions {
  std::vector<std::string> containers;
  ResourceOptions resources;
  int64_t windows = 0;
};

Result<int> UpdateCommand(Session& session, const UpdateOptions& options) {
  if (options.windows != 0) {
    return Error(Code::kInvalidArgument,
                 "--cpu-count and --cpu-maximum are of Windows: use --cpu-quota and --cpu-period");
  }
  cri::UpdateContainerResourcesRequest request;
  *request.mutable_linux() = TRY(ToResources(options.resources));
  return ForEach(session, options.containers, [&](const std::string& text) -> Result<> {
    request.set_container_id(TRY(FindContainer(*session.client, text)));
    TRY(session.client->Call(&Client::Runtime::UpdateContainerResources, request), StrCat("update container ", text));
    Print(request.container_id() + "\n");
    return {};
  });
}

struct UpdatePodOptions {
  std::vector<std::string> pods;
  ResourceOptions resources;
  std::string overhead_memory;
  int64_t overhead_quota = 0, overhead_period = 0;
};

Result<int> UpdatePodCommand(Session& session, const UpdatePodOptions& options) {
  cri::UpdatePodSandboxResourcesRequest request;
  *request.mutable_resources() = TRY(ToResources(options.resources));
  if (!options.overhead_memory.empty()) {
    request.mutable_overhead()->set_memory_limit_in_bytes(TRY(ParseBytes(options.overhead_memory)));
  }
  if (options.overhead_quota != 0) request.mutable_overhead()->set_cpu_quota(options.overhead_quota);
  if (options.overhead_period != 0) request.mutable_overhead()->set_cpu_period(options.overhead_period);
  return ForEach(session, options.pods, [&](const std::string& text) -> Result<> {
    request.set_pod_sandbox_id(TRY(FindPod(*session.client, text)));
    TRY(session.client->Call(&Client::Runtime::UpdatePodSandboxResources, request), StrCat("update pod ", text));
    Print(request.pod_sandbox_id() + "\n");
    return {};
  });
}

}  // namespace

void AddUpdateCommands(CLI::App& app, Session& session) {
  auto* update = app.add_subcommand("update", "change limits of running containers");
  auto options = std::make_shared<UpdateOptions>();
  update->add_option("CONTAINER", options->containers)->required();
  AddResources(*update, options->resources);
  update->add_option("--oom-score-adj", options->resources.oom_score_adj, "which processes go first without memory");
  for (const char* windows : {"--cpu-count", "--cpu-maximum"}) {
    update->add_option(windows, options->windows, "of Windows, for crictl's sake")->group("");
  }
  SetAction(*update, session, [=, &session] { return UpdateCommand(session, *options); });

  auto* updatep = app.add_subcommand("updatep", "change limits of whole pods");
  auto pod_options = std::make_shared<UpdatePodOptions>();
  updatep->add_option("POD", pod_options->pods)->required();
  AddResources(*updatep, pod_options->resources);
  updatep->add_option("--overhead-memory", pod_options->overhead_memory, "memory of what is no container, like 64Mi");
  updatep->add_option("--overhead-cpu-quota", pod_options->overhead_quota, "CFS quota of the same, microseconds");
  updatep->add_option("--overhead-cpu-period", pod_options->overhead_period, "CFS period of the same, microseconds");
  SetAction(*updatep, session, [=, &session] { return UpdatePodCommand(session, *pod_options); });
}

}  // namespace crisp::ctl
