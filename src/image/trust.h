// The decision whether an image may be pulled, and whether it may be used: policy (trust_policy.h), keys, and the signatures that are looked for.
//
// The policy is read anew each time: POLICY_DIR/NAMESPACE.json if it is for a pod of that namespace and the
// file is there, else POLICY, else everything is accepted. A policy that cannot be read or is not understood accepts
// nothing. A signature counts if it is for the platform's manifest, or for the index that the reference names: the
// index's digest covers the manifest's.
// - sigstoreSigned: the tag sha256-HEX.sig of the image's repository, as cosign stores it; hosts and credentials as for
//   the image itself.
// - signedBy: lookaside (trust_lookaside.h).
// For a use no registry is asked: what counts are the signatures that were accepted at the image's pulls.
//
// Threading: any thread. Errors: kPermissionDenied with a message that begins with "SignatureValidationFailed: ": the
// kubelet looks for that prefix (k8s.io/cri-api pkg/errors), so don't put context before it. A registry or lookaside
// server that cannot be asked is kUnavailable "RegistryUnavailable: …", to be tried again.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/context.h"
#include "image/records.h"
#include "image/registry.h"
#include "image/trust_lookaside.h"
#include "image/trust_policy.h"

namespace crisp::image {

struct TrustOptions {
  std::string policy;         // path of a policy.json; empty: none
  std::string policy_dir;     // holds NAMESPACE.json; empty: none
  std::string lookaside_dir;  // registries.d
};

// What applies to one pull or use.
struct PullPolicy {
  std::string source;         // the policy's path and scope, for messages
  std::string digest;         // of the policy's text and the keys; empty: no policy
  Requirements requirements;  // with all keys read into key_data; empty: everything is accepted
  bool NeedsSignature() const;
};

class ImageTrust {
 public:
  // `registry` outlives this.
  ImageTrust(TrustOptions options, const Registry& registry) : options_(std::move(options)), registry_(registry) {}

  // Fails at once where no signature can help: a bad policy, a key that is not there, "reject". nullptr: an image
  // without a name, to which the policy's default applies.
  Result<PullPolicy> PolicyFor(const oci::Reference* reference, const std::string& pod_namespace) const;

  // `manifests`: the digests for which a signature may be, the platform's manifest first. Returns what was accepted.
  Result<std::vector<KeptSignature>> Check(const Ctx& ctx, const PullPolicy& policy, const oci::Reference& reference,
                                           const Credentials& credentials,
                                           const std::vector<oci::Digest>& manifests) const;

  // The same by what was kept of an image's pulls.
  Result<> CheckKept(const Ctx& ctx, const PullPolicy& policy, const oci::Reference* reference,
                     const std::vector<KeptSignature>& kept) const;

 private:
  const TrustOptions options_;
  const Registry& registry_;
  mutable LookasideClient lookaside_;
};

}  // namespace crisp::image
