// Manifests and indexes of a registry that may be anybody's.
#include <cstdint>

#include "oci/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (const char* type : {"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json", ""}) {
    auto parsed = crisp::oci::ParseManifest(bytes, type);
    if (!parsed) continue;
    if (const auto* index = std::get_if<crisp::oci::Index>(&*parsed)) {
      (void)crisp::oci::ChoosePlatform(*index, crisp::oci::MachinePlatform());
    }
  }
  return 0;
}
