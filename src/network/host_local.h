// The built-in `host-local` address plugin. Same configuration, results and files as the reference plugin
// (https://www.cni.dev/plugins/current/ipam/host-local), so that either can go on with the other's addresses:
//   <dataDir>/<network>/<address>           "<container id>\r\n<ifname>": reserved
//   <dataDir>/<network>/last_reserved_ip.N  where range set N goes on searching
//   <dataDir>/<network>/lock                flock(2) held around every change
// Threading: any thread; waits for the lock, at most until the context's deadline.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "network/plugin.h"

namespace crisp::network {

struct IpRange {
  sys::IpPrefix subnet;  // without host bits
  sys::IpAddress start, end, gateway;
  bool Contains(const sys::IpAddress& address) const {
    return subnet.Contains(address) && start <= address && address <= end;
  }
};
using IpRangeSet = std::vector<IpRange>;  // one address is taken from a set

struct HostLocalConf {
  std::string dir;  // of the network
  std::vector<IpRangeSet> sets;
  std::vector<sys::Route> routes;
  std::vector<sys::IpAddress> requested;
  std::string resolv_conf;
};

// From a plugin's stdin and CNI_ARGS (IP=…). Pure.
Result<HostLocalConf> ParseHostLocalConf(const Json& conf, std::string_view cni_args);
CniDns ParseResolvConf(std::string_view text);  // resolv.conf(5); pure
bool HostLocalSupports(const Json& ipam);  // no key that we do not know

Result<CniResult> HostLocalAdd(const Ctx& ctx, const HostLocalConf& conf, const Attachment& attachment, bool fresh_id);
// `known`: addresses that it may hold, to look at first; everything else is searched as well unless each range set gave
// one of these.
Result<> HostLocalDel(const Ctx& ctx, const HostLocalConf& conf, const Attachment& attachment, const CniResult* known);
Result<> HostLocalCheck(const Ctx& ctx, const HostLocalConf& conf, const Attachment& attachment);

}  // namespace crisp::network
