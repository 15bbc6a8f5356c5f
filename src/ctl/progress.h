// The lines that a pull shows while it runs. Pure.
#pragma once

#include <chrono>
#include <deque>
#include <string>
#include <vector>

#include "crisp/v1/crisp.pb.h"

namespace crisp::ctl {

// How fast bytes come just now: over the last few seconds, so that a stall shows.
class Pace {
 public:
  void Add(std::chrono::milliseconds elapsed, uint64_t bytes);
  // Bytes a second; 0: nothing can be said yet.
  uint64_t rate() const;

 private:
  struct Sample {
    std::chrono::milliseconds at;
    uint64_t bytes;
  };
  std::deque<Sample> samples_;
};

uint64_t BytesDone(const ::crisp::v1::PullUpdate& update);

// One line per layer and a sum, each at most `width` columns:
//   a1b2c3d4e5f60   [=========>          ]   12.3MB / 45.6MB
//   3 of 7 layers   12.3MB / 45.6MB   2.1 s   5.8MB/s   ETA 6 s
// `rate` 0: nothing is said about it. Without the sizes of all layers there is no time of arrival.
std::vector<std::string> ProgressLines(const ::crisp::v1::PullUpdate& update, std::chrono::milliseconds elapsed,
                                       uint64_t rate, size_t width);

}  // namespace crisp::ctl
