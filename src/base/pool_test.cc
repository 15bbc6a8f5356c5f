#include "base/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <thread>

namespace crisp {
namespace {

TEST(Pool, RunsAsManyAtOnceAsAllowedAndNoMore) {
  constexpr int kThreads = 4;
  std::atomic<int> now{0}, most{0};
  std::latch all_busy(kThreads);
  {
    Pool pool({.threads_max = kThreads});
    for (int i = 0; i < 40; ++i) {
      ASSERT_TRUE(pool.Submit([&, i] {
        int running = ++now;
        int seen = most.load();
        while (seen < running && !most.compare_exchange_weak(seen, running)) {
        }
        if (i < kThreads) all_busy.arrive_and_wait();  // hangs if fewer than kThreads run at once
        --now;
      }));
    }
  }
  EXPECT_EQ(most, kThreads);
}

TEST(Pool, DestructorRunsWhatIsQueued) {
  std::atomic<int> done{0};
  {
    Pool pool({.threads_max = 1});
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.Submit([&] { ++done; }));
  }
  EXPECT_EQ(done, 100);
}

TEST(Pool, TakesNothingThatWouldWait) {
  std::promise<void> go;
  std::latch busy(3);
  std::atomic<int> done{0};
  Pool pool({.threads_max = 2, .never_waits = true});
  auto work = [&, gone = go.get_future().share()] {
    busy.count_down();
    gone.wait();
    ++done;
  };
  ASSERT_TRUE(pool.Submit(work));
  ASSERT_TRUE(pool.Submit(work));
  busy.arrive_and_wait();
  EXPECT_FALSE(pool.Submit(work));
  go.set_value();
  while (pool.threads() > 0 && !pool.Submit([&] { ++done; })) std::this_thread::yield();
  while (done < 3) std::this_thread::yield();
}

TEST(Pool, ThreadsEndWhenIdle) {
  Pool pool({.threads_max = 8, .idle = std::chrono::milliseconds(1)});
  std::latch busy(9);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(pool.Submit([&] { busy.arrive_and_wait(); }));
  EXPECT_EQ(pool.threads(), 8);
  busy.arrive_and_wait();
  while (pool.threads() > 0) std::this_thread::yield();
  std::promise<void> again;
  ASSERT_TRUE(pool.Submit([&] { again.set_value(); }));
  again.get_future().wait();
}

TEST(Pool, RefusesWhatDoesNotFitTheQueue) {
  std::latch held(1), started(1);
  Pool pool({.threads_max = 1, .queue_max = 2});
  ASSERT_TRUE(pool.Submit([&] {
    started.count_down();
    held.wait();
  }));
  started.wait();
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_FALSE(pool.Submit([] {}));
  held.count_down();
}

}  // namespace
}  // namespace crisp
