// PlanSandbox: host name, sysctls and files of a pod.
#include <algorithm>
#include <array>

#include "base/strings.h"
#include "spec/parts.h"
#include "spec/userns.h"

namespace crisp::spec {

namespace {

constexpr size_t kHostnameBytesMax = 64;  // __NEW_UTS_LEN

bool IsHostname(std::string_view text) {
  if (text.empty() || text.size() > kHostnameBytesMax) return false;
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
  });
}

}  // namespace

Result<std::string> PodHostname(const SandboxConfig& config, const PodId& id, const NodeFacts& node) {
  if (config.security.namespaces.network == NamespaceMode::kNode) return node.hostname;
  if (!config.hostname.empty()) {
    // It is written into files line by line: nothing but names (CVE-2022-4318 is about such a newline).
    if (!IsHostname(config.hostname)) return Invalid(StrCat("bad host name ", Quote(config.hostname)));
    return config.hostname;
  }
  if (IsHostname(config.metadata.name)) return config.metadata.name;
  return std::string(id.Short());
}

namespace {

// ---- sysctls ----

enum class Scope { kNone, kNetwork, kIpc };

// Those that belong to a namespace (Kubernetes: "Using sysctls in a Kubernetes Cluster"). Everything else is the
// node's. The shim has such a list once more: what it writes must not depend on who asks.
Scope ScopeOf(std::string_view name) {
  static constexpr std::array<std::string_view, 9> kIpc = {
      "kernel.shm_rmid_forced", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",     "kernel.shm_next_id",
      "kernel.msgmax",          "kernel.msgmnb", "kernel.msgmni", "kernel.msg_next_id"};
  if (name.starts_with("net.")) return Scope::kNetwork;
  if (name.starts_with("fs.mqueue.") || name == "kernel.sem") return Scope::kIpc;
  if (std::find(kIpc.begin(), kIpc.end(), name) != kIpc.end()) return Scope::kIpc;
  return Scope::kNone;
}

// Lower-case components between dots. '/' is sysctl(8)'s way to write a dot inside a component ("eth0/100"); a name
// written with slashes all through is turned round.
Result<std::string> SysctlName(std::string_view given) {
  std::string name(given);
  size_t separator = name.find_first_of("./");
  if (separator != std::string::npos && name[separator] == '/') {
    for (char& c : name) {
      if (c == '/') {
        c = '.';
      } else if (c == '.') {
        c = '/';
      }
    }
  }
  auto bad = [&] { return Invalid(StrCat("bad sysctl name ", Quote(given))); };
  if (name.size() > 256) return bad();
  for (std::string_view part : Split(name, '.')) {
    if (part.empty() || part[0] == '/' || part.back() == '/' || part.find("//") != std::string_view::npos) return bad();
    for (unsigned char c : part) {
      bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
                  c == '/';
      if (!good) return bad();
    }
  }
  return name;
}

// No newline, '+' or '/': what other runtimes passed on to a helper's argument parser (CVE-2022-0811).
Result<> CheckSysctlValue(std::string_view name, std::string_view value) {
  bool good = !value.empty() && value.size() <= 1024 && std::all_of(value.begin(), value.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ' ' || c == '\t' ||
           c == '-' || c == '_' || c == '.' || c == ',' || c == ':';
  });
  if (good) return {};
  return Invalid(StrCat("sysctl ", name, ": bad value ", Quote(value)));
}

Result<StringMap> PlanSysctls(const SandboxConfig& config, const SandboxPlan& plan) {
  StringMap out;
  for (const auto& [given, value] : config.sysctls) {
    std::string name = TRY(SysctlName(given));
    TRY(CheckSysctlValue(name, value));
    Scope scope = ScopeOf(name);
    if (scope == Scope::kNone) return Invalid(StrCat("sysctl ", name, " is the node's, not the pod's"));
    if (scope == Scope::kNetwork && plan.host_network)
      return Invalid(StrCat("sysctl ", name, " is not allowed with the node's network"));
    if (scope == Scope::kIpc && !plan.own_ipc)
      return Invalid(StrCat("sysctl ", name, " is not allowed with the node's IPC namespace"));
    if (!out.emplace(name, value).second) return Invalid(StrCat("sysctl ", name, " is given twice"));
  }
  return out;
}

StringMap NetnsSysctls(const Policy& policy) {
  StringMap out;
  if (policy.unprivileged_ports) out.emplace("net/ipv4/ip_unprivileged_port_start", "0");
  // Written from outside of a pod's user namespace, so all groups of the node can be named.
  if (policy.unprivileged_icmp) out.emplace("net/ipv4/ping_group_range", "0 2147483647");
  return out;
}

// ---- files ----

Result<> CheckResolvWord(std::string_view what, std::string_view word) {
  bool good = !word.empty() && word.size() <= 512 && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return c > ' ' && c < 0x7f && c != '#' && c != ';';
  });
  if (good) return {};
  return Invalid(StrCat("dns: bad ", what, " ", Quote(word)));
}

Result<std::string> PlanResolvConf(const SandboxConfig& config, const NodeFacts& node) {
  std::string text;
  auto add_line = [&](const char* keyword, const char* what, const std::vector<std::string>& words) -> Result<> {
    if (words.empty()) return {};
    for (const std::string& word : words) TRY(CheckResolvWord(what, word));
    text += StrCat(keyword, " ", Join(words, " "), "\n");
    return {};
  };
  TRY(add_line("search", "search domain", config.dns_searches));
  for (const std::string& server : config.dns_servers) TRY(add_line("nameserver", "server", {server}));
  TRY(add_line("options", "option", config.dns_options));
  return text.empty() ? node.resolv_conf : text;  // nothing asked: the node's, as with dnsPolicy Default
}

}  // namespace

Result<SandboxPlan> PlanSandbox(const SandboxConfig& config, const PodId& id, const NodeFacts& node,
                                const Policy& policy) {
  const NamespaceOptions& namespaces = config.security.namespaces;
  TRY(CheckUserns(config.security));
  for (NamespaceMode mode : {namespaces.network, namespaces.ipc}) {
    if (mode != NamespaceMode::kPod && mode != NamespaceMode::kNode) {
      return Invalid("a sandbox's network and IPC namespaces are the pod's or the node's");
    }
  }
  if (namespaces.pid == NamespaceMode::kTarget) return Invalid("a sandbox has no target PID namespace");
  SandboxPlan plan;
  plan.host_network = namespaces.network == NamespaceMode::kNode;
  plan.own_ipc = namespaces.ipc == NamespaceMode::kPod;
  plan.own_uts = !plan.host_network;
  plan.shared_pid = namespaces.pid == NamespaceMode::kPod;
  plan.hostname = TRY(PodHostname(config, id, node));
  plan.sysctls = TRY(PlanSysctls(config, plan));
  if (!plan.host_network) plan.netns_sysctls = NetnsSysctls(policy);
  plan.resolv_conf = TRY(PlanResolvConf(config, node));
  plan.hosts = node.hosts;
  plan.hostname_file = plan.hostname + "\n";
  plan.shm_bytes = plan.own_ipc ? policy.shm_bytes : 0;
  return plan;
}

}  // namespace crisp::spec
