// Names, detection and refusals, on fixture trees. What the kernel does is in cgroup_kernel_test.cc.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/ids.h"
#include "base/strings.h"
#include "cgroup/cgroup.h"
#include "cgroup/hierarchy.h"
#include "cgroup/place.h"

namespace crisp::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kId = std::string(60, 'a') + "0123";

// A machine made of files.
class Machine {
 public:
  Machine() {
    char name[] = "/tmp/cgroup-test-XXXXXX";
    dir_ = mkdtemp(name);
  }
  ~Machine() { std::filesystem::remove_all(dir_); }
  Machine& File(const std::string& path, const std::string& content) {
    std::filesystem::path full = dir_ + "/" + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << content;
    return *this;
  }
  Machine& Mount(const std::string& where, const std::string& type, const std::string& options, const std::string& root = "/") {
    mounts_ += StrCat("40 31 0:1 ", root, " ", where, " rw,relatime shared:9 - ", type, " ", type, " rw,", options, "\n");
    std::filesystem::create_directories(dir_ + "/tree" + where.substr(std::string("/sys/fs/cgroup").size()));
    return *this;
  }
  std::unique_ptr<Cgroups> Detect(Driver driver = Driver::kCgroupfs) {
    File("mountinfo", mounts_);
    auto cgroups = Cgroups::Detect({.driver = driver, .root = dir_ + "/tree", .mountinfo = dir_ + "/mountinfo",
                                    .hugepages_dir = dir_ + "/hugepages"});
    EXPECT_TRUE(cgroups) << cgroups.error().message();
    return std::move(*cgroups);
  }
  std::string Tree(const std::string& path) const { return dir_ + "/tree" + path; }
  const std::string& dir() const { return dir_; }

 private:
  std::string dir_, mounts_ = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n";
};

Machine& MakeV1(Machine& m) {
  return m.Mount("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct,release_agent=/x")
      .Mount("/sys/fs/cgroup/memory", "cgroup", "memory")
      .Mount("/sys/fs/cgroup/systemd", "cgroup", "xattr,name=systemd");
}

TEST(Detect, V1WithControllersThatShareOneTree) {
  Machine m;
  auto cgroups = MakeV1(m).Detect();
  EXPECT_FALSE(cgroups->unified());
  EXPECT_THAT(cgroups->controllers(), ElementsAre("cpu", "cpuacct", "memory"));
  EXPECT_TRUE(cgroups->HasController("cpuacct"));
  EXPECT_FALSE(cgroups->HasController("pids"));
  EXPECT_FALSE(cgroups->SwapAccounting());
  EXPECT_THAT(cgroups->OomEventFiles("/crisp/" + kId), ElementsAre(m.Tree("/memory/crisp/" + kId + "/memory.oom_control")));
}

TEST(Detect, PureV2) {
  Machine m;
  m.Mount("/sys/fs/cgroup", "cgroup2", "nsdelegate").File("tree/cgroup.controllers", "cpuset cpu memory pids hugetlb\n");
  m.File("tree/init.scope/memory.max", "max\n").File("tree/init.scope/memory.swap.max", "max\n").File("hugepages/hugepages-2048kB/free", "").File("hugepages/hugepages-1048576kB/free", "");
  m.File("hugepages/hugepages-64kB/free", "");
  auto cgroups = m.Detect();
  EXPECT_TRUE(cgroups->unified());
  EXPECT_TRUE(cgroups->SwapAccounting());
  EXPECT_THAT(cgroups->HugepageSizes(), ::testing::UnorderedElementsAre("1GB", "2MB", "64KB"));
  EXPECT_THAT(cgroups->OomEventFiles("/crisp/" + kId), ElementsAre(m.Tree("/crisp/" + kId + "/memory.events")));
}

TEST(Detect, HybridIsNotUnifiedAndTakesMemoryFromWhereItIs) {
  Machine m;
  MakeV1(m).Mount("/sys/fs/cgroup/unified", "cgroup2", "").File("tree/unified/cgroup.controllers", "pids\n");
  auto cgroups = m.Detect();
  EXPECT_FALSE(cgroups->unified());
  EXPECT_TRUE(cgroups->HasController("pids"));
  EXPECT_THAT(cgroups->HugepageSizes(), IsEmpty());
}

TEST(Detect, TakesAHierarchyOnceAndIgnoresPartialBinds) {
  auto mounts = sys::ParseMountInfo(
      "1 0 0:1 /sub /elsewhere rw - cgroup cgroup rw,memory\n"
      "2 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "3 0 0:1 / /again rw - cgroup cgroup rw,memory\n");
  auto layout = DetectLayout(mounts, "/sys/fs/cgroup");
  ASSERT_TRUE(layout);
  ASSERT_EQ(layout->hierarchies.size(), 1u);
  EXPECT_EQ(layout->hierarchies[0].mountpoint, "/sys/fs/cgroup/memory");
}

TEST(Detect, InsideAContainerOnlyPartsAreSeen) {
  auto layout = DetectLayout(sys::ParseMountInfo("1 0 0:1 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"), "/f");
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->hierarchies[0].mountpoint, "/f/memory");
}

TEST(Detect, NoHierarchyIsAnError) { EXPECT_FALSE(DetectLayout({}, "/sys/fs/cgroup")); }

TEST(Place, Cgroupfs) {
  Machine m;
  auto cgroups = MakeV1(m).Detect();
  EXPECT_EQ(cgroups->Place("", kId)->kernel_path, "/crisp/" + kId);
  EXPECT_EQ(cgroups->Place("/kubepods/besteffort/pod1/", kId)->oci_path, "/kubepods/besteffort/pod1/" + kId);
  EXPECT_EQ(cgroups->Place("relative", kId)->kernel_path, "/relative/" + kId);
  EXPECT_EQ(cgroups->Place("/", kId)->kernel_path, "/" + kId);
}

TEST(Place, Systemd) {
  Machine m;
  auto cgroups = MakeV1(m).Detect(Driver::kSystemd);
  auto place = cgroups->Place("kubepods-burstable-pod12_3.slice", kId);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->oci_path, "kubepods-burstable-pod12_3.slice:crisp:" + kId);
  EXPECT_EQ(place->kernel_path,
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12_3.slice/crisp-" + kId + ".scope");
  EXPECT_EQ(cgroups->Place("/kubepods.slice/kubepods-x.slice", kId)->oci_path, "kubepods-x.slice:crisp:" + kId);
  EXPECT_EQ(cgroups->Place("", kId)->kernel_path, "/system.slice/crisp-" + kId + ".scope");
  EXPECT_EQ(cgroups->Place("-.slice", kId)->kernel_path, "/crisp-" + kId + ".scope");
}

TEST(Place, RefusesWhatDoesNotFitOrLeadsOut) {
  for (const char* parent : {"a.slice", "/x/a.slice", "/a/../b", "/a//b", "..", "/a:b", "/a\nb", "/./a"}) {
    EXPECT_EQ(PlaceFor(Driver::kCgroupfs, parent, kId).error().code(), Code::kInvalidArgument) << parent;
  }
  for (const char* parent : {"/kubepods", "a", "a--b.slice", "-a.slice", "a-.slice", ".slice", "/../a.slice", "a:b.slice"}) {
    EXPECT_EQ(PlaceFor(Driver::kSystemd, parent, kId).error().code(), Code::kInvalidArgument) << parent;
  }
  EXPECT_FALSE(PlaceFor(Driver::kCgroupfs, std::string("/a\0b", 4), kId));
  EXPECT_FALSE(PlaceFor(Driver::kCgroupfs, "/" + std::string(4096, 'x'), kId));
  for (const char* name : {"", "..", "a/b"}) EXPECT_FALSE(PlaceFor(Driver::kCgroupfs, "/p", name)) << name;
}

TEST(Ours, OnlyCgroupsWithAnIdOfOursAreChanged) {
  EXPECT_TRUE(CheckOurs("/crisp/" + kId));
  EXPECT_TRUE(CheckOurs("/a.slice/crisp-" + kId + ".scope"));
  for (std::string path : {std::string("/"), std::string(""), std::string("/process_api"), std::string("/crisp"),
                           "/crisp/" + kId + "/..", "/../" + kId, kId, "/x/docker-" + kId + ".scope", "/crisp/" + kId + "/",
                           "/crisp/" + kId.substr(1)}) {
    EXPECT_EQ(CheckOurs(path).error().code(), Code::kInvalidArgument) << path;
  }
  Machine m;
  auto cgroups = MakeV1(m).Detect();
  std::filesystem::create_directories(m.Tree("/memory/precious"));
  EXPECT_FALSE(cgroups->Remove(Ctx(), "/precious"));
  EXPECT_FALSE(cgroups->Kill(Ctx(), "/"));
  EXPECT_FALSE(cgroups->Create("/precious2"));
  EXPECT_TRUE(std::filesystem::exists(m.Tree("/memory/precious")));
}

TEST(Fixture, SwapAccountingOfV2) {
  Machine m;
  m.Mount("/sys/fs/cgroup", "cgroup2", "nsdelegate");
  for (auto [file, accounted] : {std::pair{"tree/a/memory.max", false}, {"tree/a/memory.swap.max", true}}) {
    m.File("tree/cgroup.controllers", "cpu memory\n").File(file, "max\n");
    EXPECT_EQ(m.Detect()->SwapAccounting(), accounted) << "with " << file;
  }
}

TEST(Fixture, CreatesInEveryHierarchyAndRemovesAll) {
  Machine m;
  auto cgroups = MakeV1(m).Mount("/sys/fs/cgroup/unified", "cgroup2", "").Detect();
  std::string path = "/crisp/" + kId;
  ASSERT_TRUE(cgroups->Create(path));
  EXPECT_TRUE(std::filesystem::exists(m.Tree("/memory" + path)));
  EXPECT_TRUE(std::filesystem::exists(m.Tree("/systemd" + path)));
  EXPECT_FALSE(std::filesystem::exists(m.Tree("/unified" + path))) << "no controller there";
  std::filesystem::create_directories(m.Tree("/cpu,cpuacct" + path + "/below/more"));
  ASSERT_TRUE(cgroups->Remove(Ctx(), path));
  EXPECT_FALSE(std::filesystem::exists(m.Tree("/cpu,cpuacct" + path)));
  EXPECT_TRUE(std::filesystem::exists(m.Tree("/memory/crisp"))) << "the shared parent stays";
  EXPECT_TRUE(cgroups->Remove(Ctx(), path)) << "missing is success";
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
  EXPECT_EQ(m.Detect()->Read("/gone").error().code(), Code::kNotFound);
}

TEST(Usage, OfV2) {
  Machine m;
  m.Mount("/sys/fs/cgroup", "cgroup2", "nsdelegate").File("tree/cgroup.controllers", "memory pids\n");
  m.File("tree/a/cpu.stat", "usage_usec 1500\nuser_usec 1000\n")
      .File("tree/a/memory.current", "300\n")
      .File("tree/a/memory.max", "max\n")
      .File("tree/a/memory.stat", "anon 100\nfile 200\ninactive_file 400\n")
      .File("tree/a/pids.current", "3\n");
  Usage usage = m.Detect()->Read("/a").value();
  EXPECT_EQ(usage.cpu_nanos, 1'500'000u);
  EXPECT_EQ(usage.working_set_bytes, 0u) << "the two files are read one after the other: never below zero";
  EXPECT_EQ(usage.available_bytes, std::nullopt);
  EXPECT_EQ(usage.rss_bytes, 100u);
  EXPECT_EQ(usage.processes, 3u);
}

}  // namespace
}  // namespace crisp::cgroup
