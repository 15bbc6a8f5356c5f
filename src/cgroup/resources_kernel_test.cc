// linux.resources on this machine's own cgroups, below a parent of our own; and what the kernel then refuses.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/ids.h"
#include "base/strings.h"
#include "cgroup/cgroup.h"
#include "cgroup/resources.h"
#include "cgroup/tree.h"
#include "sys/file.h"

namespace crisp::cgroup {
namespace {

// errno of an open of `device` by a process that joins `dir` first; 0: opened.
int OpenInside(const std::string& dir, const char* device, int flags) {
  pid_t pid = fork();
  if (pid == 0) {
    if (!sys::WriteExisting(dir + "/cgroup.procs", "0")) _exit(255);
    _exit(open(device, flags | O_CLOEXEC) >= 0 ? 0 : errno);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WEXITSTATUS(status);
}

class ResourcesOnKernel : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "wants root";
    cgroups_ = std::move(*Cgroups::Detect({}));
  }
  void TearDown() override {
    if (cgroups_ == nullptr) return;
    EXPECT_TRUE(cgroups_->Remove(Ctx().WithTimeout(std::chrono::seconds(20)), path_));
    for (const Hierarchy& h : cgroups_->layout().hierarchies) rmdir((h.mountpoint + parent_).c_str());
  }
  void Make(const char* json) {
    Result<> made = cgroups_->CreateForContainer(path_, json);
    ASSERT_TRUE(made) << made.error().message();
  }
  void Update(const char* json) {
    Result<> updated = cgroups_->UpdateResources(path_, json);
    ASSERT_TRUE(updated) << updated.error().message();
  }
  std::string DirOf(const char* controller) { return cgroups_->layout().Find(controller)->mountpoint + path_; }
  std::string Text(const char* controller, const char* v1, const char* v2) {
    const Hierarchy* hierarchy = cgroups_->layout().Find(controller);
    return std::string(Trim(sys::ReadFile(StrCat(hierarchy->mountpoint, path_, "/", hierarchy->v2 ? v2 : v1)).value_or("none")));
  }

  const std::string parent_ = "/crisp-test-" + RandomHex(4);
  const std::string path_ = parent_ + "/" + RandomHex(32);
  std::unique_ptr<Cgroups> cgroups_;
};

TEST_F(ResourcesOnKernel, LimitsInAnyOrder) {
  if (cgroups_->layout().Find("cpu") == nullptr || cgroups_->layout().Find("pids") == nullptr) GTEST_SKIP() << "no controllers";
  Make(R"({"cpu": {"shares": 200, "quota": 20000, "period": 100000, "burst": 5000}, "pids": {"limit": 12}})");
  EXPECT_EQ(Text("cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "5000");
  EXPECT_EQ(Text("pids", "pids.max", "pids.max"), "12");
  // Burst may never be more than the quota: one of these is refused as long as the other has its old value.
  Update(R"({"cpu": {"quota": 80000, "burst": 70000}})");
  EXPECT_EQ(Text("cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "70000");
  Update(R"({"cpu": {"quota": 3000, "burst": 2000}, "pids": {"limit": -1}})");
  EXPECT_EQ(Text("cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "2000");
  EXPECT_EQ(Text("pids", "pids.max", "pids.max"), "max");
  if (Text("cpu", "cpu.idle", "cpu.idle") == "none") return;
  Update(R"({"cpu": {"idle": 1}})");
  EXPECT_EQ(Text("cpu", "cpu.idle", "cpu.idle"), "1");
  Update(R"({"cpu": {"idle": 0, "shares": 300}})") ;
  EXPECT_EQ(Text("cpu", "cpu.idle", "cpu.idle"), "0");
}

TEST_F(ResourcesOnKernel, MemoryWithoutLimitAgain) {
  if (cgroups_->layout().Find("memory") == nullptr) GTEST_SKIP() << "no memory controller";
  Make(cgroups_->SwapAccounting() ? R"({"memory": {"limit": 67108864, "swap": 67108864}})" : R"({"memory": {"limit": 67108864}})");
  Update(R"({"memory": {"limit": -1}})");
  EXPECT_NE(Text("memory", "memory.limit_in_bytes", "memory.max"), "67108864");
}

TEST_F(ResourcesOnKernel, DevicesOfV1) {
  if (cgroups_->layout().Find("devices") == nullptr) GTEST_SKIP() << "no devices controller of v1";
  Make(R"({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]})");
  std::string dir = DirOf("devices");
  EXPECT_EQ(OpenInside(dir, "/dev/null", O_RDWR), 0);
  if (access("/dev/kmsg", F_OK) == 0) {
    EXPECT_EQ(OpenInside(dir, "/dev/kmsg", O_RDONLY), 0);
    EXPECT_EQ(OpenInside(dir, "/dev/kmsg", O_WRONLY), EPERM);
  }
  Update(R"({"devices": [{"allow": false, "access": "rwm"}]})");
  EXPECT_EQ(OpenInside(dir, "/dev/kmsg", O_RDONLY), EPERM);
  EXPECT_EQ(OpenInside(dir, "/dev/null", O_RDWR), 0);
  EXPECT_THAT(*sys::ReadFile(dir + "/devices.list"), ::testing::Not(::testing::HasSubstr("1:11")));
  Update(R"({"devices": [{"allow": true, "access": "rwm"}]})");
  EXPECT_EQ(*sys::ReadFile(dir + "/devices.list"), "a *:* rwm\n");
}

TEST_F(ResourcesOnKernel, WithoutRulesOnlyTheStandardDevices) {
  if (cgroups_->layout().Find("devices") == nullptr) GTEST_SKIP() << "no devices controller of v1";
  Make("{}");
  EXPECT_EQ(OpenInside(DirOf("devices"), "/dev/zero", O_RDONLY), 0);
  EXPECT_EQ(OpenInside(DirOf("devices"), "/dev/kmsg", O_RDONLY), EPERM);
}

// Also on a hybrid machine: programs hang on the v2 tree whichever controllers it has.
TEST_F(ResourcesOnKernel, DevicesOfV2) {
  for (const Hierarchy& h : cgroups_->layout().hierarchies) {
    if (!h.v2) continue;
    std::string dir = h.mountpoint + path_;
    ASSERT_TRUE(sys::MakeDirs(dir, 0755));
    DeviceRule all{.allow = true};
    std::vector<DeviceRule> standard = StandardDevices(), more = standard;
    more.push_back({true, 'c', 1, 11, "r"});
    Result<> attached = AttachDeviceRulesV2(dir, standard);
    if (!attached && (attached.error().os_errno() == ENOSYS || attached.error().os_errno() == EPERM)) {
      GTEST_SKIP() << attached.error().message();
    }
    ASSERT_TRUE(attached) << attached.error().message();
    EXPECT_EQ(OpenInside(dir, "/dev/null", O_RDWR), 0);
    EXPECT_EQ(OpenInside(dir, "/dev/kmsg", O_RDONLY), EPERM);
    // The new rules instead of the old ones, not beside them.
    ASSERT_TRUE(AttachDeviceRulesV2(dir, more));
    EXPECT_EQ(OpenInside(dir, "/dev/kmsg", O_RDONLY), 0);
    EXPECT_EQ(OpenInside(dir, "/dev/kmsg", O_WRONLY), EPERM);
    ASSERT_TRUE(AttachDeviceRulesV2(dir, {all}));
    EXPECT_EQ(OpenInside(dir, "/dev/kmsg", O_WRONLY), 0);
  }
}

}  // namespace
}  // namespace crisp::cgroup
