// With the real runc and crun. Each test has its own pod.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "base/strings.h"
#include "runtime/runtime.h"
#include "runtime/testing.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Playground;

constexpr seconds kLong{30};

// Collects events; what a test waits for it waits for here.
class Recorder {
 public:
  Events Callbacks() {
    Events events;
    events.on_exit = [this](const PodId&, const ContainerId& id, const ContainerExit& exit) {
      std::lock_guard lock(lock_);
      exits_[id] = exit;
      changed_.notify_all();
    };
    events.on_shim_lost = [this](const PodId& pod) {
      std::lock_guard lock(lock_);
      lost_.insert(pod);
      changed_.notify_all();
    };
    return events;
  }
  std::optional<ContainerExit> WaitExit(const ContainerId& id) {
    std::unique_lock lock(lock_);
    if (!changed_.wait_for(lock, kLong, [&] { return exits_.contains(id); })) return std::nullopt;
    return exits_[id];
  }
  bool HasExit(const ContainerId& id) {
    std::lock_guard lock(lock_);
    return exits_.contains(id);
  }
  bool WaitLost(const PodId& pod) {
    std::unique_lock lock(lock_);
    return changed_.wait_for(lock, kLong, [&] { return lost_.contains(pod); });
  }
  bool Lost(const PodId& pod) {
    std::lock_guard lock(lock_);
    return lost_.contains(pod);
  }

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::map<ContainerId, ContainerExit> exits_;
  std::set<PodId> lost_;
};

class RuntimeKernelTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    runtime_ = MakeRuntime(recorder_);
  }
  void TearDown() override {
    for (const PodId& pod : pods_) EXPECT_TRUE(runtime_->StopPod(Ctx(), pod, RunDir(pod)));
    for (const ContainerId& id : containers_) EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pods_.front(), id, handler()));
  }

  std::unique_ptr<Runtime> MakeRuntime(Recorder& recorder) {
    Runtime::Options options;
    options.shim_binary = CRISP_SHIM_BINARY;
    options.handlers = {{.name = "runc", .type = "oci", .binary = "runc", .root_dir = ground_.dir() + "/state/runc"},
                        {.name = "crun", .type = "oci", .binary = "crun", .root_dir = ground_.dir() + "/state/crun"}};
    options.events = recorder.Callbacks();
    return Runtime::Make(options).value();
  }
  std::string handler() const { return GetParam(); }
  std::string RunDir(const PodId& pod) const { return ground_.dir() + "/pods/" + pod.str(); }
  PodId StartPod(const std::function<void(PodSpec&)>& adjust = nullptr) {
    PodSpec spec;
    spec.pod = PodId::Random();
    spec.run_dir = RunDir(spec.pod);
    spec.hostname = "crisp-test";
    if (adjust) adjust(spec);
    EXPECT_TRUE(sys::MakeDir(spec.run_dir, 0700));
    Result<PodNamespaces> namespaces = runtime_->StartPod(Ctx(), spec);
    EXPECT_TRUE(namespaces) << namespaces.error().message();
    if (namespaces) namespaces_ = *namespaces;
    pods_.push_back(spec.pod);
    return spec.pod;
  }
  ContainerSpec Spec(const std::vector<std::string>& command, const std::function<void(Json&)>& adjust = nullptr) {
    ContainerSpec spec;
    spec.id = ContainerId::Random();
    spec.handler = handler();
    spec.bundle_dir = ground_.MakeBundle(spec.id, command, adjust);
    spec.log_path = ground_.dir() + "/" + spec.id.str() + ".log";
    containers_.push_back(spec.id);
    return spec;
  }
  Result<Started> Start(const PodId& pod, const ContainerSpec& spec) { return runtime_->StartContainer(Ctx(), pod, spec); }
  ContainerId MustStart(const PodId& pod, const std::vector<std::string>& command) {
    ContainerSpec spec = Spec(command);
    Result<Started> started = Start(pod, spec);
    EXPECT_TRUE(started) << started.error().message();
    return spec.id;
  }
  // The log's texts of one stream, partial ones joined.
  std::string Log(const ContainerId& id, std::string_view stream = "stdout", const std::string& suffix = ".log") {
    std::string joined;
    std::ifstream file(ground_.dir() + "/" + id.str() + suffix);
    for (std::string line; std::getline(file, line);) {
      std::vector<std::string_view> words = Split(line, ' ');
      if (words.size() < 4 || words[1] != stream) continue;
      size_t text = words[0].size() + words[1].size() + words[2].size() + 3;
      joined += line.substr(text);
      if (words[2] == "F") joined += '\n';
    }
    return joined;
  }
  ExecSpec Exec(const std::vector<std::string>& command) {
    ExecSpec spec;
    spec.cmd = command;
    spec.process_json = DumpJson(testing::Process(command));
    return spec;
  }
  Result<ExecSyncResult> ExecSync(const PodId& pod, const ContainerId& id, const std::vector<std::string>& command,
                                  seconds timeout = seconds(0), size_t bytes_max = 1 << 20) {
    return runtime_->ExecSync(Ctx(), pod, id, handler(), Exec(command), timeout, bytes_max);
  }
  std::vector<pid_t> ProcessesOf(const ContainerId& id) {
    std::vector<pid_t> pids;
    Result<std::string> text = sys::ReadFile(ground_.CgroupDir("pids", id) + "/cgroup.procs");
    if (text) {
      for (std::string_view line : Split(*text, '\n')) {
        if (std::optional<pid_t> pid = ParseInt<pid_t>(line)) pids.push_back(*pid);
      }
    }
    return pids;
  }

  Playground ground_;
  Recorder recorder_;
  std::unique_ptr<Runtime> runtime_;
  std::vector<PodId> pods_;
  std::vector<ContainerId> containers_;
  PodNamespaces namespaces_;
};

INSTANTIATE_TEST_SUITE_P(Handlers, RuntimeKernelTest, ::testing::Values("runc", "crun"),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST_P(RuntimeKernelTest, RunsToItsEndAndReportsIt) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sh", "-c", "echo out; echo err >&2; printf unfinished; exit 3"});
  std::optional<ContainerExit> exit = recorder_.WaitExit(id);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 3);
  EXPECT_EQ(exit->signal, 0);
  EXPECT_FALSE(exit->oom_killed);
  EXPECT_GT(exit->finished_at_unix_nanos, 1'600'000'000'000'000'000);
  EXPECT_EQ(Log(id), "out\nunfinished");
  EXPECT_EQ(Log(id, "stderr"), "err\n");
  Result<std::optional<ContainerExit>> file = Runtime::ReadExit(RunDir(pod), id);
  ASSERT_TRUE(file && file->has_value());
  EXPECT_EQ((*file)->code, 3);
  EXPECT_EQ((*file)->finished_at_unix_nanos, exit->finished_at_unix_nanos);
  EXPECT_FALSE(Runtime::ReadExit(RunDir(pod), ContainerId::Random())->has_value());
}

TEST_P(RuntimeKernelTest, SignalEndsIt) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  ASSERT_TRUE(runtime_->Signal(Ctx(), pod, id, SIGKILL));
  std::optional<ContainerExit> exit = recorder_.WaitExit(id);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 137);
  EXPECT_EQ(exit->signal, SIGKILL);
  EXPECT_TRUE(runtime_->Signal(Ctx(), pod, id, SIGTERM)) << "to an ended container";
  EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pod, id, handler()));
  EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pod, id, handler())) << "twice";
  EXPECT_TRUE(testing::ChildrenOf(namespaces_.shim_pid).empty());
}

TEST_P(RuntimeKernelTest, StartErrorsCarryTheRuntimesMessage) {
  PodId pod = StartPod();
  ContainerSpec spec = Spec({"/no/such/program"});
  Result<Started> started = Start(pod, spec);
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message().find("/no/such/program"), std::string::npos) << started.error().message();
  EXPECT_EQ(Log(spec.id), "");
  EXPECT_TRUE(ProcessesOf(spec.id).empty());
  EXPECT_TRUE(testing::ChildrenOf(namespaces_.shim_pid).empty());
  EXPECT_FALSE(recorder_.HasExit(spec.id));
  // The id can be used again.
  spec.bundle_dir = ground_.MakeBundle(spec.id, {"true"});
  EXPECT_TRUE(Start(pod, spec));
  EXPECT_TRUE(recorder_.WaitExit(spec.id));
}

}  // namespace
}  // namespace crisp::runtime
