// NftRules: the packet rules of the built-in plugins, in one nftables table of our own (`inet <name>`).
//
// The table is derived state: each attachment (the "owner") claims elements of a fixed set of maps, and the table holds
// what is claimed. So a pod costs one small transaction whatever the number of pods, and the whole table can be rebuilt
// in one atomic transaction from the attachment records: at start, and when somebody flushed the rule set.
// Two owners may claim the same key (a host port): the later wins, and the earlier has it again once the later is gone.
//
//   hostports   from prerouting and output, local destinations only (fib daddr type local), at priority dstnat + 5, so
//               service chains decide first: DNAT by (address,) protocol and port
//   postrouting at srcnat + 5: masquerade of marked host-port connections, and of pods to outside their network
//   guard       drops what arrives from a bridge for or from 127.0.0.0/8, since route_localnet is on there
//
// Spoken to by nfnetlink directly (linux/netfilter/nf_tables.h). Threading: any thread; one transaction at a time.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/synchronized.h"
#include "sys/ip.h"
#include "sys/netlink.h"

namespace crisp::network {

// What one attachment wants from the table.
struct PodRules {
  // Traffic from `pod` that leaves its network (the prefix) and is not multicast gets the host's address.
  std::vector<sys::IpPrefix> masquerade;
  struct Port {
    uint8_t protocol = 0;                // IPPROTO_*
    sys::IpAddress host;                 // unspecified: all local addresses of its family
    uint16_t host_port = 0;
    sys::IpAddress pod;                  // same family
    uint16_t pod_port = 0;
  };
  std::vector<Port> ports;
  // Networks whose pods reach host ports hairpinned: their connections are masqueraded.
  std::vector<sys::IpPrefix> hairpin;
  std::vector<std::string> guarded_links;  // bridges with route_localnet

  bool empty() const { return masquerade.empty() && ports.empty() && hairpin.empty() && guarded_links.empty(); }
};

class NftRules {
 public:
  // Makes nothing yet: the table appears with the first claim.
  explicit NftRules(std::string table) : table_(std::move(table)) {}

  Result<> Set(const std::string& owner, const PodRules& rules);  // instead of what the owner claimed before
  Result<> Remove(const std::string& owner);                      // unknown owner: success
  // Forgets all claims, takes these, and makes the table anew; without claims the table is removed.
  Result<> Rebuild(const std::map<std::string, PodRules>& all);
  // Makes the table anew from the claims if it is missing in the kernel.
  Result<> Verify();
  // Removes the table if no owner claims anything. Guards stay until then, whoever asked for them: the link they guard has
  // route_localnet on. `unguard` is called for each such link before its guard goes.
  Result<> DropIfUnused(const std::function<void(const std::string& link)>& unguard);

 private:
  struct Element {
    std::string set;
    std::string key;    // as the kernel has it
    std::string end;    // interval sets: the first key behind
    std::string value;  // maps
    std::string chain;  // verdict maps: goto
    bool operator==(const Element&) const = default;
  };
  struct Chain {        // of one masqueraded network
    std::string name;
    sys::IpPrefix network;
  };
  struct Claim {
    std::string owner;
    Element element;
  };
  struct State {
    // Kept open: closing one waits until all that earlier transactions deleted is destroyed, an RCU grace period or two
    // of 10-15 ms (nft_rcv_nl_event in the kernel's nf_tables_api.c).
    std::optional<sys::NetlinkSocket> socket;
    bool table_exists = false;
    std::set<std::string> guarded;                             // links
    std::map<std::string, Chain> chains;                       // in the kernel, by name
    std::map<std::pair<std::string, std::string>, std::vector<Claim>> claims;  // by set and key; the last one counts
    std::map<std::string, std::vector<std::pair<std::string, std::string>>> owned;  // owner → keys

    void Forget() {
      table_exists = false;
      guarded.clear();
      chains.clear();
      claims.clear();
      owned.clear();
    }
  };

  static Element Guard(const std::string& link);
  static std::vector<Element> Elements(const PodRules& rules, std::vector<Chain>& chains);
  static Result<> Commit(State& state, sys::NetlinkBatch& batch);
  Result<> WriteAll(State& state) const;
  void PutTable(sys::NetlinkBatch& batch) const;
  void PutChain(sys::NetlinkBatch& batch, const Chain& chain) const;
  void PutElement(sys::NetlinkBatch& batch, const Element& element, bool add) const;
  void Claims(State& state, const std::string& owner, const PodRules& rules, sys::NetlinkBatch& batch) const;
  void Unclaim(State& state, const std::string& owner, sys::NetlinkBatch& batch) const;

  const std::string table_;
  // Held over the transaction: it waits for nobody but the kernel, and the order of claims is the order of commits.
  Synchronized<State> state_;
};

}  // namespace crisp::network
