// The built-in `bridge` plugin (https://www.cni.dev/plugins/current/main/bridge).
#pragma once

#include <optional>
#include <string>

#include "base/context.h"
#include "network/host_local.h"
#include "network/plugin.h"
#include "network/plugin_exec.h"

namespace crisp::network {

struct BridgeConf {
  std::string bridge = "cni0";
  bool gateway = false, default_gateway = false, force_address = false, masquerade = false, hairpin = false, promiscuous = false;
  int mtu = 0;  // 0: the kernel's default
  std::optional<sys::MacAddress> mac;
  CniDns dns;
  std::string ipam_type;  // "": layer 2 only
};

bool BridgeSupports(const Json& conf);
Result<BridgeConf> ParseBridgeConf(const Json& conf);  // from the plugin's stdin; pure

// What the addresses from IPAM become: gateways where wanted and missing, default routes. Pure.
CniResult CompleteAddresses(CniResult ipam, const BridgeConf& conf);

// MAC addresses are made from the IP address: a later owner of the address has the same, so neighbours' caches stay right.
sys::MacAddress MacFor(const sys::IpAddress& address);

// A pair whose one end lies in a namespace already, for an attachment that comes later: the rest is a third of the work.
// Both ends are down, the host's is no port of any bridge and bears no alias.
struct PairSpec {
  std::string ifname;  // of the end in the namespace
  int mtu = 0;         // 0: the kernel's default
  friend bool operator==(const PairSpec&, const PairSpec&) = default;
};
// The name of the host's end.
Result<std::string> MakePairAhead(const PairSpec& spec, sys::BorrowedFd netns);
// The alias of such a host's end once it has an attachment. Not `link_alias` alone: a version of crisp that knows pairs by
// the attachment's name only takes what bears that for a stray.
std::string AliasOfPairMadeAhead(const std::string& link_alias);

Result<CniResult> BridgeAdd(const Ctx& ctx, const PluginCall& call, const PluginExec& exec);
Result<> BridgeDel(const Ctx& ctx, const PluginCall& call, const PluginExec& exec);
Result<> BridgeCheck(const Ctx& ctx, const PluginCall& call, const PluginExec& exec);

}  // namespace crisp::network
