#include "network/builtin.h"

#include <algorithm>

#include "base/strings.h"
#include "network/bridge.h"
#include "network/portmap.h"
#include "network/reference_chains.h"
#include "sys/file.h"

namespace crisp::network {

namespace {

CniResult LoopbackResult(const Attachment& attachment) {
  CniResult result;
  result.interfaces = {{.name = attachment.ifname, .mac = "00:00:00:00:00:00", .sandbox = attachment.netns}};
  for (const char* address : {"127.0.0.1/8", "::1/128"}) {
    result.ips.push_back({sys::IpPrefix::Parse(address).value(), std::nullopt, 0});
  }
  return result;
}

Result<> SetLoopback(const PluginCall& call, bool up) {
  sys::NetlinkBatch batch;
  sys::SetLink(batch, "lo", {.up = up});
  if (call.netns != nullptr) return call.netns->route.Send(batch);
  sys::UniqueFd netns = TRY(sys::OpenNetns(call.attachment->netns));
  sys::RouteSocket pod = TRY(sys::OpenRouteSocketIn(netns));
  return pod.Send(batch);
}

// In a chain lo is always up already and the result so far goes through unchanged.
Result<CniResult> LoopbackAdd(const PluginCall& call) {
  TRY(SetLoopback(call, true));
  return call.previous != nullptr ? *call.previous : LoopbackResult(*call.attachment);
}

Result<> AllowRouting(const PodRules& rules) {
  for (const std::string& link : rules.guarded_links) {
    TRY(sys::WriteExisting(StrCat("/proc/sys/net/ipv4/conf/", link, "/route_localnet"), "1"));
  }
  return {};
}

}  // namespace

bool Builtin::Supports(const PluginConf& plugin) {
  if (plugin.type == "loopback") return true;
  if (plugin.type == "bridge") return BridgeSupports(plugin.conf);
  if (plugin.type == "portmap") return PortmapSupports(plugin.conf);
  return false;  // host-local is never a plugin of the chain, only an address plugin
}

std::string Builtin::RuleOwner(const PluginCall& call) {
  return StrCat(call.plugin.type, "/", call.network.name, "/", call.attachment->container_id, "/", call.attachment->ifname);
}

Result<PodRules> Builtin::RulesOf(const PluginCall& call, const CniResult& result) {
  PodRules rules;
  if (call.plugin.type == "bridge") {
    BridgeConf conf = TRY(ParseBridgeConf(call.plugin.conf));
    if (!conf.masquerade) return rules;
    for (const CniIp& ip : result.ips) rules.masquerade.push_back(ip.address);
  } else if (call.plugin.type == "portmap") {
    rules = TRY(PortmapRules(TRY(PluginStdin(call)), result, call.attachment->ifname));
    TRY(AllowLoopbackSource(rules));
  }
  return rules;
}

Result<CniResult> Builtin::Add(const Ctx& ctx, const PluginCall& call) {
  TRY(ctx.Check());
  if (call.plugin.type == "loopback") return LoopbackAdd(call);
  if (call.plugin.type == "portmap" && call.previous == nullptr) {
    return Error(Code::kInvalidArgument, "portmap must be called as chained plugin");
  }
  CniResult result = call.plugin.type == "bridge" ? TRY(BridgeAdd(ctx, call, exec_)) : *call.previous;
  PodRules rules = TRY(RulesOf(call, result));
  if (rules.empty()) return result;
  TRY(rules_.Set(RuleOwner(call), rules));
  // Only now: the guard against what this lets in stands.
  TRY(AllowRouting(rules));
  // A kernel that cannot list connections has none to forget: as in the reference plugin no reason to fail.
  [[maybe_unused]] Result<> forgotten = ForgetUdpFlows(rules, *conntrack_.Lock());
  return result;
}

Result<> Builtin::Del(const Ctx& ctx, const PluginCall& call, bool by_program) {
  if (call.plugin.type == "loopback") return {};  // goes with the namespace
  // Rules first: once the address is released another pod may have it.
  TRY(rules_.Remove(RuleOwner(call)));
  if (by_program) TRY(RemoveReferenceChains(ctx, call.network.name, call.attachment->container_id));
  if (call.plugin.type == "bridge") return BridgeDel(ctx, call, exec_);
  if (call.previous != nullptr) {
    Result<PodRules> rules = PortmapRules(TRY(PluginStdin(call)), *call.previous, call.attachment->ifname);
    if (rules) [[maybe_unused]] Result<> forgotten = ForgetUdpFlows(*rules, *conntrack_.Lock());
  }
  return {};
}

Result<> Builtin::Check(const Ctx& ctx, const PluginCall& call) {
  if (call.plugin.type == "bridge") return BridgeCheck(ctx, call, exec_);
  return rules_.Verify();
}

}  // namespace crisp::network
