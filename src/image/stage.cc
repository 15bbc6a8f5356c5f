#include "image/stage.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <system_error>
#include <thread>

#include "base/failpoint.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "sys/file.h"

namespace crisp::image {

StagedLayer::~StagedLayer() {
  if (Result<> trashed = sweeper.Trash(dir); !trashed) {
    LogWarning("staged layer was not removed, the next start will", {{"path", dir}, {"error", trashed.error()}});
  }
}

Result<std::vector<StagedRef>> Stager::Stage(const Ctx& ctx, const std::vector<WantedLayer>& layers,
                                             const OnBytes& on_bytes) {
  // The largest first: the last one to run should be short.
  std::vector<size_t> order(layers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return layers[a].blob_bytes > layers[b].blob_bytes; });

  // One failure stops the others.
  std::stop_source stop;
  std::stop_callback on_caller_gone(ctx.stop(), [&stop] { stop.request_stop(); });
  const Ctx own_ctx(ctx.deadline(), stop.get_token(), ctx.request_id());

  std::vector<StagedRef> staged(layers.size());
  std::mutex mutex;
  std::optional<Error> failure;
  std::atomic<size_t> next = 0;
  auto work = [&] {
    for (size_t n = next++; n < order.size() && !stop.stop_requested(); n = next++) {
      const size_t i = order[n];
      Result<StagedRef> one = StageOne(own_ctx, layers[i], [&](uint64_t bytes) { on_bytes(i, bytes); });
      std::lock_guard lock(mutex);
      if (one) {
        staged[i] = *std::move(one);
      } else {
        // The first that failed by itself, not one of those that were stopped because of it.
        if (!failure || (failure->code() == Code::kCancelled && one.error().code() != Code::kCancelled)) failure = one.error();
        stop.request_stop();
      }
    }
  };
  std::vector<std::thread> workers;
  const size_t count = std::min<size_t>(layers.size(), static_cast<size_t>(std::max(parallel_max_, 1)));
  try {
    for (size_t i = 1; i < count; ++i) workers.emplace_back(work);
  } catch (const std::system_error&) {
    // Fewer threads, then: this one works in any case.
  }
  work();
  for (std::thread& worker : workers) worker.join();
  if (failure) return *std::move(failure);
  TRY(ctx.Check());
  return staged;
}

void Stager::ForgetVanished() {
  std::lock_guard lock(mutex_);
  std::erase_if(landed_layers_, [](const auto& each) {
    const StagedRef staged = each.second.staged.lock();
    return staged == nullptr || !sys::Exists(staged->dir);
  });
}

// Leads the flight of this layer, or waits for who does.
Result<StagedRef> Stager::StageOne(const Ctx& ctx, const WantedLayer& layer, const std::function<void(uint64_t)>& on_bytes) {
  const std::string chain_id = layer.chain_id.str();
  std::string key = layer.diff_id.str();
  std::shared_ptr<Flight> flight;
  while (true) {
    TRY(ctx.Check());
    if (store_.FindLayer(layer.diff_id, layer.chain_id)) return StagedRef();
    std::unique_lock lock(mutex_);
    if (auto landed = landed_layers_.find(key); landed != landed_layers_.end()) {
      if (StagedRef staged = landed->second.staged.lock()) {
        if (staged->unpacked.stats.implicit_dirs.empty() || landed->second.chain_id == chain_id) return staged;
        key = StrCat(layer.diff_id.str(), "/", chain_id);  // theirs fits on top of their layers only
        continue;
      }
    }
    auto [found, is_mine] = flights_.try_emplace(key);
    if (is_mine) {
      flight = found->second = std::make_shared<Flight>();
      flight->chain_id = chain_id;
      break;
    }
    std::shared_ptr<Flight> others = found->second;
    landed_.wait_until(lock, ctx.stop(), std::min(ctx.deadline(), Clock::now() + std::chrono::hours(24)),
                       [&] { return others->done; });
    // The other's failure need not be ours: other credentials, or its caller went away. Then we try ourselves.
    if (!others->done || !others->outcome) continue;
    const StagedRef& staged = *others->outcome;
    if (staged == nullptr || staged->unpacked.stats.implicit_dirs.empty() || others->chain_id == chain_id) return staged;
    key = StrCat(layer.diff_id.str(), "/", chain_id);
  }
  Result<StagedRef> outcome = Unpack(ctx, layer, on_bytes);
  std::lock_guard lock(mutex_);
  flight->done = true;
  flight->outcome = outcome;
  flights_.erase(key);
  std::erase_if(landed_layers_, [](const auto& each) { return each.second.staged.expired(); });
  if (outcome) landed_layers_[key] = {*outcome, chain_id};
  landed_.notify_all();
  return outcome;
}

Result<StagedRef> Stager::Unpack(const Ctx& ctx, const WantedLayer& layer, const std::function<void(uint64_t)>& on_bytes) {
  while (true) {
    bool is_other_blob = false;
    Result<StagedRef> unpacked = UnpackOnce(ctx, layer, on_bytes, is_other_blob);
    if (unpacked || !is_other_blob || !layer.reject || !layer.reject()) return unpacked;
  }
}

Result<StagedRef> Stager::UnpackOnce(const Ctx& ctx, const WantedLayer& layer,
                                     const std::function<void(uint64_t)>& on_bytes, bool& is_other_blob) {
  auto staged = std::make_shared<StagedLayer>(store_.sweeper(), StrCat(store_.tmp_dir(), "/", RandomHex(8)));
  TRY(sys::MakeDir(staged->dir, 0700));
  UnpackOptions options{.limits = limits_, .diff_id_algorithm = layer.diff_id.algorithm()};
  if (!layer.blob_digest.empty()) options.blob_algorithm = layer.blob_digest.algorithm();
  std::unique_ptr<LayerUnpacker> unpacker = TRY(LayerUnpacker::Start(staged->dir, options));
  const std::string name = layer.blob_digest.empty() ? layer.diff_id.str() : layer.blob_digest.str();
  uint64_t bytes_done = 0;
  std::optional<Error> broken;  // the unpacker's error gets a context, the source's must not
  TRY(layer.fetch(ctx, [&](std::string_view bytes) -> Result<> {
    on_bytes(bytes_done += bytes.size());
    if (broken) {
      unpacker->Hash(bytes);
      return {};
    }
    Result<> pushed = unpacker->Push(bytes);
    if (pushed) return {};
    broken = std::move(pushed).error().Context("layer " + name);
    // Damaged: by the way here or from the beginning? Only the whole blob's digest tells.
    return broken->code() == Code::kDataLoss ? Result<>() : Result<>(*broken);
  }));
  if (!broken) {
    Result<UnpackedLayer> unpacked = unpacker->Finish();
    if (unpacked) {
      staged->unpacked = *std::move(unpacked);
    } else {
      broken = std::move(unpacked).error().Context("layer " + name);
    }
  }
  const oci::Digest digest = broken ? unpacker->BlobDigest() : staged->unpacked.blob_digest;
  if (!layer.blob_digest.empty() && digest != layer.blob_digest) {
    is_other_blob = true;
    return Error(Code::kDataLoss, StrCat("layer ", name, " has the digest ", digest.str()));
  }
  if (broken) return *std::move(broken);
  FAILPOINT("pull.after_unpack");
  if (staged->unpacked.diff_id != layer.diff_id) {
    return Error(Code::kDataLoss, StrCat("layer ", name, " unpacks to ", staged->unpacked.diff_id.str(),
                                         ", the image config says ", layer.diff_id.str()));
  }
  return StagedRef(std::move(staged));
}

}  // namespace crisp::image
