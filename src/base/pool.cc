#include "base/pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>

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
  for (const WaiterPtr& waiter : state->free) waiter->ready.notify_one();
  state.Wait(thread_ended_, [&] { return state->threads == 0; });
}

Pool::WaiterPtr Pool::TakeWaiter(State& state) const {
  auto chosen = std::prev(state.free.end());
  if (options_.elsewhere) {
    const unsigned here = Processor();
    auto other = std::find_if(state.free.rbegin(), state.free.rend(), [&](const WaiterPtr& w) { return w->processor != here; });
    if (other != state.free.rend()) chosen = std::prev(other.base());
  }
  WaiterPtr waiter = std::move(*chosen);
  state.free.erase(chosen);
  return waiter;
}

bool Pool::Submit(std::function<void()> work) {
  WaiterPtr chosen;
  {
    auto state = state_.Lock();
    if (state->free.empty()) return Queue(*state, std::move(work));
    chosen = TakeWaiter(*state);
    chosen->work = std::move(work);
  }
  chosen->ready.notify_one();  // without the lock: it may run at once, and takes the lock first
  return true;
}

bool Pool::Queue(State& state, std::function<void()> work) {
  if (state.queue.size() >= options_.queue_max) return false;
  // Under the lock, so that nobody counts on a thread that there will not be.
  const bool started = state.threads < options_.threads_max && StartThread();
  if (started) ++state.threads;
  if (!started && (options_.never_waits || state.threads == 0)) return false;
  state.queue.push_back(std::move(work));
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
  auto self = std::make_shared<Waiter>();
  while (std::function<void()> work = Next(self)) work();
}

std::function<void()> Pool::Next(const WaiterPtr& self) {
  auto state = state_.Lock();
  if (!state->queue.empty()) {
    std::function<void()> work = std::move(state->queue.front());
    state->queue.pop_front();
    return work;
  }
  self->processor = Processor();
  state->free.push_back(self);
  state.WaitUntil(self->ready, std::chrono::steady_clock::now() + options_.idle,
                  [&] { return self->work || state->closing; });
  if (self->work) return std::exchange(self->work, nullptr);
  std::erase(state->free, self);
  --state->threads;
  // Under the lock: the destructor may free the condition as soon as it can take the lock and sees no thread.
  thread_ended_.notify_all();
  return {};
}

}  // namespace crisp
