// Work that goes on beside the caller's own. Threading: the work runs on a thread of the pool, or on the caller's.
#pragma once

#include <future>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/pool.h"

namespace crisp {

// What is going on beside, and its result. The destructor waits for it.
template <class T>
class GoingOn {
 public:
  GoingOn() = default;
  explicit GoingOn(std::future<T> result) : result_(std::move(result)) {}
  GoingOn(GoingOn&&) noexcept = default;
  GoingOn& operator=(GoingOn&&) = delete;
  ~GoingOn() {
    if (result_.valid()) result_.wait();
  }
  bool valid() const { return result_.valid(); }  // there is something, whose result nobody has taken yet
  void Wait() const { result_.wait(); }
  T Take() { return result_.get(); }

 private:
  std::future<T> result_;
};

// Runs `work` on a thread of the pool, one with Options::never_waits; not valid(): there is none to be had (its limit,
// or the system's), and the work was not begun.
template <class Work>
GoingOn<std::invoke_result_t<Work&>> TryBeside(Pool& pool, Work work) {
  auto task = std::make_shared<std::packaged_task<std::invoke_result_t<Work&>()>>(std::move(work));
  auto result = task->get_future();
  if (!pool.Submit([task] { (*task)(); })) return {};
  return GoingOn(std::move(result));
}

// The same; where there is no thread it runs now, before this returns.
template <class Work>
GoingOn<std::invoke_result_t<Work&>> Beside(Pool& pool, Work work) {
  auto going_on = TryBeside(pool, work);
  if (going_on.valid()) return going_on;
  std::promise<std::invoke_result_t<Work&>> done;
  done.set_value(work());
  return GoingOn(done.get_future());
}

}  // namespace crisp
