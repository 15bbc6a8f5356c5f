#include "network/bridge.h"

#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/ids.h"
#include "base/strings.h"
#include "network/builtin.h"
#include "sys/file.h"

namespace crisp::network {

namespace {

using sys::IpAddress;
using sys::IpPrefix;
using sys::Link;
using sys::MacAddress;
using sys::NetlinkBatch;
using sys::RouteSocket;

uint32_t Hash32(std::string_view text) {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

// Locally administered: 0a:58 is what kubenet began with for addresses; 0a:59 and 0a:5a are for what has none.
MacAddress MakeMac(uint8_t second, uint32_t rest) {
  return {0x0a, second, static_cast<uint8_t>(rest >> 24), static_cast<uint8_t>(rest >> 16), static_cast<uint8_t>(rest >> 8),
          static_cast<uint8_t>(rest)};
}

bool IsFalse(const Json& value) { return value.is_null() || (value.is_boolean() && !value.get<bool>()) || value == 0; }

Result<> SetSysctl(const std::string& path, std::string_view value) {
  const std::string file = "/proc/sys/" + path;
  Result<std::string> now = sys::ReadFile(file, 64);
  if (!now && now.error().code() == Code::kNotFound) return {};  // a kernel without IPv6
  if (now && Trim(*now) == value) return {};
  return sys::WriteExisting(file, value);
}

bool Has(const CniResult& result, bool v4) {
  return std::ranges::any_of(result.ips, [&](const CniIp& ip) { return ip.address.address.v4() == v4; });
}

}  // namespace

MacAddress MacFor(const IpAddress& address) {
  const uint8_t* b = address.data();
  if (address.v4()) return {0x0a, 0x58, b[0], b[1], b[2], b[3]};
  return MakeMac(0x58, Hash32(address.bytes()));
}

std::string HostLinkName(const Attachment& attachment) {
  if (!attachment.host_link.empty()) return attachment.host_link;
  const uint32_t hash = Hash32(StrCat(attachment.container_id, "/", attachment.ifname));
  const uint8_t bytes[] = {static_cast<uint8_t>(hash >> 24), static_cast<uint8_t>(hash >> 16), static_cast<uint8_t>(hash >> 8),
                           static_cast<uint8_t>(hash)};
  return "veth" + HexEncode({reinterpret_cast<const char*>(bytes), sizeof bytes});
}

bool BridgeSupports(const Json& conf) {
  static const std::set<std::string> kKnown = {
      "type", "name", "cniVersion", "capabilities", "args", "runtimeConfig", "ipam", "dns", "bridge", "isGateway",
      "isDefaultGateway", "forceAddress", "ipMasq", "mtu", "hairpinMode", "promiscMode", "preserveDefaultVlan"};
  for (const auto& [key, value] : conf.items()) {
    if (key == "ipMasqBackend" && value == "nftables") continue;
    // vlan, vlanTrunk, macspoofchk, enabledad, … only as far as they ask for nothing.
    if (!kKnown.contains(key) && !IsFalse(value)) return false;
  }
  return true;
}

Result<BridgeConf> ParseBridgeConf(const Json& conf) {
  BridgeConf out;
  out.bridge = TRY(JsonGet<std::string>(conf, "bridge", "cni0"));
  if (out.bridge.empty() || out.bridge.size() >= IFNAMSIZ || out.bridge.find_first_of("/ \t\n") != std::string::npos ||
      out.bridge.starts_with('.')) {
    return Error(Code::kInvalidArgument, StrCat("bridge: ", Quote(out.bridge, 64), " cannot be a link's name"));
  }
  out.default_gateway = TRY(JsonGet<bool>(conf, "isDefaultGateway"));
  out.gateway = TRY(JsonGet<bool>(conf, "isGateway")) || out.default_gateway;
  out.force_address = TRY(JsonGet<bool>(conf, "forceAddress"));
  out.masquerade = TRY(JsonGet<bool>(conf, "ipMasq"));
  out.hairpin = TRY(JsonGet<bool>(conf, "hairpinMode"));
  out.promiscuous = TRY(JsonGet<bool>(conf, "promiscMode"));
  if (out.hairpin && out.promiscuous) {
    return Error(Code::kInvalidArgument, "bridge: cannot set hairpin mode and promiscuous mode at the same time");
  }
  int64_t mtu = TRY(JsonGet<int64_t>(conf, "mtu"));
  if (mtu < 0 || mtu > 65535) return Error(Code::kInvalidArgument, "bridge: mtu is out of range");
  out.mtu = static_cast<int>(mtu);
  std::string mac;
  for (const char* path : {"/args/cni/mac", "/runtimeConfig/mac"}) {
    Json::json_pointer pointer(path);
    if (conf.contains(pointer) && conf[pointer].is_string() && !conf[pointer].get<std::string>().empty()) {
      mac = conf[pointer].get<std::string>();
    }
  }
  if (!mac.empty()) out.mac = TRY(sys::ParseMac(mac), "bridge");
  out.dns = TRY(ParseCniDns(conf), "bridge");
  if (auto ipam = conf.find("ipam"); ipam != conf.end() && ipam->is_object()) {
    out.ipam_type = TRY(JsonGet<std::string>(*ipam, "type"), "bridge: ipam");
  }
  return out;
}

CniResult CompleteAddresses(CniResult result, const BridgeConf& conf) {
  for (CniIp& ip : result.ips) {
    ip.interface = 2;  // behind the bridge and the host's end of the veth
    if (!ip.gateway && conf.gateway) ip.gateway = ip.address.Network().Next();
    if (!conf.default_gateway || !ip.gateway) continue;
    const IpPrefix everywhere = IpPrefix::Default(ip.address.address.family());
    bool known = std::ranges::any_of(result.routes, [&](const sys::Route& route) {
      return route.gateway && route.destination == everywhere;
    });
    if (!known) result.routes.push_back({.destination = everywhere, .gateway = ip.gateway});
  }
  if (!conf.dns.empty()) result.dns = conf.dns;
  return result;
}

namespace {

Result<Link> FindBridge(RouteSocket& host, const std::string& name) {
  Link link = TRY(host.FindLink(name));
  if (link.kind != "bridge") return Error(Code::kFailedPrecondition, StrCat("link ", name, " exists but is no bridge"));
  return link;
}

// A fixed MAC address: of its own accord a bridge takes the lowest of its ports' and changes it as pods come and go.
MacAddress BridgeMac(const BridgeConf& conf, const CniResult& result) {
  if (conf.gateway && !result.ips.empty()) return MacFor(*result.ips[0].gateway);
  return MakeMac(0x59, Hash32(conf.bridge));
}

Result<Link> EnsureBridge(RouteSocket& host, const BridgeConf& conf, const CniResult& result, const std::string& alias) {
  Result<Link> found = FindBridge(host, conf.bridge);
  const bool up = found && (found->flags & IFF_UP) != 0 && (!conf.promiscuous || (found->flags & IFF_PROMISC) != 0);
  if (up || (!found && found.error().code() != Code::kNotFound)) return found;
  if (!found) {
    NetlinkBatch create;
    AddBridge(create, conf.bridge, BridgeMac(conf, result), conf.mtu);
    SetLink(create, conf.bridge, {.alias = alias});
    TRY(host.Send(create));
    // Nothing a pod says may give this host routes (CVE-2020-10749); without an IPv6 address of ours no IPv6 at all.
    const std::string sysctls = StrCat("net/ipv6/conf/", conf.bridge, "/");
    TRY(SetSysctl(sysctls + "accept_ra", "0"));
    // Its link-local address is the source of neighbour discovery for forwarded packets: not a second late, please.
    TRY(SetSysctl(sysctls + "accept_dad", "0"));
    if (!Has(result, false)) TRY(SetSysctl(sysctls + "disable_ipv6", "1"));
  }
  NetlinkBatch change;
  SetLink(change, conf.bridge, {.up = true, .promiscuous = conf.promiscuous ? std::optional(true) : std::nullopt});
  TRY(host.Send(change));
  return FindBridge(host, conf.bridge);
}

Result<> EnsureGateways(RouteSocket& host, const BridgeConf& conf, const Link& bridge, const CniResult& result) {
  const std::vector<sys::LinkAddress> present = TRY(host.Addresses(bridge.index));
  NetlinkBatch batch;
  for (const CniIp& ip : result.ips) {
    const IpPrefix wanted{*ip.gateway, ip.address.length};
    if (std::ranges::any_of(present, [&](const sys::LinkAddress& a) { return a.prefix == wanted; })) continue;
    for (const sys::LinkAddress& other : present) {
      // One IPv4 address; several of IPv6 as long as they do not overlap.
      const bool same_family = other.prefix.address.family() == wanted.address.family();
      if (!same_family || !(wanted.address.v4() || other.prefix.Contains(wanted.address) || wanted.Contains(other.prefix.address))) {
        continue;
      }
      if (!conf.force_address) {
        return Error(Code::kFailedPrecondition,
                     StrCat("bridge ", conf.bridge, " has address ", other.prefix.Text(), " instead of ", wanted.Text()));
      }
      DeleteAddress(batch, bridge.index, other.prefix);
    }
    if (!wanted.address.v4()) TRY(SetSysctl(StrCat("net/ipv6/conf/", conf.bridge, "/disable_ipv6"), "0"));
    AddAddress(batch, bridge.index, wanted);
  }
  if (!batch.empty()) TRY(host.Send(batch));
  if (Has(result, true)) TRY(SetSysctl("net/ipv4/ip_forward", "1"));
  if (Has(result, false)) TRY(SetSysctl("net/ipv6/conf/all/forwarding", "1"));
  return {};
}

Result<> CreateVeth(RouteSocket& host, const BridgeConf& conf, const sys::VethSpec& spec, const std::string& alias) {
  NetlinkBatch batch;
  AddVeth(batch, spec);
  SetLink(batch, spec.name, {.alias = alias, .no_link_local_address = true, .hairpin = conf.hairpin});
  return host.Send(batch);
}

// The pair, its host end a port of the bridge, both down.
Result<> ConnectPod(RouteSocket& host, const BridgeConf& conf, const sys::VethSpec& spec, const std::string& alias) {
  Result<> created = CreateVeth(host, conf, spec, alias);
  if (!created && created.error().code() == Code::kAlreadyExists) {
    // The name is made from the container's id: this is what an earlier, failed attempt left.
    NetlinkBatch remove;
    sys::DeleteLink(remove, spec.name);
    TRY(host.Send(remove));
    created = CreateVeth(host, conf, spec, alias);
  }
  TRY(std::move(created));
  return SetSysctl(StrCat("net/ipv6/conf/", spec.name, "/accept_ra"), "0");
}

// A pair that was made ahead becomes the attachment's: as ConnectPod leaves it.
Result<> AdoptPair(RouteSocket& host, const BridgeConf& conf, const sys::VethSpec& spec, const std::string& alias) {
  NetlinkBatch batch;
  SetLink(batch, spec.name, {.alias = alias, .mac = spec.mac, .master = spec.master});
  if (conf.hairpin) SetLink(batch, spec.name, {.hairpin = true});
  return host.Send(batch);
}

// The pod's end first: the host's has a carrier from the start then. Going up without one, the bridge takes it for a
// working port, then for a dead one, then for a working one again, and each time looks through all its ports.
Result<> BringUp(RouteSocket& host, const std::string& host_name, RouteSocket& pod, const std::string& ifname,
                 const std::optional<MacAddress>& mac) {
  NetlinkBatch inside, outside;
  SetLink(inside, ifname, {.up = true, .mac = mac});
  TRY(pod.Send(inside));
  SetLink(outside, host_name, {.up = true});
  return host.Send(outside);
}

// FindLink makes the kernel take note of the carrier (see BridgeAdd): until then the link sends nothing.
Result<> ConfigurePod(RouteSocket& pod, const std::string& ifname, const CniResult& result) {
  Link link = TRY(pod.FindLink(ifname));
  NetlinkBatch batch;
  for (const CniIp& ip : result.ips) AddAddress(batch, link.index, ip.address);
  for (sys::Route route : result.routes) {
    auto by = std::ranges::find_if(result.ips, [&](const CniIp& ip) {
      return ip.gateway && ip.gateway->family() == route.destination.address.family();
    });
    if (!route.gateway && !route.scope && by != result.ips.end()) route.gateway = by->gateway;
    AddRoute(batch, link.index, route);
  }
  if (batch.empty()) return {};
  return pod.Send(batch);
}

// Sysctls of a pod's interface in a namespace that we did not prepare.
Result<> PrepareInterface(sys::BorrowedFd netns, const std::string& ifname, bool ipv6) {
  return sys::RunInNetns(netns, [&]() -> Result<> {
    TRY(SetSysctl(StrCat("net/ipv6/conf/", ifname, "/accept_ra"), "0"));
    return SetSysctl(StrCat("net/ipv6/conf/", ifname, "/disable_ipv6"), ipv6 ? "0" : "1");
  });
}

Result<CniResult> AddressesFor(const Ctx& ctx, const PluginCall& call, const BridgeConf& conf, const Json& stdin_conf, const PluginExec& exec) {
  if (conf.ipam_type.empty()) return CniResult();
  CniResult result;
  if (conf.ipam_type == "host-local" && HostLocalSupports(stdin_conf["ipam"])) {
    HostLocalConf ipam = TRY(ParseHostLocalConf(stdin_conf, call.attachment->args));
    result = TRY(HostLocalAdd(ctx, ipam, *call.attachment, call.fresh_id));
  } else {
    result = TRY(exec.IpamAdd(ctx, call, conf.ipam_type));
  }
  if (result.ips.empty()) return Error(Code::kInternal, StrCat("address plugin ", Quote(conf.ipam_type), " gave no address"));
  return result;
}

}  // namespace

std::string AliasOfPairMadeAhead(const std::string& link_alias) {
  return link_alias.empty() ? std::string() : link_alias + " ahead";
}

Result<std::string> MakePairAhead(const PairSpec& wanted, sys::BorrowedFd netns) {
  RouteSocket host = TRY(RouteSocket::Open());
  const std::string name = "veth" + RandomHex(5);  // longer than the names that are made from attachments
  const sys::VethSpec spec{.name = name, .mac = MakeMac(0x5a, Hash32(name)), .peer_name = wanted.ifname,
                           .peer_mac = MakeMac(0x5b, Hash32(name)), .peer_netns = netns.get(), .mtu = wanted.mtu};
  TRY(CreateVeth(host, {}, spec, {}));
  TRY(SetSysctl(StrCat("net/ipv6/conf/", name, "/accept_ra"), "0"));
  return name;
}

Result<CniResult> BridgeAdd(const Ctx& ctx, const PluginCall& call, const PluginExec& exec) {
  const Attachment& attachment = *call.attachment;
  const Json stdin_conf = TRY(PluginStdin(call));
  const BridgeConf conf = TRY(ParseBridgeConf(stdin_conf));
  CniResult result = CompleteAddresses(TRY(AddressesFor(ctx, call, conf, stdin_conf, exec)), conf);

  RouteSocket host = TRY(RouteSocket::Open());
  Link bridge = TRY(EnsureBridge(host, conf, result, call.link_alias));
  if (conf.gateway) TRY(EnsureGateways(host, conf, bridge, result));

  sys::UniqueFd opened;
  if (call.netns == nullptr) opened = TRY(sys::OpenNetns(attachment.netns));
  const sys::BorrowedFd netns = call.netns != nullptr ? call.netns->fd.borrow() : opened.borrow();
  sys::VethSpec spec{.name = HostLinkName(attachment), .mac = MakeMac(0x5a, Hash32(attachment.container_id)),
                     .master = bridge.index, .peer_name = attachment.ifname, .peer_netns = netns.get(), .mtu = conf.mtu};
  spec.peer_mac = conf.mac ? *conf.mac
                  : result.ips.empty() ? MakeMac(0x5b, Hash32(attachment.container_id)) : MacFor(result.ips[0].address.address);
  const bool ahead = !attachment.host_link.empty();
  const std::string alias = ahead ? AliasOfPairMadeAhead(call.link_alias) : call.link_alias;
  bool adopted = false;
  if (ahead) {
    Result<> taken = AdoptPair(host, conf, spec, alias);
    adopted = taken.has_value();
    // Somebody has taken it away meanwhile, and the end in the namespace with it.
    if (!taken && taken.error().os_errno() != ENODEV) return std::move(taken).error();
  }
  if (!adopted) TRY(ConnectPod(host, conf, spec, alias));
  std::optional<RouteSocket> own;
  if (call.netns == nullptr) {
    TRY(PrepareInterface(netns, attachment.ifname, Has(result, false) || result.ips.empty()));
    own = TRY(sys::OpenRouteSocketIn(netns));
  }
  RouteSocket& pod = own ? *own : call.netns->route;
  TRY(BringUp(host, spec.name, pod, attachment.ifname, adopted ? std::optional(spec.peer_mac) : std::nullopt));
  TRY(ConfigurePod(pod, attachment.ifname, result));
  // The kernel takes note of a carrier up to a second late, and a bridge that had no port drops packets until then.
  // Asking for a link makes it take note at once (rtnl_getlink, since 6.8): first of the port, then of the bridge.
  TRY(host.FindLink(spec.name));
  TRY(host.FindLink(conf.bridge));
  result.interfaces = {{.name = conf.bridge, .mac = sys::MacText(bridge.mac)},
                       {.name = spec.name, .mac = sys::MacText(spec.mac)},
                       {.name = attachment.ifname, .mac = sys::MacText(spec.peer_mac), .sandbox = attachment.netns}};
  return result;
}

Result<> BridgeDel(const Ctx& ctx, const PluginCall& call, const PluginExec& exec) {
  const Attachment& attachment = *call.attachment;
  const Json stdin_conf = TRY(PluginStdin(call));
  const BridgeConf conf = TRY(ParseBridgeConf(stdin_conf));
  RouteSocket host = TRY(RouteSocket::Open());
  if (call.netns_dies) {
    // The kernel takes the link away some time after the namespace's last process is gone. Until then its address must
    // not answer: the next to have it has the same MAC address, too.
    Result<Link> link = host.FindLink(HostLinkName(attachment));
    NetlinkBatch batch;
    if (link) sys::DisableBridgePort(batch, link->index);
    if (!batch.empty()) TRY(host.Send(batch));
  } else {
    NetlinkBatch batch;
    sys::DeleteLink(batch, HostLinkName(attachment));
    TRY(host.Send(batch));
    Result<sys::UniqueFd> netns = attachment.netns.empty() ? Error(Code::kNotFound, "") : sys::OpenNetns(attachment.netns);
    if (netns) {  // the reference plugin gives the host's end a random name
      RouteSocket pod = TRY(sys::OpenRouteSocketIn(*netns));
      NetlinkBatch inside;
      sys::DeleteLink(inside, attachment.ifname);
      TRY(pod.Send(inside));
    }
  }
  if (conf.ipam_type.empty()) return {};
  if (conf.ipam_type == "host-local" && HostLocalSupports(stdin_conf["ipam"])) {
    return HostLocalDel(ctx, TRY(ParseHostLocalConf(stdin_conf, attachment.args)), attachment, call.previous);
  }
  return exec.Ipam(ctx, Verb::kDel, call, conf.ipam_type);
}

Result<> BridgeCheck(const Ctx& ctx, const PluginCall& call, const PluginExec& exec) {
  const Attachment& attachment = *call.attachment;
  const Json stdin_conf = TRY(PluginStdin(call));
  const BridgeConf conf = TRY(ParseBridgeConf(stdin_conf));
  if (call.previous == nullptr) return Error(Code::kInvalidArgument, "bridge: CHECK without prevResult");
  if (conf.ipam_type == "host-local" && HostLocalSupports(stdin_conf["ipam"])) {
    TRY(HostLocalCheck(ctx, TRY(ParseHostLocalConf(stdin_conf, attachment.args)), attachment));
  } else if (!conf.ipam_type.empty()) {
    TRY(exec.Ipam(ctx, Verb::kCheck, call, conf.ipam_type));
  }
  RouteSocket host = TRY(RouteSocket::Open());
  Link bridge = TRY(FindBridge(host, conf.bridge));
  sys::UniqueFd netns = TRY(sys::OpenNetns(attachment.netns));
  RouteSocket pod = TRY(sys::OpenRouteSocketIn(netns));
  Link inside = TRY(pod.FindLink(attachment.ifname));
  Link outside = TRY(host.LinkOf(inside.peer));
  if (outside.master != bridge.index) {
    return Error(Code::kFailedPrecondition, StrCat("link ", outside.name, " is no port of bridge ", conf.bridge));
  }
  const std::vector<sys::LinkAddress> present = TRY(pod.Addresses(inside.index));
  for (const CniIp& ip : call.previous->ips) {
    if (std::ranges::none_of(present, [&](const sys::LinkAddress& a) { return a.prefix == ip.address; })) {
      return Error(Code::kFailedPrecondition, StrCat("link ", attachment.ifname, " lacks address ", ip.address.Text()));
    }
  }
  return {};
}

}  // namespace crisp::network
