// crispd's own configuration: the administrator's file, but a broken one must say so instead of ending the daemon.
#include <cstdint>

#include "daemon/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  crisp::daemon::Config config;
  if (crisp::daemon::ApplyToml(config, text, "crispd.toml")) (void)crisp::daemon::CheckConfig(config);
  (void)crisp::daemon::ApplySetting(config, text);
  return 0;
}
