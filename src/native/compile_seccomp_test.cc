#include <gmock/gmock.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "native/testing/config.h"
#include "sys/file.h"

namespace crisp::native {
namespace {

using testing::HasSubstr;

// The instructions that libseccomp writes, carried out (kernel: net/core/filter.c).
uint32_t Carry(const std::string& program, const seccomp_data& data) {
  std::vector<sock_filter> code(program.size() / sizeof(sock_filter));
  std::memcpy(code.data(), program.data(), program.size());
  uint32_t a = 0;
  for (size_t i = 0; i < code.size(); ++i) {
    const sock_filter& each = code[i];
    bool holds = false;
    switch (each.code) {
      case BPF_LD | BPF_W | BPF_ABS: std::memcpy(&a, reinterpret_cast<const char*>(&data) + each.k, sizeof a); continue;
      case BPF_ALU | BPF_AND | BPF_K: a &= each.k; continue;
      case BPF_JMP | BPF_JA: i += each.k; continue;
      case BPF_RET | BPF_K: return each.k;
      case BPF_JMP | BPF_JEQ | BPF_K: holds = a == each.k; break;
      case BPF_JMP | BPF_JGT | BPF_K: holds = a > each.k; break;
      case BPF_JMP | BPF_JGE | BPF_K: holds = a >= each.k; break;
      case BPF_JMP | BPF_JSET | BPF_K: holds = (a & each.k) != 0; break;
      default: ADD_FAILURE() << "instruction " << each.code; return 0;
    }
    i += holds ? each.jt : each.jf;
  }
  ADD_FAILURE() << "the program has no end";
  return 0;
}

constexpr uint32_t kKilled = SECCOMP_RET_KILL_THREAD;
constexpr uint32_t Refused(uint32_t error) { return SECCOMP_RET_ERRNO | error; }

class CompileSeccompTest : public testing::Test {
 protected:
  void SetUp() override {
    if (seccomp_arch_native() != SCMP_ARCH_X86_64) GTEST_SKIP() << "numbers of system calls are those of x86_64";
  }
  uint32_t Answer(uint32_t number, uint64_t first_argument = 0, uint32_t arch = AUDIT_ARCH_X86_64) {
    Result<Seccomp> seccomp = CompileSeccomp(DumpJson(rules_));
    EXPECT_TRUE(seccomp) << seccomp.error().message();
    if (!seccomp) return 0;
    seccomp_data data{};
    data.nr = static_cast<int>(number);
    data.arch = arch;
    data.args[0] = first_argument;
    return Carry(seccomp->program, data);
  }
  std::string Refusal() {
    Result<Seccomp> seccomp = CompileSeccomp(DumpJson(rules_));
    return seccomp ? "accepted" : seccomp.error().message();
  }
  static Json Rule(std::vector<const char*> names, const char* action) {
    return {{"names", std::move(names)}, {"action", action}};
  }
  Json rules_ = {{"defaultAction", "SCMP_ACT_ERRNO"},
                 {"architectures", {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"}},
                 {"syscalls", Json::array()}};
};

constexpr uint32_t kRead = 0, kWrite = 1, kPersonality = 135, kFaccessat2 = 439, kFchmodat2 = 452, kMseal = 462,
                   kOfTheFuture = 600;

TEST_F(CompileSeccompTest, Actions) {
  rules_["syscalls"] = Json::array({Rule({"read", "no_such_call"}, "SCMP_ACT_ALLOW"), Rule({"write"}, "SCMP_ACT_LOG"),
                                    Rule({"open"}, "SCMP_ACT_TRAP"), Rule({"close"}, "SCMP_ACT_KILL"),
                                    Rule({"stat"}, "SCMP_ACT_KILL_THREAD"), Rule({"fstat"}, "SCMP_ACT_KILL_PROCESS"),
                                    Rule({"lstat"}, "SCMP_ACT_ERRNO"), Rule({"poll"}, "SCMP_ACT_TRACE")});
  rules_["syscalls"][6]["errnoRet"] = 38;
  rules_["syscalls"][7]["errnoRet"] = 7;
  EXPECT_EQ(Answer(kRead), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(kWrite), SECCOMP_RET_LOG);
  EXPECT_EQ(Answer(2) & SECCOMP_RET_ACTION, SECCOMP_RET_TRAP);
  EXPECT_EQ(Answer(3), kKilled);
  EXPECT_EQ(Answer(4), kKilled);
  EXPECT_EQ(Answer(5), SECCOMP_RET_KILL_PROCESS);
  EXPECT_EQ(Answer(6), Refused(38));
  EXPECT_EQ(Answer(7), SECCOMP_RET_TRACE | 7);
  rules_["defaultErrnoRet"] = 13;
  EXPECT_EQ(Answer(3), kKilled);
  rules_["syscalls"].push_back(Rule({"mseal"}, "SCMP_ACT_ALLOW"));
  EXPECT_EQ(Answer(kFaccessat2), Refused(13));
}

TEST_F(CompileSeccompTest, Architectures) {
  rules_["syscalls"] = Json::array({Rule({"read"}, "SCMP_ACT_ALLOW")});
  EXPECT_EQ(Answer(3, 0, AUDIT_ARCH_I386), SECCOMP_RET_ALLOW);  // read is 3 there
  EXPECT_EQ(Answer(3, 0, AUDIT_ARCH_ARM), kKilled);
  EXPECT_EQ(Answer(kOfTheFuture, 0, AUDIT_ARCH_ARM), kKilled);
  rules_.erase("architectures");
  EXPECT_EQ(Answer(kRead), SECCOMP_RET_ALLOW);  // the machine's own is always there
  EXPECT_EQ(Answer(3, 0, AUDIT_ARCH_I386), kKilled);
}

TEST_F(CompileSeccompTest, Arguments) {
  Json rule = Rule({"personality"}, "SCMP_ACT_ALLOW");
  auto with = [&](const char* op, uint64_t value, uint64_t two = 0) {
    rule["args"] = Json::array({{{"index", 0}, {"op", op}, {"value", value}, {"valueTwo", two}}});
    rules_["syscalls"] = Json::array({rule, Rule({"mseal"}, "SCMP_ACT_ALLOW")});
  };
  auto allowed = [&](uint64_t argument) { return Answer(kPersonality, argument) == SECCOMP_RET_ALLOW; };
  constexpr uint64_t kHigh = uint64_t{1} << 40;
  with("SCMP_CMP_EQ", kHigh + 5);
  EXPECT_TRUE(allowed(kHigh + 5) && !allowed(5) && !allowed(kHigh));
  with("SCMP_CMP_NE", 5);
  EXPECT_TRUE(allowed(4) && !allowed(5));
  with("SCMP_CMP_LT", 5);
  EXPECT_TRUE(allowed(4) && !allowed(5));
  with("SCMP_CMP_LE", 5);
  EXPECT_TRUE(allowed(5) && !allowed(6));
  with("SCMP_CMP_GT", 5);
  EXPECT_TRUE(allowed(6) && !allowed(5));
  with("SCMP_CMP_GE", 5);
  EXPECT_TRUE(allowed(5) && !allowed(4));
  with("SCMP_CMP_MASKED_EQ", 0xf0, 0x10);
  EXPECT_TRUE(allowed(0x11) && !allowed(0x21));
  // Several on one argument: either will do.
  rule["args"] = Json::array(
      {{{"index", 0}, {"op", "SCMP_CMP_EQ"}, {"value", 1}}, {{"index", 0}, {"op", "SCMP_CMP_EQ"}, {"value", 2}}});
  rules_["syscalls"] = Json::array({rule});
  EXPECT_TRUE(allowed(1) && allowed(2) && !allowed(3));
}

// libseccomp 2.5 knows none of them by name, and a newer one must not change what they mean.
TEST_F(CompileSeccompTest, CallsThatAreNewerThanLibseccomp) {
  rules_["syscalls"] =
      Json::array({Rule({"read", "fchmodat2"}, "SCMP_ACT_ALLOW"), Rule({"mseal"}, "SCMP_ACT_KILL_PROCESS")});
  for (uint32_t arch : {uint32_t{AUDIT_ARCH_X86_64}, uint32_t{AUDIT_ARCH_I386}}) {
    EXPECT_EQ(Answer(kFchmodat2, 0, arch), SECCOMP_RET_ALLOW);
    EXPECT_EQ(Answer(kMseal, 0, arch), SECCOMP_RET_KILL_PROCESS);
    EXPECT_EQ(Answer(kFchmodat2 + 1, 0, arch), Refused(EPERM));  // older than mseal: it was left out on purpose
  }
  constexpr uint32_t kX32 = 0x40000000;
  EXPECT_NE(Answer(kX32 + kFchmodat2), SECCOMP_RET_ALLOW);
  // In a list of what is forbidden, too.
  rules_["defaultAction"] = "SCMP_ACT_ALLOW";
  rules_["syscalls"] = Json::array({Rule({"mseal"}, "SCMP_ACT_ERRNO")});
  EXPECT_EQ(Answer(kMseal), Refused(EPERM));
  EXPECT_EQ(Answer(kFchmodat2), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(kOfTheFuture), SECCOMP_RET_ALLOW);
}

TEST_F(CompileSeccompTest, CallsThatAreNewerThanTheProfile) {
  rules_["syscalls"] = Json::array({Rule({"read", "faccessat2"}, "SCMP_ACT_ALLOW")});
  EXPECT_EQ(Answer(kWrite), Refused(EPERM));
  EXPECT_EQ(Answer(kFaccessat2), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(kFaccessat2 + 1), Refused(ENOSYS));
  EXPECT_EQ(Answer(kFchmodat2, 0, AUDIT_ARCH_I386), Refused(ENOSYS));
  EXPECT_EQ(Answer(kOfTheFuture), Refused(ENOSYS));
  for (const char* kill : {"SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"}) {
    rules_["defaultAction"] = kill;
    EXPECT_EQ(Answer(kOfTheFuture), Refused(ENOSYS)) << kill;
  }
  for (const auto& [lets, answer] :
       {std::pair{"SCMP_ACT_LOG", uint32_t{SECCOMP_RET_LOG}}, {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE | EPERM}}) {
    rules_["defaultAction"] = lets;
    EXPECT_EQ(Answer(kOfTheFuture), answer) << lets;
  }
  rules_ = {{"defaultAction", "SCMP_ACT_ERRNO"}};
  EXPECT_EQ(Answer(kOfTheFuture), Refused(EPERM));  // it names nothing, so nothing is newer
}

// With a balanced tree, as large profiles have it.
TEST_F(CompileSeccompTest, TheDefaultProfile) {
  Json golden =
      *ParseJson(*sys::ReadFile(std::string(CRISP_SOURCE_DIR) + "/tests/data/spec/seccomp-default.json"), "golden");
  rules_ = golden["config.json"]["linux"]["seccomp"];
  EXPECT_EQ(Answer(kRead), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(3, 0, AUDIT_ARCH_I386), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(kFchmodat2), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(kOfTheFuture), Refused(ENOSYS));
  EXPECT_EQ(Answer(kPersonality, 8), SECCOMP_RET_ALLOW);
  EXPECT_EQ(Answer(kPersonality, 0x0040000), Refused(EPERM));  // ADDR_NO_RANDOMIZE
  EXPECT_EQ(Answer(169), Refused(EPERM));                      // reboot
}

// Installs the program and makes the call. 0…254: its errno; 255: the kernel does not take the program.
[[noreturn]] void CallUnder(const std::string& program, long number) {
  sock_fprog filter{static_cast<unsigned short>(program.size() / sizeof(sock_filter)),
                    reinterpret_cast<sock_filter*>(const_cast<char*>(program.data()))};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) _exit(255);
  errno = 0;
  syscall(number, -1, "x", 0, 0);
  _exit(errno);
}

int ErrnoUnder(const std::string& program, long number) {
  pid_t child = fork();
  if (child == 0) CallUnder(program, number);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(CompileSeccompTest, TheKernelTakesIt) {
  Json golden = *ParseJson(*sys::ReadFile(std::string(CRISP_SOURCE_DIR) + "/tests/data/spec/seccomp-default.json"), "golden");
  std::string program = CompileSeccomp(DumpJson(golden["config.json"]["linux"]["seccomp"]))->program;
  EXPECT_THAT(ErrnoUnder(program, kFchmodat2), testing::AnyOf(EBADF, ENOSYS));  // ENOSYS: before Linux 6.6
  EXPECT_EQ(ErrnoUnder(program, kOfTheFuture), ENOSYS);
  EXPECT_EQ(ErrnoUnder(program, SYS_swapoff), EPERM);
}

TEST_F(CompileSeccompTest, Flags) {
  EXPECT_EQ(CompileSeccomp(DumpJson(rules_))->flags, 4u);  // SPEC_ALLOW where nothing is said
  rules_["flags"] = Json::array();
  EXPECT_EQ(CompileSeccomp(DumpJson(rules_))->flags, 0u);
  rules_["flags"] = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"};
  EXPECT_EQ(CompileSeccomp(DumpJson(rules_))->flags, 6u);
  rules_["flags"] = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  EXPECT_EQ(CompileSeccomp(DumpJson(rules_))->flags, 0u);  // nothing is received
  rules_["flags"] = {"SECCOMP_FILTER_FLAG_X"};
  EXPECT_THAT(Refusal(), HasSubstr("SECCOMP_FILTER_FLAG_X"));
}

TEST_F(CompileSeccompTest, Listener) {
  rules_["listenerPath"] = "/run/agent";
  EXPECT_EQ(CompileSeccomp(DumpJson(rules_))->listener_path, "");  // config-linux.md: ignored where nothing notifies
  rules_["syscalls"] = Json::array({Rule({"mount"}, "SCMP_ACT_NOTIFY")});
  rules_["listenerMetadata"] = "m";
  rules_["flags"] = {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  Seccomp seccomp = *CompileSeccomp(DumpJson(rules_));
  EXPECT_EQ(seccomp.listener_path, "/run/agent");
  EXPECT_EQ(seccomp.listener_metadata, "m");
  EXPECT_EQ(seccomp.flags, 32u);
  EXPECT_EQ(Answer(165), SECCOMP_RET_USER_NOTIF);
  rules_["syscalls"][0]["names"] = {"sendmsg"};
  EXPECT_THAT(Refusal(), HasSubstr("sendmsg"));
  rules_.erase("listenerPath");
  EXPECT_THAT(Refusal(), HasSubstr("listenerMetadata"));
  rules_.erase("listenerMetadata");
  rules_["syscalls"][0]["names"] = {"mount"};
  EXPECT_THAT(Refusal(), HasSubstr("without listenerPath"));
  rules_["defaultAction"] = "SCMP_ACT_NOTIFY";
  EXPECT_THAT(Refusal(), HasSubstr("defaultAction"));
}

TEST_F(CompileSeccompTest, Refusals) {
  auto refusal = [&](const char* member, Json value) {
    Json kept = rules_;
    rules_[member] = std::move(value);
    std::string text = Refusal();
    rules_ = std::move(kept);
    return text;
  };
  EXPECT_THAT(refusal("defaultAction", "SCMP_ACT_NOTHING"), HasSubstr("linux.seccomp: defaultAction"));
  EXPECT_THAT(refusal("defaultAction", nullptr), HasSubstr("linux.seccomp: defaultAction"));
  EXPECT_THAT(refusal("defaultErrnoRet", 4096), HasSubstr("linux.seccomp.defaultErrnoRet"));
  EXPECT_THAT(refusal("architectures", {"SCMP_ARCH_Z80"}), HasSubstr("SCMP_ARCH_Z80"));
  EXPECT_THAT(refusal("architectures", {"X86"}), HasSubstr("architectures"));
  Json rule = Rule({"read"}, "SCMP_ACT_ALLOW");
  rule["errnoRet"] = 1;
  EXPECT_THAT(refusal("syscalls", Json::array({rule})), HasSubstr("linux.seccomp.syscalls[0].errnoRet"));
  EXPECT_THAT(refusal("syscalls", Json::array({Rule({}, "SCMP_ACT_ALLOW")})),
              HasSubstr("linux.seccomp.syscalls[0]: no names"));
  EXPECT_THAT(refusal("syscalls", Json::array({Rule({"read"}, "ALLOW")})),
              HasSubstr("linux.seccomp.syscalls[0]: action"));
  rule = Rule({"read"}, "SCMP_ACT_ALLOW");
  rule["args"] = Json::array({{{"index", 6}, {"op", "SCMP_CMP_EQ"}}});
  EXPECT_THAT(refusal("syscalls", Json::array({rule})), HasSubstr("linux.seccomp.syscalls[0].args[0]: index"));
  rule["args"] = Json::array({{{"index", 0}, {"op", "=="}}});
  EXPECT_THAT(refusal("syscalls", Json::array({rule})), HasSubstr("linux.seccomp.syscalls[0].args[0]: op"));
  EXPECT_FALSE(CompileSeccomp("null"));  // never no filter for what is not understood
  EXPECT_FALSE(CompileSeccomp("[]"));
  Json config = MinimalConfig();
  config["linux"]["seccomp"] = "none";
  EXPECT_FALSE(CompileJson(config));
  config["linux"]["seccomp"] = Json::object();
  EXPECT_FALSE(CompileJson(config));
}

TEST_F(CompileSeccompTest, EqualRulesGiveEqualPrograms) {
  rules_["syscalls"] = Json::array({Rule({"read"}, "SCMP_ACT_ALLOW")});
  Seccomp first = *CompileSeccomp(DumpJson(rules_));
  EXPECT_GT(first.program.size(), 3 * sizeof(sock_filter));
  EXPECT_EQ(CompileSeccomp(DumpJson(rules_))->program, first.program);
  // More than are kept.
  for (int i = 1; i <= 40; ++i) {
    rules_["defaultErrnoRet"] = i;
    EXPECT_EQ(Answer(kRead), SECCOMP_RET_ALLOW);
    EXPECT_EQ(Answer(1000), Refused(ENOSYS));
  }
  rules_.erase("defaultErrnoRet");
  EXPECT_EQ(CompileSeccomp(DumpJson(rules_))->program, first.program);
}

}  // namespace
}  // namespace crisp::native
