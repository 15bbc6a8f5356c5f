#include "base/parallel.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/thread.h"

namespace crisp {

void InParallel(size_t count, const std::function<void(size_t)>& each) {
  constexpr size_t kWorthAThread = 64, kThreadsMax = 8;
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i = next++; i < count; i = next++) each(i);
  };
  size_t threads = std::min({size_t{std::thread::hardware_concurrency()}, count / kWorthAThread, kThreadsMax});
  std::vector<std::jthread> others;
  for (size_t i = 1; i < threads; ++i) {
    if (auto thread = StartThread<std::jthread>(work)) others.push_back(*std::move(thread));
  }
  work();
}

}  // namespace crisp
