// Manifests, indexes and image configs: OCI image-spec 1.1 and Docker image manifest v2 schema 2, from bytes to values.
// Pure functions without I/O; every input is hostile. All errors are kInvalidArgument unless said otherwise.
//
// Limits: a manifest or index 4 MiB, a config 8 MiB, an index 1000 entries, a manifest 1000 layers (CVE-2023-25153).
// A document that could be read as both manifest and index, or whose mediaType is not the Content-Type that it came
// with, is refused (CVE-2021-41190, GHSA-77vh-xpmg-72qh): two readers must not see two images in the same bytes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "oci/digest.h"

namespace crisp::oci {

inline constexpr uint64_t kManifestBytesMax = 4u << 20;
inline constexpr uint64_t kConfigBytesMax = 8u << 20;
inline constexpr int kIndexDepthMax = 3;  // index in index in index; a manifest below that is refused
inline constexpr size_t kEntriesMax = 1000;

namespace media_type {
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
}  // namespace media_type

bool IsIndexType(std::string_view media_type);
bool IsManifestType(std::string_view media_type);

// os, architecture and variant in Go's names: linux/amd64, linux/arm64/v8, linux/arm/v7.
struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
  std::string os_version;
  std::string Text() const;  // "linux/arm/v7"
  friend bool operator==(const Platform&, const Platform&) = default;
};
// What this machine runs; amd64's and arm's variant from the CPU.
Platform MachinePlatform();
// The same with usual other spellings replaced: x86_64, aarch64, armhf, arm without variant, arm64/v8.
Platform Normalize(Platform platform);

struct Descriptor {
  std::string media_type;
  Digest digest;
  uint64_t size = 0;
  // Never fetched from: a "foreign layer" points at somebody else's host (CVE-2020-15157).
  std::vector<std::string> urls;
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
  std::string artifact_type;
};

struct Manifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;  // bottom first
  std::map<std::string, std::string> annotations;
  std::string artifact_type;
  // The config is a container image's, not that of some other artifact (a Helm chart, a signature).
  bool IsContainerImage() const;
};

struct Index {
  std::string media_type;
  std::vector<Descriptor> manifests;
  std::map<std::string, std::string> annotations;
};

// `content_type` is what the bytes were announced as: a Content-Type header (parameters are cut off) or a descriptor's
// media type. Empty, application/json and application/octet-stream say nothing, then the document's mediaType counts.
// A Docker schema 1 manifest is kFailedPrecondition.
Result<std::variant<Manifest, Index>> ParseManifest(std::string_view bytes, std::string_view content_type);

// The entries of `index` worth trying for `wanted`, best first: exact variant, then older variants the CPU also runs
// (arm64 → arm/v8…v5, amd64 → lower amd64 levels, then 386), then entries that don't name a platform (their config must
// be checked with Matches). Attestations (unknown/unknown, vnd.docker.reference.type) never. Pointers into `index`.
std::vector<const Descriptor*> ChoosePlatform(const Index& index, const Platform& wanted);
// A machine `wanted` runs an image made for `offered`.
bool Matches(const Platform& offered, const Platform& wanted);

enum class LayerCompression { kNone, kGzip, kZstd };
// From the layer's media type, OCI, Docker and their non-distributable kinds. kUnimplemented: not a tar layer
// (encrypted, EROFS, a Helm chart …). The media type may lie between tar, gzip and zstd: look at the magic bytes to be
// lenient.
Result<LayerCompression> CompressionOf(const Descriptor& layer);

struct HistoryEntry {
  std::string created;
  std::string created_by;
  std::string author;
  std::string comment;
  bool empty_layer = false;
};

// config.md of image-spec. Texts hold no NUL byte, so that they may become C strings.
struct ImageConfig {
  Platform platform;
  std::string created;             // RFC 3339 as written, may be empty
  int64_t created_unix_nanos = 0;  // 0: none, or not readable
  std::string author;
  // "config": defaults for a container.
  std::string user;
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string working_dir;
  std::vector<std::string> volumes;        // sorted
  std::vector<std::string> exposed_ports;  // "80/tcp", sorted
  std::string stop_signal;
  std::map<std::string, std::string> labels;
  std::string artifact_type;  // "artifactType": only in configs that image/artifact.h makes
  // rootfs
  std::vector<Digest> diff_ids;  // bottom layer first
  std::vector<HistoryEntry> history;
};
Result<ImageConfig> ParseImageConfig(std::string_view bytes);

// As many layers as diffIDs; else a layer would be unpacked unproven.
Result<> CheckLayers(const Manifest& manifest, const ImageConfig& config);

}  // namespace crisp::oci
