// Pool: threads for calls that block. It grows up to its limit when work waits and shrinks after some idle seconds, so
// that an idle daemon keeps no threads and their stacks. Of the free threads the last one that became so gets the work.
// Threading: Submit from any thread. The destructor runs what is queued, waits for it, and then for the threads.
#pragma once

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "base/synchronized.h"

namespace crisp {

class Pool {
 public:
  struct Options {
    const char* name = "pool";  // of the threads, at most 15 characters
    int threads_max = 4;
    size_t queue_max = 1024;  // waiting work beyond the busy threads
    std::chrono::milliseconds idle{5'000};
    bool never_waits = false;  // work is taken only if a thread is free for it, or can be started
    // Work goes on while its submitter does: its thread begins it on another processor, and may run wherever it may from
    // then on. With few processors the kernel often leaves a thread behind its waker though another processor is
    // idle: a virtual one that sleeps counts as preempted (kernel/sched/sched.h, available_idle_cpu). Nothing of this for
    // a thread that may not run on every processor.
    bool elsewhere = false;
  };
  explicit Pool(const Options& options);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();

  // False when the queue is full, or there is no thread and none could be started: the work was not taken.
  bool Submit(std::function<void()> work);
  int threads() const { return state_.Lock()->threads; }

 private:
  // A thread while it is free.
  struct Waiter {
    std::function<void()> work;  // empty: none yet
    std::condition_variable ready;
    pthread_t thread{};
    bool moved = false;  // it may not run on one processor, until it begins its work
  };
  using WaiterPtr = std::shared_ptr<Waiter>;
  struct State {
    std::deque<std::function<void()>> queue;  // for threads that are busy or begin; empty while there are free ones
    std::vector<WaiterPtr> free;              // the last one to become so is the last
    int threads = 0;
    bool closing = false;
  };
  bool Queue(State& state, std::function<void()> work);  // there is no free thread
  bool StartThread();
  void MoveElsewhere(Waiter& waiter) const;
  void MoveBack(Waiter& self) const;
  void Work(const WaiterPtr& self);
  // The next piece of work; an empty function when this thread shall end (it is no longer counted then).
  std::function<void()> Next(const WaiterPtr& self);

  const Options options_;
  const int processors_;  // that there are; 0: work begins anywhere
  Synchronized<State> state_;
  std::condition_variable thread_ended_;
};

}  // namespace crisp
