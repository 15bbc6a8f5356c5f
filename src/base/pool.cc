#include "base/pool.h"

#include <pthread.h>

#include <system_error>
#include <thread>

namespace crisp {

Pool::~Pool() {
  auto state = state_.Lock();
  state->closing = true;
  work_ready_.notify_all();
  state.Wait(thread_ended_, [&] { return state->threads == 0; });
}

bool Pool::Submit(std::function<void()> work) {
  {
    auto state = state_.Lock();
    if (state->queue.size() >= options_.queue_max) return false;
    if (static_cast<int>(state->queue.size()) + 1 > state->idle) {
      // Under the lock, so that nobody counts on a thread that there will not be.
      const bool started = state->threads < options_.threads_max && StartThread();
      if (started) ++state->threads;
      if (!started && (options_.never_waits || state->threads == 0)) return false;
    }
    state->queue.push_back(std::move(work));
  }
  work_ready_.notify_one();
  return true;
}

bool Pool::StartThread() {
  try {
    std::thread thread([this] { Work(); });
    pthread_setname_np(thread.native_handle(), options_.name);
    thread.detach();
    return true;
  } catch (const std::system_error&) {  // EAGAIN: the limit of threads of the system or of our cgroup
    return false;
  }
}

void Pool::Work() {
  while (std::function<void()> work = Next()) work();
}

std::function<void()> Pool::Next() {
  auto state = state_.Lock();
  ++state->idle;
  state.WaitUntil(work_ready_, std::chrono::steady_clock::now() + options_.idle,
                  [&] { return !state->queue.empty() || state->closing; });
  --state->idle;
  if (state->queue.empty()) {
    --state->threads;
    // Under the lock: the destructor may free the condition as soon as it can take the lock and sees no thread.
    thread_ended_.notify_all();
    return {};
  }
  std::function<void()> work = std::move(state->queue.front());
  state->queue.pop_front();
  return work;
}

}  // namespace crisp
