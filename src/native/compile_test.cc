#include "native/compile.h"

#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <sys/mount.h>

#include <filesystem>

#include "base/json.h"
#include "sys/file.h"

namespace crisp::native {
namespace {

using testing::HasSubstr;

Json Minimal() {
  return {{"ociVersion", "1.2.0"},
          {"root", {{"path", "rootfs"}}},
          {"process", {{"args", {"true"}}, {"cwd", "/"}}},
          {"linux", {{"namespaces", Json::array({{{"type", "mount"}}, {{"type", "pid"}}})}}}};
}

Result<Launch> CompileJson(const Json& config, Host host = {}, CgroupPlace cgroup = {}) {
  std::string text = DumpJson(config);
  return Compile({.config_json = text, .id = "c", .bundle = "/bundle", .host = std::move(host), .cgroup = std::move(cgroup)});
}

std::string Refusal(const Json& config) {
  Result<Launch> launch = CompileJson(config);
  return launch ? "accepted" : launch.error().message();
}

const Mount* At(const Launch& launch, std::string_view target) {
  for (const Mount& mount : launch.mounts) {
    if (mount.target == target) return &mount;
  }
  return nullptr;
}

// What CreateContainer plans can be started.
TEST(Compile, EveryGoldenConfiguration) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(CRISP_SOURCE_DIR) + "/tests/data/spec")) {
    Json golden = *ParseJson(*sys::ReadFile(entry.path()), "golden");
    Result<Launch> launch = CompileJson(golden["config.json"]);
    EXPECT_TRUE(launch) << entry.path() << ": " << (launch ? "" : launch.error().message());
    ++count;
  }
  EXPECT_GE(count, 9u);
}

TEST(Compile, Root) {
  Launch launch = *CompileJson(Minimal());
  EXPECT_EQ(launch.rootfs, "/bundle/rootfs");
  EXPECT_EQ(launch.new_namespaces, uint64_t{CLONE_NEWNS | CLONE_NEWPID});
  EXPECT_EQ(launch.devices.size(), 6u);
}

TEST(Compile, MountOptions) {
  Json config = Minimal();
  config["mounts"] = {{{"destination", "/a"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", {"ro", "nosuid", "size=1k", "strictatime"}}},
                      {{"destination", "/b"}, {"source", "/x"}, {"options", {"rbind", "rro", "rslave", "noatime"}}},
                      {{"destination", "/c"}, {"source", "y"}, {"type", "bind"}, {"options", {"ro", "rw"}}},
                      {{"destination", "/a"}, {"options", {"remount", "rw", "noexec"}}}};
  Launch launch = *CompileJson(config);
  EXPECT_EQ(launch.mounts[0].data, "size=1k");
  EXPECT_TRUE(launch.mounts[0].read_only_at_end);
  EXPECT_EQ(launch.mounts[0].attr_set, uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(launch.mounts[1].recursive_set, uint64_t{MOUNT_ATTR_RDONLY});
  EXPECT_EQ(launch.mounts[1].propagation, uint64_t{MS_SLAVE});
  EXPECT_TRUE(launch.mounts[1].recursive_propagation);
  EXPECT_EQ(launch.mounts[1].attr_set, uint64_t{MOUNT_ATTR_NOATIME});
  EXPECT_EQ(launch.mounts[1].attr_clear, uint64_t{MOUNT_ATTR__ATIME});
  EXPECT_EQ(launch.mounts[2].source, "/bundle/y");
  EXPECT_EQ(launch.mounts[2].attr_set, 0u);
  EXPECT_EQ(launch.mounts[3].kind, Mount::kRemount);
  EXPECT_EQ(launch.mounts[3].attr_clear, uint64_t{MOUNT_ATTR_RDONLY});
}

TEST(Compile, CgroupMounts) {
  Json config = Minimal();
  config["mounts"] = {{{"destination", "/sys/fs/cgroup"}, {"type", "cgroup"}, {"options", {"ro", "nosuid"}}}};
  Host hybrid{.hierarchies = {{"cpu,cpuacct", "/cg/cpu"}, {"name=systemd", "/cg/systemd"}, {"", "/cg/unified"}}};
  CgroupPlace place{.v1_dirs = {"/cg/cpu/pod/c", "/cg/systemd/pod/c"}};
  Launch launch = *CompileJson(config, hybrid, place);
  EXPECT_TRUE(At(launch, "/sys/fs/cgroup")->read_only_at_end);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup/cpu,cpuacct")->source, "/cg/cpu/pod/c");
  EXPECT_EQ(At(launch, "/sys/fs/cgroup/systemd")->attr_set, uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID});
  EXPECT_EQ(launch.mounts.size(), 3u);
  EXPECT_EQ(launch.symlinks[0].path, "/sys/fs/cgroup/cpu");
  config["linux"]["namespaces"].push_back({{"type", "cgroup"}});
  launch = *CompileJson(config, hybrid, place);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup/systemd")->data, "none,name=systemd");
  launch = *CompileJson(config, Host{.unified = true}, {.v2_dir = "/cg/c"});
  EXPECT_EQ(At(launch, "/sys/fs/cgroup")->fstype, "cgroup2");
}

TEST(Compile, Process) {
  Json config = Minimal();
  config["process"] = {{"args", {"a", "b"}}, {"cwd", "/w"}, {"env", {"A=1"}}, {"user", {{"uid", 1}, {"gid", 2}, {"additionalGids", {3, 4}}, {"umask", 63}}},
                       {"capabilities", {{"bounding", {"CAP_CHOWN", "CAP_SYS_ADMIN"}}}}, {"noNewPrivileges", true},
                       {"rlimits", Json::array({{{"type", "RLIMIT_NOFILE"}, {"soft", 10}, {"hard", 20}}})},
                       {"ioPriority", {{"class", "IOPRIO_CLASS_BE"}, {"priority", 3}}}, {"oomScoreAdj", -5},
                       {"scheduler", {{"policy", "SCHED_BATCH"}, {"nice", 4}}}, {"execCPUAffinity", {{"final", "0-2,9"}}}};
  Process process = CompileJson(config)->process;
  EXPECT_EQ(process.bounding, uint64_t{1} | uint64_t{1} << 21);
  EXPECT_THAT(process.groups, testing::ElementsAre(3, 4));
  EXPECT_EQ(process.umask, 077);
  EXPECT_EQ(process.ioprio, 2 << 13 | 3);
  EXPECT_EQ(process.rlimits[0].hard, 20u);
  EXPECT_EQ(process.scheduler.nice, 4);
  EXPECT_EQ(process.final_affinity, std::string("\x07\x02", 2));
  EXPECT_TRUE(process.set_oom_score_adj);
}

TEST(Compile, RefusalsNameTheMember) {
  Json config = Minimal();
  config["process"]["cwd"] = "relative";
  EXPECT_THAT(Refusal(config), HasSubstr("process: cwd"));
  config = Minimal();
  config["process"]["capabilities"]["effective"] = {"CAP_FLY"};
  EXPECT_THAT(Refusal(config), HasSubstr("CAP_FLY"));
  config = Minimal();
  config["linux"]["sysctl"] = {{"kernel.core_pattern", "|x"}};
  EXPECT_THAT(Refusal(config), HasSubstr("kernel.core_pattern"));
  config["linux"]["sysctl"] = {{"net.ipv4.ip_forward", "1"}};
  EXPECT_THAT(Refusal(config), HasSubstr("net.ipv4.ip_forward"));
  config["linux"]["namespaces"].push_back({{"type", "network"}});
  EXPECT_EQ(Refusal(config), "accepted");
  config["linux"]["sysctl"] = {{"net/../kernel/core_pattern", "1"}};
  EXPECT_THAT(Refusal(config), HasSubstr("core_pattern"));
  config = Minimal();
  config["linux"]["namespaces"].push_back({{"type", "pid"}});
  EXPECT_THAT(Refusal(config), HasSubstr("linux.namespaces[2]: namespace pid is there twice"));
  config = Minimal();
  config["linux"]["intelRdt"] = {{"closID", "x"}};
  EXPECT_EQ(CompileJson(config).error().code(), Code::kUnimplemented);
  config = Minimal();
  config["process"]["rlimits"] = Json::array({{{"type", "RLIMIT_X"}}});
  EXPECT_THAT(Refusal(config), HasSubstr("process.rlimits[0]"));
  config = Minimal();
  config["linux"]["namespaces"] = 3;
  EXPECT_THAT(Refusal(config), HasSubstr("linux.namespaces: is not a list"));
  config = Minimal();
  config["linux"]["seccomp"] = {{"defaultAction", "SCMP_ACT_NOTHING"}};
  EXPECT_THAT(Refusal(config), HasSubstr("SCMP_ACT_NOTHING"));
}

TEST(CompileSeccomp, MakesAProgramAndKeepsIt) {
  Json rules = {{"defaultAction", "SCMP_ACT_ERRNO"}, {"architectures", {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"}},
                {"flags", {"SECCOMP_FILTER_FLAG_LOG"}},
                {"syscalls", Json::array({{{"names", {"read", "write", "no_such_call"}}, {"action", "SCMP_ACT_ALLOW"}},
                                          {{"names", {"personality"}}, {"action", "SCMP_ACT_ALLOW"}, {"args", Json::array({{{"index", 0}, {"op", "SCMP_CMP_EQ"}, {"value", 8}}})}}})}};
  Result<Seccomp> first = CompileSeccomp(DumpJson(rules));
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(first->program.size() % sizeof(sock_filter), 0u);
  EXPECT_GT(first->program.size(), 10 * sizeof(sock_filter));
  EXPECT_EQ(first->flags, 2u);
  EXPECT_EQ(CompileSeccomp(DumpJson(rules))->program, first->program);
  rules["syscalls"][0]["names"].erase(0);
  EXPECT_NE(CompileSeccomp(DumpJson(rules))->program, first->program);
}

}  // namespace
}  // namespace crisp::native
