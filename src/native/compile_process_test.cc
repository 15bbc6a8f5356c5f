#include <gmock/gmock.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/resource.h>

#include "native/testing/config.h"

namespace crisp::native {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Process ProcessWith(const char* member, Json value) {
  Json config = MinimalConfig();
  config["process"][member] = std::move(value);
  Result<Launch> launch = CompileJson(config);
  EXPECT_TRUE(launch) << launch.error().message();
  return launch ? launch->process : Process();
}

std::string RefusalWith(const char* member, Json value) {
  Json config = MinimalConfig();
  config["process"][member] = std::move(value);
  return Refusal(config);
}

TEST(CompileProcess, Program) {
  Json config = MinimalConfig();
  config["process"] = {{"args", {"a", "b"}}, {"cwd", "/w"}, {"env", {"A=1"}}};
  Process process = CompileJson(config)->process;
  EXPECT_THAT(process.args, ElementsAre("a", "b"));
  EXPECT_THAT(process.env, ElementsAre("A=1"));
  EXPECT_EQ(process.cwd, "/w");
  EXPECT_THAT(RefusalWith("cwd", "relative"), HasSubstr("process: cwd"));
  EXPECT_THAT(RefusalWith("args", Json::array()), HasSubstr("no args"));
  config.erase("process");
  EXPECT_THAT(Refusal(config), HasSubstr("process: missing"));
}

TEST(CompileProcess, WhatIsNotSaidStaysAsItIs) {
  Process process = CompileJson(MinimalConfig())->process;
  EXPECT_EQ(process.umask, -1);
  EXPECT_FALSE(process.set_oom_score_adj);
  EXPECT_EQ(process.ioprio, -1);
  EXPECT_FALSE(process.scheduler.set);
  EXPECT_EQ(process.personality, ~uint64_t{0});
  EXPECT_EQ(process.memory_policy, -1);
  EXPECT_EQ(process.bounding, 0u);
  EXPECT_EQ(process.seccomp.program, "");
}

TEST(CompileProcess, User) {
  Process process = ProcessWith("user", {{"uid", 1}, {"gid", 2}, {"additionalGids", {3, 4294967295u}}, {"umask", 63}});
  EXPECT_EQ(process.uid, 1u);
  EXPECT_EQ(process.gid, 2u);
  EXPECT_THAT(process.groups, ElementsAre(3, 4294967295u));
  EXPECT_EQ(process.umask, 077);
  EXPECT_THAT(RefusalWith("user", {{"uid", -1}}), HasSubstr("process.user: "));
  EXPECT_THAT(RefusalWith("user", {{"uid", 4294967296u}}), HasSubstr("process.user: uid"));
  EXPECT_THAT(RefusalWith("user", {{"additionalGids", {1, "2"}}}), HasSubstr("process.user.additionalGids[1]"));
}

TEST(CompileProcess, Capabilities) {
  Process process = ProcessWith("capabilities", {{"bounding", {"CAP_CHOWN", "CAP_SYS_ADMIN"}},
                                                 {"effective", {"CAP_CHOWN"}},
                                                 {"permitted", {"CAP_BPF"}},
                                                 {"inheritable", {"CAP_KILL"}},
                                                 {"ambient", {"CAP_SETUID"}}});
  EXPECT_EQ(process.bounding, uint64_t{1} | uint64_t{1} << 21);
  EXPECT_EQ(process.effective, 1u);
  EXPECT_EQ(process.permitted, uint64_t{1} << 39);
  EXPECT_EQ(process.inheritable, uint64_t{1} << 5);
  EXPECT_EQ(process.ambient, uint64_t{1} << 7);
  for (const char* bad : {"CAP_FLY", "CHOWN", "cap_chown", "0", "", "CAP_", "CAP_CHOWN,CAP_KILL", "CAP_CHOWN "}) {
    EXPECT_THAT(RefusalWith("capabilities", {{"effective", {bad}}}), HasSubstr("process.capabilities: effective"))
        << bad;
  }
}

TEST(CompileProcess, Limits) {
  Process process =
      ProcessWith("rlimits", {{{"type", "RLIMIT_NOFILE"}, {"soft", 10}, {"hard", 18446744073709551615u}}});
  ASSERT_EQ(process.rlimits.size(), 1u);
  EXPECT_EQ(process.rlimits[0].resource, uint32_t{RLIMIT_NOFILE});
  EXPECT_EQ(process.rlimits[0].hard, UINT64_MAX);
  EXPECT_THAT(RefusalWith("rlimits", Json::array({{{"type", "RLIMIT_X"}}})), HasSubstr("process.rlimits[0]"));
  Json twice = Json::array({{{"type", "RLIMIT_CPU"}}, {{"type", "RLIMIT_CPU"}}});
  EXPECT_THAT(RefusalWith("rlimits", twice), HasSubstr("process.rlimits[1]: RLIMIT_CPU is there twice"));
  process = ProcessWith("oomScoreAdj", -5);
  EXPECT_TRUE(process.set_oom_score_adj);
  EXPECT_EQ(process.oom_score_adj, -5);
  EXPECT_THAT(RefusalWith("oomScoreAdj", 1001), HasSubstr("oomScoreAdj 1001"));
}

TEST(CompileProcess, Labels) {
  EXPECT_EQ(ProcessWith("apparmorProfile", "p").apparmor_profile, "p");
  EXPECT_EQ(ProcessWith("selinuxLabel", "l").selinux_label, "l");
  EXPECT_TRUE(ProcessWith("noNewPrivileges", true).no_new_privileges);
}

TEST(CompileProcess, Priorities) {
  EXPECT_EQ(ProcessWith("ioPriority", {{"class", "IOPRIO_CLASS_BE"}, {"priority", 3}}).ioprio, 2 << 13 | 3);
  EXPECT_THAT(RefusalWith("ioPriority", {{"class", "IOPRIO_CLASS_BE"}, {"priority", 8}}), HasSubstr("priority 8"));
  EXPECT_THAT(RefusalWith("ioPriority", {{"class", "IOPRIO_CLASS_NONE"}}), HasSubstr("process.ioPriority: class"));
  Scheduler scheduler =
      ProcessWith("scheduler", {{"policy", "SCHED_BATCH"}, {"nice", 4}, {"flags", {"SCHED_FLAG_RESET_ON_FORK"}}})
          .scheduler;
  EXPECT_EQ(scheduler.policy, uint32_t{SCHED_BATCH});
  EXPECT_EQ(scheduler.nice, 4);
  EXPECT_EQ(scheduler.flags, 1u);
  scheduler = ProcessWith("scheduler", {{"policy", "SCHED_DEADLINE"}, {"runtime", 1}, {"deadline", 2}, {"period", 3}})
                  .scheduler;
  EXPECT_EQ(scheduler.period_nanos, 3u);
  EXPECT_THAT(RefusalWith("scheduler", {{"nice", 1}}), HasSubstr("process.scheduler: policy"));
  EXPECT_THAT(RefusalWith("scheduler", {{"policy", "SCHED_OTHER"}, {"priority", 1}}), HasSubstr("SCHED_FIFO"));
  EXPECT_THAT(RefusalWith("scheduler", {{"policy", "SCHED_OTHER"}, {"nice", 4294967296}}), HasSubstr("nice"));
  EXPECT_THAT(RefusalWith("scheduler", {{"policy", "SCHED_FIFO"}, {"runtime", 1}}), HasSubstr("SCHED_DEADLINE"));
  EXPECT_THAT(RefusalWith("scheduler", {{"policy", "SCHED_FIFO"}, {"flags", {"X"}}}), HasSubstr("flag"));
}

TEST(CompileProcess, Terminal) {
  Json config = MinimalConfig();
  config["process"]["consoleSize"] = {{"width", 80}, {"height", 25}};
  EXPECT_EQ(CompileJson(config)->process.width, 0);  // config.md: ignored without a terminal
  config["process"]["terminal"] = true;
  Process process = CompileJson(config)->process;
  EXPECT_TRUE(process.terminal);
  EXPECT_EQ(process.width, 80);
  EXPECT_EQ(process.height, 25);
  config["process"]["consoleSize"]["width"] = 65536;
  EXPECT_THAT(Refusal(config), HasSubstr("process.consoleSize"));
}

TEST(CompileProcess, PersonalityAndMemoryPolicy) {
  Json config = MinimalConfig();
  config["linux"]["personality"] = {{"domain", "LINUX32"}};
  config["linux"]["memoryPolicy"] = {
      {"mode", "MPOL_INTERLEAVE"}, {"nodes", "0,2-3"}, {"flags", {"MPOL_F_STATIC_NODES"}}};
  Process process = CompileJson(config)->process;
  EXPECT_EQ(process.personality, 8u);
  EXPECT_EQ(process.memory_policy, 3 | 1 << 15);
  EXPECT_EQ(process.memory_nodes, "\x0d");
  config["linux"]["personality"]["flags"] = {"ADDR_NO_RANDOMIZE"};
  EXPECT_THAT(Refusal(config), HasSubstr("UNIMPLEMENTED: linux.personality.flags"));
  config["linux"]["personality"] = {{"domain", "BSD"}};
  EXPECT_THAT(Refusal(config), HasSubstr("linux.personality: domain"));
  config["linux"].erase("personality");
  config["linux"]["memoryPolicy"] = {{"mode", "MPOL_BIND"}};
  EXPECT_THAT(Refusal(config), HasSubstr("MPOL_BIND needs nodes"));
  config["linux"]["memoryPolicy"] = {{"mode", "MPOL_LOCAL"}, {"nodes", "0"}};
  EXPECT_THAT(Refusal(config), HasSubstr("MPOL_LOCAL goes without nodes"));
  config["linux"]["memoryPolicy"] = {{"mode", "MPOL_DEFAULT"}, {"flags", {"X"}}};
  EXPECT_THAT(Refusal(config), HasSubstr("linux.memoryPolicy: flags"));
  config["linux"]["memoryPolicy"] = {{"mode", "MPOL"}};
  EXPECT_THAT(Refusal(config), HasSubstr("linux.memoryPolicy: mode"));
}

Result<ExecLaunch> Exec(const Json& process, Seccomp seccomp = {}) {
  std::string text = DumpJson(process);
  Launch launch;
  launch.new_namespaces = CLONE_NEWNS;
  launch.process.seccomp = std::move(seccomp);
  launch.process.personality = 8;
  launch.process.memory_policy = 2;
  return CompileExec({.process_json = text, .container = ExecTemplate(launch), .cgroup = {.v2_dir = "/cg"}});
}

TEST(CompileExec, Process) {
  Json process = {{"args", {"a"}}, {"cwd", "/"}, {"execCPUAffinity", {{"initial", "1"}, {"final", "0-2, 9"}}}};
  ExecLaunch exec = *Exec(process, {.program = "12345678", .flags = 4});
  EXPECT_EQ(exec.namespaces, uint64_t{CLONE_NEWNS});
  EXPECT_EQ(exec.cgroup.v2_dir, "/cg");
  EXPECT_EQ(exec.process.seccomp.program, "12345678");
  EXPECT_EQ(exec.process.personality, 8u);
  EXPECT_EQ(exec.process.memory_policy, 2);
  EXPECT_EQ(exec.process.initial_affinity, "\x02");
  EXPECT_EQ(exec.process.final_affinity, std::string("\x07\x02", 2));
  // config.md: not for the container's own process.
  EXPECT_EQ(ProcessWith("execCPUAffinity", process["execCPUAffinity"]).final_affinity, "");
  for (const char* bad : {"a", "3-1", "1-", "9000", "1,,2", "-1"}) {
    process["execCPUAffinity"]["final"] = bad;
    EXPECT_FALSE(Exec(process)) << bad;
  }
}

TEST(CompileExec, WithACommandItIsWhatItsJsonSays) {
  Json process = {{"args", {"own"}},
                  {"cwd", "/here"},
                  {"env", {"A=b"}},
                  {"terminal", true},
                  {"consoleSize", {{"width", 80}, {"height", 24}}},
                  {"user", {{"uid", 7}, {"gid", 8}, {"additionalGids", {9}}}},
                  {"noNewPrivileges", true},
                  {"oomScoreAdj", 100},
                  {"execCPUAffinity", {{"final", "0"}}},
                  {"capabilities", {{"bounding", {"CAP_KILL"}}}}};
  process = ParseJson(DumpJson(process), "process").value();  // unsigned numbers, as texts have them
  Launch launch;
  launch.new_namespaces = CLONE_NEWNS;
  launch.process.seccomp.program = "12345678";
  EXPECT_FALSE(HasProcess(ExecTemplate(launch)));
  ExecLaunch container = *ExecTemplate(launch, {{"process", process}});
  ASSERT_TRUE(HasProcess(container));
  for (bool terminal : {false, true}) {
    ExecLaunch exec = *WithCommand(container, {{"a", "b"}, terminal, {.v2_dir = "/cg"}});
    process["args"] = {"a", "b"};
    process["terminal"] = terminal;
    process.erase("consoleSize");
    process["env"] = terminal ? Json{"A=b", "TERM=xterm"} : Json{"A=b"};
    std::string text = DumpJson(process);
    ExecLaunch same =
        *CompileExec({.process_json = text, .container = ExecTemplate(launch), .cgroup = {.v2_dir = "/cg"}});
    EXPECT_EQ(*Encode(exec), *Encode(same)) << terminal;
  }
  container.process.env = {"TERM=vt100"};
  EXPECT_THAT(WithCommand(container, {{"a"}, true, {}})->process.env, testing::ElementsAre("TERM=vt100"));
  container.process.seccomp.listener_path = "/s";
  EXPECT_EQ(WithCommand(container, {{"a"}, false, {}}).error().code(), Code::kUnimplemented);
}

TEST(CompileExec, Refusals) {
  EXPECT_FALSE(CompileExec({.process_json = "[]"}));
  EXPECT_THAT(Exec({{"args", {"a"}}}).error().message(), HasSubstr("process: cwd"));
  Result<ExecLaunch> listening = Exec({{"args", {"a"}}, {"cwd", "/"}}, {.listener_path = "/s"});
  EXPECT_EQ(listening.error().code(), Code::kUnimplemented);
}

}  // namespace
}  // namespace crisp::native
