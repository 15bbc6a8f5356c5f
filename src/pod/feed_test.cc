// What watchers are told, on a node made of files.
#include "pod/feed.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "base/strings.h"
#include "pod/testing/world.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using testing::Container;
using testing::Daemon;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Sandbox;

constexpr char kLetters[] = {'C', 'S', 'X', 'D'};  // created, started, stopped, deleted

ObjectEvent Event(const std::string& id) {
  ObjectEvent event;
  event.id = id;
  return event;
}

TEST(Feed, AWatcherIsToldWhatHappensAfterItCameInOrder) {
  Feed feed;
  EXPECT_FALSE(feed.watched());
  feed.Publish(Event("before"));
  int wakes = 0;
  auto watcher = feed.Watch(10, [&] { ++wakes; });
  EXPECT_TRUE(feed.watched());
  EXPECT_EQ(watcher->Take().event, nullptr);
  for (const char* id : {"a", "b", "c"}) feed.Publish(Event(id));
  EXPECT_EQ(wakes, 1) << "only the first of a queue wakes";
  uint64_t sequence = 1;
  for (const char* id : {"a", "b", "c"}) {
    Watcher::Taken taken = watcher->Take();
    ASSERT_NE(taken.event, nullptr);
    EXPECT_EQ(taken.event->id, id);
    EXPECT_EQ(taken.event->sequence, ++sequence);
  }
  EXPECT_EQ(watcher->Take().event, nullptr);
  feed.Publish(Event("d"));
  EXPECT_EQ(wakes, 2);
  watcher.reset();
  EXPECT_FALSE(feed.watched());
}

TEST(Feed, AFullQueueIsLostAsAWholeAndSaidOnceForAll) {
  Feed feed;
  int wakes = 0;
  auto slow = feed.Watch(2, [&] { ++wakes; });
  auto quick = feed.Watch(10, [] {});
  for (const char* id : {"a", "b", "c", "d"}) feed.Publish(Event(id));
  EXPECT_EQ(wakes, 2) << "for the first event and for the loss";
  EXPECT_TRUE(slow->Take().overflowed);
  feed.Publish(Event("e"));
  Watcher::Taken taken = slow->Take();
  EXPECT_TRUE(taken.overflowed);
  EXPECT_EQ(taken.event, nullptr);
  for (const char* id : {"a", "b", "c", "d", "e"}) EXPECT_EQ(quick->Take().event->id, id);
}

class FeedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = sys::Exists("/dev/shm") ? "/dev/shm/feed-test-XXXXXX" : "/tmp/feed-test-XXXXXX";
    dir_ = mkdtemp(name.data());
    daemon_ = std::make_unique<Daemon>(dir_);
  }
  void TearDown() override {
    daemon_.reset();
    std::filesystem::remove_all(dir_);
  }
  Manager& m() { return **daemon_; }
  std::shared_ptr<Watcher> Watch() {
    return m().Watch(100'000, [] {});
  }
  std::vector<EventRef> Take(Watcher& watcher) {
    (*daemon_)->DrainBackground();
    std::vector<EventRef> all;
    while (EventRef event = watcher.Take().event) all.push_back(event);
    return all;
  }
  // "C S X D" of one object, in the order they came.
  static std::string Of(const std::vector<EventRef>& events, const std::string& id) {
    std::string out;
    for (const EventRef& event : events) {
      if (event->id == id) out += kLetters[static_cast<int>(event->type)];
    }
    return out;
  }

  std::string dir_;
  std::unique_ptr<Daemon> daemon_;
  Ctx ctx_;
};

TEST_F(FeedTest, AWholeLife) {
  auto watcher = Watch();
  std::string pod = m().RunSandbox(ctx_, Sandbox("web"))->str();
  std::string id = m().CreateContainer(ctx_, pod, Container("main"))->str();
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  ASSERT_TRUE(m().StopContainer(ctx_, id, std::chrono::seconds(0)));
  ASSERT_TRUE(m().StopContainer(ctx_, id, std::chrono::seconds(0)));  // again: nothing new
  ASSERT_TRUE(m().RemoveContainer(ctx_, id));
  ASSERT_TRUE(m().StopSandbox(ctx_, pod));
  ASSERT_TRUE(m().RemoveSandbox(ctx_, pod));
  std::vector<EventRef> events = Take(*watcher);
  std::vector<std::string> seen;
  int64_t last = 0;
  for (const EventRef& event : events) {
    seen.push_back(
        StrCat(event->id == pod ? "pod " : "main ", std::string(1, kLetters[static_cast<int>(event->type)])));
    EXPECT_GT(event->created_at, last);
    last = event->created_at;
    ASSERT_NE(event->sandbox, nullptr);
    EXPECT_EQ(event->sandbox->config.metadata.name, "web");
  }
  ASSERT_THAT(seen, ElementsAre("pod C", "pod S", "main C", "main S", "main X", "main D", "pod X", "pod D"));
  EXPECT_THAT(events[1]->containers, IsEmpty());
  for (auto [index, state] :
       {std::pair{2, ContainerState::kCreated}, {3, ContainerState::kRunning}, {4, ContainerState::kExited}}) {
    ASSERT_EQ(events[index]->containers.size(), 1u);
    EXPECT_EQ(events[index]->containers[0]->state, state);
    EXPECT_EQ(events[index]->sandbox->state, SandboxState::kReady);
  }
  EXPECT_EQ(events[4]->containers[0]->exit_code, 137);
  EXPECT_THAT(events[5]->containers, IsEmpty()) << "the deleted one is not there any more";
  EXPECT_EQ(events[7]->sandbox->state, SandboxState::kNotReady);
}

TEST_F(FeedTest, AStartThatFailsIsNoStart) {
  std::string pod = m().RunSandbox(ctx_, Sandbox("web"))->str();
  auto watcher = Watch();
  std::string id = m().CreateContainer(ctx_, pod, Container("main", {"missing"}))->str();
  EXPECT_FALSE(m().StartContainer(ctx_, id));
  EXPECT_EQ(Of(Take(*watcher), id), "CX");
}

TEST_F(FeedTest, APodThatIsNotMadeHasNoEvents) {
  auto watcher = Watch();
  daemon_->world.faults.Lock()->shim_starts_failing = 1;
  EXPECT_FALSE(m().RunSandbox(ctx_, Sandbox("web")));
  EXPECT_THAT(Take(*watcher), IsEmpty());
}

TEST_F(FeedTest, ALostShimStopsThePodAndItsContainers) {
  std::string pod = m().RunSandbox(ctx_, Sandbox("web"))->str();
  std::string id = m().CreateContainer(ctx_, pod, Container("main"))->str();
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  auto watcher = Watch();
  daemon_->world.KillShim(*PodId::Parse(pod));
  std::vector<EventRef> events = Take(*watcher);
  EXPECT_EQ(Of(events, pod), "X");
  EXPECT_EQ(Of(events, id), "X");
}

TEST_F(FeedTest, ARestartRepeatsNothing) {
  std::string pod = m().RunSandbox(ctx_, Sandbox("web"))->str();
  std::string id = m().CreateContainer(ctx_, pod, Container("main"))->str();
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  daemon_.reset();
  daemon_ = std::make_unique<Daemon>(dir_, /*recover=*/false);
  auto watcher = Watch();
  ASSERT_TRUE(m().Recover(ctx_));
  EXPECT_THAT(Take(*watcher), IsEmpty());
}

TEST_F(FeedTest, AnExitDuringARestartIsNews) {
  std::string pod = m().RunSandbox(ctx_, Sandbox("web"))->str();
  std::string id = m().CreateContainer(ctx_, pod, Container("main"))->str();
  ASSERT_TRUE(m().StartContainer(ctx_, id));
  daemon_.reset();
  {
    testing::World world(dir_);
    world.End(*ContainerId::Parse(id), 3, false, true);
  }
  daemon_ = std::make_unique<Daemon>(dir_, /*recover=*/false);
  auto watcher = Watch();
  ASSERT_TRUE(m().Recover(ctx_));
  EXPECT_EQ(Of(Take(*watcher), id), "X");
}

// A status asked for after an event is newer than the event, and holds at least what the event told.
TEST_F(FeedTest, StatusesAndEventsHaveOneOrder) {
  std::string pod = m().RunSandbox(ctx_, Sandbox("web"))->str();
  auto watcher = Watch();
  PodSnapshot before = *m().GetPod(pod);
  EXPECT_GT(m().GetPod(pod)->at, before.at);
  std::string id = m().CreateContainer(ctx_, pod, Container("main"))->str();
  PodSnapshot after = *m().GetPod(pod);
  std::vector<EventRef> events = Take(*watcher);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_LT(before.at, events[0]->created_at);
  EXPECT_LT(events[0]->created_at, after.at);
  ASSERT_EQ(after.containers.size(), 1u);
  EXPECT_EQ(after.containers[0]->id.str(), id);
  EXPECT_EQ(m().GetPod("nothing").error().code(), Code::kNotFound);
}

TEST_F(FeedTest, ManyLivesAtOnceManyWatchers) {
  constexpr int kPods = 6, kContainers = 4;
  std::vector<std::shared_ptr<Watcher>> watchers;
  for (int i = 0; i < 5; ++i) watchers.push_back(Watch());
  {
    std::vector<std::jthread> threads;
    for (int p = 0; p < kPods; ++p) {
      threads.emplace_back([&, p] {
        std::string pod = m().RunSandbox(ctx_, Sandbox(StrCat("pod", p)))->str();
        for (int c = 0; c < kContainers; ++c) {
          std::vector<std::string> command =
              c % 2 ? std::vector<std::string>{"exit", "1"} : std::vector<std::string>{"run"};
          std::string id = m().CreateContainer(ctx_, pod, Container(StrCat("c", c), command))->str();
          EXPECT_TRUE(m().StartContainer(ctx_, id));
          if (c != 0) continue;
          EXPECT_TRUE(m().RemoveContainer(ctx_, id));
        }
        EXPECT_TRUE(m().StopSandbox(ctx_, pod));
        EXPECT_TRUE(m().RemoveSandbox(ctx_, pod));
      });
    }
  }
  std::vector<EventRef> first = Take(*watchers[0]);
  std::set<std::string> ids;
  for (const EventRef& event : first) ids.insert(event->id);
  EXPECT_EQ(ids.size(), static_cast<size_t>(kPods * (1 + kContainers)));
  for (const std::string& id : ids) EXPECT_EQ(Of(first, id), "CSXD");
  for (size_t i = 1; i < first.size(); ++i) EXPECT_EQ(first[i]->sequence, first[i - 1]->sequence + 1);
  for (size_t w = 1; w < watchers.size(); ++w) EXPECT_EQ(Take(*watchers[w]), first);
}

}  // namespace
}  // namespace crisp::pod
