// Gate: many verbs pass at once, or one plugin is brought up to date, never both. A plugin that waits goes before verbs
// that come later, so a busy node does not keep it out; and each side waits for so long only.
// Threading: any thread. Whoever holds a pass must not enter again.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <memory>

#include "base/context.h"
#include "base/result.h"
#include "base/synchronized.h"

namespace crisp::nri {

class Gate : public std::enable_shared_from_this<Gate> {
 public:
  using Pass = std::shared_ptr<const void>;

  // kDeadlineExceeded, kCancelled.
  Result<Pass> Enter(const Ctx& ctx) {
    auto state = state_.Lock();
    auto open = [&] { return state->holds == 0 && !state->closed && state->closing == 0; };
    if (!state.WaitUntil(changed_, Until(ctx), open)) {
      return Error(Code::kDeadlineExceeded, "plugins are being started or brought up to date");
    }
    ++state->inside;
    return Pass(this, [self = shared_from_this()](const void*) { self->Leave(); });
  }

  // From now on nobody enters until as many calls of Release: for the time in which plugins are started.
  void Hold() { ++state_.Lock()->holds; }
  void Release() {
    --state_.Lock()->holds;
    changed_.notify_all();
  }

  // Waits until nobody is inside. The answer keeps everybody out.
  Result<Pass> Close(const Ctx& ctx) {
    auto state = state_.Lock();
    ++state->closing;
    bool got = state.WaitUntil(changed_, Until(ctx), [&] { return state->inside == 0 && !state->closed; });
    --state->closing;
    if (!got) {
      changed_.notify_all();
      return Error(Code::kDeadlineExceeded, "verbs under way do not end");
    }
    state->closed = true;
    return Pass(this, [self = shared_from_this()](const void*) { self->Open(); });
  }

 private:
  // Far, but not so far that the clock's arithmetic overflows.
  static Clock::time_point Until(const Ctx& ctx) {
    return std::min(ctx.deadline(), Clock::now() + std::chrono::hours(1));
  }
  void Leave() {
    --state_.Lock()->inside;
    changed_.notify_all();
  }
  void Open() {
    state_.Lock()->closed = false;
    changed_.notify_all();
  }
  struct State {
    int holds = 0, inside = 0, closing = 0;
    bool closed = false;
  };
  Synchronized<State> state_;
  std::condition_variable changed_;
};

}  // namespace crisp::nri
