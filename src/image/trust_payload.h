// What a signature says: the payload of "simple signing", which GPG signatures (containers-signature(5)) and cosign's
// share. Pure; a payload is parsed only behind the check of its signature, and still by whoever holds a key only.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"

namespace crisp::image {

enum class SignatureKind { kOpenPgp, kSigstore };

struct SignedClaim {
  oci::Digest manifest_digest;
  std::string reference;  // as it was signed: not normalised, may be anything
};

// kInvalidArgument: not this kind's payload, a member in "critical" that we do not know (the signer may have meant a
// restriction), or a member named twice.
Result<SignedClaim> ParseSignedClaim(std::string_view payload, SignatureKind kind);

inline constexpr size_t kSignatureBytesMax = 4u << 20;  // of a whole signature, and of a payload

}  // namespace crisp::image
