// Synchronized<T>: data that can be reached only with its lock held.
//   Synchronized<std::map<…>> pods_;  // guards …; lock order: …
//   auto pods = pods_.Lock();  pods->emplace(…);
// Hold no lock across a spawn, an RPC, or anything else that waits for another party.
#pragma once

#include <condition_variable>
#include <mutex>

namespace crisp {

template <class T>
class Synchronized {
 public:
  template <class... Args>
  explicit Synchronized(Args&&... args) : value_(std::forward<Args>(args)...) {}

  class Guard {
   public:
    T* operator->() { return value_; }
    T& operator*() { return *value_; }
    // Waits on `condition` with the lock given up meanwhile.
    template <class Predicate>
    void Wait(std::condition_variable& condition, Predicate ready) {
      condition.wait(lock_, std::move(ready));
    }
    template <class TimePoint, class Predicate>
    bool WaitUntil(std::condition_variable& condition, TimePoint until, Predicate ready) {
      return condition.wait_until(lock_, until, std::move(ready));
    }

   private:
    friend class Synchronized;
    Guard(std::mutex& mutex, T* value) : lock_(mutex), value_(value) {}
    std::unique_lock<std::mutex> lock_;
    T* value_;
  };

  Guard Lock() { return Guard(mutex_, &value_); }
  Guard Lock() const { return Guard(mutex_, const_cast<T*>(&value_)); }

 private:
  mutable std::mutex mutex_;
  T value_;
};

}  // namespace crisp
