#include "base/pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <latch>
#include <string>
#include <thread>
#include <vector>

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

bool Sleeps(pid_t thread) {
  std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string line;
  std::getline(stat, line);
  return line.find(") S ") != std::string::npos;
}

void RunOn(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  EXPECT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

TEST(Pool, PrefersAThreadThatRanElsewhere) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  std::vector<int> processors;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &before)) processors.push_back(i);
  }
  if (processors.size() < 2) GTEST_SKIP() << "one processor";
  Pool pool({.threads_max = 2, .elsewhere = true});
  std::atomic<pid_t> threads[2];
  std::latch both(3);
  for (int i : {0, 1}) {
    ASSERT_TRUE(pool.Submit([&, i] {
      RunOn(processors[static_cast<size_t>(i)]);
      both.arrive_and_wait();
      threads[i] = gettid();
    }));
  }
  both.arrive_and_wait();
  for (int here : {0, 1, 1, 0}) {
    // Twice in a row: one that waits for the other at the pool's lock sleeps, too, and then runs.
    for (int seen = 0; seen < 2;) {
      const bool both_sleep = threads[0] != 0 && threads[1] != 0 && Sleeps(threads[0]) && Sleeps(threads[1]);
      seen = both_sleep ? seen + 1 : 0;
      if (!both_sleep) std::this_thread::yield();
    }
    RunOn(processors[static_cast<size_t>(here)]);
    std::promise<pid_t> ran;
    ASSERT_TRUE(pool.Submit([&] { ran.set_value(gettid()); }));
    EXPECT_EQ(ran.get_future().get(), threads[1 - here]);
  }
  EXPECT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(Pool, WorkThatBeganElsewhereMayRunWhereverItsSubmitterMay) {
  cpu_set_t ours, its;
  ASSERT_EQ(sched_getaffinity(0, sizeof ours, &ours), 0);
  for (int i = 0; i < 10; ++i) {
    Pool pool({.threads_max = 1, .begins_elsewhere = true});
    std::promise<int> looked;
    ASSERT_TRUE(pool.Submit([&] { looked.set_value(sched_getaffinity(0, sizeof its, &its)); }));
    EXPECT_EQ(looked.get_future().get(), 0);
    EXPECT_TRUE(CPU_EQUAL(&its, &ours));
  }
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
