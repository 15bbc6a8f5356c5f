// Limits, on fixture trees. The order of the writes of v1 is the kernel's business: see cgroup_kernel_test.cc.
#include "cgroup/limits.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::cgroup {
namespace {

class LimitsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "limits-XXXXXX";
    dir_ = mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void File(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(dir_ + "/" + path).parent_path());
    std::ofstream(dir_ + "/" + path) << text;
  }
  std::string Text(const std::string& path) {
    std::ifstream file(dir_ + "/" + path);
    std::string line;
    std::getline(file, line);
    return line;
  }
  void MakeV2() {
    layout_.unified = true;
    layout_.hierarchies = {{.mountpoint = dir_, .v2 = true, .controllers = {"cpu", "memory", "hugetlb"}, .name = ""}};
    File("pod/cpu.weight", "100\n");
    File("pod/cpu.max", "max 100000\n");
    File("pod/memory.max", "max\n");
    File("pod/memory.swap.max", "max\n");
    File("pod/hugetlb.2MB.max", "max\n");
    File("pod/hugetlb.2MB.rsvd.max", "max\n");
  }
  void MakeV1() {
    for (const char* controller : {"cpu", "memory"}) {
      layout_.hierarchies.push_back(
          {.mountpoint = StrCat(dir_, "/", controller), .v2 = false, .controllers = {controller}, .name = ""});
    }
    File("cpu/pod/cpu.shares", "1024\n");
    File("cpu/pod/cpu.cfs_quota_us", "-1\n");
    File("cpu/pod/cpu.cfs_period_us", "100000\n");
    File("memory/pod/memory.limit_in_bytes", "9223372036854771712\n");
    File("memory/pod/memory.memsw.limit_in_bytes", "9223372036854771712\n");
  }
  Result<> Write(const Limits& limits) { return WriteLimits(layout_, "/pod", limits); }

  std::string dir_;
  Layout layout_;
};

TEST_F(LimitsTest, Weights) {
  EXPECT_EQ(WeightOfShares(2), 1u);
  EXPECT_EQ(WeightOfShares(1024), 39u);
  EXPECT_EQ(WeightOfShares(262'144), 10'000u);
  EXPECT_EQ(WeightOfShares(1), 1u);
  EXPECT_EQ(WeightOfShares(1'000'000), 10'000u);
}

TEST_F(LimitsTest, V2) {
  MakeV2();
  ASSERT_TRUE(Write({.cpu_shares = 1024,
                     .cpu_quota_micros = 50'000,
                     .memory_bytes = 100,
                     .memory_swap_bytes = 150,
                     .hugepages = {{"2MB", 4'194'304}}}));
  EXPECT_EQ(Text("pod/cpu.weight").substr(0, 2), "39");
  EXPECT_EQ(Text("pod/cpu.max"), "50000 100000") << "the period stays";
  EXPECT_EQ(Text("pod/memory.max").substr(0, 3), "100");
  EXPECT_EQ(Text("pod/memory.swap.max").substr(0, 2), "50") << "swap alone";
  EXPECT_EQ(Text("pod/hugetlb.2MB.max"), "4194304");
  EXPECT_EQ(Text("pod/hugetlb.2MB.rsvd.max"), "4194304");
  ASSERT_TRUE(Write({.cpu_quota_micros = -1, .memory_bytes = -1, .memory_swap_bytes = -1}));
  EXPECT_EQ(Text("pod/cpu.max").substr(0, 10), "max 100000");
  EXPECT_EQ(Text("pod/memory.max").substr(0, 3), "max");
  EXPECT_EQ(Text("pod/memory.swap.max").substr(0, 3), "max");
}

TEST_F(LimitsTest, V1) {
  MakeV1();
  ASSERT_TRUE(Write({.cpu_shares = 512,
                     .cpu_quota_micros = 20'000,
                     .cpu_period_micros = 50'000,
                     .memory_bytes = 100,
                     .memory_swap_bytes = 150}));
  EXPECT_EQ(Text("cpu/pod/cpu.shares").substr(0, 3), "512");
  EXPECT_EQ(Text("cpu/pod/cpu.cfs_quota_us").substr(0, 5), "20000");
  EXPECT_EQ(Text("cpu/pod/cpu.cfs_period_us").substr(0, 5), "50000");
  EXPECT_EQ(Text("memory/pod/memory.limit_in_bytes").substr(0, 3), "100");
  EXPECT_EQ(Text("memory/pod/memory.memsw.limit_in_bytes").substr(0, 3), "150");
}

TEST_F(LimitsTest, NothingAskedNothingWritten) {
  layout_.hierarchies.clear();
  EXPECT_TRUE(Write({}));
}

TEST_F(LimitsTest, Refusals) {
  EXPECT_EQ(Write({.cpu_shares = 2}).error().code(), Code::kFailedPrecondition) << "no controller";
  MakeV2();
  EXPECT_EQ(WriteLimits(layout_, "/gone", {.cpu_shares = 2}).error().code(), Code::kNotFound);
  EXPECT_EQ(Write({.memory_swap_bytes = 5}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Write({.memory_bytes = 6, .memory_swap_bytes = 5}).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Write({.cpu_shares = -1}).error().code(), Code::kInvalidArgument);
  EXPECT_FALSE(Write({.hugepages = {{"16GB", 1}}}));
  EXPECT_EQ(Text("pod/memory.max"), "max") << "refused as a whole";
}

}  // namespace
}  // namespace crisp::cgroup
