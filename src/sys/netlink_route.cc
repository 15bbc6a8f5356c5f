#include "sys/netlink_route.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/strings.h"

namespace crisp::sys {

std::string MacText(const MacAddress& mac) {
  std::string text;
  for (uint8_t byte : mac) {
    if (!text.empty()) text += ':';
    text += HexEncode({reinterpret_cast<const char*>(&byte), 1});
  }
  return text;
}

Result<MacAddress> ParseMac(std::string_view text) {
  MacAddress mac{};
  auto parts = Split(text, ':');
  bool good = parts.size() == mac.size();
  for (size_t i = 0; good && i < mac.size(); ++i) {
    auto byte = ParseInt<unsigned>(parts[i], 16);
    good = byte && *byte <= 0xff && parts[i].size() == 2;
    if (good) mac[i] = static_cast<uint8_t>(*byte);
  }
  if (!good) return Error(Code::kInvalidArgument, StrCat("no MAC address: ", Quote(text)));
  return mac;
}

namespace {

std::string_view Bytes(const MacAddress& mac) { return {reinterpret_cast<const char*>(mac.data()), mac.size()}; }

template <class T>
std::string_view Bytes(const T& structure) {
  return {reinterpret_cast<const char*>(&structure), sizeof structure};
}

Link ParseLink(std::string_view payload) {
  Link link;
  if (payload.size() < sizeof(ifinfomsg)) return link;
  ifinfomsg header;
  std::memcpy(&header, payload.data(), sizeof header);
  NetlinkAttributes attributes(payload.substr(sizeof header));
  link.index = header.ifi_index;
  link.flags = header.ifi_flags;
  link.name = attributes.String(IFLA_IFNAME);
  link.alias = attributes.String(IFLA_IFALIAS);
  link.mac = attributes.Value<MacAddress>(IFLA_ADDRESS);
  link.mtu = attributes.Value<int>(IFLA_MTU);
  link.master = attributes.Value<int>(IFLA_MASTER);
  link.peer = attributes.Value<int>(IFLA_LINK);
  link.kind = NetlinkAttributes(attributes.Get(IFLA_LINKINFO)).String(IFLA_INFO_KIND);
  return link;
}

// "No such device" is how rtnetlink says not found.
Error AsNotFound(Error error) {
  return error.os_errno() == ENODEV ? std::move(error).As(Code::kNotFound) : std::move(error);
}

}  // namespace

Result<RouteSocket> RouteSocket::Open() { return RouteSocket(TRY(NetlinkSocket::Open(NETLINK_ROUTE))); }

Result<Link> RouteSocket::FindLink(const std::string& name) {
  NetlinkBatch batch;
  batch.Begin(RTM_GETLINK, 0, ifinfomsg{}, StrCat("look up link ", name)).PutString(IFLA_IFNAME, name);
  Link link;
  Result<> found = socket_.Send(batch, [&](uint16_t, std::string_view payload) { link = ParseLink(payload); });
  if (!found) return AsNotFound(std::move(found).error());
  return link;
}

Result<Link> RouteSocket::LinkOf(int index) {
  NetlinkBatch batch;
  ifinfomsg header{};
  header.ifi_index = index;
  batch.Begin(RTM_GETLINK, 0, header, StrCat("look up link number ", index));
  Link link;
  Result<> found = socket_.Send(batch, [&](uint16_t, std::string_view payload) { link = ParseLink(payload); });
  if (!found) return AsNotFound(std::move(found).error());
  return link;
}

Result<std::vector<Link>> RouteSocket::Links(const std::string& kind) {
  NetlinkBatch request;
  request.Begin(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{}, "list links");
  // The kernel picks them: it has much to tell of each link, and a node has one for each pod.
  if (!kind.empty()) request.Nest(IFLA_LINKINFO, [&] { request.PutString(IFLA_INFO_KIND, kind); });
  std::vector<Link> links;
  TRY(socket_.Dump(request, [&](uint16_t, std::string_view payload) {
    Link link = ParseLink(payload);
    if (kind.empty() || link.kind == kind) links.push_back(std::move(link));
  }));
  return links;
}

Result<std::vector<LinkAddress>> RouteSocket::Addresses(int link) {
  NetlinkBatch request;
  ifaddrmsg wanted{};
  wanted.ifa_index = static_cast<unsigned>(link);  // filtered by the kernel with NETLINK_GET_STRICT_CHK, else below
  request.Begin(RTM_GETADDR, NLM_F_DUMP, wanted, "list addresses");
  std::vector<LinkAddress> addresses;
  TRY(socket_.Dump(request, [&](uint16_t, std::string_view payload) {
    if (payload.size() < sizeof(ifaddrmsg)) return;
    ifaddrmsg header;
    std::memcpy(&header, payload.data(), sizeof header);
    if (static_cast<int>(header.ifa_index) != link) return;
    NetlinkAttributes attributes(payload.substr(sizeof header));
    // Of a point-to-point address IFA_ADDRESS is the other side.
    std::string_view bytes = attributes.Has(IFA_LOCAL) ? attributes.Get(IFA_LOCAL) : attributes.Get(IFA_ADDRESS);
    if (bytes.size() != (header.ifa_family == AF_INET ? 4u : 16u)) return;
    addresses.push_back({link, {IpAddress::FromBytes(header.ifa_family, bytes.data()), header.ifa_prefixlen}});
  }));
  return addresses;
}

Result<int> RouteSocket::LinkTowards(const IpAddress& destination) {
  NetlinkBatch batch;
  rtmsg header{};
  header.rtm_family = static_cast<unsigned char>(destination.family());
  header.rtm_dst_len = static_cast<unsigned char>(destination.size() * 8);
  batch.Begin(RTM_GETROUTE, 0, header, StrCat("look up route to ", destination.Text())).Put(RTA_DST, destination.bytes());
  int link = 0;
  Result<> found = socket_.Send(batch, [&](uint16_t, std::string_view payload) {
    if (payload.size() >= sizeof(rtmsg)) link = NetlinkAttributes(payload.substr(sizeof(rtmsg))).Value<int>(RTA_OIF);
  });
  if (!found && found.error().os_errno() == ENETUNREACH) return std::move(found).error().As(Code::kNotFound);
  TRY(std::move(found));
  return link;
}

namespace {
// As many as are used. Left to itself the kernel makes one for each CPU and takes all but one out of use again, which
// waits for RCU with the node's routing lock held, twice (drivers/net/veth.c, veth_init_queues).
void PutOneQueue(NetlinkBatch& batch) {
  batch.PutValue<uint32_t>(IFLA_NUM_TX_QUEUES, 1).PutValue<uint32_t>(IFLA_NUM_RX_QUEUES, 1);
}
}  // namespace

void AddVeth(NetlinkBatch& batch, const VethSpec& spec) {
  batch.Begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{}, StrCat("create link ", spec.name))
      .PutString(IFLA_IFNAME, spec.name)
      .Put(IFLA_ADDRESS, Bytes(spec.mac));
  PutOneQueue(batch);
  if (spec.mtu > 0) batch.PutValue(IFLA_MTU, spec.mtu);
  if (spec.master > 0) batch.PutValue(IFLA_MASTER, spec.master);
  batch.Nest(IFLA_LINKINFO, [&] {
    batch.PutString(IFLA_INFO_KIND, "veth");
    batch.Nest(IFLA_INFO_DATA, [&] {
      batch.Nest(VETH_INFO_PEER, [&] {
        // Not up yet: veth refuses that (ENOTCONN) as long as the ends do not know each other.
        batch.Raw(Bytes(ifinfomsg{})).PutString(IFLA_IFNAME, spec.peer_name).Put(IFLA_ADDRESS, Bytes(spec.peer_mac));
        PutOneQueue(batch);
        if (spec.peer_netns >= 0) batch.PutValue(IFLA_NET_NS_FD, spec.peer_netns);
        if (spec.mtu > 0) batch.PutValue(IFLA_MTU, spec.mtu);
      });
    });
  });
}

void AddBridge(NetlinkBatch& batch, const std::string& name, const MacAddress& mac, int mtu) {
  batch.Begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{}, StrCat("create bridge ", name), {EEXIST})
      .PutString(IFLA_IFNAME, name)
      .Put(IFLA_ADDRESS, Bytes(mac));
  if (mtu > 0) batch.PutValue(IFLA_MTU, mtu);
  batch.Nest(IFLA_LINKINFO, [&] { batch.PutString(IFLA_INFO_KIND, "bridge"); });
}

void SetLink(NetlinkBatch& batch, const std::string& name, const LinkChange& change) {
  ifinfomsg header{};
  if (change.up) {
    header.ifi_change |= IFF_UP;
    if (*change.up) header.ifi_flags |= IFF_UP;
  }
  if (change.promiscuous) {
    header.ifi_change |= IFF_PROMISC;
    if (*change.promiscuous) header.ifi_flags |= IFF_PROMISC;
  }
  batch.Begin(RTM_NEWLINK, 0, header, StrCat("set up link ", name)).PutString(IFLA_IFNAME, name);
  if (change.mac) batch.Put(IFLA_ADDRESS, Bytes(*change.mac));
  if (change.master > 0) batch.PutValue(IFLA_MASTER, change.master);
  if (!change.alias.empty()) batch.Put(IFLA_IFALIAS, change.alias);
  if (change.hairpin) {
    batch.Nest(IFLA_LINKINFO, [&] {
      batch.PutString(IFLA_INFO_SLAVE_KIND, "bridge");
      batch.Nest(IFLA_INFO_SLAVE_DATA, [&] { batch.PutValue<uint8_t>(IFLA_BRPORT_MODE, 1); });
    });
  }
  if (change.no_link_local_address) {
    batch.Nest(IFLA_AF_SPEC, [&] {
      batch.Nest(AF_INET6, [&] { batch.PutValue<uint8_t>(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE); });
    });
  }
}

void DisableBridgePort(NetlinkBatch& batch, int link) {
  ifinfomsg header{};
  header.ifi_family = AF_BRIDGE;
  header.ifi_index = link;
  // Not a port (any more), or down: as good.
  batch.Begin(RTM_SETLINK, 0, header, StrCat("disable bridge port ", link), {ENODEV, ENETDOWN, EINVAL, EOPNOTSUPP});
  batch.Nest(IFLA_PROTINFO, [&] { batch.PutValue<uint8_t>(IFLA_BRPORT_STATE, BR_STATE_DISABLED).Put(IFLA_BRPORT_FLUSH, {}); });
}

void DeleteLink(NetlinkBatch& batch, const std::string& name) {
  batch.Begin(RTM_DELLINK, 0, ifinfomsg{}, StrCat("delete link ", name), {ENODEV}).PutString(IFLA_IFNAME, name);
}

void SetLinkGroup(NetlinkBatch& batch, const std::string& name, uint32_t group) {
  batch.Begin(RTM_NEWLINK, 0, ifinfomsg{}, StrCat("set group of link ", name), {ENODEV})
      .PutString(IFLA_IFNAME, name)
      .PutValue(IFLA_GROUP, group);
}

void DeleteLinkGroup(NetlinkBatch& batch, uint32_t group) {
  batch.Begin(RTM_DELLINK, 0, ifinfomsg{}, StrCat("delete links of group ", group), {ENODEV}).PutValue(IFLA_GROUP, group);
}

namespace {

void ChangeAddress(NetlinkBatch& batch, int type, int link, const IpPrefix& prefix) {
  const bool add = type == RTM_NEWADDR;
  ifaddrmsg header{};
  header.ifa_family = static_cast<uint8_t>(prefix.address.family());
  header.ifa_prefixlen = static_cast<uint8_t>(prefix.length);
  header.ifa_index = static_cast<uint32_t>(link);
  std::string what = StrCat(add ? "add address " : "delete address ", prefix.Text());
  if (add) {
    batch.Begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, header, std::move(what), {EEXIST});
  } else {
    batch.Begin(RTM_DELADDR, 0, header, std::move(what), {EADDRNOTAVAIL});
  }
  batch.Put(IFA_LOCAL, prefix.address.bytes()).Put(IFA_ADDRESS, prefix.address.bytes());
  if (!add) return;
  if (prefix.address.v4() && prefix.length < 31) batch.Put(IFA_BROADCAST, prefix.Last().bytes());
  if (!prefix.address.v4()) batch.PutValue<uint32_t>(IFA_FLAGS, IFA_F_NODAD);
}

}  // namespace

void AddAddress(NetlinkBatch& batch, int link, const IpPrefix& prefix) { ChangeAddress(batch, RTM_NEWADDR, link, prefix); }
void DeleteAddress(NetlinkBatch& batch, int link, const IpPrefix& prefix) { ChangeAddress(batch, RTM_DELADDR, link, prefix); }

void AddRoute(NetlinkBatch& batch, int link, const Route& route) {
  rtmsg header{};
  header.rtm_family = static_cast<unsigned char>(route.destination.address.family());
  header.rtm_dst_len = static_cast<unsigned char>(route.destination.length);
  header.rtm_table = RT_TABLE_MAIN;
  header.rtm_protocol = RTPROT_BOOT;
  header.rtm_scope = route.scope.value_or(route.gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
  header.rtm_type = RTN_UNICAST;
  batch.Begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, header, StrCat("add route to ", route.destination.Text()), {EEXIST});
  if (route.destination.length > 0) batch.Put(RTA_DST, route.destination.Network().bytes());
  if (route.gateway) batch.Put(RTA_GATEWAY, route.gateway->bytes());
  batch.PutValue(RTA_OIF, link);
  if (route.priority != 0) batch.PutValue(RTA_PRIORITY, route.priority);
  if (route.table != 0) batch.PutValue(RTA_TABLE, route.table);
  if (route.mtu != 0 || route.advmss != 0) {
    batch.Nest(RTA_METRICS, [&] {
      if (route.mtu != 0) batch.PutValue(RTAX_MTU, route.mtu);
      if (route.advmss != 0) batch.PutValue(RTAX_ADVMSS, route.advmss);
    });
  }
}

}  // namespace crisp::sys
