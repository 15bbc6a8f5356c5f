#include "base/pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/thread.h"

namespace crisp {

namespace {
unsigned Processor() {
  const int here = sched_getcpu();
  return here < 0 ? 0 : static_cast<unsigned>(here);
}

// Where the new thread may run, if it now may not run here.
std::optional<cpu_set_t> MoveElsewhere(pthread_t thread) {
  cpu_set_t allowed;
  if (pthread_getaffinity_np(thread, sizeof allowed, &allowed) != 0) return std::nullopt;
  cpu_set_t others = allowed;
  CPU_CLR(Processor(), &others);
  if (CPU_COUNT(&others) == 0 || CPU_EQUAL(&others, &allowed)) return std::nullopt;
  if (pthread_setaffinity_np(thread, sizeof others, &others) != 0) return std::nullopt;
  return allowed;
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
  auto waiter = std::make_shared<Waiter>();
  Result<std::thread> thread = crisp::StartThread([this, waiter] { Work(waiter); });
  if (!thread) return false;
  pthread_setname_np(thread->native_handle(), options_.name);
  if (options_.begins_elsewhere) waiter->affinity = MoveElsewhere(thread->native_handle());
  thread->detach();
  return true;
}

void Pool::Work(const WaiterPtr& self) {
  while (std::function<void()> work = Next(self)) {
    // It has been set when Next gets the lock.
    if (std::optional<cpu_set_t> affinity = std::exchange(self->affinity, std::nullopt)) {
      sched_setaffinity(0, sizeof *affinity, &*affinity);
    }
    work();
  }
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
