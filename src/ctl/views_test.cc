// What top, df, history and pull make of a runtime's answers.
#include <gmock/gmock.h>

#include "base/json.h"
#include "base/strings.h"
#include "ctl/disk.h"
#include "ctl/history.h"
#include "ctl/processes.h"
#include "ctl/progress.h"
#include "ctl/usage.h"

namespace crisp::ctl {
namespace {

namespace cri = ::runtime::v1;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

void AddStats(cri::ListContainerStatsResponse& list, const char* id, int64_t at, uint64_t cpu, uint64_t memory) {
  auto* stats = list.add_stats();
  stats->mutable_attributes()->set_id(id);
  stats->mutable_attributes()->mutable_metadata()->set_name(std::string("name-") + id);
  stats->mutable_cpu()->set_timestamp(at);
  stats->mutable_cpu()->mutable_usage_core_nano_seconds()->set_value(cpu);
  stats->mutable_memory()->mutable_working_set_bytes()->set_value(memory);
}

TEST(Usage, OfTwoLooksSortedAndByPod) {
  cri::ListContainerStatsResponse before, now;
  AddStats(before, "a", 1'000'000'000, 500'000'000, 1);
  AddStats(now, "a", 2'000'000'000, 750'000'000, 10);
  AddStats(now, "ended", 2'000'000'000, 1, 1);
  AddStats(now, "b", 2'000'000'000, 9'000'000'000, 20);  // new: nothing can be said of its processor time
  cri::ListContainersResponse containers;
  cri::ListPodSandboxResponse pods;
  for (const char* id : {"a", "b"}) {
    auto* container = containers.add_containers();
    container->set_id(id);
    container->set_pod_sandbox_id("p");
    container->set_state(cri::CONTAINER_RUNNING);
  }
  auto* pod = pods.add_items();
  pod->set_id("p");
  pod->mutable_metadata()->set_name("web");
  pod->mutable_metadata()->set_namespace_("shop");
  std::vector<Usage> usage = UsageOf(now, before, containers, pods);
  ASSERT_EQ(usage.size(), 2u);
  EXPECT_EQ(Percent(usage[0].cores), "25.00");
  EXPECT_EQ(usage[1].cores, 0);
  EXPECT_EQ(usage[1].pod, "web");
  SortUsage(usage, UsageOrder::kMemory);
  EXPECT_EQ(usage[0].id, "b");
  SortUsage(usage, UsageOrder::kCpu);
  EXPECT_EQ(usage[0].id, "a");
  std::vector<Usage> by_pod = ByPod(usage);
  ASSERT_EQ(by_pod.size(), 1u);
  EXPECT_EQ(by_pod[0].memory_bytes, 30u);
  EXPECT_EQ(by_pod[0].pod_namespace, "shop");
  EXPECT_FALSE(ParseUsageOrder("colour"));
}

TEST(Usage, TheRuntimesOwnRateComesFirst) {
  cri::CpuUsage now, before;
  now.mutable_usage_nano_cores()->set_value(1'500'000'000);
  EXPECT_EQ(Percent(Cores(now, &before)), "150.00");
}

TEST(DiskUse, WhatIsNotActiveIsReclaimable) {
  cri::Image used, unused, pinned;
  used.set_id("sha256:1");
  used.add_repo_tags("a:1");
  used.set_size(100);
  unused.set_id("sha256:2");
  unused.set_size(300);
  pinned.set_id("sha256:3");
  pinned.set_size(5);
  pinned.set_pinned(true);
  cri::Container running, ended;
  running.set_id("r");
  running.set_image_ref("sha256:1");
  running.set_state(cri::CONTAINER_RUNNING);
  ended.set_id("e");
  ended.mutable_image()->set_image("a:1");
  ended.set_state(cri::CONTAINER_EXITED);
  cri::ListContainerStatsResponse stats;
  AddStats(stats, "e", 1, 0, 0);
  stats.mutable_stats(0)->mutable_writable_layer()->mutable_used_bytes()->set_value(40);
  DiskUse use = DiskUseOf({used, unused, pinned}, {running, ended}, stats, {{"r", 7}});
  DiskSum images = Sum(use.images), containers = Sum(use.containers), logs = Sum(use.logs);
  EXPECT_EQ(images.total, 3u);
  EXPECT_EQ(images.active, 2u);
  EXPECT_EQ(images.bytes, 405u);
  EXPECT_EQ(images.reclaimable_bytes, 300u);
  EXPECT_EQ(use.images[0].id, "sha256:2");
  EXPECT_EQ(use.images[1].uses, 2);
  EXPECT_EQ(containers.reclaimable_bytes, 40u);
  EXPECT_EQ(logs.total, 1u);
  EXPECT_EQ(logs.reclaimable_bytes, 0u);
  EXPECT_EQ(DiskJson(use)["images"]["reclaimableBytes"], 300);
}

TEST(History, NewestFirstWithTheLayersOfItsSteps) {
  auto steps = HistoryOf({{"info", R"({"imageSpec": {"rootfs": {"diff_ids": ["sha256:1", "sha256:2"]}, "history": [
      {"created": "2026-01-02T15:04:05Z", "created_by": "/bin/sh -c #(nop) ADD file:x in / "},
      {"created_by": "CMD [\"sh\"]", "empty_layer": true},
      {"created_by": "/bin/sh -c make", "comment": "built", "author": null}]}})"}});
  ASSERT_TRUE(steps) << steps.error().message();
  ASSERT_EQ(steps->size(), 3u);
  EXPECT_EQ((*steps)[0].created_by, "RUN make");
  EXPECT_EQ((*steps)[0].diff_id, "sha256:2");
  EXPECT_EQ((*steps)[1].diff_id, "");
  EXPECT_EQ((*steps)[2].created_by, "ADD file:x in /");
  EXPECT_EQ((*steps)[2].created_unix_nanos, 1767366245000000000);
  EXPECT_EQ(HistoryJson(*steps)[0]["comment"], "built");
}

TEST(History, SaysWhoDoesNotTell) {
  EXPECT_EQ(HistoryOf({}).error().code(), Code::kUnimplemented);
  EXPECT_EQ(HistoryOf({{"info", "[]"}}).error().code(), Code::kUnimplemented);
  EXPECT_EQ(HistoryOf({{"info", R"({"imageSpec": null})"}}).error().code(), Code::kUnimplemented);
  EXPECT_EQ(HistoryOf({{"info", R"({"imageSpec": {"history": []}})"}}).error().code(), Code::kNotFound);
  EXPECT_FALSE(HistoryOf({{"info", R"({"imageSpec": {"history": [1]}})"}}));
}

::crisp::v1::PullUpdate Update(uint64_t done, uint64_t total) {
  ::crisp::v1::PullUpdate update;
  auto* first = update.add_layers();
  first->set_digest("sha256:aaaaaaaaaaaaaaaaaaaa");
  first->set_phase(::crisp::v1::LayerProgress::DONE);
  first->set_bytes_done(1000);
  first->set_bytes_total(1000);
  auto* second = update.add_layers();
  second->set_digest("sha256:bbbbbbbbbbbbbbbbbbbb");
  second->set_phase(::crisp::v1::LayerProgress::FETCHING);
  second->set_bytes_done(done);
  second->set_bytes_total(total);
  return update;
}

TEST(Progress, LayersBytesRateAndTimeOfArrival) {
  auto lines = ProgressLines(Update(1000, 5000), milliseconds(2000), 500, 100);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_THAT(lines[0], HasSubstr("done 1kB"));
  EXPECT_THAT(lines[1], HasSubstr("1kB / 5kB"));
  EXPECT_EQ(lines[2], "1 of 2 layers   2kB / 6kB   2.0 s   500B/s   ETA 8 s");
  EXPECT_THAT(ProgressLines(Update(1000, 0), milliseconds(2000), 500, 100)[2], Not(HasSubstr("ETA")));
  for (const std::string& line : ProgressLines(Update(1, 2), milliseconds(1), 0, 20)) EXPECT_LE(line.size(), 20u);
}

TEST(Pace, OfTheLastSeconds) {
  Pace pace;
  EXPECT_EQ(pace.rate(), 0u);
  pace.Add(milliseconds(0), 0);
  pace.Add(milliseconds(1000), 1000);
  EXPECT_EQ(pace.rate(), 1000u);
  for (int second = 2; second <= 8; ++second) pace.Add(milliseconds(second * 1000), 1000);
  EXPECT_EQ(pace.rate(), 0u) << "a stall shows";
}

TEST(Processes, OfAContainerAndItsSubCgroups) {
  EXPECT_EQ(CgroupOf("4:cpu,cpuacct:/a\n3:pids:/b\n0::/c\n"), "/b");
  EXPECT_EQ(CgroupOf("0::/c\n"), "/c");
  EXPECT_EQ(CgroupOf("nonsense"), "");
  EXPECT_EQ(PidOfInfo(R"({"pid": 7})"), 7);
  for (const char* none : {"", "[]", "{}", R"({"pid": "7"})"}) EXPECT_EQ(PidOfInfo(none), 0) << none;
  std::vector<NodeProcess> all = {{1, 0, "/", "init"}, {5, 1, "/pod/c", "sh"}, {6, 5, "/pod/c/exec", "sleep 1"}, {7, 1, "/pod/c", "stray"},
                                  {8, 5, "/pod/c2", "other"}, {9, 6, "/pod/c", "deep"}};
  EXPECT_FALSE(ProcessesOf(all, 99));
  auto found = ProcessesOf(all, 5);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->cgroup, "/pod/c");
  std::string text;
  for (const auto& line : found->lines) text += StrCat(line.depth, ":", line.process.pid, " ");
  EXPECT_EQ(text, "0:5 1:6 2:9 0:7 ");
}

}  // namespace
}  // namespace crisp::ctl
