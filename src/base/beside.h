// Work that goes on beside the caller's own. Threading: the work runs on a thread of the pool, or on the caller's.
#pragma once

#include <atomic>
#include <future>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/pool.h"

namespace crisp {

// Done once, by the thread that has it first.
template <class T>
class SideWork {
 public:
  explicit SideWork(std::packaged_task<T()> task) : task_(std::move(task)) {}
  void Run() {
    if (!begun_.exchange(true)) task_();
  }

 private:
  std::packaged_task<T()> task_;
  std::atomic<bool> begun_ = false;
};

// What is going on beside, and its result. Who waits for what has not begun does it: its thread may have no processor to
// run on. The destructor waits.
template <class T>
class GoingOn {
 public:
  GoingOn() = default;
  explicit GoingOn(std::future<T> result, std::shared_ptr<SideWork<T>> work = nullptr)
      : result_(std::move(result)), work_(std::move(work)) {}
  GoingOn(GoingOn&&) noexcept = default;
  GoingOn& operator=(GoingOn&&) = delete;
  ~GoingOn() {
    if (valid()) Wait();
  }
  bool valid() const { return result_.valid(); }  // there is something, whose result nobody has taken yet
  void Wait() const {
    if (work_ != nullptr) work_->Run();
    result_.wait();
  }
  T Take() {
    Wait();
    return result_.get();
  }

 private:
  std::future<T> result_;
  std::shared_ptr<SideWork<T>> work_;
};

// Runs `work` on a thread of the pool, one with Options::never_waits; not valid(): there is none to be had (its limit,
// or the system's), and the work was not begun.
template <class Work>
GoingOn<std::invoke_result_t<Work&>> TryBeside(Pool& pool, Work work) {
  using T = std::invoke_result_t<Work&>;
  std::packaged_task<T()> task(std::move(work));
  auto result = task.get_future();
  auto shared = std::make_shared<SideWork<T>>(std::move(task));
  if (!pool.Submit([shared] { shared->Run(); })) return {};
  return GoingOn<T>(std::move(result), std::move(shared));
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
