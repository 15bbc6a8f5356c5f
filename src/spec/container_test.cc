#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/strings.h"
#include "oci/runtime_spec.h"
#include "spec/plan.h"
#include "spec/testing/inputs.h"

namespace crisp::spec {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class PlanTest : public ::testing::Test {
 protected:
  Result<Json> Config() {
    ContainerPlan plan = TRY(PlanContainer(in_, node_, policy_));
    warnings_ = plan.warnings;
    stop_signal_ = plan.stop_signal;
    return ParseJson(plan.config_json, "config.json");
  }
  // The plan's config.json; valid until the next call.
  Json& Planned() {
    Result<Json> config = Config();
    EXPECT_TRUE(config) << config.error().message();
    planned_ = config ? *config : Json();
    return planned_;
  }
  // Expects that planning fails with `code`; the message.
  std::string Refused(Code code) {
    Result<Json> config = Config();
    EXPECT_FALSE(config);
    if (config) return "";
    EXPECT_EQ(config.error().code(), code) << config.error().message();
    return config.error().message();
  }
  Words Env() { return Planned()["process"]["env"].get<Words>(); }
  Words Caps(const char* set = "bounding") { return Planned()["process"]["capabilities"][set].get<Words>(); }
  std::optional<Json> MountAt(const std::string& destination) {
    std::optional<Json> found;
    for (const Json& mount : Planned()["mounts"]) {
      if (mount["destination"] == destination) found = mount;
    }
    return found;
  }
  Mount& AddMount(std::string host, std::string where) {
    in_.config.mounts.push_back({.container_path = std::move(where), .host_path = std::move(host)});
    return in_.config.mounts.back();
  }

  ContainerInputs in_ = testing::SomeInputs();
  NodeFacts node_ = testing::SomeNode();
  Policy policy_;
  Words warnings_;
  Json planned_;
  int stop_signal_ = 0;
};

TEST_F(PlanTest, CgroupAsInThePlan) {
  in_.config.resources.memory_limit_bytes = 64 << 20;
  in_.config.resources.cpu_quota = -1;
  in_.devices = {{.container_path = "/dev/x", .host_path = "/dev/null", .major = 1, .minor = 3, .permissions = "rw"}};
  policy_.pids_max = 100;
  Result<ContainerPlan> plan = PlanContainer(in_, node_, policy_);
  ASSERT_TRUE(plan);
  EXPECT_EQ(DumpJson(*plan->config), plan->config_json);
  ContainerInputs first;
  first.sandbox = in_.sandbox;
  first.config = in_.config;
  first.devices = in_.devices;
  EXPECT_EQ(*PlanCgroup(first, node_, policy_), DumpJson((*plan->config)["linux"]["resources"]));
  first.devices[0].permissions = "x";
  EXPECT_FALSE(PlanCgroup(first, node_, policy_));
}

// ---- process ----

TEST_F(PlanTest, CommandAndArgsByTheRulesOfKubernetes) {
  struct Row {
    Words command, args, entrypoint, cmd, result;
  };
  for (const Row& row :
       {Row{{}, {}, {"ep"}, {"c"}, {"ep", "c"}}, Row{{"x"}, {}, {"ep"}, {"c"}, {"x"}},
        Row{{}, {"y"}, {"ep"}, {"c"}, {"ep", "y"}}, Row{{"x"}, {"y"}, {"ep"}, {"c"}, {"x", "y"}},
        Row{{}, {}, {}, {"c", "d"}, {"c", "d"}}, Row{{}, {}, {"ep"}, {}, {"ep"}}, Row{{}, {"y"}, {""}, {"c"}, {"y"}}}) {
    in_.config.command = row.command;
    in_.config.args = row.args;
    in_.image.entrypoint = row.entrypoint;
    in_.image.cmd = row.cmd;
    EXPECT_EQ(Planned()["process"]["args"].get<Words>(), row.result);
  }
  in_.config.args.clear();
  in_.image.entrypoint = in_.image.cmd = {};
  EXPECT_THAT(Refused(Code::kInvalidArgument), HasSubstr("no command"));
  in_.image.cmd = {std::string("a\0b", 3)};
  Refused(Code::kInvalidArgument);
}

TEST_F(PlanTest, Environment) {
  in_.image.env = {"A=image", "B=image", "NOVALUE", "=bad", "A=again"};
  in_.config.envs = {
      {.key = "B", .value = "request"}, {.key = "EMPTY", .value = ""}, {.key = "LINES", .value = "a\nb=c"}};
  EXPECT_THAT(Env(), ElementsAre("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=again",
                                 "B=request", "NOVALUE=", "HOSTNAME=web-0", "EMPTY=", "LINES=a\nb=c", "HOME=/root"));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("\"=bad\"")));
  in_.config.envs = {
      {.key = "HOME", .value = "/mine"}, {.key = "PATH", .value = "/p"}, {.key = "HOSTNAME", .value = "h"}};
  EXPECT_THAT(Env(), Contains("HOME=/mine"));
  EXPECT_THAT(Env(), Contains("HOSTNAME=h"));
  EXPECT_THAT(Env()[0], "PATH=/p");
  in_.config.envs.clear();
  in_.config.tty = true;
  EXPECT_THAT(Env(), Contains("TERM=xterm"));
  in_.image.env = {"TERM=vt100"};
  EXPECT_THAT(Env(), Contains("TERM=vt100"));
  in_.sandbox.security.namespaces.network = NamespaceMode::kNode;
  EXPECT_THAT(Env(), Contains("HOSTNAME=node-1"));
}

TEST_F(PlanTest, EnvironmentThatCannotBe) {
  for (const EnvVar& var : {EnvVar{"", "x"}, EnvVar{"A=B", "x"}, EnvVar{std::string("A\0", 2), "x"},
                            EnvVar{"A", std::string("x\0y", 3)}, EnvVar{"A", "\xff\xfe"}}) {
    in_.config.envs = {var};
    Refused(Code::kInvalidArgument);
  }
}

TEST_F(PlanTest, WorkingDirectory) {
  auto dir = [&](const char* request, const char* image) {
    in_.config.working_dir = request;
    in_.image.working_dir = image;
    return Planned()["process"]["cwd"].get<std::string>();
  };
  EXPECT_EQ(dir("", ""), "/");
  EXPECT_EQ(dir("", "/srv/"), "/srv");
  EXPECT_EQ(dir("/a", "/srv"), "/a");
  EXPECT_EQ(dir("", "relative/x"), "/relative/x");
  EXPECT_EQ(dir("", "../../etc"), "/etc");
}

TEST_F(PlanTest, S21_WorkingDirectoryInAListOfDescriptors) {
  for (const char* dir : {"/proc/self/fd/7", "/proc/1/fd/8/../9", "/x/../proc/thread-self/fd", "/proc/self/task/1/fd/3",
                          "/dev/fd/3", "proc/self/fd/7", "/proc//self/./fd/7"}) {
    in_.image.working_dir = dir;
    EXPECT_THAT(Refused(Code::kInvalidArgument), HasSubstr("file descriptors")) << dir;
  }
  in_.image.working_dir = "/proc/self/fdinfo";
  Planned();
}

// ---- capabilities ----

TEST_F(PlanTest, S32_DefaultCapabilities) {
  EXPECT_EQ(Caps().size(), 14u);
  EXPECT_THAT(Caps("inheritable"), IsEmpty());
  EXPECT_THAT(Caps("ambient"), IsEmpty());
  EXPECT_EQ(Caps("effective"), Caps());
  EXPECT_EQ(Caps("permitted"), Caps());
}

TEST_F(PlanTest, CapabilitiesAddAndDrop) {
  Capabilities& caps = in_.config.security.capabilities;
  caps = {.add = {"net_admin"}, .drop = {"all"}, .add_ambient = {}};
  EXPECT_THAT(Caps(), ElementsAre("CAP_NET_ADMIN"));
  caps = {.add = {}, .drop = {"ALL"}, .add_ambient = {}};
  EXPECT_THAT(Caps(), IsEmpty());
  caps = {.add = {"ALL"}, .drop = {"CAP_SYS_ADMIN", "sys_module"}, .add_ambient = {}};
  EXPECT_EQ(Caps().size(), oci::CapabilityNames(oci::AllCapabilities()).size() - 2);
  EXPECT_THAT(Caps(), Not(Contains("CAP_SYS_ADMIN")));
  caps = {.add = {"CHOWN"}, .drop = {"CHOWN"}, .add_ambient = {}};
  EXPECT_THAT(Caps(), Not(Contains("CAP_CHOWN")));
  caps = {.add = {"ALL"}, .drop = {"ALL"}, .add_ambient = {}};
  EXPECT_THAT(Caps(), IsEmpty());
  caps = {.add = {"NET_ADMIN", "ALL"}, .drop = {"ALL"}, .add_ambient = {}};
  EXPECT_THAT(Caps(), ElementsAre("CAP_NET_ADMIN"));
  for (const char* bad : {"", "CAP_", "NO_SUCH", "CAP_CAP_CHOWN", "CHOWN "}) {
    caps = {.add = {bad}, .drop = {}, .add_ambient = {}};
    Refused(Code::kInvalidArgument);
    caps = {.add = {}, .drop = {bad}, .add_ambient = {}};
    Refused(Code::kInvalidArgument);
  }
}

TEST_F(PlanTest, S32_AmbientOnlyWhereAsked) {
  in_.config.security.capabilities.add_ambient = {"NET_BIND_SERVICE"};
  EXPECT_THAT(Caps("ambient"), ElementsAre("CAP_NET_BIND_SERVICE"));
  EXPECT_THAT(Caps("inheritable"), ElementsAre("CAP_NET_BIND_SERVICE"));
  in_.config.security.capabilities.add_ambient = {"SYS_ADMIN"};
  Refused(Code::kInvalidArgument);
}

TEST_F(PlanTest, CapabilitiesThatTheNodeLacks) {
  node_.capability_bounds = ~oci::CapabilityBit(24);  // CAP_SYS_RESOURCE
  Planned();
  EXPECT_THAT(warnings_, IsEmpty());
  in_.config.security.capabilities.add = {"SYS_RESOURCE"};
  EXPECT_THAT(Refused(Code::kFailedPrecondition), HasSubstr("CAP_SYS_RESOURCE"));
  in_.config.security.capabilities.add = {"ALL"};
  EXPECT_THAT(Caps(), Not(Contains("CAP_SYS_RESOURCE")));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("CAP_SYS_RESOURCE")));
}

// ---- privileged ----

TEST_F(PlanTest, PrivilegedNeedsAPrivilegedSandbox) {
  in_.config.security.privileged = true;
  Refused(Code::kInvalidArgument);
  in_.sandbox.security.privileged = true;
  Json config = Planned();
  EXPECT_FALSE(config["linux"].contains("maskedPaths"));
  EXPECT_FALSE(config["linux"].contains("readonlyPaths"));
  EXPECT_TRUE(config["linux"]["resources"]["devices"][0]["allow"].get<bool>());
}

// ---- mounts ----

TEST_F(PlanTest, S34_SysAndCgroupAreReadonly) {
  EXPECT_THAT((*MountAt("/sys"))["options"].get<Words>(), Contains("ro"));
  EXPECT_THAT((*MountAt("/sys/fs/cgroup"))["options"].get<Words>(), Contains("ro"));
  Json first = Planned()["linux"]["resources"]["devices"][0];
  EXPECT_EQ(first, Json({{"allow", false}, {"access", "rwm"}}));
}

TEST_F(PlanTest, S51_PathsOfMounts) {
  for (std::string path : {"", "relative", "./x", "/", "/..", "/a/../..", "\x2fx\xff"}) {
    in_.config.mounts.clear();
    AddMount("/srv", path);
    EXPECT_THAT(Refused(Code::kInvalidArgument), HasSubstr("mount")) << path;
  }
  for (std::string path :
       {std::string(""), std::string("relative"), std::string("/a\0b", 4), "/" + std::string(5000, 'x')}) {
    in_.config.mounts.clear();
    AddMount(path, "/data");
    Refused(Code::kInvalidArgument);
    in_.config.mounts.clear();
    AddMount("/srv", path);
    Refused(Code::kInvalidArgument);
  }
  in_.config.mounts.clear();
  AddMount("/srv/./a//b/../c", "/data/../x/");
  EXPECT_EQ((*MountAt("/x"))["source"], "/srv/a/c");
}

TEST_F(PlanTest, ParentsAreMountedBeforeChildrenAndKernelsFirst) {
  AddMount("/1", "/a/b/c"), AddMount("/2", "/a"), AddMount("/3", "/a/b"), AddMount("/4", "/a");
  Words order;
  for (const Json& mount : Planned()["mounts"]) order.push_back(mount["destination"]);
  EXPECT_THAT(order, ElementsAre("/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/a", "/a",
                                 "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm", "/a/b", "/a/b/c"));
  EXPECT_EQ((*MountAt("/a"))["source"], "/4");  // the later one hides the earlier
}

TEST_F(PlanTest, RequestsTakeThePlaceOfDefaults) {
  AddMount("/srv/hosts", "/etc/hosts"), AddMount("/srv/shm", "/dev/shm");
  EXPECT_EQ((*MountAt("/etc/hosts"))["source"], "/srv/hosts");
  EXPECT_EQ((*MountAt("/dev/shm"))["source"], "/srv/shm");
  in_.config.mounts.clear();
  AddMount("/dev", "/dev");
  EXPECT_EQ((*MountAt("/dev"))["source"], "/dev");
  EXPECT_FALSE(MountAt("/dev/pts"));
  EXPECT_FALSE(MountAt("/dev/shm"));
  in_.config.mounts.clear();
  AddMount("/srv/etc", "/etc");
  EXPECT_TRUE(MountAt("/etc/hosts"));
}

TEST_F(PlanTest, HostIpcSeesTheNodesShm) {
  in_.sandbox.security.namespaces.ipc = NamespaceMode::kNode;
  EXPECT_EQ((*MountAt("/dev/shm"))["source"], "/dev/shm");
}

TEST_F(PlanTest, PropagationAsksTheSourceMount) {
  struct Row {
    Propagation asked;
    SourcePropagation source;
    const char* option;  // nullptr: refused
    const char* root;
  };
  for (const Row& row : {Row{Propagation::kPrivate, SourcePropagation::kPrivate, "rprivate", nullptr},
                         Row{Propagation::kHostToContainer, SourcePropagation::kPrivate, nullptr, nullptr},
                         Row{Propagation::kHostToContainer, SourcePropagation::kSlave, "rslave", "rslave"},
                         Row{Propagation::kHostToContainer, SourcePropagation::kShared, "rslave", "rslave"},
                         Row{Propagation::kBidirectional, SourcePropagation::kPrivate, nullptr, nullptr},
                         Row{Propagation::kBidirectional, SourcePropagation::kSlave, nullptr, nullptr},
                         Row{Propagation::kBidirectional, SourcePropagation::kShared, "rshared", "rshared"},
                         Row{Propagation::kBidirectional, SourcePropagation::kSharedSlave, "rshared", "rshared"}}) {
    in_.config.mounts.clear();
    AddMount("/srv/x", "/data").propagation = row.asked;
    in_.mount_sources = {{.path = "/srv/x", .propagation = row.source, .mount_point = "/srv"}};
    if (row.option == nullptr) {
      EXPECT_THAT(Refused(Code::kFailedPrecondition),
                  HasSubstr("path \"/srv/x\" is mounted on \"/srv\" but it is not a shared"));
      continue;
    }
    EXPECT_THAT((*MountAt("/data"))["options"].get<Words>(), Contains(row.option));
    EXPECT_EQ(planned_["linux"].value("rootfsPropagation", ""), row.root == nullptr ? "" : row.root);
  }
}

TEST_F(PlanTest, RecursiveReadonly) {
  Mount& mount = AddMount("/srv", "/data");
  mount.recursive_readonly = true;
  in_.handler_recursive_readonly = true;
  Refused(Code::kInvalidArgument);  // not read-only
  mount.readonly = true;
  EXPECT_THAT((*MountAt("/data"))["options"].get<Words>(), ElementsAre("rbind", "rprivate", "rro"));
  mount.propagation = Propagation::kHostToContainer;
  Refused(Code::kInvalidArgument);
  mount.propagation = Propagation::kPrivate;
  in_.handler_recursive_readonly = false;
  EXPECT_THAT(Refused(Code::kFailedPrecondition), StartsWith("RROUnsupported"));
}

TEST_F(PlanTest, MountOptionsAreThoseThatTakeAway) {
  Mount& mount = AddMount("/srv", "/data");
  mount.mount_options = {"noexec", "nosuid", "nodev", "noatime", "noexec"};
  EXPECT_THAT((*MountAt("/data"))["options"].get<Words>(),
              ElementsAre("rbind", "rprivate", "rw", "noexec", "nosuid", "nodev", "noatime"));
  mount.mount_options = {"ro"};
  EXPECT_THAT((*MountAt("/data"))["options"].get<Words>(), ElementsAre("rbind", "rprivate", "ro"));
  for (const char* bad : {"exec", "suid", "dev", "rw", "remount", "bind", "size=1k", "", "nosymfollow"}) {
    mount.mount_options = {bad};
    EXPECT_THAT(Refused(Code::kInvalidArgument), HasSubstr("mount_options")) << bad;
  }
}

TEST_F(PlanTest, ImageVolumesAreReadOnlyAndPrepared) {
  in_.config.mounts = {{.container_path = "/models", .readonly = true, .image = "sha256:1"}};
  Refused(Code::kFailedPrecondition);  // nobody has mounted it
  in_.mount_sources = {{.path = "/run/c/mounts/0", .staged = true}};
  EXPECT_THAT((*MountAt("/models"))["options"].get<Words>(), Contains("ro"));
  in_.config.mounts[0].readonly = false;
  EXPECT_THAT(Refused(Code::kInvalidArgument), HasSubstr("readonly"));
}

TEST_F(PlanTest, MappedMountsThatNobodyMappedAreRefused) {
  AddMount("/srv", "/data").uid_mappings = {{.host_id = 100000, .container_id = 0, .length = 10}};
  in_.mount_sources = {{.path = "/srv"}};
  Refused(Code::kFailedPrecondition);
  in_.config.mounts[0].propagation = Propagation::kBidirectional;
  in_.mount_sources[0] = {.path = "/srv", .propagation = SourcePropagation::kShared};
  Refused(Code::kInvalidArgument);
}

TEST_F(PlanTest, RelabelsWhereTheNodeHasSelinux) {
  AddMount("/srv", "/data").selinux_relabel = true;
  AddMount("/opt", "/opt");
  in_.config.security.selinux.level = "s0:c1,c2";
  EXPECT_TRUE(PlanContainer(in_, node_, policy_)->relabels.empty());
  node_.selinux = true;
  std::vector<Relabel> relabels = PlanContainer(in_, node_, policy_)->relabels;
  ASSERT_EQ(relabels.size(), 1u);
  EXPECT_EQ(relabels[0].mount, 0u);
  EXPECT_EQ(relabels[0].label, "system_u:object_r:container_file_t:s0:c1,c2");
}

TEST_F(PlanTest, S52_TheOpenedSourceIsUsed) {
  AddMount("/link/to", "/data");
  in_.mount_sources = {{.path = "/where/it/is", .mount_point = "/"}};
  EXPECT_EQ((*MountAt("/data"))["source"], "/where/it/is");
}

TEST_F(PlanTest, VolumesOfTheImage) {
  in_.volumes = {{.container_path = "/a/../data/", .host_dir = "/v1"},
                 {.container_path = "/mounted", .host_dir = "/v2"},
                 {.container_path = "/", .host_dir = "/v3"}};
  AddMount("/srv", "/mounted");
  EXPECT_EQ((*MountAt("/data"))["source"], "/v1");
  EXPECT_EQ((*MountAt("/mounted"))["source"], "/srv");
  EXPECT_FALSE(MountAt("/"));
}

// Images of systemd do have the third.
TEST_F(PlanTest, S34_VolumesOfTheImageNeverHideTheKernelsFiles) {
  for (const char* path : {"/proc", "/sys", "/sys/fs/cgroup", "/dev", "/proc/sys/../self", "/dev/shm", "/sys/firmware"}) {
    in_.volumes = {{.container_path = path, .host_dir = "/v1"}};
    for (const Json& mount : Planned()["mounts"]) EXPECT_NE(mount["source"], "/v1") << path;
    EXPECT_EQ((*MountAt("/proc"))["type"], "proc") << path;
    EXPECT_THAT((*MountAt("/sys/fs/cgroup"))["options"].get<Words>(), Contains("ro")) << path;
  }
  in_.volumes = {{.container_path = "/process", .host_dir = "/v1"}};
  EXPECT_EQ((*MountAt("/process"))["source"], "/v1");
}

TEST_F(PlanTest, ProcCanBeUnmaskedInAUserNamespaceOnly) {
  EXPECT_TRUE(Planned()["linux"].contains("maskedPaths"));
  NamespaceOptions& pod = in_.sandbox.security.namespaces;
  pod.userns_pod = true;
  pod.uids = pod.gids = {{.host_id = 100000, .container_id = 0, .length = 65536}};
  in_.namespaces.user = "/proc/7/fd/9";
  EXPECT_FALSE(Planned()["linux"].contains("maskedPaths"));
}

// ---- devices, resources ----

TEST_F(PlanTest, Devices) {
  in_.devices = {{.container_path = "/dev/a", .major = 1, .minor = 2, .permissions = "rw"},
                 {.container_path = "/dev/a", .major = 1, .minor = 2}};
  Json config = Planned();
  EXPECT_EQ(config["linux"]["devices"].size(), 1u);
  for (const char* bad : {"", "x", "rwmr", "rw "}) {
    in_.devices[0].permissions = bad;
    Refused(Code::kInvalidArgument);
  }
  in_.devices = {{.container_path = "dev/a"}};
  Refused(Code::kInvalidArgument);
}

TEST_F(PlanTest, MemoryAndSwap) {
  in_.config.resources.memory_limit_bytes = 100;
  EXPECT_EQ(Planned()["linux"]["resources"]["memory"], Json({{"limit", 100}, {"swap", 100}}));
  in_.config.resources.memory_swap_limit_bytes = 150;
  EXPECT_EQ(Planned()["linux"]["resources"]["memory"], Json({{"limit", 100}, {"swap", 150}}));
  in_.config.resources.memory_swap_limit_bytes = 50;
  Refused(Code::kInvalidArgument);
  in_.config.resources.memory_swap_limit_bytes = -1;
  EXPECT_EQ(Planned()["linux"]["resources"]["memory"], Json({{"limit", 100}, {"swap", -1}}));
  in_.config.resources.memory_limit_bytes = -1;
  in_.config.resources.memory_swap_limit_bytes = 0;
  EXPECT_EQ(Planned()["linux"]["resources"]["memory"], Json({{"limit", -1}, {"swap", -1}}));
  for (int64_t memory : {0, -1}) {
    in_.config.resources.memory_limit_bytes = memory;
    in_.config.resources.memory_swap_limit_bytes = 150;
    Refused(Code::kInvalidArgument);
  }
  in_.config.resources.memory_limit_bytes = 100;
  in_.config.resources.memory_swap_limit_bytes = -2;
  Refused(Code::kInvalidArgument);
  in_.config.resources.memory_swap_limit_bytes = 150;
  node_.swap_accounting = false;
  EXPECT_EQ(Planned()["linux"]["resources"]["memory"], Json({{"limit", 100}}));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("swap")));
  node_.cgroup_controllers = {"cpu"};
  Refused(Code::kFailedPrecondition);
}

TEST_F(PlanTest, Hugepages) {
  auto& limits = in_.config.resources.hugepages;
  limits = {{.page_size = "2MB", .limit = 0}, {.page_size = "16GB", .limit = 0}};
  EXPECT_EQ(Planned()["linux"]["resources"]["hugepageLimits"].size(), 1u);
  limits = {{.page_size = "16GB", .limit = 5}};
  Refused(Code::kFailedPrecondition);
  node_.hugepage_sizes.clear();
  EXPECT_FALSE(Planned()["linux"]["resources"].contains("hugepageLimits"));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("hugetlb")));
  limits = {{.page_size = "2MB", .limit = 0}};
  Planned();
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(PlanTest, UnifiedSettings) {
  in_.config.resources.unified = {{"memory.high", "5"}};
  Refused(Code::kFailedPrecondition);
  node_.cgroup_v2 = true;
  EXPECT_EQ(Planned()["linux"]["resources"]["unified"]["memory.high"], "5");
  for (const char* bad : {"", "../memory.high", "memory/high", ".hidden", "memory..high", "cgroup", "cgroup.freeze",
                          "cgroup.procs", "devices.allow", "Memory.high"}) {
    in_.config.resources.unified = {{bad, "5"}};
    Refused(Code::kInvalidArgument);
  }
  in_.config.resources.unified = {{"rdma.max", "5"}};
  EXPECT_THAT(Refused(Code::kFailedPrecondition), HasSubstr("rdma"));
}

TEST_F(PlanTest, OomScoreIsNeverBelowWhatWeMayGive) {
  EXPECT_EQ(Planned()["process"]["oomScoreAdj"], 0);
  in_.config.resources.oom_score_adj = -997;
  EXPECT_EQ(Planned()["process"]["oomScoreAdj"], -997);
  node_.capability_bounds = ~oci::CapabilityBit(24);
  node_.oom_score_adj = -100;
  EXPECT_EQ(Planned()["process"]["oomScoreAdj"], -100);
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("oom_score_adj")));
  in_.config.resources.oom_score_adj = 5000;
  EXPECT_EQ(Planned()["process"]["oomScoreAdj"], 1000);
}

TEST_F(PlanTest, UpdateHoldsOnlyWhatIsSet) {
  ResourcesPlan plan = PlanResourcesUpdate({}, {.cpu_quota = 5000, .memory_limit_bytes = 77}, node_).value();
  EXPECT_EQ(ParseJson(plan.resources_json, "update").value(),
            Json({{"cpu", {{"quota", 5000}}}, {"memory", {{"limit", 77}, {"swap", 77}}}}));
  EXPECT_EQ(PlanResourcesUpdate({.cpu_quota = 5}, {}, node_)->resources_json, "{}");
  EXPECT_FALSE(PlanResourcesUpdate({}, {.cpuset_cpus = "0; rm"}, node_));
  Resources merged = MergeResources({.cpu_quota = 1, .cpu_shares = 2, .cpuset_cpus = "0"},
                                    {.cpu_quota = 5, .unified = {{"a.b", "c"}}});
  EXPECT_EQ(merged.cpu_quota, 5);
  EXPECT_EQ(merged.cpu_shares, 2);
  EXPECT_EQ(merged.cpuset_cpus, "0");
  EXPECT_EQ(merged.unified.at("a.b"), "c");
}

// What one file of v2 holds together, or an OCI runtime completes by itself, is sent together.
TEST_F(PlanTest, UpdateSendsPairs) {
  Resources current{.cpu_period = 50'000, .cpu_quota = 20'000, .memory_limit_bytes = 100, .memory_swap_limit_bytes = 150};
  auto sent = [&](const Resources& update) {
    return ParseJson(PlanResourcesUpdate(current, update, node_).value().resources_json, "update").value();
  };
  EXPECT_EQ(sent({.cpu_quota = 10'000}), Json({{"cpu", {{"quota", 10'000}, {"period", 50'000}}}}));
  EXPECT_EQ(sent({.cpu_period = 40'000}), Json({{"cpu", {{"quota", 20'000}, {"period", 40'000}}}}));
  EXPECT_EQ(sent({.cpu_shares = 5}), Json({{"cpu", {{"shares", 5}}}}));
  EXPECT_EQ(sent({.memory_swap_limit_bytes = 300}), Json({{"memory", {{"limit", 100}, {"swap", 300}}}}));
  EXPECT_EQ(sent({.memory_limit_bytes = 200}), Json({{"memory", {{"limit", 200}, {"swap", 200}}}})) << "as at creation";
  EXPECT_EQ(MergeResources(current, {.memory_limit_bytes = 200}).memory_swap_limit_bytes, 0);
  EXPECT_EQ(MergeResources(current, {.cpu_shares = 5}).memory_swap_limit_bytes, 150);
  EXPECT_EQ(PlanResourcesUpdate(current, {.memory_swap_limit_bytes = 50}, node_).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(PlanResourcesUpdate({}, {.memory_swap_limit_bytes = 50}, node_).error().code(), Code::kInvalidArgument);
}

// ---- namespaces ----

TEST_F(PlanTest, PidNamespaces) {
  auto pid = [&](NamespaceMode mode) {
    in_.config.security.namespaces.pid = mode;
    for (const Json& ns : Planned()["linux"]["namespaces"]) {
      if (ns["type"] == "pid") return ns.value("path", "new");
    }
    return std::string("host");
  };
  in_.namespaces.pid = "/pod/pid";
  in_.target_pid_namespace = "/target/pid";
  EXPECT_EQ(pid(NamespaceMode::kPod), "/pod/pid");
  EXPECT_EQ(pid(NamespaceMode::kContainer), "new");
  EXPECT_EQ(pid(NamespaceMode::kNode), "host");
  EXPECT_EQ(pid(NamespaceMode::kTarget), "/target/pid");
  in_.namespaces.pid = "";
  EXPECT_EQ(pid(NamespaceMode::kPod), "new");
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("PID namespace")));
  in_.sandbox.security.namespaces.pid = NamespaceMode::kNode;
  EXPECT_EQ(pid(NamespaceMode::kPod), "host");
  in_.target_pid_namespace = "";
  in_.config.security.namespaces.pid = NamespaceMode::kTarget;
  Refused(Code::kFailedPrecondition);
}

TEST_F(PlanTest, CgroupNamespaceOnV2Only) {
  auto has_cgroup = [&] {
    for (const Json& ns : Planned()["linux"]["namespaces"]) {
      if (ns["type"] == "cgroup") return true;
    }
    return false;
  };
  EXPECT_FALSE(has_cgroup());
  node_.cgroup_v2 = true;
  EXPECT_TRUE(has_cgroup());
  in_.config.security.privileged = in_.sandbox.security.privileged = true;
  EXPECT_FALSE(has_cgroup());
}

// ---- seccomp, AppArmor, SELinux, masks ----

TEST_F(PlanTest, SeccompForms) {
  auto has = [&] { return Planned()["linux"].contains("seccomp"); };
  ContainerSecurity& security = in_.config.security;
  EXPECT_FALSE(has());
  for (const char* text : {"runtime/default", "docker/default"}) {
    security.seccomp_profile_path = text;
    EXPECT_TRUE(has()) << text;
  }
  security.seccomp_profile_path = "unconfined";
  EXPECT_FALSE(has());
  security.seccomp =
      SecurityProfile{.type = ProfileType::kRuntimeDefault, .localhost_ref = ""};  // goes before the text
  EXPECT_TRUE(has());
  security.seccomp.reset();
  security.seccomp_profile_path = "what/ever";
  Refused(Code::kInvalidArgument);
  node_.seccomp = false;
  security.seccomp_profile_path = "runtime/default";
  Refused(Code::kFailedPrecondition);
}

TEST_F(PlanTest, S36_LocalhostSeccompNeverFallsOpen) {
  in_.config.security.seccomp = SecurityProfile{.type = ProfileType::kLocalhost, .localhost_ref = "/profiles/p.json"};
  EXPECT_EQ(SeccompProfilePath(in_.config).value(), "/profiles/p.json");
  Refused(Code::kFailedPrecondition);  // not read
  for (const char* text : {"", " \n", "{}", "[]", "null", "nonsense", R"({"defaultAction":"SCMP_ACT_NONE"})",
                           R"({"defaultAction":7})", R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":{}})",
                           R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_ERRNO"}]})"}) {
    in_.seccomp_profile = text;
    Refused(Code::kInvalidArgument);
  }
  in_.seccomp_profile = R"({"defaultAction":"SCMP_ACT_ALLOW"})";
  EXPECT_EQ(Planned()["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
  in_.config.security.seccomp->localhost_ref = "relative.json";
  Refused(Code::kInvalidArgument);
  EXPECT_FALSE(SeccompProfilePath(in_.config));
  in_.config.security.seccomp.reset();
  in_.config.security.seccomp_profile_path = "localhost//var/p.json";
  EXPECT_EQ(SeccompProfilePath(in_.config).value(), "/var/p.json");
}

TEST_F(PlanTest, AppArmor) {
  auto profile = [&] { return Planned()["process"].value("apparmorProfile", ""); };
  auto& asked = in_.config.security.apparmor;
  asked = SecurityProfile{.type = ProfileType::kRuntimeDefault, .localhost_ref = ""};
  EXPECT_EQ(profile(), "");
  node_.apparmor = true;
  EXPECT_EQ(profile(), "");
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("AppArmor")));
  node_.apparmor_default_profile = "crisp-default";
  EXPECT_EQ(profile(), "crisp-default");
  asked = SecurityProfile{.type = ProfileType::kLocalhost, .localhost_ref = "mine"};
  Refused(Code::kFailedPrecondition);
  node_.apparmor_profiles = {"mine"};
  EXPECT_EQ(profile(), "mine");
  node_.apparmor = false;
  Refused(Code::kFailedPrecondition);
  asked.reset();
  in_.config.security.apparmor_profile = "runtime/default";
  EXPECT_EQ(profile(), "");
}

TEST_F(PlanTest, Selinux) {
  in_.config.security.selinux = {.user = "", .role = "", .type = "", .level = "s0:c1,c2"};
  EXPECT_FALSE(Planned()["process"].contains("selinuxLabel"));
  node_.selinux = true;
  Json config = Planned();
  EXPECT_EQ(config["process"]["selinuxLabel"], "system_u:system_r:container_t:s0:c1,c2");
  EXPECT_EQ(config["linux"]["mountLabel"], "system_u:object_r:container_file_t:s0:c1,c2");
  in_.config.security.selinux.level = "s0,rw";
  Planned();
  in_.config.security.selinux.type = "a b";
  Refused(Code::kInvalidArgument);
}

TEST_F(PlanTest, S40_MaskedAndReadonlyPaths) {
  auto paths = [&](const char* which) { return Planned()["linux"].value(which, Json::array()).get<Words>(); };
  // The lists of runc, containerd, Docker and the kubelet, together.
  for (const char* path : {"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                           "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                           "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}) {
    EXPECT_THAT(paths("maskedPaths"), Contains(path));
  }
  EXPECT_THAT(paths("readonlyPaths"),
              ElementsAre("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"));
  node_.masked_paths = {"/sys/devices/system/cpu/cpu0/thermal_throttle"};
  EXPECT_THAT(paths("maskedPaths"), Contains(node_.masked_paths[0]));
  // A kubelet's list, older than ours, takes nothing away.
  in_.config.security.masked_paths = {"/bin/ls", "/proc/kcore"};
  EXPECT_THAT(paths("maskedPaths"), Contains("/bin/ls"));
  EXPECT_THAT(paths("maskedPaths"), Contains("/sys/devices/virtual/powercap"));
  EXPECT_THAT(paths("maskedPaths"), Contains(node_.masked_paths[0]));
  EXPECT_EQ(paths("maskedPaths").size(), 14u);
  in_.config.security.readonly_paths = {"/bin"};
  EXPECT_THAT(paths("readonlyPaths"), Contains("/proc/sysrq-trigger"));
  EXPECT_EQ(paths("readonlyPaths").size(), 6u);
  in_.config.security.readonly_paths.clear();
  policy_.ignore_proc_mount = true;
  EXPECT_EQ(paths("maskedPaths").size(), 13u);
  policy_.ignore_proc_mount = false;
  in_.config.security.masked_paths = {"relative"};
  Refused(Code::kInvalidArgument);
}

TEST_F(PlanTest, S56_AnnotationsOfTheRequestStayOut) {
  in_.config.annotations = {{"org.systemd.property.ExecStart", "x"}, {"run.oci.handler", "wasm"}};
  in_.sandbox.annotations = {{"io.katacontainers.config.hypervisor.path", "/x"}};
  for (const auto& [key, value] : Planned()["annotations"].items())
    EXPECT_TRUE(key.starts_with("io.kubernetes.cri.")) << key;
}

TEST_F(PlanTest, S56_ListedAnnotationsPassByExactKey) {
  in_.pod_annotations = {"run.oci.keep", "io.kubernetes.cri.sandbox-id"};
  in_.container_annotations = {"run.oci.handler", "not.there"};
  in_.sandbox.annotations = {{"run.oci.keep", "pod"}, {"run.oci.keep_groups", "1"}, {"Run.oci.keep", "1"},
                             {"io.kubernetes.cri.sandbox-id", "forged"}, {"run.oci.handler", "of the pod"}};
  in_.config.annotations = {{"run.oci.handler", "wasm"}, {"run.oci.handler.x", "1"}, {"run.oci.keep", "of the container"}};
  Json passed = Planned()["annotations"];
  EXPECT_EQ(passed["run.oci.keep"], "pod");
  EXPECT_EQ(passed["run.oci.handler"], "wasm");
  EXPECT_EQ(passed["io.kubernetes.cri.sandbox-id"], in_.pod_id.str());
  for (const char* key : {"run.oci.keep_groups", "Run.oci.keep", "run.oci.handler.x", "not.there"}) {
    EXPECT_FALSE(passed.contains(key)) << key;
  }
}

TEST_F(PlanTest, SystemdsOwnLimitOfTasksIsTakenAway) {
  const char* key = "org.systemd.property.TasksMax";
  EXPECT_FALSE(Planned()["annotations"].contains(key));
  node_.systemd_cgroups = true;
  EXPECT_EQ(Planned()["annotations"][key], "uint64 18446744073709551615");
  policy_.pids_max = 500;
  EXPECT_EQ(Planned()["annotations"][key], "uint64 500");
  node_.cgroup_v2 = true;
  in_.config.resources.unified = {{"pids.max", "77"}};
  EXPECT_EQ(Planned()["annotations"][key], "uint64 77");
  in_.config.resources.unified = {{"pids.max", "max"}};
  EXPECT_EQ(Planned()["annotations"][key], "uint64 18446744073709551615");
}

TEST_F(PlanTest, StopSignals) {
  Planned();
  EXPECT_EQ(stop_signal_, 15);
  in_.image.stop_signal = "SIGRTMIN+3";
  Planned();
  EXPECT_EQ(stop_signal_, 37);
  in_.config.stop_signal = 2;
  Planned();
  EXPECT_EQ(stop_signal_, 2);
  in_.config.stop_signal = 0;
  in_.image.stop_signal = "SIGNONSENSE";
  Planned();
  EXPECT_EQ(stop_signal_, 15);
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("SIGNONSENSE")));
}

TEST(ParseSignalTest, Table) {
  EXPECT_EQ(ParseSignal("SIGTERM").value(), 15);
  EXPECT_EQ(ParseSignal("term").value(), 15);
  EXPECT_EQ(ParseSignal("9").value(), 9);
  EXPECT_EQ(ParseSignal("SIGRTMAX-1").value(), 63);
  EXPECT_EQ(ParseSignal("RTMIN").value(), 34);
  for (const char* bad : {"", "0", "-1", "65", "SIG", "SIGRTMIN+31", "SIGRTMIN+", "SIGRTMIN+-1", "9x", "99999999999"})
    EXPECT_FALSE(ParseSignal(bad)) << bad;
}

// ---- exec ----

TEST_F(PlanTest, ExecKeepsTheIdentity) {
  in_.user = {.uid = 5, .gid = 6, .additional_gids = {6, 7}, .home = "/h"};
  in_.config.security.no_new_privs = true;
  in_.config.working_dir = "/w";
  std::string config = PlanContainer(in_, node_)->config_json;
  Json before = ParseJson(config, "c").value()["process"];
  Json process = ParseJson(PlanExec(config, {"ls", "-l"}, false).value(), "p").value();
  EXPECT_EQ(process["args"].get<Words>(), (Words{"ls", "-l"}));
  process["args"] = before["args"];
  EXPECT_EQ(process, before);
  process = ParseJson(PlanExec(config, {"sh"}, true).value(), "p").value();
  EXPECT_TRUE(process["terminal"].get<bool>());
  EXPECT_THAT(process["env"].get<Words>(), Contains("TERM=xterm"));
  EXPECT_EQ(PlanExec(config, {}, false).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(PlanExec(config, {std::string("a\0", 2)}, false).error().code(), Code::kInvalidArgument);
  EXPECT_FALSE(PlanExec("{}", {"x"}, false));
}

}  // namespace
}  // namespace crisp::spec
