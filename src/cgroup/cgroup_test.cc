// Names, detection and refusals, on fixture trees. What the kernel does is in cgroup_kernel_test.cc.
#include <gmock/gmock.h>

#include <filesystem>

#include "base/ids.h"
#include "base/strings.h"
#include "cgroup/cgroup.h"
#include "cgroup/hierarchy.h"
#include "cgroup/place.h"
#include "cgroup/testing.h"

namespace crisp::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kId = std::string(60, 'a') + "0123";

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

// Whether the rest is read shows in a mount that would count, and comes after all that the kernel has.
TEST(Detect, ReadsNoFurtherThanAllThereIs) {
  auto hierarchies = [](const std::string& there) {
    Machine m;
    m.Hierarchies(there)
        .Mount("/sys/fs/cgroup/memory", "cgroup", "memory")
        .Mount("/sys/fs/cgroup/part", "cgroup", "cpu", "/x");
    m.Mount("/sys/fs/cgroup/again", "cgroup", "memory").Mount("/sys/fs/cgroup/systemd", "cgroup", "name=systemd");
    m.Mount("/sys/fs/cgroup/late", "cgroup", "pids");
    return m.Detect()->layout().hierarchies.size();
  };
  EXPECT_EQ(hierarchies("2:memory:/\n1:name=systemd:/a\n"), 3u) << "with the part of a tree";
  EXPECT_EQ(hierarchies("2:memory:/\n1:name=systemd:/a\n0::/\n"), 4u) << "one of them nobody has mounted";
  EXPECT_EQ(hierarchies("3:cpu:/\n2:memory:/\n1:name=systemd:/a\n0::/\n"), 4u);
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

TEST(Place, APodsOwn) {
  Result<PodId> id = PodId::Parse(kId);
  ASSERT_TRUE(id);
  EXPECT_EQ(PlaceForPod(Driver::kCgroupfs, *id).parent, "/crisp/" + kId);
  EXPECT_EQ(PlaceForPod(Driver::kCgroupfs, *id).kernel_path, "/crisp/" + kId);
  PodPlace slice = PlaceForPod(Driver::kSystemd, *id);
  EXPECT_EQ(slice.kernel_path, *ExpandSlice(slice.parent));
  EXPECT_EQ(PlaceFor(Driver::kSystemd, slice.parent, kId)->kernel_path, slice.kernel_path + "/crisp-" + kId + ".scope");
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
  EXPECT_TRUE(CheckOurs("/crisp.slice/crisp-" + kId + ".slice"));
  for (std::string path : {std::string("/"), std::string(""), std::string("/process_api"), std::string("/crisp"),
                           "/crisp/" + kId + "/..", "/../" + kId, kId, "/x/docker-" + kId + ".scope", std::string("/crisp.slice"), "/" + kId + ".slice",
                           "/crisp.slice/crisp-" + kId + ".scope.slice", "/crisp/" + kId + "/",
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

}  // namespace
}  // namespace crisp::cgroup
