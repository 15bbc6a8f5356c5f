// Users, groups, capabilities, privileges and paths of containers.
#include <sys/stat.h>

#include "base/strings.h"
#include "conformance/spec.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

Json Security(const Json& context) { return {{"linux", {{"security_context", context}}}}; }
std::string Drop(const std::string& field) { return StrCat("CreateContainer<-config.linux.security_context.", field); }

SPEC(SecurityContext, SupplementalGroupsAreAdded, .like = {13}, .faults = {Drop("supplemental_groups")}) {
  std::string groups =
      StrCat(" ", Trim(Sh(Run(RunPod(), Security({{"supplemental_groups", {1234, 5678}}})), "id -G")), " ");
  EXPECT_NE(groups.find(" 1234 "), std::string::npos) << groups;
  EXPECT_NE(groups.find(" 5678 "), std::string::npos) << groups;
}
SPEC(SecurityContext, RunAsUser, .like = {14},
     .faults = {Drop("run_as_user"), "CreateContainer<config.linux.security_context.run_as_user.value=1002"}) {
  EXPECT_EQ(Sh(Run(RunPod(), Security({{"run_as_user", {{"value", 1001}}}})), "id -u"), "1001\n");
}
SPEC(SecurityContext, RunAsUserName, .like = {15}, .faults = {Drop("run_as_username")}) {
  EXPECT_EQ(Sh(Run(RunPod(), Security({{"run_as_username", "nobody"}})), "id -un"), "nobody\n");
}
SPEC(SecurityContext, RunAsGroup, .like = {16}, .faults = {Drop("run_as_group")}) {
  Pod pod = RunPod();
  std::string id = Run(pod, Merged(Security({{"run_as_user", {{"value", 1001}}}, {"run_as_group", {{"value", 1002}}}}),
                                   {{"command", {"/guest", "ids"}}}));
  WaitExited(id);
  EXPECT_NE(LogText(pod).find("uid=1001 euid=1001 gid=1002 egid=1002"), std::string::npos) << LogText(pod);
}
SPEC(SecurityContext, RunAsGroupAloneIsRefused, .like = {17}, .faults = {"CreateContainer:swallow"}) {
  Pod pod = RunPod();
  MustFail("CreateContainer", {{"pod_sandbox_id", pod.id},
                               {"sandbox_config", pod.config},
                               {"config", ContainerConfig(Security({{"run_as_group", {{"value", 1002}}}}))}});
}
SPEC(SecurityContext, UnknownUserNameIsRefused, .faults = {Drop("run_as_username")}) {
  MustNotRun(RunPod(), Security({{"run_as_username", "no-such-user"}}));
}
SPEC(SecurityContext, RootFileSystemIsWritable, .like = {18},
     .faults = {"CreateContainer<config.linux.security_context.readonly_rootfs=true"}) {
  Sh(Run(RunPod(), Security({{"readonly_rootfs", false}})), "touch /written && test -f /written");
}
SPEC(SecurityContext, RootFileSystemIsReadOnly, .like = {19}, .faults = {Drop("readonly_rootfs")}) {
  std::string id = Run(RunPod(), Security({{"readonly_rootfs", true}}));
  ExecResult result = Exec(id, {"/bin/touch", "/written"});
  EXPECT_NE(result.code, 0) << "the root file system is writable";
  EXPECT_NE(result.err.find("Read-only file system"), std::string::npos) << result.err;
}

// What a privileged container may: new devices, all capabilities, a writable /sys.
constexpr const char* kAddLink = "ip link add crisptest0 type bridge";

SPEC(SecurityContext, PrivilegedMayChangeTheNetwork, .like = {20},
     .faults = {"CreateContainer<-config.linux.security_context.privileged"}) {
  Json security = Security({{"privileged", true}});
  std::string id = Run(RunPod(security), security);
  Sh(id, kAddLink);
}
SPEC(SecurityContext, UnprivilegedMayNotChangeTheNetwork, .like = {21},
     .faults = {"RunPodSandbox<config.linux.security_context.privileged=true; "
                "CreateContainer<config.linux.security_context.privileged=true"}) {
  Json security = Security({{"privileged", false}});
  ExecResult result = Exec(Run(RunPod(security), security), {"/bin/sh", "-c", kAddLink});
  EXPECT_NE(result.code, 0);
  EXPECT_NE(result.err.find("Operation not permitted"), std::string::npos) << result.err;
}
SPEC(SecurityContext, PrivilegedSeesDevices, .faults = {"CreateContainer<-config.linux.security_context.privileged"}) {
  Json security = Security({{"privileged", true}});
  std::string id = Run(RunPod(security), security);
  EXPECT_NE(Sh(id, "ls /dev").find("kmsg"), std::string::npos);
}

SPEC(SecurityContext, AddedCapabilityIsThere, .like = {22}, .faults = {Drop("capabilities")}) {
  Sh(Run(RunPod(), Security({{"capabilities", {{"add_capabilities", {"NET_ADMIN"}}}}})), kAddLink);
}
SPEC(SecurityContext, DroppedCapabilityIsGone, .like = {23}, .faults = {Drop("capabilities")}) {
  std::string id = Run(RunPod(), Security({{"capabilities", {{"drop_capabilities", {"CHOWN"}}}}}));
  ExecResult result = Exec(id, {"/bin/sh", "-c", "touch /tmp/file && chown 1000 /tmp/file"});
  EXPECT_NE(result.code, 0) << "chown works without CAP_CHOWN";
}

uint64_t Effective(const std::string& status) {
  auto words = SplitWords(status);
  return words.size() == 2 ? ParseInt<uint64_t>(words[1], 16).value_or(~0ull) : ~0ull;
}

SPEC(SecurityContext, AllCapabilitiesAreAdded, .like = {24}, .faults = {Drop("capabilities")}) {
  std::string id = Run(RunPod(), Security({{"capabilities", {{"add_capabilities", {"ALL"}}}}}));
  Sh(id, kAddLink);
  auto ours = sys::ReadFile("/proc/self/status");
  ASSERT_TRUE(ours);
  size_t bound = ours->find("CapBnd:");
  // What the machine itself does not have cannot be given.
  EXPECT_EQ(Effective(Sh(id, "grep CapEff /proc/self/status")),
            Effective(ours->substr(bound, ours->find('\n', bound) - bound)));
}
SPEC(SecurityContext, AllCapabilitiesAreDropped, .like = {25}, .faults = {Drop("capabilities")}) {
  std::string id = Run(RunPod(), Security({{"capabilities", {{"drop_capabilities", {"ALL"}}}}}));
  EXPECT_EQ(Effective(Sh(id, "grep CapEff /proc/self/status")), 0u);
  EXPECT_NE(Exec(id, {"/bin/sh", "-c", "touch /tmp/file && chown 1000 /tmp/file"}).code, 0);
}
SPEC(SecurityContext, DropAllAddOne, .faults = {Drop("capabilities.add_capabilities")}) {
  std::string id =
      Run(RunPod(), Security({{"capabilities", {{"drop_capabilities", {"ALL"}}, {"add_capabilities", {"CHOWN"}}}}}));
  EXPECT_EQ(Effective(Sh(id, "grep CapEff /proc/self/status")), 1u);  // CAP_CHOWN is bit 0
}
SPEC(SecurityContext, AmbientCapabilitiesReachUsers, .faults = {Drop("capabilities.add_ambient_capabilities")}) {
  std::string id = Run(
      RunPod(),
      Security({{"run_as_user", {{"value", 1001}}},
                {"capabilities", {{"add_capabilities", {"NET_ADMIN"}}, {"add_ambient_capabilities", {"NET_ADMIN"}}}}}));
  EXPECT_EQ(Effective(Sh(id, "grep CapAmb /proc/self/status")), 1u << 12);
}

SPEC(SecurityContext, MaskedPathsAreEmpty, .like = {26}, .faults = {Drop("masked_paths")}) {
  std::string id = Run(RunPod(), Security({{"masked_paths", {"/etc/group", "/var/run"}}}));
  EXPECT_EQ(Sh(id, "wc -c < /etc/group; ls /var/run"), "0\n");
}
SPEC(SecurityContext, ReadonlyPathsCannotBeWritten, .like = {27}, .faults = {Drop("readonly_paths")}) {
  std::string id = Run(RunPod(), Security({{"readonly_paths", {"/tmp"}}}));
  ExecResult result = Exec(id, {"/bin/touch", "/tmp/file"});
  EXPECT_NE(result.err.find("Read-only file system"), std::string::npos) << result.err;
}

// The image puts user 1000 into group 50000.
Json Member(const char* policy) {
  return Security({{"run_as_user", {{"value", 1000}}},
                   {"run_as_group", {{"value", 1000}}},
                   {"supplemental_groups", {60000}},
                   {"supplemental_groups_policy", policy}});
}
std::string GroupsOf(const std::string& ids) {
  return ids.substr(ids.find("groups=") + 7, ids.find('\n') - ids.find("groups=") - 7);
}

SPEC(SecurityContext, GroupsPolicyMergesTheImages, .like = {28},
     .faults = {Drop("supplemental_groups"), "ContainerStatus:-status.user"}) {
  std::string id = Run(RunPod(), Member("Merge"));
  EXPECT_EQ(GroupsOf(Exec(id, {"/guest", "ids"}).out), "1000,50000,60000");
  Json status = Status(id);
  if (!status.contains("user")) {
    Json runtime = Call("Status");
    bool claims = runtime.contains("features") && runtime["features"]["supplemental_groups_policy"] == true;
    if (claims) throw Failure("the runtime offers supplemental_groups_policy, but its status has no user");
    throw Unsupported("the runtime does not offer supplemental_groups_policy");
  }
  EXPECT_EQ(status["user"]["linux"]["uid"], 1000);
  EXPECT_EQ(status["user"]["linux"]["gid"], 1000);
  EXPECT_EQ(status["user"]["linux"]["supplemental_groups"], Json({1000, 50000, 60000}));
}
SPEC(SecurityContext, GroupsPolicyStrictIgnoresTheImages, .like = {29},
     .faults = {Drop("supplemental_groups_policy")}) {
  Json runtime = Call("Status");
  if (!runtime.contains("features") || runtime["features"]["supplemental_groups_policy"] != true) {
    throw Unsupported("the runtime does not offer supplemental_groups_policy");
  }
  std::string id = Run(RunPod(), Member("Strict"));
  EXPECT_EQ(GroupsOf(Exec(id, {"/guest", "ids"}).out), "1000,60000");
  EXPECT_EQ(Status(id)["user"]["linux"]["supplemental_groups"], Json({1000, 60000}));
}

SPEC(SecurityContext, NoNewPrivilegesStopsSetuid, .like = {37}, .faults = {Drop("no_new_privs")}) {
  Pod pod = RunPod();
  std::string id = Run(pod, Merged(Security({{"no_new_privs", true}, {"run_as_user", {{"value", 1001}}}}),
                                   {{"command", {"/guest-setuid", "ids"}}}));
  WaitExited(id);
  EXPECT_NE(LogText(pod).find("uid=1001 euid=1001"), std::string::npos) << LogText(pod);
}
SPEC(SecurityContext, NewPrivilegesBySetuid, .like = {38},
     .faults = {"CreateContainer<config.linux.security_context.no_new_privs=true"}) {
  Pod pod = RunPod();
  std::string id = Run(pod, Merged(Security({{"no_new_privs", false}, {"run_as_user", {{"value", 1001}}}}),
                                   {{"command", {"/guest-setuid", "ids"}}}));
  WaitExited(id);
  EXPECT_NE(LogText(pod).find("uid=1001 euid=0"), std::string::npos) << LogText(pod);
}

// ---- seccomp

std::string Profile(const std::string& dir, const std::string& calls) {
  std::string path = dir + "/profile.json";
  auto written = sys::WriteFileAtomic(
      path,
      StrCat(R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[)", calls, R"(],"action":"SCMP_ACT_ERRNO"}]})"),
      0644, sys::Durability::kNone);
  if (!written) throw Failure(written.error().message());
  return path;
}

constexpr const char* kSeccompMode = "grep '^Seccomp:' /proc/self/status | tr -d '\\t'";

SPEC(SecurityContext, SeccompUnconfined, .like = {30},
     .faults = {"CreateContainer<config.linux.security_context.seccomp.profile_type=RuntimeDefault"}) {
  EXPECT_EQ(Sh(Run(RunPod(), Security({{"seccomp", {{"profile_type", "Unconfined"}}}})), kSeccompMode), "Seccomp:0\n");
}
SPEC(SecurityContext, SeccompLocalProfileBlocks, .like = {31}, .faults = {Drop("seccomp")}) {
  std::string profile = Profile(TempDir(), R"("chmod","fchmod","fchmodat","fchmodat2")");
  std::string id = Run(RunPod(), Security({{"seccomp", {{"profile_type", "Localhost"}, {"localhost_ref", profile}}}}));
  ExecResult result = Exec(id, {"/bin/chmod", "400", "/"});
  EXPECT_NE(result.code, 0);
  EXPECT_NE(result.err.find("Operation not permitted"), std::string::npos) << result.err;
}
SPEC(SecurityContext, SeccompRuntimeDefault, .like = {32}, .faults = {Drop("seccomp")}) {
  EXPECT_EQ(Sh(Run(RunPod(), Security({{"seccomp", {{"profile_type", "RuntimeDefault"}}}})), kSeccompMode),
            "Seccomp:2\n");
}
SPEC(SecurityContext, SeccompNoneIsUnconfined, .like = {33},
     .faults = {"CreateContainer<config.linux.security_context.seccomp.profile_type=RuntimeDefault"}) {
  EXPECT_EQ(Sh(Run(RunPod()), kSeccompMode), "Seccomp:0\n");
}
SPEC(SecurityContext, SeccompUnconfinedAllowsHostName, .like = {34}, .faults = {Drop("capabilities")}) {
  std::string id = Run(RunPod(), Security({{"seccomp", {{"profile_type", "Unconfined"}}},
                                           {"capabilities", {{"add_capabilities", {"SYS_ADMIN"}}}}}));
  ExecResult result = Exec(id, {"/guest", "hostname", "changed"});
  EXPECT_EQ(result.code, 0) << result.err;
}
SPEC(SecurityContext, SeccompLocalProfileBlocksHostName, .like = {35}, .faults = {Drop("seccomp")}) {
  std::string profile = Profile(TempDir(), R"("sethostname")");
  std::string id = Run(RunPod(), Security({{"seccomp", {{"profile_type", "Localhost"}, {"localhost_ref", profile}}},
                                           {"capabilities", {{"add_capabilities", {"SYS_ADMIN"}}}}}));
  EXPECT_NE(Exec(id, {"/guest", "hostname", "changed"}).code, 0);
}
SPEC(SecurityContext, SeccompIsIgnoredForPrivileged, .like = {36},
     .faults = {"CreateContainer<-config.linux.security_context.privileged"}) {
  std::string profile = Profile(TempDir(), R"("sethostname")");
  std::string id =
      Run(RunPod(Security({{"privileged", true}})),
          Security({{"privileged", true}, {"seccomp", {{"profile_type", "Localhost"}, {"localhost_ref", profile}}}}));
  ExecResult result = Exec(id, {"/guest", "hostname", "changed"});
  EXPECT_EQ(result.code, 0) << result.err;
}
SPEC(SecurityContext, SeccompMissingProfileIsRefused, .faults = {Drop("seccomp")}) {
  MustNotRun(RunPod(),
             Security({{"seccomp", {{"profile_type", "Localhost"}, {"localhost_ref", "/no/such/profile.json"}}}}));
}

}  // namespace
}  // namespace crisp::conformance
