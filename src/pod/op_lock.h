// OpLock: serialises verbs on one object. Like a shared mutex, but waiting ends with the caller's deadline and the error
// says who holds it, writers go before new readers, and a hold may be released by another thread than took it.
// Threading: any thread. Lock order: pod before container; several containers of a pod only with the pod held exclusively.
#pragma once

#include <condition_variable>
#include <mutex>
#include <utility>

#include "base/context.h"

namespace crisp::pod {

class OpLock {
 public:
  // Releases in its destructor. The lock outlives it.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)), exclusive_(other.exclusive_) {}
    Hold& operator=(Hold&& other) noexcept {
      if (this != &other) {
        Release();
        lock_ = std::exchange(other.lock_, nullptr);
        exclusive_ = other.exclusive_;
      }
      return *this;
    }
    ~Hold() { Release(); }
    void Release();

   private:
    friend class OpLock;
    Hold(OpLock* lock, bool exclusive) : lock_(lock), exclusive_(exclusive) {}
    OpLock* lock_ = nullptr;
    bool exclusive_ = false;
  };

  // `verb` has static storage and is what a waiter's error names. kDeadlineExceeded when ctx ends first.
  Result<Hold> Exclusive(const Ctx& ctx, const char* verb);
  Result<Hold> Shared(const Ctx& ctx, const char* verb);

 private:
  Error TimedOut(const char* verb) const;

  std::mutex mutex_;
  std::condition_variable changed_;
  int readers_ = 0;
  int writers_waiting_ = 0;
  bool writer_ = false;
  const char* holder_ = "";
  Clock::time_point held_since_;
};

}  // namespace crisp::pod
