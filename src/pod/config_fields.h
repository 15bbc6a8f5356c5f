// The members of the request types, for json_fields.h. In the namespace of the types, where argument lookup finds them.
#pragma once

#include "spec/types.h"

namespace crisp::spec {

template <class V>
void Fields(V& v, IdMapping& t) {
  v("host_id", t.host_id), v("container_id", t.container_id), v("length", t.length);
}
template <class V>
void Fields(V& v, NamespaceOptions& t) {
  v("network", t.network), v("pid", t.pid), v("ipc", t.ipc), v("target_id", t.target_id);
  v("userns_pod", t.userns_pod), v("uids", t.uids), v("gids", t.gids);
}
template <class V>
void Fields(V& v, SecurityProfile& t) {
  v("type", t.type), v("localhost_ref", t.localhost_ref);
}
template <class V>
void Fields(V& v, SelinuxOptions& t) {
  v("user", t.user), v("role", t.role), v("type", t.type), v("level", t.level);
}
template <class V>
void Fields(V& v, HugepageLimit& t) {
  v("page_size", t.page_size), v("limit", t.limit);
}
template <class V>
void Fields(V& v, Resources& t) {
  v("cpu_period", t.cpu_period), v("cpu_quota", t.cpu_quota), v("cpu_shares", t.cpu_shares);
  v("memory_limit_bytes", t.memory_limit_bytes), v("memory_swap_limit_bytes", t.memory_swap_limit_bytes);
  v("oom_score_adj", t.oom_score_adj), v("cpuset_cpus", t.cpuset_cpus), v("cpuset_mems", t.cpuset_mems);
  v("hugepages", t.hugepages), v("unified", t.unified);
}
template <class V>
void Fields(V& v, SandboxSecurity& t) {
  v("namespaces", t.namespaces), v("selinux", t.selinux);
  v("run_as_user", t.run_as_user), v("run_as_group", t.run_as_group), v("readonly_rootfs", t.readonly_rootfs);
  v("supplemental_groups", t.supplemental_groups), v("groups_policy", t.groups_policy), v("privileged", t.privileged);
  v("seccomp", t.seccomp), v("apparmor", t.apparmor), v("seccomp_profile_path", t.seccomp_profile_path);
}
template <class V>
void Fields(V& v, SandboxMetadata& t) {
  v("name", t.name), v("uid", t.uid), v("namespace", t.pod_namespace), v("attempt", t.attempt);
}
template <class V>
void Fields(V& v, PortMapping& t) {
  v("protocol", t.protocol), v("container_port", t.container_port), v("host_port", t.host_port), v("host_ip", t.host_ip);
}
template <class V>
void Fields(V& v, SandboxConfig& t) {
  v("metadata", t.metadata), v("hostname", t.hostname), v("log_directory", t.log_directory);
  v("dns_servers", t.dns_servers), v("dns_searches", t.dns_searches), v("dns_options", t.dns_options);
  v("has_dns", t.has_dns), v("port_mappings", t.port_mappings), v("labels", t.labels), v("annotations", t.annotations);
  v("cgroup_parent", t.cgroup_parent), v("security", t.security), v("sysctls", t.sysctls);
  v("overhead", t.overhead), v("resources", t.resources), v("runtime_handler", t.runtime_handler);
}
template <class V>
void Fields(V& v, Mount& t) {
  v("container_path", t.container_path), v("host_path", t.host_path), v("readonly", t.readonly);
  v("selinux_relabel", t.selinux_relabel), v("recursive_readonly", t.recursive_readonly), v("propagation", t.propagation);
  v("uid_mappings", t.uid_mappings), v("gid_mappings", t.gid_mappings);
  v("image", t.image), v("image_sub_path", t.image_sub_path), v("mount_options", t.mount_options);
  v("image_user_specified", t.image_user_specified), v("image_ref", t.image_ref);
}
template <class V>
void Fields(V& v, Device& t) {
  v("container_path", t.container_path), v("host_path", t.host_path), v("permissions", t.permissions);
}
template <class V>
void Fields(V& v, Capabilities& t) {
  v("add", t.add), v("drop", t.drop), v("add_ambient", t.add_ambient);
}
template <class V>
void Fields(V& v, ContainerSecurity& t) {
  v("capabilities", t.capabilities), v("privileged", t.privileged), v("namespaces", t.namespaces), v("selinux", t.selinux);
  v("run_as_user", t.run_as_user), v("run_as_group", t.run_as_group), v("run_as_username", t.run_as_username);
  v("readonly_rootfs", t.readonly_rootfs), v("supplemental_groups", t.supplemental_groups);
  v("groups_policy", t.groups_policy), v("no_new_privs", t.no_new_privs);
  v("masked_paths", t.masked_paths), v("readonly_paths", t.readonly_paths);
  v("seccomp", t.seccomp), v("apparmor", t.apparmor);
  v("seccomp_profile_path", t.seccomp_profile_path), v("apparmor_profile", t.apparmor_profile);
}
template <class V>
void Fields(V& v, ContainerMetadata& t) {
  v("name", t.name), v("attempt", t.attempt);
}
template <class V>
void Fields(V& v, EnvVar& t) {
  v("key", t.key), v("value", t.value);
}
template <class V>
void Fields(V& v, ContainerConfig& t) {
  v("metadata", t.metadata), v("image", t.image), v("user_specified_image", t.user_specified_image);
  v("image_runtime_handler", t.image_runtime_handler);
  v("image_annotations", t.image_annotations), v("command", t.command), v("args", t.args);
  v("working_dir", t.working_dir), v("envs", t.envs), v("mounts", t.mounts), v("devices", t.devices);
  v("cdi_devices", t.cdi_devices), v("labels", t.labels), v("annotations", t.annotations), v("log_path", t.log_path);
  v("stdin", t.stdin_open), v("stdin_once", t.stdin_once), v("tty", t.tty), v("resources", t.resources);
  v("security", t.security), v("stop_signal", t.stop_signal);
}
template <class V>
void Fields(V& v, ContainerUser& t) {
  v("uid", t.uid), v("gid", t.gid), v("supplemental_groups", t.supplemental_groups);
}

}  // namespace crisp::spec
