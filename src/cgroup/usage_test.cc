// What cgroups use, on fixture trees of both versions, and the formats of their files.
#include "cgroup/usage.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include "cgroup/cgroup_files.h"
#include "cgroup/testing.h"
#include "cgroup/usage_reader.h"
#include "cgroup/usage_text.h"
#include "sys/process_info.h"

namespace crisp::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(UsageText, NumbersAndTables) {
  EXPECT_EQ(NumberOf("123\n"), 123u);
  EXPECT_EQ(NumberOf("max\n"), std::nullopt);
  EXPECT_EQ(NumberOf(""), std::nullopt);
  EXPECT_EQ(NumberOf("-1\n"), std::nullopt);
  constexpr char kTable[] = "anon 1\nanon_thp 2\nfile 3";
  EXPECT_EQ(ValueOf(kTable, "anon"), 1u);
  EXPECT_EQ(ValueOf(kTable, "anon_thp"), 2u);
  EXPECT_EQ(ValueOf(kTable, "file"), 3u) << "the last line may have no end";
  EXPECT_EQ(ValueOf(kTable, "fil"), std::nullopt);
  EXPECT_EQ(ValueOf("a b\n", "a"), std::nullopt);
}

TEST(UsageText, Pressure) {
  auto pressure = ParsePressure(
      "some avg10=1.50 avg60=0.25 avg300=100.00 total=12345\nfull avg10=0.00 avg60=0.10 avg300=0.00 total=67\n");
  ASSERT_TRUE(pressure);
  EXPECT_DOUBLE_EQ(pressure->some.avg10, 1.5);
  EXPECT_DOUBLE_EQ(pressure->some.avg60, 0.25);
  EXPECT_DOUBLE_EQ(pressure->some.avg300, 100);
  EXPECT_EQ(pressure->some.total_micros, 12345u);
  EXPECT_DOUBLE_EQ(pressure->full.avg60, 0.1);
  EXPECT_EQ(pressure->full.total_micros, 67u);
  EXPECT_TRUE(ParsePressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")) << "cpu of old kernels";
  EXPECT_FALSE(ParsePressure(""));
  EXPECT_FALSE(ParsePressure("none avg10=1\n"));
}

TEST(UsageText, IoStat) {
  auto devices = ParseIoStat(
      "253:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0 rbytes=0 wbytes=0 rios=0 wios=0\n7:1\n"
      "8:16 rbytes=7\nx:y rbytes=7\nnothing\n");
  ASSERT_EQ(devices.size(), 2u);
  EXPECT_EQ(devices[0].major, 8u);
  EXPECT_EQ(devices[0].minor, 16u);
  EXPECT_EQ(devices[0].read_bytes, 7u);
  EXPECT_EQ(devices[1].major, 253u);
  EXPECT_EQ(devices[1].read_bytes, 1u);
  EXPECT_EQ(devices[1].write_bytes, 2u);
  EXPECT_EQ(devices[1].reads, 3u);
  EXPECT_EQ(devices[1].writes, 4u);
}

TEST(UsageText, Blkio) {
  auto devices = ParseBlkio("8:0 Read 100\n8:0 Write 200\n8:0 Sync 300\n8:0 Total 300\n9:0 Read 0\nTotal 300\n",
                            "8:0 Read 1\n8:0 Write 2\nTotal 3\n");
  ASSERT_EQ(devices.size(), 1u) << "a device without I/O is none";
  EXPECT_EQ(devices[0].read_bytes, 100u);
  EXPECT_EQ(devices[0].write_bytes, 200u);
  EXPECT_EQ(devices[0].reads, 1u);
  EXPECT_EQ(devices[0].writes, 2u);
  EXPECT_THAT(ParseBlkio("", ""), IsEmpty());
  std::string many;
  for (int i = 0; i < 2000; ++i) many += StrCat("1:", i, " Read 1\n");
  EXPECT_EQ(ParseBlkio(many, "").size(), kDevicesMax);
}

Machine& MakeV2(Machine& m) {
  return m.Mount("/sys/fs/cgroup", "cgroup2", "nsdelegate")
      .File("tree/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
      .File("hugepages/hugepages-2048kB/free", "");
}

TEST(UsageV2, LimitsOfAScopeMayBeBelowIt) {
  for (bool below : {false, true}) {
    Machine m;
    MakeV2(m);
    const std::string scope = "tree/a.slice/crisp-" + std::string(64, 'a') + ".scope";
    m.File(scope + "/cpu.stat", "usage_usec 50\nnr_periods 1\nnr_throttled 2\n").File(scope + "/memory.current", "100\n");
    m.File(scope + "/memory.max", "max\n").File(scope + "/memory.stat", "inactive_file 0\n").File(scope + "/pids.max", "max\n");
    if (below) {
      m.File(scope + "/container/cpu.stat", "usage_usec 7\nnr_periods 10\nnr_throttled 20\n");
      m.File(scope + "/container/memory.max", "1000\n").File(scope + "/container/pids.max", "30\n");
    }
    auto cgroups = m.Detect(Driver::kSystemd);
    auto details = cgroups->ReadDetails(scope.substr(4));
    ASSERT_TRUE(details);
    EXPECT_EQ(details->usage.cpu_nanos, 50'000u) << "all of the scope";
    EXPECT_EQ(details->cpu_throttled_periods, below ? 20u : 2u);
    EXPECT_EQ(details->usage.available_bytes, below ? std::optional<uint64_t>(900) : std::nullopt);
    EXPECT_EQ(details->tasks_max, below ? 30u : 0u);
  }
}

TEST(Usage, OfV1) {
  Machine m;
  MakeV1(m);
  m.File("tree/cpu,cpuacct/a/cpuacct.usage", "123456789\n")
      .File("tree/memory/a/memory.usage_in_bytes", "1000\n")
      .File("tree/memory/a/memory.memsw.usage_in_bytes", "1300\n")
      .File("tree/memory/a/memory.stat",
            "inactive_file 1\nhierarchical_memory_limit 5000\nhierarchical_memsw_limit 9223372036854771712\n"
            "total_rss 70\ntotal_pgfault 8\ntotal_pgmajfault 9\ntotal_inactive_file 400\n");
  Usage usage = m.Detect()->Read("/a").value();
  EXPECT_EQ(usage.cpu_nanos, 123456789u);
  EXPECT_EQ(usage.memory_bytes, 1000u);
  EXPECT_EQ(usage.working_set_bytes, 600u);
  EXPECT_EQ(usage.available_bytes, 4400u);
  EXPECT_EQ(usage.rss_bytes, 70u);
  EXPECT_EQ(usage.page_faults, 8u);
  EXPECT_EQ(usage.major_page_faults, 9u);
  EXPECT_EQ(usage.swap_bytes, 300u);
  EXPECT_EQ(usage.swap_available_bytes, std::nullopt) << "there is no limit";
  EXPECT_EQ(usage.processes, std::nullopt) << "no such controller";
  EXPECT_FALSE(usage.cpu_pressure) << "v1 has none";
  EXPECT_EQ(m.Detect()->Read("/gone").error().code(), Code::kNotFound);
}

TEST(Usage, OfV2) {
  Machine m;
  MakeV2(m)
      .File("tree/a/cpu.stat", "usage_usec 1500\nuser_usec 1000\n")
      .File("tree/a/memory.current", "300\n")
      .File("tree/a/memory.max", "max\n")
      .File("tree/a/memory.swap.current", "40\n")
      .File("tree/a/memory.swap.max", "100\n")
      .File("tree/a/memory.stat", "anon 100\nfile 200\ninactive_file 400\npgfault 5\npgmajfault 6\n")
      .File("tree/a/pids.current", "3\n")
      .File("tree/a/cpu.pressure", "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n")
      .File("tree/a/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n")
      .File("tree/a/io.pressure", "full avg10=0.00 avg60=0.00 avg300=0.00 total=6\n");
  Usage usage = m.Detect()->Read("/a").value();
  EXPECT_EQ(usage.cpu_nanos, 1'500'000u);
  EXPECT_EQ(usage.working_set_bytes, 0u) << "the two files are read one after the other: never below zero";
  EXPECT_EQ(usage.available_bytes, std::nullopt);
  EXPECT_EQ(usage.rss_bytes, 100u);
  EXPECT_EQ(usage.page_faults, 5u);
  EXPECT_EQ(usage.major_page_faults, 6u);
  EXPECT_EQ(usage.swap_bytes, 40u);
  EXPECT_EQ(usage.swap_available_bytes, 60u);
  EXPECT_EQ(usage.processes, 3u);
  ASSERT_TRUE(usage.cpu_pressure && usage.memory_pressure && usage.io_pressure);
  EXPECT_DOUBLE_EQ(usage.cpu_pressure->some.avg60, 2);
  EXPECT_EQ(usage.memory_pressure->some.total_micros, 5u);
  EXPECT_EQ(usage.io_pressure->full.total_micros, 6u);
}

TEST(Details, OfV1) {
  Machine m;
  MakeV1(m)
      .Mount("/sys/fs/cgroup/blkio", "cgroup", "blkio")
      .Mount("/sys/fs/cgroup/pids", "cgroup", "pids")
      .Mount("/sys/fs/cgroup/hugetlb", "cgroup", "hugetlb")
      .File("hugepages/hugepages-2048kB/free", "");
  m.File("tree/cpu,cpuacct/a/cpuacct.usage", "3000000000\n")
      .File("tree/cpu,cpuacct/a/cpuacct.usage_user", "2000000000\n")
      .File("tree/cpu,cpuacct/a/cpuacct.usage_sys", "1000000000\n")
      .File("tree/cpu,cpuacct/a/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 5000\n")
      .File("tree/memory/a/memory.usage_in_bytes", "1000\n")
      .File("tree/memory/a/memory.max_usage_in_bytes", "2000\n")
      .File("tree/memory/a/memory.failcnt", "7\n")
      .File("tree/memory/a/memory.kmem.usage_in_bytes", "90\n")
      .File("tree/memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
      .File("tree/memory/a/memory.stat",
            "pgfault 3\npgmajfault 1\ntotal_cache 500\ntotal_mapped_file 60\ntotal_swap 20\ntotal_pgfault 8\n"
            "total_pgmajfault 9\n")
      .File("tree/blkio/a/blkio.throttle.io_service_bytes_recursive", "8:0 Read 100\n8:0 Write 200\nTotal 300\n")
      .File("tree/blkio/a/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n")
      .File("tree/pids/a/pids.current", "5\n")
      .File("tree/pids/a/pids.max", "max\n")
      .File("tree/pids/a/cgroup.procs", "11\n12\n")
      .File("tree/pids/a/below/cgroup.procs", "13\n")
      .File("tree/hugetlb/a/hugetlb.2MB.usage_in_bytes", "2097152\n")
      .File("tree/hugetlb/a/hugetlb.2MB.max_usage_in_bytes", "4194304\n");
  Details details = m.Detect()->ReadDetails("/a").value();
  EXPECT_EQ(details.usage.cpu_nanos, 3'000'000'000u);
  EXPECT_EQ(details.cpu_user_nanos, 2'000'000'000u);
  EXPECT_EQ(details.cpu_system_nanos, 1'000'000'000u);
  EXPECT_EQ(details.cpu_periods, 10u);
  EXPECT_EQ(details.cpu_throttled_periods, 4u);
  EXPECT_EQ(details.cpu_throttled_nanos, 5000u);
  EXPECT_EQ(details.memory_max_bytes, 2000u);
  EXPECT_EQ(details.limit_hits, 7u);
  EXPECT_EQ(details.kernel_bytes, 90u);
  EXPECT_EQ(details.oom_kills, 2u);
  EXPECT_EQ(details.cache_bytes, 500u);
  EXPECT_EQ(details.mapped_file_bytes, 60u);
  EXPECT_EQ(details.swapped_bytes, 20u);
  EXPECT_EQ(details.own_page_faults, 3u);
  EXPECT_EQ(details.own_major_page_faults, 1u);
  EXPECT_EQ(details.usage.page_faults, 8u);
  EXPECT_EQ(details.usage.processes, 5u);
  EXPECT_EQ(details.tasks_max, 0u) << "no limit";
  EXPECT_THAT(details.pids, ElementsAre(11, 12, 13));
  ASSERT_EQ(details.io.size(), 1u);
  EXPECT_EQ(details.io[0].write_bytes, 200u);
  ASSERT_EQ(details.hugetlb.size(), 1u);
  EXPECT_EQ(details.hugetlb[0].page_size, "2MB");
  EXPECT_EQ(details.hugetlb[0].bytes, 2097152u);
  EXPECT_EQ(details.hugetlb[0].max_bytes, 4194304u);
  EXPECT_EQ(m.Detect()->ReadDetails("/gone").error().code(), Code::kNotFound);
}

TEST(Details, OfV1WithoutTheFinerProcessorTimes) {
  Machine m;
  MakeV1(m)
      .File("tree/cpu,cpuacct/a/cpuacct.usage", "1\n")
      .File("tree/cpu,cpuacct/a/cpuacct.stat", "user 200\nsystem 100\n");
  Details details = m.Detect()->ReadDetails("/a").value();
  EXPECT_EQ(details.cpu_user_nanos, 2u * *details.cpu_system_nanos);
  EXPECT_GE(*details.cpu_system_nanos, 100'000'000u) << "ticks, of which there are at most a thousand in a second";
}

TEST(Details, OfV2) {
  Machine m;
  MakeV2(m)
      .File("tree/a/cpu.stat",
            "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 5\n")
      .File("tree/a/memory.current", "1000\n")
      .File("tree/a/memory.peak", "2000\n")
      .File("tree/a/memory.events", "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\n")
      .File("tree/a/memory.stat",
            "anon 1\nfile 500\nkernel_stack 10\npagetables 20\nslab 60\nfile_mapped 60\npgfault 8\n")
      .File("tree/a/io.stat", "253:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n")
      .File("tree/a/pids.current", "5\n")
      .File("tree/a/pids.max", "100\n")
      .File("tree/a/cgroup.procs", "11\n")
      .File("tree/a/hugetlb.2MB.current", "2097152\n");
  Details details = m.Detect()->ReadDetails("/a").value();
  EXPECT_EQ(details.cpu_user_nanos, 2'000'000u);
  EXPECT_EQ(details.cpu_system_nanos, 1'000'000u);
  EXPECT_EQ(details.cpu_periods, 10u);
  EXPECT_EQ(details.cpu_throttled_nanos, 5000u);
  EXPECT_EQ(details.memory_max_bytes, 2000u);
  EXPECT_EQ(details.limit_hits, 7u);
  EXPECT_EQ(details.oom_kills, 2u);
  EXPECT_EQ(details.cache_bytes, 500u);
  EXPECT_EQ(details.mapped_file_bytes, 60u);
  EXPECT_EQ(details.kernel_bytes, 90u) << "the sum of its parts on kernels before 5.18";
  EXPECT_EQ(details.own_page_faults, 8u);
  EXPECT_EQ(details.tasks_max, 100u);
  EXPECT_THAT(details.pids, ElementsAre(11));
  ASSERT_EQ(details.io.size(), 1u);
  EXPECT_EQ(details.io[0].writes, 4u);
  ASSERT_EQ(details.hugetlb.size(), 1u);
  EXPECT_EQ(details.hugetlb[0].max_bytes, std::nullopt);
  m.File("tree/a/memory.stat", "kernel 77\nslab 1\n");
  EXPECT_EQ(m.Detect()->ReadDetails("/a")->kernel_bytes, 77u);
}

// ---- held descriptors ----

class Held : public ::testing::Test {
 protected:
  void Group(const std::string& name, uint64_t cpu) {
    m_.File("tree/cpu,cpuacct/" + name + "/cpuacct.usage", StrCat(cpu, "\n"));
    m_.File("tree/memory/" + name + "/memory.usage_in_bytes", "1\n");
  }
  const Layout& TheLayout() {
    layout_ =
        DetectLayout(sys::ParseMountInfo("1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                                         "2 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
                     m_.Tree(""))
            .value();
    return *layout_;
  }
  static uint64_t OurDescriptors() { return sys::CountDescriptors(getpid(), 100'000).all; }
  Machine m_;
  std::optional<Layout> layout_;
};

TEST_F(Held, FilesAreReadAnewWithoutBeingOpenedAgain) {
  Group("a", 1);
  UsageReader reader(TheLayout(), {}, 1000);
  uint64_t before = OurDescriptors();
  EXPECT_EQ(reader.Read("/a")->cpu_nanos, 1u);
  EXPECT_EQ(reader.descriptors(), 4u) << "two directories and two files";
  EXPECT_EQ(OurDescriptors(), before + 4);
  Group("a", 22);
  EXPECT_EQ(reader.Read("/a")->cpu_nanos, 22u);
  std::filesystem::remove(m_.Tree("/cpu,cpuacct/a/cpuacct.usage"));
  EXPECT_EQ(reader.Read("/a")->cpu_nanos, 22u) << "by its descriptor, not by its name";
  EXPECT_EQ(OurDescriptors(), before + 4);
}

TEST_F(Held, TheirNumberIsBounded) {
  constexpr int kGroups = 40, kMax = 40;
  for (int i = 0; i < kGroups; ++i) Group(StrCat("g", i), static_cast<uint64_t>(i));
  UsageReader reader(TheLayout(), {}, kMax);
  uint64_t before = OurDescriptors();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kGroups; ++i) {
      EXPECT_EQ(reader.Read(StrCat("/g", i))->cpu_nanos, static_cast<uint64_t>(i));
      EXPECT_LE(reader.descriptors(), static_cast<size_t>(kMax));
      EXPECT_LE(OurDescriptors(), before + kMax);
    }
  }
}

TEST_F(Held, WhatIsNotThereIsNotKept) {
  UsageReader reader(TheLayout(), {}, 1000);
  uint64_t before = OurDescriptors();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(reader.Read("/gone").error().code(), Code::kNotFound);
  EXPECT_EQ(reader.descriptors(), 0u);
  EXPECT_EQ(OurDescriptors(), before);
  Group("gone", 5);
  EXPECT_EQ(reader.Read("/gone")->cpu_nanos, 5u) << "it may come later";
}

TEST_F(Held, ABigFileIsReadWhole) {
  Group("a", 1);
  std::string stat;
  while (stat.size() < 100'000) stat += "filler 1\n";
  m_.File("tree/memory/a/memory.stat", stat + "total_rss 77\n");
  UsageReader reader(TheLayout(), {}, 1000);
  EXPECT_EQ(reader.Read("/a")->rss_bytes, 77u);
}

}  // namespace
}  // namespace crisp::cgroup
