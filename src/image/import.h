// Images from an archive: an OCI image layout (image-spec image-layout.md) or what `docker save` writes.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "image/stage.h"
#include "image/store.h"
#include "oci/manifest.h"

namespace crisp::image {

// See Service::Import. `reference` may be empty. An archive without an image for `platform` is kNotFound.
Result<std::vector<ImageRef>> ImportArchive(const Ctx& ctx, Store& store, Stager& stager, const oci::Platform& platform,
                                            const std::string& path, const std::string& reference);

}  // namespace crisp::image
