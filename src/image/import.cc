#include "image/import.h"

#include "base/json.h"
#include "base/strings.h"
#include "image/archive.h"
#include "image/bring.h"
#include "image/registry_image.h"
#include "oci/reference.h"

namespace crisp::image {

namespace {

constexpr const char* kContainerdName = "io.containerd.image.name";           // a whole reference
constexpr const char* kRefName = "org.opencontainers.image.ref.name";         // a reference, or just a tag
constexpr size_t kImagesMax = 100;

std::string BlobName(const oci::Digest& digest) { return StrCat("blobs/", digest.algorithm_name(), "/", digest.hex()); }

// The blobs of an OCI layout.
class LayoutSource final : public ManifestSource {
 public:
  explicit LayoutSource(const ArchiveFile& file) : file_(file) {}
  Result<ManifestBytes> Manifest(const Ctx& ctx, const oci::Descriptor& descriptor) override {
    ManifestBytes manifest;
    manifest.bytes = TRY(SmallBlob(ctx, descriptor, oci::kManifestBytesMax));
    manifest.content_type = descriptor.media_type;
    manifest.digest = descriptor.digest;
    return manifest;
  }
  Result<std::string> SmallBlob(const Ctx&, const oci::Descriptor& descriptor, uint64_t bytes_max) override {
    std::string bytes = TRY(file_.Read(BlobName(descriptor.digest), bytes_max));
    if (bytes.size() != descriptor.size || oci::Digest::Of(bytes, descriptor.digest.algorithm()) != descriptor.digest) {
      return Error(Code::kDataLoss, StrCat("the archive's ", descriptor.digest.str(), " has other bytes"));
    }
    return bytes;
  }

 private:
  const ArchiveFile& file_;
};

// What one archive holds for us, before anything is unpacked.
struct Found {
  WantedImage image;
  std::vector<std::string> tags;  // normalised
};

// Names in an archive are somebody else's wish: what does not parse, or has a digest, is left out.
void AddTag(std::vector<std::string>& tags, const std::string& name) {
  Result<oci::Reference> reference = oci::Reference::Parse(name);
  if (reference && !reference->RepoTag().empty()) tags.push_back(reference->RepoTag());
}

std::vector<std::string> TagsOf(const oci::Descriptor& descriptor) {
  std::vector<std::string> tags;
  if (auto name = descriptor.annotations.find(kContainerdName); name != descriptor.annotations.end()) AddTag(tags, name->second);
  if (auto name = descriptor.annotations.find(kRefName); tags.empty() && name != descriptor.annotations.end()) {
    if (name->second.find('/') != std::string::npos) AddTag(tags, name->second);  // else only a tag, of what is not said
  }
  return tags;
}

Result<Found> FromLayoutEntry(const Ctx& ctx, const ArchiveFile& file, const oci::Descriptor& entry,
                              const oci::Platform& platform) {
  LayoutSource source(file);
  ManifestBytes root = TRY(source.Manifest(ctx, entry));
  ResolvedImage resolved = TRY(ResolveImage(ctx, source, std::move(root), platform));
  Found found;
  found.tags = TagsOf(entry);
  found.image.id = resolved.manifest.config.digest;
  found.image.config_bytes = std::move(resolved.config_bytes);
  found.image.config = std::move(resolved.config);
  found.image.size_bytes = resolved.manifest.config.size;
  found.image.checkpoint_of = CheckpointOf(resolved.manifest);
  for (size_t i = 0; i < resolved.manifest.layers.size(); ++i) {
    const oci::Descriptor& layer = resolved.manifest.layers[i];
    TRY(oci::CompressionOf(layer));
    const std::string name = BlobName(layer.digest);
    if (file.SizeOf(name) != layer.size) {
      return Error(Code::kDataLoss, StrCat("the archive's layer ", layer.digest.str(), " is missing or has another size"));
    }
    found.image.size_bytes += layer.size;
    found.image.layers.push_back({.diff_id = found.image.config.diff_ids[i],
                                  .blob_digest = layer.digest,
                                  .blob_bytes = layer.size,
                                  .fetch = [&file, name](const Ctx& fetch_ctx, const BlobSink& sink) {
                                    return file.Stream(fetch_ctx, name, sink);
                                  }});
  }
  return found;
}

Result<std::vector<Found>> FromLayout(const Ctx& ctx, const ArchiveFile& file, const oci::Platform& platform) {
  const std::string bytes = TRY(file.Read("index.json", oci::kManifestBytesMax));
  auto index = TRY(oci::ParseManifest(bytes, oci::media_type::kOciIndex), "index.json");
  std::vector<Found> all;
  std::optional<Error> not_for_us;
  for (const oci::Descriptor& entry : std::get<oci::Index>(index).manifests) {
    if (all.size() >= kImagesMax) return Error(Code::kInvalidArgument, "the archive has too many images");
    Result<Found> found = FromLayoutEntry(ctx, file, entry, platform);
    if (!found && (found.error().code() == Code::kNotFound || found.error().code() == Code::kFailedPrecondition)) {
      not_for_us = std::move(found).error();  // another platform, or an artifact that is no image
      continue;
    }
    all.push_back(TRY(std::move(found)));
  }
  if (all.empty() && not_for_us) return *std::move(not_for_us);
  return all;
}

Result<Found> FromDockerEntry(const ArchiveFile& file, const Json& entry, const oci::Platform& platform) {
  if (!entry.is_object()) return Error(Code::kInvalidArgument, "manifest.json: an entry is no object");
  Found found;
  const std::string config_name = TRY(JsonGet<std::string>(entry, "Config"), "manifest.json");
  const auto layers = TRY(JsonGet<std::vector<std::string>>(entry, "Layers"), "manifest.json");
  for (const std::string& tag : TRY(JsonGet<std::vector<std::string>>(entry, "RepoTags"), "manifest.json")) AddTag(found.tags, tag);
  found.image.config_bytes = TRY(file.Read(config_name, oci::kConfigBytesMax));
  found.image.id = oci::Digest::Of(found.image.config_bytes);
  found.image.config = TRY(oci::ParseImageConfig(found.image.config_bytes), config_name);
  if (!oci::Matches(found.image.config.platform, platform)) {
    return Error(Code::kNotFound, StrCat("the archive's image is for ", found.image.config.platform.Text()));
  }
  if (layers.size() != found.image.config.diff_ids.size()) {
    return Error(Code::kInvalidArgument, "manifest.json: layers and diffIDs are not equally many");
  }
  found.image.size_bytes = found.image.config_bytes.size();
  for (size_t i = 0; i < layers.size(); ++i) {
    std::optional<uint64_t> size = file.SizeOf(layers[i]);
    if (!size) return Error(Code::kDataLoss, StrCat("the archive has no ", Quote(layers[i])));
    found.image.size_bytes += *size;
    found.image.layers.push_back({.diff_id = found.image.config.diff_ids[i],
                                  .blob_bytes = *size,
                                  .fetch = [&file, name = layers[i]](const Ctx& fetch_ctx, const BlobSink& sink) {
                                    return file.Stream(fetch_ctx, name, sink);
                                  }});
  }
  return found;
}

Result<std::vector<Found>> FromDocker(const ArchiveFile& file, const oci::Platform& platform) {
  const std::string bytes = TRY(file.Read("manifest.json", oci::kManifestBytesMax));
  const Json entries = TRY(ParseJson(bytes, "manifest.json"));
  if (!entries.is_array() || entries.size() > kImagesMax) return Error(Code::kInvalidArgument, "manifest.json is no list of images");
  std::vector<Found> all;
  for (const Json& entry : entries) all.push_back(TRY(FromDockerEntry(file, entry, platform)));
  return all;
}

// S15: an archive may give a free name, or confirm one; it never takes a name from another image.
Result<> CheckNames(const Store& store, const std::vector<Found>& all) {
  std::map<std::string, oci::Digest> seen;
  for (const Found& found : all) {
    for (const std::string& tag : found.tags) {
      ImageRef holder = store.FindByTag(tag);
      auto [other, is_first] = seen.try_emplace(tag, found.image.id);
      if ((holder != nullptr && holder->id != found.image.id.str()) || other->second != found.image.id) {
        return Error(Code::kAlreadyExists,
                     StrCat("the archive's name ", tag, " stands for another image; name it explicitly to move it"));
      }
    }
  }
  return {};
}

}  // namespace

Result<std::vector<ImageRef>> ImportArchive(const Ctx& ctx, Store& store, Stager& stager, const oci::Platform& platform,
                                            const std::string& path, const std::string& reference_text) {
  oci::Reference reference;
  if (!reference_text.empty()) {
    reference = TRY(oci::Reference::Parse(reference_text));
    if (reference.has_digest()) return Error(Code::kInvalidArgument, "an imported image is named by a tag, not by a digest");
  }
  ctx.Stage("read archive");
  const ArchiveFile file = TRY(ArchiveFile::Open(ctx, path, store.tmp_dir()));
  const bool is_layout = file.Has("oci-layout") && file.Has("index.json");
  if (!is_layout && !file.Has("manifest.json")) {
    return Error(Code::kInvalidArgument, path + " is neither an OCI image layout nor a docker archive");
  }
  std::vector<Found> all = is_layout ? TRY(FromLayout(ctx, file, platform)) : TRY(FromDocker(file, platform));
  if (all.empty()) return Error(Code::kNotFound, path + " holds no image");
  if (!reference_text.empty()) {
    if (all.size() != 1) return Error(Code::kInvalidArgument, StrCat("one name for the ", all.size(), " images of ", path));
    all.front().tags = {reference.RepoTag()};
  } else {
    TRY(CheckNames(store, all));
  }
  std::vector<ImageRef> images;
  for (Found& found : all) {
    for (const std::string& tag : found.tags) found.image.names.push_back({.tag = tag, .digest = {}});
    images.push_back(TRY(BringIn(ctx, store, stager, std::move(found.image), [](size_t, uint64_t) {})));
  }
  return images;
}

}  // namespace crisp::image
