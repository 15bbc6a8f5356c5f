#include "cri/to_cri.h"

#include "base/strings.h"
#include "cri/signals.h"

namespace crisp::cri {
namespace {

template <class To, class From>
To Enum(From value) {  // ours are declared in CRI's order
  return static_cast<To>(static_cast<int>(value));
}

template <class Object, class Message>
void Maps(const Object& config, Message& out) {
  out.mutable_labels()->insert(config.labels.begin(), config.labels.end());
  out.mutable_annotations()->insert(config.annotations.begin(), config.annotations.end());
}

void Metadata(const spec::SandboxMetadata& metadata, v1::PodSandboxMetadata& out) {
  out.set_name(metadata.name);
  out.set_uid(metadata.uid);
  out.set_namespace_(metadata.pod_namespace);
  out.set_attempt(metadata.attempt);
}

void Metadata(const spec::ContainerMetadata& metadata, v1::ContainerMetadata& out) {
  out.set_name(metadata.name);
  out.set_attempt(metadata.attempt);
}

void Mappings(const std::vector<spec::IdMapping>& mappings, auto& out) {
  for (const spec::IdMapping& m : mappings) {
    v1::IDMapping* added = out.Add();
    added->set_host_id(m.host_id);
    added->set_container_id(m.container_id);
    added->set_length(m.length);
  }
}

void Namespaces(const spec::NamespaceOptions& in, v1::NamespaceOption& out) {
  out.set_network(Enum<v1::NamespaceMode>(in.network));
  out.set_pid(Enum<v1::NamespaceMode>(in.pid));
  out.set_ipc(Enum<v1::NamespaceMode>(in.ipc));
  out.set_target_id(in.target_id);
  if (!in.userns_pod) return;
  out.mutable_userns_options()->set_mode(v1::POD);
  Mappings(in.uids, *out.mutable_userns_options()->mutable_uids());
  Mappings(in.gids, *out.mutable_userns_options()->mutable_gids());
}

void Mount(const spec::Mount& in, v1::Mount& out) {
  out.set_container_path(in.container_path);
  out.set_host_path(in.host_path);
  out.set_readonly(in.readonly);
  out.set_recursive_read_only(in.recursive_readonly);
  out.set_selinux_relabel(in.selinux_relabel);
  out.set_propagation(Enum<v1::MountPropagation>(in.propagation));
  Mappings(in.uid_mappings, *out.mutable_uidmappings());
  Mappings(in.gid_mappings, *out.mutable_gidmappings());
  if (!in.image.empty()) {
    out.mutable_image()->set_image(in.image);
    out.mutable_image()->set_user_specified_image(in.image_user_specified);
    out.mutable_image()->set_image_ref(in.image_ref);
  }
  out.set_image_sub_path(in.image_sub_path);
  for (const std::string& option : in.mount_options) out.add_mount_options(option);
}

void Resources(const spec::Resources& in, v1::LinuxContainerResources& out) {
  out.set_cpu_period(in.cpu_period);
  out.set_cpu_quota(in.cpu_quota);
  out.set_cpu_shares(in.cpu_shares);
  out.set_memory_limit_in_bytes(in.memory_limit_bytes);
  out.set_memory_swap_limit_in_bytes(in.memory_swap_limit_bytes);
  out.set_oom_score_adj(in.oom_score_adj);
  out.set_cpuset_cpus(in.cpuset_cpus);
  out.set_cpuset_mems(in.cpuset_mems);
  for (const spec::HugepageLimit& limit : in.hugepages) {
    v1::HugepageLimit* added = out.add_hugepage_limits();
    added->set_page_size(limit.page_size);
    added->set_limit(limit.limit);
  }
  out.mutable_unified()->insert(in.unified.begin(), in.unified.end());
}

// What the kubelet shows as the container's image: the name in the pod's spec, where it told us.
const std::string& ShownImage(const spec::ContainerConfig& config) {
  return config.user_specified_image.empty() ? config.image : config.user_specified_image;
}

void Image(const spec::ContainerConfig& config, v1::ImageSpec& out) {
  out.set_image(ShownImage(config));
  out.set_user_specified_image(config.user_specified_image);
  out.set_runtime_handler(config.image_runtime_handler);
  out.mutable_annotations()->insert(config.image_annotations.begin(), config.image_annotations.end());
}

void Network(const pod::SandboxStatus& sandbox, v1::PodSandboxNetworkStatus& out) {
  for (const std::string& ip : sandbox.ips) {
    if (out.ip().empty()) {
      out.set_ip(ip);
    } else {
      out.add_additional_ips()->set_ip(ip);
    }
  }
}

}  // namespace

v1::PodSandboxStatus SandboxStatusToCri(const pod::SandboxStatus& sandbox) {
  v1::PodSandboxStatus out;
  out.set_id(sandbox.id.str());
  Metadata(sandbox.config.metadata, *out.mutable_metadata());
  out.set_state(Enum<v1::PodSandboxState>(sandbox.state));
  out.set_created_at(sandbox.created_at);
  Network(sandbox, *out.mutable_network());
  Namespaces(sandbox.config.security.namespaces, *out.mutable_linux()->mutable_namespaces()->mutable_options());
  Maps(sandbox.config, out);
  out.set_runtime_handler(sandbox.config.runtime_handler);
  return out;
}

v1::PodSandbox SandboxToCri(const pod::SandboxStatus& sandbox) {
  v1::PodSandbox out;
  out.set_id(sandbox.id.str());
  Metadata(sandbox.config.metadata, *out.mutable_metadata());
  out.set_state(Enum<v1::PodSandboxState>(sandbox.state));
  out.set_created_at(sandbox.created_at);
  Maps(sandbox.config, out);
  out.set_runtime_handler(sandbox.config.runtime_handler);
  return out;
}

v1::ContainerStatus ContainerStatusToCri(const pod::ContainerStatus& container) {
  v1::ContainerStatus out;
  out.set_id(container.id.str());
  Metadata(container.config.metadata, *out.mutable_metadata());
  out.set_state(Enum<v1::ContainerState>(container.state));
  out.set_created_at(container.created_at);
  out.set_started_at(container.started_at);
  out.set_finished_at(container.finished_at);
  out.set_exit_code(container.exit_code);
  Image(container.config, *out.mutable_image());
  // The kubelet shows image_ref as the pod's status.containerStatuses[].imageID: a name with a digest that others can
  // pull or scan, which the id is not.
  out.set_image_ref(container.image_digest_ref.empty() ? container.image_id : container.image_digest_ref);
  out.set_image_id(container.image_id);
  out.set_reason(container.reason);
  out.set_message(container.message);
  Maps(container.config, out);
  for (const spec::Mount& mount : container.config.mounts) Mount(mount, *out.add_mounts());
  out.set_log_path(container.log_path);
  Resources(container.resources, *out.mutable_resources()->mutable_linux());
  if (container.user) {
    v1::LinuxContainerUser* user = out.mutable_user()->mutable_linux();
    user->set_uid(container.user->uid);
    user->set_gid(container.user->gid);
    for (int64_t gid : container.user->supplemental_groups) user->add_supplemental_groups(gid);
  }
  out.set_stop_signal(static_cast<v1::Signal>(SignalToCri(container.stop_signal)));
  return out;
}

v1::Container ContainerToCri(const pod::ContainerStatus& container) {
  v1::Container out;
  out.set_id(container.id.str());
  out.set_pod_sandbox_id(container.pod.str());
  Metadata(container.config.metadata, *out.mutable_metadata());
  Image(container.config, *out.mutable_image());
  out.set_image_ref(container.image_id);
  out.set_image_id(container.image_id);
  out.set_state(Enum<v1::ContainerState>(container.state));
  out.set_created_at(container.created_at);
  Maps(container.config, out);
  return out;
}

v1::ContainerEventResponse EventToCri(const pod::ObjectEvent& event) {
  v1::ContainerEventResponse out;
  out.set_container_id(event.id);
  out.set_container_event_type(Enum<v1::ContainerEventType>(event.type));
  out.set_created_at(event.created_at);
  if (event.sandbox != nullptr) *out.mutable_pod_sandbox_status() = SandboxStatusToCri(*event.sandbox);
  for (const pod::ContainerRef& container : event.containers) {
    *out.add_containers_statuses() = ContainerStatusToCri(*container);
  }
  return out;
}

v1::Image ImageToCri(const image::Image& image, const std::string& handler) {
  v1::Image out;
  out.set_id(image.id);
  for (const std::string& tag : image.repo_tags) out.add_repo_tags(tag);
  for (const std::string& digest : image.repo_digests) out.add_repo_digests(digest);
  out.set_size(image.size_bytes);
  // Config.User is "user", "user:group" or "": CRI wants the user only, as a number or as a name, and neither for "".
  std::string_view user = Split(image.config.user, ':')[0];
  if (std::optional<int64_t> uid = ParseInt<int64_t>(user)) {
    out.mutable_uid()->set_value(*uid);
  } else {
    out.set_username(std::string(user));
  }
  out.set_pinned(image.pinned);
  if (!handler.empty()) {
    out.mutable_spec()->set_image(image.id);
    out.mutable_spec()->set_runtime_handler(handler);
  }
  return out;
}

v1::FilesystemUsage UsageToCri(const image::FsUsage& usage, int64_t measured_at) {
  v1::FilesystemUsage out;
  out.set_timestamp(measured_at);
  out.mutable_fs_id()->set_mountpoint(usage.mountpoint);
  out.mutable_used_bytes()->set_value(usage.used_bytes);
  out.mutable_inodes_used()->set_value(usage.inodes_used);
  return out;
}

}  // namespace crisp::cri
