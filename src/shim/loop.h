// The shim's event loop: epoll, timers, and one scratch buffer. Single-threaded. Nothing here wakes up without a reason:
// an idle shim sleeps in epoll_wait for ever.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "sys/fd.h"

namespace crisp::shim {

class Loop {
 public:
  using Id = uint64_t;  // never reused; 0 is none
  static Result<std::unique_ptr<Loop>> Make();

  // Calls `callback` with the epoll events while `fd` is ready. The fd is the caller's and outlives the watch.
  Result<Id> Watch(sys::BorrowedFd fd, uint32_t events, std::function<void(uint32_t)> callback);
  void Change(Id id, uint32_t events);
  void Unwatch(Id id);  // also from within its own callback; 0 and unknown ids are ignored
  Id After(std::chrono::milliseconds delay, std::function<void()> callback);
  void CancelTimer(Id id);

  // Called each time before the loop goes to sleep.
  void SetBeforeSleep(std::function<void()> callback) { before_sleep_ = std::move(callback); }
  void Run();
  void Stop() { stopped_ = true; }

 private:
  struct Watcher {
    int fd;
    std::function<void(uint32_t)> callback;
  };
  struct Timer {
    std::chrono::steady_clock::time_point at;
    std::function<void()> callback;
  };
  explicit Loop(sys::UniqueFd epoll) : epoll_(std::move(epoll)) {}
  int TimeoutMs() const;
  void RunTimers();

  sys::UniqueFd epoll_;
  std::map<Id, Watcher> watchers_;
  std::map<Id, Timer> timers_;
  std::function<void()> before_sleep_;
  Id last_id_ = 0;
  bool stopped_ = false;
};

// 64 KiB for whoever is running just now: contents do not survive a return to the loop. It gives its pages back to the
// kernel when the loop has been idle for a moment, so that it costs an idle shim nothing.
inline constexpr size_t kScratchBytes = 64 * 1024;
char* Scratch();

}  // namespace crisp::shim
