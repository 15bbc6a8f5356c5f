// The common end of a pull and an import: an image's config and layers, wherever they come from → an image in the store.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "image/stage.h"
#include "image/store.h"
#include "oci/manifest.h"

namespace crisp::image {

struct WantedImage {
  oci::Digest id;  // of the config
  std::string config_bytes;
  oci::ImageConfig config;
  uint64_t size_bytes = 0;
  std::vector<WantedLayer> layers;  // bottom first, as many as the config's diffIDs; chain ids are filled in here
  std::vector<ImageNames> names;
  std::string checkpoint_of;
};

// Stages what is missing, makes it durable, commits. Threading: any thread, blocks.
Result<ImageRef> BringIn(const Ctx& ctx, Store& store, Stager& stager, WantedImage image, const Stager::OnBytes& on_bytes);

}  // namespace crisp::image
