#include "cri/from_cri.h"

#include <arpa/inet.h>

#include <algorithm>

#include "base/strings.h"
#include "cri/signals.h"
#include "cri/validate.h"

namespace crisp::cri {
namespace {

template <class Map>
spec::StringMap ToMap(const Map& map) {
  return {map.begin(), map.end()};
}

template <class Repeated>
auto ToVector(const Repeated& repeated) {
  return std::vector<typename Repeated::value_type>(repeated.begin(), repeated.end());
}

// Proto3 enumerations are open: any number may arrive. CRI numbers the enumerators as ours are declared.
template <class To>
Result<To> ToEnum(std::string_view field, int value, int count) {
  if (value < 0 || value >= count) return Invalid(field, StrCat(value, " is no value of this field"));
  return static_cast<To>(value);
}

Result<> CheckTexts(std::string_view field, const auto& texts) {
  for (const std::string& text : texts) TRY(CheckText(field, text));
  return {};
}

Result<> CheckWords(std::string_view field, const auto& words) {
  for (const std::string& word : words) TRY(CheckWord(field, word));
  return {};
}

Result<std::vector<spec::IdMapping>> ToMappings(std::string_view field, const auto& mappings) {
  constexpr int kMappingsMax = 340;  // the kernel's UID_GID_MAP_MAX_EXTENTS
  if (mappings.size() > kMappingsMax) return Invalid(field, "too many ranges");
  std::vector<spec::IdMapping> out;
  for (const v1::IDMapping& m : mappings) {
    if (m.length() == 0) return Invalid(field, "a range without length");
    out.push_back({.host_id = m.host_id(), .container_id = m.container_id(), .length = m.length()});
  }
  return out;
}

Result<spec::NamespaceOptions> ToNamespaces(const v1::NamespaceOption& in) {
  spec::NamespaceOptions out;
  out.network = TRY(ToEnum<spec::NamespaceMode>("namespace_options.network", in.network(), 4));
  out.pid = TRY(ToEnum<spec::NamespaceMode>("namespace_options.pid", in.pid(), 4));
  out.ipc = TRY(ToEnum<spec::NamespaceMode>("namespace_options.ipc", in.ipc(), 4));
  out.target_id = in.target_id();
  TRY(CheckText("namespace_options.target_id", in.target_id()));
  if (in.has_userns_options()) {
    const v1::UserNamespace& users = in.userns_options();
    auto mode = TRY(ToEnum<spec::NamespaceMode>("namespace_options.userns_options.mode", users.mode(), 4));
    if (mode != spec::NamespaceMode::kPod && mode != spec::NamespaceMode::kNode) {
      return Invalid("namespace_options.userns_options.mode", "only POD and NODE are possible");
    }
    out.userns_pod = mode == spec::NamespaceMode::kPod;
    out.uids = TRY(ToMappings("namespace_options.userns_options.uids", users.uids()));
    out.gids = TRY(ToMappings("namespace_options.userns_options.gids", users.gids()));
  }
  return out;
}

Result<std::optional<spec::SecurityProfile>> ToProfile(std::string_view field, bool present,
                                                       const v1::SecurityProfile& in) {
  if (!present) return std::optional<spec::SecurityProfile>();
  spec::SecurityProfile out;
  out.type = TRY(ToEnum<spec::ProfileType>(StrCat(field, ".profile_type"), in.profile_type(), 3));
  out.localhost_ref = in.localhost_ref();
  TRY(CheckText(StrCat(field, ".localhost_ref"), in.localhost_ref()));
  if (out.type == spec::ProfileType::kLocalhost && out.localhost_ref.empty()) {
    return Invalid(StrCat(field, ".localhost_ref"), "missing for a Localhost profile");
  }
  return std::optional(out);
}

spec::SelinuxOptions ToSelinux(const v1::SELinuxOption& in) {
  return {.user = in.user(), .role = in.role(), .type = in.type(), .level = in.level()};
}

// The fields that the security contexts of sandboxes and containers have in common, under the same names.
template <class In, class Out>
Result<> CommonSecurity(const In& in, Out& out) {
  out.namespaces = TRY(ToNamespaces(in.namespace_options()));
  out.selinux = ToSelinux(in.selinux_options());
  if (in.has_run_as_user()) {
    TRY(CheckUid("security_context.run_as_user", in.run_as_user().value()));
    out.run_as_user = in.run_as_user().value();
  }
  if (in.has_run_as_group()) {
    TRY(CheckUid("security_context.run_as_group", in.run_as_group().value()));
    out.run_as_group = in.run_as_group().value();
  }
  for (int64_t gid : in.supplemental_groups()) TRY(CheckUid("security_context.supplemental_groups", gid));
  out.supplemental_groups = ToVector(in.supplemental_groups());
  out.groups_policy = TRY(
      ToEnum<spec::GroupsPolicy>("security_context.supplemental_groups_policy", in.supplemental_groups_policy(), 2));
  out.readonly_rootfs = in.readonly_rootfs();
  out.privileged = in.privileged();
  out.seccomp = TRY(ToProfile("security_context.seccomp", in.has_seccomp(), in.seccomp()));
  out.apparmor = TRY(ToProfile("security_context.apparmor", in.has_apparmor(), in.apparmor()));
  out.seccomp_profile_path = in.seccomp_profile_path();
  return CheckText("security_context.seccomp_profile_path", in.seccomp_profile_path());
}

Result<spec::SandboxSecurity> ToSandboxSecurity(const v1::LinuxSandboxSecurityContext& in) {
  spec::SandboxSecurity out;
  TRY(CommonSecurity(in, out));
  // api.proto: "run_as_group should only be specified when run_as_user is specified; otherwise MUST error".
  if (out.run_as_group && !out.run_as_user) {
    return Invalid("linux.security_context.run_as_group", "needs run_as_user");
  }
  return out;
}

Result<spec::ContainerSecurity> ToContainerSecurity(const v1::LinuxContainerSecurityContext& in) {
  spec::ContainerSecurity out;
  TRY(CommonSecurity(in, out));
  out.run_as_username = in.run_as_username();
  TRY(CheckText("security_context.run_as_username", in.run_as_username()));
  if (out.run_as_group && !out.run_as_user && out.run_as_username.empty()) {
    return Invalid("linux.security_context.run_as_group", "needs run_as_user or run_as_username");
  }
  out.no_new_privs = in.no_new_privs();
  out.capabilities = {.add = ToVector(in.capabilities().add_capabilities()),
                      .drop = ToVector(in.capabilities().drop_capabilities()),
                      .add_ambient = ToVector(in.capabilities().add_ambient_capabilities())};
  for (const std::string& path : in.masked_paths()) TRY(CheckPath("security_context.masked_paths", path));
  for (const std::string& path : in.readonly_paths()) TRY(CheckPath("security_context.readonly_paths", path));
  out.masked_paths = ToVector(in.masked_paths());
  out.readonly_paths = ToVector(in.readonly_paths());
  out.apparmor_profile = in.apparmor_profile();
  TRY(CheckText("security_context.apparmor_profile", in.apparmor_profile()));
  return out;
}

Result<> CheckMetadata(const v1::PodSandboxMetadata& metadata) {
  TRY(CheckName("metadata.name", metadata.name()));
  // All three: together with the attempt they are what tells a repeated request from a new pod, and the kubelet refuses
  // a status without them.
  TRY(CheckName("metadata.namespace", metadata.namespace_()));
  return CheckName("metadata.uid", metadata.uid());
}

Result<std::vector<spec::PortMapping>> ToPorts(const auto& ports) {
  std::vector<spec::PortMapping> out;
  for (const v1::PortMapping& p : ports) {
    constexpr int kPortMax = 65535;
    if (p.container_port() < 1 || p.container_port() > kPortMax) {
      return Invalid("port_mappings.container_port", StrCat(p.container_port(), " is no port"));
    }
    if (p.host_port() < 0 || p.host_port() > kPortMax) {
      return Invalid("port_mappings.host_port", StrCat(p.host_port(), " is no port"));
    }
    in6_addr address;
    const std::string& ip = p.host_ip();
    if (!ip.empty() && inet_pton(AF_INET, ip.c_str(), &address) != 1 &&
        inet_pton(AF_INET6, ip.c_str(), &address) != 1) {
      return Invalid("port_mappings.host_ip", StrCat(Quote(ip), " is no IP address"));
    }
    out.push_back({.protocol = TRY(ToEnum<spec::Protocol>("port_mappings.protocol", p.protocol(), 3)),
                   .container_port = p.container_port(),
                   .host_port = p.host_port(),
                   .host_ip = ip});
  }
  return out;
}

Result<> ToDns(const v1::DNSConfig& dns, spec::SandboxConfig& out) {
  TRY(CheckWords("dns_config.servers", dns.servers()));
  TRY(CheckWords("dns_config.searches", dns.searches()));
  TRY(CheckWords("dns_config.options", dns.options()));
  out.has_dns = true;
  out.dns_servers = ToVector(dns.servers());
  out.dns_searches = ToVector(dns.searches());
  out.dns_options = ToVector(dns.options());
  return {};
}

Result<> ToSandboxLinux(const v1::LinuxPodSandboxConfig& in, spec::SandboxConfig& out) {
  out.cgroup_parent = in.cgroup_parent();
  if (!in.cgroup_parent().empty()) TRY(CheckPath("linux.cgroup_parent", in.cgroup_parent()));
  out.security = TRY(ToSandboxSecurity(in.security_context()));
  for (const auto& [name, value] : in.sysctls()) {
    TRY(CheckWord("linux.sysctls", name));
    TRY(CheckText("linux.sysctls", value));
  }
  out.sysctls = ToMap(in.sysctls());
  out.overhead = TRY(ToResources("linux.overhead", in.overhead()));
  out.resources = TRY(ToResources("linux.resources", in.resources()));
  return {};
}

Result<spec::SandboxConfig> ToSandboxConfig(const v1::PodSandboxConfig& in, const std::string& handler) {
  spec::SandboxConfig out;
  out.metadata = {.name = in.metadata().name(),
                  .uid = in.metadata().uid(),
                  .pod_namespace = in.metadata().namespace_(),
                  .attempt = in.metadata().attempt()};
  constexpr size_t kHostnameBytesMax = 64;  // the kernel's __NEW_UTS_LEN
  if (in.hostname().size() > kHostnameBytesMax)
    return Invalid("hostname", StrCat("longer than ", kHostnameBytesMax, " bytes"));
  TRY(CheckOptionalName("hostname", in.hostname()));
  out.hostname = in.hostname();
  if (!in.log_directory().empty()) TRY(CheckAbsolutePath("log_directory", in.log_directory()));
  out.log_directory = in.log_directory();
  if (in.has_dns_config()) TRY(ToDns(in.dns_config(), out));
  out.port_mappings = TRY(ToPorts(in.port_mappings()));
  out.labels = ToMap(in.labels());
  out.annotations = ToMap(in.annotations());
  TRY(ToSandboxLinux(in.linux(), out));
  TRY(CheckOptionalName("runtime_handler", handler));
  out.runtime_handler = handler;
  return out;
}

Result<spec::Mount> ToMount(const v1::Mount& in) {
  spec::Mount out;
  TRY(CheckPath("mounts.container_path", in.container_path()));
  TRY(CheckText("mounts.host_path", in.host_path()));
  bool is_image = in.has_image() && !in.image().image().empty();
  if (!is_image) TRY(CheckPath("mounts.host_path", in.host_path()));
  if (is_image && !in.host_path().empty()) return Invalid("mounts.host_path", "must be empty for an image");
  out.container_path = in.container_path();
  out.host_path = in.host_path();
  out.readonly = in.readonly();
  out.recursive_readonly = in.recursive_read_only();
  out.selinux_relabel = in.selinux_relabel();
  out.propagation = TRY(ToEnum<spec::Propagation>("mounts.propagation", in.propagation(), 3));
  // api.proto, recursive_read_only: "readonly must be explicitly set to true", "propagation must be PRIVATE".
  if (out.recursive_readonly && !out.readonly) return Invalid("mounts.recursive_read_only", "needs readonly");
  if (out.recursive_readonly && out.propagation != spec::Propagation::kPrivate) {
    return Invalid("mounts.recursive_read_only", "needs PROPAGATION_PRIVATE");
  }
  out.uid_mappings = TRY(ToMappings("mounts.uidMappings", in.uidmappings()));
  out.gid_mappings = TRY(ToMappings("mounts.gidMappings", in.gidmappings()));
  out.image = in.image().image();
  if (is_image) {
    TRY(CheckImageName("mounts.image.image", out.image));
    TRY(CheckText("mounts.image.user_specified_image", in.image().user_specified_image()));
    if (!out.readonly) return Invalid("mounts.readonly", "an image volume must be readonly");
  } else if (!in.image_sub_path().empty()) {
    return Invalid("mounts.image_sub_path", "only for an image");
  }
  out.image_user_specified = in.image().user_specified_image();
  out.image_sub_path = in.image_sub_path();
  if (!out.image_sub_path.empty()) TRY(CheckRelativePath("mounts.image_sub_path", out.image_sub_path));
  TRY(CheckTexts("mounts.mount_options", in.mount_options()));
  out.mount_options = ToVector(in.mount_options());
  return out;
}

Result<std::vector<spec::Device>> ToDevices(const auto& devices) {
  std::vector<spec::Device> out;
  for (const v1::Device& d : devices) {
    TRY(CheckPath("devices.host_path", d.host_path()));
    TRY(CheckPath("devices.container_path", d.container_path()));
    if (d.permissions().find_first_not_of("rwm") != std::string::npos) {
      return Invalid("devices.permissions", StrCat(Quote(d.permissions()), " has other letters than r, w, m"));
    }
    out.push_back({.container_path = d.container_path(), .host_path = d.host_path(), .permissions = d.permissions()});
  }
  return out;
}

Result<std::vector<spec::EnvVar>> ToEnvs(const auto& envs) {
  std::vector<spec::EnvVar> out;
  for (const v1::KeyValue& env : envs) {
    if (env.key().empty()) return Invalid("envs.key", "missing");
    if (env.key().find('=') != std::string::npos) return Invalid("envs.key", StrCat("'=' in ", Quote(env.key())));
    TRY(CheckText("envs.key", env.key()));
    TRY(CheckText(StrCat("envs.value of ", Quote(env.key())), env.value()));
    out.push_back({.key = env.key(), .value = env.value()});
  }
  return out;
}

Result<> ToImage(const v1::ImageSpec& in, spec::ContainerConfig& out) {
  TRY(CheckImageName("image.image", in.image()));
  out.image = in.image();
  TRY(CheckText("image.user_specified_image", in.user_specified_image()));
  out.user_specified_image = in.user_specified_image();
  TRY(CheckOptionalName("image.runtime_handler", in.runtime_handler()));
  out.image_runtime_handler = in.runtime_handler();
  out.image_annotations = ToMap(in.annotations());
  return {};
}

Result<> ToProcess(const v1::ContainerConfig& in, spec::ContainerConfig& out) {
  TRY(CheckTexts("command", in.command()));
  TRY(CheckTexts("args", in.args()));
  TRY(CheckText("working_dir", in.working_dir()));
  out.command = ToVector(in.command());
  out.args = ToVector(in.args());
  out.working_dir = in.working_dir();
  out.envs = TRY(ToEnvs(in.envs()));
  out.stdin_open = in.stdin();
  out.stdin_once = in.stdin_once();
  out.tty = in.tty();
  out.stop_signal = TRY(SignalFromCri(in.stop_signal()));
  return {};
}

Result<spec::ContainerConfig> ToContainerConfig(const v1::ContainerConfig& in) {
  spec::ContainerConfig out;
  out.metadata = {.name = in.metadata().name(), .attempt = in.metadata().attempt()};
  TRY(ToImage(in.image(), out));
  TRY(ToProcess(in, out));
  for (const v1::Mount& mount : in.mounts()) out.mounts.push_back(TRY(ToMount(mount)));
  out.devices = TRY(ToDevices(in.devices()));
  for (const v1::CDIDevice& device : in.cdi_devices()) {
    TRY(CheckWord("CDI_devices.name", device.name()));
    out.cdi_devices.push_back(device.name());
  }
  out.labels = ToMap(in.labels());
  out.annotations = ToMap(in.annotations());
  if (!in.log_path().empty()) TRY(CheckRelativePath("log_path", in.log_path()));
  out.log_path = in.log_path();
  out.resources = TRY(ToResources("linux.resources", in.linux().resources()));
  out.security = TRY(ToContainerSecurity(in.linux().security_context()));
  return out;
}

}  // namespace

Result<spec::Resources> ToResources(std::string_view field, const v1::LinuxContainerResources& in) {
  spec::Resources out;
  out.cpu_period = in.cpu_period();
  out.cpu_quota = in.cpu_quota();
  out.cpu_shares = in.cpu_shares();
  out.memory_limit_bytes = in.memory_limit_in_bytes();
  out.memory_swap_limit_bytes = in.memory_swap_limit_in_bytes();
  out.oom_score_adj = in.oom_score_adj();
  if (in.cpu_period() < 0 || in.cpu_shares() < 0) return Invalid(field, "negative cpu_period or cpu_shares");
  if (in.oom_score_adj() < -1000 || in.oom_score_adj() > 1000) {
    return Invalid(StrCat(field, ".oom_score_adj"), StrCat(in.oom_score_adj(), " is not within -1000 … 1000"));
  }
  TRY(CheckText(StrCat(field, ".cpuset_cpus"), in.cpuset_cpus()));
  TRY(CheckText(StrCat(field, ".cpuset_mems"), in.cpuset_mems()));
  out.cpuset_cpus = in.cpuset_cpus();
  out.cpuset_mems = in.cpuset_mems();
  for (const v1::HugepageLimit& limit : in.hugepage_limits()) {
    TRY(CheckWord(StrCat(field, ".hugepage_limits.page_size"), limit.page_size()));
    out.hugepages.push_back({.page_size = limit.page_size(), .limit = limit.limit()});
  }
  for (const auto& [file, value] : in.unified()) {
    TRY(CheckName(StrCat(field, ".unified"), file));  // a file of the cgroup
    TRY(CheckText(StrCat(field, ".unified"), value));
  }
  out.unified = ToMap(in.unified());
  return out;
}

Result<spec::SandboxConfig> ToSandboxConfig(const v1::RunPodSandboxRequest& request) {
  if (!request.has_config()) return Invalid("config", "missing");
  if (!request.config().has_metadata()) return Invalid("config.metadata", "missing");
  const v1::PodSandboxMetadata& metadata = request.config().metadata();
  TRY(CheckMetadata(metadata), "sandbox config");
  return TRY(ToSandboxConfig(request.config(), request.runtime_handler()),
             StrCat("config of sandbox ", metadata.namespace_(), "/", metadata.name()));
}

Result<spec::ContainerConfig> ToContainerConfig(const v1::CreateContainerRequest& request) {
  if (!request.has_config()) return Invalid("config", "missing");
  if (!request.config().has_metadata()) return Invalid("config.metadata", "missing");
  const std::string& name = request.config().metadata().name();
  TRY(CheckName("metadata.name", name), "container config");
  return TRY(ToContainerConfig(request.config()), StrCat("config of container ", name));
}

Result<pod::SandboxFilter> ToFilter(const v1::PodSandboxFilter& in) {
  pod::SandboxFilter out{.id = in.id(), .state = {}, .labels = ToMap(in.label_selector())};
  if (in.has_state()) {
    out.state = TRY(ToEnum<pod::SandboxState>("filter.state", in.state().state(), 2));
  }
  return out;
}

Result<pod::ContainerFilter> ToFilter(const v1::ContainerFilter& in) {
  pod::ContainerFilter out{
      .id = in.id(), .pod = in.pod_sandbox_id(), .state = {}, .labels = ToMap(in.label_selector())};
  if (in.has_state()) {
    out.state = TRY(ToEnum<pod::ContainerState>("filter.state", in.state().state(), 4));
  }
  return out;
}

image::Credentials ToCredentials(const v1::AuthConfig& auth) {
  return {.username = auth.username(),
          .password = auth.password(),
          .auth = auth.auth(),
          .server_address = auth.server_address(),
          .identity_token = auth.identity_token(),
          .registry_token = auth.registry_token()};
}

}  // namespace crisp::cri
