#include "image/registry_image.h"

#include <algorithm>

#include "base/strings.h"

namespace crisp::image {

namespace {

// Documents fetched for one image. Entries without platform must be fetched to be judged, and indexes nest: without a
// bound a small hostile index asks for a million requests.
constexpr int kDocumentsMax = 64;

class RepositorySource : public ManifestSource {
 public:
  explicit RepositorySource(Repository& repository) : repository_(repository) {}
  Result<ManifestBytes> Manifest(const Ctx& ctx, const oci::Descriptor& descriptor) override {
    return repository_.FetchManifest(ctx, descriptor);
  }
  Result<std::string> SmallBlob(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t bytes_max) override {
    return repository_.FetchSmallBlob(ctx, descriptor, bytes_max);
  }

 private:
  Repository& repository_;
};

// What an index leads to is always an image: beside its images it has attestations and signatures, which look like
// artifacts.
enum class Artifacts { kRefused, kTaken };

class Walk {
 public:
  Walk(const Ctx& ctx, ManifestSource& source, const oci::Platform& platform, Artifacts artifacts)
      : ctx_(ctx), source_(source), platform_(platform), artifacts_(artifacts) {}

  // The image that `document` is or leads to. `platform_known`: an index entry has named the platform.
  // `depth`: indexes above it.
  Result<ResolvedImage> From(const ManifestBytes& document, bool platform_known, int depth);

 private:
  Result<ResolvedImage> FromManifest(const ManifestBytes& document, oci::Manifest manifest, bool platform_known);
  Result<ResolvedImage> FromIndex(const oci::Index& index, int depth);
  Result<ResolvedImage> FromEntry(const oci::Descriptor& entry, int depth);
  Error NoPlatform(const oci::Index& index) const;

  const Ctx& ctx_;
  ManifestSource& source_;
  const oci::Platform& platform_;
  const Artifacts artifacts_;
  int documents_ = 0;
};

Result<ResolvedImage> Walk::From(const ManifestBytes& document, bool platform_known, int depth) {
  auto parsed = TRY(oci::ParseManifest(document.bytes, document.content_type));
  if (auto* manifest = std::get_if<oci::Manifest>(&parsed)) {
    return FromManifest(document, std::move(*manifest), platform_known);
  }
  if (depth >= oci::kIndexDepthMax) {
    return Error(Code::kInvalidArgument, StrCat("indexes nested deeper than ", oci::kIndexDepthMax));
  }
  return FromIndex(std::get<oci::Index>(parsed), depth);
}

Result<ResolvedImage> Walk::FromManifest(const ManifestBytes& document, oci::Manifest manifest, bool platform_known) {
  if (!manifest.IsContainerImage() && artifacts_ == Artifacts::kTaken && documents_ == 0) {
    ResolvedImage out;
    out.manifest_digest = document.digest;
    out.manifest_bytes = document.bytes;
    out.manifest = std::move(manifest);
    out.is_artifact = true;
    return out;
  }
  if (!manifest.IsContainerImage()) {
    return Error(Code::kFailedPrecondition,
                 StrCat("not a container image: its config is of type ", Quote(manifest.config.media_type)));
  }
  ResolvedImage out;
  out.manifest_digest = document.digest;
  out.manifest_bytes = document.bytes;
  out.manifest = std::move(manifest);
  out.config_bytes = TRY(source_.SmallBlob(ctx_, out.manifest.config, oci::kConfigBytesMax));
  out.config = TRY(oci::ParseImageConfig(out.config_bytes));
  // An index's word counts more than the config's, which careless builders leave at the build machine's architecture.
  const oci::Platform& offered = out.config.platform;
  bool unsaid = offered.os.empty() && offered.architecture.empty();
  if (!platform_known && !unsaid && !oci::Matches(offered, platform_)) {
    return Error(Code::kNotFound, StrCat("the image is for ", Quote(offered.Text()), ", not for ", platform_.Text()));
  }
  TRY(oci::CheckLayers(out.manifest, out.config));
  return out;
}

Result<ResolvedImage> Walk::FromEntry(const oci::Descriptor& entry, int depth) {
  if (++documents_ > kDocumentsMax) {
    return Error(Code::kInvalidArgument, StrCat("more than ", kDocumentsMax, " documents to find one image"));
  }
  ManifestBytes document = TRY(source_.Manifest(ctx_, entry));
  // The index's word on the type and the answer's must be the same (ParseManifest compares both with the document's).
  TRY(oci::ParseManifest(document.bytes, document.content_type));
  document.content_type = entry.media_type;
  return From(document, entry.platform.has_value(), depth + 1);
}

Result<ResolvedImage> Walk::FromIndex(const oci::Index& index, int depth) {
  for (const oci::Descriptor* entry : oci::ChoosePlatform(index, platform_)) {
    Result<ResolvedImage> image = FromEntry(*entry, depth);
    // Only an entry that did not say its platform may turn out to be for another one, or not an image.
    bool another = !image && !entry->platform &&
                   (image.error().code() == Code::kNotFound || image.error().code() == Code::kFailedPrecondition);
    if (!another) return image;
  }
  return NoPlatform(index);
}

Error Walk::NoPlatform(const oci::Index& index) const {
  std::vector<std::string> offered;
  for (const oci::Descriptor& entry : index.manifests) {
    if (entry.platform && entry.platform->os != "unknown" && offered.size() < 10)
      offered.push_back(entry.platform->Text());
  }
  return Error(Code::kNotFound, StrCat("no image for ", platform_.Text(), " in the index, which has ",
                                       offered.empty() ? "none with a platform" : Quote(Join(offered, ", "))));
}

Result<ResolvedImage> Resolve(const Ctx& ctx, ManifestSource& source, ManifestBytes root, const oci::Platform& platform,
                              Artifacts artifacts) {
  ResolvedImage image = TRY(Walk(ctx, source, platform, artifacts).From(root, false, 0));
  image.root_digest = root.digest;
  image.root = std::move(root);
  return image;
}

}  // namespace

Result<ResolvedImage> ResolveImage(const Ctx& ctx, ManifestSource& source, ManifestBytes root,
                                   const oci::Platform& platform) {
  return Resolve(ctx, source, std::move(root), platform, Artifacts::kRefused);
}

Result<ResolvedImage> ResolveImage(const Ctx& ctx, Repository& repository, const oci::Platform& platform) {
  ManifestBytes root = TRY(repository.Resolve(ctx));
  RepositorySource source(repository);
  return Resolve(ctx, source, std::move(root), platform, Artifacts::kTaken);
}

std::string CheckpointOf(const oci::Manifest& manifest) {
  constexpr size_t kNameBytesMax = 1024;
  for (const char* key : {"org.criu.checkpoint.container.name", "io.kubernetes.cri-o.annotations.checkpoint.name",
                          "checkpointctl.annotation.checkpoint.name"}) {
    auto found = manifest.annotations.find(key);
    if (found != manifest.annotations.end() && !found->second.empty()) return found->second.substr(0, kNameBytesMax);
  }
  return {};
}

}  // namespace crisp::image
