#include <gmock/gmock.h>
#include <linux/sched.h>
#include <sys/mount.h>

#include "native/testing/config.h"

namespace crisp::native {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

Json MountJson(const char* destination, const char* type, const char* source, std::vector<std::string> options) {
  return {{"destination", destination}, {"type", type}, {"source", source}, {"options", std::move(options)}};
}

Result<Launch> WithMounts(Json mounts, Json config = MinimalConfig()) {
  config["mounts"] = std::move(mounts);
  return CompileJson(config);
}

Mount Bind(std::vector<std::string> options) {
  options.insert(options.begin(), "bind");
  return WithMounts(Json::array({MountJson("/b", "bind", "/x", options)}))->mounts[0];
}

Mount New(const char* type, std::vector<std::string> options, const char* target = "/t") {
  return WithMounts(Json::array({MountJson(target, type, "s", options)}))->mounts[0];
}

std::string MountRefusal(Json mount, Json config = MinimalConfig()) {
  config["mounts"] = Json::array({std::move(mount)});
  return Refusal(config);
}

TEST(CompileMounts, Kinds) {
  EXPECT_EQ(Bind({}).kind, Mount::kBind);
  EXPECT_FALSE(Bind({}).recursive);
  EXPECT_TRUE(Bind({"rbind"}).recursive);
  EXPECT_TRUE(Bind({"rbind", "bind"}).recursive);
  Mount mount = WithMounts(Json::array({MountJson("b/c", "none", "y", {"rbind"})}))->mounts[0];
  EXPECT_EQ(mount.source, "/bundle/y");  // relative to the bundle
  EXPECT_EQ(mount.target, "/b/c");
  mount = New("tmpfs", {"size=1k", "mode=755"});
  EXPECT_EQ(mount.kind, Mount::kFilesystem);
  EXPECT_EQ(mount.fstype, "tmpfs");
  EXPECT_EQ(mount.data, "size=1k,mode=755");
  EXPECT_EQ(WithMounts(Json::array({MountJson("/b", "", "", {"remount", "ro"})}))->mounts[0].kind, Mount::kRemount);
  EXPECT_EQ(Bind({"remount", "ro"}).kind, Mount::kRemount);
}

struct Attribute {
  const char* option;
  uint64_t set, clear;
};
constexpr Attribute kAttributes[] = {{"ro", MOUNT_ATTR_RDONLY, 0},
                                     {"rw", 0, MOUNT_ATTR_RDONLY},
                                     {"nosuid", MOUNT_ATTR_NOSUID, 0},
                                     {"suid", 0, MOUNT_ATTR_NOSUID},
                                     {"nodev", MOUNT_ATTR_NODEV, 0},
                                     {"dev", 0, MOUNT_ATTR_NODEV},
                                     {"noexec", MOUNT_ATTR_NOEXEC, 0},
                                     {"exec", 0, MOUNT_ATTR_NOEXEC},
                                     {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
                                     {"diratime", 0, MOUNT_ATTR_NODIRATIME},
                                     {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
                                     {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
                                     {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
                                     {"atime", 0, MOUNT_ATTR__ATIME},
                                     {"relatime", 0, MOUNT_ATTR__ATIME},
                                     {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
                                     {"nostrictatime", 0, MOUNT_ATTR__ATIME}};

TEST(CompileMounts, Attributes) {
  for (const Attribute& each : kAttributes) {
    Mount mount = Bind({each.option});
    EXPECT_EQ(mount.attr_set, each.set) << each.option;
    EXPECT_EQ(mount.attr_clear, each.clear) << each.option;
    EXPECT_EQ(mount.recursive_set | mount.recursive_clear, 0u) << each.option;
    mount = Bind({std::string("r") + each.option});
    EXPECT_EQ(mount.recursive_set, each.set) << each.option;
    EXPECT_EQ(mount.recursive_clear, each.clear) << each.option;
    EXPECT_EQ(mount.attr_set | mount.attr_clear, 0u) << each.option;
  }
  // The last one counts; the kernel clears first.
  EXPECT_EQ(Bind({"ro", "rw"}).attr_set, 0u);
  EXPECT_EQ(Bind({"rw", "ro"}).attr_set, uint64_t{MOUNT_ATTR_RDONLY});
  EXPECT_EQ(Bind({"noatime", "strictatime"}).attr_set, uint64_t{MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(Bind({"rro", "rrw"}).recursive_set, 0u);
  // What is not said stays as the source has it.
  EXPECT_EQ(Bind({"ro"}).attr_clear, 0u);
}

TEST(CompileMounts, Propagation) {
  for (const auto& [name, flag] :
       {std::pair{"private", MS_PRIVATE}, {"shared", MS_SHARED}, {"slave", MS_SLAVE}, {"unbindable", MS_UNBINDABLE}}) {
    Mount mount = Bind({name});
    EXPECT_EQ(mount.propagation, static_cast<uint64_t>(flag)) << name;
    EXPECT_FALSE(mount.recursive_propagation);
    mount = Bind({std::string("r") + name});
    EXPECT_EQ(mount.propagation, static_cast<uint64_t>(flag)) << name;
    EXPECT_TRUE(mount.recursive_propagation);
  }
  EXPECT_EQ(Bind({}).propagation, 0u);
}

TEST(CompileMounts, Superblock) {
  EXPECT_EQ(New("tmpfs", {"sync", "dirsync", "mand", "lazytime", "silent"}).sb_flags,
            uint64_t{MS_SYNCHRONOUS | MS_DIRSYNC | MS_MANDLOCK | MS_LAZYTIME | MS_SILENT});
  EXPECT_EQ(New("tmpfs", {"sync", "mand", "lazytime", "silent", "async", "nomand", "nolazytime", "loud"}).sb_flags, 0u);
  Mount mount = New("tmpfs", {"defaults", "iversion", "noiversion", ""});
  EXPECT_EQ(mount.data, "");
  EXPECT_EQ(mount.attr_set | mount.sb_flags, 0u);
}

TEST(CompileMounts, ReadOnly) {
  EXPECT_TRUE(New("tmpfs", {"ro"}).read_only_at_end);
  EXPECT_FALSE(New("tmpfs", {}).read_only_at_end);
  EXPECT_FALSE(New("sysfs", {"ro"}).read_only_at_end);
  EXPECT_EQ(New("sysfs", {"ro"}).data, "");  // another mount of the same sysfs may be written to
  EXPECT_EQ(New("ext4", {"ro", "noload"}).data, "noload,ro");
  EXPECT_TRUE(New("devtmpfs", {"ro"}, "/dev/").read_only_at_end);
}

TEST(CompileMounts, CopyUp) {
  EXPECT_TRUE(New("tmpfs", {"tmpcopyup"}).copy_up);
  EXPECT_THAT(MountRefusal(MountJson("/t", "ext4", "s", {"tmpcopyup"})), HasSubstr("mounts[0]: tmpcopyup"));
}

TEST(CompileMounts, MappedIds) {
  Json mount = MountJson("/b", "bind", "/x", {"rbind"});
  mount["uidMappings"] = mount["gidMappings"] = Json::array({{{"containerID", 0}, {"hostID", 1000}, {"size", 10}}});
  Launch launch = *WithMounts(Json::array({mount}));
  EXPECT_TRUE(launch.mounts[0].idmap);
  EXPECT_FALSE(launch.mounts[0].idmap_recursive);
  EXPECT_EQ(launch.mounts[0].uid_map[0].outside, 1000u);
  mount["options"] = {"rbind", "ridmap"};
  EXPECT_TRUE(WithMounts(Json::array({mount}))->mounts[0].idmap_recursive);
  mount.erase("gidMappings");
  EXPECT_THAT(MountRefusal(mount), HasSubstr("belong together"));
  EXPECT_THAT(MountRefusal(MountJson("/b", "bind", "/x", {"bind", "idmap"})), HasSubstr("or a user namespace"));
  Json config = MinimalConfig();
  config["linux"]["namespaces"].push_back({{"type", "user"}, {"path", "/proc/7/ns/user"}});
  EXPECT_EQ(MountRefusal(MountJson("/b", "bind", "/x", {"bind", "idmap"}), config), "accepted");
  EXPECT_THAT(MountRefusal(MountJson("/b", "tmpfs", "x", {"idmap"}), config), StartsWith("UNIMPLEMENTED: mounts[0]"));
}

TEST(CompileMounts, Label) {
  Json config = MinimalConfig();
  config["linux"]["mountLabel"] = "u:r:t:s0:c1,c2";
  Launch launch = *WithMounts(
      Json::array({MountJson("/a", "tmpfs", "t", {"size=1k"}), MountJson("/b", "devpts", "d", {}),
                   MountJson("/c", "proc", "proc", {}), MountJson("/d", "mqueue", "m", {}),
                   MountJson("/e", "bind", "/x", {"bind"}), MountJson("/f", "tmpfs", "t", {"context=\"own\""})}),
      config);
  EXPECT_EQ(launch.mounts[0].data, "size=1k,context=\"u:r:t:s0:c1,c2\"");
  EXPECT_EQ(launch.mounts[1].data, "context=\"u:r:t:s0:c1,c2\"");
  for (size_t i : {2, 3, 4}) EXPECT_EQ(launch.mounts[i].data, "") << i;
  EXPECT_EQ(launch.mounts[5].data, "context=\"own\"");
}

TEST(CompileMounts, Refusals) {
  EXPECT_THAT(MountRefusal(MountJson("/b", "bind", "/x", {"bind", "size=1k"})),
              HasSubstr("mounts[0]: options \"size=1k\""));
  EXPECT_THAT(MountRefusal(MountJson("/b", "bind", "", {"bind"})), HasSubstr("without source"));
  EXPECT_THAT(MountRefusal(MountJson("/b", "", "x", {})), HasSubstr("no type"));
  EXPECT_THAT(MountRefusal(MountJson("", "tmpfs", "x", {})), HasSubstr("no destination"));
  for (const char* root : {"/", "//", "/.", "/a/..", "."}) {
    EXPECT_THAT(MountRefusal(MountJson(root, "tmpfs", "x", {})), HasSubstr("root itself")) << root;
  }
}

const Mount* At(const Launch& launch, std::string_view target) {
  for (const Mount& mount : launch.mounts) {
    if (mount.target == target) return &mount;
  }
  return nullptr;
}

class CgroupMounts : public testing::Test {
 protected:
  Launch Compiled(const Json& config, const Host& host) {
    Json with = config;
    with["mounts"] = Json::array({MountJson("/sys/fs/cgroup", "cgroup", "cgroup", {"ro", "nosuid"})});
    return *CompileJson(with, host, place_);
  }
  Host hybrid_{
      .hierarchies = {
          {"cpu,cpuacct", "/cg/cpu"}, {"name=systemd", "/cg/systemd"}, {"pids", "/cg/pids"}, {"", "/cg/unified"}}};
  Host unified_{.unified = true, .hierarchies = {{"", "/cg"}}};
  CgroupPlace place_{.v1_dirs = {"/cg/cpu/pod/c", "/cg/systemd/pod/c"}, .v2_dir = "/cg/pod/c"};
  Json own_ = WithNamespaces({"cgroup"});
};

constexpr uint64_t kNothingRuns = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

TEST_F(CgroupMounts, V1OfTheNode) {
  Launch launch = Compiled(MinimalConfig(), hybrid_);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup")->fstype, "tmpfs");
  EXPECT_TRUE(At(launch, "/sys/fs/cgroup")->read_only_at_end);  // after mount points and links
  const Mount* cpu = At(launch, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(cpu->kind, Mount::kBind);
  EXPECT_EQ(cpu->source, "/cg/cpu/pod/c");
  EXPECT_EQ(cpu->attr_set, kNothingRuns | MOUNT_ATTR_RDONLY);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup/systemd")->source, "/cg/systemd/pod/c");
  EXPECT_EQ(launch.mounts.size(), 3u);  // of pids the container has none
  ASSERT_GE(launch.symlinks.size(), 2u);
  EXPECT_EQ(launch.symlinks[0].path, "/sys/fs/cgroup/cpu");
  EXPECT_EQ(launch.symlinks[0].target, "cpu,cpuacct");
  EXPECT_EQ(launch.symlinks[1].path, "/sys/fs/cgroup/cpuacct");
}

TEST_F(CgroupMounts, V1OfItsOwn) {
  Launch launch = Compiled(own_, hybrid_);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup/systemd")->data, "none,name=systemd");
  EXPECT_EQ(At(launch, "/sys/fs/cgroup/cpu,cpuacct")->data, "cpu,cpuacct");
  EXPECT_EQ(At(launch, "/sys/fs/cgroup/cpu,cpuacct")->fstype, "cgroup");
  EXPECT_EQ(launch.mounts.size(), 4u);
}

TEST_F(CgroupMounts, V2) {
  Launch launch = Compiled(own_, unified_);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup")->fstype, "cgroup2");
  EXPECT_EQ(At(launch, "/sys/fs/cgroup")->attr_set, kNothingRuns | MOUNT_ATTR_RDONLY);
  // /proc/self/cgroup shows a path of the node's: it is found in the node's tree.
  launch = Compiled(MinimalConfig(), unified_);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup")->kind, Mount::kBind);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup")->source, "/cg");
  Json config = MinimalConfig();
  config["linux"]["namespaces"].push_back({{"type", "user"}, {"path", "/proc/7/ns/user"}});
  launch = Compiled(config, unified_);
  EXPECT_EQ(At(launch, "/sys/fs/cgroup")->source, "/cg/pod/c");
}

}  // namespace
}  // namespace crisp::native
