// What a call did and when: the stages that it names by Ctx::Stage. For the log of slow calls, and for timings.
// Threading: any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

namespace crisp {

struct StageTime {
  const char* name = nullptr;  // static storage
  int64_t begin_nanos = 0;     // from the call's arrival
};

class Stages {
 public:
  explicit Stages(const char* first) { entries_.push_back({first, 0}); }
  void Enter(const char* name) {
    std::lock_guard lock(mutex_);
    if (entries_.size() == kMax) entries_.pop_back();  // the last one is the one that matters
    entries_.push_back({name, Elapsed()});
  }
  const char* Current() const {
    std::lock_guard lock(mutex_);
    return entries_.back().name;
  }
  std::vector<StageTime> All() const {
    std::lock_guard lock(mutex_);
    return entries_;
  }
  int64_t Elapsed() const { return std::chrono::nanoseconds(std::chrono::steady_clock::now() - began_).count(); }

 private:
  static constexpr size_t kMax = 64;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::vector<StageTime> entries_;
};

}  // namespace crisp
