// certs.d/<host>/hosts.toml.
#include <cstdint>

#include "image/registry_hosts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)crisp::image::ParseHostsToml(text, "/etc/certs.d/example.org/hosts.toml", "example.org", false);
  (void)crisp::image::ParseHostsToml(text, "/etc/certs.d/_default/hosts.toml", "example.org:5000", true);
  return 0;
}
