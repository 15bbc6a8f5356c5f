// LayerUnpacker: the bytes of one layer blob, as they arrive → a directory, in one pipeline on two threads:
//   caller: SHA-256 of the blob → inflate ─ bounded queue ─► own thread: SHA-256 of the archive (diffID) → tar → files
// Nothing of the blob is kept. Beside the files a skeleton is written: the archive without the contents, from which an
// export makes the very same archive again (layer_export.h).
//
// Threading: Push, Finish and the destructor by one thread at a time. Push blocks while the disk is slower than the
// network. Memory: about 5 MiB, whatever the layer (zstd: and its window).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/layer_writer.h"
#include "oci/digest.h"

namespace crisp::image {

struct UnpackedLayer {
  oci::Digest blob_digest;  // of what was pushed
  oci::Digest diff_id;      // of the plain archive
  uint64_t blob_bytes = 0;
  uint64_t archive_bytes = 0;
  LayerStats stats;
};

struct UnpackOptions {
  UnpackLimits limits;
  oci::DigestAlgorithm blob_algorithm = oci::DigestAlgorithm::kSha256;
  oci::DigestAlgorithm diff_id_algorithm = oci::DigestAlgorithm::kSha256;
};

class LayerUnpacker {
 public:
  // Makes <dir>/fs and <dir>/skeleton.zst in the existing, empty directory `dir`.
  // kResourceExhausted: no thread or memory.
  static Result<std::unique_ptr<LayerUnpacker>> Start(const std::string& dir, const UnpackOptions& options = {});
  // Gives up an unfinished layer; its directory is the caller's to remove.
  virtual ~LayerUnpacker() = default;

  // kDataLoss: damaged. kInvalidArgument: refused. kResourceExhausted: over a limit, or the disk is full.
  virtual Result<> Push(std::string_view bytes) = 0;
  virtual Result<UnpackedLayer> Finish() = 0;
  // After an error: takes the rest of the blob, only to hash it, and tells whether the blob itself was another one.
  virtual void Hash(std::string_view bytes) = 0;
  virtual oci::Digest BlobDigest() = 0;
};

}  // namespace crisp::image
