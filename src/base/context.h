// Ctx: what a call carries down: until when it may take, whether it was cancelled, and who asked. Every function that
// blocks takes one. A value with shared innards: cheap to copy, safe to read from several threads.
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>

#include "base/afterwork.h"
#include "base/result.h"
#include "base/stages.h"

namespace crisp {

using Clock = std::chrono::steady_clock;

class Ctx {
 public:
  // No deadline, never cancelled: for clean-up work that sets its own bound by WithTimeout.
  Ctx() = default;
  Ctx(Clock::time_point deadline, std::stop_token stop, std::string request_id)
      : deadline_(deadline), stop_(std::move(stop)), request_id_(std::move(request_id)) {}

  Clock::time_point deadline() const { return deadline_; }
  const std::stop_token& stop() const { return stop_; }
  const std::string& request_id() const { return request_id_; }

  // Says where the call is just now, for the log of slow operations and for timings. `stage` has static storage.
  void Stage(const char* stage) const {
    if (stages_) stages_->Enter(stage);
  }
  // Where this call and all its copies write their stages; null: nobody reads them.
  void TrackStages(std::shared_ptr<Stages> stages) { stages_ = std::move(stages); }
  const Stages* stages() const { return stages_.get(); }

  // Leaves `work` until the caller has the answer; where nobody collects such work it is done now. Only from the thread
  // that the call runs on. Nothing may wait for it before the answer.
  void Afterwards(std::function<void()> work) const {
    if (afterwork_) {
      afterwork_->Add(std::move(work));
    } else {
      work();
    }
  }
  void CollectAfterwork(std::shared_ptr<Afterwork> afterwork) { afterwork_ = std::move(afterwork); }

  // The same call with at most `timeout` from now. Never extends the deadline.
  Ctx WithTimeout(std::chrono::milliseconds timeout) const {
    Ctx ctx = *this;
    ctx.deadline_ = std::min(deadline_, Clock::now() + timeout);
    return ctx;
  }
  // A context for undo and clean-up: the request's id, but a deadline of its own and no cancellation, so that an
  // expired request still cleans up after itself.
  Ctx Detached(std::chrono::milliseconds timeout) const {
    Ctx ctx(Clock::now() + timeout, {}, request_id_);
    ctx.stages_ = stages_;
    ctx.afterwork_ = afterwork_;
    return ctx;
  }

  bool Expired() const { return Clock::now() >= deadline_; }
  // kCancelled or kDeadlineExceeded if the call should not go on.
  Result<> Check() const {
    if (stop_.stop_requested()) return Error(Code::kCancelled, "the caller went away");
    if (Expired()) return Error(Code::kDeadlineExceeded, "deadline exceeded");
    return {};
  }
  // Milliseconds left for poll(2): 0 when expired, at most an hour.
  int PollTimeoutMs() const {
    using std::chrono::milliseconds;
    if (deadline_ - Clock::now() > std::chrono::hours(1)) return 3'600'000;
    auto left = std::chrono::ceil<milliseconds>(deadline_ - Clock::now()).count();
    return left < 0 ? 0 : static_cast<int>(left);
  }

 private:
  Clock::time_point deadline_ = Clock::time_point::max();
  std::stop_token stop_;
  std::string request_id_;
  std::shared_ptr<Stages> stages_;
  std::shared_ptr<Afterwork> afterwork_;
};

}  // namespace crisp
