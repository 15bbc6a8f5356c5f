// The plugins that nearly every node uses, without starting programs: loopback, bridge, host-local and portmap. Same
// configuration, results and files as the reference plugins (https://www.cni.dev/plugins/current); packet rules are
// nftables of our own instead of iptables chains, and removal removes the reference plugins' chains as well.
// What a configuration asks beyond Supports() is left to the real plugin. Threading: any thread.
#pragma once

#include <string>

#include "base/context.h"
#include "network/host_local.h"
#include "network/nft_rules.h"
#include "network/plugin.h"
#include "network/plugin_exec.h"

namespace crisp::network {

// The name of the host's end of an attachment's veth pair: what is recorded of a pair that was made ahead, else the same
// for the same attachment, so that whoever comes after a crash finds it.
std::string HostLinkName(const Attachment& attachment);

class Builtin {
 public:
  // `rules` and `exec` outlive this. `exec` is for address plugins other than host-local.
  Builtin(NftRules& rules, const PluginExec& exec) : rules_(rules), exec_(exec) {}

  // Whether we can do all that this configuration asks for.
  static bool Supports(const PluginConf& plugin);

  Result<CniResult> Add(const Ctx& ctx, const PluginCall& call);
  // Idempotent. `by_program`: ADD was done by the reference plugin, whose iptables chains go too.
  Result<> Del(const Ctx& ctx, const PluginCall& call, bool by_program);
  Result<> Check(const Ctx& ctx, const PluginCall& call);

  // What rules the attachment has by ADD of this plugin with this result: how the table is rebuilt after a crash.
  static Result<PodRules> RulesOf(const PluginCall& call, const CniResult& result);
  // The key of an attachment's claims in the table.
  static std::string RuleOwner(const PluginCall& call);

 private:
  NftRules& rules_;
  const PluginExec& exec_;
  Synchronized<std::optional<sys::NetlinkSocket>> conntrack_;  // held over a request to the kernel
};

}  // namespace crisp::network
