// RunPodSandbox: record the intent, then directory, /dev/shm, cgroup, network, shim; ready when all stand.
#include <algorithm>
#include <functional>

#include "base/failpoint.h"
#include "base/rollback.h"
#include "base/time.h"
#include "cgroup/place.h"
#include "pod/manager_impl.h"
#include "pod/validate.h"
#include "spec/userns.h"
#include "sys/file.h"

namespace crisp::pod {

namespace {

network::PortMapping ToNetwork(const PortMapping& port) {
  network::PortMapping out;
  switch (port.protocol) {
    case Protocol::kTcp: out.protocol = network::PortMapping::Protocol::kTcp; break;
    case Protocol::kUdp: out.protocol = network::PortMapping::Protocol::kUdp; break;
    case Protocol::kSctp: out.protocol = network::PortMapping::Protocol::kSctp; break;
  }
  out.container_port = port.container_port;
  out.host_port = port.host_port;
  out.host_ip = port.host_ip;
  return out;
}

network::PodNetworkRequest NetworkRequest(const PodRecord& record) {
  const SandboxConfig& config = record.config;
  network::PodNetworkRequest request;
  request.pod = record.id;
  request.name = config.metadata.name;
  request.pod_namespace = config.metadata.pod_namespace;
  request.uid = config.metadata.uid;
  for (const PortMapping& port : config.port_mappings) {
    if (port.host_port > 0) request.port_mappings.push_back(ToNetwork(port));  // 0: only documents the container's port
  }
  request.annotations = config.annotations;
  request.cgroup_path = record.cgroup_parent;
  request.dns_servers = config.dns_servers;
  request.dns_searches = config.dns_searches;
  request.dns_options = config.dns_options;
  return request;
}

// What containers write to these files beyond it, they cannot: neither the node's memory nor the state directory, where
// exit codes are written, is theirs to fill (S53). An editor that writes a file anew next to what it has still can.
constexpr int64_t kFilesSpareBytes = 1 << 20;

int64_t FilesBytes(const SandboxPlan& plan) {
  size_t texts = plan.resolv_conf.size() + plan.hosts.size() + plan.hostname_file.size();
  return static_cast<int64_t>(texts) + kFilesSpareBytes;
}

}  // namespace

Result<PodId> ManagerImpl::RunSandbox(const Ctx& ctx, const SandboxConfig& config) {
  TRY(CheckSandboxConfig(config));
  PodClaim claim = TRY(store_.ClaimPod(config));
  if (claim.kind == PodClaim::Kind::kThere) return claim.entry->id;
  if (claim.kind == PodClaim::Kind::kJoin) return claim.flight->Wait(ctx, "RunPodSandbox for this pod");
  return MakeClaimed(ctx, claim);
}

Result<PodId> ManagerImpl::MakeClaimed(const Ctx& ctx, PodClaim& claim) {
  Result<> made = MakeSandbox(ctx.Detached(kRunSandboxTimeout), *claim.entry);
  Result<PodId> result = made ? Result<PodId>(claim.entry->id) : Result<PodId>(std::move(made).error());
  if (result) NoteTiming(ctx, *claim.entry, "RunPodSandbox", "");
  store_.Land(claim, result);
  return result;
}

bool ManagerImpl::HandlerHasUserns(const std::string& name) const {
  for (const auto& [each, features] : deps_.runtime.Handlers()) {
    if (each == name) return features.user_namespaces;
  }
  return false;
}

Result<> ManagerImpl::MakeSandbox(const Ctx& ctx, PodEntry& pod) {
  OpLock::Hold hold = TRY(HoldPod(ctx, pod, "RunPodSandbox"));
  SandboxPlan plan;
  TRY(PlanPod(pod, plan));
  FAILPOINT("run_sandbox.before_record");
  TRY(store_.Change(pod, [](PodRecord&) {}));  // the intent, from PlanPod
  Rollback undo;
  undo.Add("undo pod sandbox", [&] { return DiscardPod(ctx.Detached(kUndoTimeout), pod); });
  FAILPOINT("run_sandbox.after_record");
  ctx.Stage("make the pod's directory");
  TRY(MakePodDir(pod));
  ShimStart shim(beside_);  // before the undoing it is waited for
  BeginShim(ctx, pod, plan, shim);
  TRY(WritePodFiles(pod, plan));
  FAILPOINT("run_sandbox.after_dir");
  ctx.Stage("mount the pod's /dev/shm");
  PodRecord record = *pod.record.Lock();
  if (plan.shm_bytes > 0) {
    TRY(host_->MountTmpfs(FilesOf(record).Shm(), plan.shm_bytes, 01777, PodRoot(record.config)));
  }
  FAILPOINT("run_sandbox.after_shm");
  ctx.Stage("make the pod's cgroup");
  TRY(MakePodCgroup(record));
  FAILPOINT("run_sandbox.after_cgroup");
  ctx.Stage("make the pod's user namespace");
  sys::OwnedNamespaces owned = TRY(MakePodUserns(ctx, pod, plan));
  FAILPOINT("run_sandbox.after_userns");
  TRY(AttachAndStartShim(ctx, pod, plan, std::move(owned), shim));
  FAILPOINT("run_sandbox.after_shim");
  ctx.Stage("tell the plugins of the pod");
  Hooks::Pass pass = TRY(hooks().Enter(ctx));
  TRY(hooks().RunSandbox(ctx, StatusOf(*pod.record.Lock())), "plugins");
  pod.hooked = true;
  FAILPOINT("run_sandbox.after_hooks");
  TRY(store_.Change(pod, [](PodRecord& r) {
    r.phase = PodPhase::kReady;
    r.made = true;
  }));
  undo.Dismiss();
  FAILPOINT("run_sandbox.after_ready");
  return {};
}

// Fills the record with everything that undoing needs to know; not written yet.
Result<> ManagerImpl::PlanPod(PodEntry& pod, SandboxPlan& plan) {
  auto record = pod.record.Lock();
  const SandboxConfig& config = record->config;
  record->handler = config.runtime_handler.empty() ? options_.default_handler : config.runtime_handler;
  if (!deps_.runtime.HasHandler(record->handler)) {
    return Error(Code::kInvalidArgument, StrCat("no runtime handler ", Quote(record->handler), " is configured"));
  }
  if (config.security.namespaces.userns_pod && !HandlerHasUserns(record->handler)) {
    return Error(Code::kFailedPrecondition, StrCat("user namespaces are not supported by runtime handler ",
                                                   Quote(record->handler), " on this node"));
  }
  plan = TRY(PlanSandbox(config, pod.id, FreshFacts(), options_.policy), StrCat("pod ", Quote(config.metadata.name)));
  TRY(deps_.cgroups.Place(config.cgroup_parent, pod.id.str()));
  record->cgroup_parent = config.cgroup_parent;
  if (config.cgroup_parent.empty()) {
    // The kubelet makes and removes the pod's cgroup and names it; whoever names none gets one of ours.
    cgroup::PodPlace place = cgroup::PlaceForPod(deps_.cgroups.driver(), pod.id);
    record->cgroup_parent = place.parent;
    record->cgroup_path = place.kernel_path;
  }
  record->overhead = config.overhead;
  record->resources = config.resources;
  record->host_network = plan.host_network;
  record->shm_bytes = plan.shm_bytes;
  record->files_bytes = FilesBytes(plan);
  record->created_at = UnixNanosNow();
  for (const std::string& warning : plan.warnings) LogWarning(warning, {{"pod", pod.id.str()}});
  return {};
}

Result<> ManagerImpl::MakePodCgroup(const PodRecord& record) {
  if (record.cgroup_path.empty()) return {};
  TRY(deps_.cgroups.Create(record.cgroup_path));
  FAILPOINT("run_sandbox.within_cgroup");
  cgroup::Limits limits = LimitsHere(record.resources, record.overhead);
  if (limits == cgroup::Limits()) return {};
  return deps_.cgroups.SetLimits(record.cgroup_path, limits);
}

Owner PodRoot(const SandboxConfig& config) {
  const NamespaceOptions& namespaces = config.security.namespaces;
  if (!namespaces.userns_pod) return {};
  return {.uid = spec::HostRoot(namespaces.uids), .gid = spec::HostRoot(namespaces.gids)};
}

Result<> ManagerImpl::MakePodDir(PodEntry& pod) {
  const std::string dir = paths_.PodDir(pod.id);
  TRY(sys::MakeDir(dir, 0700));
  FAILPOINT("run_sandbox.within_dir");
  const SandboxConfig config = pod.record.Lock()->config;
  if (!config.security.namespaces.userns_pod) return {};
  return host_->OpenForUserns(dir, {paths_.Pods(), paths_.state_dir}, PodRoot(config));
}

Result<> ManagerImpl::WritePodFiles(PodEntry& pod, const SandboxPlan& plan) {
  PodRecord record = *pod.record.Lock();
  bool userns = record.config.security.namespaces.userns_pod;
  Owner root = PodRoot(record.config);
  PodFilePaths files = FilesOf(record);
  // Whoever reaches the pod's directory may go through: who reads a file is the file's mode to say.
  TRY(host_->MountTmpfs(files.dir, record.files_bytes, 0755, root), "the pod's files");
  FAILPOINT("run_sandbox.within_files");
  auto write = [&](const std::string& path, const std::string& text) -> Result<> {
    TRY(sys::WriteFileAtomic(path, text, 0644, sys::Durability::kNone));
    return userns ? host_->GiveTo(path, root) : Result<>();
  };
  TRY(write(files.ResolvConf(), plan.resolv_conf));
  TRY(write(files.Hosts(), plan.hosts));
  return write(files.Hostname(), plan.hostname_file);
}

// They live by their descriptors until the shim has them, so there is nothing to record or undo.
Result<sys::OwnedNamespaces> ManagerImpl::MakePodUserns(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan) {
  NamespaceOptions namespaces = pod.record.Lock()->config.security.namespaces;
  if (!namespaces.userns_pod) return sys::OwnedNamespaces();
  return deps_.runtime.MakeUserns(ctx, {.maps = UsernsMaps(namespaces.uids, namespaces.gids),
                                        .net = !plan.host_network,
                                        .ipc = plan.own_ipc,
                                        .uts = plan.own_uts});
}

// A sysctl of the network namespace may be of an interface that the plugins make, or one that they set, too. Not so
// another value of the two that the node's policy gives to every pod.
static bool SetsNetwork(const SandboxPlan& plan) {
  return std::ranges::any_of(plan.sysctls, [](const auto& sysctl) {
    const std::string& name = sysctl.first;
    return name.starts_with("net.") && name != "net.ipv4.ip_unprivileged_port_start" &&
           name != "net.ipv4.ping_group_range";
  });
}

// The shim needs no more than the pod's directory to begin, and the network namespace to go on. Whoever undoes the pod
// tears down network and shim whatever came first. Not with a user namespace, which would have to be there before.
void ManagerImpl::BeginShim(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan, ShimStart& shim) {
  if (pod.record.Lock()->config.security.namespaces.userns_pod) return;
  Ctx beside = ctx;
  beside.TrackStages(nullptr);  // those of the caller are told
  shim.Begin([this, beside, &pod, &plan](const ShimStart::AwaitNetns& await_netns) {
    return StartShim(beside, pod, plan, {}, await_netns);
  });
}

Result<> ManagerImpl::AttachAndStartShim(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan,
                                         sys::OwnedNamespaces owned, ShimStart& shim) {
  ctx.Stage("set up the pod's network");
  const sys::BorrowedFd own_netns = owned.net;  // moves with the others to the shim's spec, and is open as long as that
  auto netns_path = [&] { return pod.record.Lock()->netns_path; };
  if (!shim.begun()) {
    TRY(AttachNetwork(ctx, pod, plan, own_netns, nullptr));
    FAILPOINT("run_sandbox.after_network");
    ctx.Stage("start the pod's shim");
    return StartShim(ctx, pod, plan, std::move(owned), netns_path);
  }
  std::function<void(const std::string&)> on_netns;
  if (!SetsNetwork(plan)) on_netns = [&](const std::string& path) { shim.TellNetns(path); };
  Result<> attached = AttachNetwork(ctx, pod, plan, own_netns, std::move(on_netns));
  if (attached) shim.TellNetns(netns_path());
  ctx.Stage("wait for the pod's shim");
  Result<> started = attached ? shim.Wait() : Result<>();
  TRY(std::move(attached));
  FAILPOINT("run_sandbox.after_network");
  return started;
}

Result<> ManagerImpl::AttachNetwork(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan, sys::BorrowedFd own_netns,
                                    std::function<void(const std::string&)> on_netns) {
  PodRecord record = *pod.record.Lock();
  if (record.host_network) return {};
  network::PodNetworkRequest request = NetworkRequest(record);
  request.netns = own_netns;
  request.sysctls.assign(plan.netns_sysctls.begin(), plan.netns_sysctls.end());
  request.on_netns = std::move(on_netns);
  network::PodNetwork attached = TRY(deps_.network.Setup(ctx, request), "pod network");
  FAILPOINT("run_sandbox.within_network");
  // Written with the commit that makes the pod ready: the network has a record of its own, by which it is undone.
  auto locked = pod.record.Lock();
  locked->netns_path = attached.netns_path;
  locked->ips = attached.ips;
  locked->network_result = attached.result_json;
  return {};
}

Result<> ManagerImpl::StartShim(const Ctx& ctx, PodEntry& pod, const SandboxPlan& plan, sys::OwnedNamespaces owned,
                                std::function<Result<std::string>()> await_netns) {
  runtime::PodSpec spec;
  spec.owned = std::move(owned);
  spec.pod = pod.id;
  spec.run_dir = paths_.PodDir(pod.id);
  spec.await_netns = std::move(await_netns);
  spec.own_ipc = plan.own_ipc;
  spec.own_uts = plan.own_uts;
  spec.shared_pid = plan.shared_pid;
  spec.hostname = plan.hostname;
  spec.sysctls = plan.sysctls;
  runtime::PodNamespaces namespaces = TRY(deps_.runtime.StartPod(ctx, spec), "pod shim");
  FAILPOINT("run_sandbox.within_shim");
  // Written with the commit that follows; recovery gets it from the shim itself.
  pod.record.Lock()->namespaces = std::move(namespaces);
  return {};
}

}  // namespace crisp::pod
