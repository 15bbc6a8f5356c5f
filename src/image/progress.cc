#include "image/progress.h"

namespace crisp::image {

constexpr std::chrono::milliseconds kTellEvery{50};

void Progress::Add(std::string layer, uint64_t bytes_total) {
  layers_.push_back({.layer = std::move(layer), .bytes_total = bytes_total});
}

void Progress::Report(size_t layer, uint64_t bytes_done) {
  if (!callback_) return;
  std::lock_guard lock(mutex_);
  PullProgress& one = layers_[layer];
  one.bytes_done = std::max(one.bytes_done, bytes_done);
  one.phase = one.bytes_done == one.bytes_total ? PullProgress::Phase::kDone : PullProgress::Phase::kFetching;
  if (one.phase == PullProgress::Phase::kDone || Clock::now() - told_at_ >= kTellEvery) Tell();
}

void Progress::Done() {
  if (!callback_) return;
  std::lock_guard lock(mutex_);
  for (PullProgress& one : layers_) {
    one.bytes_done = one.bytes_total;
    one.phase = PullProgress::Phase::kDone;
  }
  Tell();
}

void Progress::Tell() {
  told_at_ = Clock::now();
  callback_(layers_);
}

}  // namespace crisp::image
