// What comes with an image: payloads, names in them, signatures, keys, gpgv's report.
#include <cstdint>

#include "image/trust_openpgp.h"
#include "image/trust_payload.h"
#include "image/trust_policy.h"
#include "image/trust_sigstore.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crisp::image;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  static const auto kPulled = *crisp::oci::Reference::Parse("example.org/ns/app:v1");
  for (SignatureKind kind : {SignatureKind::kOpenPgp, SignatureKind::kSigstore}) {
    auto claim = ParseSignedClaim(text, kind);
    if (claim) (void)IdentityMatches({}, kPulled, claim->reference);
  }
  (void)IdentityMatches(
      {.kind = SignedIdentity::Kind::kRemapIdentity, .prefix = "example.org", .signed_prefix = "docker.io"}, kPulled,
      text);
  (void)DearmorKeys(text);
  (void)JudgeGpgStatus(text);
  if (auto key = PublicKey::Parse(text)) (void)key->Verifies(text, text);
  return 0;
}
