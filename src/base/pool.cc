#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <sys/sysinfo.h>

#include <cstring>
#include <utility>

#include "base/thread.h"

namespace crisp {

namespace {

// All that there are and may be: a thread that was once given a mask has it cut its later cpusets, and those of its
// children (task_struct.user_cpus_ptr). This one cuts nothing.
cpu_set_t EveryProcessor() {
  cpu_set_t all;
  std::memset(&all, 0xff, sizeof all);
  return all;
}

int ProcessorsOf(pthread_t thread) {
  cpu_set_t allowed;
  return pthread_getaffinity_np(thread, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 0;
}

}  // namespace

Pool::Pool(const Options& options)
    : options_(options), processors_(options.elsewhere && get_nprocs() > 1 ? get_nprocs() : 0) {}

// Whoever narrows the mask of our process or of its threads (CPUAffinity=, taskset, tuned) means it.
void Pool::MoveElsewhere(Waiter& waiter) const {
  const int here = sched_getcpu();
  if (processors_ == 0 || here < 0 || ProcessorsOf(waiter.thread) < processors_ - (waiter.moved ? 1 : 0)) return;
  cpu_set_t others = EveryProcessor();
  CPU_CLR(static_cast<unsigned>(here), &others);
  if (pthread_setaffinity_np(waiter.thread, sizeof others, &others) == 0) waiter.moved = true;
}

void Pool::MoveBack(Waiter& self) const {
  const cpu_set_t all = EveryProcessor();
  if (ProcessorsOf(self.thread) < processors_ - 1 || sched_setaffinity(0, sizeof all, &all) == 0) self.moved = false;
}

Pool::~Pool() {
  auto state = state_.Lock();
  state->closing = true;
  for (const WaiterPtr& waiter : state->free) waiter->ready.notify_one();
  state.Wait(thread_ended_, [&] { return state->threads == 0; });
}

bool Pool::Submit(std::function<void()> work) {
  WaiterPtr chosen;
  {
    auto state = state_.Lock();
    if (state->free.empty()) return Queue(*state, std::move(work));
    chosen = std::move(state->free.back());
    state->free.pop_back();
    chosen->work = std::move(work);
    MoveElsewhere(*chosen);
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
  waiter->thread = thread->native_handle();
  MoveElsewhere(*waiter);
  thread->detach();
  return true;
}

void Pool::Work(const WaiterPtr& self) {
  while (std::function<void()> work = Next(self)) {
    // It has been set when Next gets the lock.
    if (self->moved) MoveBack(*self);
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
