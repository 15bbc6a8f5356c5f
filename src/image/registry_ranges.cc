#include "image/registry_ranges.h"

#include <sys/mman.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "base/thread.h"

namespace crisp::image {

namespace {

// Memory straight from the kernel: the heap would keep what a pull needed for a minute.
class Pages {
 public:
  explicit Pages(size_t size) : size_(size) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = at == MAP_FAILED ? nullptr : static_cast<char*>(at);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() {
    if (data_ != nullptr) munmap(data_, size_);
  }
  char* data() const { return data_; }

 private:
  size_t size_;
  char* data_;
};

class Ranges {
 public:
  Ranges(const Ctx& ctx, const RangePlan& plan, const FetchChunk& fetch)
      : plan_(plan),
        fetch_(fetch),
        chunks_((plan.end - plan.begin + plan.chunk_bytes - 1) / plan.chunk_bytes),
        slots_(static_cast<size_t>(plan.streams) + 1),
        states_(slots_, State::kEmpty),
        memory_(slots_ * plan.chunk_bytes),
        ctx_(ctx.deadline(), stop_.get_token(), ctx.request_id()),
        outer_(ctx),
        forward_(ctx.stop(), [this] { Stop(); }) {}

  RangesResult Run(const BlobSink& sink) {
    RangesResult result{.done = plan_.begin};
    if (memory_.data() == nullptr) return result;
    std::vector<std::jthread> threads;  // joined at the end of this block
    for (int i = 0; i < plan_.streams; ++i) {
      if (auto thread = StartThread<std::jthread>([this] { Work(); })) threads.push_back(*std::move(thread));
    }
    if (threads.empty()) return result;
    for (uint64_t chunk = 0; chunk < chunks_ && WaitReady(chunk); ++chunk) {
      std::span<char> bytes = Chunk(chunk);
      Result<> taken = sink(std::string_view(bytes.data(), bytes.size()));
      if (!taken) {
        result.sink_error = std::move(taken).error();
        break;
      }
      result.done += bytes.size();
      Release(chunk);
    }
    Stop();
    return result;
  }

 private:
  enum class State { kEmpty, kFetching, kReady, kFailed };

  std::span<char> Chunk(uint64_t chunk) const {
    uint64_t from = plan_.begin + chunk * plan_.chunk_bytes;
    uint64_t size = std::min(plan_.chunk_bytes, plan_.end - from);
    return {memory_.data() + (chunk % slots_) * plan_.chunk_bytes, size};
  }

  void Stop() {
    stop_.request_stop();
    std::lock_guard lock(mutex_);  // so that nobody misses it between his look and his wait
    changed_.notify_all();
  }

  // One thread: the next chunk whose slot is free, until there are none or one fails.
  void Work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] {
        return stop_.stop_requested() || next_ >= chunks_ || states_[next_ % slots_] == State::kEmpty;
      });
      if (stop_.stop_requested() || next_ >= chunks_) return;
      uint64_t chunk = next_++;
      states_[chunk % slots_] = State::kFetching;
      lock.unlock();
      Result<> fetched = fetch_(ctx_, plan_.begin + chunk * plan_.chunk_bytes, Chunk(chunk));
      lock.lock();
      states_[chunk % slots_] = fetched ? State::kReady : State::kFailed;
      changed_.notify_all();
      if (!fetched) return;
    }
  }

  // False: it will not come.
  bool WaitReady(uint64_t chunk) {
    std::unique_lock lock(mutex_);
    State& state = states_[chunk % slots_];
    auto settled = [&] { return stop_.stop_requested() || state == State::kReady || state == State::kFailed; };
    if (outer_.deadline() == Clock::time_point::max()) {
      changed_.wait(lock, settled);
    } else {
      changed_.wait_until(lock, outer_.deadline(), settled);
    }
    return state == State::kReady && !stop_.stop_requested();
  }

  void Release(uint64_t chunk) {
    std::lock_guard lock(mutex_);
    states_[chunk % slots_] = State::kEmpty;
    changed_.notify_all();
  }

  const RangePlan& plan_;
  const FetchChunk& fetch_;
  const uint64_t chunks_;
  const size_t slots_;
  std::mutex mutex_;  // guards states_ and next_
  std::condition_variable changed_;
  std::vector<State> states_;  // of chunk i at i % slots_
  uint64_t next_ = 0;
  Pages memory_;
  std::stop_source stop_;
  Ctx ctx_;  // of the chunks: ends with the caller's, and when one has failed
  const Ctx& outer_;
  std::stop_callback<std::function<void()>> forward_;
};

}  // namespace

RangesResult FetchRanges(const Ctx& ctx, const RangePlan& plan, const FetchChunk& fetch, const BlobSink& sink) {
  return Ranges(ctx, plan, fetch).Run(sink);
}

}  // namespace crisp::image
