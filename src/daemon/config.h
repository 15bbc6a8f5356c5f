// crispd's configuration: TOML file, then `--set key=value`, over defaults. One table in config.cc names every key
// once; parsing, --set, `config default` and `config dump` are all made from it. Threading: values. Errors are
// kInvalidArgument and name file and line, or the --set text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::daemon {

struct HandlerEntry {
  std::string type = "oci";
  std::string binary;                // type "oci": name in PATH or absolute
  std::vector<std::string> options;  // global options of the OCI runtime, before its sub-command
  // Exact keys of annotations that it gets to see; none by default.
  std::vector<std::string> pod_annotations, container_annotations;
  bool operator==(const HandlerEntry&) const = default;
};

struct Config {
  std::string socket = "/run/crisp/crisp.sock";
  std::string root_dir = "/var/lib/crisp";
  std::string state_dir = "/run/crisp";
  std::string netns_dir;

  std::string streaming_address = "127.0.0.1:0";
  std::string streaming_tls_cert, streaming_tls_key;
  int64_t streaming_idle_seconds = 4 * 3600;

  std::string cni_conf_dir = "/etc/cni/net.d";
  std::vector<std::string> cni_bin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  bool cni_builtin_plugins = true;
  int64_t cni_timeout_seconds = 60;

  bool network_fallback = true;
  std::string network_fallback_bridge = "crisp0";
  std::string network_fallback_subnet = "10.87.0.0/16";

  std::string registry_certs_dir;
  std::string registry_docker_config;
  std::vector<std::string> images_pinned;
  int64_t images_parallel_layers = 4;
  std::string images_signature_policy;
  std::string images_signature_policy_dir;
  std::string images_signature_lookaside_dir = "/etc/containers/registries.d";

  std::string runtime_default_handler = "native";
  std::string runtime_shim;
  std::map<std::string, HandlerEntry> handlers = {
      {"native", {.type = "native", .binary = ""}}, {"runc", {.binary = "runc"}}, {"crun", {.binary = "crun"}}};

  std::string cgroup_driver = "auto";

  std::vector<std::string> cdi_spec_dirs = {"/etc/cdi", "/var/run/cdi"};

  bool nri_enabled = true;
  std::string nri_socket;
  std::string nri_plugin_dir = "/opt/nri/plugins";
  std::string nri_plugin_config_dir = "/etc/nri/conf.d";
  int64_t nri_registration_timeout_seconds = 5;
  int64_t nri_request_timeout_seconds = 2;

  int64_t pod_pids_max = 0;
  std::vector<std::string> pod_rlimits;
  int64_t pod_shm_bytes = 64 << 20;
  bool pod_unprivileged_ports = true;
  bool pod_unprivileged_icmp = true;

  bool checkpoint_enabled = false;
  bool checkpoint_restore = false;
  int64_t checkpoint_bytes_max = int64_t{16} << 30;
  int64_t checkpoint_archives_max = 32;

  std::string log_level = "info";
  std::string log_format = "text";
  int64_t log_slow_call_seconds = 5;

  std::string metrics_address;

  bool operator==(const Config&) const = default;
};

// Lays the TOML text over `config`. `name` stands for the file in errors: `crispd.toml:12: unknown key "log.levl"`.
Result<> ApplyToml(Config& config, std::string_view text, std::string_view name);
// One `key=value` of --set. Lists are separated by commas or written as a TOML array.
Result<> ApplySetting(Config& config, std::string_view setting);
// What one value alone cannot tell: absolute paths, known words, a default handler that exists, addresses.
Result<> CheckConfig(const Config& config);
// "FILE:12: " where the TOML text `text` sets what `error`, of CheckConfig, is about, or the table that it lacks in; "" when
// it does not.
std::string PlaceOf(const Error& error, std::string_view text, std::string_view file);
// The whole configuration as TOML that ApplyToml reads back; with each key's description when `documented`.
std::string DumpConfig(const Config& config, bool documented);

}  // namespace crisp::daemon
