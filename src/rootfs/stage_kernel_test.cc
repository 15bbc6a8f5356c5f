// Needs root. Everything happens in a mount namespace of the test's own.
#include "rootfs/stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>

#include "base/ids.h"
#include "base/strings.h"
#include "rootfs/relabel.h"
#include "rootfs/volume.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/testing/userns_helper.h"

namespace crisp::rootfs {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kRoot = 100000;

class StageTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }
  void SetUp() override {
    root_ = "/tmp/crisp-stage-test-" + RandomHex(4);
    ASSERT_TRUE(sys::MakeDirs(root_, 0755));
    ASSERT_TRUE(sys::MountTmpfs(root_, 64 << 20, 0755));
    stage_ = Dir("stage");
  }
  void TearDown() override {
    EXPECT_TRUE(sys::UnmountBelow(root_));
    EXPECT_EQ(rmdir(root_.c_str()), 0);
  }
  std::string Dir(const std::string& name) {
    std::string path = root_ + "/" + name;
    EXPECT_TRUE(sys::MakeDirs(path, 0755));
    return path;
  }
  static void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string Read(const std::string& path) { return sys::ReadFile(path).value_or("<none>"); }
  static uint32_t OwnerOf(const std::string& path) {
    struct stat info{};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    return info.st_uid;
  }
  static sys::UniqueFd Path(const std::string& path) {
    Result<sys::UniqueFd> fd = sys::Open(path, O_PATH);
    EXPECT_TRUE(fd);
    return *std::move(fd);
  }
  Idmap Mapped() {
    sys::IdRange range{.inside = 0, .outside = kRoot, .length = 65536};
    Result<sys::OwnedNamespaces> made = sys::MakeUserns(Ctx(), sys::testing::kSelf, {.maps = {{range}, {range}}});
    EXPECT_TRUE(made) << made.error().message();
    userns_ = std::move(made->user);
    return {.userns = userns_, .root_uid = kRoot, .root_gid = kRoot};
  }
  std::string root_, stage_;
  sys::UniqueFd userns_;
};

TEST_F(StageTest, ARootFileSystemIsSeenWithMappedIdsAndItsLayersStayAsTheyAre) {
  std::string a = Dir("layers/a"), b = Dir("layers/b");
  Write(a + "/of-root", "a"), Write(a + "/of-user", "u"), Write(a + "/changed", "a"), Write(b + "/top", "b");
  ASSERT_EQ(chown((a + "/of-user").c_str(), 1000, 1000), 0);
  RootfsSpec spec{
      .layer_dirs = {a, b}, .container_dir = root_ + "/c", .mount_point = root_ + "/rootfs", .idmap = Mapped()};
  Result<> made = PrepareRootfs({}, spec);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(OwnerOf(spec.mount_point), kRoot);
  EXPECT_EQ(OwnerOf(spec.mount_point + "/of-root"), kRoot);
  EXPECT_EQ(OwnerOf(spec.mount_point + "/of-user"), kRoot + 1000);
  EXPECT_EQ(Read(spec.mount_point + "/top"), "b");
  Write(spec.mount_point + "/changed", "new");  // copied up
  EXPECT_EQ(OwnerOf(UpperDir(spec.container_dir) + "/changed"), kRoot);
  EXPECT_EQ(OwnerOf(a + "/of-root"), 0u);
  EXPECT_EQ(Read(a + "/changed"), "a");
  // A volume's copy has the ids of the node, so it needs no map.
  std::string volume = Dir("volume");
  sys::UniqueFd root = Path(spec.mount_point);
  ASSERT_TRUE(CopyUpVolume({}, root, "/", volume));
  EXPECT_EQ(OwnerOf(volume + "/of-user"), kRoot + 1000);
  ASSERT_TRUE(UnmountRootfs({}, spec.container_dir, spec.mount_point));
  EXPECT_FALSE(sys::Exists(spec.mount_point));
}

TEST_F(StageTest, AMountIsMappedWithoutAChown) {
  std::string source = Dir("data");
  Write(source + "/f", "x");
  sys::UniqueFd fd = Path(source);
  Idmap idmap = Mapped();
  Result<> staged = StageMount({.source = fd, .idmap = idmap, .target = stage_ + "/0"});
  ASSERT_TRUE(staged) << staged.error().message();
  EXPECT_EQ(OwnerOf(stage_ + "/0/f"), kRoot);
  EXPECT_EQ(OwnerOf(source + "/f"), 0u);
  ASSERT_TRUE(UnstageMounts(stage_));
  EXPECT_FALSE(sys::Exists(stage_));
  EXPECT_EQ(Read(source + "/f"), "x");
}

TEST_F(StageTest, WhatWasOpenedIsMountedAndAFileToo) {
  std::string file = root_ + "/f";
  Write(file, "first");
  sys::UniqueFd fd = Path(file);
  ASSERT_EQ(rename(file.c_str(), (root_ + "/moved").c_str()), 0);
  ASSERT_EQ(symlink("/etc/passwd", file.c_str()), 0);
  ASSERT_TRUE(StageMount({.source = fd, .target = stage_ + "/0"}));
  EXPECT_EQ(Read(stage_ + "/0"), "first");
}

// An unmount below a shared mount is done to all its peers: the volume's own mounts on the node must not go.
TEST_F(StageTest, TakingAStagedMountAwayLeavesTheSourcesMounts) {
  for (Receive receive : {Receive::kNothing, Receive::kFromHost}) {
    std::string source = Dir("shared");
    ASSERT_TRUE(sys::MountTmpfs(source, 1 << 20, 0755));
    ASSERT_EQ(mount(nullptr, source.c_str(), nullptr, MS_SHARED, nullptr), 0);
    std::string inner = Dir("shared/inner");
    ASSERT_TRUE(sys::MountTmpfs(inner, 1 << 20, 0755));
    Write(inner + "/f", "mine");
    std::string stage = Dir("stage2");
    sys::UniqueFd fd = Path(source);
    ASSERT_TRUE(StageMount({.source = fd, .receive = receive, .target = stage + "/0"}));
    EXPECT_EQ(Read(stage + "/0/inner/f"), "mine");
    std::string later = Dir("shared/later");
    ASSERT_TRUE(sys::MountTmpfs(later, 1 << 20, 0755));
    Write(later + "/f", "later");
    EXPECT_EQ(Read(stage + "/0/later/f"), receive == Receive::kFromHost ? "later" : "<none>");
    ASSERT_TRUE(UnstageMounts(stage));
    EXPECT_EQ(Read(inner + "/f"), "mine");
    ASSERT_TRUE(sys::UnmountBelow(source));
  }
}

class ImageVolumeTest : public StageTest {
 protected:
  void SetUp() override {
    StageTest::SetUp();
    a_ = Dir("layers/a"), b_ = Dir("layers/b");
    Dir("layers/a/etc"), Dir("layers/a/bin");
    Write(a_ + "/etc/passwd", "root"), Write(a_ + "/bin/tool", "t"), Write(b_ + "/over", "b");
    ASSERT_EQ(symlink("/etc", (a_ + "/absolute").c_str()), 0);
    ASSERT_EQ(symlink("../../../../../../etc/shadow", (a_ + "/up").c_str()), 0);
    ASSERT_EQ(symlink("/proc/self/root", (a_ + "/magic").c_str()), 0);
    ASSERT_EQ(mkfifo((a_ + "/pipe").c_str(), 0666), 0);
  }
  Result<> Stage(const std::string& sub_path, Idmap idmap = {}) {
    EXPECT_TRUE(UnstageMounts(stage_));
    EXPECT_TRUE(sys::MakeDir(stage_, 0755));
    return StageImageVolume({.layer_dirs = {a_, b_}, .sub_path = sub_path, .idmap = idmap, .target = stage_ + "/0"});
  }
  std::string a_, b_;
};

TEST_F(ImageVolumeTest, ShowsAllLayersReadOnly) {
  Result<> staged = Stage("");
  ASSERT_TRUE(staged) << staged.error().message();
  EXPECT_EQ(Read(stage_ + "/0/etc/passwd"), "root");
  EXPECT_EQ(Read(stage_ + "/0/over"), "b");
  EXPECT_FALSE(sys::Open(stage_ + "/0/new", O_WRONLY | O_CREAT, 0600));
  EXPECT_FALSE(sys::Open(stage_ + "/0/over", O_WRONLY));
}

TEST_F(ImageVolumeTest, ASubPathIsResolvedInTheImageOnly) {
  ASSERT_TRUE(Stage("etc"));
  EXPECT_EQ(Read(stage_ + "/0/passwd"), "root");
  ASSERT_TRUE(Stage("absolute"));
  EXPECT_EQ(Read(stage_ + "/0/passwd"), "root");
  ASSERT_TRUE(Stage("etc/passwd"));
  EXPECT_EQ(Read(stage_ + "/0"), "root");
  for (const char* bad : {"none", "up", "magic", "pipe", "etc/passwd/x"}) {
    Result<> staged = Stage(bad);
    ASSERT_FALSE(staged) << bad;
    EXPECT_EQ(staged.error().code(), Code::kNotFound) << bad;
    EXPECT_THAT(staged.error().message(), HasSubstr(bad));
  }
}

TEST_F(ImageVolumeTest, IsMappedToo) {
  ASSERT_TRUE(Stage("etc", Mapped()));
  EXPECT_EQ(OwnerOf(stage_ + "/0/passwd"), kRoot);
  EXPECT_EQ(OwnerOf(a_ + "/etc/passwd"), 0u);
}

TEST_F(ImageVolumeTest, AnImageWithoutLayersIsEmpty) {
  ASSERT_TRUE(StageImageVolume({.layer_dirs = {}, .sub_path = "", .target = stage_ + "/0"}));
  EXPECT_TRUE(sys::Exists(stage_ + "/0"));
  ASSERT_TRUE(UnstageMounts(stage_));
}

TEST(RelabelTest, S39_TheNodesOwnIsNeverRelabelled) {
  for (const char* path : {"/", "/etc", "/etc/passwd", "/proc", "/proc/1", "/dev/sda", "/sys/fs", "/usr/bin", "/var",
                           "/home", "/root/x", "/tmp"}) {
    EXPECT_FALSE(MayRelabel(path)) << path;
  }
  for (const char* path :
       {"/var/lib/kubelet/pods/1/volumes/x", "/srv/data", "/home/user/data", "/etcetera", "/tmp/x"}) {
    EXPECT_TRUE(MayRelabel(path)) << path;
  }
}

// Without SELinux the attribute is a name like others, so what is set can be seen.
TEST_F(StageTest, LabelsGoDownButNotThroughSymlinksAndMounts) {
  std::string outside = Dir("outside"), tree = Dir("tree");
  Dir("tree/sub"), Dir("tree/mounted");
  Write(outside + "/f", "x"), Write(tree + "/sub/f", "x");
  ASSERT_EQ(symlink(outside.c_str(), (tree + "/link").c_str()), 0);
  ASSERT_TRUE(sys::MountTmpfs(tree + "/mounted", 1 << 20, 0755));
  auto label = [](const std::string& path) {
    char text[64] = {};
    return getxattr(path.c_str(), "security.selinux", text, sizeof text) > 0 ? std::string(text) : "";
  };
  sys::UniqueFd fd = Path(tree);
  Result<> done = Relabel({}, fd, "system_u:object_r:container_file_t:s0");
  ASSERT_TRUE(done) << done.error().message();
  if (label(tree).empty()) GTEST_SKIP() << "tmpfs keeps no labels here";
  EXPECT_EQ(label(tree + "/sub/f"), "system_u:object_r:container_file_t:s0");
  EXPECT_EQ(label(outside), "");
  EXPECT_EQ(label(outside + "/f"), "");
  EXPECT_EQ(label(tree + "/mounted"), "");
}

TEST_F(StageTest, ProbeLeavesNothing) {
  Idmap idmap = Mapped();
  Result<> works = ProbeIdmap(root_, idmap.userns);
  EXPECT_TRUE(works) << works.error().message();
  Result<> not_here = ProbeIdmap("/proc", idmap.userns);
  EXPECT_FALSE(not_here);
  EXPECT_TRUE(UnstageMounts(stage_));
  EXPECT_EQ(rmdir((root_ + "/stage").c_str()), -1);
}

}  // namespace
}  // namespace crisp::rootfs
