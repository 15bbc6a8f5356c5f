// Flight: one running operation and everybody who waits for its result.
#pragma once

#include <condition_variable>
#include <optional>

#include "base/context.h"
#include "base/synchronized.h"

namespace crisp::pod {

template <class T>
class Flight {
 public:
  void Land(Result<T> result) {
    result_.Lock()->emplace(std::move(result));
    landed_.notify_all();
  }
  // A waiter that gives up leaves the operation running.
  Result<T> Wait(const Ctx& ctx, std::string_view what) {
    ctx.Stage("wait for the same call");
    auto until = std::min(ctx.deadline(), Clock::now() + std::chrono::hours(1));
    auto result = result_.Lock();
    if (!result.WaitUntil(landed_, until, [&] { return result->has_value(); })) {
      return Error(Code::kDeadlineExceeded, std::string(what) + " is still running; ask again to get its result");
    }
    return **result;
  }

 private:
  Synchronized<std::optional<Result<T>>> result_;
  std::condition_variable landed_;
};

}  // namespace crisp::pod
