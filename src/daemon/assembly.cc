#include "daemon/assembly.h"

#include <algorithm>
#include <unistd.h>

#include <filesystem>

#include "base/json.h"
#include "base/log.h"
#include "rootfs/stage.h"
#include "spec/rlimit.h"
#include "sys/file.h"
#include "sys/userns.h"

namespace crisp::daemon {
namespace {

// A program of ours: beside crispd, else by its name in PATH.
std::string FindSibling(const char* name) {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return name;
  std::filesystem::path sibling = self.parent_path() / name;
  return access(sibling.c_str(), X_OK) == 0 ? sibling.string() : name;
}

// `program` as a path, found in PATH where it is a name.
std::string PathOf(const std::string& program) {
  const char* path = getenv("PATH");
  if (program.find('/') != std::string::npos) return program;
  for (std::string_view dir : Split(path ? path : "/usr/sbin:/usr/bin:/sbin:/bin", ':')) {
    std::string candidate = StrCat(dir, "/", program);
    if (!dir.empty() && access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return program;
}

bool IsInPath(const std::string& binary) {
  if (binary.find('/') != std::string::npos) return access(binary.c_str(), X_OK) == 0;
  const char* path = getenv("PATH");
  for (std::string_view dir : Split(path ? path : "/usr/sbin:/usr/bin:/sbin:/bin", ':')) {
    if (!dir.empty() && access(StrCat(dir, "/", binary).c_str(), X_OK) == 0) return true;
  }
  return false;
}

}  // namespace

image::ServiceOptions ImageOptions(const Config& config) {
  image::ServiceOptions options;
  options.root_dir = config.root_dir;
  options.certs_dir = config.registry_certs_dir;
  if (options.certs_dir.empty()) {
    options.certs_dir = "/etc/crisp/certs.d";
    if (!sys::Exists(options.certs_dir) && sys::Exists("/etc/containerd/certs.d")) {
      options.certs_dir = "/etc/containerd/certs.d";
    }
  }
  options.docker_config = config.registry_docker_config;
  options.pinned = config.images_pinned;
  options.signature_policy = config.images_signature_policy;
  options.signature_policy_dir = config.images_signature_policy_dir;
  options.signature_lookaside_dir = config.images_signature_lookaside_dir;
  options.layers_parallel_max = static_cast<int>(config.images_parallel_layers);
  return options;
}

std::string FallbackConflist(const Config& config) {
  bool v6 = config.network_fallback_subnet.find(':') != std::string::npos;
  Json bridge = {{"type", "bridge"},
                 {"bridge", config.network_fallback_bridge},
                 {"isGateway", true},
                 {"ipMasq", true},
                 {"hairpinMode", true},
                 {"ipam",
                  {{"type", "host-local"},
                   {"dataDir", config.state_dir + "/networks"},
                   {"ranges", {{{{"subnet", config.network_fallback_subnet}}}}},
                   {"routes", {{{"dst", v6 ? "::/0" : "0.0.0.0/0"}}}}}}};
  Json portmap = {{"type", "portmap"}, {"capabilities", {{"portMappings", true}}}};
  return DumpJson({{"cniVersion", "1.0.0"}, {"name", "crisp"}, {"plugins", {std::move(bridge), std::move(portmap)}}});
}

network::NetworkOptions NetworkOptions(const Config& config) {
  network::NetworkOptions options;
  options.state_dir = config.state_dir;
  options.netns_dir = config.netns_dir.empty() ? config.state_dir + "/netns" : config.netns_dir;
  options.conf_dir = config.cni_conf_dir;
  options.bin_dirs = config.cni_bin_dirs;
  options.builtin_plugins = config.cni_builtin_plugins;
  if (config.network_fallback) options.fallback_conflist = FallbackConflist(config);
  options.plugin_timeout = std::chrono::seconds(config.cni_timeout_seconds);
  return options;
}

cgroup::Driver CgroupDriver(const Config& config) {
  if (config.cgroup_driver == "auto") return cgroup::DetectDriver();
  return config.cgroup_driver == "systemd" ? cgroup::Driver::kSystemd : cgroup::Driver::kCgroupfs;
}

Result<> ProbeUserns(const std::string& shim_binary, const std::string& root_dir) {
  constexpr sys::IdRange kTrial{.inside = 0, .outside = 100'000, .length = 65'536};
  Ctx ctx = Ctx().WithTimeout(std::chrono::seconds(5));
  sys::OwnedNamespaces made = TRY(sys::MakeUserns(ctx, shim_binary, {.maps = {.uids = {kTrial}, .gids = {kTrial}}}));
  return rootfs::ProbeIdmap(root_dir, made.user);
}

std::vector<std::string> MissingHandlers(const Config& config) {
  std::vector<std::string> names;
  for (const auto& [name, handler] : config.handlers) {
    if (handler.type != "native" && !IsInPath(handler.binary)) names.push_back(name);
  }
  return names;
}

runtime::Runtime::Options RuntimeOptions(const Config& config, bool systemd_cgroup, runtime::Events events) {
  runtime::Runtime::Options options;
  options.shim_binary = PathOf(config.runtime_shim.empty() ? FindSibling("crisp-shim") : config.runtime_shim);
  options.events = std::move(events);
  const std::vector<std::string> missing = MissingHandlers(config);
  for (const auto& [name, handler] : config.handlers) {
    if (std::ranges::find(missing, name) != missing.end()) {
      // Both runc and crun are in the defaults; few nodes have both.
      LogInfo("handler left out, its program is not there", {{"handler", name}, {"binary", handler.binary}});
      continue;
    }
    options.handlers.push_back({.name = name,
                                .type = handler.type,
                                .binary = handler.binary,
                                .root_dir = StrCat(config.state_dir, "/", name),
                                .systemd_cgroup = systemd_cgroup,
                                .extra_args = handler.options});
  }
  return options;
}

std::string DefaultHandler(const Config& config, const runtime::Runtime::Options& options) {
  auto there = [&](std::string_view name) {
    return std::ranges::any_of(options.handlers, [&](const runtime::HandlerConfig& each) { return each.name == name; });
  };
  const std::string& wanted = config.runtime_default_handler;
  if (wanted != Config().runtime_default_handler || there(wanted)) return wanted;
  for (const char* other : {"runc", "crun"}) {
    if (!there(other)) continue;
    LogInfo("default handler cannot be used here, taking another one", {{"handler", wanted}, {"other", other}});
    return other;
  }
  return wanted;
}

nri::Options NriOptions(const Config& config) {
  nri::Options options;
  options.socket = config.nri_socket;
  if (options.socket.empty()) {
    // Plugins look for the first; a crispd beside another one must not take it.
    bool is_default = config.state_dir == Config().state_dir;
    options.socket = is_default ? "/var/run/nri/nri.sock" : config.state_dir + "/nri.sock";
  }
  options.plugin_dir = config.nri_plugin_dir;
  options.plugin_config_dir = config.nri_plugin_config_dir;
  options.timeouts.registration = std::chrono::seconds(config.nri_registration_timeout_seconds);
  options.timeouts.request = std::chrono::seconds(config.nri_request_timeout_seconds);
  return options;
}

pod::ManagerOptions PodOptions(const Config& config) {
  pod::ManagerOptions options;
  options.root_dir = config.root_dir;
  options.state_dir = config.state_dir;
  options.default_handler = config.runtime_default_handler;
  options.cdi_spec_dirs = config.cdi_spec_dirs;
  for (const auto& [name, handler] : config.handlers) {
    options.annotations[name] = {handler.pod_annotations, handler.container_annotations};
  }
  options.checkpoint = {.enabled = config.checkpoint_enabled,
                        .restore = config.checkpoint_restore,
                        .bytes_max = config.checkpoint_bytes_max,
                        .archives_max = config.checkpoint_archives_max};
  options.policy.pids_max = config.pod_pids_max;
  for (const std::string& limit : config.pod_rlimits) {  // checked with the configuration
    if (auto parsed = spec::ParseRlimit(limit)) options.policy.rlimits.push_back(*std::move(parsed));
  }
  options.policy.shm_bytes = config.pod_shm_bytes;
  options.policy.unprivileged_ports = config.pod_unprivileged_ports;
  options.policy.unprivileged_icmp = config.pod_unprivileged_icmp;
  return options;
}

stream::Server::Options StreamingOptions(const Config& config) {
  stream::Server::Options options;
  options.address = config.streaming_address;
  options.tls_cert = config.streaming_tls_cert;
  options.tls_key = config.streaming_tls_key;
  options.idle_timeout = std::chrono::seconds(config.streaming_idle_seconds);
  return options;
}

std::string ConfigJson(const Config& config) {
  return DumpJson({{"rootDir", config.root_dir}, {"stateDir", config.state_dir}, {"toml", DumpConfig(config, false)}});
}

}  // namespace crisp::daemon
