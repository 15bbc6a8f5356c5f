// On this machine's own cgroups, whichever version they are. Makes cgroups named by random ids below a parent of its
// own and removes them; touches nothing else.
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/ids.h"
#include "base/strings.h"
#include "cgroup/cgroup.h"
#include "cgroup/hierarchy.h"
#include "cgroup/tree.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::cgroup {
namespace {

class OnKernel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "wants root";
    layout_ = *DetectLayout(*sys::ReadMountInfo(), "/sys/fs/cgroup");
    cgroups_ = std::move(*Cgroups::Detect({}));
  }
  void TearDown() override {
    if (cgroups_ == nullptr) return;
    EXPECT_TRUE(cgroups_->Remove(Ctx().WithTimeout(std::chrono::seconds(20)), path_));
    for (const Hierarchy& h : layout_.hierarchies) {
      EXPECT_FALSE(sys::Exists(h.mountpoint + path_)) << h.mountpoint;
      rmdir((h.mountpoint + parent_).c_str());
    }
  }

  // A shell that joins the cgroup (and `below` of it) in every hierarchy that has it, then runs `script`.
  sys::Process RunInside(const std::string& script, const std::string& below = "") {
    std::string join;
    for (const Hierarchy& h : layout_.hierarchies) {
      std::string dir = h.mountpoint + path_ + below;
      if (sys::Exists(dir)) join += StrCat("echo $$ > ", dir, "/cgroup.procs; ");
    }
    sys::Pipe ready = *sys::MakePipe();
    auto process = sys::Spawn({.program = "/bin/sh", .args = {"-c", join + "echo ok; " + script}, .fds = {{1, ready.write}}});
    EXPECT_TRUE(process);
    ready.write.Reset();
    char text[3] = {};
    EXPECT_EQ(read(ready.read.get(), text, 2), 2) << "joined";
    return std::move(*process);
  }

  void MakeBelow(const std::string& below) {
    for (const Hierarchy& h : layout_.hierarchies) {
      std::string dir = h.mountpoint + path_ + below;
      if (!sys::Exists(h.mountpoint + path_)) continue;
      ASSERT_TRUE(sys::MakeDir(dir, 0755));
      if (h.Has("cpuset") && !h.v2) {
        for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
          ASSERT_TRUE(sys::WriteExisting(dir + file, Trim(*sys::ReadFile(h.mountpoint + path_ + file))));
        }
      }
    }
  }

  const std::string parent_ = "/crisp-test-" + RandomHex(4);
  const std::string path_ = parent_ + "/" + RandomHex(32);
  Ctx ctx_ = Ctx().WithTimeout(std::chrono::seconds(20));
  Layout layout_;
  std::unique_ptr<Cgroups> cgroups_;
};

// In each order in which v1's rule "memory <= memory+swap" could stand in the way.
TEST_F(OnKernel, LimitsGrowAndShrink) {
  const Hierarchy* memory = layout_.Find("memory");
  if (memory == nullptr) GTEST_SKIP() << "no memory controller";
  ASSERT_TRUE(cgroups_->Create(path_));
  std::string dir = memory->mountpoint + path_;
  auto number = [&](const char* v1, const char* v2) {
    return std::string(Trim(*sys::ReadFile(StrCat(dir, "/", memory->v2 ? v2 : v1))));
  };
  constexpr int64_t kMiB = 1 << 20;
  struct Row {
    int64_t memory, sum;
  };
  for (Row row : {Row{64, 64}, {128, 256}, {32, 48}, {200, 200}, {16, 16}, {100, -1}, {50, 60}}) {
    Limits limits{.memory_bytes = row.memory * kMiB};
    if (cgroups_->SwapAccounting()) limits.memory_swap_bytes = row.sum < 0 ? -1 : row.sum * kMiB;
    Result<> written = cgroups_->SetLimits(path_, limits);
    ASSERT_TRUE(written) << row.memory << "/" << row.sum << ": " << written.error().message();
    EXPECT_EQ(number("memory.limit_in_bytes", "memory.max"), StrCat(row.memory * kMiB));
    if (!cgroups_->SwapAccounting()) continue;
    std::string swap = number("memory.memsw.limit_in_bytes", "memory.swap.max");
    if (row.sum > 0) {
      EXPECT_EQ(swap, StrCat((memory->v2 ? row.sum - row.memory : row.sum) * kMiB));
    } else if (memory->v2) {
      EXPECT_EQ(swap, "max");
    }
  }
  EXPECT_EQ(cgroups_->SetLimits(parent_, {.memory_bytes = kMiB}).error().code(), Code::kInvalidArgument) << "not ours";
}

TEST_F(OnKernel, KillsAndRemovesAllBelow) {
  ASSERT_TRUE(cgroups_->Create(path_));
  ASSERT_TRUE(cgroups_->Create(path_)) << "again is success";
  MakeBelow("/sub");
  sys::Process a = RunInside("while :; do read x < /dev/zero; done");
  sys::Process b = RunInside("trap '' TERM INT; exec sleep 1000", "/sub");
  EXPECT_THAT(*cgroups_->Processes(path_), ::testing::IsSupersetOf({a.pid(), b.pid()}));
  Result<> killed = cgroups_->Kill(ctx_, path_);
  ASSERT_TRUE(killed) << killed.error().message();
  EXPECT_EQ(a.Wait(ctx_)->signal, SIGKILL);
  EXPECT_EQ(b.Wait(ctx_)->signal, SIGKILL);
  EXPECT_THAT(*cgroups_->Processes(path_), ::testing::IsEmpty());
}

TEST_F(OnKernel, RemoveKillsWhoIsStillInside) {
  ASSERT_TRUE(cgroups_->Create(path_));
  // A tree that goes on forking: signals one by one would never catch the last.
  sys::Process forker = RunInside("while :; do (exec sleep 0.01) & (sleep 1000) & wait $!; done");
  Result<> removed = cgroups_->Remove(ctx_, path_);
  ASSERT_TRUE(removed) << removed.error().message();
  EXPECT_EQ(forker.Wait(ctx_)->signal, SIGKILL);
}

TEST_F(OnKernel, KillsWhatIsFrozen) {
  const Hierarchy* freezer = layout_.Find("freezer");
  if (freezer == nullptr) GTEST_SKIP() << "v2 freezes by itself";
  ASSERT_TRUE(cgroups_->Create(path_));
  sys::Process process = RunInside("exec sleep 1000");
  ASSERT_TRUE(sys::WriteExisting(freezer->mountpoint + path_ + "/freezer.state", "FROZEN"));
  ASSERT_TRUE(cgroups_->Kill(ctx_, path_));
  EXPECT_EQ(process.Wait(ctx_)->signal, SIGKILL);
}

TEST_F(OnKernel, CpusetsAreInheritedSoThatProcessesCanJoin) {
  const Hierarchy* cpuset = layout_.Find("cpuset");
  if (cpuset == nullptr || cpuset->v2) GTEST_SKIP() << "no cpuset v1";
  ASSERT_TRUE(cgroups_->Create(path_));
  EXPECT_EQ(*sys::ReadFile(cpuset->mountpoint + path_ + "/cpuset.cpus"), *sys::ReadFile(cpuset->mountpoint + "/cpuset.cpus"));
}

// Also on a hybrid machine, whose v2 tree carries no controller, but does kill.
TEST_F(OnKernel, CgroupKillOfV2) {
  for (const Hierarchy& h : layout_.hierarchies) {
    if (!h.v2) continue;
    std::string dir = h.mountpoint + path_;
    ASSERT_TRUE(sys::MakeDirs(dir + "/below", 0755));
    sys::Process process = RunInside("exec sleep 1000", "/below");
    Result<> killed = KillByFile(ctx_, dir);
    if (!killed && killed.error().code() == Code::kUnimplemented) GTEST_SKIP() << "kernel before 5.14";
    ASSERT_TRUE(killed) << killed.error().message();
    EXPECT_EQ(process.Wait(ctx_)->signal, SIGKILL);
    EXPECT_TRUE(RemoveEmptyTree(ctx_, dir));
    EXPECT_FALSE(sys::Exists(dir));
  }
}

TEST_F(OnKernel, UsageIsTheKernelsAndEndsWithTheCgroup) {
  ASSERT_TRUE(cgroups_->Create(path_));
  sys::Process process = RunInside("exec sleep 1000");
  Result<Usage> usage = cgroups_->Read(path_);
  // What it has used so far may be little, and the kernel adds it up in its own time.
  for (int tries = 0; usage && tries < 1000 && (usage->cpu_nanos == 0 || usage->page_faults == 0); ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    usage = cgroups_->Read(path_);
  }
  ASSERT_TRUE(usage) << usage.error().message();
  if (layout_.Find("memory") != nullptr) {
    EXPECT_GT(usage->memory_bytes, 0u);
    EXPECT_GT(usage->page_faults, 0u);
  }
  if (layout_.Find("pids") != nullptr) {
    EXPECT_EQ(usage->processes, 1u);
  }
  EXPECT_GT(usage->cpu_nanos, 0u);
  EXPECT_EQ(usage->cpu_pressure.has_value(), layout_.unified && sys::Exists("/proc/pressure/cpu"));
  Result<Details> details = cgroups_->ReadDetails(path_);
  ASSERT_TRUE(details) << details.error().message();
  EXPECT_THAT(details->pids, ::testing::ElementsAre(process.pid()));
  EXPECT_GE(*details->cpu_user_nanos + *details->cpu_system_nanos, 0u);

  // Its files are still open with us; what they say now is that it is gone.
  ASSERT_TRUE(cgroups_->Remove(ctx_, path_));
  EXPECT_EQ(cgroups_->Read(path_).error().code(), Code::kNotFound);
  EXPECT_EQ(cgroups_->ReadDetails(path_).error().code(), Code::kNotFound);
  // Another one of that name is read anew.
  ASSERT_TRUE(cgroups_->Create(path_));
  EXPECT_TRUE(cgroups_->Read(path_));
  EXPECT_EQ(process.Wait(ctx_)->signal, SIGKILL);
}

TEST_F(OnKernel, MissingIsSuccess) {
  EXPECT_TRUE(cgroups_->Kill(ctx_, path_));
  EXPECT_TRUE(cgroups_->Remove(ctx_, path_));
  EXPECT_THAT(*cgroups_->Processes(path_), ::testing::IsEmpty());
}

}  // namespace
}  // namespace crisp::cgroup
