#include "native/launch.h"

#include <gtest/gtest.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>

namespace crisp::native {
namespace {

Launch Sample() {
  Launch launch;
  launch.id = "id";
  launch.join = {{1, "/proc/1/ns/net"}};
  launch.mounts.resize(2);
  launch.mounts[1].target = "/data";
  launch.mounts[1].uid_map = {{0, 100000, 65536}};
  launch.cgroup.v1_dirs = {"/sys/fs/cgroup/pids/a"};
  launch.process.args = {"sh", "-c", std::string(100'000, 'x')};
  launch.process.groups = {1, 2};
  launch.process.seccomp.program = std::string(8, '\0');
  launch.process.personality = 8;
  return launch;
}

TEST(Launch, Roundtrip) {
  std::string bytes = *Encode(Sample());
  Launch back = *DecodeLaunch(bytes);
  EXPECT_EQ(*Encode(back), bytes);
  EXPECT_EQ(back.process.args[2].size(), 100'000u);
  EXPECT_EQ(back.mounts[1].uid_map[0].count, 65536u);
  EXPECT_EQ(back.process.personality, 8u);
}

// S30: no length of it is believed.
TEST(Launch, CutAndLyingBytesAreRefused) {
  std::string bytes = *Encode(Sample());
  for (size_t size = 0; size < 600; ++size) (void)DecodeLaunch(bytes.substr(0, size)).has_value();
  EXPECT_FALSE(DecodeLaunch(bytes.substr(0, bytes.size() - 1)));
  std::string lying = bytes;
  lying[4] = '\xff', lying[5] = '\xff', lying[6] = '\xff', lying[7] = '\x7f';
  EXPECT_FALSE(DecodeLaunch(lying));
  EXPECT_FALSE(DecodeExecLaunch(bytes));
}

TEST(Launch, TooLarge) {
  Launch launch;
  launch.process.args = {std::string(kLaunchBytesMax, 'x')};
  EXPECT_EQ(Encode(launch).error().code(), Code::kResourceExhausted);
}

TEST(Launch, WhatNeedsTheNodesMountsKeepsThem) {
  auto bare = [](auto change) {
    Launch launch;
    launch.new_namespaces = CLONE_NEWNS | CLONE_NEWPID;
    launch.bare_mounts = "/proc/1/fd/9";
    launch.mounts.resize(1);
    change(launch);
    Head head = *DecodeHead(*Encode(launch));
    EXPECT_NE(head.clone_flags & CLONE_NEWPID, 0u);
    return head.bare;
  };
  EXPECT_TRUE(bare([](Launch&) {}));
  EXPECT_TRUE(bare([](Launch& l) { l.mounts[0].propagation = MS_PRIVATE; }));
  EXPECT_FALSE(bare([](Launch& l) { l.mounts[0].propagation = MS_SHARED; }));
  EXPECT_FALSE(bare([](Launch& l) { l.mounts[0].propagation = MS_SLAVE; }));
  EXPECT_FALSE(bare([](Launch& l) { l.bare_mounts.clear(); }));
  EXPECT_FALSE(bare([](Launch& l) { l.rootfs_propagation = MS_SLAVE | MS_REC; }));
  EXPECT_FALSE(bare([](Launch& l) { l.no_pivot = true; }));
  EXPECT_FALSE(bare([](Launch& l) { l.create_container.resize(1); }));
  EXPECT_FALSE(bare([](Launch& l) { l.prestart.resize(1); }));
  EXPECT_FALSE(bare([](Launch& l) { l.new_namespaces |= CLONE_NEWUSER; }));
}

TEST(ExecLaunch, Roundtrip) {
  ExecLaunch launch;
  launch.namespaces = 0x20000000;
  launch.cgroup.v2_dir = "/sys/fs/cgroup/a";
  launch.process.args = {"true"};
  std::string bytes = *Encode(launch);
  EXPECT_EQ(*Encode(*DecodeExecLaunch(bytes)), bytes);
}

TEST(ExecLaunch, OnlyWhatCannotWaitBorrowsItsMakersMemory) {
  auto flags = [](uint64_t namespaces, CgroupPlace place) {
    ExecLaunch launch;
    launch.namespaces = namespaces;
    launch.cgroup = std::move(place);
    launch.process.args = {"a"};
    return DecodeHead(*Encode(launch))->clone_flags;
  };
  const uint64_t usual = CLONE_NEWPID | CLONE_NEWNS;
  const CgroupPlace v1{{"/pids/x", "/freezer/x"}, "", 1};
  EXPECT_EQ(flags(usual, v1), uint64_t{CLONE_VM | CLONE_VFORK});
  EXPECT_EQ(flags(CLONE_NEWNS, v1), 0u) << "becomes the program itself";
  EXPECT_EQ(flags(usual | CLONE_NEWTIME, v1), 0u);
  EXPECT_EQ(flags(usual, {v1.v1_dirs, "", 0}), 0u) << "it is not known which cgroups may stop it";
  EXPECT_EQ(flags(usual, {{}, "/cg/x", 0}), 0u) << "born in its cgroup";
}

}  // namespace
}  // namespace crisp::native
