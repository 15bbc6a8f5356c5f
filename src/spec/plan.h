// Plans: what a sandbox and a container shall be, computed from what was asked, the image and the node's facts.
//
// Everything here is pure: no syscalls, no clock, no randomness. Whoever applies a plan makes no decisions; whoever
// plans touches nothing. So each rule of the CRI and of the security matrix is a table test or a golden file
// (tests/data/spec). Facts about the node and about host paths are gathered by the caller and passed in.
//
// Threading: any thread. Errors: kInvalidArgument for a request that can never work, kFailedPrecondition for one that
// this node cannot fulfil, kUnimplemented for what crisp cannot do yet. A request is never weakened in silence: what is
// left out (a capability that we do not have ourselves, …) is told in `warnings`, and a seccomp or AppArmor profile is
// never left out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "spec/types.h"

namespace crisp::spec {

// What this machine is and can do. Gathered once at start.
struct NodeFacts {
  std::string hostname;
  std::string resolv_conf;  // text of the node's /etc/resolv.conf
  std::string hosts;        // text of the node's /etc/hosts
  std::string arch;         // as Go names it: "amd64", "arm64"; "" = what we were compiled for

  bool cgroup_v2 = false;
  bool systemd_cgroups = false;                 // the cgroup driver is systemd: containers are units
  std::vector<std::string> cgroup_controllers;  // "cpu", "memory", "pids", "hugetlb", …
  std::vector<std::string> hugepage_sizes;      // "2MB": the sizes the hugetlb controller limits
  bool swap_accounting = false;

  // Paths that exist on this machine only and are masked beside the default ones: thermal_throttle of each CPU
  // (/sys/devices/system/cpu/cpu*/thermal_throttle, GHSA-6fw5-f8r9-fgfm).
  std::vector<std::string> masked_paths;

  uint64_t capability_bounds = ~uint64_t{0};  // our own bounding set, bit = capability number
  int oom_score_adj = 0;                      // our own: without CAP_SYS_RESOURCE nobody below us goes lower

  bool seccomp = true;
  bool apparmor = false;
  bool selinux = false;
  std::string apparmor_default_profile;        // for RuntimeDefault; "" = none is loaded
  std::vector<std::string> apparmor_profiles;  // loaded ones, for Localhost
};

struct Rlimit {
  std::string type;  // "RLIMIT_NOFILE"
  uint64_t soft = 0, hard = 0;
};

// What the node's owner configured. Defaults are ours.
struct Policy {
  bool unprivileged_ports = true;  // net.ipv4.ip_unprivileged_port_start=0 in pod networks
  bool unprivileged_icmp = true;   // net.ipv4.ping_group_range for everybody in pod networks
  int64_t shm_bytes = 64 << 20;    // size of a pod's /dev/shm
  int64_t pids_max = 0;            // per container; 0 = no limit of ours (the kubelet limits the pod)
  std::vector<Rlimit> rlimits;     // of every container; empty = those of crispd are inherited
  bool ignore_proc_mount = false;  // always the default masked and read-only paths, whatever the request says
};

// ---- sandbox ----

struct SandboxPlan {
  std::string hostname;
  std::map<std::string, std::string> sysctls;  // dotted names; checked
  // By the node's policy, of a network namespace of the pod's own, before any of `sysctls`. Paths below /proc/sys.
  std::map<std::string, std::string> netns_sysctls;
  bool host_network = false;
  bool own_ipc = true, own_uts = true, shared_pid = true;
  std::string resolv_conf, hosts, hostname_file;  // texts of the pod's files
  int64_t shm_bytes = 0;                          // 0: the pod uses the node's /dev/shm
  std::vector<std::string> warnings;
};

// `id` only gives a host name to a pod that has no usable one.
Result<SandboxPlan> PlanSandbox(const SandboxConfig& config, const PodId& id, const NodeFacts& node,
                                const Policy& policy = {});

// ---- container ----

// The part of the image's config that a container inherits (image::ImageConfig by the same names).
struct ImageDefaults {
  std::vector<std::string> entrypoint, cmd, env;
  std::string working_dir;
  std::string stop_signal;
};

// Who the container runs as: rootfs::User, resolved inside the container's root file system.
struct ResolvedUser {
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> additional_gids;  // as they shall be, primary included
  std::string home = "/";
};

// Namespaces to join by path; "" = the node's own.
struct PodNamespacePaths {
  std::string net, ipc, uts, pid;
  std::string user;  // of a pod with a user namespace; its maps are the sandbox config's
};

// The pod's files on the node. "" = do not provide.
struct PodFiles {
  std::string resolv_conf, hosts, hostname, shm_dir;
};

enum class SourcePropagation { kPrivate, kShared, kSlave, kSharedSlave };

// What the host path of ContainerConfig::mounts[i] really is. Found out by opening it once: `path` is the resolved one.
struct MountSource {
  std::string path;
  SourcePropagation propagation = SourcePropagation::kPrivate;
  std::string mount_point;  // of the mount that `path` lies on; for messages
  std::string real_path;    // where the host path is, also when `path` is a staged mount
  bool staged = false;  // `path` is a mount of ours (rootfs/stage.h): ids mapped as asked, an image's content read-only
};

// A device node of the host. For ContainerConfig::devices a directory has been expanded into its nodes.
struct DeviceNode {
  std::string container_path;
  std::string host_path = {};
  char type = 'c';  // 'c' or 'b'
  uint32_t major = 0, minor = 0;
  uint32_t mode = 0;  // permission bits
  uint32_t uid = 0, gid = 0;
  std::string permissions = "rwm";  // of the cgroup rule
};

// A VOLUME of the image that no mount of the request covers: a directory of the container on the node.
struct VolumeMount {
  std::string container_path, host_dir;
};

struct ContainerInputs {
  SandboxConfig sandbox;
  ContainerConfig config;
  PodId pod_id;
  ContainerId id;
  std::string image_name;  // for annotations: a tag where there is one
  ImageDefaults image;
  ResolvedUser user;
  std::string rootfs;        // absolute
  std::string cgroups_path;  // OCI linux.cgroupsPath
  PodNamespacePaths namespaces;
  std::string target_pid_namespace;  // with pid == kTarget
  PodFiles files;
  std::vector<MountSource> mount_sources;  // one for each of config.mounts, same order; empty = host paths as asked
  std::vector<VolumeMount> volumes;
  std::vector<DeviceNode> devices;             // config.devices, expanded
  std::vector<DeviceNode> host_devices;        // all of the node's, for a privileged container
  std::optional<std::string> seccomp_profile;  // text of the Localhost profile file; nullopt: it could not be read
  bool handler_recursive_readonly = false;     // HandlerFeatures::recursive_read_only_mounts
  bool handler_native = false;                 // knows "src-plain"
  // Keys of annotations of the pod and of the container that the handler's OCI runtime gets to see; exact (S56).
  std::vector<std::string> pod_annotations, container_annotations;
};

struct Relabel {
  size_t mount = 0;  // index into config.mounts
  std::string label;
};

struct ContainerPlan {
  std::shared_ptr<const nlohmann::json> config;  // OCI runtime-spec 1.0.2 and later
  std::string config_json;                       // the bundle's config.json: its text
  int stop_signal = 15;
  std::vector<Relabel> relabels;  // to be done before the container starts
  std::vector<std::string> warnings;
};

Result<ContainerPlan> PlanContainer(const ContainerInputs& in, const NodeFacts& node, const Policy& policy = {});

// linux.resources of that plan, as its text has them, of the inputs that are there first: sandbox, config and devices. An
// error is one of the plan, too, though the plan may find another one before.
Result<std::string> PlanCgroup(const ContainerInputs& in, const NodeFacts& node, const Policy& policy = {});

// The absolute path of the seccomp profile file that this request needs (Localhost), or "" when it needs none. The
// caller reads it (≤ 1 MiB) into ContainerInputs::seccomp_profile. kInvalidArgument: no absolute path.
Result<std::string> SeccompProfilePath(const ContainerConfig& config);

// ---- changes ----

struct ResourcesPlan {
  std::string resources_json;  // OCI linux.resources without devices, for `<runtime> update`
  std::vector<std::string> warnings;
};
// UpdateContainerResources: only what the request sets is in it, and what the kernel or an OCI runtime takes only
// together with that (quota and period, memory and swap), from `current`. The whole must be something that could be
// created.
Result<ResourcesPlan> PlanResourcesUpdate(const Resources& current, const Resources& update, const NodeFacts& node);

// What of OCI linux.resources CRI can show; the way back of the plans. kInvalidArgument: members of other types.
Result<Resources> ParseResources(const std::string& resources_json);

// What a container's Resources are after an update: members that `update` sets replace those of `current`. A new memory
// limit without one for swap means what it means at creation: no swap.
Resources MergeResources(const Resources& current, const Resources& update);

// A process's oom_score_adj as this node can set it.
int PlanOomScoreAdj(int64_t wanted, const NodeFacts& node, std::vector<std::string>& warnings);

// kInvalidArgument for what no process can have as its arguments.
Result<> CheckCommand(const std::vector<std::string>& cmd);
// A process beside the container's own: same user, capabilities, environment, directory and no_new_privs.
// `config_json` is the container's config.json.
Result<std::string> PlanExec(const std::string& config_json, const std::vector<std::string>& cmd, bool tty);

// Signal number of "SIGTERM", "TERM", "15", "SIGRTMIN+3"; kInvalidArgument for anything else.
Result<int> ParseSignal(const std::string& text);

}  // namespace crisp::spec
