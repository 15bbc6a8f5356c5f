// What the CRI asks for, in our own types. cri/ converts protobuf into these once, at the edge, and checks what can be
// checked without knowing other objects; nothing below cri/ sees protobuf. Field meanings are those of CRI v1
// (api/cri/v1/api.proto) by the same name; only what differs is commented. All values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"

namespace crisp::spec {

using StringMap = std::map<std::string, std::string>;

enum class NamespaceMode { kPod, kContainer, kNode, kTarget };
enum class Propagation { kPrivate, kHostToContainer, kBidirectional };
enum class ProfileType { kRuntimeDefault, kUnconfined, kLocalhost };
enum class GroupsPolicy { kMerge, kStrict };
enum class Protocol { kTcp, kUdp, kSctp };

struct IdMapping {
  uint32_t host_id = 0, container_id = 0, length = 0;
  bool operator==(const IdMapping&) const = default;
};

struct NamespaceOptions {
  NamespaceMode network = NamespaceMode::kPod;
  NamespaceMode pid = NamespaceMode::kPod;
  NamespaceMode ipc = NamespaceMode::kPod;
  std::string target_id;  // with pid == kTarget: the container whose PID namespace is joined
  bool userns_pod = false;
  std::vector<IdMapping> uids, gids;
};

struct SecurityProfile {
  ProfileType type = ProfileType::kUnconfined;
  std::string localhost_ref;
};

struct SelinuxOptions {
  std::string user, role, type, level;
};

struct HugepageLimit {
  std::string page_size;
  uint64_t limit = 0;
};

struct Resources {
  int64_t cpu_period = 0, cpu_quota = 0, cpu_shares = 0;
  int64_t memory_limit_bytes = 0, memory_swap_limit_bytes = 0;
  int64_t oom_score_adj = 0;
  std::string cpuset_cpus, cpuset_mems;
  std::vector<HugepageLimit> hugepages;
  StringMap unified;
};

struct SandboxSecurity {
  NamespaceOptions namespaces;
  SelinuxOptions selinux;
  std::optional<int64_t> run_as_user, run_as_group;
  bool readonly_rootfs = false;
  std::vector<int64_t> supplemental_groups;
  GroupsPolicy groups_policy = GroupsPolicy::kMerge;
  bool privileged = false;
  std::optional<SecurityProfile> seccomp, apparmor;
  std::string seccomp_profile_path;  // the deprecated text form
};

struct SandboxMetadata {
  std::string name, uid, pod_namespace;
  uint32_t attempt = 0;
  bool operator==(const SandboxMetadata&) const = default;
};

struct PortMapping {
  Protocol protocol = Protocol::kTcp;
  int32_t container_port = 0, host_port = 0;
  std::string host_ip;
};

struct SandboxConfig {
  SandboxMetadata metadata;
  std::string hostname;
  std::string log_directory;  // absolute or ""
  std::vector<std::string> dns_servers, dns_searches, dns_options;
  bool has_dns = false;
  std::vector<PortMapping> port_mappings;
  StringMap labels, annotations;
  std::string cgroup_parent;
  SandboxSecurity security;
  StringMap sysctls;
  Resources overhead, resources;
  std::string runtime_handler;
};

struct Mount {
  std::string container_path, host_path;
  bool readonly = false, selinux_relabel = false, recursive_readonly = false;
  Propagation propagation = Propagation::kPrivate;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::string image;  // image volume: reference or id
  std::string image_user_specified;
  std::string image_ref;  // id of the image that was found; set when the container is created
  std::string image_sub_path;
  std::vector<std::string> mount_options;
};

struct Device {
  std::string container_path, host_path, permissions;
};

struct Capabilities {
  std::vector<std::string> add, drop, add_ambient;
};

struct ContainerSecurity {
  Capabilities capabilities;
  bool privileged = false;
  NamespaceOptions namespaces;
  SelinuxOptions selinux;
  std::optional<int64_t> run_as_user, run_as_group;
  std::string run_as_username;
  bool readonly_rootfs = false;
  std::vector<int64_t> supplemental_groups;
  GroupsPolicy groups_policy = GroupsPolicy::kMerge;
  bool no_new_privs = false;
  std::vector<std::string> masked_paths, readonly_paths;
  std::optional<SecurityProfile> seccomp, apparmor;
  std::string seccomp_profile_path, apparmor_profile;  // the deprecated text forms
};

struct ContainerMetadata {
  std::string name;
  uint32_t attempt = 0;
  bool operator==(const ContainerMetadata&) const = default;
};

struct EnvVar {
  std::string key, value;  // value is bytes
};

struct ContainerConfig {
  ContainerMetadata metadata;
  std::string image;  // reference or id as asked
  std::string user_specified_image;
  std::string image_runtime_handler;  // as the creator says; shown, and nothing else
  StringMap image_annotations;
  std::vector<std::string> command, args;
  std::string working_dir;
  std::vector<EnvVar> envs;
  std::vector<Mount> mounts;
  std::vector<Device> devices;
  std::vector<std::string> cdi_devices;
  StringMap labels, annotations;
  std::string log_path;  // relative to the sandbox's log_directory
  bool stdin_open = false, stdin_once = false, tty = false;
  Resources resources;
  ContainerSecurity security;
  int stop_signal = 0;  // kernel's number; 0: the image's, else SIGTERM
};

// A container's user as resolved against the image (ContainerStatus.user).
struct ContainerUser {
  int64_t uid = 0, gid = 0;
  std::vector<int64_t> supplemental_groups;
};

}  // namespace crisp::spec
