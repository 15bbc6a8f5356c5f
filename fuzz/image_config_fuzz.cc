// Image configs: hostile JSON becomes a checked value or an error.
#include <cstdint>

#include "oci/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)crisp::oci::ParseImageConfig({reinterpret_cast<const char*>(data), size}).has_value();
  return 0;
}
