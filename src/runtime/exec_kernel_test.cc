// Execs whose output is wanted, with the real runc and crun.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <future>

#include "runtime/kernel_fixture.h"
#include "runtime/runtime.h"
#include "runtime/testing.h"
#include "sys/file.h"

namespace crisp::runtime {
namespace {

using std::chrono::seconds;
using testing::RuntimeKernelTest;

class ExecKernelTest : public RuntimeKernelTest {};

INSTANTIATE_TEST_SUITE_P(Handlers, ExecKernelTest, ::testing::Values("runc", "crun"),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST_P(ExecKernelTest, ExecGivesOutputAndCode) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  Result<ExecSyncResult> result = ExecSync(pod, id, {"sh", "-c", "echo out; echo err >&2; exit 7"}, seconds(20));
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->out, "out\n");
  EXPECT_EQ(result->err, "err\n");
  EXPECT_EQ(result->exit_code, 7);
  // Only 0, 1, 2 and the descriptor that ls itself reads the directory with (row S31).
  result = ExecSync(pod, id, {"sh", "-c", "ls /proc/self/fd; ls /proc/1/fd"});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->out, "0\n1\n2\n3\n0\n1\n2\n");
  result = ExecSync(pod, id, {"/no/such/program"}, seconds(20));
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message().find("/no/such/program"), std::string::npos) << result.error().message();
  result = ExecSync(pod, ContainerId::Random(), {"true"});
  EXPECT_FALSE(result);
  EXPECT_TRUE(ExecCgroupsVanish(id));
}

TEST_P(ExecKernelTest, ExecOutputIsCapped) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  Result<ExecSyncResult> result =
      ExecSync(pod, id, {"sh", "-c", "head -c 3000000 /dev/zero; echo end >&2"}, seconds(20), 1000);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->out.size(), 1000u);
  EXPECT_EQ(result->err, "end\n");
}

TEST_P(ExecKernelTest, ExecTimeoutKillsItsWholeTreeAndNothingElse) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sh", "-c", "sleep 1000 & sleep 1000"});
  ASSERT_EQ(WaitForProcesses(id, 2), 2u);
  std::vector<pid_t> before = ProcessesOf(id);
  Result<ExecSyncResult> result = ExecSync(
      pod, id, {"sh", "-c", "setsid sleep 1001 & (setsid sh -c 'sleep 1002 & sleep 1003' &) ; sleep 1004"}, seconds(1));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Code::kDeadlineExceeded) << result.error().message();
  EXPECT_EQ(ProcessesOf(id), before);
  EXPECT_EQ(ExecCgroups(id), 0u);
  for (pid_t pid : before) EXPECT_TRUE(testing::IsAlive(pid));
  EXPECT_FALSE(recorder_.HasExit(id));
}

TEST_P(ExecKernelTest, ExecOfACallerThatGoesAwayIsKilled) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  std::stop_source stop;
  auto exec = std::async(std::launch::async, [&] {
    return runtime_->ExecSync(Ctx(Clock::time_point::max(), stop.get_token(), ""), pod, id, handler(),
                              Exec({"sh", "-c", "sleep 1000"}), seconds(0), 1000);
  });
  EXPECT_EQ(WaitForProcesses(id, 2), 2u);
  stop.request_stop();
  Result<ExecSyncResult> result = exec.get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Code::kCancelled);
  EXPECT_EQ(ProcessesOf(id).size(), 1u);
}

TEST_P(ExecKernelTest, ExecMayLeaveADaemon) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  Result<ExecSyncResult> result =
      ExecSync(pod, id, {"sh", "-c", "(sleep 1000 &) ; (echo late &) ; echo now"}, seconds(20));
  ASSERT_TRUE(result);
  EXPECT_NE(result->out.find("now\n"), std::string::npos);
  EXPECT_NE(result->out.find("late\n"), std::string::npos);
  EXPECT_EQ(ProcessesOf(id).size(), 2u);
  ASSERT_TRUE(runtime_->DeleteContainer(Ctx(), pod, id, handler(), ""));
  EXPECT_TRUE(ProcessesOf(id).empty());
  EXPECT_FALSE(sys::Exists(ground_.CgroupDir("freezer", id)));
}

TEST_P(ExecKernelTest, ExecsLeaveNothing) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  pid_t shim = namespaces_.shim_pid;
  auto storm = [&](int count) {
    std::vector<std::future<void>> workers;
    for (int worker = 0; worker < 4; ++worker) {
      workers.push_back(std::async(std::launch::async, [&, count] {
        for (int i = 0; i < count / 4; ++i) {
          Result<ExecSyncResult> result = ExecSync(pod, id, {"echo", "x"}, seconds(60));
          ASSERT_TRUE(result) << result.error().message();
          ASSERT_EQ(result->out, "x\n");
        }
      }));
    }
    for (auto& worker : workers) worker.get();
  };
  storm(8);
  size_t fds = testing::CountFds(shim), own_fds = testing::CountFds(getpid());
  const char* scale = getenv("CRISP_TEST_EXECS");
  storm(scale != nullptr ? atoi(scale) : 200);
  EXPECT_EQ(testing::CountFds(shim), fds);
  EXPECT_EQ(testing::CountFds(getpid()), own_fds);
  EXPECT_EQ(testing::ChildrenOf(shim).size(), 1u);
  EXPECT_EQ(ProcessesOf(id).size(), 1u);
  EXPECT_TRUE(ExecCgroupsVanish(id));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(RunDir(pod) + "/tmp"), {}), 0);
}

}  // namespace
}  // namespace crisp::runtime
