// Needs root. Everything happens in a mount namespace of the test's own.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/ids.h"
#include "base/strings.h"
#include "sys/device.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/mountinfo.h"

namespace crisp::sys {
namespace {

class MountTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }
  void SetUp() override {
    root_ = "/tmp/crisp-mount-test-" + RandomHex(4);
    ASSERT_TRUE(MakeDirs(root_, 0755));
    // A tmpfs: overlay uppers want a file system of their own, and nothing stays if the test dies.
    ASSERT_TRUE(MountTmpfs(root_, 64 << 20, 0755, MS_NOSUID));
  }
  void TearDown() override {
    EXPECT_TRUE(UnmountBelow(root_));
    EXPECT_EQ(rmdir(root_.c_str()), 0);
  }
  std::string Dir(const std::string& name) {
    std::string path = root_ + "/" + name;
    EXPECT_TRUE(MakeDirs(path, 0755));
    return path;
  }
  static void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string Read(const std::string& path) { return ReadFile(path).value_or("<none>"); }
  std::string root_;
};

class OverlayTest : public MountTest, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Ways, OverlayTest, testing::Bool());

TEST_P(OverlayTest, ShowsTheTopLayerFirst) {
  std::string a = Dir("a"), b = Dir("b"), c = Dir("c"), target = Dir("t");
  Write(a + "/f", "a"), Write(b + "/f", "b"), Write(c + "/f", "c");
  Write(a + "/only-a", "x");
  OverlaySpec spec{
      .lower = {a, b, c}, .upper = Dir("u"), .work = Dir("w"), .skip_sync = true, .by_options = GetParam()};
  ASSERT_TRUE(MountOverlay(spec, target));
  EXPECT_EQ(Read(target + "/f"), "c");
  EXPECT_EQ(Read(target + "/only-a"), "x");
  Write(target + "/f", "new");
  EXPECT_EQ(Read(root_ + "/u/f"), "new");
  EXPECT_EQ(Read(c + "/f"), "c");
  std::vector<MountInfo> mounts = ReadMountInfo().value();
  const MountInfo* found = FindMount(mounts, target);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->fstype, "overlay");
  // Shown as "volatile", or as "fsync=volatile" by newer kernels.
  EXPECT_TRUE(std::any_of(found->super_options.begin(), found->super_options.end(),
                          [](const std::string& option) { return option.ends_with("volatile"); }));
}

TEST_P(OverlayTest, TakesManyLayersWithOddAndLongNames) {
  std::vector<std::string> lower;
  for (int i = 0; i < 200; ++i) {
    lower.push_back(Dir(StrCat("layer:with,odd=chars\\", i, "/", std::string(i % 2 == 0 ? 200 : 10, 'x'), "/fs")));
    Write(StrCat(lower.back(), "/f", i), StrCat(i));
  }
  std::string target = Dir("t");
  OverlaySpec spec{.lower = lower, .upper = Dir("u"), .work = Dir("w"), .by_options = GetParam()};
  Result<> done = MountOverlay(spec, target);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(Read(target + "/f0"), "0");
  EXPECT_EQ(Read(target + "/f199"), "199");
}

TEST_F(MountTest, OverlayErrorCarriesTheKernelsReason) {
  Result<> done = MountOverlay({.lower = {root_ + "/missing"}, .upper = Dir("u"), .work = Dir("w")}, Dir("t"));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kNotFound);
  EXPECT_NE(done.error().message().find("missing"), std::string::npos) << done.error().message();
  // A regular file as a layer.
  Write(root_ + "/file", "");
  done = MountOverlay({.lower = {root_ + "/file"}, .upper = root_ + "/u", .work = root_ + "/w"}, root_ + "/t");
  ASSERT_FALSE(done);
  EXPECT_FALSE(IsMountPoint(root_ + "/t").value());
}

TEST_F(MountTest, UnmountTakesTheWholeStackAndRepeats) {
  std::string target = Dir("t");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(MountTmpfs(target, 4096, 0700));
  EXPECT_TRUE(IsMountPoint(target).value());
  EXPECT_TRUE(Unmount(target));
  EXPECT_FALSE(IsMountPoint(target).value());
  EXPECT_TRUE(Unmount(target));
  EXPECT_TRUE(Unmount(root_ + "/nothing/here"));
}

TEST_F(MountTest, UnmountDoesNotFollowASymlink) {
  std::string target = Dir("t");
  ASSERT_TRUE(MountTmpfs(target, 4096, 0700));
  ASSERT_EQ(symlink(target.c_str(), (root_ + "/link").c_str()), 0);
  EXPECT_TRUE(Unmount(root_ + "/link"));
  EXPECT_TRUE(IsMountPoint(target).value());
}

TEST_F(MountTest, UnmountBelowTakesChildrenAndLeavesNeighbours) {
  std::string pod = Dir("pod"), other = Dir("pod-2"), deep;
  ASSERT_TRUE(MountTmpfs(pod, 1 << 20, 0700));
  deep = Dir("pod/with space\\and\ttab");
  ASSERT_TRUE(MountTmpfs(deep, 4096, 0700));
  ASSERT_TRUE(MountTmpfs(other, 4096, 0700));
  EXPECT_TRUE(UnmountBelow(pod));
  EXPECT_FALSE(IsMountPoint(pod).value());
  EXPECT_TRUE(IsMountPoint(other).value());
}

TEST_F(MountTest, BindOfAnOpenedPathSurvivesASwap) {
  std::string good = Dir("good"), bad = Dir("bad"), target = Dir("t");
  Write(good + "/f", "good"), Write(bad + "/f", "bad");
  OpenedPath opened = OpenHostPath(good).value();
  ASSERT_EQ(rename(good.c_str(), (root_ + "/moved").c_str()), 0);
  ASSERT_EQ(symlink(bad.c_str(), good.c_str()), 0);
  ASSERT_TRUE(BindMount(opened.fd, target, BindDepth::kRecursive));
  EXPECT_EQ(Read(target + "/f"), "good");
}

TEST_F(MountTest, OpenHostPathTellsWhereItLies) {
  std::string shared = Dir("shared");
  ASSERT_TRUE(MountTmpfs(shared, 1 << 20, 0755));
  ASSERT_EQ(mount(nullptr, shared.c_str(), nullptr, MS_SHARED, nullptr), 0);
  Dir("shared/sub");
  ASSERT_EQ(symlink("shared/sub", (root_ + "/link").c_str()), 0);
  OpenedPath opened = OpenHostPath(root_ + "/link").value();
  EXPECT_EQ(opened.path, shared + "/sub");
  EXPECT_EQ(opened.mount_point, shared);
  EXPECT_NE(opened.shared_group, 0);
  EXPECT_TRUE(opened.is_directory);
  opened = OpenHostPath(root_).value();
  EXPECT_EQ(opened.shared_group, 0);
  EXPECT_EQ(OpenHostPath(root_ + "/none").error().code(), Code::kNotFound);
}

TEST_F(MountTest, ListDevicesFindsNodesOnly) {
  std::string dev = Dir("dev");
  ASSERT_EQ(mknod((dev + "/one").c_str(), S_IFCHR | 0640, makedev(1, 3)), 0);
  Dir("dev/sub"), Dir("dev/pts");
  ASSERT_EQ(mknod((dev + "/sub/two").c_str(), S_IFBLK | 0600, makedev(7, 9)), 0);
  ASSERT_EQ(mknod((dev + "/pts/0").c_str(), S_IFCHR | 0600, makedev(136, 0)), 0);
  ASSERT_EQ(symlink("one", (dev + "/link").c_str()), 0);
  Write(dev + "/file", "");
  std::vector<DeviceInfo> found = ListDevices(dev).value();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].path, dev + "/one");
  EXPECT_EQ(found[0].type, 'c');
  EXPECT_EQ(found[0].mode, 0640u);
  EXPECT_EQ(found[1].path, dev + "/sub/two");
  EXPECT_EQ(found[1].type, 'b');
  EXPECT_EQ(found[1].major, 7u);
  EXPECT_EQ(found[1].minor, 9u);
  EXPECT_EQ(ListDevices(dev + "/link").value()[0].major, 1u);
  EXPECT_EQ(ListDevices(dev + "/file").error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace crisp::sys
