// Counters and latency histograms of calls, in Prometheus' text format (exposition format 0.0.4).
// Threading: any thread; Observe takes one short lock.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/stages.h"
#include "base/synchronized.h"

namespace crisp::metrics {

class CallMetrics {
 public:
  // `method` has static storage; `code` is the gRPC status code.
  void Observe(const char* method, int code, std::chrono::nanoseconds took);
  // Where the time of a call that made or ended something went.
  void ObserveStages(const char* method, const std::vector<StageTime>& stages, std::chrono::nanoseconds took);
  std::string Render() const;

  // Upper bounds in microseconds: a list takes 100 µs, a pod start 20 ms, a pull minutes.
  static constexpr std::array<int64_t, 12> kBounds = {100,     250,     1'000,    2'500,     10'000,     25'000,
                                                      100'000, 250'000, 1000'000, 2'500'000, 10'000'000, 60'000'000};

 private:
  struct Histogram {
    std::array<uint64_t, kBounds.size() + 1> counts{};  // not cumulative; the last is +Inf
    int64_t sum_nanos = 0;
  };
  struct State {
    std::map<std::pair<std::string, int>, uint64_t> calls;
    std::map<std::string, Histogram> latencies;
    struct Sum {
      uint64_t count = 0;
      int64_t nanos = 0;
    };
    std::map<std::pair<std::string, std::string>, Sum> stages;  // by method and stage
  };
  Synchronized<State> state_;
};

// One gauge without labels, with its HELP and TYPE lines.
std::string Gauge(const char* name, const char* help, int64_t value);

}  // namespace crisp::metrics
