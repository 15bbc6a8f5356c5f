#include "network/portmap.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/netlink.h"

namespace crisp::network {

namespace {

constexpr size_t kPortsMax = 4096;

Error Bad(std::string text) { return Error(Code::kInvalidArgument, "portmap: " + std::move(text)); }

Result<uint8_t> ParseProtocol(std::string name) {
  std::ranges::transform(name, name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (name == "tcp" || name.empty()) return static_cast<uint8_t>(IPPROTO_TCP);
  if (name == "udp") return static_cast<uint8_t>(IPPROTO_UDP);
  if (name == "sctp") return static_cast<uint8_t>(IPPROTO_SCTP);
  return Bad(StrCat("unknown protocol ", Quote(name, 32)));
}

Result<uint16_t> ParsePort(const Json& json, const char* key) {
  int64_t port = TRY(JsonGet<int64_t>(json, key));
  if (port <= 0 || port > 65535) return Bad(StrCat(key, " ", port, " is no port"));
  return static_cast<uint16_t>(port);
}

// The pod's first address of a family.
const CniIp* PodAddress(const CniResult& result, const std::string& ifname, bool v4) {
  for (const CniIp& ip : result.ips) {
    if (ip.address.address.v4() != v4) continue;
    if (ip.interface && *ip.interface >= 0 && *ip.interface < static_cast<int64_t>(result.interfaces.size())) {
      const CniInterface& interface = result.interfaces[static_cast<size_t>(*ip.interface)];
      if (interface.sandbox.empty() || interface.name != ifname) continue;
    }
    return &ip;
  }
  return nullptr;
}

}  // namespace

bool PortmapSupports(const Json& conf) {
  static const std::set<std::string> kKnown = {"type", "name", "cniVersion", "capabilities", "runtimeConfig", "args", "dns", "ipam"};
  for (const auto& [key, value] : conf.items()) {
    if (kKnown.contains(key) || value.is_null()) continue;
    if (key == "snat" && value == true) continue;
    if (key == "masqAll" && value == false) continue;
    if (key == "backend" && value == "nftables") continue;
    if ((key == "conditionsV4" || key == "conditionsV6") && value.is_array() && value.empty()) continue;
    return false;  // markMasqBit, externalSetMarkChain, …
  }
  return true;
}

Result<PodRules> PortmapRules(const Json& conf, const CniResult& previous, const std::string& ifname) {
  PodRules rules;
  Json::json_pointer where("/runtimeConfig/portMappings");
  if (!conf.contains(where) || conf[where].is_null()) return rules;
  const Json& mappings = conf[where];
  if (!mappings.is_array() || mappings.size() > kPortsMax) return Bad("portMappings is not a list");
  const CniIp* addresses[] = {PodAddress(previous, ifname, true), PodAddress(previous, ifname, false)};
  for (const Json& item : mappings) {
    PodRules::Port port;
    port.protocol = TRY(ParseProtocol(TRY(JsonGet<std::string>(item, "protocol"))));
    port.host_port = TRY(ParsePort(item, "hostPort"));
    port.pod_port = TRY(ParsePort(item, "containerPort"));
    std::string host_ip = TRY(JsonGet<std::string>(item, "hostIP"));
    std::optional<sys::IpAddress> host;
    if (!host_ip.empty()) host = TRY(sys::IpAddress::Parse(host_ip), "portmap: hostIP");
    for (const CniIp* pod : addresses) {
      if (pod == nullptr || (host && host->family() != pod->address.address.family())) continue;
      port.pod = pod->address.address;
      port.host = host ? *host : sys::IpAddress::Any(port.pod.family());
      rules.ports.push_back(port);
      if (std::ranges::find(rules.hairpin, pod->address) == rules.hairpin.end()) rules.hairpin.push_back(pod->address);
    }
  }
  return rules;
}

Result<> AllowLoopbackSource(PodRules& rules) {
  std::optional<sys::RouteSocket> opened;  // most pods have no host port
  for (const sys::IpPrefix& pod : rules.hairpin) {
    if (!pod.address.v4()) continue;
    if (!opened) opened = TRY(sys::RouteSocket::Open());
    sys::RouteSocket& host = *opened;
    Result<int> index = host.LinkTowards(pod.address);
    if (!index && index.error().code() == Code::kNotFound) continue;  // as after the pod's bridge was deleted by hand
    std::string link = TRY(host.LinkOf(TRY(std::move(index)))).name;
    if (link == "lo") continue;
    if (std::ranges::find(rules.guarded_links, link) == rules.guarded_links.end()) rules.guarded_links.push_back(link);
  }
  return {};
}

namespace {

struct Flow {
  uint8_t protocol = 0;
  uint16_t port = 0;
  std::string tuple;  // CTA_TUPLE_ORIG as the kernel has it
  std::string zone;
};

sys::NetlinkBatch& Begin(sys::NetlinkBatch& batch, int message, int flags, int family, std::string what, bool tolerate_missing) {
  nfgenmsg header{static_cast<uint8_t>(family), NFNETLINK_V0, 0};
  auto type = static_cast<uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | message);
  return tolerate_missing ? batch.Begin(type, flags, header, std::move(what), {ENOENT})
                          : batch.Begin(type, flags, header, std::move(what));
}

std::optional<Flow> ParseFlow(std::string_view payload) {
  if (payload.size() < sizeof(nfgenmsg)) return std::nullopt;
  sys::NetlinkAttributes flow(payload.substr(sizeof(nfgenmsg)));
  sys::NetlinkAttributes protocol(sys::NetlinkAttributes(flow.Get(CTA_TUPLE_ORIG)).Get(CTA_TUPLE_PROTO));
  return Flow{.protocol = protocol.Value<uint8_t>(CTA_PROTO_NUM),
              .port = ntohs(protocol.Value<uint16_t>(CTA_PROTO_DST_PORT)),
              .tuple = std::string(flow.Get(CTA_TUPLE_ORIG)),
              .zone = std::string(flow.Get(CTA_ZONE))};
}

}  // namespace

Result<> ForgetUdpFlows(const PodRules& rules, std::optional<sys::NetlinkSocket>& netfilter) {
  for (int family : {AF_INET, AF_INET6}) {
    std::set<uint16_t> ports;
    for (const PodRules::Port& port : rules.ports) {
      if (port.protocol == IPPROTO_UDP && port.pod.family() == family) ports.insert(port.host_port);
    }
    if (ports.empty()) continue;
    if (!netfilter) netfilter = TRY(sys::NetlinkSocket::Open(NETLINK_NETFILTER));
    sys::NetlinkBatch list, forget;
    Begin(list, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, "list connections", false);
    TRY(netfilter->Dump(list, [&](uint16_t, std::string_view payload) {
      std::optional<Flow> flow = ParseFlow(payload);
      if (!flow || flow->protocol != IPPROTO_UDP || !ports.contains(flow->port)) return;
      Begin(forget, IPCTNL_MSG_CT_DELETE, 0, family, "forget a connection", true).Put(CTA_TUPLE_ORIG | NLA_F_NESTED, flow->tuple);
      if (!flow->zone.empty()) forget.Put(CTA_ZONE, flow->zone);
    }));
    if (!forget.empty()) TRY(netfilter->Send(forget));
  }
  return {};
}

}  // namespace crisp::network
