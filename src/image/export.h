// An image of the store → one archive that is both an OCI image layout and loadable by `docker load`.
#pragma once

#include <functional>
#include <string>

#include "base/context.h"
#include "image/records.h"
#include "image/store.h"

namespace crisp::image {

// The layers' archives are made again from their skeletons, byte for byte: config and diffIDs, so also the image id, stay.
// Manifest digests do not (layers go out uncompressed). kFailedPrecondition: a layer cannot be made again (see README).
// `path` appears only when it is whole. The caller keeps the layers pinned.
Result<> ExportImage(const Ctx& ctx, const Store& store, const ImageRecord& image, const std::string& path);

// The archive of one layer directory (with fs/ and skeleton.zst), to `sink`.
using ArchiveSink = std::function<Result<>(std::string_view bytes)>;
Result<> RecreateLayer(const Ctx& ctx, const std::string& layer_dir, const ArchiveSink& sink);

}  // namespace crisp::image
