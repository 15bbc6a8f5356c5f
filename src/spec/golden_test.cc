// Requests and the config.json they become, byte for byte: tests/data/spec/<case>.json. After a wanted change:
//   ACCEPT=1 build/dev/tests/spec_test --gtest_filter='*Golden*'   and look at the difference.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>

#include "base/json.h"
#include "spec/plan.h"
#include "spec/testing/inputs.h"

namespace crisp::spec {
namespace {

struct Case {
  const char* name;
  std::function<void(ContainerInputs&, NodeFacts&, Policy&)> change;
};

Mount HostMount(const char* host, const char* where) { return {.container_path = where, .host_path = host}; }

void Everything(ContainerInputs& in, NodeFacts&, Policy& policy) {
  ContainerConfig& c = in.config;
  c.command = {"/bin/app"};
  c.args = {"--flag", "a b"};
  c.working_dir = "/srv";
  c.tty = true;
  c.envs = {{.key = "A", .value = "request"}, {.key = "UTF8", .value = "grüße"}};
  c.mounts = {HostMount("/srv/a/b", "/data/deep/er"), HostMount("/srv/a", "/data"),
              HostMount("/srv/hosts", "/etc/hosts")};
  c.mounts[0].readonly = c.mounts[0].recursive_readonly = true;
  c.mounts[1].propagation = Propagation::kBidirectional;
  c.mounts[2].readonly = true;
  in.mount_sources = {{.path = "/srv/a/b", .mount_point = "/"},
                      {.path = "/srv/real", .propagation = SourcePropagation::kShared, .mount_point = "/srv"},
                      {.path = "/srv/hosts", .mount_point = "/"}};
  in.handler_recursive_readonly = true;
  in.volumes = {{.container_path = "/var/cache", .host_dir = "/var/lib/crisp/c/volumes/cache"},
                {.container_path = "/data", .host_dir = "/covered-by-a-mount"}};
  in.devices = {{.container_path = "/dev/fuse", .major = 10, .minor = 229, .mode = 0666, .permissions = "rw"}};
  c.resources = {.cpu_period = 100000,
                 .cpu_quota = 20000,
                 .cpu_shares = 204,
                 .memory_limit_bytes = 1 << 30,
                 .oom_score_adj = 950,
                 .cpuset_cpus = "0-1",
                 .cpuset_mems = "0"};
  c.resources.hugepages = {{.page_size = "2MB", .limit = 1 << 21}, {.page_size = "64KB", .limit = 0}};
  c.security.capabilities = {
      .add = {"net_admin", "CAP_SYS_TIME"}, .drop = {"MKNOD", "KILL"}, .add_ambient = {"NET_BIND_SERVICE"}};
  c.security.no_new_privs = true;
  c.security.readonly_rootfs = true;
  c.security.masked_paths = {"/proc/kcore"};
  c.security.readonly_paths = {"/proc/sys"};
  in.user = {.uid = 1000, .gid = 100, .additional_gids = {100, 2000}, .home = "/home/app"};
  in.image.stop_signal = "SIGQUIT";
  policy.pids_max = 1024;
  policy.rlimits = {{.type = "RLIMIT_NOFILE", .soft = 1024, .hard = 4096}};
}

const Case kCases[] = {
    {"default", [](ContainerInputs&, NodeFacts&, Policy&) {}},
    {"everything", Everything},
    {"cgroup-v2",
     [](ContainerInputs& in, NodeFacts& node, Policy&) {
       node.cgroup_v2 = true;
       in.config.resources.unified = {{"memory.high", "100"}, {"memory.min", "50"}};
     }},
    {"privileged",
     [](ContainerInputs& in, NodeFacts& node, Policy&) {
       in.sandbox.security.privileged = in.config.security.privileged = true;
       in.config.security.seccomp = SecurityProfile{.type = ProfileType::kRuntimeDefault, .localhost_ref = ""};
       node.cgroup_v2 = true;
       node.capability_bounds = 0x1fffeffffff;  // without CAP_SYS_RESOURCE
       node.oom_score_adj = -500;
       in.config.resources.oom_score_adj = -997;
       in.host_devices = {{.container_path = "/dev/kvm", .major = 10, .minor = 232, .mode = 0660, .gid = 108},
                          {.container_path = "/dev/sda", .type = 'b', .major = 8, .minor = 0, .mode = 0660}};
     }},
    {"seccomp-default",
     [](ContainerInputs& in, NodeFacts&, Policy&) {
       in.config.security.seccomp = SecurityProfile{.type = ProfileType::kRuntimeDefault, .localhost_ref = ""};
     }},
    {"host-namespaces",
     [](ContainerInputs& in, NodeFacts&, Policy&) {
       NamespaceOptions host;
       host.network = host.pid = host.ipc = NamespaceMode::kNode;
       in.sandbox.security.namespaces = in.config.security.namespaces = host;
       in.namespaces = {};
     }},
    {"shared-pid",
     [](ContainerInputs& in, NodeFacts&, Policy&) {
       in.namespaces.pid = "/proc/8/ns/pid";
       in.config.security.namespaces.pid = NamespaceMode::kPod;
     }},
    {"userns",
     [](ContainerInputs& in, NodeFacts&, Policy&) {
       NamespaceOptions& pod = in.sandbox.security.namespaces;
       pod.userns_pod = true;
       pod.uids = {{.host_id = 100000, .container_id = 0, .length = 65536}};
       pod.gids = {{.host_id = 200000, .container_id = 0, .length = 5}};
       in.namespaces.user = "/proc/7/fd/9";
       in.config.mounts = {HostMount("/srv/a", "/data")};
       in.config.mounts[0].uid_mappings = in.config.mounts[0].gid_mappings = pod.uids;
       in.mount_sources = {{.path = "/run/crisp/containers/c/mounts/0", .staged = true}};
     }},
    {"image-volume",
     [](ContainerInputs& in, NodeFacts&, Policy&) {
       in.config.mounts = {{.container_path = "/models", .readonly = true, .image = "sha256:1"}};
       in.config.mounts[0].mount_options = {"noexec", "nodev"};
       in.mount_sources = {{.path = "/run/crisp/containers/c/mounts/0", .staged = true}};
     }},
    {"host-dev", [](ContainerInputs& in, NodeFacts&,
                    Policy&) { in.config.mounts = {HostMount("/dev", "/dev"), HostMount("/sys", "/sys")}; }},
};

class GoldenTest : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Spec, GoldenTest, ::testing::ValuesIn(kCases), [](const auto& parameter) {
  std::string name = parameter.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(GoldenTest, ConfigJson) {
  ContainerInputs in = testing::SomeInputs();
  NodeFacts node = testing::SomeNode();
  Policy policy;
  GetParam().change(in, node, policy);
  Result<ContainerPlan> plan = PlanContainer(in, node, policy);
  ASSERT_TRUE(plan) << plan.error().message();
  Json shown = {{"config.json", ParseJson(plan->config_json, "plan").value()},
                {"stop signal", plan->stop_signal},
                {"warnings", plan->warnings}};
  std::string text = shown.dump(2) + "\n";
  std::string path = std::string(CRISP_SOURCE_DIR) + "/tests/data/spec/" + GetParam().name + ".json";
  if (std::getenv("ACCEPT") != nullptr) std::ofstream(path) << text;
  std::stringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(text, golden.str()) << "in " << path;
}

}  // namespace
}  // namespace crisp::spec
