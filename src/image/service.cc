#include "image/service.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "base/failpoint.h"
#include "base/strings.h"
#include "image/artifact.h"
#include "image/bring.h"
#include "image/export.h"
#include "image/import.h"
#include "image/progress.h"
#include "image/registry.h"
#include "image/registry_image.h"
#include "image/stage.h"
#include "image/store.h"
#include "image/trust.h"
#include "oci/reference.h"

namespace crisp::image {

namespace {

// Who may share a pull: the same reference with the same credentials under the same policy. In memory only.
std::string FlightKey(const oci::Reference& reference, const Credentials& credentials,
                      const std::string& pod_namespace, const PullPolicy& policy) {
  std::string key = StrCat(reference.str(), "\n", pod_namespace, "\n", policy.digest);
  for (const std::string* part :
       {&credentials.username, &credentials.password, &credentials.auth, &credentials.server_address,
        &credentials.identity_token, &credentials.registry_token}) {
    key += StrCat("\n", part->size(), ":", *part);
  }
  return key;
}

oci::Platform WantedPlatform(const ServiceOptions& options) {
  oci::Platform platform = oci::MachinePlatform();
  if (!options.platform_os.empty()) platform.os = options.platform_os;
  if (!options.platform_arch.empty() && options.platform_arch != platform.architecture) {
    platform.architecture = options.platform_arch;
    platform.variant.clear();
  }
  return oci::Normalize(platform);
}

class ImageService final : public Service {
 public:
  ImageService(const ServiceOptions& options, std::unique_ptr<Store> store)
      : registry_({.certs_dir = options.certs_dir, .docker_config = options.docker_config}),
        trust_({.policy = options.signature_policy,
                .policy_dir = options.signature_policy_dir,
                .lookaside_dir = options.signature_lookaside_dir},
               registry_),
        platform_(WantedPlatform(options)),
        store_(std::move(store)),
        stager_(*store_, options.layers_parallel_max) {}

  Result<ImageRef> Pull(const Ctx& ctx, const std::string& reference, const Credentials& credentials,
                        const ProgressFn& progress, const std::string& pod_namespace,
                        const std::string& runtime_handler) override;
  Result<ImageRef> Find(const std::string& reference) const override;
  std::vector<ImageRef> List() const override { return store_->List(); }
  Result<> CheckAllowed(const Ctx& ctx, const Image& image, const std::string& reference,
                        const std::string& pod_namespace) const override;
  Result<> Remove(const std::string& reference, const std::string& runtime_handler) override;
  Result<> Untag(const std::string& reference) override;
  Result<> Lease(const std::string& image_id, const std::string& owner) override {
    return store_->Lease(image_id, owner);
  }
  Result<> Release(const std::string& owner) override { return store_->Release(owner); }
  Result<> KeepOnly(const std::function<bool(const std::string&)>& alive) override { return store_->KeepOnly(alive); }
  Result<std::vector<ImageRef>> Import(const Ctx& ctx, const std::string& path, const std::string& reference) override {
    return ImportArchive(ctx, *store_, stager_, platform_, path, reference);
  }
  Result<> Export(const Ctx& ctx, const std::string& reference, const std::string& path) override;
  Result<FsUsage> Usage() const override { return store_->Usage(); }

 private:
  struct Flight {
    bool done = false;
    Result<ImageRef> outcome = ImageRef();
  };
  Result<ImageRef> PullArtifact(const Ctx& ctx, Repository& repository, const ResolvedImage& resolved,
                                const ImageNames& names, const ProgressFn& progress);
  Result<ImageRef> PullAlone(const Ctx& ctx, const oci::Reference& reference, const Credentials& credentials,
                             const ProgressFn& progress, const PullPolicy& policy, const std::string& runtime_handler);

  const Registry registry_;
  const ImageTrust trust_;
  const oci::Platform platform_;
  std::unique_ptr<Store> store_;
  Stager stager_;
  std::mutex mutex_;
  std::condition_variable_any landed_;
  std::map<std::string, std::shared_ptr<Flight>> flights_;  // guarded by mutex_
};

Result<ImageRef> ImageService::Find(const std::string& reference) const {
  if (ImageRef image = store_->Find(reference)) return image;
  const bool is_id = oci::Digest::Parse(reference.size() == 64 ? "sha256:" + reference : reference).has_value();
  if (!is_id) TRY(oci::Reference::Parse(reference));
  return ImageRef();
}

// By which names the policy is asked: what the creator said, unless that is an id.
static std::vector<oci::Reference> NamesToJudge(const Image& image, const std::string& text) {
  Result<oci::Reference> said = oci::Reference::Parse(text);
  const bool is_id = text.empty() || image.id == text || image.id.starts_with("sha256:" + text);
  if (!is_id && said) return {*std::move(said)};
  std::vector<oci::Reference> names;
  for (const auto* list : {&image.repo_tags, &image.repo_digests}) {
    for (const std::string& name : *list) {
      if (Result<oci::Reference> parsed = oci::Reference::Parse(name)) names.push_back(*std::move(parsed));
    }
  }
  return names;
}

Result<> ImageService::CheckAllowed(const Ctx& ctx, const Image& image, const std::string& text,
                                    const std::string& pod_namespace) const {
  const std::optional<ImageRecord> record = store_->Record(image.id);
  if (!record) return Error(Code::kNotFound, StrCat("image ", image.id, " was removed meanwhile"));
  auto judge = [&](const oci::Reference* name) -> Result<> {
    const PullPolicy policy = TRY(trust_.PolicyFor(name, pod_namespace));
    return trust_.CheckKept(ctx, policy, name, record->signatures);
  };
  const std::vector<oci::Reference> names = NamesToJudge(image, text);
  if (names.empty()) return judge(nullptr);
  Result<> first = judge(&names.front());
  for (size_t i = 1; i < names.size() && !first; ++i) {
    if (judge(&names[i])) return {};
  }
  return first;
}

// Single flight: whoever asks for what is being pulled gets that pull's result.
Result<ImageRef> ImageService::Pull(const Ctx& ctx, const std::string& text, const Credentials& credentials,
                                    const ProgressFn& progress, const std::string& pod_namespace,
                                    const std::string& runtime_handler) {
  const oci::Reference reference = TRY(oci::Reference::Parse(text));
  const PullPolicy policy = TRY(trust_.PolicyFor(&reference, pod_namespace));
  const std::string key =
      StrCat(FlightKey(reference, credentials, pod_namespace, policy), "\n", runtime_handler);
  std::shared_ptr<Flight> flight;
  while (flight == nullptr) {
    TRY(ctx.Check());
    std::unique_lock lock(mutex_);
    auto [found, is_mine] = flights_.try_emplace(key);
    if (is_mine) {
      flight = found->second = std::make_shared<Flight>();
      break;
    }
    ctx.Stage("wait for the same pull");
    std::shared_ptr<Flight> others = found->second;
    landed_.wait_until(lock, ctx.stop(), std::min(ctx.deadline(), Clock::now() + std::chrono::hours(24)),
                       [&] { return others->done; });
    if (!others->done) continue;
    if (others->outcome) return others->outcome;
    const Code code = others->outcome.error().code();
    // Its caller went away; ours did not.
    if (code != Code::kCancelled && code != Code::kDeadlineExceeded) return others->outcome;
  }
  Result<ImageRef> outcome = PullAlone(ctx, reference, credentials, progress, policy, runtime_handler);
  if (!outcome && outcome.error().code() == Code::kNotFound) {
    outcome = Error(Code::kNotFound, StrCat("image ", Quote(reference.str()), ": ", outcome.error().message()));
  }
  std::lock_guard lock(mutex_);
  flight->done = true;
  flight->outcome = outcome;
  flights_.erase(key);
  landed_.notify_all();
  return outcome;
}

Result<ImageRef> ImageService::PullAlone(const Ctx& ctx, const oci::Reference& reference,
                                         const Credentials& credentials, const ProgressFn& progress,
                                         const PullPolicy& policy, const std::string& runtime_handler) {
  ctx.Stage("resolve image");
  std::unique_ptr<Repository> repository = TRY(registry_.Open(reference, credentials));
  auto names_for = [&](const oci::Digest& root) { return ImageNames{reference.RepoTag(), reference.RepoDigest(root), {}, runtime_handler}; };

  // HEAD first: it is not counted by registries that limit pulls, and mostly the answer is "what you have". Not where a
  // signature is wanted: it may be the platform's manifest's, and what is here may have come under another policy.
  if (!policy.NeedsSignature()) {
    oci::Descriptor head = TRY(repository->Head(ctx));
    if (ImageRef known = store_->FindByRootDigest(head.digest)) {
      Result<ImageRef> named = store_->AddNames(known->id, names_for(head.digest));
      if (named || named.error().code() != Code::kNotFound) return named;
    }
  }
  ResolvedImage resolved = TRY(ResolveImage(ctx, *repository, platform_));
  ctx.Stage("check signatures");
  std::vector<oci::Digest> may_be_signed = {resolved.manifest_digest};
  if (resolved.root_digest != resolved.manifest_digest) may_be_signed.push_back(resolved.root_digest);
  ImageNames names = names_for(resolved.root_digest);
  names.signatures = TRY(trust_.Check(ctx, policy, reference, credentials, may_be_signed));
  FAILPOINT("pull.after_resolve");
  if (resolved.is_artifact) return PullArtifact(ctx, *repository, resolved, names, progress);
  const std::string id = resolved.manifest.config.digest.str();
  // The same image by another manifest: compressed otherwise, or in an index with other platforms.
  if (Result<ImageRef> named = store_->AddNames(id, names, CheckpointOf(resolved.manifest).empty()); named || named.error().code() != Code::kNotFound)
    return named;

  WantedImage wanted{.id = resolved.manifest.config.digest,
                     .config_bytes = std::move(resolved.config_bytes),
                     .config = std::move(resolved.config),
                     .size_bytes = resolved.manifest.config.size,
                     .names = {names},
                     .checkpoint_of = CheckpointOf(resolved.manifest)};
  Progress reporter(progress);
  for (size_t i = 0; i < resolved.manifest.layers.size(); ++i) {
    const oci::Descriptor& layer = resolved.manifest.layers[i];
    TRY(oci::CompressionOf(layer));  // refuses what is no layer: encrypted, a file system image (S14)
    wanted.size_bytes += layer.size;
    reporter.Add(layer.digest.str(), layer.size);
    wanted.layers.push_back({.diff_id = wanted.config.diff_ids[i],
                             .blob_digest = layer.digest,
                             .blob_bytes = layer.size,
                             .fetch =
                                 [&repository, &layer](const Ctx& fetch_ctx, const BlobSink& sink) {
                                   return repository->FetchBlob(fetch_ctx, layer, 0, sink);
                                 },
                             .reject = [&repository, &layer] { return repository->RejectBlob(layer); }});
  }
  ImageRef image = TRY(BringIn(ctx, *store_, stager_, std::move(wanted),
                               [&](size_t layer, uint64_t bytes) { reporter.Report(layer, bytes); }));
  reporter.Done();
  return image;
}

Result<ImageRef> ImageService::PullArtifact(const Ctx& ctx, Repository& repository, const ResolvedImage& resolved,
                                            const ImageNames& names, const ProgressFn& progress) {
  ArtifactPlan plan = TRY(PlanArtifact(resolved.manifest, resolved.manifest_digest, platform_));
  if (Result<ImageRef> named = store_->AddNames(plan.id.str(), names); named || named.error().code() != Code::kNotFound)
    return named;
  Progress reporter(progress);
  for (const ArtifactFile& file : plan.files) reporter.Add(file.blob.digest.str(), file.blob.size);
  ImageRef image = TRY(BringInArtifact(ctx, *store_, repository, plan, names,
                                       [&](size_t file, uint64_t bytes) { reporter.Report(file, bytes); }));
  reporter.Done();
  return image;
}

Result<> ImageService::Remove(const std::string& reference, const std::string& runtime_handler) {
  ImageRef image = TRY(Find(reference));
  if (image == nullptr) return {};
  if (!runtime_handler.empty()) return store_->RemoveHandler(image->id, runtime_handler);
  return store_->Remove(image->id);
}

Result<> ImageService::Untag(const std::string& text) {
  const oci::Reference reference = TRY(oci::Reference::Parse(text));
  return store_->Untag(reference.has_digest() ? reference.RepoDigest(reference.digest()) : reference.RepoTag());
}

Result<> ImageService::Export(const Ctx& ctx, const std::string& reference, const std::string& path) {
  ImageRef image = TRY(Find(reference));
  std::optional<ImageRecord> record;
  if (image != nullptr) record = store_->Record(image->id);
  if (!record) return Error(Code::kNotFound, StrCat("image ", Quote(reference), " not found"));
  // Named by a tag, it leaves under that tag alone: skopeo and podman take no archive of more than one name.
  Result<oci::Reference> name = oci::Reference::Parse(reference);
  bool is_tag = name && !name->has_digest() && std::ranges::count(record->tags, name->RepoTag()) > 0;
  if (is_tag) record->tags = {name->RepoTag()};
  Store::Pin pin(*store_, record->layers);
  return ExportImage(ctx, *store_, *record, path);
}

}  // namespace

Result<std::unique_ptr<Service>> Service::Open(const ServiceOptions& options, state::Database& db) {
  std::unique_ptr<Store> store = TRY(Store::Open(options, db));
  return std::unique_ptr<Service>(std::make_unique<ImageService>(options, std::move(store)));
}

}  // namespace crisp::image
