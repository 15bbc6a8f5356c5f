#include "shim/loop.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cerrno>
#include <vector>

#include "base/log.h"

namespace crisp::shim {

namespace {
using Clock = std::chrono::steady_clock;
alignas(4096) char g_scratch[kScratchBytes];
bool g_scratch_dirty = false;
constexpr int kIdleMs = 50;
}  // namespace

char* Scratch() {
  g_scratch_dirty = true;
  return g_scratch;
}

Result<std::unique_ptr<Loop>> Loop::Make() {
  int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) return Errno(errno, "epoll_create");
  return std::unique_ptr<Loop>(new Loop(sys::UniqueFd(fd)));
}

Result<Loop::Id> Loop::Watch(sys::BorrowedFd fd, uint32_t events, std::function<void(uint32_t)> callback) {
  Id id = ++last_id_;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) return Errno(errno, "epoll_ctl add");
  watchers_.emplace(id, Watcher{fd.get(), std::move(callback)});
  return id;
}

void Loop::Change(Id id, uint32_t events) {
  auto found = watchers_.find(id);
  if (found == watchers_.end()) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, found->second.fd, &event);
}

void Loop::Unwatch(Id id) {
  auto found = watchers_.find(id);
  if (found == watchers_.end()) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
  watchers_.erase(found);
}

Loop::Id Loop::After(std::chrono::milliseconds delay, std::function<void()> callback) {
  Id id = ++last_id_;
  timers_.emplace(id, Timer{Clock::now() + delay, std::move(callback)});
  return id;
}

void Loop::CancelTimer(Id id) { timers_.erase(id); }

int Loop::TimeoutMs() const {
  if (timers_.empty()) return -1;
  Clock::time_point first = Clock::time_point::max();
  for (const auto& [id, timer] : timers_) first = std::min(first, timer.at);
  auto left = std::chrono::ceil<std::chrono::milliseconds>(first - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(std::min<int64_t>(left, 3'600'000));
}

void Loop::RunTimers() {
  Clock::time_point now = Clock::now();
  std::vector<Id> due;
  for (const auto& [id, timer] : timers_) {
    if (timer.at <= now) due.push_back(id);
  }
  for (Id id : due) {
    auto found = timers_.find(id);
    if (found == timers_.end()) continue;  // cancelled by one before it
    std::function<void()> callback = std::move(found->second.callback);
    timers_.erase(found);
    callback();
  }
}

void Loop::Run() {
  while (!stopped_) {
    if (before_sleep_) before_sleep_();
    if (stopped_) return;
    int timeout = TimeoutMs();
    if (g_scratch_dirty && (timeout < 0 || timeout > kIdleMs)) timeout = kIdleMs;
    epoll_event events[16];
    int n = epoll_wait(epoll_.get(), events, 16, timeout);
    if (n < 0 && errno != EINTR) {
      LogError("epoll_wait failed, ending", {{"errno", errno}});
      return;
    }
    if (n == 0 && g_scratch_dirty) {
      madvise(g_scratch, sizeof g_scratch, MADV_DONTNEED);
      malloc_trim(0);
      g_scratch_dirty = false;
    }
    for (int i = 0; i < n && !stopped_; ++i) {
      auto found = watchers_.find(events[i].data.u64);
      if (found == watchers_.end()) continue;  // unwatched by one before it
      // A copy, because the callback may unwatch itself.
      std::function<void(uint32_t)> callback = found->second.callback;
      callback(events[i].events);
    }
    if (!stopped_) RunTimers();
  }
}

}  // namespace crisp::shim
