// A start's work that is done before it is asked for, by whoever comes first; the others wait for it.
// Threading: Run from any thread; Take and Drop by who holds the container.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <utility>

namespace crisp::pod {

class StartAhead {
 public:
  explicit StartAhead(std::function<std::string()> work) : work_(std::move(work)) {}
  void Run() {
    std::call_once(once_, [this] { launch_ = std::exchange(work_, {})(); });
  }
  // What has come of it (Runtime::PrepareStart); "": nothing, the start does it all. The first time only.
  std::string Take() {
    Run();
    return std::exchange(launch_, {});
  }
  // It is not done any more, or was and does not count.
  void Drop() {
    std::call_once(once_, [this] { work_ = {}; });
    launch_.clear();
  }

 private:
  std::once_flag once_;
  std::function<std::string()> work_;
  std::string launch_;
};

}  // namespace crisp::pod
