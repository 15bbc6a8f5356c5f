#include "oci/seccomp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::oci {
namespace {

using testing::HasSubstr;

const SeccompSubject kPlain{.capabilities = DefaultCapabilities(), .arch = "amd64"};

SeccompSubject With(const char* capability) {
  return {.capabilities = DefaultCapabilities() | CapabilityBit(*CapabilityNumber(capability)), .arch = "amd64"};
}

// Names that the profile allows whatever the arguments.
std::set<std::string> Allowed(const Json& profile) {
  std::set<std::string> names;
  for (const Json& rule : profile["syscalls"]) {
    if (rule["action"] != "SCMP_ACT_ALLOW" || rule.contains("args")) continue;
    for (const Json& name : rule["names"]) names.insert(name.get<std::string>());
  }
  return names;
}

TEST(DefaultSeccompTest, IsAnAllowList) {
  Json profile = DefaultSeccomp(kPlain);
  EXPECT_EQ(profile["defaultAction"], "SCMP_ACT_ERRNO");
  EXPECT_EQ(profile["defaultErrnoRet"], 1);
  EXPECT_EQ(profile["architectures"], Json({"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}));
  std::set<std::string> allowed = Allowed(profile);
  for (const char* name : {"read", "openat", "execve", "futex", "epoll_pwait2", "statx", "getrandom", "rseq",
                           "arch_prctl", "chroot", "modify_ldt"}) {
    EXPECT_TRUE(allowed.contains(name)) << name;
  }
  for (const char* name : {"mount",
                           "umount2",
                           "setns",
                           "unshare",
                           "clone",
                           "clone3",
                           "bpf",
                           "perf_event_open",
                           "keyctl",
                           "add_key",
                           "request_key",
                           "userfaultfd",
                           "io_uring_setup",
                           "io_uring_enter",
                           "kexec_load",
                           "init_module",
                           "finit_module",
                           "reboot",
                           "swapon",
                           "open_by_handle_at",
                           "ptrace_x",
                           "iopl",
                           "settimeofday",
                           "personality",
                           "socket",
                           "pivot_root",
                           "open_tree",
                           "mbind",
                           "fsopen",
                           "move_mount",
                           "mount_setattr",
                           "syslog",
                           "acct",
                           "quotactl",
                           "nfsservctl",
                           "_sysctl",
                           "uselib",
                           "vm86"}) {
    EXPECT_FALSE(allowed.contains(name)) << name;
  }
}

TEST(DefaultSeccompTest, CapabilitiesOpenTheirCalls) {
  for (auto [capability, name] : std::map<const char*, const char*>{{"SYS_ADMIN", "mount"},
                                                                    {"SYS_BOOT", "reboot"},
                                                                    {"SYS_MODULE", "init_module"},
                                                                    {"SYS_PTRACE", "pidfd_getfd"},
                                                                    {"SYS_TIME", "clock_settime"},
                                                                    {"SYS_NICE", "mbind"},
                                                                    {"SYSLOG", "syslog"},
                                                                    {"BPF", "bpf"},
                                                                    {"PERFMON", "perf_event_open"},
                                                                    {"DAC_READ_SEARCH", "open_by_handle_at"},
                                                                    {"SYS_RAWIO", "iopl"},
                                                                    {"SYS_PACCT", "acct"},
                                                                    {"SYS_TTY_CONFIG", "vhangup"}}) {
    EXPECT_FALSE(Allowed(DefaultSeccomp(kPlain)).contains(name)) << name;
    EXPECT_TRUE(Allowed(DefaultSeccomp(With(capability))).contains(name)) << name;
  }
  SeccompSubject nothing{.capabilities = 0, .arch = "amd64"};
  EXPECT_FALSE(Allowed(DefaultSeccomp(nothing)).contains("chroot"));
}

TEST(DefaultSeccompTest, ArgumentsAreChecked) {
  bool clone = false, clone3 = false;
  int personalities = 0;
  Json profile = DefaultSeccomp(kPlain);
  for (const Json& rule : profile["syscalls"]) {
    std::string name = rule["names"][0];
    if (name == "clone") {
      clone = true;
      EXPECT_EQ(rule["args"],
                Json::array({{{"index", 0}, {"value", 0x7e020000}, {"op", "SCMP_CMP_MASKED_EQ"}, {"valueTwo", 0}}}));
    }
    if (name == "clone3") {
      clone3 = true;
      EXPECT_EQ(rule["errnoRet"], 38);
    }
    if (name == "personality") ++personalities;
  }
  EXPECT_TRUE(clone && clone3);
  EXPECT_EQ(personalities, 5);
  EXPECT_TRUE(Allowed(DefaultSeccomp(With("SYS_ADMIN"))).contains("clone3"));
}

TEST(DefaultSeccompTest, SocketFamiliesWhateverTheUpperHalfSays) {
  Json profile = DefaultSeccomp(kPlain);
  for (uint64_t upper : {uint64_t{0}, uint64_t{1} << 32, ~uint64_t{0} << 32}) {
    for (uint64_t family = 0; family < 48; ++family) {
      bool allowed = false;
      for (const Json& rule : profile["syscalls"]) {
        if (rule["names"] != Json({"socket"})) continue;
        const Json& arg = rule["args"][0];
        ASSERT_EQ(arg["op"], "SCMP_CMP_MASKED_EQ");
        allowed |= ((upper | family) & arg["value"].get<uint64_t>()) == arg["valueTwo"].get<uint64_t>();
      }
      EXPECT_EQ(allowed, family != 38 && family != 40) << upper << " " << family;
    }
  }
}

TEST(DefaultSeccompTest, OtherMachines) {
  SeccompSubject arm{.capabilities = 0, .arch = "arm64"};
  EXPECT_EQ(DefaultSeccomp(arm)["architectures"], Json({"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}));
  EXPECT_TRUE(Allowed(DefaultSeccomp(arm)).contains("sync_file_range2"));
  EXPECT_FALSE(Allowed(DefaultSeccomp(arm)).contains("modify_ldt"));
}

TEST(ParseSeccompTest, OciFormIsTakenAsItIs) {
  const char* text =
      R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64"],"flags":["SECCOMP_FILTER_FLAG_LOG"],
    "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
                {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":18446744073709551615,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]},
                {"names":["open"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]})";
  EXPECT_EQ(ParseSeccomp(text, kPlain).value(), ParseJson(text, "").value());
}

TEST(ParseSeccompTest, DockersFormIsResolved) {
  const char* text = R"({"defaultAction":"SCMP_ACT_ERRNO",
    "archMap":[{"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
               {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
    "syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
                {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
                {"names":["cacheflush"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
                {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"],"arches":["s390x"]},"comment":"x"},
                {"name":"chroot","action":"SCMP_ACT_ALLOW","args":null}]})";
  Json profile = ParseSeccomp(text, kPlain).value();
  EXPECT_EQ(profile["architectures"], Json({"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"}));
  EXPECT_EQ(Allowed(profile), (std::set<std::string>{"ptrace", "clone", "chroot"}));
  EXPECT_EQ(Allowed(ParseSeccomp(text, With("SYS_ADMIN")).value()),
            (std::set<std::string>{"ptrace", "mount", "chroot"}));
}

TEST(ParseSeccompTest, S36_WhatIsNoProfile) {
  for (
      const char* text :
      {"",
       "  \n",
       "{",
       "[]",
       "\"SCMP_ACT_ALLOW\"",
       "null",
       "{}",
       R"({"defaultAction":""})",
       R"({"defaultAction":"allow"})",
       R"({"defaultAction":["SCMP_ACT_ALLOW"]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":"all"})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[7]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"]}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[""],"action":"SCMP_ACT_ERRNO"}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}]}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"EQ"}]}]})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["x86"]})",
       R"({"defaultAction":"SCMP_ACT_NOTIFY"})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"})",
       R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[]})"}) {
    Result<Json> profile = ParseSeccomp(text, kPlain);
    ASSERT_FALSE(profile) << text;
    EXPECT_EQ(profile.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(profile.error().message(), HasSubstr("seccomp profile: "));
  }
  EXPECT_FALSE(ParseSeccomp(std::string(2 << 20, ' ') + "{}", kPlain));
}

TEST(CapabilityTest, Names) {
  EXPECT_EQ(CapabilityNumber("CAP_CHOWN"), 0);
  EXPECT_EQ(CapabilityNumber("sys_admin"), 21);
  EXPECT_EQ(CapabilityNumber("Cap_Checkpoint_Restore"), 40);
  EXPECT_EQ(CapabilityNumber("CAP_"), std::nullopt);
  EXPECT_EQ(CapabilityNumber("ALL"), std::nullopt);
  EXPECT_EQ(CapabilityName(41), "");
  EXPECT_EQ(CapabilityName(-1), "");
  EXPECT_EQ(DefaultCapabilities(), 0xa80425fbu);
}

}  // namespace
}  // namespace crisp::oci
