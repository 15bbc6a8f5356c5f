// Which images may be pulled: containers-policy.json(5), as CRI-O and podman read it, from text to values. Pure.
//
// An image is judged by the requirements of the most specific scope that names it: name:tag or name@digest, then
// repository, its parents, the host, "*.example.com" of the host's domains from the longest on, transports.docker's "",
// and last the default. All requirements of that scope must be satisfied.
// Whatever is not understood makes the whole policy invalid, never laxer: an unknown member, a member named twice, a
// kind of requirement that we cannot check (Fulcio, Rekor, PKI). Threading: values. Errors: kInvalidArgument names the
// file and the member by its path.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/reference.h"

namespace crisp::image {

// Which names a signature may be for when the image is pulled as some reference.
struct SignedIdentity {
  enum class Kind {
    kMatchExact,              // the same name and tag
    kMatchRepoDigestOrExact,  // the same; pulled by digest: the same repository
    kMatchRepository,         // the same repository
    kExactReference,          // `reference` and nothing else
    kExactRepository,         // any tag of the repository `reference`
    kRemapIdentity,           // kMatchRepoDigestOrExact after `prefix` became `signed_prefix`
  };
  Kind kind = Kind::kMatchRepoDigestOrExact;
  std::string reference;  // normalised
  std::string prefix;
  std::string signed_prefix;
};

struct Requirement {
  enum class Kind { kAcceptAnything, kReject, kSignedBy, kSigstoreSigned };
  Kind kind = Kind::kReject;
  // Of the signed kinds: one signature by any of these keys is enough.
  std::vector<std::string> key_paths;
  std::vector<std::string> key_data;  // the same as bytes
  SignedIdentity identity;
  bool NeedsSignature() const { return kind == Kind::kSignedBy || kind == Kind::kSigstoreSigned; }
};
using Requirements = std::vector<Requirement>;

struct TrustPolicy {
  Requirements fallback;  // "default"
  std::map<std::string, Requirements> docker;
};

Result<TrustPolicy> ParseTrustPolicy(std::string_view text, std::string_view path);

// The names under which `reference` is looked up, most specific first; without "" and the default. Also those of
// registries.d. A reference with tag and digest is its digest's: nobody has checked that the tag names it.
std::vector<std::string> ScopesOf(const oci::Reference& reference);

struct Scope {
  std::string name;  // as the policy writes it; "default" for its default
  const Requirements& requirements;
};
Scope FindScope(const TrustPolicy& policy, const oci::Reference& reference);

// May a signature for the name `signed_reference` (foreign text) stand for what is pulled as `pulled`?
bool IdentityMatches(const SignedIdentity& identity, const oci::Reference& pulled, std::string_view signed_reference);

}  // namespace crisp::image
