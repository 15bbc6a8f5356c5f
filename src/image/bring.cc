#include "image/bring.h"

#include <map>

#include "base/failpoint.h"
#include "image/directory.h"
#include "image/implicit_dirs.h"

namespace crisp::image {

namespace {

constexpr int kAttempts = 3;  // a layer can be collected between our look and our commit, while it is not pinned by id

LayerRecord RecordOf(const UnpackedLayer& unpacked, const WantedLayer& wanted) {
  LayerRecord record;
  record.diff_id = unpacked.diff_id;
  const bool fits_anywhere = unpacked.stats.implicit_dirs.empty();
  record.id = fits_anywhere ? LayerId(unpacked.diff_id) : ChainedLayerId(wanted.chain_id);
  if (!fits_anywhere) record.chain_id = wanted.chain_id.str();
  record.archive_bytes = unpacked.archive_bytes;
  record.disk_bytes = unpacked.stats.disk_bytes;
  record.inodes = unpacked.stats.inodes;
  record.opaque_root = unpacked.stats.opaque_root;
  record.is_empty = unpacked.stats.is_empty;
  record.is_exact = unpacked.stats.is_exact;
  return record;
}

// Bottom up: a layer's directories may take their attributes from what was just staged below.
Result<NewImage> Stack(const Ctx& ctx, const Store& store, const WantedImage& image,
                       const std::vector<StagedRef>& staged) {
  NewImage out{.id = image.id.str(),
               .config = image.config_bytes,
               .size_bytes = image.size_bytes,
               .names = image.names,
               .checkpoint_of = image.checkpoint_of};
  std::vector<std::string> below;
  for (size_t i = 0; i < image.layers.size(); ++i) {
    const WantedLayer& wanted = image.layers[i];
    if (staged[i] == nullptr) {
      std::optional<LayerRecord> known = store.FindLayer(wanted.diff_id, wanted.chain_id);
      if (!known) return Error(Code::kAborted, "layer " + wanted.diff_id.str() + " was removed meanwhile");
      out.layer_ids.push_back(known->id);
      below.push_back(store.LayerDir(known->id) + "/fs");
      continue;
    }
    LayerRecord record = RecordOf(staged[i]->unpacked, wanted);
    std::string root = staged[i]->dir + "/fs";
    // Another pull that shares the flight may have committed it already.
    if (store.FindLayer(wanted.diff_id, wanted.chain_id)) root = store.LayerDir(record.id) + "/fs";
    if (!record.chain_id.empty() && i > 0) {
      TRY(InheritAttributes(ctx, root, staged[i]->unpacked.stats.implicit_dirs, below));
    }
    out.layer_ids.push_back(record.id);
    out.new_layers.push_back({std::move(record), staged[i]->dir});
    below.push_back(std::move(root));
  }
  return out;
}

Result<ImageRef> BringInOnce(const Ctx& ctx, Store& store, Stager& stager, const WantedImage& image,
                             const Stager::OnBytes& on_bytes) {
  std::vector<std::string> ids;
  for (const WantedLayer& layer : image.layers) {
    ids.push_back(LayerId(layer.diff_id));
    ids.push_back(ChainedLayerId(layer.chain_id));
  }
  Store::Pin pin(store, std::move(ids));
  ctx.Stage("unpack layers");
  std::vector<StagedRef> staged = TRY(stager.Stage(ctx, image.layers, on_bytes));
  NewImage ready = TRY(Stack(ctx, store, image, staged));
  FAILPOINT("pull.before_sync");
  if (!ready.new_layers.empty()) {
    ctx.Stage("sync layers");
    TRY(SyncFileSystem(store.tmp_dir()));
  }
  FAILPOINT("pull.after_sync");
  ctx.Stage("commit image");
  Result<ImageRef> committed = store.Commit(ready);
  if (!committed && committed.error().code() == Code::kAborted) stager.ForgetVanished();
  return committed;
}

}  // namespace

Result<ImageRef> BringIn(const Ctx& ctx, Store& store, Stager& stager, WantedImage image, const Stager::OnBytes& on_bytes) {
  const std::vector<oci::Digest> chain_ids = ChainIds(image.config.diff_ids);
  for (size_t i = 0; i < image.layers.size(); ++i) image.layers[i].chain_id = chain_ids[i];
  for (int attempt = 1;; ++attempt) {
    Result<ImageRef> brought = BringInOnce(ctx, store, stager, image, on_bytes);
    if (brought || brought.error().code() != Code::kAborted || attempt == kAttempts) return brought;
  }
}

}  // namespace crisp::image
