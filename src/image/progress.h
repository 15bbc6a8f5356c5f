// Progress: what the threads of one pull report → the caller's callback, one call at a time and not for every packet.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "base/context.h"
#include "image/service.h"

namespace crisp::image {

class Progress {
 public:
  explicit Progress(const Service::ProgressFn& callback) : callback_(callback) {}
  void Add(std::string layer, uint64_t bytes_total);      // before the first Report
  void Report(size_t layer, uint64_t bytes_done);         // any thread
  void Done();                                            // all layers are there

 private:
  void Tell();
  const Service::ProgressFn& callback_;
  std::mutex mutex_;  // held over the callback: calls do not overtake each other
  std::vector<PullProgress> layers_;
  Clock::time_point told_at_{};
};

}  // namespace crisp::image
