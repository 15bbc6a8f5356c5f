// What spec plans, runc and crun run: each test plans a container, writes the bundle and looks from inside.
// Needs root, busybox and the runtimes; a missing runtime skips its tests. Mounts, network, IPC and host name are in
// namespaces of the test's own; cgroups are removed by the runtimes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>

#include "base/ids.h"
#include "base/json.h"
#include "base/strings.h"
#include "oci/runtime_spec.h"
#include "rootfs/rootfs.h"
#include "spec/plan.h"
#include "sys/device.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/mountinfo.h"
#include "sys/spawn.h"

namespace crisp {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string OwnStatus(const std::string& field) {
  std::string text = sys::ReadFile("/proc/self/status").value();
  for (std::string_view line : Split(text, '\n')) {
    if (line.starts_with(field + ":")) return std::string(Trim(line.substr(field.size() + 1)));
  }
  return "";
}

bool UnifiedCgroups() { return sys::Exists("/sys/fs/cgroup/cgroup.controllers"); }

spec::NodeFacts ThisNode() {
  spec::NodeFacts node;
  node.hostname = "node";
  node.cgroup_v2 = UnifiedCgroups();
  node.cgroup_controllers = {"cpu", "cpuset", "memory", "pids"};
  node.capability_bounds = *ParseInt<uint64_t>(OwnStatus("CapBnd"), 16);
  node.swap_accounting = sys::Exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
  node.oom_score_adj = *ParseInt<int>(Trim(sys::ReadFile("/proc/self/oom_score_adj").value()));
  return node;
}

class BundleTest : public testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0) return;
    ASSERT_EQ(unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), 0);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    root_ = "/tmp/crisp-bundle-test-" + RandomHex(4);
    ASSERT_TRUE(sys::MakeDirs(root_, 0755));
    ASSERT_TRUE(sys::MountTmpfs(root_, 256 << 20, 0755));
    MakeImage();
  }
  static void TearDownTestSuite() {
    if (root_.empty()) return;
    EXPECT_TRUE(sys::UnmountBelow(root_));
    EXPECT_EQ(rmdir(root_.c_str()), 0);
  }

  // busybox and the libraries that ldd names.
  static void MakeImage() {
    std::string image = root_ + "/image";
    for (const char* dir : {"/bin", "/etc", "/tmp"}) ASSERT_TRUE(sys::MakeDirs(image + dir, 0755));
    std::string script =
        "set -e; b=$(command -v busybox); cp \"$b\" bin/busybox; for a in $(./bin/busybox --list); do "
        "[ $a = busybox ] || ln -s busybox bin/$a; done; "
        "for l in $(ldd \"$b\" | grep -o '/[^ ]*'); do mkdir -p .$(dirname $l); cp -L $l .$l; done";
    sys::Command command{.program = "/bin/sh", .args = {"-c", script}, .working_dir = image};
    sys::RunResult done = sys::Run({}, command).value();
    ASSERT_EQ(done.status.code, 0) << done.err;
    std::ofstream(image + "/etc/passwd") << "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/home/web:/bin/sh\n";
  }

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    sys::Command version{.program = GetParam(), .args = {"--version"}};
    if (!sys::Run({}, version)) GTEST_SKIP() << GetParam() << " is not installed";
    id_ = ContainerId::Random();
    dir_ = root_ + "/" + std::string(id_.Short());
    for (const char* part : {"/shm", "/files"}) ASSERT_TRUE(sys::MakeDirs(dir_ + part, 0755));
    ASSERT_TRUE(rootfs::PrepareRootfs(
        {}, {.layer_dirs = {root_ + "/image"}, .container_dir = dir_, .mount_point = dir_ + "/rootfs"}));
    for (const char* file : {"hosts", "hostname", "resolv.conf"})
      std::ofstream(dir_ + "/files/" + file) << "pod's " << file << "\n";
    in_.sandbox.metadata = {.name = "pod", .uid = "u", .pod_namespace = "ns"};
    in_.sandbox.security.privileged = true;
    in_.sandbox.hostname = "pod-host";
    in_.config.metadata.name = "c";
    in_.config.security.namespaces.pid = spec::NamespaceMode::kContainer;
    in_.pod_id = PodId::Random();
    in_.id = id_;
    in_.user.additional_gids = {0};
    in_.user.home = "/root";
    in_.rootfs = dir_ + "/rootfs";
    in_.cgroups_path = "/crisp-bundle-test-" + std::string(id_.Short());
    in_.files = {.resolv_conf = dir_ + "/files/resolv.conf",
                 .hosts = dir_ + "/files/hosts",
                 .hostname = dir_ + "/files/hostname",
                 .shm_dir = dir_ + "/shm"};
    node_ = ThisNode();
  }
  void TearDown() override {
    if (dir_.empty()) return;
    (void)Runtime({"delete", "--force", id_.str()});
    EXPECT_TRUE(rootfs::UnmountRootfs({}, dir_, dir_ + "/rootfs"));
    EXPECT_TRUE(sys::RemoveTree(dir_));
  }

  sys::RunResult Runtime(std::vector<std::string> args) {
    args.insert(args.begin(), {"--root", root_ + "/state"});
    sys::Command command{.program = GetParam(), .args = std::move(args)};
    Result<sys::RunResult> done = sys::Run({}, command);
    EXPECT_TRUE(done) << done.error().message();
    return done ? std::move(*done) : sys::RunResult{};
  }
  void WriteBundle() {
    Result<spec::ContainerPlan> plan = spec::PlanContainer(in_, node_);
    ASSERT_TRUE(plan) << plan.error().message();
    config_json_ = plan->config_json;
    std::ofstream(dir_ + "/config.json") << config_json_;
  }
  // Runs `script` in the planned container to its end; what it wrote, both streams.
  std::string Shell(const std::string& script) {
    in_.config.command = {"/bin/sh", "-c", script};
    WriteBundle();
    sys::RunResult done = Runtime({"run", "--bundle", dir_, id_.str()});
    return done.out + done.err;
  }
  spec::Mount& AddMount(const std::string& host, const std::string& where) {
    in_.config.mounts.push_back({.container_path = where, .host_path = host});
    return in_.config.mounts.back();
  }

  static inline std::string root_;
  std::string dir_, config_json_;
  ContainerId id_;
  spec::ContainerInputs in_;
  spec::NodeFacts node_;
};

INSTANTIATE_TEST_SUITE_P(Runtimes, BundleTest, testing::Values("runc", "crun"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST_P(BundleTest, Defaults) {
  std::string out = Shell(
      "echo host=$HOSTNAME home=$HOME path=$PATH pwd=$(pwd); cat /etc/hosts /etc/hostname /etc/resolv.conf; echo "
      "pid=$$; "
      "grep Cap /proc/self/status; touch /written && echo root-writable; echo x > /dev/shm/x && echo shm-writable; "
      "ls /dev; (echo 1 > /proc/sys/vm/drop_caches) 2>/dev/null || echo proc-sys-closed; head -c1 /proc/kcore | wc -c; "
      "ls -A /sys/firmware | wc -l; ls -l /proc/self/fd | tail -n +2 | wc -l; cat /proc/self/oom_score_adj");
  EXPECT_THAT(out, HasSubstr("host=pod-host home=/root path=/usr/local/sbin"));
  EXPECT_THAT(out, HasSubstr("pwd=/\n"));
  EXPECT_THAT(out, HasSubstr("pod's hosts\npod's hostname\npod's resolv.conf\npid=1\n"));
  EXPECT_THAT(out, HasSubstr("root-writable\nshm-writable\n"));
  EXPECT_THAT(out, HasSubstr("CapInh:\t0000000000000000"));
  EXPECT_THAT(out, HasSubstr("CapBnd:\t00000000a80425fb"));
  EXPECT_THAT(out, HasSubstr("CapAmb:\t0000000000000000"));
  for (const char* device : {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm", "mqueue", "pts"}) {
    EXPECT_THAT(out, HasSubstr(StrCat("\n", device, "\n"))) << device;
  }
  EXPECT_THAT(out, HasSubstr("proc-sys-closed\n0\n0\n"));
}

TEST_P(BundleTest, Privileged) {
  in_.config.security.privileged = true;
  ASSERT_EQ(mknod((root_ + "/node").c_str(), S_IFCHR | 0600, makedev(1, 3)), 0);
  in_.host_devices.push_back({.container_path = "/dev/of-the-host", .type = 'c', .major = 1, .minor = 3, .mode = 0600});
  std::string out = Shell(
      "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; grep ' /sys ' /proc/mounts; grep ' /proc/sys ' "
      "/proc/mounts; "
      "echo x > /dev/of-the-host && echo device-usable; mknod /tmp/any b 7 200 && echo mknod-done; "
      "mount -t tmpfs t /tmp && echo mounted");
  ASSERT_EQ(unlink((root_ + "/node").c_str()), 0);
  EXPECT_THAT(out, HasSubstr("CapEff:\t" + OwnStatus("CapBnd")));
  EXPECT_THAT(out, HasSubstr("Seccomp:\t0"));
  EXPECT_THAT(out, HasSubstr("sysfs /sys sysfs rw"));
  EXPECT_THAT(out, Not(HasSubstr(" /proc/sys ")));
  EXPECT_THAT(out, HasSubstr("device-usable\nmknod-done\nmounted"));
}

TEST_P(BundleTest, SeccompRuntimeDefault) {
  in_.config.security.seccomp = spec::SecurityProfile{.type = spec::ProfileType::kRuntimeDefault, .localhost_ref = ""};
  std::string out = Shell(
      "grep Seccomp: /proc/self/status; unshare -U true && echo namespace-made; unshare -n true && echo net-made; "
      "mount -t tmpfs t /tmp && echo mounted; ls / > /dev/null && echo works; date > /dev/null && (sleep 0 & wait) && "
      "echo forks");
  EXPECT_THAT(out, HasSubstr("Seccomp:\t2"));
  EXPECT_THAT(out, Not(HasSubstr("-made")));
  EXPECT_THAT(out, Not(HasSubstr("mounted")));
  EXPECT_THAT(out, HasSubstr("works\nforks"));
}

TEST_P(BundleTest, SeccompWithAddedCapabilityOpensItsCalls) {
  in_.config.security.seccomp = spec::SecurityProfile{.type = spec::ProfileType::kRuntimeDefault, .localhost_ref = ""};
  in_.config.security.capabilities.add = {"sys_admin"};
  EXPECT_THAT(Shell("unshare -n true && echo made; mount -t tmpfs t /tmp && echo mounted"), HasSubstr("made\nmounted"));
}

TEST_P(BundleTest, SeccompLocalhost) {
  in_.config.security.seccomp =
      spec::SecurityProfile{.type = spec::ProfileType::kLocalhost, .localhost_ref = "/p.json"};
  in_.seccomp_profile =
      R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]})";
  std::string out = Shell("mkdir /tmp/d; touch /tmp/f && echo touched");
  EXPECT_THAT(out, HasSubstr("No space left on device"));
  EXPECT_THAT(out, HasSubstr("touched"));
}

TEST_P(BundleTest, ReadonlyRootfs) {
  in_.config.security.readonly_rootfs = true;
  ASSERT_TRUE(sys::MakeDirs(dir_ + "/data", 0755));
  AddMount(dir_ + "/data", "/new/deep/place");
  std::string out = Shell(
      "touch /x || echo closed; touch /new/deep/place/f && echo volume-open; echo y > /etc/hosts || echo hosts-closed; "
      "touch /dev/shm/s && echo shm-open");
  EXPECT_THAT(out, HasSubstr("closed\n"));
  EXPECT_THAT(out, HasSubstr("volume-open\n"));
  EXPECT_THAT(out, HasSubstr("hosts-closed\nshm-open"));
}

TEST_P(BundleTest, DropAllCapabilities) {
  in_.config.security.capabilities.drop = {"ALL"};
  in_.config.security.no_new_privs = true;
  std::string out = Shell("grep -E 'Cap|NoNewPrivs' /proc/self/status; chown 1 /tmp || echo refused");
  for (const char* set : {"Inh", "Prm", "Eff", "Bnd", "Amb"})
    EXPECT_THAT(out, HasSubstr(StrCat("Cap", set, ":\t0000000000000000")));
  EXPECT_THAT(out, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(out, HasSubstr("refused"));
}

TEST_P(BundleTest, AmbientCapabilityOfAUser) {
  in_.user = {.uid = 33, .gid = 34, .additional_gids = {34}, .home = "/home/web"};
  in_.config.security.capabilities.add_ambient = {"NET_BIND_SERVICE"};
  std::string out = Shell("grep Cap /proc/self/status");
  EXPECT_THAT(out, HasSubstr("CapEff:\t0000000000000400"));
  EXPECT_THAT(out, HasSubstr("CapAmb:\t0000000000000400"));
}

TEST_P(BundleTest, UserAndGroupsAndMissingWorkingDir) {
  in_.user = {.uid = 33, .gid = 34, .additional_gids = {4, 34, 1234}, .home = "/home/web"};
  in_.image.working_dir = "/made/for/it";
  std::string out = Shell("id -u; id -g; id -G; echo $HOME; pwd; grep CapEff /proc/self/status");
  EXPECT_THAT(out, HasSubstr("33\n34\n34 4 1234\n/home/web\n/made/for/it\n")) << out;
  EXPECT_THAT(out, HasSubstr("CapEff:\t0000000000000000"));
}

TEST_P(BundleTest, Limits) {
  in_.config.resources = {.cpu_period = 100000,
                          .cpu_quota = 50000,
                          .cpu_shares = 512,
                          .memory_limit_bytes = 64 << 20,
                          .oom_score_adj = 900};
  in_.config.resources.hugepages = {{.page_size = "2MB", .limit = 0}};
  std::string out = Shell(
      UnifiedCgroups()
          ? "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; cat /proc/self/oom_score_adj"
          : "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /sys/fs/cgroup/cpu*/cpu.cfs_quota_us | head -n 1; "
            "cat /proc/self/oom_score_adj");
  EXPECT_THAT(out, HasSubstr(StrCat(64 << 20)));
  EXPECT_THAT(out, HasSubstr("50000"));
  EXPECT_THAT(out, HasSubstr("\n900\n"));
}

TEST_P(BundleTest, S34_CgroupsAreReadonlyAndDevicesDenied) {
  std::string out = Shell(
      "grep cgroup /proc/mounts; mknod /tmp/disk b 7 0 && (head -c 1 /tmp/disk && echo opened); "
      "mknod /tmp/mem c 1 1 && (head -c 1 /tmp/mem && echo opened); echo end");
  EXPECT_THAT(out, HasSubstr("cgroup"));
  EXPECT_THAT(out, Not(testing::ContainsRegex("cgroup[2]? rw")));  // the tmpfs around v1's trees may be
  EXPECT_THAT(out, Not(HasSubstr("opened")));
  EXPECT_THAT(out, HasSubstr("end"));
}

TEST_P(BundleTest, Devices) {
  in_.devices.push_back({.container_path = "/dev/mine",
                         .type = 'c',
                         .major = 1,
                         .minor = 5,
                         .mode = 0640,
                         .uid = 33,
                         .gid = 34,
                         .permissions = "r"});
  std::string out = Shell(
      "stat -c '%t:%T %a %u:%g' /dev/mine; head -c 4 /dev/mine | wc -c; (echo x > /dev/mine) || echo not-writable");
  EXPECT_THAT(out, HasSubstr("1:5 640 33:34\n4\n")) << out;
}

// With everything shared, as systemd has it: what a container sets up for itself must not show on the node.
TEST_P(BundleTest, PropagationOnASharedNode) {
  std::string data = dir_ + "/data";
  ASSERT_TRUE(sys::MakeDirs(data, 0755));
  ASSERT_TRUE(sys::MountTmpfs(data, 1 << 20, 0755));
  ASSERT_TRUE(sys::MakeDirs(data + "/sub", 0755));
  ASSERT_EQ(mount(nullptr, "/", nullptr, MS_SHARED | MS_REC, nullptr), 0);
  size_t mounts_before = sys::ReadMountInfo()->size();
  in_.config.security.privileged = true;
  AddMount(data, "/data").propagation = spec::Propagation::kBidirectional;
  in_.mount_sources = {{.path = data, .propagation = spec::SourcePropagation::kShared, .mount_point = data}};
  std::string out = Shell("mount -t tmpfs t /data/sub && touch /data/sub/from-inside && echo mounted");
  EXPECT_THAT(out, HasSubstr("mounted"));
  EXPECT_TRUE(sys::Exists(data + "/sub/from-inside"));
  EXPECT_EQ(sys::ReadMountInfo()->size(), mounts_before + 1);
  ASSERT_EQ(mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr), 0);
  EXPECT_TRUE(sys::UnmountBelow(data));
}

TEST_P(BundleTest, PrivatePropagationKeepsMountsInside) {
  std::string data = dir_ + "/data";
  ASSERT_TRUE(sys::MakeDirs(data + "/sub", 0755));
  in_.config.security.privileged = true;
  AddMount(data, "/data");
  EXPECT_THAT(Shell("mount -t tmpfs t /data/sub && touch /data/sub/from-inside && echo mounted"), HasSubstr("mounted"));
  EXPECT_FALSE(sys::Exists(data + "/sub/from-inside"));
}

TEST_P(BundleTest, ReadonlyMountsShallowAndRecursive) {
  std::string data = dir_ + "/data";
  ASSERT_TRUE(sys::MakeDirs(data + "/sub", 0755));
  ASSERT_TRUE(sys::MountTmpfs(data + "/sub", 1 << 20, 0755));
  AddMount(data, "/ro").readonly = true;
  spec::Mount& recursive = AddMount(data, "/rro");
  recursive.readonly = recursive.recursive_readonly = true;
  in_.handler_recursive_readonly = true;
  std::string out = Shell(
      "touch /ro/x || echo ro-closed; touch /ro/sub/x && echo ro-sub-open; touch /rro/x || echo rro-closed; "
      "touch /rro/sub/x || echo rro-sub-closed");
  EXPECT_TRUE(sys::UnmountBelow(data));
  EXPECT_THAT(out, HasSubstr("ro-closed"));
  EXPECT_THAT(out, HasSubstr("ro-sub-open"));
  EXPECT_THAT(out, HasSubstr("rro-closed"));
  EXPECT_THAT(out, HasSubstr("rro-sub-closed"));
}

TEST_P(BundleTest, MaskedAndReadonlyPathsOfTheRequest) {
  in_.config.security.masked_paths = {"/etc/passwd"};
  in_.config.security.readonly_paths = {"/tmp"};
  std::string out = Shell("cat /etc/passwd | wc -c; touch /tmp/x");
  EXPECT_THAT(out, HasSubstr("0\n"));
  EXPECT_THAT(out, HasSubstr("touch: /tmp/x: Read-only file system"));
}

TEST_P(BundleTest, S22_TargetsThatAreSymlinksStayInside) {
  std::string outside = dir_ + "/outside";
  std::ofstream(outside) << "untouched";
  std::string etc = dir_ + "/rootfs/etc";
  ASSERT_EQ(symlink(("../../../../../../.." + outside).c_str(), (etc + "/hosts").c_str()), 0);
  std::string out = Shell("cat /etc/hosts; echo changed > /etc/hosts");
  EXPECT_THAT(out, HasSubstr("pod's hosts"));
  EXPECT_EQ(sys::ReadFile(outside).value(), "untouched");
}

TEST_P(BundleTest, ExecHasTheSameIdentity) {
  in_.user = {.uid = 33, .gid = 34, .additional_gids = {4, 34}, .home = "/home/web"};
  in_.config.security.capabilities.drop = {"ALL"};
  in_.config.security.no_new_privs = true;
  in_.config.envs = {{.key = "GREETING", .value = "hello world"}};
  in_.config.command = {"/bin/sleep", "1000"};
  WriteBundle();
  sys::Command start{.program = GetParam(),
                     .args = {"--root", root_ + "/state", "run", "--detach", "--bundle", dir_, id_.str()}};
  ASSERT_EQ(sys::Run({}, start).value().status.code, 0);
  std::string process =
      spec::PlanExec(
          config_json_,
          {"/bin/sh", "-c",
           "id -u; id -G; echo $GREETING; grep -E 'Cap|NoNew' /proc/self/status; pwd; ls /proc/self/fd | wc -l"},
          false)
          .value();
  std::ofstream(dir_ + "/process.json") << process;
  sys::RunResult done = Runtime({"exec", "--process", dir_ + "/process.json", id_.str()});
  EXPECT_THAT(done.out, HasSubstr("33\n34 4\nhello world\n")) << done.err;
  EXPECT_THAT(done.out, HasSubstr("CapInh:\t0000000000000000"));
  EXPECT_THAT(done.out, HasSubstr("CapBnd:\t0000000000000000"));
  EXPECT_THAT(done.out, HasSubstr("NoNewPrivs:\t1"));
  Runtime({"kill", id_.str(), "KILL"});
}

TEST_P(BundleTest, UpdateLowersAndRaisesLimits) {
  in_.config.command = {"/bin/sleep", "1000"};
  in_.config.resources.memory_limit_bytes = 64 << 20;
  WriteBundle();
  sys::Command start{.program = GetParam(),
                     .args = {"--root", root_ + "/state", "run", "--detach", "--bundle", dir_, id_.str()}};
  ASSERT_EQ(sys::Run({}, start).value().status.code, 0);
  const char* look =
      UnifiedCgroups() ? "cat /sys/fs/cgroup/memory.max" : "cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
  for (int64_t megabytes : {32, 128}) {
    spec::Resources resources{.cpu_quota = 30000, .cpu_shares = 200, .memory_limit_bytes = megabytes << 20};
    spec::ResourcesPlan update = spec::PlanResourcesUpdate({}, resources, node_).value();
    std::ofstream(dir_ + "/resources.json") << update.resources_json;
    sys::RunResult updated = Runtime({"update", "--resources", dir_ + "/resources.json", id_.str()});
    EXPECT_EQ(updated.status.code, 0) << updated.err;
    EXPECT_THAT(Runtime({"exec", id_.str(), "/bin/sh", "-c", look}).out, HasSubstr(StrCat(megabytes << 20)));
  }
  Runtime({"kill", id_.str(), "KILL"});
}

}  // namespace
}  // namespace crisp
