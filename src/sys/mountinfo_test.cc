#include "sys/mountinfo.h"

#include <gmock/gmock.h>

namespace crisp::sys {
namespace {

using ::testing::ElementsAre;

TEST(MountInfo, ReadsEveryFieldWithAnyNumberOfOptionalOnes) {
  auto mounts = ParseMountInfo(
      "36 35 98:0 /mnt1 /mnt2 rw,noatime shared:5 master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n"
      "31 23 0:28 / /with\\040blank\\134x rw - tmpfs tmpfs rw\n");
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[0].id, 36);
  EXPECT_EQ(mounts[0].parent, 35);
  EXPECT_EQ(mounts[0].root, "/mnt1");
  EXPECT_EQ(mounts[0].mountpoint, "/mnt2");
  EXPECT_EQ(mounts[0].shared, 5);
  EXPECT_EQ(mounts[0].master, 1);
  EXPECT_EQ(mounts[0].fstype, "ext3");
  EXPECT_THAT(mounts[0].super_options, ElementsAre("rw", "errors=continue"));
  EXPECT_EQ(mounts[1].mountpoint, "/with blank\\x");
  EXPECT_EQ(mounts[1].shared, 0);
}

TEST(MountInfo, LeavesOutWhatItCannotRead) {
  EXPECT_TRUE(ParseMountInfo("").empty());
  EXPECT_TRUE(ParseMountInfo("1 2 3\n- - - - - - - - -\n36 35 98:0 / / rw - ext3\nx 1 0:1 / / rw - a b c\n").empty());
}

TEST(MountInfo, FindsTheMountThatHidesTheOthers) {
  auto mounts = ParseMountInfo(
      "1 0 0:1 / / rw - ext4 root rw\n2 1 0:2 / /var rw - ext4 var rw\n3 2 0:3 / /var rw - tmpfs top rw\n"
      "4 1 0:4 / /variant rw - tmpfs x rw\n");
  EXPECT_EQ(FindMount(mounts, "/var/lib")->id, 3);
  EXPECT_EQ(FindMount(mounts, "/variant")->id, 4);
  EXPECT_EQ(FindMount(mounts, "/usr")->id, 1);
  EXPECT_EQ(FindMount({}, "/usr"), nullptr);
}

}  // namespace
}  // namespace crisp::sys
