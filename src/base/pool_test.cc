#include "base/pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/sysinfo.h>

#include <atomic>
#include <future>
#include <latch>
#include <thread>
#include <utility>
#include <vector>

#include "base/beside.h"

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

std::vector<unsigned> Processors() {
  std::vector<unsigned> processors;
  cpu_set_t allowed;
  EXPECT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  for (unsigned i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &allowed)) processors.push_back(i);
  }
  return processors;
}

void RunOn(const std::vector<unsigned>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (unsigned processor : processors) CPU_SET(processor, &set);
  EXPECT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

TEST(Pool, WorkBeginsOnAnotherProcessorAndMayRunOnAll) {
  const std::vector<unsigned> all = Processors();
  if (all.size() < 2 || std::cmp_less(all.size(), get_nprocs())) GTEST_SKIP() << "one processor, or not all";
  Pool pool({.threads_max = 1, .elsewhere = true});
  std::promise<void> begun;  // its thread, which may run where its maker may
  ASSERT_TRUE(pool.Submit([&] { begun.set_value(); }));
  begun.get_future().wait();
  // The only other processor of a small machine is busy: whoever may run here would.
  std::atomic<bool> busy = false;
  std::jthread other([&](std::stop_token stop) {
    RunOn({all[1]});
    busy = true;
    while (!stop.stop_requested()) {
    }
  });
  while (!busy) std::this_thread::yield();
  RunOn({all[0]});
  int elsewhere = 0;
  constexpr int kTries = 50;
  for (int i = 0; i < kTries; ++i) {
    std::promise<int> there;
    std::vector<unsigned> may;
    ASSERT_TRUE(pool.Submit([&] {
      const int begins = sched_getcpu();
      may = Processors();
      there.set_value(begins);
    }));
    elsewhere += there.get_future().get() != static_cast<int>(all[0]);
    EXPECT_EQ(may, all);
  }
  RunOn(all);
  EXPECT_GT(elsewhere, kTries * 8 / 10) << "the kernel may move it as soon as it has begun";
}

TEST(Pool, WorkStaysOnTheProcessorsOfAProcessThatHasFewer) {
  const std::vector<unsigned> all = Processors();
  if (all.size() < 2) GTEST_SKIP() << "one processor";
  RunOn({all[0]});
  {
    Pool pool({.threads_max = 1, .elsewhere = true});
    for (int i = 0; i < 3; ++i) {
      std::promise<std::vector<unsigned>> may;
      ASSERT_TRUE(pool.Submit([&] { may.set_value(Processors()); }));
      EXPECT_EQ(may.get_future().get(), std::vector<unsigned>{all[0]});
    }
  }
  RunOn(all);
}

TEST(Pool, WorkStaysOnTheProcessorsThatItsThreadsGetLater) {
  const std::vector<unsigned> all = Processors();
  if (all.size() < 2) GTEST_SKIP() << "one processor";
  Pool pool({.threads_max = 1, .elsewhere = true});
  std::promise<void> narrowed;
  ASSERT_TRUE(pool.Submit([&] {
    RunOn({all[0]});
    narrowed.set_value();
  }));
  narrowed.get_future().wait();
  for (int i = 0; i < 3; ++i) {
    std::promise<std::vector<unsigned>> may;
    ASSERT_TRUE(pool.Submit([&] { may.set_value(Processors()); }));
    EXPECT_EQ(may.get_future().get(), std::vector<unsigned>{all[0]});
  }
}

TEST(Beside, WhoWaitsForWhatHasNotBegunDoesIt) {
  Pool pool({.threads_max = 1});
  std::promise<void> go;
  ASSERT_TRUE(pool.Submit([&] { go.get_future().wait(); }));
  std::atomic<int> times = 0;
  GoingOn<std::thread::id> work = TryBeside(pool, [&] {
    ++times;
    return std::this_thread::get_id();
  });
  ASSERT_TRUE(work.valid());
  EXPECT_EQ(work.Take(), std::this_thread::get_id());
  go.set_value();
  std::promise<void> after;
  ASSERT_TRUE(pool.Submit([&] { after.set_value(); }));
  after.get_future().wait();
  EXPECT_EQ(times, 1);
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
