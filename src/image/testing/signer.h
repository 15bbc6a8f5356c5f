// Keys and signatures for tests, by OpenSSL, and cosign's way to store them in a registry.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "image/testing/fake_registry.h"

struct evp_pkey_st;

namespace crisp::image::testing {

class Signer {
 public:
  // "P-256", "P-384", "secp256k1", "ED25519", "X25519", "RSA", "RSA-1024".
  explicit Signer(std::string_view kind = "P-256");
  std::string PublicPem() const;
  std::string Sign(std::string_view text) const;

 private:
  std::shared_ptr<evp_pkey_st> key_;
};

// What cosign signs.
std::string CosignPayload(std::string_view manifest_digest, std::string_view name);
// Signs `payload` and adds it under the tag of `manifest_digest`, as the only signature.
void PublishSignature(FakeRegistry& registry, const Signer& signer, const std::string& manifest_digest,
                      const std::string& payload);

}  // namespace crisp::image::testing
