// policy.json and registries.d. What parses is also asked about.
#include <cstdint>

#include "image/trust_lookaside.h"
#include "image/trust_policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  static const auto kPulled = *crisp::oci::Reference::Parse("a.b.example.org:5000/ns/app:v1");
  crisp::image::LookasideConfig config;
  if (crisp::image::AddRegistriesFile(config, text, "a.yaml")) (void)crisp::image::LookasideBase(config, kPulled);
  auto policy = crisp::image::ParseTrustPolicy(text, "policy.json");
  if (!policy) return 0;
  for (const auto& requirement : crisp::image::FindScope(*policy, kPulled).requirements) {
    (void)crisp::image::IdentityMatches(requirement.identity, kPulled, "example.org/ns/app:v1");
  }
  return 0;
}
