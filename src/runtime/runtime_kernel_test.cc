// Containers, their ends, logs and namespaces, with the real runc and crun.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "base/strings.h"
#include "runtime/kernel_fixture.h"
#include "runtime/runtime.h"
#include "runtime/testing.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::runtime {
namespace {

using std::chrono::seconds;
using testing::RuntimeKernelTest;

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
  EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pod, id, handler(), ""));
  EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pod, id, handler(), "")) << "twice";
  EXPECT_TRUE(testing::ChildrenOf(namespaces_.shim_pid).empty());
}

// A runtime killed while it writes leaves files that it cannot read itself.
TEST_P(RuntimeKernelTest, BrokenStateOfTheRuntimeIsRemoved) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  ASSERT_TRUE(runtime_->Signal(Ctx(), pod, id, SIGKILL));
  ASSERT_TRUE(recorder_.WaitExit(id));
  std::string state = ground_.dir() + "/state/" + handler() + "/" + id.str();
  ASSERT_TRUE(sys::Exists(state)) << state;
  for (const char* file : {"/state.json", "/config.json"}) {
    if (sys::Exists(state + file)) {
      ASSERT_EQ(truncate((state + file).c_str(), 3), 0);
    }
  }
  Result<> deleted = runtime_->DeleteContainer(Ctx(), pod, id, handler(), "");
  EXPECT_TRUE(deleted) << (deleted ? "" : deleted.error().message());
  EXPECT_FALSE(sys::Exists(state));
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

TEST_P(RuntimeKernelTest, OomKillIsReported) {
  PodId pod = StartPod();
  ContainerSpec spec = Spec({"sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"},
                            [](Json& config) { config["linux"]["resources"]["memory"]["limit"] = 16 << 20; });
  std::string dir = ground_.CgroupDir("memory", spec.id);
  spec.oom_event_files = {dir + "/memory.oom_control", dir + "/memory.events"};
  ASSERT_TRUE(Start(pod, spec));
  std::optional<ContainerExit> exit = recorder_.WaitExit(spec.id);
  ASSERT_TRUE(exit);
  EXPECT_TRUE(exit->oom_killed);
  EXPECT_EQ(exit->code, 137);
  EXPECT_TRUE((*Runtime::ReadExit(RunDir(pod), spec.id))->oom_killed);
}

TEST_P(RuntimeKernelTest, LongLinesAreCut) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sh", "-c", "printf '%040000d\\nshort\\n' 0"});
  ASSERT_TRUE(recorder_.WaitExit(id));
  EXPECT_EQ(Log(id), std::string(40'000, '0') + "\nshort\n");
  std::ifstream file(ground_.dir() + "/" + id.str() + ".log");
  size_t records = 0, longest = 0;
  for (std::string line; std::getline(file, line); ++records) longest = std::max(longest, line.size());
  EXPECT_EQ(records, 4u);
  EXPECT_LE(longest, 16384u + 48);
}

// Row R11, small: the kubelet's rotation (rename, reopen) all the time while numbered lines are written.
TEST_P(RuntimeKernelTest, RotationLosesNoLine) {
  PodId pod = StartPod();
  constexpr int kLines = 200'000;
  ContainerId id = MustStart(pod, {"seq", "1", std::to_string(kLines)});
  std::string log = ground_.dir() + "/" + id.str() + ".log";
  int rotations = 0;
  for (; !recorder_.HasExit(id) && rotations < 2000; ++rotations) {
    ASSERT_EQ(rename(log.c_str(), StrCat(log, ".", rotations).c_str()), 0);
    ASSERT_TRUE(runtime_->ReopenLog(Ctx(), pod, id));
  }
  ASSERT_TRUE(recorder_.WaitExit(id));
  EXPECT_TRUE(runtime_->ReopenLog(Ctx(), pod, id)) << "valid after the end, too";
  std::string all;
  for (int i = 0; i < rotations; ++i) all += Log(id, "stdout", StrCat(".log.", i));
  all += Log(id);
  std::string expected;
  for (int i = 1; i <= kLines; ++i) expected += StrCat(i, "\n");
  EXPECT_TRUE(all == expected) << all.size() << " of " << expected.size() << " bytes, " << rotations << " rotations";
  EXPECT_GT(rotations, 5);
}

TEST_P(RuntimeKernelTest, LogPathMustBeARegularFile) {
  PodId pod = StartPod();
  ContainerSpec spec = Spec({"true"});
  std::string path = spec.log_path;
  auto refused = [&] {
    bool ok = Start(pod, spec).has_value();
    unlink(path.c_str());
    return !ok;
  };
  ASSERT_EQ(symlink("/etc/hostname", path.c_str()), 0);
  EXPECT_TRUE(refused()) << "symlink";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_TRUE(refused()) << "FIFO without reader";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  sys::UniqueFd reader = *sys::Open(path, O_RDONLY | O_NONBLOCK);
  EXPECT_TRUE(refused()) << "FIFO with reader";
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
  EXPECT_TRUE(refused()) << "directory";
  rmdir(path.c_str());
  spec.log_path = "/dev/null";
  EXPECT_FALSE(Start(pod, spec)) << "device";
  spec.log_path = path;
  EXPECT_TRUE(Start(pod, spec));
}

TEST_P(RuntimeKernelTest, FullLogDiskDoesNotStopTheContainer) {
  std::string dir = ground_.dir() + "/small";
  ASSERT_TRUE(sys::MakeDir(dir, 0700));
  ASSERT_EQ(mount("tmpfs", dir.c_str(), "tmpfs", 0, "size=64k"), 0) << strerror(errno);
  PodId pod = StartPod();
  ContainerSpec spec = Spec({"seq", "1", "20000"});
  spec.log_path = dir + "/log";
  ASSERT_TRUE(Start(pod, spec));
  std::optional<ContainerExit> exit = recorder_.WaitExit(spec.id);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 0);
  std::string log = *sys::ReadFile(spec.log_path);
  EXPECT_GT(log.size(), 32'000u);
  EXPECT_TRUE(log.ends_with('\n')) << "no torn record";
  EXPECT_EQ(umount2(dir.c_str(), MNT_DETACH), 0);
}

TEST_P(RuntimeKernelTest, Terminal) {
  PodId pod = StartPod();
  ContainerSpec spec = Spec({"sh", "-c", "test -t 0 && test -t 1 && echo terminal; exit 4"},
                            [](Json& config) { config["process"]["terminal"] = true; });
  spec.terminal = true;
  Result<Started> started = Start(pod, spec);
  ASSERT_TRUE(started) << started.error().message();
  std::optional<ContainerExit> exit = recorder_.WaitExit(spec.id);
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->code, 4);
  EXPECT_EQ(Log(spec.id), "terminal\r\n");
}

TEST_P(RuntimeKernelTest, StdinIsOpenOnlyWhereAsked) {
  PodId pod = StartPod();
  ContainerSpec open = Spec({"cat"});
  open.stdin_open = true;
  ASSERT_TRUE(Start(pod, open));
  ContainerId closed = MustStart(pod, {"cat"});
  EXPECT_TRUE(recorder_.WaitExit(closed));
  EXPECT_FALSE(recorder_.HasExit(open.id));
}

TEST_P(RuntimeKernelTest, PodNamespaces) {
  sys::UniqueFd netns = NewNetns();
  PodId pod = StartPod([&](PodSpec& spec) {
    spec.netns_path = StrCat("/proc/", getpid(), "/fd/", netns.get());
    spec.shared_pid = true;
    spec.sysctls = {{"net.ipv4.ip_local_port_range", "20000\t30000"}, {"kernel.shm_rmid_forced", "1"}};
  });
  auto adjust = [this](Json& config) {
    config["linux"]["namespaces"] = {{{"type", "mount"}},
                                     {{"type", "ipc"}, {"path", namespaces_.ipc}},
                                     {{"type", "uts"}, {"path", namespaces_.uts}},
                                     {{"type", "network"}, {"path", namespaces_.net}},
                                     {{"type", "pid"}, {"path", namespaces_.pid}}};
  };
  ContainerSpec spec =
      Spec({"sh", "-c",
            "hostname; cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shm_rmid_forced /proc/1/comm;"
            "setsid sh -c 'sleep 1000 &' ; echo $$"},
           adjust);
  Result<Started> started = Start(pod, spec);
  ASSERT_TRUE(started) << started.error().message();
  ASSERT_TRUE(recorder_.WaitExit(spec.id));
  EXPECT_TRUE(Log(spec.id).starts_with("crisp-test\n20000\t30000\n1\ncrisp-init\n")) << Log(spec.id);
  EXPECT_NE(*sys::ReadFile("/proc/sys/kernel/shm_rmid_forced"), "1\n") << "the node's";
  // The survivor is the init's now, and dies with the pod.
  std::vector<pid_t> left = ProcessesOf(spec.id);
  ASSERT_EQ(left.size(), 1u);
  pid_t survivor = left.front();
  ASSERT_TRUE(runtime_->StopPod(Ctx(), pod, RunDir(pod)));
  EXPECT_FALSE(testing::IsAlive(survivor));
  EXPECT_FALSE(testing::IsAlive(namespaces_.shim_pid));
}

TEST_P(RuntimeKernelTest, OrphansInASharedPidNamespaceAreReaped) {
  PodId pod = StartPod([](PodSpec& spec) { spec.shared_pid = true; });
  pid_t init = *ParseInt<pid_t>(Split(namespaces_.pid, '/')[2]);
  ContainerSpec spec = Spec(
      {"sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.01 &) ; done; sleep 0.2; echo done"}, [this](Json& config) {
        config["linux"]["namespaces"] = {{{"type", "mount"}}, {{"type", "pid"}, {"path", namespaces_.pid}}};
      });
  Result<Started> started = Start(pod, spec);
  ASSERT_TRUE(started) << started.error().message();
  ASSERT_TRUE(recorder_.WaitExit(spec.id));
  EXPECT_EQ(Log(spec.id), "done\n");
  EXPECT_TRUE(testing::ChildrenOf(init).empty());
}

// Rows S24, S31: whoever may trace processes (kubectl debug's default) reaches PID 1 of the pod. It must lead nowhere.
TEST_P(RuntimeKernelTest, S31_InitOfASharedPidNamespaceIsNoWayToTheNode) {
  PodId pod = StartPod([](PodSpec& spec) {
    spec.shared_pid = true;
    spec.own_ipc = true;
  });
  std::string proc = StrCat("/proc/", Split(namespaces_.pid, '/')[2]);
  EXPECT_EQ(std::filesystem::read_symlink(proc + "/ns/ipc"), std::filesystem::read_symlink(namespaces_.ipc));
  ContainerSpec spec = Spec(
      {"sh", "-c",
       "ls /proc/1/root/ && ls -d /proc/1/root/../tmp; ls /proc/1/cwd/ /proc/1/fd && echo reached; cat /proc/1/status"},
      [this](Json& config) {
        config["linux"]["namespaces"] = {{{"type", "mount"}}, {{"type", "pid"}, {"path", namespaces_.pid}}};
        for (const char* set : {"bounding", "effective", "permitted"}) {
          config["process"]["capabilities"][set].push_back("CAP_SYS_PTRACE");
          config["process"]["capabilities"][set].push_back("CAP_DAC_OVERRIDE");
        }
      });
  Result<Started> started = Start(pod, spec);
  ASSERT_TRUE(started) << started.error().message();
  ASSERT_TRUE(recorder_.WaitExit(spec.id));
  std::string out = Log(spec.id);
  EXPECT_TRUE(out.starts_with("/proc/1/cwd/:\n\n/proc/1/fd:\nreached\n")) << out;
  EXPECT_NE(out.find("Uid:\t65535\t65535\t65535\t65535\n"), std::string::npos) << out;
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
    EXPECT_NE(out.find(StrCat(set, ":\t0000000000000000\n")), std::string::npos) << out;
  }
  EXPECT_NE(out.find("NoNewPrivs:\t1\n"), std::string::npos) << out;
  EXPECT_NE(out.find("Seccomp:\t2\n"), std::string::npos) << out;
}

TEST_P(RuntimeKernelTest, ForeignSysctlIsRefusedAndNothingStays) {
  for (const char* name : {"kernel.hostname", "net.ipv4/../../kernel/hostname", "vm.swappiness", "net..x"}) {
    PodSpec spec;
    spec.pod = PodId::Random();
    spec.run_dir = RunDir(spec.pod);
    spec.sysctls = {{name, "1"}};
    ASSERT_TRUE(sys::MakeDir(spec.run_dir, 0700));
    Result<PodNamespaces> started = runtime_->StartPod(Ctx(), spec);
    ASSERT_FALSE(started) << name;
    EXPECT_EQ(started.error().code(), Code::kInvalidArgument) << started.error().message();
    EXPECT_FALSE(sys::Exists(spec.run_dir + "/shim.sock"));
  }
  for (const std::string& child : testing::ChildrenOf(getpid()))
    EXPECT_EQ(child.find("(crisp-shim)"), std::string::npos) << child;
}

TEST_P(RuntimeKernelTest, ParallelStarts) {
  PodId pod = StartPod();
  std::vector<ContainerSpec> specs;
  for (int i = 0; i < 8; ++i) specs.push_back(Spec({"sh", "-c", StrCat("exit ", i)}));
  std::vector<std::future<Result<Started>>> starts;
  for (const ContainerSpec& spec : specs)
    starts.push_back(std::async(std::launch::async, [&] { return Start(pod, spec); }));
  for (auto& start : starts) {
    Result<Started> started = start.get();
    EXPECT_TRUE(started) << started.error().message();
  }
  for (int i = 0; i < 8; ++i) {
    std::optional<ContainerExit> exit = recorder_.WaitExit(specs[static_cast<size_t>(i)].id);
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->code, i);
  }
  // An exit is told as soon as it is on record; what else of the pod has ended is reaped after that.
  for (int i = 0; i < 500 && !testing::ChildrenOf(namespaces_.shim_pid).empty(); ++i) poll(nullptr, 0, 10);
  EXPECT_TRUE(testing::ChildrenOf(namespaces_.shim_pid).empty());
}

TEST_P(RuntimeKernelTest, FeaturesAreFoundOut) {
  for (const auto& [name, features] : runtime_->Handlers()) {
    if (name != handler()) continue;
    EXPECT_TRUE(features.recursive_read_only_mounts) << name;
    EXPECT_TRUE(features.user_namespaces) << name;
  }
}

TEST_P(RuntimeKernelTest, UpdatesResources) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  Result<> updated = runtime_->UpdateContainer(Ctx(), id, handler(), R"({"pids":{"limit":77}})");
  ASSERT_TRUE(updated) << updated.error().message();
  EXPECT_EQ(*sys::ReadFile(ground_.CgroupDir("pids", id) + "/pids.max"), "77\n");
  updated = runtime_->UpdateContainer(Ctx(), ContainerId::Random(), handler(), R"({"pids":{"limit":77}})");
  ASSERT_FALSE(updated);
  EXPECT_EQ(updated.error().code(), Code::kNotFound) << updated.error().message();
}

TEST_P(RuntimeKernelTest, IdleShimIsSmall) {
  PodId pod = StartPod();
  MustStart(pod, {"sleep", "1000"});
  pid_t shim = namespaces_.shim_pid;
  // Another pod's shim shares the program's pages, as on a node with more than one pod.
  PodId other = StartPod();
  MustStart(other, {"sleep", "1000"});
  ContainerId talker = MustStart(pod, {"seq", "1", "20000"});
  ASSERT_TRUE(recorder_.WaitExit(talker));
  poll(nullptr, 0, 120);  // the scratch buffer is given back after 50 ms of rest
  std::string rollup = *sys::ReadFile(StrCat("/proc/", shim, "/smaps_rollup"));
  for (std::string_view line : Split(rollup, '\n')) {
    if (line.starts_with("Private_") || line.starts_with("Pss:") || line.starts_with("Rss:")) std::cout << line << '\n';
  }
}

// Run by hand: --gtest_also_run_disabled_tests. What the shim adds to the runtime's own time.
TEST_P(RuntimeKernelTest, DISABLED_StartLatency) {
  constexpr int kRounds = 40;
  auto print = [](const char* what, std::vector<double>& times) {
    std::sort(times.begin(), times.end());
    std::printf("%-28s p50 %6.2f ms   p90 %6.2f ms   min %6.2f ms\n", what, times[times.size() / 2],
                times[times.size() * 9 / 10], times[0]);
  };
  auto timed = [](std::vector<double>& times, const std::function<void()>& work) {
    auto begin = Clock::now();
    work();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  };
  std::vector<double> pod_times, start, direct, exec, direct_exec, remove;
  PodId pod;
  for (int i = 0; i < kRounds; ++i) timed(pod_times, [&] { pod = StartPod(); });
  ContainerId last;
  for (int i = 0; i < kRounds; ++i) {
    ContainerSpec spec = Spec({"sleep", "1000"});
    ContainerSpec other = Spec({"sleep", "1000"});
    sys::Command command;
    command.program = handler();
    command.args = {"--root",      ground_.dir() + "/state/" + handler(),
                    "--log",       other.bundle_dir + "/log",
                    "run",         "--detach",
                    "--bundle",    other.bundle_dir,
                    "--pid-file",  other.bundle_dir + "/pid",
                    other.id.str()};
    // In turns, because the one that comes after a deletion pays for it.
    for (bool ours : {i % 2 == 0, i % 2 != 0}) {
      timed(ours ? start : direct, [&] {
        if (ours) {
          ASSERT_TRUE(Start(pod, spec));
        } else {
          ASSERT_EQ(sys::Spawn(command)->Wait(Ctx())->code, 0);
        }
      });
    }
    timed(exec, [&] { ASSERT_TRUE(ExecSync(pod, spec.id, {"true"}, seconds(10))); });
    command.args = {"--root", ground_.dir() + "/state/" + handler(), "exec", spec.id.str(), "true"};
    timed(direct_exec, [&] { ASSERT_EQ(sys::Spawn(command)->Wait(Ctx())->code, 0); });
    timed(remove, [&] { ASSERT_TRUE(runtime_->DeleteContainer(Ctx(), pod, spec.id, handler(), "")); });
    ASSERT_TRUE(runtime_->DeleteContainer(Ctx(), pod, other.id, handler(), ""));
  }
  print("StartPod", pod_times);
  print("StartContainer", start);
  print("run --detach, plain", direct);
  print("ExecSync true", exec);
  print("exec true, plain", direct_exec);
  print("DeleteContainer (running)", remove);
}

}  // namespace
}  // namespace crisp::runtime

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  // Mounts of the tests, and of runtimes that leave some, stay in here.
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    perror("own mount namespace");
    return 1;
  }
  return RUN_ALL_TESTS();
}
