// A start of the native handler that is begun before it is asked for: it becomes the container, or nothing of it stays.
#include <gmock/gmock.h>

#include "base/json.h"
#include "runtime/kernel_fixture.h"

namespace crisp::runtime::testing {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class BegunStartTest : public RuntimeKernelTest {
 protected:
  void SetUp() override {
    RuntimeKernelTest::SetUp();
    pod_ = StartPod();
  }

  // In no cgroup: those are others' business. `adjust` may change the OCI config.
  ContainerSpec Native(const std::vector<std::string>& command, const std::function<void(Json&)>& adjust = nullptr) {
    ContainerSpec spec = Spec(command, adjust);
    Result<std::string> text = sys::ReadFile(spec.bundle_dir + "/config.json");
    spec.config = std::make_shared<const Json>(*ParseJson(*text, "config.json"));
    return spec;
  }
  void Prepare(ContainerSpec& spec, bool begun = true) {
    Result<PreparedStart> prepared = runtime_->PrepareStart(pod_, spec, [] { return Result<>(); });
    ASSERT_TRUE(prepared) << prepared.error().message();
    EXPECT_EQ(prepared->begun, begun);
    spec.launch = prepared->launch;
  }
  // Prepares it, and says who waits.
  pid_t Begin(ContainerSpec& spec) {
    Prepare(spec);
    std::vector<pid_t> children = Children();
    EXPECT_THAT(children, SizeIs(1));
    return children.at(0);
  }
  static void ExpectEnd(sys::BorrowedFd pidfd) {
    pollfd end{pidfd.get(), POLLIN, 0};
    EXPECT_EQ(poll(&end, 1, 20'000), 1) << "it lives on";
  }
  // Of the shim. Its answer to a later message comes when the ones before are done.
  std::vector<pid_t> Children() {
    EXPECT_TRUE(runtime_->ReopenLog(Ctx(), pod_, ContainerId::Random()).error().code() == Code::kNotFound);
    std::vector<pid_t> pids;
    for (const std::string& child : ChildrenOf(namespaces_.shim_pid)) pids.push_back(*ParseInt<pid_t>(SplitWords(child)[0]));
    return pids;
  }
  // What has failed is on its way out when that is told.
  void ExpectNoChildrenSoon() {
    const auto end = std::chrono::steady_clock::now() + kLong;
    while (!Children().empty() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    EXPECT_THAT(Children(), IsEmpty());
  }
  // Until its signals, which the shim has blocked, are free: its last step before it waits.
  static void AwaitWaiting(pid_t pid) {
    const auto end = std::chrono::steady_clock::now() + kLong;
    while (std::chrono::steady_clock::now() < end) {
      Result<std::string> status = sys::ReadFile(StrCat("/proc/", pid, "/status"));
      if (!status || !IsAlive(pid)) break;
      if (status->find("SigBlk:\t0000000000000000\n") != std::string::npos) return;
      std::this_thread::yield();
    }
    ADD_FAILURE() << "process " << pid << " does not wait";
  }

  PodId pod_ = PodId::Random();
};

INSTANTIATE_TEST_SUITE_P(Handler, BegunStartTest, ::testing::Values("native"));

TEST_P(BegunStartTest, BecomesTheContainer) {
  ContainerSpec spec = Native({"sh", "-c", "echo out; echo err >&2; read line; echo \"$line.\"; exit 3"});
  spec.stdin_open = true;
  const pid_t waiting = Begin(spec);
  AwaitWaiting(waiting);
  EXPECT_EQ(Log(spec.id), "") << "not before it is started";
  EXPECT_FALSE(sys::Exists(spec.log_path));
  Result<Started> started = Start(pod_, spec);
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_EQ(started->pid, waiting);
  StreamWants wants;
  wants.in = true;
  auto attached = runtime_->OpenAttach(Ctx(), pod_, spec.id, wants);
  ASSERT_TRUE(attached) << attached.error().message();
  StreamFds fds = (*attached)->TakeFds();
  EXPECT_EQ(write(fds.in.get(), "word\n", 5), 5);
  auto exit = recorder_.WaitExit(spec.id);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 3);
  EXPECT_EQ(Log(spec.id), "out\nword.\n");
  EXPECT_EQ(Log(spec.id, "stderr"), "err\n");
  EXPECT_THAT(Children(), IsEmpty());
}

TEST_P(BegunStartTest, WaitsWithoutPrivileges) {
  ContainerSpec spec = Native({"sleep", "1000"}, [](Json& config) {
    config["process"]["user"] = {{"uid", 1000}, {"gid", 1000}};
    config["process"]["capabilities"] = Json::object();
  });
  const pid_t waiting = Begin(spec);
  AwaitWaiting(waiting);
  Result<std::string> status = sys::ReadFile(StrCat("/proc/", waiting, "/status"));
  ASSERT_TRUE(status);
  EXPECT_THAT(*status, HasSubstr("Uid:\t1000\t1000\t1000\t1000\n"));
  EXPECT_THAT(*status, HasSubstr("CapPrm:\t0000000000000000\n"));
  struct stat mem{};
  ASSERT_EQ(stat(StrCat("/proc/", waiting, "/mem").c_str(), &mem), 0);
  EXPECT_EQ(mem.st_uid, 0u) << "nobody of its user looks into it";
  EXPECT_TRUE(Start(pod_, spec)) << "though its signal for a dead parent went with its ids";
}

TEST_P(BegunStartTest, EndsWhereItIsNotWanted) {
  ContainerSpec spec = Native({"echo", "ran"});
  Begin(spec);
  ASSERT_TRUE(runtime_->EndBegun(Ctx(), pod_, spec.id));
  EXPECT_THAT(Children(), IsEmpty()) << "ended, and reaped";
  ASSERT_TRUE(runtime_->EndBegun(Ctx(), pod_, spec.id)) << "nothing to do";
  // It can be begun again, and started.
  ASSERT_NO_FATAL_FAILURE(Prepare(spec));
  ASSERT_TRUE(Start(pod_, spec));
  ASSERT_TRUE(recorder_.WaitExit(spec.id));
  EXPECT_EQ(Log(spec.id), "ran\n");
}

TEST_P(BegunStartTest, EndsWithThePodAndWithTheShim) {
  ContainerSpec spec = Native({"sleep", "1000"});
  const pid_t waiting = Begin(spec);
  ASSERT_TRUE(runtime_->StopPod(Ctx(), pod_, RunDir(pod_)));
  EXPECT_FALSE(IsAlive(waiting));

  pod_ = StartPod();
  spec = Native({"sleep", "1000"}, [](Json& config) { config["process"]["user"] = {{"uid", 1000}, {"gid", 1000}}; });
  const pid_t orphan = Begin(spec);
  AwaitWaiting(orphan);
  sys::UniqueFd pidfd = *sys::PidfdOpen(orphan);
  ASSERT_EQ(kill(namespaces_.shim_pid, SIGKILL), 0);
  ExpectEnd(pidfd);
  EXPECT_FALSE(sys::Exists(spec.log_path));
}

TEST_P(BegunStartTest, NotBeforeItsCgroupIsReady) {
  ContainerSpec spec = Native({"echo"});
  Result<PreparedStart> prepared = runtime_->PrepareStart(pod_, spec, [&]() -> Result<> {
    EXPECT_THAT(Children(), IsEmpty());
    return Error(Code::kInternal, "no limits");
  });
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().message(), "no limits");
  EXPECT_THAT(Children(), IsEmpty());
}

// A crispd that has ended: another one may want another launch.
TEST_P(BegunStartTest, EndsWithTheConnection) {
  ContainerSpec spec = Native({"sleep", "1000"});
  const pid_t waiting = Begin(spec);
  sys::UniqueFd pidfd = *sys::PidfdOpen(waiting);
  runtime_ = MakeRuntime(recorder_);
  ASSERT_TRUE(runtime_->ReconnectPod(Ctx(), pod_, RunDir(pod_)));
  ExpectEnd(pidfd);
  Result<Started> started = Start(pod_, spec);
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_NE(started->pid, waiting);
  EXPECT_THAT(Children(), SizeIs(1));
}

TEST_P(BegunStartTest, AnotherConnectionsIsNotTaken) {
  ContainerSpec spec = Native({"echo", "the first's"});
  const pid_t waiting = Begin(spec);
  Recorder recorder;
  std::unique_ptr<Runtime> other = MakeRuntime(recorder);
  ASSERT_TRUE(other->ReconnectPod(Ctx(), pod_, RunDir(pod_)));
  ContainerSpec theirs = spec;
  theirs.launch.clear();
  Json config = *spec.config;
  config["process"]["args"] = {"echo", "the other's"};
  theirs.config = std::make_shared<const Json>(config);
  Result<Started> started = other->StartContainer(Ctx(), pod_, theirs);
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_NE(started->pid, waiting);
  ASSERT_TRUE(recorder.WaitExit(spec.id));
  EXPECT_EQ(Log(spec.id), "the other's\n");
}

TEST_P(BegunStartTest, WhatHasNotBecomeOfItTheStartDoes) {
  ContainerSpec spec = Native({"echo", "ran"});
  const pid_t waiting = Begin(spec);
  AwaitWaiting(waiting);
  sys::UniqueFd pidfd = *sys::PidfdOpen(waiting);
  ASSERT_EQ(kill(waiting, SIGKILL), 0);
  ExpectEnd(pidfd);
  Result<Started> started = Start(pod_, spec);
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_NE(started->pid, waiting);
  ASSERT_TRUE(recorder_.WaitExit(spec.id));
  EXPECT_EQ(Log(spec.id), "ran\n");
  EXPECT_THAT(Children(), IsEmpty());
}

TEST_P(BegunStartTest, TheStartSaysWhatIsWrong) {
  ContainerSpec missing = Native({"nosuchprogram"});
  ASSERT_NO_FATAL_FAILURE(Prepare(missing));
  Result<Started> started = Start(pod_, missing);
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message(), HasSubstr("\"nosuchprogram\": executable file not found in $PATH"));

  ContainerSpec broken = Native({"echo"}, [](Json& config) {
    config["mounts"].push_back({{"destination", "/tmp"}, {"type", "bind"}, {"source", "/no/such/source"}, {"options", {"bind"}}});
  });
  ASSERT_NO_FATAL_FAILURE(Prepare(broken));
  started = Start(pod_, broken);
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message(), HasSubstr("/no/such/source"));

  // A program that the kernel refuses only when it is asked for.
  ContainerSpec refused = Native({"/bin/text"});
  std::ofstream(ground_.dir() + "/rootfs/bin/text") << "no program\n";
  ASSERT_EQ(chmod((ground_.dir() + "/rootfs/bin/text").c_str(), 0755), 0);
  ASSERT_NO_FATAL_FAILURE(Prepare(refused));
  for (pid_t pid : Children()) AwaitWaiting(pid);
  started = Start(pod_, refused);
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message(), HasSubstr("exec format error"));
  ExpectNoChildrenSoon();
}

TEST_P(BegunStartTest, NotWhereOthersSeeItWaitOrHooksAreRun) {
  ContainerSpec seen = Native({"echo"}, [](Json& config) {
    for (Json& ns : config["linux"]["namespaces"]) {
      if (ns["type"] == "pid") ns["path"] = StrCat("/proc/", getpid(), "/ns/pid");
    }
  });
  Prepare(seen, false);
  ContainerSpec hooked = Native({"echo"}, [](Json& config) {
    config["hooks"]["createRuntime"] = {{{"path", "/bin/true"}}};
  });
  Prepare(hooked, false);
  EXPECT_THAT(Children(), IsEmpty());
}

TEST_P(BegunStartTest, Terminal) {
  ContainerSpec spec = Native({"ls", "-l", "/proc/self/fd/0"}, [](Json& config) { config["process"]["terminal"] = true; });
  spec.terminal = true;
  const pid_t waiting = Begin(spec);
  AwaitWaiting(waiting);
  Result<Started> started = Start(pod_, spec);
  ASSERT_TRUE(started) << started.error().message();
  EXPECT_EQ(started->pid, waiting);
  ASSERT_TRUE(recorder_.WaitExit(spec.id));
  EXPECT_THAT(Log(spec.id), HasSubstr("/dev/pts/0"));
}

}  // namespace crisp::runtime::testing
