// Workers: a few threads that run what is posted, in order of posting. What has not begun when it is destroyed is
// dropped: everything posted here is repeated by recovery.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "base/context.h"
#include "base/synchronized.h"

namespace crisp::pod {

class Workers {
 public:
  explicit Workers(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  }
  ~Workers() { Stop(); }

  void Post(std::function<void()> task) { (void)TryPost(std::move(task), SIZE_MAX); }
  // False, and nothing posted, where so many wait already.
  [[nodiscard]] bool TryPost(std::function<void()> task, size_t waiting_max) {
    {
      auto state = state_.Lock();
      if (state->queue.size() >= waiting_max) return false;
      state->queue.push_back(std::move(task));
    }
    changed_.notify_one();
    return true;
  }
  // After it no task runs and none ever will.
  void Stop() {
    state_.Lock()->stopping = true;
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  // Until the queue is empty and nobody works: for tests.
  void Drain() {
    auto state = state_.Lock();
    state.Wait(idle_, [&] { return state->idle(); });
  }
  // The same, but no longer than this.
  void DrainUntil(Clock::time_point until) {
    auto state = state_.Lock();
    state.WaitUntil(idle_, until, [&] { return state->idle(); });
  }

 private:
  void Run() {
    while (true) {
      std::function<void()> task;
      {
        auto state = state_.Lock();
        state.Wait(changed_, [&] { return state->stopping || !state->queue.empty(); });
        if (state->stopping) return;
        task = std::move(state->queue.front());
        state->queue.pop_front();
        ++state->busy;
      }
      task();
      task = nullptr;  // what it holds goes before we count as idle
      bool idle;
      {
        auto state = state_.Lock();
        --state->busy;
        idle = state->idle();
      }
      if (idle) idle_.notify_all();
    }
  }
  struct State {
    std::deque<std::function<void()>> queue;
    int busy = 0;
    bool stopping = false;
    bool idle() const { return queue.empty() && busy == 0; }
  };
  Synchronized<State> state_;
  std::condition_variable changed_;  // work, stop
  std::condition_variable idle_;
  std::vector<std::thread> threads_;
};

}  // namespace crisp::pod
