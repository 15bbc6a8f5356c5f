// Signatures of "simple signing" by OpenPGP keys: an inline-signed message whose content is the payload.
//
// The cryptography is GnuPG's verifier, gpgv: no agent, no home directory, no key but those that we give it in a memory
// file, which no other process sees by name. A damaged or hostile message can only harm that process.
// Threading: any thread; Verify blocks its own, for a few milliseconds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"

namespace crisp::image {

// Public keys, binary or in ASCII armor, several blocks one after the other too, to what gpgv reads. Pure.
// kInvalidArgument: neither.
Result<std::string> DearmorKeys(std::string_view keys);

// What gpgv reported by --status-fd: one good signature over one text, by a key that is neither expired nor revoked?
// kPermissionDenied says why not. Pure.
Result<> JudgeGpgStatus(std::string_view status);

class OpenPgpKeys {
 public:
  // `keys`: binary, from DearmorKeys.
  explicit OpenPgpKeys(std::vector<std::string> keys) : keys_(std::move(keys)) {}
  // The payload, if `message` is signed by one of the keys. kPermissionDenied: it is not. kInternal: gpgv did not run.
  Result<std::string> Verify(const Ctx& ctx, std::string_view message) const;

 private:
  std::vector<std::string> keys_;
};

}  // namespace crisp::image
