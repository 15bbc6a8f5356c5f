// What a CNI plugin prints: results of every version, and errors.
#include <cstdint>
#include <cstdlib>

#include "network/cni_result.h"
#include "network/plugin_exec.h"
#include "network/portmap.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crisp;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)network::DecodePluginError(bytes, bytes, 1);
  Result<Json> json = ParseJson(bytes, "result", {.bytes_max = 1u << 20, .depth_max = 32});
  if (!json) return 0;
  Result<network::CniResult> result = network::ParseCniResult(*json);
  if (!result) return 0;
  for (std::string_view version : network::kCniVersions) {
    Json written = network::CniResultJson(*result, version).value();
    Result<network::CniResult> again = network::ParseCniResult(written);
    // What we write we can read, and the newest version loses nothing.
    if (!again || (version == "1.1.0" && network::CniResultJson(*again, version).value() != written)) std::abort();
  }
  Json conf = Json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":2}]}})");
  (void)network::PortmapRules(conf, *result, "eth0");
  return 0;
}
