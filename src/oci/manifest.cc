#include "oci/manifest.h"

#include "base/json.h"
#include "base/strings.h"

namespace crisp::oci {

namespace {

constexpr std::string_view kDockerSchema1 = "application/vnd.docker.distribution.manifest.v1+json";
constexpr std::string_view kDockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";

Error Bad(std::string_view why) { return Error(Code::kInvalidArgument, std::string(why)); }

// "Application/X; charset=utf-8" → "application/x"
std::string BareType(std::string_view content_type) {
  std::string out(Trim(content_type.substr(0, content_type.find(';'))));
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool SaysNothing(std::string_view type) {
  return type.empty() || type == "application/json" || type == "application/octet-stream";
}

bool Present(const Json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && !found->is_null();
}

Result<Platform> ParsePlatform(const Json& json) {
  Platform out;
  out.os = TRY(JsonGet<std::string>(json, "os"), "platform");
  out.architecture = TRY(JsonGet<std::string>(json, "architecture"), "platform");
  out.variant = TRY(JsonGet<std::string>(json, "variant"), "platform");
  out.os_version = TRY(JsonGet<std::string>(json, "os.version"), "platform");
  return out;
}

Result<Descriptor> ParseDescriptor(const Json& json) {
  Descriptor out;
  out.media_type = TRY(JsonGet<std::string>(json, "mediaType"));
  std::string digest = TRY(JsonGet<std::string>(json, "digest"));
  out.digest = TRY(Digest::Parse(digest));
  if (!Present(json, "size")) return Bad("no size");
  int64_t size = TRY(JsonGet<int64_t>(json, "size"));
  if (size < 0) return Bad("negative size");
  out.size = static_cast<uint64_t>(size);
  out.urls = TRY(JsonGet<std::vector<std::string>>(json, "urls"));
  out.annotations = TRY((JsonGet<std::map<std::string, std::string>>(json, "annotations")));
  out.artifact_type = TRY(JsonGet<std::string>(json, "artifactType"));
  if (Present(json, "platform")) out.platform = TRY(ParsePlatform(json["platform"]));
  return out;
}

Result<std::vector<Descriptor>> ParseDescriptors(const Json& document, const char* key) {
  std::vector<Descriptor> out;
  if (!Present(document, key)) return out;
  const Json& list = document[key];
  if (!list.is_array()) return Bad(StrCat(key, " is not a list"));
  if (list.size() > kEntriesMax) return Bad(StrCat(list.size(), " ", key, ", at most ", kEntriesMax));
  for (const Json& entry : list) out.push_back(TRY(ParseDescriptor(entry), StrCat(key, "[", out.size(), "]")));
  return out;
}

Result<Manifest> ManifestFrom(const Json& document, std::string type) {
  if (!Present(document, "config")) return Bad("a manifest without config");
  Manifest out;
  out.media_type = std::move(type);
  out.config = TRY(ParseDescriptor(document["config"]), "config");
  out.layers = TRY(ParseDescriptors(document, "layers"));
  out.annotations = TRY((JsonGet<std::map<std::string, std::string>>(document, "annotations")));
  out.artifact_type = TRY(JsonGet<std::string>(document, "artifactType"));
  return out;
}

Result<Index> IndexFrom(const Json& document, std::string type) {
  if (!document["manifests"].is_array()) return Bad("manifests is not a list");
  Index out;
  out.media_type = std::move(type);
  out.manifests = TRY(ParseDescriptors(document, "manifests"));
  out.annotations = TRY((JsonGet<std::map<std::string, std::string>>(document, "annotations")));
  return out;
}

// The one type of the document: announced and written must not differ.
Result<std::string> DocumentType(const Json& document, std::string_view content_type, bool is_index) {
  std::string announced = BareType(content_type);
  std::string written = TRY(JsonGet<std::string>(document, "mediaType"));
  if (!SaysNothing(announced) && !written.empty() && announced != written) {
    return Bad(StrCat("mediaType ", Quote(written), " came as ", Quote(announced)));
  }
  std::string type = written.empty() ? announced : written;
  if (SaysNothing(type)) type = is_index ? media_type::kOciIndex : media_type::kOciManifest;
  if (is_index ? !IsIndexType(type) : !IsManifestType(type)) {
    return Bad(StrCat(is_index ? "an index" : "a manifest", " of media type ", Quote(type)));
  }
  return type;
}

}  // namespace

bool IsIndexType(std::string_view type) { return type == media_type::kOciIndex || type == media_type::kDockerList; }

bool IsManifestType(std::string_view type) {
  return type == media_type::kOciManifest || type == media_type::kDockerManifest;
}

bool Manifest::IsContainerImage() const {
  return config.media_type == media_type::kOciConfig || config.media_type == media_type::kDockerConfig;
}

Result<std::variant<Manifest, Index>> ParseManifest(std::string_view bytes, std::string_view content_type) {
  using Either = std::variant<Manifest, Index>;
  Json document = TRY(ParseJson(bytes, "manifest", {.bytes_max = kManifestBytesMax, .depth_max = 32}));
  if (!document.is_object()) return Bad("manifest: no JSON object");
  int64_t schema = TRY(JsonGet<int64_t>(document, "schemaVersion"), "manifest");
  std::string announced = BareType(content_type);
  if (schema == 1 || Present(document, "fsLayers") || announced == kDockerSchema1 ||
      announced == kDockerSchema1Signed) {
    return Error(Code::kFailedPrecondition,
                 "the image is a Docker schema 1 image, a format given up in 2017: push it again with a current tool");
  }
  if (schema != 2) return Bad(StrCat("manifest: schemaVersion ", schema, " instead of 2"));
  bool has_manifests = Present(document, "manifests");
  if (has_manifests && (Present(document, "layers") || Present(document, "config"))) {
    return Bad("manifest: can be read both as a manifest and as an index");
  }
  std::string type = TRY(DocumentType(document, content_type, has_manifests), "manifest");
  if (has_manifests) {
    Index index = TRY(IndexFrom(document, std::move(type)), "index");
    return Either(std::move(index));
  }
  Manifest manifest = TRY(ManifestFrom(document, std::move(type)), "manifest");
  return Either(std::move(manifest));
}

Result<LayerCompression> CompressionOf(const Descriptor& layer) {
  std::string_view type = layer.media_type;
  constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
  constexpr std::string_view kOciForeign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
  constexpr std::string_view kDockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
  constexpr std::string_view kDockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar";
  for (std::string_view base : {kOciLayer, kOciForeign, kDockerLayer, kDockerForeign}) {
    if (!type.starts_with(base)) continue;
    std::string_view suffix = type.substr(base.size());
    if (suffix.empty()) return LayerCompression::kNone;
    if (suffix == "+gzip" || suffix == ".gzip") return LayerCompression::kGzip;
    if (suffix == "+zstd" || suffix == ".zstd") return LayerCompression::kZstd;
  }
  return Error(Code::kUnimplemented, StrCat("layer ", layer.digest.str(), " has the media type ", Quote(type),
                                            ", which is no tar layer that can be unpacked"));
}

Result<> CheckLayers(const Manifest& manifest, const ImageConfig& config) {
  if (manifest.layers.size() == config.diff_ids.size()) return {};
  return Bad(
      StrCat("the manifest has ", manifest.layers.size(), " layers, its config ", config.diff_ids.size(), " diff_ids"));
}

}  // namespace crisp::oci
