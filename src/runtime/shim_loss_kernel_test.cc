// Shims that outlive crispd, die, hang, or whose runtime hangs; with the real runc and crun.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <fstream>
#include <future>

#include "base/strings.h"
#include "runtime/kernel_fixture.h"
#include "runtime/runtime.h"
#include "runtime/testing.h"
#include "sys/file.h"

namespace crisp::runtime {
namespace {

using std::chrono::milliseconds;
using testing::Recorder;
using testing::RuntimeKernelTest;

class ShimLossKernelTest : public RuntimeKernelTest {};

INSTANTIATE_TEST_SUITE_P(Handlers, ShimLossKernelTest, ::testing::Values("runc", "crun"),
                         [](const auto& param_info) { return std::string(param_info.param); });

// crispd is killed: its connection closes. The pod goes on; the next crispd finds it and what has happened meanwhile.
TEST_P(ShimLossKernelTest, SurvivesTheDaemon) {
  PodId pod = StartPod();
  ContainerId stays = MustStart(pod, {"sh", "-c", "sleep 1000"});
  ContainerSpec spec = Spec({"sh", "-c", "cat; exit 9"});
  spec.stdin_open = true;
  ASSERT_TRUE(Start(pod, spec));
  pid_t ends_pid = ProcessesOf(spec.id).front();
  PodNamespaces before = namespaces_;
  runtime_.reset();
  kill(ends_pid, SIGTERM);  // blocked by nothing: PID 1 inside, but no handler, so only SIGKILL counts
  kill(ends_pid, SIGKILL);
  Recorder recorder;
  runtime_ = MakeRuntime(recorder);
  Result<PodNamespaces> again = runtime_->ReconnectPod(Ctx(), pod, RunDir(pod));
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->shim_pid, before.shim_pid);
  EXPECT_EQ(again->ipc, before.ipc);
  std::optional<ContainerExit> exit = recorder.WaitExit(spec.id);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 137);
  EXPECT_FALSE(recorder.HasExit(stays));
  Result<ExecSyncResult> exec = ExecSync(pod, stays, {"echo", "alive"});
  ASSERT_TRUE(exec) << exec.error().message();
  EXPECT_EQ(exec->out, "alive\n");
  ASSERT_TRUE(runtime_->Signal(Ctx(), pod, stays, SIGKILL));
  EXPECT_TRUE(recorder.WaitExit(stays));
  ASSERT_TRUE(runtime_->StopPod(Ctx(), pod, RunDir(pod)));
  EXPECT_FALSE(recorder.Lost(pod));
  Result<PodNamespaces> gone = runtime_->ReconnectPod(Ctx(), pod, RunDir(pod));
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), Code::kNotFound);
}

TEST_P(ShimLossKernelTest, ShimThatDiesIsReported) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  kill(namespaces_.shim_pid, SIGKILL);
  ASSERT_TRUE(recorder_.WaitLost(pod));
  EXPECT_EQ(ProcessesOf(id).size(), 1u) << "an OCI container outlives its shim; its cgroup is the pod module's to kill";
  Result<> signalled = runtime_->Signal(Ctx(), pod, id, SIGKILL);
  ASSERT_FALSE(signalled);
  EXPECT_EQ(signalled.error().code(), Code::kUnavailable);
  EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pod, id, handler(), ""));
  EXPECT_TRUE(ProcessesOf(id).empty());
}

TEST_P(ShimLossKernelTest, HungShimIsEndedByForce) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  pid_t shim = namespaces_.shim_pid;
  kill(shim, SIGSTOP);
  Result<> reopened = runtime_->ReopenLog(Ctx().WithTimeout(milliseconds(50)), pod, id);
  ASSERT_FALSE(reopened);
  EXPECT_EQ(reopened.error().code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(runtime_->StopPod(Ctx(), pod, RunDir(pod)));
  EXPECT_FALSE(testing::IsAlive(shim));
  EXPECT_TRUE(ProcessesOf(id).empty());
  EXPECT_FALSE(recorder_.Lost(pod));
  EXPECT_TRUE(runtime_->StopPod(Ctx(), pod, RunDir(pod))) << "gone is success";
}

TEST_P(ShimLossKernelTest, HungShimOfAnEarlierDaemonIsEndedByForce) {
  PodId pod = StartPod();
  pid_t shim = namespaces_.shim_pid;
  runtime_.reset();
  kill(shim, SIGSTOP);
  Recorder recorder;
  runtime_ = MakeRuntime(recorder);
  Result<PodNamespaces> again = runtime_->ReconnectPod(Ctx(), pod, RunDir(pod));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kDeadlineExceeded);
  EXPECT_TRUE(runtime_->StopPod(Ctx(), pod, RunDir(pod)));
  EXPECT_FALSE(testing::IsAlive(shim));
}

TEST_P(ShimLossKernelTest, HungRuntimeIsKilledAtTheDeadline) {
  PodId pod = StartPod();
  // A hook that never ends keeps the runtime from finishing.
  ContainerSpec spec = Spec({"true"}, [](Json& config) {
    config["hooks"]["createRuntime"] = Json::array({{{"path", "/bin/sh"}, {"args", {"sh", "-c", "sleep 1000"}}}});
  });
  Result<Started> started = runtime_->StartContainer(Ctx().WithTimeout(milliseconds(500)), pod, spec);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code(), Code::kDeadlineExceeded) << started.error().message();
  EXPECT_EQ(WaitForProcesses(spec.id, 0), 0u);
  // The hook itself, orphaned, came to the shim.
  for (const std::string& child : testing::ChildrenOf(namespaces_.shim_pid)) {
    EXPECT_EQ(child.find(" Z"), std::string::npos) << child;
    if (std::optional<pid_t> pid = ParseInt<pid_t>(SplitWords(child)[0])) kill(*pid, SIGKILL);
  }
}

// A start may go on when the crispd that asked for it is gone; the next one deletes the container before it starts it
// again.
TEST_P(ShimLossKernelTest, DeleteEndsAStartFirst) {
  PodId pod = StartPod();
  const std::string dir = ground_.dir();
  // Its `run` leaves something once a `delete` has looked for it.
  std::ofstream(dir + "/runtime") << "#!/bin/sh\ncd " << dir << R"sh(
case "$*" in
*" run "*)
  echo $$ > runner.tmp && mv runner.tmp runner
  until [ -e looked ]; do sleep 0.01; done
  mkdir half-made
  exec sleep 1000 ;;
*" delete "*)
  [ -e looked ] && exit 0
  : > looked
  while kill -0 "$(cat runner)" 2>/dev/null && [ ! -d half-made ]; do sleep 0.01; done ;;
esac
)sh";
  ASSERT_EQ(chmod((dir + "/runtime").c_str(), 0755), 0);
  ContainerSpec spec = Spec({"true"});
  spec.handler = "scripted";
  auto start = std::async(std::launch::async, [&] { return Start(pod, spec); });
  for (int i = 0; i < 1000 && !sys::Exists(dir + "/runner"); ++i) poll(nullptr, 0, 10);
  Result<> deleted = runtime_->DeleteContainer(Ctx(), pod, spec.id, "scripted", "");
  EXPECT_TRUE(deleted) << deleted.error().message();
  EXPECT_FALSE(start.get());
  EXPECT_FALSE(sys::Exists(dir + "/half-made")) << "the next start would find the id in use";
}

// --force costs 100 ms with runc 1.5, whatever the container's state.
TEST_P(ShimLossKernelTest, DeleteForcesOnlyWhatHasNotEnded) {
  PodId pod = StartPod();
  const std::string dir = ground_.dir();
  std::ofstream(dir + "/runtime") << "#!/bin/sh\ncd " << dir << R"sh(
case "$*" in
*" delete --force "*) echo forced >> calls ;;
*" delete "*)
  echo plain >> calls
  [ ! -e running ] || { echo "cannot delete container that is not stopped: running" >&2; exit 1; } ;;
esac
)sh";
  ASSERT_EQ(chmod((dir + "/runtime").c_str(), 0755), 0);
  ContainerSpec spec = Spec({"true"});
  ASSERT_TRUE(runtime_->DeleteContainer(Ctx(), pod, spec.id, "scripted", ""));
  EXPECT_EQ(sys::ReadFile(dir + "/calls").value(), "plain\n");
  std::ofstream(dir + "/running") << "";
  ASSERT_TRUE(runtime_->DeleteContainer(Ctx(), pod, spec.id, "scripted", ""));
  EXPECT_EQ(sys::ReadFile(dir + "/calls").value(), "plain\nplain\nforced\n");
}

}  // namespace
}  // namespace crisp::runtime
