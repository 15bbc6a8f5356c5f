// A start's work that is done before it is asked for, by whoever comes first; the others wait for it.
// Threading: Run from any thread; Take and Drop by who holds the container.
#pragma once

#include <functional>
#include <mutex>
#include <utility>

#include "runtime/runtime.h"

namespace crisp::pod {

class StartAhead {
 public:
  explicit StartAhead(std::function<runtime::PreparedStart()> work) : work_(std::move(work)) {}
  void Run() {
    std::call_once(once_, [this] { prepared_ = std::exchange(work_, {})(); });
  }
  // What has come of it. The first time only.
  runtime::PreparedStart Take() {
    Run();
    return std::exchange(prepared_, {});
  }
  // It is not done any more, or was and does not count: what has begun is to be ended.
  runtime::PreparedStart Drop() {
    std::call_once(once_, [this] { work_ = {}; });
    return std::exchange(prepared_, {});
  }

 private:
  std::once_flag once_;
  std::function<runtime::PreparedStart()> work_;
  runtime::PreparedStart prepared_;
};

}  // namespace crisp::pod
