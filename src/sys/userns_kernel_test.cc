// Needs root. The namespaces made here are nobody's but the test's.
#include "sys/userns.h"

#include <gtest/gtest.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "sys/testing/userns_helper.h"

namespace crisp::sys {
namespace {

constexpr IdRange kRange{.inside = 0, .outside = 100000, .length = 65536};

class UsernsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

ino_t InodeOf(const UniqueFd& fd) {
  struct stat info{};
  EXPECT_EQ(fstat(fd.get(), &info), 0);
  return info.st_ino;
}

ino_t OwnerOf(const UniqueFd& ns) { return InodeOf(UniqueFd(ioctl(ns.get(), NS_GET_USERNS))); }

TEST_F(UsernsTest, OwnsTheOtherNamespaces) {
  Result<OwnedNamespaces> made =
      MakeUserns(Ctx(), testing::kSelf, {.maps = {{kRange}, {kRange}}, .net = true, .ipc = true, .uts = true});
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(OwnerOf(made->net), InodeOf(made->user));
  EXPECT_EQ(OwnerOf(made->ipc), InodeOf(made->user));
  EXPECT_EQ(OwnerOf(made->uts), InodeOf(made->user));
  Result<OwnedNamespaces> alone = MakeUserns(Ctx(), testing::kSelf, {.maps = {{kRange}, {kRange}}});
  ASSERT_TRUE(alone);
  EXPECT_FALSE(alone->net.ok() || alone->ipc.ok() || alone->uts.ok());
}

TEST_F(UsernsTest, MapsThatTheKernelRefusesAreTheCallersFault) {
  IdRange overlapping{.inside = 100, .outside = 300000, .length = 10};
  Result<OwnedNamespaces> made = MakeUserns(Ctx(), testing::kSelf, {.maps = {{kRange, overlapping}, {kRange}}});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), Code::kInvalidArgument) << made.error().message();
  std::vector<IdRange> many;
  for (uint32_t i = 0; i < 340; ++i) many.push_back({.inside = i * 10, .outside = 1'000'000'000 + i * 10, .length = 5});
  made = MakeUserns(Ctx(), testing::kSelf, {.maps = {many, {kRange}}});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), Code::kInvalidArgument);
}

TEST_F(UsernsTest, AHelperThatDiesOrIsMissingIsAnError) {
  EXPECT_FALSE(MakeUserns(Ctx(), "/bin/false", {.maps = {{kRange}, {kRange}}}));
  EXPECT_FALSE(MakeUserns(Ctx(), "/nonexistent", {.maps = {{kRange}, {kRange}}}));
}

}  // namespace
}  // namespace crisp::sys
