// What a call leaves to be done once its caller has the answer: it costs the caller no time then.
// Threading: one thread at a time.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace crisp {

class Afterwork {
 public:
  void Add(std::function<void()> work) { work_.push_back(std::move(work)); }
  bool empty() const { return work_.empty(); }
  void Run() {
    for (const std::function<void()>& work : std::exchange(work_, {})) work();
  }

 private:
  std::vector<std::function<void()>> work_;
};

}  // namespace crisp
