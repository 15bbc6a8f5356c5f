#include "base/pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <iterator>
#include <system_error>
#include <thread>

namespace crisp {

namespace {
unsigned Processor() {
  const int here = sched_getcpu();
  return here < 0 ? 0 : static_cast<unsigned>(here);
}
}  // namespace

Pool::~Pool() {
  auto state = state_.Lock();
  state->closing = true;
  for (Waiter* waiter : state->free) waiter->ready.notify_one();
  state.Wait(thread_ended_, [&] { return state->threads == 0; });
}

Pool::Waiter& Pool::TakeWaiter(State& state) const {
  auto chosen = std::prev(state.free.end());
  if (options_.elsewhere) {
    const unsigned here = Processor();
    auto other = std::find_if(state.free.rbegin(), state.free.rend(), [&](Waiter* w) { return w->processor != here; });
    if (other != state.free.rend()) chosen = std::prev(other.base());
  }
  Waiter& waiter = **chosen;
  state.free.erase(chosen);
  return waiter;
}

bool Pool::Submit(std::function<void()> work) {
  auto state = state_.Lock();
  if (!state->free.empty()) {
    Waiter& waiter = TakeWaiter(*state);
    waiter.work = std::move(work);
    waiter.ready.notify_one();  // under the lock: it is gone as soon as it can see its work
    return true;
  }
  if (state->queue.size() >= options_.queue_max) return false;
  // Under the lock, so that nobody counts on a thread that there will not be.
  const bool started = state->threads < options_.threads_max && StartThread();
  if (started) ++state->threads;
  if (!started && (options_.never_waits || state->threads == 0)) return false;
  state->queue.push_back(std::move(work));
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
  if (!state->queue.empty()) {
    std::function<void()> work = std::move(state->queue.front());
    state->queue.pop_front();
    return work;
  }
  Waiter self;
  self.processor = Processor();
  state->free.push_back(&self);
  state.WaitUntil(self.ready, std::chrono::steady_clock::now() + options_.idle,
                  [&] { return self.work || state->closing; });
  if (self.work) return std::move(self.work);
  std::erase(state->free, &self);
  --state->threads;
  // Under the lock: the destructor may free the condition as soon as it can take the lock and sees no thread.
  thread_ended_.notify_all();
  return {};
}

}  // namespace crisp
