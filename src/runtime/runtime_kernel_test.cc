// With the real runc and crun. Each test has its own pod.
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
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
    for (const ContainerId& id : containers_) EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pods_.front(), id, handler(), ""));
  }

  std::unique_ptr<Runtime> MakeRuntime(Recorder& recorder) {
    Runtime::Options options;
    options.shim_binary = CRISP_SHIM_BINARY;
    options.handlers = {{.name = "runc", .type = "oci", .binary = "runc", .root_dir = ground_.dir() + "/state/runc"},
                        {.name = "crun", .type = "oci", .binary = "crun", .root_dir = ground_.dir() + "/state/crun"},
                        {.name = "scripted", .type = "oci", .binary = ground_.dir() + "/runtime", .root_dir = "/nonexistent"}};
    options.events = recorder.Callbacks();
    options.user_namespaces = true;  // what crispd finds out by trying
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
    std::vector<std::string> dirs{ground_.CgroupDir("pids", id)};
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(dirs.front(), ignored)) {
      if (entry.is_directory()) dirs.push_back(entry.path());
    }
    for (const std::string& dir : dirs) {
      Result<std::string> text = sys::ReadFile(dir + "/cgroup.procs");
      if (!text) continue;
      for (std::string_view line : Split(*text, '\n')) {
        if (std::optional<pid_t> pid = ParseInt<pid_t>(line)) pids.push_back(*pid);
      }
    }
    return pids;
  }

  // Sub-cgroups left in the container's cgroups.
  size_t ExecCgroups(const ContainerId& id) {
    size_t count = 0;
    for (const char* controller : {"freezer", "pids", "memory"}) {
      std::error_code ignored;
      for (const auto& entry : std::filesystem::directory_iterator(ground_.CgroupDir(controller, id), ignored)) {
        if (entry.is_directory()) ++count;
      }
    }
    return count;
  }
  // An exec's result does not wait for the removal of its cgroup.
  bool ExecCgroupsVanish(const ContainerId& id) {
    for (int i = 0; i < 1000 && ExecCgroups(id) != 0; ++i) poll(nullptr, 0, 10);
    return ExecCgroups(id) == 0;
  }
  // The number of the container's processes once it is `wanted`, or what it is after a long time.
  size_t WaitForProcesses(const ContainerId& id, size_t wanted) {
    for (int i = 0; i < 1000 && ProcessesOf(id).size() != wanted; ++i) poll(nullptr, 0, 10);
    return ProcessesOf(id).size();
  }
  static sys::UniqueFd NewNetns() {
    sys::UniqueFd made;
    std::thread([&] {  // unshare concerns the calling thread only
      EXPECT_EQ(unshare(CLONE_NEWNET), 0);
      made = *sys::Open("/proc/thread-self/ns/net", O_RDONLY);
    }).join();
    return made;
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
  ContainerSpec spec = Spec({"sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done"}, [](Json& config) {
    config["linux"]["resources"]["memory"]["limit"] = 16 << 20;
  });
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
  ContainerSpec spec = Spec({"sh", "-c",
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
  ContainerSpec spec = Spec({"sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.01 &) ; done; sleep 0.2; echo done"},
                            [this](Json& config) {
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
  ContainerSpec spec = Spec({"sh", "-c", "ls /proc/1/root/ && ls -d /proc/1/root/../tmp; ls /proc/1/cwd/ /proc/1/fd && echo reached; cat /proc/1/status"},
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
  for (const std::string& child : testing::ChildrenOf(getpid())) EXPECT_EQ(child.find("(crisp-shim)"), std::string::npos) << child;
}

TEST_P(RuntimeKernelTest, ExecGivesOutputAndCode) {
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

TEST_P(RuntimeKernelTest, ExecOutputIsCapped) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  Result<ExecSyncResult> result = ExecSync(pod, id, {"sh", "-c", "head -c 3000000 /dev/zero; echo end >&2"}, seconds(20), 1000);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->out.size(), 1000u);
  EXPECT_EQ(result->err, "end\n");
}

TEST_P(RuntimeKernelTest, ExecTimeoutKillsItsWholeTreeAndNothingElse) {
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

TEST_P(RuntimeKernelTest, ExecOfACallerThatGoesAwayIsKilled) {
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

TEST_P(RuntimeKernelTest, ExecMayLeaveADaemon) {
  PodId pod = StartPod();
  ContainerId id = MustStart(pod, {"sleep", "1000"});
  Result<ExecSyncResult> result = ExecSync(pod, id, {"sh", "-c", "(sleep 1000 &) ; (echo late &) ; echo now"}, seconds(20));
  ASSERT_TRUE(result);
  EXPECT_NE(result->out.find("now\n"), std::string::npos);
  EXPECT_NE(result->out.find("late\n"), std::string::npos);
  EXPECT_EQ(ProcessesOf(id).size(), 2u);
  ASSERT_TRUE(runtime_->DeleteContainer(Ctx(), pod, id, handler(), ""));
  EXPECT_TRUE(ProcessesOf(id).empty());
  EXPECT_FALSE(sys::Exists(ground_.CgroupDir("freezer", id)));
}

// crispd is killed: its connection closes. The pod goes on; the next crispd finds it and what has happened meanwhile.
TEST_P(RuntimeKernelTest, SurvivesTheDaemon) {
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

TEST_P(RuntimeKernelTest, ShimThatDiesIsReported) {
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

TEST_P(RuntimeKernelTest, HungShimIsEndedByForce) {
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

TEST_P(RuntimeKernelTest, HungShimOfAnEarlierDaemonIsEndedByForce) {
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

TEST_P(RuntimeKernelTest, HungRuntimeIsKilledAtTheDeadline) {
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

// A start may go on when the crispd that asked for it is gone; the next one deletes the container before it starts it again.
TEST_P(RuntimeKernelTest, DeleteEndsAStartFirst) {
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
  Result<> deleted = runtime_->DeleteContainer(Ctx(), pod, spec.id, "scripted");
  EXPECT_TRUE(deleted) << deleted.error().message();
  EXPECT_FALSE(start.get());
  EXPECT_FALSE(sys::Exists(dir + "/half-made")) << "the next start would find the id in use";
}

TEST_P(RuntimeKernelTest, ParallelStarts) {
  PodId pod = StartPod();
  std::vector<ContainerSpec> specs;
  for (int i = 0; i < 8; ++i) specs.push_back(Spec({"sh", "-c", StrCat("exit ", i)}));
  std::vector<std::future<Result<Started>>> starts;
  for (const ContainerSpec& spec : specs) starts.push_back(std::async(std::launch::async, [&] { return Start(pod, spec); }));
  for (auto& start : starts) {
    Result<Started> started = start.get();
    EXPECT_TRUE(started) << started.error().message();
  }
  for (int i = 0; i < 8; ++i) {
    std::optional<ContainerExit> exit = recorder_.WaitExit(specs[static_cast<size_t>(i)].id);
    ASSERT_TRUE(exit);
    EXPECT_EQ(exit->code, i);
  }
  EXPECT_TRUE(testing::ChildrenOf(namespaces_.shim_pid).empty());
}

TEST_P(RuntimeKernelTest, ExecsLeaveNothing) {
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
    std::printf("%-28s p50 %6.2f ms   p90 %6.2f ms   min %6.2f ms\n", what, times[times.size() / 2], times[times.size() * 9 / 10], times[0]);
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
    command.args = {"--root", ground_.dir() + "/state/" + handler(), "--log", other.bundle_dir + "/log", "run", "--detach",
                    "--bundle", other.bundle_dir, "--pid-file", other.bundle_dir + "/pid", other.id.str()};
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
