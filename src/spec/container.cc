// PlanContainer: puts the parts together to config.json.
#include <array>
#include <csignal>

#include "base/strings.h"
#include "spec/parts.h"
#include "spec/userns.h"

namespace crisp::spec {

namespace {

Result<Json> PlanNamespaces(const Planning& p) {
  const NamespaceOptions& asked = p.security().namespaces;
  const PodNamespacePaths& pod = p.in.namespaces;
  Json namespaces = Json::array({{{"type", "mount"}}});
  auto join = [&](const char* type, const std::string& path) {
    if (!path.empty()) namespaces.push_back({{"type", type}, {"path", path}});
  };
  if (p.userns()) {
    if (pod.user.empty()) return NotHere("the pod's user namespace is gone");
    join("user", pod.user);
  }
  join("network", pod.net);
  join("ipc", pod.ipc);
  join("uts", pod.uts);
  switch (asked.pid) {
    case NamespaceMode::kNode: break;
    case NamespaceMode::kContainer: namespaces.push_back({{"type", "pid"}}); break;
    case NamespaceMode::kTarget:
      if (p.in.target_pid_namespace.empty()) {
        return NotHere(StrCat("target container ", Quote(asked.target_id), " is not running"));
      }
      join("pid", p.in.target_pid_namespace);
      break;
    case NamespaceMode::kPod:
      if (!pod.pid.empty()) {
        join("pid", pod.pid);
      } else if (p.in.sandbox.security.namespaces.pid != NamespaceMode::kNode) {
        p.Warn("the sandbox has no PID namespace of its own to share, making one for the container");
        namespaces.push_back({{"type", "pid"}});
      }
      break;
  }
  // With cgroup v2 a container sees its own cgroup as the root; one that administrates the node sees all.
  if (p.node.cgroup_v2 && !p.privileged()) namespaces.push_back({{"type", "cgroup"}});
  return namespaces;
}

Json OciMappings(const std::vector<IdMapping>& maps) {
  Json out = Json::array();
  for (const IdMapping& m : maps)
    out.push_back({{"containerID", m.container_id}, {"hostID", m.host_id}, {"size", m.length}});
  return out;
}

// A scope that asks for no TasksMax gets systemd's DefaultTasksMax, 15 % of what the machine can have: a limit that nobody
// wanted and no status shows. runc and crun pass properties on by annotations of this prefix; both know pids.limit, but
// crun 1.8 sets it in a cgroup below the scope's only.
constexpr char kTasksMaxProperty[] = "org.systemd.property.TasksMax";

std::string TasksMax(const Planning& p) {
  uint64_t tasks = p.policy.pids_max > 0 ? static_cast<uint64_t>(p.policy.pids_max) : UINT64_MAX;  // UINT64_MAX: infinity
  const StringMap& unified = p.in.config.resources.unified;
  if (auto asked = unified.find("pids.max"); asked != unified.end()) {
    tasks = ParseInt<uint64_t>(Trim(asked->second)).value_or(UINT64_MAX);
  }
  return StrCat("uint64 ", tasks);  // as GVariant writes it
}

// The names that tools around Kubernetes read from bundles. Of the request's own annotations only those go here that the
// node's owner has named for this handler, since some OCI runtimes obey annotations (CVE-2024-3154, S56).
Json Annotations(const Planning& p) {
  Json out = Json::object();
  auto pass = [&](const StringMap& from, const std::vector<std::string>& allowed) {
    for (const std::string& key : allowed) {
      if (auto found = from.find(key); found != from.end()) out[key] = found->second;
    }
  };
  pass(p.in.sandbox.annotations, p.in.pod_annotations);
  pass(p.in.config.annotations, p.in.container_annotations);
  const SandboxMetadata& pod = p.in.sandbox.metadata;
  Json ours = {{"io.kubernetes.cri.container-type", "container"},
          {"io.kubernetes.cri.container-name", p.in.config.metadata.name},
          {"io.kubernetes.cri.image-name", p.in.image_name},
          {"io.kubernetes.cri.sandbox-id", p.in.pod_id.str()},
          {"io.kubernetes.cri.sandbox-name", pod.name},
          {"io.kubernetes.cri.sandbox-namespace", pod.pod_namespace},
          {"io.kubernetes.cri.sandbox-uid", pod.uid}};
  out.update(ours);
  if (p.node.systemd_cgroups && !out.contains(kTasksMaxProperty)) out[kTasksMaxProperty] = TasksMax(p);
  return out;
}

Result<Json> PlanNewCgroup(const Planning& p, Json device_rules) {
  Resources asked = p.in.config.resources;
  if (asked.cpu_quota < 0) asked.cpu_quota = 0;  // none is what a new cgroup has, and crun 1.8 cannot write it on v1
  Json resources = TRY(PlanResources(asked, p.node, p.warnings));
  resources["devices"] = std::move(device_rules);
  if (p.policy.pids_max > 0) resources["pids"] = {{"limit", p.policy.pids_max}};
  return resources;
}

Result<Json> PlanLinux(const Planning& p, oci::CapabilitySet capabilities, const std::string& root_propagation,
                       DevicesPlan devices) {
  Json resources = TRY(PlanNewCgroup(p, std::move(devices.rules)));
  Json namespaces = TRY(PlanNamespaces(p));
  Json out = {{"namespaces", std::move(namespaces)},
              {"cgroupsPath", p.in.cgroups_path},
              {"resources", std::move(resources)}};
  if (p.userns()) {
    // Beside the namespace's path: runtimes want to know what their root is outside.
    out["uidMappings"] = OciMappings(p.in.sandbox.security.namespaces.uids);
    out["gidMappings"] = OciMappings(p.in.sandbox.security.namespaces.gids);
  }
  if (!devices.devices.empty()) out["devices"] = std::move(devices.devices);
  if (!root_propagation.empty()) out["rootfsPropagation"] = root_propagation;
  ProcPaths paths = TRY(PlanProcPaths(p));
  if (!paths.masked.empty()) out["maskedPaths"] = paths.masked;
  if (!paths.readonly.empty()) out["readonlyPaths"] = paths.readonly;
  Json seccomp = TRY(PlanSeccomp(p, capabilities));
  if (!seccomp.is_null()) out["seccomp"] = std::move(seccomp);
  return out;
}

int PlanStopSignal(const Planning& p) {
  if (p.in.config.stop_signal > 0 && p.in.config.stop_signal <= SIGRTMAX) return p.in.config.stop_signal;
  if (p.in.image.stop_signal.empty()) return SIGTERM;
  Result<int> signal = ParseSignal(p.in.image.stop_signal);
  if (signal) return *signal;
  p.Warn(StrCat("the image's stop signal: ", signal.error().message(), ", using SIGTERM"));
  return SIGTERM;
}

Planning PlanningOf(const ContainerInputs& in, const NodeFacts& node, const Policy& policy,
                    std::vector<std::string>& warnings) {
  return {in, node, policy, warnings, node.arch.empty() ? oci::NativeArch() : std::string_view(node.arch)};
}

}  // namespace

Result<ContainerPlan> PlanContainer(const ContainerInputs& in, const NodeFacts& node, const Policy& policy) {
  ContainerPlan plan;
  Planning p = PlanningOf(in, node, policy, plan.warnings);
  if (p.privileged() && !in.sandbox.security.privileged) {
    return Invalid("a privileged container needs a privileged sandbox");
  }
  if (p.userns() && p.privileged()) {
    return Invalid("security_context.privileged: not in a pod with a user namespace of its own");
  }
  TRY(CheckContainerUserns(in.sandbox.security, in.config.security.namespaces));
  TRY(CheckUserInUserns(in.sandbox.security.namespaces, in.user));
  oci::CapabilitySet capabilities = TRY(PlanCapabilities(p));
  MountsPlan mounts = TRY(PlanMounts(p));
  DevicesPlan devices = TRY(PlanDevices(p));
  for (Json& mount : devices.mounts) mounts.mounts.push_back(std::move(mount));
  Json process = TRY(PlanProcess(p, capabilities));
  Json platform = TRY(PlanLinux(p, capabilities, mounts.root_propagation, std::move(devices)));
  Json config = {{"ociVersion", oci::kRuntimeSpecVersion},
                 {"process", std::move(process)},
                 {"root", {{"path", in.rootfs}, {"readonly", p.security().readonly_rootfs}}},
                 {"mounts", std::move(mounts.mounts)},
                 {"annotations", Annotations(p)},
                 {"linux", std::move(platform)}};
  SelinuxLabels labels = TRY(PlanSelinux(p));
  if (!labels.process.empty()) {
    config["process"]["selinuxLabel"] = labels.process;
    config["linux"]["mountLabel"] = labels.mount;
    for (size_t i = 0; i < in.config.mounts.size(); ++i) {
      const Mount& mount = in.config.mounts[i];
      if (mount.selinux_relabel && mount.image.empty()) plan.relabels.push_back({i, labels.mount});
    }
  }
  plan.stop_signal = PlanStopSignal(p);
  plan.config_json = DumpJson(config);
  plan.config = std::make_shared<const Json>(std::move(config));
  return plan;
}

Result<std::string> PlanCgroup(const ContainerInputs& in, const NodeFacts& node, const Policy& policy) {
  std::vector<std::string> warnings;
  Planning p = PlanningOf(in, node, policy, warnings);
  DevicesPlan devices = TRY(PlanDevices(p));
  return DumpJson(TRY(PlanNewCgroup(p, std::move(devices.rules))));
}

Result<int> ParseSignal(const std::string& text) {
  struct Name {
    std::string_view name;
    int number;
  };
  static constexpr std::array<Name, 33> kNames = {
      {{"HUP", SIGHUP},   {"INT", SIGINT},       {"QUIT", SIGQUIT},     {"ILL", SIGILL},   {"TRAP", SIGTRAP},
       {"ABRT", SIGABRT}, {"IOT", SIGABRT},      {"BUS", SIGBUS},       {"FPE", SIGFPE},   {"KILL", SIGKILL},
       {"USR1", SIGUSR1}, {"SEGV", SIGSEGV},     {"USR2", SIGUSR2},     {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},
       {"TERM", SIGTERM}, {"STKFLT", SIGSTKFLT}, {"CHLD", SIGCHLD},     {"CLD", SIGCHLD},  {"CONT", SIGCONT},
       {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},     {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},
       {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},     {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH},
       {"IO", SIGIO},     {"PWR", SIGPWR},       {"SYS", SIGSYS}}};
  auto unknown = [&] { return Invalid(StrCat("no such signal: ", Quote(text))); };
  auto in_range = [&](int number) -> Result<int> {
    if (number < 1 || number > SIGRTMAX) return unknown();
    return number;
  };
  if (auto number = ParseInt<int>(text)) return in_range(*number);
  std::string name = text;
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (const Name& each : kNames) {
    if (each.name == name) return each.number;
  }
  // glibc keeps the first two realtime signals; image authors count from 34 like everybody's shell.
  if (name == "RTMIN") return SIGRTMIN;
  if (name == "RTMAX") return SIGRTMAX;
  std::optional<int> offset;
  if (name.starts_with("RTMIN+") && (offset = ParseInt<int>(std::string_view(name).substr(6))) && *offset >= 0 &&
      *offset <= 30) {
    return in_range(SIGRTMIN + *offset);
  }
  if (name.starts_with("RTMAX-") && (offset = ParseInt<int>(std::string_view(name).substr(6))) && *offset >= 0 &&
      *offset <= 30) {
    return in_range(SIGRTMAX - *offset);
  }
  return unknown();
}

}  // namespace crisp::spec
