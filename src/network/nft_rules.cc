#include "network/nft_rules.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "base/strings.h"
#include "network/nft_expressions.h"

namespace crisp::network {

namespace {

using sys::NetlinkBatch;

// Bit 13, as the reference portmap plugin's default: kube-proxy has 14 and 15.
constexpr uint32_t kMasqueradeMark = 1u << 13;
constexpr uint8_t kIpv4 = NFPROTO_IPV4, kIpv6 = NFPROTO_IPV6;

std::string_view Bytes(const uint8_t& byte) { return {reinterpret_cast<const char*>(&byte), 1}; }
std::string_view Bytes(const uint32_t& word) { return {reinterpret_cast<const char*>(&word), 4}; }

// nft's own type numbers, only so that `nft list` can show the elements (include/datatype.h of nftables).
constexpr uint32_t kTypeIpv4 = 7, kTypeIpv6 = 8, kTypeProtocol = 12, kTypeService = 13, kTypeIfname = 41;
constexpr uint32_t Concat(uint32_t a, uint32_t b) { return a << 6 | b; }

struct SetSpec {
  const char* name;
  uint32_t flags;
  uint32_t key_type, key_bytes;
  uint32_t value_type = 0, value_bytes = 0;
};
// A concatenation pads each field to 4 bytes.
constexpr SetSpec kSets[] = {
    {"port4", NFT_SET_MAP, Concat(kTypeProtocol, kTypeService), 8, Concat(kTypeIpv4, kTypeService), 8},
    {"port6", NFT_SET_MAP, Concat(kTypeProtocol, kTypeService), 8, Concat(kTypeIpv6, kTypeService), 20},
    {"port4on", NFT_SET_MAP, Concat(Concat(kTypeIpv4, kTypeProtocol), kTypeService), 12, Concat(kTypeIpv4, kTypeService), 8},
    {"port6on", NFT_SET_MAP, Concat(Concat(kTypeIpv6, kTypeProtocol), kTypeService), 24, Concat(kTypeIpv6, kTypeService), 20},
    {"masq4", NFT_SET_MAP, kTypeIpv4, 4, NFT_DATA_VERDICT, 0},
    {"masq6", NFT_SET_MAP, kTypeIpv6, 16, NFT_DATA_VERDICT, 0},
    {"hairpin4", NFT_SET_INTERVAL, kTypeIpv4, 4},
    {"hairpin6", NFT_SET_INTERVAL, kTypeIpv6, 16},
    {"guarded", 0, kTypeIfname, IFNAMSIZ},
};

NetlinkBatch& Begin(NetlinkBatch& batch, int message, int flags, std::string what) {
  nfgenmsg header{NFPROTO_INET, NFNETLINK_V0, 0};
  return batch.Begin(static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message), flags, header, std::move(what));
}

void PutEdge(NetlinkBatch& batch, int type) {
  nfgenmsg header{AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)};
  batch.Begin(static_cast<uint16_t>(type), 0, header, "");
}

class TableWriter {
 public:
  TableWriter(NetlinkBatch& batch, const std::string& table) : batch_(batch), table_(table) {}

  void Table(int message, std::string what) { Begin(batch_, message, 0, std::move(what)).PutString(NFTA_TABLE_NAME, table_); }

  void Set(const SetSpec& spec, uint32_t id) {
    Begin(batch_, NFT_MSG_NEWSET, NLM_F_CREATE, StrCat("create nftables set ", spec.name))
        .PutString(NFTA_SET_TABLE, table_)
        .PutString(NFTA_SET_NAME, spec.name);
    PutBig32(batch_, NFTA_SET_ID, id);
    PutBig32(batch_, NFTA_SET_FLAGS, spec.flags);
    PutBig32(batch_, NFTA_SET_KEY_TYPE, spec.key_type);
    PutBig32(batch_, NFTA_SET_KEY_LEN, spec.key_bytes);
    if ((spec.flags & NFT_SET_MAP) == 0) return;
    PutBig32(batch_, NFTA_SET_DATA_TYPE, spec.value_type);
    PutBig32(batch_, NFTA_SET_DATA_LEN, spec.value_bytes);
  }

  void Chain(const std::string& name, const char* type = nullptr, uint32_t hook = 0, int priority = 0) {
    Begin(batch_, NFT_MSG_NEWCHAIN, NLM_F_CREATE, StrCat("create nftables chain ", name))
        .PutString(NFTA_CHAIN_TABLE, table_)
        .PutString(NFTA_CHAIN_NAME, name);
    if (type == nullptr) return;
    batch_.PutString(NFTA_CHAIN_TYPE, type);
    batch_.Nest(NFTA_CHAIN_HOOK, [&] {
      PutBig32(batch_, NFTA_HOOK_HOOKNUM, hook);
      PutBig32(batch_, NFTA_HOOK_PRIORITY, static_cast<uint32_t>(priority));
    });
  }

  void Rule(const std::string& chain, const std::function<void(NftExpressions&)>& fill) {
    Begin(batch_, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, StrCat("add rule to nftables chain ", chain))
        .PutString(NFTA_RULE_TABLE, table_)
        .PutString(NFTA_RULE_CHAIN, chain);
    batch_.Nest(NFTA_RULE_EXPRESSIONS, [&] {
      NftExpressions expressions(batch_);
      fill(expressions);
    });
  }

  void HostPortRules();
  void PostroutingRules();
  void GuardRules();

 private:
  NetlinkBatch& batch_;
  const std::string& table_;
};

NftExpressions& OfFamily(NftExpressions& e, const uint8_t& family) {
  return e.Meta(NFT_META_NFPROTO, kRegister1).Equal(kRegister1, Bytes(family));
}

NftExpressions& ChangeMark(NftExpressions& e, uint32_t keep, uint32_t set) {
  return e.Meta(NFT_META_MARK, kRegister1).MaskAndXor(kRegister1, Bytes(keep), Bytes(set)).SetMark(kRegister1);
}

void TableWriter::HostPortRules() {
  static constexpr uint8_t kLoopback = 127;
  const std::string chain = "hostports";
  // Who may need the way back through us: the host itself by 127.0.0.1, and pods of the same bridge.
  Rule(chain, [&](NftExpressions& e) {
    OfFamily(e, kIpv4).Network(12, 1, kRegister1).Equal(kRegister1, Bytes(kLoopback));
    ChangeMark(e, ~kMasqueradeMark, kMasqueradeMark);
  });
  Rule(chain, [&](NftExpressions& e) {
    OfFamily(e, kIpv4).Network(12, 4, kRegister1).InSet(kRegister1, "hairpin4");
    ChangeMark(e, ~kMasqueradeMark, kMasqueradeMark);
  });
  Rule(chain, [&](NftExpressions& e) {
    OfFamily(e, kIpv6).Network(8, 16, kRegister1).InSet(kRegister1, "hairpin6");
    ChangeMark(e, ~kMasqueradeMark, kMasqueradeMark);
  });
  // A port of one address goes before the same port of all.
  Rule(chain, [&](NftExpressions& e) {
    OfFamily(e, kIpv4).Network(16, 4, kRegister1).Meta(NFT_META_L4PROTO, kRegister1b).Transport(2, 2, kRegister1c);
    e.FromMap(kRegister1, "port4on", kRegister1).DestinationNat(AF_INET, kRegister1, kRegister1b);
  });
  Rule(chain, [&](NftExpressions& e) {
    OfFamily(e, kIpv4).Meta(NFT_META_L4PROTO, kRegister1).Transport(2, 2, kRegister1b);
    e.FromMap(kRegister1, "port4", kRegister1).DestinationNat(AF_INET, kRegister1, kRegister1b);
  });
  Rule(chain, [&](NftExpressions& e) {
    OfFamily(e, kIpv6).Network(24, 16, kRegister1).Meta(NFT_META_L4PROTO, kRegister2).Transport(2, 2, kRegister2b);
    e.FromMap(kRegister1, "port6on", kRegister1).DestinationNat(AF_INET6, kRegister1, kRegister2);
  });
  Rule(chain, [&](NftExpressions& e) {
    OfFamily(e, kIpv6).Meta(NFT_META_L4PROTO, kRegister1).Transport(2, 2, kRegister1b);
    e.FromMap(kRegister1, "port6", kRegister1).DestinationNat(AF_INET6, kRegister1, kRegister2);
  });
  // No host port of ours after all: leave no mark behind for the host's own rules to find.
  Rule(chain, [&](NftExpressions& e) { ChangeMark(e, ~kMasqueradeMark, 0); });
}

void TableWriter::PostroutingRules() {
  Rule("postrouting", [&](NftExpressions& e) {
    static constexpr uint32_t kMark = kMasqueradeMark, kNone = 0;
    e.Meta(NFT_META_MARK, kRegister1).MaskAndXor(kRegister1, Bytes(kMark), Bytes(kNone)).Equal(kRegister1, Bytes(kMark));
    e.Masquerade();
  });
  Rule("postrouting", [&](NftExpressions& e) {
    OfFamily(e, kIpv4).Network(12, 4, kRegister1).FromMap(kRegister1, "masq4", 0);
  });
  Rule("postrouting", [&](NftExpressions& e) {
    OfFamily(e, kIpv6).Network(8, 16, kRegister1).FromMap(kRegister1, "masq6", 0);
  });
}

void TableWriter::GuardRules() {
  static constexpr uint8_t kLoopback = 127;
  for (uint32_t offset : {12, 16}) {  // source, destination
    Rule("guard", [&](NftExpressions& e) {
      e.Meta(NFT_META_IIFNAME, kRegister1).InSet(kRegister1, "guarded");
      OfFamily(e, kIpv4).Network(offset, 1, kRegister1).Equal(kRegister1, Bytes(kLoopback)).Verdict(NF_DROP);
    });
  }
}

std::string PadTo4(std::string_view bytes) {
  std::string padded(bytes);
  padded.resize((padded.size() + 3) / 4 * 4, '\0');
  return padded;
}

std::string Port(uint16_t port) {
  uint16_t big = htons(port);
  return PadTo4({reinterpret_cast<const char*>(&big), 2});
}

const char* PerFamily(const sys::IpAddress& address, const char* v4, const char* v6) { return address.v4() ? v4 : v6; }

}  // namespace

std::vector<NftRules::Element> NftRules::Elements(const PodRules& rules, std::vector<Chain>& chains) {
  std::vector<Element> elements;
  for (const sys::IpPrefix& pod : rules.masquerade) {
    const sys::IpPrefix network{pod.Network(), pod.length};
    std::string name = "net_" + network.Text();
    std::ranges::replace(name, ':', '_');  // nft could not parse its own listing
    chains.push_back({name, network});
    elements.push_back({.set = PerFamily(pod.address, "masq4", "masq6"), .key = std::string(pod.address.bytes()), .chain = name});
  }
  for (const PodRules::Port& port : rules.ports) {
    Element element{.key = PadTo4(Bytes(port.protocol)) + Port(port.host_port),
                    .value = std::string(port.pod.bytes()) + Port(port.pod_port)};
    if (port.host.unspecified()) {
      element.set = PerFamily(port.pod, "port4", "port6");
    } else {
      element.set = PerFamily(port.pod, "port4on", "port6on");
      element.key.insert(0, port.host.bytes());
    }
    elements.push_back(std::move(element));
  }
  for (const sys::IpPrefix& near : rules.hairpin) {
    elements.push_back({.set = PerFamily(near.address, "hairpin4", "hairpin6"),
                        .key = std::string(near.Network().bytes()),
                        .end = std::string(near.Last().Next().bytes())});
  }
  return elements;
}

NftRules::Element NftRules::Guard(const std::string& link) {
  std::string name = link.substr(0, IFNAMSIZ - 1);
  name.resize(IFNAMSIZ, '\0');
  return {.set = "guarded", .key = std::move(name)};
}

void NftRules::PutTable(NetlinkBatch& batch) const {
  TableWriter writer(batch, table_);
  // Created, deleted and created again in one transaction: empty afterwards, whatever was there before.
  writer.Table(NFT_MSG_NEWTABLE, "create nftables table");
  writer.Table(NFT_MSG_DELTABLE, "clear nftables table");
  writer.Table(NFT_MSG_NEWTABLE, "create nftables table");
  writer.Chain("hostports");
  writer.Chain("prerouting", "nat", NF_INET_PRE_ROUTING, -100 + 5);
  writer.Chain("output", "nat", NF_INET_LOCAL_OUT, -100 + 5);
  writer.Chain("postrouting", "nat", NF_INET_POST_ROUTING, 100 + 5);
  writer.Chain("guard", "filter", NF_INET_PRE_ROUTING, -300);
  uint32_t id = 0;
  for (const SetSpec& spec : kSets) writer.Set(spec, ++id);
  writer.HostPortRules();
  for (const char* chain : {"prerouting", "output"}) {
    writer.Rule(chain, [&](NftExpressions& e) {
      static constexpr uint32_t kLocal = 2;  // RTN_LOCAL
      e.FibDestinationType(kRegister1).Equal(kRegister1, Bytes(kLocal)).Verdict(NFT_JUMP, "hostports");
    });
  }
  writer.PostroutingRules();
  writer.GuardRules();
}

void NftRules::PutChain(NetlinkBatch& batch, const Chain& chain) const {
  TableWriter writer(batch, table_);
  writer.Chain(chain.name);
  const bool v4 = chain.network.address.v4();
  auto return_if_to = [&](const sys::IpPrefix& prefix) {
    std::string mask(prefix.address.size(), '\xff');
    mask = std::string(sys::IpPrefix{sys::IpAddress::FromBytes(prefix.address.family(), mask.data()), prefix.length}.Network().bytes());
    writer.Rule(chain.name, [&](NftExpressions& e) {
      const std::string zero(mask.size(), '\0');
      OfFamily(e, v4 ? kIpv4 : kIpv6).Network(v4 ? 16 : 24, static_cast<uint32_t>(mask.size()), kRegister1);
      e.MaskAndXor(kRegister1, mask, zero).Equal(kRegister1, prefix.Network().bytes()).Verdict(NFT_RETURN);
    });
  };
  return_if_to(chain.network);
  return_if_to(sys::IpPrefix::Parse(v4 ? "224.0.0.0/4" : "ff00::/8").value());
  writer.Rule(chain.name, [](NftExpressions& e) { e.Masquerade(); });
}

void NftRules::PutElement(NetlinkBatch& batch, const Element& element, bool add) const {
  Begin(batch, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM, add ? NLM_F_CREATE : 0,
        StrCat(add ? "add to" : "remove from", " nftables set ", element.set))
      .PutString(NFTA_SET_ELEM_LIST_TABLE, table_)
      .PutString(NFTA_SET_ELEM_LIST_SET, element.set);
  auto put_key = [&](std::string_view key) {
    batch.Nest(NFTA_SET_ELEM_KEY, [&] { batch.Put(NFTA_DATA_VALUE, key); });
  };
  batch.Nest(NFTA_SET_ELEM_LIST_ELEMENTS, [&] {
    batch.Nest(NFTA_LIST_ELEM, [&] {
      put_key(element.key);
      if (add && !element.value.empty()) {
        batch.Nest(NFTA_SET_ELEM_DATA, [&] { batch.Put(NFTA_DATA_VALUE, element.value); });
      } else if (add && !element.chain.empty()) {
        batch.Nest(NFTA_SET_ELEM_DATA, [&] { PutVerdict(batch, NFT_GOTO, element.chain); });
      }
    });
    if (element.end.empty()) return;
    batch.Nest(NFTA_LIST_ELEM, [&] {
      PutBig32(batch, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
      put_key(element.end);
    });
  });
}

Result<> NftRules::Commit(State& state, NetlinkBatch& changes) {
  if (!state.socket) state.socket = TRY(sys::NetlinkSocket::Open(NETLINK_NETFILTER));
  PutEdge(changes, NFNL_MSG_BATCH_END);
  return state.socket->Send(changes);
}

void NftRules::Unclaim(State& state, const std::string& owner, NetlinkBatch& batch) const {
  auto owned = state.owned.find(owner);
  if (owned == state.owned.end()) return;
  for (const auto& key : owned->second) {
    auto found = state.claims.find(key);
    std::vector<Claim>& claims = found->second;
    const Element before = claims.back().element;
    std::erase_if(claims, [&](const Claim& claim) { return claim.owner == owner; });
    if (!claims.empty() && claims.back().element == before) continue;
    PutElement(batch, before, false);
    if (claims.empty()) {
      state.claims.erase(found);
    } else {
      PutElement(batch, claims.back().element, true);
    }
  }
  state.owned.erase(owned);
}

void NftRules::Claims(State& state, const std::string& owner, const PodRules& rules, NetlinkBatch& batch) const {
  std::vector<Chain> chains;
  std::vector<Element> elements = Elements(rules, chains);
  for (const Chain& chain : chains) {
    if (state.chains.emplace(chain.name, chain).second) PutChain(batch, chain);
  }
  for (const std::string& link : rules.guarded_links) {
    if (state.guarded.insert(link).second) PutElement(batch, Guard(link), true);
  }
  for (Element& element : elements) {
    std::pair<std::string, std::string> key(element.set, element.key);
    std::vector<Claim>& claims = state.claims[key];
    if (!claims.empty() && claims.back().owner == owner && claims.back().element == element) continue;
    if (!claims.empty() && !(claims.back().element == element)) PutElement(batch, claims.back().element, false);
    if (claims.empty() || !(claims.back().element == element)) PutElement(batch, element, true);
    claims.push_back({owner, std::move(element)});
    state.owned[owner].push_back(std::move(key));
  }
}

// The whole table from the claims, in one transaction.
Result<> NftRules::WriteAll(State& state) const {
  NetlinkBatch batch;
  PutEdge(batch, NFNL_MSG_BATCH_BEGIN);
  PutTable(batch);
  for (const auto& [name, chain] : state.chains) PutChain(batch, chain);
  for (const std::string& link : state.guarded) PutElement(batch, Guard(link), true);
  for (const auto& [key, claims] : state.claims) PutElement(batch, claims.back().element, true);
  Result<> written = Commit(state, batch);
  state.table_exists = written.has_value();
  return written;
}

Result<> NftRules::Set(const std::string& owner, const PodRules& rules) {
  auto state = state_.Lock();
  NetlinkBatch batch;
  PutEdge(batch, NFNL_MSG_BATCH_BEGIN);
  Unclaim(*state, owner, batch);
  Claims(*state, owner, rules, batch);
  if (!state->table_exists) return state->claims.empty() && state->guarded.empty() ? Result<>() : WriteAll(*state);
  if (batch.entries().size() == 1) return {};
  // Whatever does not fit (somebody flushed the rule set, an element is missing) is mended from the claims.
  if (!Commit(*state, batch)) return WriteAll(*state);
  return {};
}

Result<> NftRules::Remove(const std::string& owner) { return Set(owner, {}); }

Result<> NftRules::Rebuild(const std::map<std::string, PodRules>& all) {
  auto state = state_.Lock();
  state->Forget();
  NetlinkBatch unused;
  for (const auto& [owner, rules] : all) Claims(*state, owner, rules, unused);
  if (!state->claims.empty() || !state->guarded.empty()) return WriteAll(*state);
  state->table_exists = true;  // perhaps, left by an earlier process
  NetlinkBatch batch;
  PutEdge(batch, NFNL_MSG_BATCH_BEGIN);
  TableWriter writer(batch, table_);
  writer.Table(NFT_MSG_NEWTABLE, "create nftables table");
  writer.Table(NFT_MSG_DELTABLE, "delete nftables table");
  TRY(Commit(*state, batch));
  state->table_exists = false;
  return {};
}

Result<> NftRules::Verify() {
  auto state = state_.Lock();
  if (state->claims.empty() && state->guarded.empty()) return {};
  if (!state->socket) return WriteAll(*state);
  NetlinkBatch request;
  Begin(request, NFT_MSG_GETTABLE, 0, "look up nftables table").PutString(NFTA_TABLE_NAME, table_);
  if (state->socket->Send(request)) return {};
  return WriteAll(*state);
}

Result<> NftRules::DropIfUnused(const std::function<void(const std::string& link)>& unguard) {
  auto state = state_.Lock();
  if (!state->claims.empty() || !state->table_exists) return {};
  for (const std::string& link : state->guarded) unguard(link);
  NetlinkBatch batch;
  PutEdge(batch, NFNL_MSG_BATCH_BEGIN);
  TableWriter writer(batch, table_);
  writer.Table(NFT_MSG_NEWTABLE, "create nftables table");
  writer.Table(NFT_MSG_DELTABLE, "delete nftables table");
  TRY(Commit(*state, batch));
  state->Forget();
  return {};
}

}  // namespace crisp::network
