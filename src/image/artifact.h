// OCI artifacts: what is no container image, kept to be mounted. Its blobs are files in one directory, named by their
// annotation org.opencontainers.image.title; the store has it as an image of one layer whose config is ours.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "image/registry.h"
#include "image/store.h"
#include "oci/manifest.h"

namespace crisp::image {

struct ArtifactFile {
  std::string name;  // one path component
  oci::Descriptor blob;
};

struct ArtifactPlan {
  std::vector<ArtifactFile> files;
  std::string type;
  oci::Digest diff_id;  // of its one layer: stands for the manifest, is no archive's
  std::string config_bytes;
  oci::Digest id;  // of the config, as of every image
  uint64_t size_bytes = 0;
};

// Pure. kInvalidArgument: a title that is no file name, or two of one name.
Result<ArtifactPlan> PlanArtifact(const oci::Manifest& manifest, const oci::Digest& manifest_digest,
                                  const oci::Platform& platform);

// Fetches and verifies all blobs, makes them durable, commits. Nothing stays of a failed try. Blocks.
Result<ImageRef> BringInArtifact(const Ctx& ctx, Store& store, Repository& repository, const ArtifactPlan& plan,
                                 const ImageNames& names,
                                 const std::function<void(size_t file, uint64_t bytes)>& on_bytes);

}  // namespace crisp::image
