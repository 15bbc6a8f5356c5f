#include "image/trust.h"

#include <algorithm>

#include "base/strings.h"
#include "image/registry_credentials.h"
#include "image/trust_openpgp.h"
#include "image/trust_payload.h"
#include "image/trust_sigstore.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

constexpr std::string_view kSentinel = "SignatureValidationFailed: ";
constexpr std::string_view kPayloadType = "application/vnd.dev.cosign.simplesigning.v1+json";
constexpr const char* kSignatureAnnotation = "dev.cosignproject.cosign/signature";
constexpr size_t kSignaturesMax = 128;  // of one image
constexpr size_t kReasonsMax = 8;       // told in an error

Error Refused(std::string_view why) { return Error(Code::kPermissionDenied, StrCat(kSentinel, why)); }

// Would another attempt give another answer? Then it is no judgement on the image.
bool IsJudgement(const Error& error) {
  switch (error.code()) {
    case Code::kInvalidArgument:
    case Code::kNotFound:
    case Code::kDataLoss: return true;
    default: return false;
  }
}

// A namespace of Kubernetes, which becomes a file's name.
bool IsNamespace(std::string_view name) {
  return name.size() <= 63 && !name.starts_with('.') && std::ranges::all_of(name, [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
         });
}

// Which signatures there are, and why those that were looked at did not help.
class Judge {
 public:
  Judge(const Ctx& ctx, const oci::Reference& reference, const std::vector<oci::Digest>& manifests)
      : ctx_(ctx), reference_(reference), manifests_(manifests) {}

  // One signature, already known to be by one of the requirement's keys: is it for this image? `material`: to be kept.
  bool Accepts(const Requirement& requirement, std::string_view payload, KeptSignature material) {
    Result<SignedClaim> claim =
        ParseSignedClaim(payload, material.is_sigstore ? SignatureKind::kSigstore : SignatureKind::kOpenPgp);
    if (!claim) return No(claim.error().message());
    if (std::ranges::find(manifests_, claim->manifest_digest) == manifests_.end()) {
      return No("a signature for another image, " + claim->manifest_digest.str());
    }
    if (!IdentityMatches(requirement.identity, reference_, claim->reference)) {
      return No(StrCat("a signature for the name ", Quote(claim->reference)));
    }
    material.manifest = claim->manifest_digest.str();
    accepted_ = std::move(material);
    return true;
  }
  bool No(std::string reason) {
    if (reasons_.size() < kReasonsMax && std::ranges::find(reasons_, reason) == reasons_.end()) {
      reasons_.push_back(std::move(reason));
    }
    return false;
  }

  const Ctx& ctx() const { return ctx_; }
  const oci::Reference& reference() const { return reference_; }
  const std::vector<oci::Digest>& manifests() const { return manifests_; }
  const KeptSignature& accepted() const { return accepted_; }
  std::string Reasons() const { return reasons_.empty() ? "no signature found" : Join(reasons_, "; "); }

 private:
  const Ctx& ctx_;
  const oci::Reference& reference_;
  const std::vector<oci::Digest>& manifests_;
  std::vector<std::string> reasons_;
  KeptSignature accepted_;
};

// ---- sigstore

// The manifest under the tag that holds the signatures of `image`; nothing: there is none.
Result<std::optional<oci::Manifest>> SignatureManifest(const Ctx& ctx, Repository& repository) {
  Result<ManifestBytes> bytes = repository.Resolve(ctx);
  if (!bytes && bytes.error().code() == Code::kNotFound) return std::optional<oci::Manifest>();
  if (!bytes) return std::move(bytes).error();
  auto parsed = TRY(oci::ParseManifest(bytes->bytes, bytes->content_type));
  auto* manifest = std::get_if<oci::Manifest>(&parsed);
  if (manifest == nullptr) return std::optional<oci::Manifest>();
  return std::optional<oci::Manifest>(std::move(*manifest));
}

bool SigstoreVerified(Judge& judge, const Requirement& requirement, const std::vector<PublicKey>& keys,
                      const KeptSignature& material) {
  auto verifies = [&](const PublicKey& key) { return key.Verifies(material.payload, material.signature); };
  if (std::ranges::none_of(keys, verifies)) return judge.No("a signature by none of the policy's keys");
  return judge.Accepts(requirement, material.payload, material);
}

Result<bool> SigstoreAccepts(Judge& judge, const Requirement& requirement, const std::vector<PublicKey>& keys,
                             Repository& repository, const oci::Descriptor& layer) {
  auto encoded = layer.annotations.find(kSignatureAnnotation);
  if (encoded == layer.annotations.end()) return judge.No("a payload without signature");
  const Result<std::string> signature = Base64Decode(encoded->second);
  if (!signature) return judge.No("a signature that is not base64");
  Result<std::string> payload = repository.FetchSmallBlob(judge.ctx(), layer, kSignatureBytesMax);
  if (!payload && IsJudgement(payload.error())) return judge.No(payload.error().message());
  const std::string text = TRY(std::move(payload));
  return SigstoreVerified(judge, requirement, keys, {.is_sigstore = true, .manifest = {}, .payload = text, .signature = *signature});
}

// None, and a reason, where one of them is no key.
std::vector<PublicKey> SigstoreKeys(Judge& judge, const Requirement& requirement) {
  std::vector<PublicKey> keys;
  for (const std::string& pem : requirement.key_data) {
    Result<PublicKey> key = PublicKey::Parse(pem);
    if (!key) {
      judge.No(key.error().message());
      return {};
    }
    keys.push_back(*std::move(key));
  }
  return keys;
}

Result<bool> SigstoreSigned(Judge& judge, const Requirement& requirement, const Registry& registry,
                            const Credentials& credentials) {
  const std::vector<PublicKey> keys = SigstoreKeys(judge, requirement);
  if (keys.empty()) return false;
  for (const oci::Digest& image : judge.manifests()) {
    const std::string name = StrCat(judge.reference().Name(), ":", image.algorithm_name(), "-", image.hex(), ".sig");
    Result<oci::Reference> tag = oci::Reference::Parse(name);
    if (!tag) continue;  // sha512: too long for a tag, so cosign has none
    std::unique_ptr<Repository> repository = TRY(registry.Open(*tag, credentials));
    Result<std::optional<oci::Manifest>> manifest = SignatureManifest(judge.ctx(), *repository);
    if (!manifest && IsJudgement(manifest.error())) {
      judge.No(manifest.error().message());
      continue;
    }
    if (!manifest) return std::move(manifest).error();
    if (!*manifest) continue;
    size_t count = 0;
    for (const oci::Descriptor& layer : (*manifest)->layers) {
      if (layer.media_type != kPayloadType) continue;
      if (++count > kSignaturesMax) return judge.No(StrCat("more than ", kSignaturesMax, " signatures"));
      if (TRY(SigstoreAccepts(judge, requirement, keys, *repository, layer))) return true;
    }
  }
  return false;
}

// ---- OpenPGP

// c/image marks the format of what is no plain OpenPGP message: "\0FORMAT\n".
std::optional<std::string_view> OpenPgpMessage(std::string_view blob) {
  constexpr std::string_view kMark("\0simple-signing\n", 16);
  if (blob.starts_with(kMark)) return blob.substr(kMark.size());
  if (blob.empty() || blob[0] == '\0') return std::nullopt;
  return blob;
}

Result<bool> OpenPgpVerified(Judge& judge, const Requirement& requirement, const OpenPgpKeys& keys,
                             std::string_view message) {
  Result<std::string> payload = keys.Verify(judge.ctx(), message);
  if (payload) {
    return judge.Accepts(requirement, *payload, {.is_sigstore = false, .manifest = {}, .payload = {}, .signature = std::string(message)});
  }
  TRY(judge.ctx().Check());
  return judge.No(payload.error().message());
}

// None, and a reason, where one of them is no key.
std::optional<OpenPgpKeys> OpenPgpRings(Judge& judge, const Requirement& requirement) {
  std::vector<std::string> rings;
  for (const std::string& key : requirement.key_data) {
    Result<std::string> ring = DearmorKeys(key);
    if (!ring) {
      judge.No(ring.error().message());
      return std::nullopt;
    }
    rings.push_back(*std::move(ring));
  }
  return OpenPgpKeys(std::move(rings));
}

Result<bool> OpenPgpSigned(Judge& judge, const Requirement& requirement, const std::string& lookaside_dir,
                           LookasideClient& lookaside) {
  const std::optional<OpenPgpKeys> keys = OpenPgpRings(judge, requirement);
  if (!keys) return false;
  Result<LookasideConfig> config = LoadLookaside(lookaside_dir);
  if (!config) return judge.No(config.error().message());
  const std::string base = LookasideBase(*config, judge.reference());
  for (const oci::Digest& image : judge.manifests()) {
    for (const std::string& blob : TRY(lookaside.Fetch(judge.ctx(), base, judge.reference(), image))) {
      std::optional<std::string_view> message = OpenPgpMessage(blob);
      if (message && TRY(OpenPgpVerified(judge, requirement, *keys, *message))) return true;
    }
  }
  return false;
}

// ---- what was kept

Result<bool> SignedByKept(Judge& judge, const Requirement& requirement, const std::vector<KeptSignature>& kept) {
  const bool is_sigstore = requirement.kind == Requirement::Kind::kSigstoreSigned;
  std::vector<PublicKey> keys;
  std::optional<OpenPgpKeys> rings;
  if (is_sigstore) {
    keys = SigstoreKeys(judge, requirement);
  } else {
    rings = OpenPgpRings(judge, requirement);
  }
  for (const KeptSignature& each : kept) {
    if (each.is_sigstore != is_sigstore) continue;
    if (is_sigstore && SigstoreVerified(judge, requirement, keys, each)) return true;
    if (rings && TRY(OpenPgpVerified(judge, requirement, *rings, each.signature))) return true;
  }
  return false;
}

std::string NameOf(const oci::Reference* reference) {
  return reference == nullptr ? std::string("an image without a name") : reference->str();
}

Error NotSigned(const PullPolicy& policy, const Requirement& requirement, const std::string& name, const Judge& judge,
                std::string_view advice = "") {
  const bool is_sigstore = requirement.kind == Requirement::Kind::kSigstoreSigned;
  return Refused(StrCat(name, ": not signed as ", policy.source, " wants (", is_sigstore ? "sigstoreSigned" : "signedBy",
                        "): ", judge.Reasons(), advice));
}

}  // namespace

bool PullPolicy::NeedsSignature() const { return std::ranges::any_of(requirements, &Requirement::NeedsSignature); }

Result<PullPolicy> ImageTrust::PolicyFor(const oci::Reference* reference, const std::string& pod_namespace) const {
  std::string path = options_.policy;
  if (!pod_namespace.empty() && !options_.policy_dir.empty()) {
    if (!IsNamespace(pod_namespace)) return Refused(StrCat(Quote(pod_namespace), " is no namespace"));
    const std::string own = StrCat(options_.policy_dir, "/", pod_namespace, ".json");
    if (sys::Exists(own)) path = own;
  }
  PullPolicy out;
  if (path.empty()) return out;
  const Result<std::string> text = sys::ReadFile(path);
  if (!text) return Refused(text.error().message());
  const Result<TrustPolicy> policy = ParseTrustPolicy(*text, path);
  if (!policy) return Refused(policy.error().message());
  const Scope scope = reference != nullptr ? FindScope(*policy, *reference) : Scope{"default", policy->fallback};
  out.source = StrCat(path, ", scope ", Quote(scope.name));
  out.requirements = scope.requirements;
  std::string all = *text;
  for (Requirement& requirement : out.requirements) {
    if (requirement.kind == Requirement::Kind::kReject) {
      return Refused(StrCat(NameOf(reference), ": rejected by ", out.source));
    }
    for (const std::string& key_path : requirement.key_paths) {
      Result<std::string> key = sys::ReadFile(key_path);
      if (!key) return Refused(StrCat(out.source, ": ", key.error().message()));
      all += *key;
      requirement.key_data.push_back(*std::move(key));
    }
  }
  out.digest = oci::Digest::Of(all).str();
  return out;
}

Result<std::vector<KeptSignature>> ImageTrust::Check(const Ctx& ctx, const PullPolicy& policy,
                                                     const oci::Reference& reference, const Credentials& credentials,
                                                     const std::vector<oci::Digest>& manifests) const {
  std::vector<KeptSignature> accepted;
  for (const Requirement& requirement : policy.requirements) {
    if (!requirement.NeedsSignature()) continue;
    Judge judge(ctx, reference, manifests);
    const bool is_sigstore = requirement.kind == Requirement::Kind::kSigstoreSigned;
    const bool is_signed = is_sigstore ? TRY(SigstoreSigned(judge, requirement, registry_, credentials))
                                       : TRY(OpenPgpSigned(judge, requirement, options_.lookaside_dir, lookaside_));
    if (!is_signed) return NotSigned(policy, requirement, reference.str(), judge);
    accepted.push_back(judge.accepted());
  }
  return accepted;
}

Result<> ImageTrust::CheckKept(const Ctx& ctx, const PullPolicy& policy, const oci::Reference* reference,
                               const std::vector<KeptSignature>& kept) const {
  if (!policy.NeedsSignature()) return {};
  if (reference == nullptr) {
    return Refused(StrCat(NameOf(reference), ": ", policy.source, " wants a signature, which is for a name"));
  }
  std::vector<oci::Digest> manifests;
  for (const KeptSignature& each : kept) manifests.push_back(TRY(oci::Digest::Parse(each.manifest)));
  for (const Requirement& requirement : policy.requirements) {
    if (!requirement.NeedsSignature()) continue;
    Judge judge(ctx, *reference, manifests);
    if (!TRY(SignedByKept(judge, requirement, kept))) {
      return NotSigned(policy, requirement, reference->str(), judge,
                       " among those that its pulls have kept; pull it again under this policy");
    }
  }
  return {};
}

}  // namespace crisp::image
