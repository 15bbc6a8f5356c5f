// Signatures of cosign by a key: public keys in PEM, signatures over the payload's bytes. Pure (OpenSSL).
// Keys: ECDSA on P-256, P-384 and P-521, RSA of 2048 bits and more (PKCS#1 v1.5), both with SHA-256, and Ed25519.
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace crisp::image {

class PublicKey {
 public:
  // kInvalidArgument: no PEM public key, or one of a kind that is not in the list above.
  static Result<PublicKey> Parse(std::string_view pem);
  // `signature`: DER of ECDSA, or the raw bytes of the others. False for whatever is no valid signature.
  bool Verifies(std::string_view payload, std::string_view signature) const;

 private:
  struct Free {
    void operator()(evp_pkey_st* key) const;
  };
  explicit PublicKey(evp_pkey_st* key) : key_(key) {}
  std::unique_ptr<evp_pkey_st, Free> key_;
};

}  // namespace crisp::image
