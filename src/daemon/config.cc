#include "daemon/config.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <variant>

#include "base/strings.h"
#include "base/toml.h"
#include "spec/rlimit.h"

namespace crisp::daemon {
namespace {

using Texts = std::vector<std::string>;
using Member = std::variant<std::string Config::*, int64_t Config::*, bool Config::*, Texts Config::*>;

struct Key {
  const char* name;
  Member member;
  const char* about;
};

// Every key but those of [handlers.NAME]; in the order of `config default`.
const Key kKeys[] = {
    {"socket", &Config::socket, "Unix socket that the kubelet and crispctl talk to; made with mode 0600."},
    {"root_dir", &Config::root_dir, "What survives a reboot: images, records, containers' writable layers. Mode 0700."},
    {"state_dir", &Config::state_dir, "What dies with the boot: sockets, bundles, mount points, exit codes."},
    {"netns_dir", &Config::netns_dir, "Where pods' network namespaces are pinned. Empty: STATE_DIR/netns."},
    {"streaming.address", &Config::streaming_address,
     "Address and port for exec, attach and port-forward; port 0: any free one."},
    {"streaming.tls_cert", &Config::streaming_tls_cert,
     "PEM file with the certificate (and its chain) for https. Read again when it changes. Empty: http."},
    {"streaming.tls_key", &Config::streaming_tls_key, "PEM file with the certificate's private key."},
    {"streaming.idle_seconds", &Config::streaming_idle_seconds,
     "A stream on which nothing was sent for so long, in either direction, is closed."},
    {"cni.conf_dir", &Config::cni_conf_dir, "Directory with the pod network's CNI configuration; watched."},
    {"cni.bin_dirs", &Config::cni_bin_dirs, "Where CNI plugins are looked for, in this order."},
    {"cni.builtin_plugins", &Config::cni_builtin_plugins,
     "Do the work of bridge, host-local, loopback and portmap ourselves instead of running them."},
    {"cni.timeout_seconds", &Config::cni_timeout_seconds, "How long one plugin may take."},
    {"network.fallback", &Config::network_fallback, "Use a bridge network of our own while cni.conf_dir has none."},
    {"network.fallback_bridge", &Config::network_fallback_bridge, "That network's bridge."},
    {"network.fallback_subnet", &Config::network_fallback_subnet,
     "That network's addresses; the kubelet's pod CIDR replaces it."},
    {"registry.certs_dir", &Config::registry_certs_dir,
     "Directory with HOST/hosts.toml for mirrors and certificates. Empty: /etc/crisp/certs.d, else "
     "/etc/containerd/certs.d."},
    {"registry.docker_config", &Config::registry_docker_config,
     "A docker config.json with credentials or credential helpers. Empty: none."},
    {"images.pinned", &Config::images_pinned,
     "Images that the kubelet shall not collect as garbage: a whole name or id, the beginning of names "
     "(\"quay.io/x/*\") or a part of them (\"*pause*\"): with a part, whoever may choose an image's name may pin it."},
    {"images.parallel_layers", &Config::images_parallel_layers,
     "How many layers of one image are fetched and unpacked at once."},
    {"images.signature_policy", &Config::images_signature_policy,
     "A containers-policy.json(5) that says which images may be pulled and used; read each time. Empty: any image."},
    {"images.signature_policy_dir", &Config::images_signature_policy_dir,
     "NAMESPACE.json in this directory counts instead for pods of that namespace. Empty: none."},
    {"images.signature_lookaside_dir", &Config::images_signature_lookaside_dir,
     "Directory with containers-registries.d(5) files: where GPG signatures of images are kept."},
    {"runtime.default_handler", &Config::runtime_default_handler, "Handler of pods that name none."},
    {"runtime.shim", &Config::runtime_shim, "The program crisp-shim. Empty: beside crispd, else in PATH."},
    {"cgroup.driver", &Config::cgroup_driver, "\"cgroupfs\", \"systemd\", or \"auto\": systemd where it is the init."},
    {"cdi.spec_dirs", &Config::cdi_spec_dirs,
     "Directories with CDI device files, in rising priority; looked at at each use."},
    {"nri.enabled", &Config::nri_enabled, "Let NRI plugins follow and adjust pods and containers."},
    {"nri.socket", &Config::nri_socket,
     "Unix socket where plugins register. Empty: /var/run/nri/nri.sock with the default state_dir, else "
     "STATE_DIR/nri.sock."},
    {"nri.plugin_dir", &Config::nri_plugin_dir, "Plugins that crispd starts itself: programs named NN-NAME."},
    {"nri.plugin_config_dir", &Config::nri_plugin_config_dir, "Their configuration: NN-NAME.conf or NAME.conf."},
    {"nri.registration_timeout_seconds", &Config::nri_registration_timeout_seconds,
     "How long a plugin may take to register, and to be told what there is."},
    {"nri.request_timeout_seconds", &Config::nri_request_timeout_seconds,
     "How long a plugin may take for an event; then it is disconnected."},
    {"pod.pids_max", &Config::pod_pids_max, "Limit of processes of each container; 0: none (the kubelet limits pods)."},
    {"pod.rlimits", &Config::pod_rlimits,
     "Resource limits of each container, as \"nofile=1024:524288\" (soft:hard, -1: none); others are those of crispd."},
    {"pod.shm_bytes", &Config::pod_shm_bytes, "Size of a pod's /dev/shm."},
    {"pod.unprivileged_ports", &Config::pod_unprivileged_ports, "Any user in a pod may listen on ports below 1024."},
    {"pod.unprivileged_icmp", &Config::pod_unprivileged_icmp, "Any user in a pod may send pings."},
    {"checkpoint.enabled", &Config::checkpoint_enabled,
     "Let CRI make checkpoints of containers and pods: every page of their memory, secrets included, goes to a file."},
    {"checkpoint.restore", &Config::checkpoint_restore,
     "Let CRI restore them. CRIU does what an archive's images say, as root: whoever may name one is to be trusted like root "
     "on the node."},
    {"checkpoint.bytes_max", &Config::checkpoint_bytes_max, "Size limit of one container's checkpoint."},
    {"checkpoint.archives_max", &Config::checkpoint_archives_max,
     "No further checkpoint into a directory that has so many already."},
    {"log.level", &Config::log_level, "\"debug\", \"info\", \"warning\" or \"error\"."},
    {"log.format", &Config::log_format, "\"text\" or \"json\"."},
    {"log.slow_call_seconds", &Config::log_slow_call_seconds,
     "A call that takes longer is logged with the step it hangs in."},
    {"metrics.address", &Config::metrics_address, "Address and port of the /metrics page. Empty: none."},
};

constexpr std::string_view kHandlers = "handlers";

const Key* FindKey(std::string_view name) {
  const Key* found = std::ranges::find(kKeys, name, &Key::name);
  return found == std::end(kKeys) ? nullptr : found;
}

// Is `table` the first part of some key?
bool IsSection(std::string_view table) {
  std::string start = StrCat(table, ".");
  return std::ranges::any_of(kKeys, [&](const Key& key) { return std::string_view(key.name).starts_with(start); });
}

Error Wrong(std::string_view where, std::string_view what) {
  return Error(Code::kInvalidArgument, StrCat(where, ": ", what));
}

// ---- values from TOML

Result<> FromToml(const toml::node& node, std::string& out, const std::string& where) {
  const toml::value<std::string>* value = node.as_string();
  if (value == nullptr) return Wrong(where, "a text in quotes is wanted");
  if (value->get().find('\0') != std::string::npos) return Wrong(where, "NUL in the text");
  out = value->get();
  return {};
}
Result<> FromToml(const toml::node& node, int64_t& out, const std::string& where) {
  const toml::value<int64_t>* value = node.as_integer();
  if (value == nullptr) return Wrong(where, "a whole number is wanted");
  out = value->get();
  return {};
}
Result<> FromToml(const toml::node& node, bool& out, const std::string& where) {
  const toml::value<bool>* value = node.as_boolean();
  if (value == nullptr) return Wrong(where, "true or false is wanted");
  out = value->get();
  return {};
}
Result<> FromToml(const toml::node& node, Texts& out, const std::string& where) {
  const toml::array* values = node.as_array();
  if (values == nullptr) return Wrong(where, "a list of texts is wanted");
  Texts texts;
  for (const toml::node& value : *values) TRY(FromToml(value, texts.emplace_back(), where));
  out = std::move(texts);
  return {};
}

class TomlReader {
 public:
  TomlReader(Config& config, std::string_view name) : config_(config), name_(name) {}

  Result<> Table(const toml::table& table, const std::string& prefix) {
    for (const auto& [key, node] : table) {
      std::string name = prefix + std::string(key.str());
      if (name == kHandlers && node.is_table()) {
        TRY(Handlers(*node.as_table()));
      } else if (const Key* known = FindKey(name)) {
        TRY(std::visit([&](auto member) { return FromToml(node, config_.*member, At(node, name)); }, known->member));
      } else if (IsSection(name)) {
        if (!node.is_table()) return Wrong(At(node, name), "a table is wanted");
        TRY(Table(*node.as_table(), name + "."));
      } else {
        return Wrong(Line(key.source()), StrCat("unknown key ", Quote(name)));
      }
    }
    return {};
  }

 private:
  Result<> Handlers(const toml::table& handlers) {
    for (const auto& [name, node] : handlers) {
      std::string path = StrCat(kHandlers, ".", name.str());
      if (!node.is_table()) return Wrong(At(node, path), "a table is wanted");
      HandlerEntry& handler = config_.handlers[std::string(name.str())];
      for (const auto& [key, value] : *node.as_table()) {
        std::string where = At(value, StrCat(path, ".", key.str()));
        if (key == "type") {
          TRY(FromToml(value, handler.type, where));
        } else if (key == "binary") {
          TRY(FromToml(value, handler.binary, where));
        } else if (key == "options") {
          TRY(FromToml(value, handler.options, where));
        } else if (key == "pod_annotations") {
          TRY(FromToml(value, handler.pod_annotations, where));
        } else if (key == "container_annotations") {
          TRY(FromToml(value, handler.container_annotations, where));
        } else {
          return Wrong(Line(key.source()), StrCat("unknown key ", Quote(StrCat(path, ".", key.str()))));
        }
      }
    }
    return {};
  }
  std::string Line(const toml::source_region& source) const { return StrCat(name_, ":", source.begin.line); }
  std::string At(const toml::node& node, std::string_view key) const { return StrCat(Line(node.source()), ": ", key); }

  Config& config_;
  std::string_view name_;
};

// ---- values from --set

Result<> FromText(std::string_view text, std::string& out, const std::string&) {
  out = text;
  return {};
}
Result<> FromText(std::string_view text, int64_t& out, const std::string& where) {
  std::optional<int64_t> value = ParseInt<int64_t>(text);
  if (!value) return Wrong(where, "a whole number is wanted");
  out = *value;
  return {};
}
Result<> FromText(std::string_view text, bool& out, const std::string& where) {
  if (text != "true" && text != "false") return Wrong(where, "true or false is wanted");
  out = text == "true";
  return {};
}
Result<> FromText(std::string_view text, Texts& out, const std::string& where) {
  if (text.starts_with('[')) {
    toml::parse_result parsed = toml::parse(StrCat("v = ", text));
    if (!parsed) return Wrong(where, "a list of texts is wanted");
    return FromToml(*parsed.table().get("v"), out, where);
  }
  out.clear();
  if (text.empty()) return {};
  for (std::string_view part : Split(text, ',')) out.emplace_back(Trim(part));
  return {};
}

// ---- values to TOML

std::string ToToml(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += StrCat("\\u00", HexEncode(std::string_view(&c, 1)));
    } else {
      out += c;
    }
  }
  return out + '"';
}
std::string ToToml(int64_t number) { return StrCat(number); }
std::string ToToml(bool value) { return value ? "true" : "false"; }
std::string ToToml(const Texts& texts) {
  Texts quoted;
  for (const std::string& text : texts) quoted.push_back(ToToml(text));
  return StrCat("[", Join(quoted, ", "), "]");
}

std::string ToTomlKey(const std::string& key) {
  bool bare = !key.empty() && std::ranges::all_of(key, [](unsigned char c) {
    return (c < 0x80 && std::isalnum(c)) || c == '_' || c == '-';
  });
  return bare ? key : ToToml(key);
}

// ---- checks

Result<> CheckWord(std::string_view key, const std::string& value, std::initializer_list<std::string_view> words) {
  if (std::ranges::find(words, value) != words.end()) return {};
  return Wrong(key, StrCat(Quote(value), " is none of ", Join(Texts(words.begin(), words.end()), ", ")));
}

Result<> CheckDir(std::string_view key, const std::string& value) {
  if (value.empty() || value[0] != '/') return Wrong(key, StrCat(Quote(value), " is not an absolute path"));
  std::vector<std::string_view> parts = Split(value, '/');
  if (std::ranges::find(parts, "..") != parts.end()) return Wrong(key, StrCat("\"..\" in ", Quote(value)));
  return {};
}

Result<> CheckAddress(std::string_view key, const std::string& value) {
  size_t colon = value.rfind(':');
  std::optional<uint16_t> port =
      colon == std::string::npos ? std::nullopt : ParseInt<uint16_t>(std::string_view(value).substr(colon + 1));
  if (!port) return Wrong(key, StrCat(Quote(value), " is not ADDRESS:PORT"));
  std::string host = value.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  in6_addr bytes;
  if (inet_pton(AF_INET, host.c_str(), &bytes) == 1 || inet_pton(AF_INET6, host.c_str(), &bytes) == 1) return {};
  return Wrong(key, StrCat(Quote(host), " is no IP address"));
}

Result<> CheckSubnet(std::string_view key, const std::string& value) {
  size_t slash = value.find('/');
  in6_addr bytes;
  std::string address = value.substr(0, slash);
  std::optional<int> bits =
      slash == std::string::npos ? std::nullopt : ParseInt<int>(std::string_view(value).substr(slash + 1));
  bool v4 = inet_pton(AF_INET, address.c_str(), &bytes) == 1;
  bool v6 = inet_pton(AF_INET6, address.c_str(), &bytes) == 1;
  if (bits && *bits > 0 && ((v4 && *bits <= 30) || (v6 && *bits <= 126))) return {};
  return Wrong(key, StrCat(Quote(value), " is no subnet of more than two addresses"));
}

Result<> CheckRange(std::string_view key, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return Wrong(key, StrCat(value, " is not within ", low, " … ", high));
}

Result<> CheckHandlers(const Config& config) {
  for (const auto& [name, handler] : config.handlers) {
    std::string key = StrCat(kHandlers, ".", name);
    bool plain = !name.empty() && name.size() <= 63 && std::ranges::all_of(name, [](unsigned char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    });
    if (!plain || name[0] == '.') return Wrong(key, "a name is lower-case letters, digits, '-', '_' and '.'");
    TRY(CheckWord(key + ".type", handler.type, {"oci", "native"}));
    if (handler.type == "oci" && handler.binary.empty()) return Wrong(key + ".binary", "missing");
    if (handler.type == "native" && !handler.binary.empty()) return Wrong(key + ".binary", "a native handler runs no program");
  }
  if (config.handlers.contains(config.runtime_default_handler)) return {};
  return Wrong("runtime.default_handler", StrCat("there is no handler ", Quote(config.runtime_default_handler)));
}

}  // namespace

Result<> ApplyToml(Config& config, std::string_view text, std::string_view name) {
  toml::parse_result parsed = toml::parse(text, name);
  if (!parsed) {
    return Wrong(StrCat(name, ":", parsed.error().source().begin.line), parsed.error().description());
  }
  return TomlReader(config, name).Table(parsed.table(), "");
}

Result<> ApplySetting(Config& config, std::string_view setting) {
  size_t equals = setting.find('=');
  if (equals == setting.npos) return Wrong(StrCat("--set ", Quote(setting)), "KEY=VALUE is wanted");
  std::string_view name = Trim(setting.substr(0, equals)), value = setting.substr(equals + 1);
  std::string where = StrCat("--set ", name);
  if (const Key* known = FindKey(name)) {
    return std::visit([&](auto member) { return FromText(value, config.*member, where); }, known->member);
  }
  // handlers.NAME.FIELD; a name may have dots, a field has none.
  std::string start = StrCat(kHandlers, ".");
  size_t dot = name.rfind('.');
  if (name.starts_with(start) && dot != name.npos && dot > start.size()) {
    std::string_view field = name.substr(dot + 1);
    HandlerEntry& handler = config.handlers[std::string(name.substr(start.size(), dot - start.size()))];
    if (field == "type") return FromText(value, handler.type, where);
    if (field == "binary") return FromText(value, handler.binary, where);
    if (field == "options") return FromText(value, handler.options, where);
    if (field == "pod_annotations") return FromText(value, handler.pod_annotations, where);
    if (field == "container_annotations") return FromText(value, handler.container_annotations, where);
  }
  return Wrong(StrCat("--set ", Quote(setting.substr(0, equals))), "unknown key");
}

Result<> CheckConfig(const Config& config) {
  TRY(CheckDir("socket", config.socket));
  constexpr size_t kSocketBytesMax = 107;
  if (config.socket.size() > kSocketBytesMax) return Wrong("socket", StrCat("longer than ", kSocketBytesMax, " bytes"));
  TRY(CheckDir("root_dir", config.root_dir));
  TRY(CheckDir("state_dir", config.state_dir));
  if (!config.netns_dir.empty()) TRY(CheckDir("netns_dir", config.netns_dir));
  TRY(CheckAddress("streaming.address", config.streaming_address));
  if (!config.streaming_tls_cert.empty()) TRY(CheckDir("streaming.tls_cert", config.streaming_tls_cert));
  if (!config.streaming_tls_key.empty()) TRY(CheckDir("streaming.tls_key", config.streaming_tls_key));
  TRY(CheckRange("streaming.idle_seconds", config.streaming_idle_seconds, 1, 365 * 86'400));
  TRY(CheckDir("cni.conf_dir", config.cni_conf_dir));
  for (const std::string& dir : config.cni_bin_dirs) TRY(CheckDir("cni.bin_dirs", dir));
  TRY(CheckRange("cni.timeout_seconds", config.cni_timeout_seconds, 1, 3600));
  constexpr size_t kLinkNameBytesMax = 15;  // IFNAMSIZ
  const std::string& bridge = config.network_fallback_bridge;
  if (bridge.empty() || bridge.size() > kLinkNameBytesMax || bridge.find_first_of("/ :") != std::string::npos) {
    return Wrong("network.fallback_bridge", StrCat(Quote(bridge), " is no name of a network link"));
  }
  TRY(CheckSubnet("network.fallback_subnet", config.network_fallback_subnet));
  if (!config.registry_certs_dir.empty()) TRY(CheckDir("registry.certs_dir", config.registry_certs_dir));
  if (!config.registry_docker_config.empty()) TRY(CheckDir("registry.docker_config", config.registry_docker_config));
  TRY(CheckRange("images.parallel_layers", config.images_parallel_layers, 1, 64));
  if (!config.images_signature_policy.empty()) TRY(CheckDir("images.signature_policy", config.images_signature_policy));
  if (!config.images_signature_policy_dir.empty()) {
    TRY(CheckDir("images.signature_policy_dir", config.images_signature_policy_dir));
  }
  TRY(CheckDir("images.signature_lookaside_dir", config.images_signature_lookaside_dir));
  TRY(CheckHandlers(config));
  TRY(CheckWord("cgroup.driver", config.cgroup_driver, {"auto", "cgroupfs", "systemd"}));
  for (const std::string& dir : config.cdi_spec_dirs) TRY(CheckDir("cdi.spec_dirs", dir));
  if (!config.nri_socket.empty()) {
    TRY(CheckDir("nri.socket", config.nri_socket));
    if (config.nri_socket.size() > kSocketBytesMax) {
      return Wrong("nri.socket", StrCat("longer than ", kSocketBytesMax, " bytes"));
    }
  }
  TRY(CheckDir("nri.plugin_dir", config.nri_plugin_dir));
  TRY(CheckDir("nri.plugin_config_dir", config.nri_plugin_config_dir));
  TRY(CheckRange("nri.registration_timeout_seconds", config.nri_registration_timeout_seconds, 1, 600));
  TRY(CheckRange("nri.request_timeout_seconds", config.nri_request_timeout_seconds, 1, 600));
  TRY(CheckRange("pod.pids_max", config.pod_pids_max, 0, int64_t{1} << 22));
  for (const std::string& limit : config.pod_rlimits) {
    if (auto parsed = spec::ParseRlimit(limit); !parsed) return Wrong("pod.rlimits", parsed.error().message());
  }
  TRY(CheckRange("pod.shm_bytes", config.pod_shm_bytes, 1 << 12, int64_t{1} << 50));
  TRY(CheckRange("checkpoint.bytes_max", config.checkpoint_bytes_max, 1 << 20, int64_t{1} << 50));
  TRY(CheckRange("checkpoint.archives_max", config.checkpoint_archives_max, 1, 1'000'000));
  TRY(CheckWord("log.level", config.log_level, {"debug", "info", "warning", "error"}));
  TRY(CheckWord("log.format", config.log_format, {"text", "json"}));
  TRY(CheckRange("log.slow_call_seconds", config.log_slow_call_seconds, 1, 86'400));
  if (!config.metrics_address.empty()) TRY(CheckAddress("metrics.address", config.metrics_address));
  return {};
}

std::string PlaceOf(const Error& error, std::string_view text, std::string_view file) {
  const std::string key = error.message().substr(0, error.message().find(": "));
  toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) return "";
  // As written, but for quotes: "handlers.a.b.binary" may be the table handlers's "a.b".
  uint32_t line = 0;
  auto look = [&](auto& self, const toml::table& table, const std::string& prefix) -> void {
    for (const auto& [name, node] : table) {
      const std::string path = StrCat(prefix, name.str());
      if (key != path && !key.starts_with(path + ".")) continue;
      line = node.source().begin.line;
      if (node.is_table()) self(self, *node.as_table(), path + ".");
    }
  };
  look(look, parsed.table(), "");
  return line == 0 ? std::string() : StrCat(file, ":", line, ": ");
}

std::string DumpConfig(const Config& config, bool documented) {
  std::string out, section;
  for (const Key& key : kKeys) {
    std::string_view name = key.name;
    size_t dot = name.find('.');
    std::string_view table = dot == name.npos ? std::string_view() : name.substr(0, dot);
    if (table != section) out += StrCat("\n[", section = table, "]\n");
    if (documented) out += StrCat("# ", key.about, "\n");
    std::string value = std::visit([&](auto member) { return ToToml(config.*member); }, key.member);
    out += StrCat(name.substr(dot == name.npos ? 0 : dot + 1), " = ", value, "\n");
  }
  if (documented) {
    out +=
        "\n# Handlers are what a pod's RuntimeClass names. Type \"native\" is crisp itself: the pod's shim starts the\n"
        "# containers. Type \"oci\" is any OCI command-line runtime; binary is a path or\n"
        "# a name in PATH; options stand before the runtime's sub-command. The runtime sees those annotations of pods and\n"
        "# containers whose keys are listed here, exactly as written.\n";
  }
  for (const auto& [name, handler] : config.handlers) {
    out += StrCat(documented ? "" : "\n", "[", kHandlers, ".", ToTomlKey(name), "]\ntype = ", ToToml(handler.type),
                  "\nbinary = ", ToToml(handler.binary), "\noptions = ", ToToml(handler.options),
                  "\npod_annotations = ", ToToml(handler.pod_annotations),
                  "\ncontainer_annotations = ", ToToml(handler.container_annotations), "\n");
    if (documented) out += "\n";
  }
  while (out.ends_with("\n\n")) out.pop_back();
  return out;
}

}  // namespace crisp::daemon
