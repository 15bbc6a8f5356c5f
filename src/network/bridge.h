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

Result<CniResult> BridgeAdd(const Ctx& ctx, const PluginCall& call, const PluginExec& exec);
Result<> BridgeDel(const Ctx& ctx, const PluginCall& call, const PluginExec& exec);
Result<> BridgeCheck(const Ctx& ctx, const PluginCall& call, const PluginExec& exec);

}  // namespace crisp::network
