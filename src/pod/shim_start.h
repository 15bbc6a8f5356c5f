// The start of a pod's shim beside the rest of the pod. Threading: one thread, besides the pool's.
#pragma once

#include <functional>
#include <future>
#include <optional>
#include <string>
#include <utility>

#include "base/beside.h"
#include "base/result.h"

namespace crisp::pod {

class ShimStart {
 public:
  using AwaitNetns = std::function<Result<std::string>()>;

  explicit ShimStart(Pool& pool) : pool_(pool) {}
  ShimStart(const ShimStart&) = delete;
  ShimStart& operator=(const ShimStart&) = delete;
  // Waits for what was begun, with an error for it if it waits for the network namespace.
  ~ShimStart() { TellNetns(Error(Code::kAborted, "the pod could not be made")); }

  // Runs `work`, once, beside; where there is no thread to be had nothing is begun.
  template <class Work>
  void Begin(Work work) {
    AwaitNetns await = [netns = netns_.get_future().share()] { return netns.get(); };
    done_.emplace(TryBeside(pool_, [work = std::move(work), await = std::move(await)] { return work(await); }));
  }
  bool begun() const { return done_ && done_->valid(); }
  // The path of the pod's network namespace, "" for the node's. The first time counts.
  void TellNetns(Result<std::string> path) {
    if (!std::exchange(told_, true)) netns_.set_value(std::move(path));
  }
  Result<> Wait() { return done_->Take(); }

 private:
  Pool& pool_;
  std::promise<Result<std::string>> netns_;
  bool told_ = false;
  std::optional<GoingOn<Result<>>> done_;  // its destructor waits
};

}  // namespace crisp::pod
