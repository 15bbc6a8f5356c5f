// What CNI plugins print and what lies in the configuration directory. A result that was read must come back the same
// when it is written in its own version and read again.
#include <cstdint>
#include <cstdlib>

#include "base/json.h"
#include "network/bridge.h"
#include "network/cni_conf.h"
#include "network/cni_result.h"
#include "network/host_local.h"
#include "network/portmap.h"

using namespace crisp;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (auto conf = network::ParseNetworkConf(text, "fuzz.conflist")) {
    if (!network::ParseNetworkConf(conf->text, "again")) std::abort();
    for (const auto& plugin : conf->plugins) {
      (void)network::ParseBridgeConf(plugin.conf);
      (void)network::ParseHostLocalConf(plugin.conf, "IP=10.1.0.2");
      (void)network::PortmapRules(plugin.conf, {}, "eth0");
    }
  }
  (void)network::ParseResolvConf(text);
  auto json = ParseJson(text, "result");
  if (!json) return 0;
  auto result = network::ParseCniResult(*json);
  if (!result) return 0;
  auto written = network::CniResultJson(*result, "1.0.0");
  if (!written) std::abort();
  auto again = network::ParseCniResult(*written);
  if (!again || again->ips != result->ips || !(again->dns == result->dns)) std::abort();
  return 0;
}
