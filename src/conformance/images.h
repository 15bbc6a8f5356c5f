// The images of the suite, made in memory when it starts: Debian's busybox with its libraries, and the static guest
// program (guest.cc). So a run needs nothing from the internet.
// Threading: values.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace crisp::conformance {

struct BuiltImage {
  std::string config, manifest;
  std::string manifest_digest, config_digest;
};

// What the registry serves: blobs by digest, images by name.
struct ImageSet {
  std::map<std::string, BuiltImage> images;
  std::map<std::string, std::string> blobs;
  std::string small_layer;  // digest of the layer of images that are made on demand

  // An image of its own for each `label`: other configuration, other id, the same small layer.
  BuiltImage Small(const std::string& label) const;
};

std::string Sha256(const std::string& bytes);  // "sha256:…"

// kNotFound: this machine has no busybox.
Result<ImageSet> BuildImages(const std::string& busybox_path);

}  // namespace crisp::conformance
