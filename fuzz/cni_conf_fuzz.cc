// Network configurations: files that an administrator or a network add-on wrote.
#include <cstdint>
#include <cstdlib>

#include "network/bridge.h"
#include "network/builtin.h"
#include "network/capability_args.h"
#include "network/portmap.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crisp;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)network::ParseBandwidth(bytes);
  Result<network::NetworkConf> conf = network::ParseNetworkConf(bytes, "conf");
  if (!conf) return 0;
  Result<network::NetworkConf> again = network::ParseNetworkConf(conf->text, "conf");
  if (!again || again->text != conf->text || again->plugins.size() != conf->plugins.size()) std::abort();
  for (const network::PluginConf& plugin : conf->plugins) {
    if (plugin.type.find('/') != std::string::npos || plugin.type.starts_with('.')) std::abort();
    (void)network::Builtin::Supports(plugin);
    Json with_name = plugin.conf;
    with_name["name"] = conf->name;
    (void)network::ParseBridgeConf(with_name);
    (void)network::ParseHostLocalConf(with_name, "IP=10.0.0.1;x");
    (void)network::PortmapRules(with_name, {}, "eth0");
  }
  return 0;
}
