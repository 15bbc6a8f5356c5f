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

  // One signature, already known to be by one of the requirement's keys: is it for this image?
  bool Accepts(const Requirement& requirement, SignatureKind kind, std::string_view payload) {
    Result<SignedClaim> claim = ParseSignedClaim(payload, kind);
    if (!claim) return No(claim.error().message());
    if (std::ranges::find(manifests_, claim->manifest_digest) == manifests_.end()) {
      return No("a signature for another image, " + claim->manifest_digest.str());
    }
    if (IdentityMatches(requirement.identity, reference_, claim->reference)) return true;
    return No(StrCat("a signature for the name ", Quote(claim->reference)));
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
  std::string Reasons() const { return reasons_.empty() ? "no signature found" : Join(reasons_, "; "); }

 private:
  const Ctx& ctx_;
  const oci::Reference& reference_;
  const std::vector<oci::Digest>& manifests_;
  std::vector<std::string> reasons_;
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

Result<bool> SigstoreAccepts(Judge& judge, const Requirement& requirement, const std::vector<PublicKey>& keys,
                             Repository& repository, const oci::Descriptor& layer) {
  auto encoded = layer.annotations.find(kSignatureAnnotation);
  if (encoded == layer.annotations.end()) return judge.No("a payload without signature");
  const Result<std::string> signature = Base64Decode(encoded->second);
  if (!signature) return judge.No("a signature that is not base64");
  Result<std::string> payload = repository.FetchSmallBlob(judge.ctx(), layer, kSignatureBytesMax);
  if (!payload && IsJudgement(payload.error())) return judge.No(payload.error().message());
  const std::string text = TRY(std::move(payload));
  if (std::ranges::none_of(keys, [&](const PublicKey& key) { return key.Verifies(text, *signature); })) {
    return judge.No("a signature by none of the policy's keys");
  }
  return judge.Accepts(requirement, SignatureKind::kSigstore, text);
}

Result<bool> SigstoreSigned(Judge& judge, const Requirement& requirement, const Registry& registry,
                            const Credentials& credentials) {
  std::vector<PublicKey> keys;
  for (const std::string& pem : requirement.key_data) {
    Result<PublicKey> key = PublicKey::Parse(pem);
    if (!key) return judge.No(key.error().message());
    keys.push_back(*std::move(key));
  }
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

Result<bool> OpenPgpSigned(Judge& judge, const Requirement& requirement, const std::string& lookaside_dir,
                           LookasideClient& lookaside) {
  std::vector<std::string> rings;
  for (const std::string& key : requirement.key_data) {
    Result<std::string> ring = DearmorKeys(key);
    if (!ring) return judge.No(ring.error().message());
    rings.push_back(*std::move(ring));
  }
  const OpenPgpKeys keys(std::move(rings));
  Result<LookasideConfig> config = LoadLookaside(lookaside_dir);
  if (!config) return judge.No(config.error().message());
  const std::string base = LookasideBase(*config, judge.reference());
  for (const oci::Digest& image : judge.manifests()) {
    for (const std::string& blob : TRY(lookaside.Fetch(judge.ctx(), base, judge.reference(), image))) {
      std::optional<std::string_view> message = OpenPgpMessage(blob);
      if (!message) continue;
      Result<std::string> payload = keys.Verify(judge.ctx(), *message);
      if (payload) {
        if (judge.Accepts(requirement, SignatureKind::kOpenPgp, *payload)) return true;
        continue;
      }
      TRY(judge.ctx().Check());
      judge.No(payload.error().message());
    }
  }
  return false;
}

}  // namespace

bool PullPolicy::NeedsSignature() const { return std::ranges::any_of(requirements, &Requirement::NeedsSignature); }

Result<PullPolicy> ImageTrust::PolicyFor(const oci::Reference& reference, const std::string& pod_namespace) const {
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
  const Scope scope = FindScope(*policy, reference);
  out.source = StrCat(path, ", scope ", Quote(scope.name));
  out.requirements = scope.requirements;
  std::string all = *text;
  for (Requirement& requirement : out.requirements) {
    if (requirement.kind == Requirement::Kind::kReject) {
      return Refused(StrCat(reference.str(), ": rejected by ", out.source));
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

Result<> ImageTrust::Check(const Ctx& ctx, const PullPolicy& policy, const oci::Reference& reference,
                           const Credentials& credentials, const std::vector<oci::Digest>& manifests) const {
  for (const Requirement& requirement : policy.requirements) {
    if (!requirement.NeedsSignature()) continue;
    Judge judge(ctx, reference, manifests);
    const bool is_sigstore = requirement.kind == Requirement::Kind::kSigstoreSigned;
    const bool accepted = is_sigstore ? TRY(SigstoreSigned(judge, requirement, registry_, credentials))
                                      : TRY(OpenPgpSigned(judge, requirement, options_.lookaside_dir, lookaside_));
    if (!accepted) {
      return Refused(StrCat(reference.str(), ": not signed as ", policy.source, " wants (",
                            is_sigstore ? "sigstoreSigned" : "signedBy", "): ", judge.Reasons()));
    }
  }
  return {};
}

}  // namespace crisp::image
