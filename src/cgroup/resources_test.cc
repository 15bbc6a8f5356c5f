// linux.resources as files of v1 and v2, and device rules, on values and fixture trees.
#include "cgroup/resources.h"

#include <gmock/gmock.h>

#include "base/strings.h"
#include "cgroup/systemd.h"
#include "cgroup/testing.h"
#include "sys/file.h"

namespace crisp::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

Layout V1Layout() {
  Layout layout;
  for (const char* name : {"cpu", "cpuset", "memory", "pids", "blkio", "devices", "hugetlb", "net_cls", "net_prio", "rdma"}) {
    layout.hierarchies.push_back({.mountpoint = StrCat("/v1/", name), .v2 = false, .controllers = {name}, .name = ""});
  }
  return layout;
}

Layout V2Layout() {
  Layout layout;
  layout.unified = true;
  layout.hierarchies = {{.mountpoint = "/v2", .v2 = true, .controllers = {"cpu", "cpuset", "memory", "pids", "io", "rdma"}, .name = ""}};
  return layout;
}

std::vector<std::string> Texts(const Resources& resources) {
  std::vector<std::string> out;
  for (const FileWrite& write : resources.writes) out.push_back(StrCat(write.file, "=", write.value));
  return out;
}

std::vector<std::string> TextsOf(const char* json, const Layout& layout) {
  Result<Resources> resources = ParseResources(json, layout);
  EXPECT_TRUE(resources) << resources.error().message();
  return resources ? Texts(*resources) : std::vector<std::string>();
}

constexpr char kAll[] = R"({
  "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000, "realtimeRuntime": 950, "realtimePeriod": 1000,
          "cpus": "0-1", "mems": "0", "idle": 1},
  "memory": {"limit": 100, "swap": 150, "reservation": 50, "swappiness": 10, "disableOOMKiller": true, "kernelTCP": 7},
  "pids": {"limit": 30},
  "blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
              "throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 600}],
              "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]},
  "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
  "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
  "rdma": {"mlx5_1": {"hcaHandles": 3}}})";

TEST(ResourcesTest, V1) {
  EXPECT_THAT(TextsOf(kAll, V1Layout()),
              ElementsAre("cpu.cfs_burst_us=1000", "cpu.rt_period_us=1000", "cpu.rt_runtime_us=950", "cpu.idle=1",
                          "cpuset.cpus=0-1", "cpuset.mems=0", "memory.soft_limit_in_bytes=50",
                          "memory.kmem.tcp.limit_in_bytes=7", "memory.swappiness=10", "memory.oom_control=1", "pids.max=30",
                          "blkio.weight=1000", "blkio.weight_device=8:0 10", "blkio.throttle.read_bps_device=8:16 600",
                          "blkio.throttle.write_iops_device=8:16 0", "net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5",
                          "rdma.max=mlx5_1 hca_handle=3 hca_object=max"));
  Limits limits = ParseResources(kAll, V1Layout())->limits;
  EXPECT_EQ(limits, (Limits{.cpu_shares = 512,
                            .cpu_quota_micros = 20'000,
                            .cpu_period_micros = 50'000,
                            .memory_bytes = 100,
                            .memory_swap_bytes = 150,
                            .hugepages = {{"2MB", 9}}}));
}

TEST(ResourcesTest, V2) {
  EXPECT_THAT(TextsOf(kAll, V2Layout()),
              ElementsAre("cpu.max.burst=1000", "cpu.idle=1", "cpuset.cpus=0-1", "cpuset.mems=0", "memory.low=50", "pids.max=30",
                          "io.bfq.weight=1000", "io.bfq.weight=8:0 10", "io.max=8:16 rbps=600", "io.max=8:16 wiops=max",
                          "rdma.max=mlx5_1 hca_handle=3 hca_object=max"));
  std::vector<FileWrite> weights = ParseResources(kAll, V2Layout())->writes;
  EXPECT_EQ(weights[6].other_file, "io.weight");
  EXPECT_EQ(weights[6].other_value, "10000");
  EXPECT_EQ(weights[7].other_value, "8:0 1");
  EXPECT_THAT(TextsOf(R"({"memory": {"reservation": -1}, "pids": {"limit": -1},
                          "unified": {"memory.high": "5\n", "io.max": "8:0 rbps=1\n8:16 rbps=2"}})", V2Layout()),
              ElementsAre("memory.low=max", "pids.max=max", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=5"));
}

TEST(ResourcesTest, NothingAskedNothingWritten) {
  for (const char* json : {"{}", R"({"cpu": {}, "memory": null, "pids": {}})"}) {
    Result<Resources> resources = ParseResources(json, V1Layout());
    ASSERT_TRUE(resources) << resources.error().message();
    EXPECT_THAT(resources->writes, IsEmpty());
    EXPECT_EQ(resources->limits, Limits());
    EXPECT_FALSE(resources->devices);
  }
}

TEST(ResourcesTest, Refusals) {
  for (const char* json :
       {"[]", R"({"cpu": 1})", R"({"cpu": {"cpus": "0; rm"}})", R"({"cpu": {"shares": "1"}})", R"({"blockIO": {"weight": 5}})",
        R"({"blockIO": {"weightDevice": [1]}})", R"({"blockIO": {"throttleReadBpsDevice": {}}})", R"({"devices": [{"type": "x"}]})",
        R"({"devices": [{"access": "rwx"}]})", R"({"devices": [{"major": -2}]})", R"({"devices": [7]})",
        R"({"hugepageLimits": [{"pageSize": "../x"}]})", R"({"hugepageLimits": [1]})", R"({"network": {"priorities": [1]}})",
        R"({"rdma": {"x": 1}})"}) {
    Result<Resources> resources = ParseResources(json, V1Layout());
    ASSERT_FALSE(resources) << json;
    EXPECT_EQ(resources.error().code(), Code::kInvalidArgument) << json;
  }
  EXPECT_EQ(ParseResources(R"({"unified": {"memory.high": "1"}})", V1Layout()).error().code(), Code::kFailedPrecondition);
  EXPECT_EQ(ParseResources(R"({"unified": {"../x": "1"}})", V2Layout()).error().code(), Code::kInvalidArgument);
}

TEST(ResourcesTest, FilesOfOtherNamesAndMissingControllers) {
  Machine m;
  MakeV1(m);
  m.Mount("/sys/fs/cgroup/blkio", "cgroup", "blkio").File("tree/blkio/c/blkio.bfq.weight", "100\n");
  auto cgroups = m.Detect();
  Result<Resources> resources = ParseResources(R"({"blockIO": {"weight": 300}})", cgroups->layout());
  Result<> written = WriteResources(cgroups->layout(), "/c", *resources);
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_EQ(sys::ReadFile(m.Tree("/blkio/c/blkio.bfq.weight"))->substr(0, 3), "300");
  resources = ParseResources(R"({"pids": {"limit": 3}})", cgroups->layout());
  EXPECT_EQ(WriteResources(cgroups->layout(), "/c", *resources).error().code(), Code::kFailedPrecondition);
}

TEST(ResourcesTest, AMemoryLimitBelowWhatIsUsedIsRefusedWhereAskedFor) {
  Machine m;
  m.Mount("/sys/fs/cgroup", "cgroup2", "").File("tree/cgroup.controllers", "cpu memory\n");
  m.File("tree/c/memory.current", "5000\n").File("tree/c/memory.max", "max\n");
  auto cgroups = m.Detect();
  auto write = [&](const char* json) {
    Result<Resources> resources = ParseResources(json, cgroups->layout());
    return WriteResources(cgroups->layout(), "/c", *resources);
  };
  EXPECT_EQ(write(R"({"memory": {"limit": 4000, "checkBeforeUpdate": true}})").error().code(), Code::kFailedPrecondition);
  EXPECT_TRUE(write(R"({"memory": {"limit": 6000, "checkBeforeUpdate": true}})"));
  EXPECT_TRUE(write(R"({"memory": {"limit": 4000}})"));
}

DeviceRule Allow(char type, int64_t major, int64_t minor, const char* access = "rwm") { return {true, type, major, minor, access}; }
DeviceRule Deny(char type, int64_t major, int64_t minor, const char* access = "rwm") { return {false, type, major, minor, access}; }
constexpr int64_t kAny = DeviceRule::kAny;

TEST(DeviceRulesTest, RulesComeTo) {
  EXPECT_EQ(*Evaluate({}), DeviceSet());
  EXPECT_EQ(*Evaluate({Deny('a', kAny, kAny), Allow('c', 1, 3, "r"), Allow('c', 1, 3, "w"), Allow('b', kAny, kAny, "m")}),
            (DeviceSet{false, {Allow('c', 1, 3, "rw"), Allow('b', kAny, kAny, "m")}}));
  EXPECT_EQ(*Evaluate({Allow('c', 1, 3), Allow('a', kAny, kAny), Deny('c', 1, 5)}), (DeviceSet{true, {Deny('c', 1, 5)}}));
  EXPECT_EQ(*Evaluate({Allow('c', 1, 3), Allow('c', 1, 5), Deny('c', 1, kAny, "wm")}),
            (DeviceSet{false, {Allow('c', 1, 3, "r"), Allow('c', 1, 5, "r")}}));
  EXPECT_EQ(*Evaluate({Allow('a', 7, 1)}), (DeviceSet{false, {Allow('c', 7, 1), Allow('b', 7, 1)}})) << "not everything";
  EXPECT_EQ(Evaluate({Allow('c', 1, kAny), Deny('c', 1, 3)}).error().code(), Code::kUnimplemented);
  EXPECT_TRUE(Evaluate({Allow('c', 1, kAny, "m"), Deny('c', 1, 3, "rw")})) << "they do not touch";
}

TEST(DeviceRulesTest, V1WritesWhatDiffers) {
  Machine m;
  m.File("d/devices.list", "a *:* rwm\n").File("d/devices.allow", "").File("d/devices.deny", "");
  // Appending tells more than overwriting: each write lands behind the last, as the files stay open.
  auto run = [&](std::vector<DeviceRule> rules) {
    m.File("d/devices.allow", "").File("d/devices.deny", "");
    Result<> written = WriteDeviceRulesV1(m.dir() + "/d", rules);
    EXPECT_TRUE(written) << written.error().message();
    return StrCat("allow: ", *sys::ReadFile(m.dir() + "/d/devices.allow"), ", deny: ", *sys::ReadFile(m.dir() + "/d/devices.deny"));
  };
  EXPECT_EQ(run({Deny('a', kAny, kAny), Allow('c', 1, 3), Allow('c', 1, 3)}), "allow: c 1:3 rwm, deny: a");
  m.File("d/devices.list", "c 1:3 rwm\nc 136:* rw\n");
  EXPECT_EQ(run({Deny('a', kAny, kAny), Allow('c', 1, 3), Allow('c', 136, kAny, "r"), Allow('c', 5, 0)}),
            "allow: c 5:0 rwm, deny: c 136:* w");
  EXPECT_EQ(run({Allow('a', kAny, kAny)}), "allow: a, deny: ");
}

// Runs a program as the kernel does, for the instructions that ours have.
bool Allows(const std::vector<bpf_insn>& program, uint32_t type, uint32_t access, uint32_t major, uint32_t minor) {
  const bpf_cgroup_dev_ctx context{(access << 16) | type, major, minor};
  uint32_t r[11] = {};
  for (size_t at = 0; at < program.size(); ++at) {
    const bpf_insn& i = program[at];
    uint32_t by = (i.code & BPF_X) != 0 ? r[i.src_reg] : static_cast<uint32_t>(i.imm);
    switch (i.code & 0xf7) {
      case BPF_LDX | BPF_MEM | BPF_W:
        r[i.dst_reg] = i.off == 0 ? context.access_type : i.off == 4 ? context.major : context.minor;
        break;
      case BPF_ALU | BPF_MOV: r[i.dst_reg] = by; break;
      case BPF_ALU | BPF_RSH: r[i.dst_reg] >>= by; break;
      case BPF_ALU | BPF_AND: r[i.dst_reg] &= by; break;
      case BPF_JMP32 | BPF_JNE: at += r[i.dst_reg] != by ? static_cast<size_t>(i.off) : 0; break;
      case BPF_JMP32 | BPF_JEQ: at += r[i.dst_reg] == by ? static_cast<size_t>(i.off) : 0; break;
      case BPF_JMP | BPF_EXIT: return r[0] != 0;
      default: ADD_FAILURE() << "code " << int{i.code}; return false;
    }
  }
  ADD_FAILURE() << "no end";
  return false;
}

constexpr uint32_t kChar = BPF_DEVCG_DEV_CHAR, kBlock = BPF_DEVCG_DEV_BLOCK;
constexpr uint32_t kMake = BPF_DEVCG_ACC_MKNOD, kRead = BPF_DEVCG_ACC_READ, kWrite = BPF_DEVCG_ACC_WRITE;

TEST(DeviceRulesTest, Programs) {
  std::vector<bpf_insn> program = DeviceProgram(Merged(StandardDevices()));
  EXPECT_TRUE(Allows(program, kChar, kRead | kWrite, 1, 3));
  EXPECT_TRUE(Allows(program, kChar, kRead | kWrite, 136, 77));
  EXPECT_TRUE(Allows(program, kBlock, kMake, 8, 0));
  EXPECT_FALSE(Allows(program, kBlock, kRead, 8, 0));
  EXPECT_FALSE(Allows(program, kBlock, kRead, 1, 3));
  EXPECT_FALSE(Allows(program, kChar, kRead, 1, 1));
  program = DeviceProgram(Merged({Allow('a', kAny, kAny), Deny('c', 1, 3, "w")}));
  EXPECT_TRUE(Allows(program, kChar, kRead, 1, 3));
  EXPECT_FALSE(Allows(program, kChar, kRead | kWrite, 1, 3)) << "any of it is denied";
  program = DeviceProgram(Merged({Allow('c', 1, 3, "r"), Allow('c', 1, 3, "w")}));
  EXPECT_TRUE(Allows(program, kChar, kRead | kWrite, 1, 3)) << "allowed apart, asked for at once";
  program = DeviceProgram(Merged({Allow('c', 1, kAny), Deny('c', 1, 3)}));
  EXPECT_TRUE(Allows(program, kChar, kRead, 1, 5));
  EXPECT_FALSE(Allows(program, kChar, kRead, 1, 3)) << "a hole, which v1 cannot have";
}

TEST(UnitTest, Places) {
  Result<Unit> scope = UnitOf("/a.slice/a-b.slice/crisp-x.scope");
  ASSERT_TRUE(scope);
  EXPECT_EQ(scope->name, "crisp-x.scope");
  EXPECT_EQ(scope->slice, "a-b.slice");
  EXPECT_EQ(UnitOf("/x.scope")->slice, "-.slice");
  Result<Unit> slice = UnitOf("/a.slice/a-b.slice");
  ASSERT_TRUE(slice);
  EXPECT_EQ(slice->name, "a-b.slice");
  EXPECT_EQ(slice->slice, "");
  for (const char* path : {"/", "/-.slice", "/b.slice/a-b.slice"}) EXPECT_FALSE(UnitOf(path)) << path;
  for (const char* path : {"/a.slice/x", "/b.slice/a-b.slice/x.scope", "/a/x.scope", "", "x"}) EXPECT_FALSE(UnitOf(path)) << path;
}

TEST(UnitTest, Properties) {
  EXPECT_THAT(UnitProperties(Resources(), V2Layout(), true), ElementsAre(Pair("TasksMax", UINT64_MAX)));
  EXPECT_THAT(UnitProperties(*ParseResources(kAll, V2Layout()), V2Layout(), true),
              ElementsAre(Pair("CPUWeight", 20), Pair("CPUQuotaPerSecUSec", 400'000), Pair("CPUQuotaPeriodUSec", 50'000),
                          Pair("MemoryMax", 100), Pair("MemorySwapMax", 50), Pair("TasksMax", 30)));
  EXPECT_THAT(UnitProperties(*ParseResources(kAll, V1Layout()), V1Layout(), true),
              ElementsAre(Pair("CPUShares", 512), Pair("CPUQuotaPerSecUSec", 400'000), Pair("CPUQuotaPeriodUSec", 50'000),
                          Pair("MemoryLimit", 100), Pair("TasksMax", 30)));
  Result<Resources> update = ParseResources(R"({"cpu": {"quota": -1}, "memory": {"limit": 7}})", V2Layout());
  EXPECT_THAT(UnitProperties(*update, V2Layout(), false),
              ElementsAre(Pair("CPUQuotaPerSecUSec", UINT64_MAX), Pair("MemoryMax", 7)))
      << "what an update does not name stays";
}

}  // namespace
}  // namespace crisp::cgroup
