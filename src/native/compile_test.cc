#include "native/compile.h"

#include <gmock/gmock.h>
#include <linux/sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "native/testing/config.h"
#include "sys/file.h"

namespace crisp::native {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// What CreateContainer plans can be started.
TEST(Compile, EveryGoldenConfiguration) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(CRISP_SOURCE_DIR) + "/tests/data/spec")) {
    Json golden = *ParseJson(*sys::ReadFile(entry.path()), "golden");
    Result<Launch> launch = CompileJson(golden["config.json"]);
    ASSERT_TRUE(launch) << entry.path() << ": " << launch.error().message();
    EXPECT_EQ(launch->process.args, golden["config.json"]["process"]["args"]) << entry.path();
    EXPECT_TRUE(Encode(*launch)) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 9u);
}

TEST(Compile, Root) {
  Json config = MinimalConfig();
  Launch launch = *CompileJson(config);
  EXPECT_EQ(launch.rootfs, "/bundle/rootfs");
  EXPECT_FALSE(launch.rootfs_read_only);
  EXPECT_EQ(launch.rootfs_propagation, 0u);
  config["root"] = {{"path", "/r"}, {"readonly", true}};
  config["linux"]["rootfsPropagation"] = "rshared";
  launch = *CompileJson(config);
  EXPECT_EQ(launch.rootfs, "/r");
  EXPECT_TRUE(launch.rootfs_read_only);
  EXPECT_EQ(launch.rootfs_propagation, uint64_t{MS_SHARED | MS_REC});
  config["linux"]["rootfsPropagation"] = "rshard";
  EXPECT_THAT(Refusal(config), HasSubstr("rootfsPropagation"));
  config.erase("root");
  EXPECT_THAT(Refusal(config), HasSubstr("root: no path"));
}

TEST(Compile, Names) {
  Json config = MinimalConfig();
  config["hostname"] = "h";
  EXPECT_THAT(Refusal(config), StartsWith("INVALID_ARGUMENT: hostname"));  // it would be the node's
  config = WithNamespaces({"uts"});
  config["hostname"] = "h";
  config["domainname"] = "d";
  Launch launch = *CompileJson(config);
  EXPECT_EQ(launch.hostname, "h");
  EXPECT_EQ(launch.domainname, "d");
  config = MinimalConfig();
  config["domainname"] = "d";
  EXPECT_THAT(Refusal(config), StartsWith("INVALID_ARGUMENT: domainname"));
}

TEST(Compile, Namespaces) {
  Json config = WithNamespaces({"network", "ipc", "uts", "cgroup", "time", "user"});
  config["linux"]["uidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 100000}, {"size", 65536}}});
  config["linux"]["gidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 200000}, {"size", 65536}}});
  config["linux"]["timeOffsets"] = {{"monotonic", {{"secs", -5}, {"nanosecs", 7}}}, {"boottime", {{"secs", 3}}}};
  Launch launch = *CompileJson(config);
  EXPECT_EQ(launch.new_namespaces, uint64_t{CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                                            CLONE_NEWCGROUP | CLONE_NEWTIME | CLONE_NEWUSER});
  EXPECT_EQ(launch.gid_map[0].outside, 200000u);
  EXPECT_EQ(launch.time_offsets, "boottime 3 0\nmonotonic -5 7\n");
  config = MinimalConfig();
  config["linux"]["namespaces"].push_back({{"type", "network"}, {"path", "/run/netns/x"}});
  launch = *CompileJson(config);
  ASSERT_EQ(launch.join.size(), 1u);
  EXPECT_EQ(launch.join[0].type, uint64_t{CLONE_NEWNET});
  EXPECT_EQ(launch.join[0].path, "/run/netns/x");
}

TEST(Compile, NamespaceRefusals) {
  Json config = WithNamespaces({"pid"});
  EXPECT_THAT(Refusal(config), HasSubstr("linux.namespaces[2]: namespace pid is there twice"));
  EXPECT_THAT(Refusal(WithNamespaces({"moon"})), HasSubstr("moon"));
  EXPECT_THAT(Refusal(WithNamespaces({"user"})), HasSubstr("needs uidMappings"));
  config = MinimalConfig();
  config["linux"]["uidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 1}, {"size", 1}}});
  EXPECT_THAT(Refusal(config), HasSubstr("without a user namespace"));
  config["linux"]["uidMappings"][0]["size"] = 0;
  EXPECT_THAT(Refusal(config), HasSubstr("linux.uidMappings[0]: size is 0"));
  config = MinimalConfig();
  config["linux"]["timeOffsets"] = {{"boottime", {{"secs", 3}}}};
  EXPECT_THAT(Refusal(config), HasSubstr("without a new time namespace"));
  config = WithNamespaces({"time"});
  config["linux"]["timeOffsets"] = {{"lunchtime", {{"secs", 3}}}};
  EXPECT_THAT(Refusal(config), HasSubstr("linux.timeOffsets.lunchtime"));
  config["linux"]["timeOffsets"] = {{"boottime", {{"nanosecs", 1000000000}}}};
  EXPECT_THAT(Refusal(config), HasSubstr("linux.timeOffsets.boottime"));
  config = MinimalConfig();
  config["linux"]["namespaces"] = Json::array({{{"type", "mount"}, {"path", "/proc/1/ns/mnt"}}});
  EXPECT_THAT(Refusal(config), StartsWith("UNIMPLEMENTED: linux.namespaces[0]"));
  config["linux"]["namespaces"] = Json::array({{{"type", "pid"}}});
  EXPECT_THAT(Refusal(config), StartsWith("UNIMPLEMENTED: "));
  config["linux"]["namespaces"] = Json::array({{{"type", "pid"}, {"path", "self"}}});
  EXPECT_THAT(Refusal(config), HasSubstr("is not absolute"));
}

std::string SysctlOf(const Json& config, const std::string& name) {
  Json with = config;
  with["linux"]["sysctl"] = {{name, "1"}};
  Result<Launch> launch = CompileJson(with);
  return launch ? launch->sysctls.at(0).key : "refused";
}

TEST(Compile, SysctlsOfOwnNamespacesOnly) {
  Json own = WithNamespaces({"network", "ipc", "uts"}), none = MinimalConfig();
  for (const char* name : {"net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname"}) {
    EXPECT_NE(SysctlOf(own, name), "refused") << name;
    EXPECT_EQ(SysctlOf(none, name), "refused") << name;
  }
  for (const char* name :
       {"kernel.core_pattern", "kernel.hostname", "kernel.shmmaxi", "user.max_user_namespaces", "vm.swappiness",
        "net/../kernel/core_pattern", "net..ipv4", "net/", "/net/ipv4/ip_forward", "net.", "", "net", "net./../x"}) {
    EXPECT_EQ(SysctlOf(own, name), "refused") << name;
  }
  // The first separator decides; the other one stands for a dot within a name.
  EXPECT_EQ(SysctlOf(own, "net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
  EXPECT_EQ(SysctlOf(own, "net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
  own["linux"]["sysctl"] = {{"net.ipv4.ip_forward", 1}};
  EXPECT_THAT(Refusal(own), HasSubstr("is not a string"));
  own["linux"]["sysctl"] = {{"net.core.x", "a"}, {"kernel.panic", "1"}};
  EXPECT_THAT(Refusal(own), HasSubstr("kernel.panic"));
}

const Device* DeviceAt(const Launch& launch, std::string_view path) {
  for (const Device& device : launch.devices) {
    if (device.path == path) return &device;
  }
  return nullptr;
}

TEST(Compile, Devices) {
  Json config = MinimalConfig();
  config["linux"]["devices"] = {
      {{"path", "/dev/fuse"}, {"type", "c"}, {"major", 10}, {"minor", 229}, {"fileMode", 384}, {"uid", 5}, {"gid", 6}},
      {{"path", "/dev/pipe"}, {"type", "p"}},
      {{"path", "/dev/disk"}, {"type", "b"}, {"major", 8}, {"minor", 0}},
      {{"path", "/dev/null"}, {"type", "c"}, {"major", 1}, {"minor", 3}, {"fileMode", 256}}};
  Launch launch = *CompileJson(config);
  EXPECT_EQ(launch.devices.size(), 9u);  // six of the specification's, one of them described
  EXPECT_EQ(DeviceAt(launch, "/dev/fuse")->minor, 229u);
  EXPECT_EQ(DeviceAt(launch, "/dev/fuse")->mode, 0600u);
  EXPECT_EQ(DeviceAt(launch, "/dev/fuse")->gid, 6u);
  EXPECT_EQ(DeviceAt(launch, "/dev/pipe")->type, uint32_t{S_IFIFO});
  EXPECT_EQ(DeviceAt(launch, "/dev/disk")->mode, 0666u);
  EXPECT_EQ(DeviceAt(launch, "/dev/null")->mode, 0400u);
  EXPECT_EQ(DeviceAt(launch, "/dev/tty")->major, 5u);
  EXPECT_EQ(launch.symlinks.size(), 6u);
  bool ptmx = std::any_of(launch.symlinks.begin(), launch.symlinks.end(),
                          [](const Symlink& link) { return link.path == "/dev/ptmx" && link.target == "pts/ptmx"; });
  EXPECT_TRUE(ptmx);
  config["linux"]["devices"] = Json::array({{{"path", "/dev/x"}, {"type", "c"}, {"major", 1}}});
  EXPECT_THAT(Refusal(config), HasSubstr("linux.devices[0].minor"));
  config["linux"]["devices"][0] = {{"path", "/dev/x"}, {"type", "d"}};
  EXPECT_THAT(Refusal(config), HasSubstr("linux.devices[0]: type"));
  config["linux"]["devices"][0] = {{"path", "x"}, {"type", "p"}};
  EXPECT_THAT(Refusal(config), HasSubstr("is not absolute"));
  config = MinimalConfig();
  config["mounts"] = {{{"destination", "/dev/"}, {"source", "/dev"}, {"options", {"rbind"}}}};
  launch = *CompileJson(config);
  EXPECT_TRUE(launch.devices.empty() && launch.symlinks.empty());  // it is the node's
}

TEST(Compile, Hooks) {
  Json config = MinimalConfig();
  int number = 0;
  for (const char* kind : {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}) {
    config["hooks"][kind] =
        Json::array({{{"path", "/h" + std::to_string(number++)}, {"args", {"h"}}, {"env", {"A=1"}}, {"timeout", 3}}});
  }
  Launch launch = *CompileJson(config);
  EXPECT_EQ(launch.prestart.at(0).path, "/h0");
  EXPECT_EQ(launch.create_runtime.at(0).path, "/h1");
  EXPECT_EQ(launch.create_container.at(0).path, "/h2");
  EXPECT_EQ(launch.start_container.at(0).path, "/h3");
  EXPECT_EQ(launch.poststart.at(0).path, "/h4");
  EXPECT_EQ(launch.poststart.at(0).timeout_seconds, 3u);
  EXPECT_THAT(launch.poststart.at(0).env, ElementsAre("A=1"));
  EXPECT_EQ(PoststopHooks(DumpJson(config))->at(0).path, "/h5");
  config["hooks"]["poststop"][0]["timeout"] = 0;
  EXPECT_THAT(Refusal(config), HasSubstr("hooks.poststop[0]: timeout"));
  config["hooks"]["poststop"][0] = {{"path", "h"}};
  EXPECT_THAT(Refusal(config), HasSubstr("hooks.poststop[0]: path is not absolute"));
}

TEST(Compile, OfTheContainer) {
  Json config = MinimalConfig();
  config["annotations"] = {{"a", "b"}};
  config["linux"]["maskedPaths"] = {"/proc/kcore"};
  config["linux"]["readonlyPaths"] = {"/proc/sys"};
  Launch launch = *CompileJson(config);
  EXPECT_EQ(launch.annotations, R"({"a":"b"})");
  EXPECT_EQ(launch.id, "c");
  EXPECT_EQ(launch.oci_version, "1.2.0");
  EXPECT_THAT(launch.masked_paths, ElementsAre("/proc/kcore"));
  EXPECT_THAT(launch.read_only_paths, ElementsAre("/proc/sys"));
  config["linux"]["maskedPaths"] = {"proc/kcore"};
  EXPECT_THAT(Refusal(config), HasSubstr("maskedPaths"));
  config = MinimalConfig();
  config["annotations"] = {{"a", 1}};
  EXPECT_THAT(Refusal(config), HasSubstr("annotations"));
  config = MinimalConfig();
  config.erase("ociVersion");
  EXPECT_THAT(Refusal(config), HasSubstr("ociVersion"));
}

TEST(Compile, NotSupported) {
  for (const auto& [member, value] :
       {std::pair{"intelRdt", Json{{"closID", "x"}}}, {"netDevices", Json{{"eth1", Json::object()}}}}) {
    Json config = MinimalConfig();
    config["linux"][member] = value;
    EXPECT_THAT(Refusal(config), StartsWith(std::string("UNIMPLEMENTED: linux.") + member));
  }
  Json config = MinimalConfig();
  config["windows"] = {{"layerFolders", {"c"}}};
  EXPECT_THAT(Refusal(config), StartsWith("UNIMPLEMENTED: windows"));
  config = MinimalConfig();
  config["linux"]["futureMember"] = 3;  // config.md#extensibility: ignored
  EXPECT_EQ(Refusal(config), "accepted");
}

TEST(Compile, WrongShapesAndZeroBytes) {
  EXPECT_FALSE(Compile({.config_json = "[]"}));
  EXPECT_FALSE(Compile({.config_json = "{"}));
  Json config = MinimalConfig();
  config["linux"]["namespaces"] = 3;
  EXPECT_THAT(Refusal(config), HasSubstr("linux.namespaces: is not a list"));
  config = MinimalConfig();
  config["linux"] = "x";
  EXPECT_THAT(Refusal(config), HasSubstr("linux: is not an object"));
  config = MinimalConfig();
  config["process"]["args"] = {std::string("true\0x", 6)};
  EXPECT_THAT(Refusal(config), HasSubstr("args holds a zero byte"));
  config = MinimalConfig();
  config["root"]["path"] = std::string("/r\0/x", 5);
  EXPECT_THAT(Refusal(config), HasSubstr("path holds a zero byte"));
}

}  // namespace
}  // namespace crisp::native
