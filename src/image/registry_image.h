// From a reference to one platform's image: root → (index …) → manifest → config, with the limits of oci/manifest.h
// kept. Works on anything that hands out manifests and blobs: a Repository, an OCI image layout, an archive.
#pragma once

#include <string>

#include "base/context.h"
#include "image/registry.h"
#include "oci/manifest.h"

namespace crisp::image {

// Where documents come from. Fetch* verify size and digest.
class ManifestSource {
 public:
  virtual ~ManifestSource() = default;
  virtual Result<ManifestBytes> Manifest(const Ctx& ctx, const oci::Descriptor& descriptor) = 0;
  virtual Result<std::string> SmallBlob(const Ctx& ctx, const oci::Descriptor& descriptor, uint64_t bytes_max) = 0;
};

struct ResolvedImage {
  oci::Digest root_digest;  // of what the reference names (index or manifest): this goes into a RepoDigest
  ManifestBytes root;
  oci::Digest manifest_digest;  // of the platform's manifest
  std::string manifest_bytes;
  oci::Manifest manifest;
  std::string config_bytes;  // its digest, manifest.config.digest, is the image id
  oci::ImageConfig config;
  bool is_artifact = false;  // no container image: neither config nor config_bytes
};

// Chooses by `platform`, checks os/architecture of the config, and that layers and diffIDs are equally many.
// kNotFound: no image for this platform. kFailedPrecondition: not a container image (or Docker schema 1).
// kInvalidArgument: a malformed document. kDataLoss: bytes that are not of their digest.
Result<ResolvedImage> ResolveImage(const Ctx& ctx, ManifestSource& source, ManifestBytes root,
                                   const oci::Platform& platform);
// The same for a repository: Resolve, then the walk. What is named may be an artifact as well, if it is the manifest
// itself.
Result<ResolvedImage> ResolveImage(const Ctx& ctx, Repository& repository, const oci::Platform& platform);

// The name of the container that an image is a checkpoint of, by the annotations that say so (checkpointctl's, CRI-O's
// and its older ones); "" for an ordinary image.
std::string CheckpointOf(const oci::Manifest& manifest);

}  // namespace crisp::image
