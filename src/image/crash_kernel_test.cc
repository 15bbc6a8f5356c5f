// The service is killed at each of its failpoints, in the middle of a pull or a removal, and at moments between them. What
// comes after finds nothing without an owner, and the same pull succeeds. Needs root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <random>

#include "base/strings.h"
#include "image/directory.h"
#include "image/service.h"
#include "image/testing/http_server.h"
#include "image/testing/image_builder.h"
#include "image/testing/temp_dir.h"
#include "state/database.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::image {
namespace {

using testing::BuildImage;
using testing::BuiltImage;
using testing::HttpServer;
using testing::TarBuilder;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct Opened {
  std::unique_ptr<state::Database> db;
  std::unique_ptr<Service> service;
};
Opened OpenService(const std::string& dir) {
  Opened opened;
  opened.db = *state::Database::Open(dir + "/crisp.db");
  opened.service = *Service::Open({.root_dir = dir}, *opened.db);
  return opened;
}

// The victim: pulls, and removes what it pulled. Runs as a program of its own, with failpoints set by its environment.
TEST(CrashVictim, DISABLED_PullsAndRemoves) {
  Opened opened = OpenService(std::getenv("CRISP_TEST_DIR"));
  auto image = opened.service->Pull({}, std::getenv("CRISP_TEST_IMAGE"), {});
  ASSERT_TRUE(image) << image.error().message();
  ASSERT_TRUE(opened.service->Remove((*image)->id));
}

class CrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string big = TarBuilder().Dir("d/").File("d/f", std::string(3'000'000, 'x')).Done();
    std::string top = TarBuilder().File("d/more", "m").File(".wh.gone", "").Done();  // bound to its chain
    image_ = BuildImage({big, top, TarBuilder().File("last", "l").Done()});
    Publish(registry_, image_, "v1");
  }
  std::string Name() const { return server_.Host() + "/app:v1"; }

  Result<sys::Process> StartVictim(const std::string& failpoints, const std::string& trace = {}) {
    sys::Command command{.program = "/proc/self/exe",
                         .args = {"--gtest_also_run_disabled_tests", "--gtest_filter=CrashVictim.*"},
                         .env = std::vector<std::string>{"CRISP_TEST_DIR=" + dir_.path(), "CRISP_TEST_IMAGE=" + Name()}};
    if (!failpoints.empty()) command.env->push_back("CRISP_FAILPOINTS=" + failpoints);
    if (!trace.empty()) command.env->push_back("CRISP_FAILPOINTS_TRACE=" + trace);
    return sys::Spawn(command);
  }
  // No directory without a record, no record without a directory, and the pull works.
  void ExpectSound() {
    {
      Opened opened = OpenService(dir_.path());
      const size_t records = opened.db->List("layers")->size();
      EXPECT_THAT(*ListDirectory(dir_.path() + "/images/layers"), SizeIs(records));
      EXPECT_THAT(*ListDirectory(dir_.path() + "/images/tmp"), IsEmpty());
      EXPECT_EQ(opened.service->List().size() * 3, records);  // never a part of an image
      auto image = opened.service->Pull({}, Name(), {});
      ASSERT_TRUE(image) << image.error().message();
      EXPECT_EQ((*image)->id, image_.Id());
      EXPECT_EQ(sys::ReadFile((*image)->layer_dirs[0] + "/d/f")->size(), 3'000'000u);
      ASSERT_TRUE(opened.service->Remove((*image)->id));
      EXPECT_TRUE(opened.db->List("layers")->empty());
    }
    EXPECT_THAT(*ListDirectory(dir_.path() + "/images/layers"), IsEmpty());
  }

  testing::TempDir dir_;
  testing::FakeRegistry registry_;
  BuiltImage image_;
  HttpServer server_{[this](const testing::Request& request) { return registry_.Answer(request); }};
};

TEST_F(CrashTest, KilledAtEveryFailpoint) {
  const std::string trace = dir_.path() + "/trace";
  auto first = StartVictim("", trace);
  ASSERT_TRUE(first);
  auto status = first->Wait(Ctx().WithTimeout(std::chrono::minutes(2)));
  ASSERT_TRUE(status && status->code == 0);
  std::map<std::string, int> passed;
  const std::string text = sys::ReadFile(trace).value();  // outlives the views into it
  for (std::string_view line : Split(text, '\n')) {
    if (!line.empty()) ++passed[std::string(line)];
  }
  EXPECT_GE(passed.size(), 8u);
  for (const auto& [name, times] : passed) {
    for (int n = 1; n <= times; ++n) {
      SCOPED_TRACE(StrCat(name, "*", n));
      auto victim = StartVictim(StrCat(name, "=kill*", n));
      ASSERT_TRUE(victim);
      auto end = victim->Wait(Ctx().WithTimeout(std::chrono::minutes(2)));
      ASSERT_TRUE(end);
      EXPECT_EQ(end->signal, SIGKILL);
      ExpectSound();
    }
  }
}

TEST_F(CrashTest, FailedAtEveryFailpointOfAPull) {
  for (const char* name : {"pull.after_resolve", "pull.after_unpack", "pull.before_sync", "pull.after_sync", "pull.after_rename"}) {
    SCOPED_TRACE(name);
    auto victim = StartVictim(StrCat(name, "=error"));
    ASSERT_TRUE(victim);
    auto end = victim->Wait(Ctx().WithTimeout(std::chrono::minutes(2)));
    ASSERT_TRUE(end);
    EXPECT_EQ(end->code, 1);  // the victim's assertion: the pull failed
    // Nothing is left already before anybody sweeps.
    EXPECT_THAT(*ListDirectory(dir_.path() + "/images/layers"), IsEmpty());
    EXPECT_THAT(*ListDirectory(dir_.path() + "/images/tmp"), IsEmpty());
    ExpectSound();
  }
}

TEST_F(CrashTest, KilledAtAnyMoment) {
  std::mt19937 random(4);
  for (int round = 0; round < 20; ++round) {
    SCOPED_TRACE(round);
    // The moment is when the n-th request arrives at the registry, plus some work: no clock.
    const size_t requests = server_.Requests().size() + 1 + random() % 5;
    const size_t spin = random() % 40'000'000;
    auto victim = StartVictim("");
    ASSERT_TRUE(victim);
    while (server_.Requests().size() < requests) sched_yield();
    for (volatile size_t i = 0; i < spin;) i = i + 1;
    ASSERT_TRUE(victim->Signal(SIGKILL));
    ASSERT_TRUE(victim->Wait(Ctx().WithTimeout(std::chrono::minutes(1))));
    ExpectSound();
  }
}

}  // namespace
}  // namespace crisp::image
