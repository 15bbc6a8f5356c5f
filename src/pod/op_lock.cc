#include "pod/op_lock.h"

#include "base/strings.h"

namespace crisp::pod {

// wait_until(time_point::max()) overflows in some standard libraries.
static Clock::time_point Bounded(const Ctx& ctx) { return std::min(ctx.deadline(), Clock::now() + std::chrono::hours(1)); }

Result<OpLock::Hold> OpLock::Exclusive(const Ctx& ctx, const char* verb) {
  std::unique_lock lock(mutex_);
  ++writers_waiting_;
  bool free = changed_.wait_until(lock, Bounded(ctx), [&] { return !writer_ && readers_ == 0; });
  --writers_waiting_;
  if (!free) {
    changed_.notify_all();  // readers held up by our waiting may go on
    return TimedOut(verb);
  }
  writer_ = true;
  holder_ = verb;
  held_since_ = Clock::now();
  return Hold(this, true);
}

Result<OpLock::Hold> OpLock::Shared(const Ctx& ctx, const char* verb) {
  std::unique_lock lock(mutex_);
  bool free = changed_.wait_until(lock, Bounded(ctx), [&] { return !writer_ && writers_waiting_ == 0; });
  if (!free) return TimedOut(verb);
  ++readers_;
  holder_ = verb;
  held_since_ = Clock::now();
  return Hold(this, false);
}

Error OpLock::TimedOut(const char* verb) const {
  auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - held_since_).count();
  return Error(Code::kDeadlineExceeded, StrCat(verb, " waits for ", holder_, ", which has been running for ", seconds, " s"));
}

void OpLock::Hold::Release() {
  OpLock* lock = std::exchange(lock_, nullptr);
  if (lock == nullptr) return;
  std::lock_guard guard(lock->mutex_);
  if (exclusive_) {
    lock->writer_ = false;
  } else {
    --lock->readers_;
  }
  lock->changed_.notify_all();
}

}  // namespace crisp::pod
