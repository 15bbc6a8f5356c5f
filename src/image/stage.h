// Stager: brings the layers that an image lacks into directories under tmp, several at once, each diffID by one thread at a
// time however many images ask for it (single flight). What it makes is verified but neither synced nor recorded: that
// is Store::Commit's.
//
// Threading: any thread; Stage blocks its caller, with its ctx.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "image/registry.h"
#include "image/store.h"
#include "image/unpack.h"
#include "oci/digest.h"

namespace crisp::image {

// A verified layer directory under tmp. It goes to the trash with its last owner, unless Commit has moved it away.
struct StagedLayer {
  StagedLayer(Sweeper& sweeper_in, std::string dir_in) : sweeper(sweeper_in), dir(std::move(dir_in)) {}
  ~StagedLayer();
  StagedLayer(const StagedLayer&) = delete;
  StagedLayer& operator=(const StagedLayer&) = delete;

  Sweeper& sweeper;
  const std::string dir;
  UnpackedLayer unpacked;
};
using StagedRef = std::shared_ptr<StagedLayer>;

// One layer of an image that is wanted.
struct WantedLayer {
  oci::Digest diff_id;
  oci::Digest chain_id;
  oci::Digest blob_digest;  // empty: not known (an archive of docker save), then only the diffID is checked
  uint64_t blob_bytes = 0;
  // Delivers the blob. Its errors are returned as they are.
  std::function<Result<>(const Ctx& ctx, const BlobSink& sink)> fetch;
  // The delivered bytes were wrong. True: another source is left, fetch again. May be empty.
  std::function<bool()> reject = {};
};

class Stager {
 public:
  Stager(Store& store, int parallel_max, const UnpackLimits& limits = {})
      : store_(store), parallel_max_(parallel_max), limits_(limits) {}

  // A result for each wanted layer: in the store (nothing staged), or staged. All or an error.
  using OnBytes = std::function<void(size_t layer, uint64_t blob_bytes)>;
  Result<std::vector<StagedRef>> Stage(const Ctx& ctx, const std::vector<WantedLayer>& layers, const OnBytes& on_bytes);

  // After a commit that missed a staged directory: nobody is handed it any more.
  void ForgetVanished();

 private:
  struct Flight {
    bool done = false;
    Result<StagedRef> outcome = StagedRef();
    std::string chain_id;
  };
  struct Landed {
    std::weak_ptr<StagedLayer> staged;
    std::string chain_id;
  };

  Result<StagedRef> StageOne(const Ctx& ctx, const WantedLayer& layer, const std::function<void(uint64_t)>& on_bytes);
  Result<StagedRef> Unpack(const Ctx& ctx, const WantedLayer& layer, const std::function<void(uint64_t)>& on_bytes);
  Result<StagedRef> UnpackOnce(const Ctx& ctx, const WantedLayer& layer, const std::function<void(uint64_t)>& on_bytes,
                               bool& is_other_blob);

  Store& store_;
  const int parallel_max_;
  const UnpackLimits limits_;
  std::mutex mutex_;
  std::condition_variable_any landed_;
  std::map<std::string, std::shared_ptr<Flight>> flights_;  // guarded by mutex_
  // What has been staged and not been committed yet; guarded by mutex_.
  std::map<std::string, Landed> landed_layers_;
};

}  // namespace crisp::image
