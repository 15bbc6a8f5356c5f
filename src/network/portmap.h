// The built-in `portmap` plugin (https://www.cni.dev/plugins/current/meta/portmap): what a port mapping becomes in
// NftRules. It always hairpins ("snat": true, the default).
#pragma once

#include <optional>

#include "base/context.h"
#include "network/nft_rules.h"
#include "network/plugin.h"

namespace crisp::network {

bool PortmapSupports(const Json& conf);

// From the plugin's stdin and the result so far. Pure; `ifname` is the pod's interface whose addresses count.
Result<PodRules> PortmapRules(const Json& conf, const CniResult& previous, const std::string& ifname);

// Lets packets from 127.0.0.1 leave over the bridge of each pod address, and adds these bridges to the guarded ones.
Result<> AllowLoopbackSource(PodRules& rules);

// Forgets the UDP flows that still lead elsewhere: a client that goes on sending would never notice the new pod.
// `netfilter`: opened when it is needed, and kept open for the reason that NftRules has.
Result<> ForgetUdpFlows(const PodRules& rules, std::optional<sys::NetlinkSocket>& netfilter);

}  // namespace crisp::network
