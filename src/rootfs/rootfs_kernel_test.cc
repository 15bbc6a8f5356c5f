// Needs root. Everything happens in a mount namespace of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>

#include "base/ids.h"
#include "base/strings.h"
#include "rootfs/rootfs.h"
#include "rootfs/user.h"
#include "rootfs/volume.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace crisp::rootfs {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RootfsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }
  void SetUp() override {
    root_ = "/tmp/crisp-rootfs-test-" + RandomHex(4);
    ASSERT_TRUE(sys::MakeDirs(root_, 0755));
    ASSERT_TRUE(sys::MountTmpfs(root_, 64 << 20, 0755));
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
  static ino_t Inode(const std::string& path) {
    struct stat info{};
    EXPECT_EQ(lstat(path.c_str(), &info), 0) << path;
    return info.st_ino;
  }
  std::string root_;
};

TEST_F(RootfsTest, PrepareAndRemoveRepeat) {
  std::string layer = Dir("layer");
  Write(layer + "/f", "layer");
  RootfsSpec spec{.layer_dirs = {layer}, .container_dir = root_ + "/c", .mount_point = root_ + "/state/c/rootfs"};
  ASSERT_TRUE(PrepareRootfs({}, spec));
  ASSERT_TRUE(PrepareRootfs({}, spec));  // again: still one mount
  Write(spec.mount_point + "/g", "written");
  EXPECT_EQ(Read(UpperDir(spec.container_dir) + "/g"), "written");
  struct stat info;
  ASSERT_EQ(stat(spec.mount_point.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0755u);
  Usage usage = WritableUsage({}, spec.container_dir).value();
  EXPECT_EQ(usage.inodes, 2u);
  EXPECT_GE(usage.bytes, 7u);

  // Lost its mount within the same boot: the volatile mark does not stand in the way.
  ASSERT_TRUE(sys::Unmount(spec.mount_point));
  ASSERT_TRUE(PrepareRootfs({}, spec));
  EXPECT_EQ(Read(spec.mount_point + "/g"), "written");

  ASSERT_TRUE(UnmountRootfs({}, spec.container_dir, spec.mount_point));
  EXPECT_FALSE(sys::Exists(spec.mount_point));
  EXPECT_EQ(Read(UpperDir(spec.container_dir) + "/g"), "written");  // the caller's to delete
  EXPECT_TRUE(UnmountRootfs({}, spec.container_dir, spec.mount_point));
  EXPECT_EQ(Read(layer + "/f"), "layer");
}

TEST_F(RootfsTest, AnImageWithoutLayersIsEmpty) {
  RootfsSpec spec{.layer_dirs = {}, .container_dir = root_ + "/c", .mount_point = root_ + "/m"};
  ASSERT_TRUE(PrepareRootfs({}, spec));
  Write(spec.mount_point + "/f", "x");
  ASSERT_TRUE(UnmountRootfs({}, spec.container_dir, spec.mount_point));
  EXPECT_FALSE(sys::Exists(spec.mount_point));
}

TEST_F(RootfsTest, RemoveTakesMountsThatSomebodyLeftInside) {
  std::string layer = Dir("layer/sub");
  RootfsSpec spec{.layer_dirs = {root_ + "/layer"}, .container_dir = root_ + "/c", .mount_point = root_ + "/m"};
  ASSERT_TRUE(PrepareRootfs({}, spec));
  ASSERT_TRUE(sys::MountTmpfs(spec.mount_point + "/sub", 4096, 0700));
  EXPECT_TRUE(UnmountRootfs({}, spec.container_dir, spec.mount_point));
  EXPECT_FALSE(sys::Exists(spec.mount_point));
}

// ---- users ----

class UserTest : public RootfsTest {
 protected:
  void SetUp() override {
    RootfsTest::SetUp();
    Dir("image/etc");
    Write(
        root_ + "/image/etc/passwd",
        "# comment\n\nroot:x:0:0:root:/root:/bin/sh\nbad line\nweb:x:33:34::/var/www:/bin/false\n"
        "twin:x:33:99::/twin:/bin/sh\nnogid:x:40::/x:/x\nhuge:x:4294967296:0::/:/\nneg:x:-1:0::/:/\n"
        "4294967296:x:0:0::/root:/bin/sh\n0x0:x:0:0::/root:/bin/sh\n-1:x:0:0::/root:/bin/sh\n00:x:0:0::/root:/bin/sh\n"
        "+:x:0:0::/root:/bin/sh\n3proxy:x:65:65:::\n");
    Write(root_ + "/image/etc/group",
          "root:x:0:\nweb:x:34:\nstaff:x:50:web,other\nadm:x:4:other,web\nbig:x:4294967296:web\n");
    image_ = sys::Open(root_ + "/image", O_PATH | O_DIRECTORY).value();
  }
  Result<User> Resolve(const UserRequest& request) { return ResolveUser(image_, request); }
  Result<User> Image(const std::string& text) { return Resolve({.image_user = text}); }
  sys::UniqueFd image_;
};

TEST_F(UserTest, FormsOfTheImagesUser) {
  struct Row {
    const char* text;
    uint32_t uid, gid;
    const char* home;
  };
  for (const Row& row :
       {Row{"", 0, 0, "/root"}, Row{"0", 0, 0, "/root"}, Row{"root", 0, 0, "/root"}, Row{"web", 33, 34, "/var/www"},
        Row{"33", 33, 34, "/var/www"}, Row{"1000", 1000, 0, "/"}, Row{"1000:100", 1000, 100, "/"},
        Row{"web:staff", 33, 50, "/var/www"}, Row{"web:7", 33, 7, "/var/www"}, Row{"1000:staff", 1000, 50, "/"},
        Row{"2147483647", 2147483647, 0, "/"}, Row{"3proxy", 65, 65, "/"}}) {
    Result<User> user = Image(row.text);
    ASSERT_TRUE(user) << row.text;
    EXPECT_EQ(user->uid, row.uid) << row.text;
    EXPECT_EQ(user->gid, row.gid) << row.text;
    EXPECT_EQ(user->home, row.home) << row.text;
  }
}

TEST_F(UserTest, S16_NumbersThatAreNone) {
  for (const char* text : {"2147483648",
                           "4294967295",
                           "4294967296",
                           "18446744073709551616",
                           "-1",
                           "+1",
                           "0x0",
                           "00",
                           "01",
                           "1000:-1",
                           "1000:4294967296",
                           "1000:00",
                           ":5",
                           "1:",
                           ":",
                           "a b",
                           "a\nb",
                           "a/b",
                           "nobody-here",
                           "web:nogroup",
                           "huge",
                           "neg",
                           "1:2:3"}) {
    Result<User> user = Image(text);
    ASSERT_FALSE(user) << text;
    EXPECT_EQ(user.error().code(), Code::kInvalidArgument) << text;
  }
  for (int64_t uid : {int64_t{-1}, int64_t{2147483648}, int64_t{4294967296}}) {
    EXPECT_FALSE(Resolve({.run_as_user = uid})) << uid;
    EXPECT_FALSE(Resolve({.run_as_user = 1, .run_as_group = uid})) << uid;
    EXPECT_FALSE(Resolve({.supplemental_groups = {uid}})) << uid;
  }
  EXPECT_FALSE(Resolve({.run_as_username = "4294967296"}));
}

TEST_F(UserTest, TheRequestGoesBeforeTheImage) {
  User user = Resolve({.run_as_user = 5, .image_user = "web"}).value();
  EXPECT_EQ(user.uid, 5u);
  EXPECT_EQ(user.gid, 0u);
  user = Resolve({.run_as_user = 33, .run_as_group = 8, .image_user = "root"}).value();
  EXPECT_EQ(user.gid, 8u);
  user = Resolve({.run_as_group = 8, .run_as_username = "web"}).value();
  EXPECT_EQ(user.uid, 33u);
  EXPECT_EQ(user.gid, 8u);
  EXPECT_FALSE(Resolve({.run_as_group = 8, .image_user = "web"}));
  Result<User> missing = Resolve({.run_as_username = "ghost"});
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), HasSubstr("\"ghost\" is not in /etc/passwd"));
}

TEST_F(UserTest, S33_SupplementaryGroups) {
  EXPECT_THAT(Image("web")->additional_gids, ElementsAre(4, 34, 50));
  EXPECT_THAT(Resolve({.supplemental_groups = {1234, 50}, .image_user = "web"})->additional_gids,
              ElementsAre(4, 34, 50, 1234));
  EXPECT_THAT(
      Resolve({.supplemental_groups = {1234}, .merge_image_groups = false, .image_user = "web"})->additional_gids,
      ElementsAre(34, 1234));
  EXPECT_THAT(Resolve({.run_as_user = 33, .run_as_group = 7})->additional_gids, ElementsAre(4, 7, 50));
  EXPECT_THAT(Resolve({.run_as_user = 777, .supplemental_groups = {9}})->additional_gids, ElementsAre(0, 9));
}

TEST_F(UserTest, S17_HostileFiles) {
  std::string passwd = root_ + "/image/etc/passwd";
  auto replace = [&](auto make) {
    ASSERT_EQ(unlink(passwd.c_str()), 0);
    make();
    Result<User> user = Image("1000");
    ASSERT_FALSE(user);
    EXPECT_EQ(user.error().code(), Code::kFailedPrecondition) << user.error().message();
  };
  replace([&] { ASSERT_EQ(mkfifo(passwd.c_str(), 0666), 0); });
  replace([&] {
    Dir("image/dev");
    ASSERT_EQ(mknod((root_ + "/image/dev/zero").c_str(), S_IFCHR | 0666, makedev(1, 5)), 0);
    ASSERT_EQ(symlink("/dev/zero", passwd.c_str()), 0);
  });
  replace([&] {
    Write(passwd, "");
    ASSERT_EQ(truncate(passwd.c_str(), off_t{10} << 30), 0);
  });
  replace([&] { Write(passwd, std::string((1 << 20) + 1, '\n')); });
}

TEST_F(UserTest, S17_ManyLinesCostNothingMuch) {
  std::string text;
  for (int i = 0; text.size() < (1 << 20) - 100; ++i) text += "::\n";
  Write(root_ + "/image/etc/passwd", text + "last:x:7:8:::\n");
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  EXPECT_EQ(Image("last")->uid, 7u);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 256 << 10);  // KiB; AddressSanitizer doubles it
}

TEST_F(UserTest, SymlinksStayInTheImage) {
  Write(root_ + "/outside", "evil:x:0:0::/:/\n");
  ASSERT_EQ(unlink((root_ + "/image/etc/passwd").c_str()), 0);
  ASSERT_EQ(symlink("../../outside", (root_ + "/image/etc/passwd").c_str()), 0);
  EXPECT_FALSE(Image("evil"));
  Write(root_ + "/image/real", "inside:x:5:6::/:/\n");
  ASSERT_EQ(unlink((root_ + "/image/etc/passwd").c_str()), 0);
  ASSERT_EQ(symlink("/real", (root_ + "/image/etc/passwd").c_str()), 0);
  EXPECT_EQ(Image("inside")->uid, 5u);
}

TEST_F(UserTest, NoFilesAtAll) {
  ASSERT_TRUE(sys::RemoveTree(root_ + "/image/etc"));
  EXPECT_EQ(Image("")->uid, 0u);
  EXPECT_EQ(Image("12:13")->gid, 13u);
  EXPECT_FALSE(Image("web"));
}

// ---- volumes ----

class VolumeTest : public RootfsTest {
 protected:
  void SetUp() override {
    RootfsTest::SetUp();
    data_ = Dir("image/data");
    target_ = Dir("volume");
    image_ = sys::Open(root_ + "/image", O_PATH | O_DIRECTORY).value();
  }
  std::string data_, target_;
  sys::UniqueFd image_;
};

TEST_F(VolumeTest, CopiesEverything) {
  Write(data_ + "/file", "content");
  ASSERT_EQ(chown((data_ + "/file").c_str(), 5, 6), 0);
  ASSERT_EQ(chmod((data_ + "/file").c_str(), 04751), 0);
  ASSERT_EQ(setxattr((data_ + "/file").c_str(), "trusted.test", "v", 1, 0), 0);
  timespec times[2] = {{1000, 0}, {2000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, (data_ + "/file").c_str(), times, 0), 0);
  Dir("image/data/sub");
  ASSERT_EQ(link((data_ + "/file").c_str(), (data_ + "/sub/hard").c_str()), 0);
  ASSERT_EQ(symlink("/etc/shadow", (data_ + "/soft").c_str()), 0);
  ASSERT_EQ(mkfifo((data_ + "/pipe").c_str(), 0600), 0);
  ASSERT_EQ(mknod((data_ + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)), 0);
  ASSERT_EQ(chown(data_.c_str(), 7, 8), 0);
  ASSERT_EQ(chmod(data_.c_str(), 01777), 0);

  ASSERT_TRUE(CopyUpVolume({}, image_, "/data", target_));
  struct stat info;
  ASSERT_EQ(stat((target_ + "/file").c_str(), &info), 0);
  EXPECT_EQ(Read(target_ + "/file"), "content");
  EXPECT_EQ(info.st_uid, 5u);
  EXPECT_EQ(info.st_gid, 6u);
  EXPECT_EQ(info.st_mode & 07777, 04751u);
  EXPECT_EQ(info.st_mtim.tv_sec, 2000);
  char value[8];
  EXPECT_EQ(getxattr((target_ + "/file").c_str(), "trusted.test", value, sizeof value), 1);
  EXPECT_EQ(Inode(target_ + "/file"), Inode(target_ + "/sub/hard"));
  char link[64] = {};
  EXPECT_GT(readlink((target_ + "/soft").c_str(), link, sizeof link), 0);
  EXPECT_STREQ(link, "/etc/shadow");
  ASSERT_EQ(lstat((target_ + "/pipe").c_str(), &info), 0);
  EXPECT_TRUE(S_ISFIFO(info.st_mode));
  ASSERT_EQ(lstat((target_ + "/null").c_str(), &info), 0);
  EXPECT_TRUE(S_ISCHR(info.st_mode));
  ASSERT_EQ(stat(target_.c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 7u);
  EXPECT_EQ(info.st_mode & 07777, 01777u);
}

TEST_F(VolumeTest, S20_NothingOutsideIsRead) {
  std::string secret = Dir("secret");
  Write(secret + "/key", "secret");
  ASSERT_EQ(symlink("../secret", (root_ + "/image/up").c_str()), 0);
  ASSERT_EQ(symlink(secret.c_str(), (root_ + "/image/absolute").c_str()), 0);
  for (const char* path : {"/../secret", "/../../..", "/up", "/absolute", "/data/../../secret"}) {
    std::string target = Dir(VolumeDirName(path));
    EXPECT_TRUE(CopyUpVolume({}, image_, path, target)) << path;
    EXPECT_FALSE(sys::Exists(target + "/key")) << path;
  }
  // A symlink inside the volume is copied as a symlink, not followed.
  ASSERT_EQ(symlink(secret.c_str(), (data_ + "/dir").c_str()), 0);
  ASSERT_TRUE(CopyUpVolume({}, image_, "/data", target_));
  struct stat info;
  ASSERT_EQ(lstat((target_ + "/dir").c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
}

// Else an image of a kilobyte fills the node's disk each time a container is made.
TEST_F(VolumeTest, S07_HolesStayHoles) {
  sys::UniqueFd sparse = sys::Open(data_ + "/sparse", O_WRONLY | O_CREAT, 0644).value();
  constexpr off_t kMiddle = off_t{3} << 30, kSize = off_t{8} << 30;
  ASSERT_EQ(ftruncate(sparse.get(), kSize), 0);
  ASSERT_EQ(pwrite(sparse.get(), "data", 4, kMiddle), 4);
  ASSERT_EQ(pwrite(sparse.get(), "first", 5, 0), 5);
  ASSERT_TRUE(CopyUpVolume({}, image_, "/data", target_));
  sys::UniqueFd copy = sys::Open(target_ + "/sparse", O_RDONLY).value();
  struct stat info;
  ASSERT_EQ(fstat(copy.get(), &info), 0);
  EXPECT_EQ(info.st_size, kSize);
  EXPECT_LT(info.st_blocks * 512, 1 << 20);
  char bytes[6] = {};
  ASSERT_EQ(pread(copy.get(), bytes, 4, kMiddle), 4);
  EXPECT_STREQ(bytes, "data");
  ASSERT_EQ(pread(copy.get(), bytes, 5, 0), 5);
  EXPECT_STREQ(bytes, "first");
}

TEST_F(VolumeTest, MissingOrNoDirectoryLeavesItEmpty) {
  Write(root_ + "/image/file", "x");
  EXPECT_TRUE(CopyUpVolume({}, image_, "/missing/deep", target_));
  EXPECT_TRUE(CopyUpVolume({}, image_, "/file", target_));
  EXPECT_EQ(rmdir(target_.c_str()), 0);
}

TEST_F(VolumeTest, StopsWhenCancelled) {
  Write(data_ + "/file", "content");
  std::stop_source stop;
  stop.request_stop();
  Result<> done = CopyUpVolume(Ctx(Clock::time_point::max(), stop.get_token(), ""), image_, "/data", target_);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kCancelled);
}

TEST(VolumeDirNameTest, IsOneSafeName) {
  EXPECT_NE(VolumeDirName("/a/b"), VolumeDirName("/a-b"));
  EXPECT_EQ(VolumeDirName("/../x").find_first_of("/."), std::string::npos);
  EXPECT_LE(VolumeDirName(std::string(5000, 'x')).size(), 100u);
}

}  // namespace
}  // namespace crisp::rootfs
