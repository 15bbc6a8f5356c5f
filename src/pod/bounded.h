// Bounded: work on a path of the user's may hang in the kernel (a dead NFS or FUSE server) with nobody able to end it.
// Such work runs on a thread of its own, which is left behind when the deadline comes (user pain 13: one dead volume
// must not hold up its pod's removal, let alone other pods).
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "base/strings.h"
#include "base/thread.h"
#include "pod/flight.h"

namespace crisp::pod {

inline constexpr int kThreadsLeftBehindMax = 64;

// `work` owns everything that it uses. `what` names it in the error: kDeadlineExceeded, or kResourceExhausted when too
// many threads are stuck already.
template <class T>
Result<T> Bounded(const Ctx& ctx, const std::string& what, std::function<Result<T>()> work) {
  static std::atomic<int> running{0};
  if (++running > kThreadsLeftBehindMax) {
    --running;
    return Error(Code::kResourceExhausted, StrCat(what, ": too many paths on this node do not answer"));
  }
  auto flight = std::make_shared<Flight<T>>();
  Result<std::thread> thread = StartThread([flight, work = std::move(work)]() mutable {
    Result<T> done = work();
    work = nullptr;
    --running;
    flight->Land(std::move(done));
  });
  if (!thread) {
    --running;
    return std::move(thread).error().Context(what);
  }
  thread->detach();
  Result<T> done = flight->Wait(ctx, what);
  if (!done && done.error().code() == Code::kDeadlineExceeded) {
    return Error(Code::kDeadlineExceeded, StrCat(what, ": a path does not answer; is its server gone?"));
  }
  return done;
}

}  // namespace crisp::pod
