// rtnetlink (linux/rtnetlink.h, linux/if_link.h): links, addresses and routes of one network namespace.
// The Add…/Set… functions append a message to a batch; RouteSocket sends it. Threading: as NetlinkSocket.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "sys/ip.h"
#include "sys/netlink.h"

namespace crisp::sys {

using MacAddress = std::array<uint8_t, 6>;
std::string MacText(const MacAddress& mac);  // "0a:58:0a:58:00:02"
Result<MacAddress> ParseMac(std::string_view text);

struct Link {
  int index = 0;
  std::string name;
  std::string alias;
  std::string kind;  // "veth", "bridge"; "" for hardware and lo
  MacAddress mac{};
  unsigned flags = 0;  // IFF_*
  int mtu = 0;
  int master = 0;      // index of the bridge it is a port of, or 0
  int peer = 0;        // IFLA_LINK: a veth's other end, as an index of that end's namespace
};

struct LinkAddress {
  int link = 0;
  IpPrefix prefix;
};

class RouteSocket {
 public:
  static Result<RouteSocket> Open();  // for the calling thread's namespace, once and for all

  Result<> Send(const NetlinkBatch& batch) { return socket_.Send(batch); }
  Result<Link> FindLink(const std::string& name);  // kNotFound
  // All, or those of one kind: "bridge".
  Result<std::vector<Link>> Links(const std::string& kind = {});
  Result<std::vector<LinkAddress>> Addresses(int link);
  // The link over which packets to `destination` leave: kNotFound when there is no route.
  Result<int> LinkTowards(const IpAddress& destination);
  Result<Link> LinkOf(int index);

 private:
  explicit RouteSocket(NetlinkSocket socket) : socket_(std::move(socket)) {}
  NetlinkSocket socket_;
};

struct VethSpec {
  std::string name;          // the end in the socket's namespace, left down
  MacAddress mac{};
  int master = 0;            // index of a bridge, or 0
  std::string peer_name;     // the end in `peer_netns`, left down
  MacAddress peer_mac{};
  int peer_netns = -1;       // descriptor of a network namespace
  int mtu = 0;               // 0: the kernel's default
};
// The peer is born in its namespace: half the cost of making the pair here and moving one end.
void AddVeth(NetlinkBatch& batch, const VethSpec& spec);
void AddBridge(NetlinkBatch& batch, const std::string& name, const MacAddress& mac, int mtu);  // EEXIST tolerated

struct LinkChange {
  std::optional<bool> up;
  std::optional<bool> promiscuous;
  std::string alias;                   // free text, `ip link` shows it; "": as it is
  bool no_link_local_address = false;  // IN6_ADDR_GEN_MODE_NONE, before the link goes up
  bool hairpin = false;                // of a bridge port: packets may go out where they came in
  std::optional<MacAddress> mac;
  int master = 0;                      // index of the bridge whose port it becomes; 0: as it is
};
void SetLink(NetlinkBatch& batch, const std::string& name, const LinkChange& change);
// The port neither takes nor gets a packet from here on, and the bridge forgets who was behind it. Costs microseconds,
// where taking the link down or away costs an RCU grace period.
void DisableBridgePort(NetlinkBatch& batch, int link);
void DeleteLink(NetlinkBatch& batch, const std::string& name);       // missing is success
void SetLinkGroup(NetlinkBatch& batch, const std::string& name, uint32_t group);  // missing is success
// All links of a group at once: one RCU grace period instead of one each (10-28 ms). None is success.
void DeleteLinkGroup(NetlinkBatch& batch, uint32_t group);
// IPv4 gets its broadcast address, IPv6 no duplicate address detection. Existing: success.
void AddAddress(NetlinkBatch& batch, int link, const IpPrefix& prefix);
void DeleteAddress(NetlinkBatch& batch, int link, const IpPrefix& prefix);

struct Route {
  IpPrefix destination;
  std::optional<IpAddress> gateway;
  uint32_t mtu = 0, advmss = 0, priority = 0, table = 0;
  std::optional<uint8_t> scope;
};
void AddRoute(NetlinkBatch& batch, int link, const Route& route);  // the same route existing: success

}  // namespace crisp::sys
