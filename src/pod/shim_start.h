// The start of a pod's shim beside the rest of the pod. Threading: one thread, besides the one that it makes.
#pragma once

#include <functional>
#include <future>
#include <string>
#include <system_error>
#include <utility>

#include "base/result.h"

namespace crisp::pod {

class ShimStart {
 public:
  using AwaitNetns = std::function<Result<std::string>()>;

  ShimStart() = default;
  ShimStart(const ShimStart&) = delete;
  ShimStart& operator=(const ShimStart&) = delete;
  // Waits for what was begun, with an error for it if it waits for the network namespace.
  ~ShimStart() { TellNetns(Error(Code::kAborted, "the pod could not be made")); }

  // Runs `work`, once, on a thread of its own; where there is none to be had (EAGAIN) nothing is begun.
  void Begin(std::function<Result<>(AwaitNetns)> work) {
    try {
      done_ = std::async(std::launch::async,
                         [this, work = std::move(work)] { return work([this] { return netns_.get_future().get(); }); });
    } catch (const std::system_error&) {
      told_ = true;
    }
  }
  bool begun() const { return done_.valid(); }
  // The path of the pod's network namespace, "" for the node's. The first time counts.
  void TellNetns(Result<std::string> path) {
    if (!std::exchange(told_, true)) netns_.set_value(std::move(path));
  }
  Result<> Wait() { return done_.get(); }

 private:
  std::promise<Result<std::string>> netns_;
  bool told_ = false;
  std::future<Result<>> done_;  // its destructor waits
};

}  // namespace crisp::pod
