// What this module's kernel tests stand on: a Runtime with the real runc and crun, and short words for what tests do
// all the time. Each test has its own pod.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/strings.h"
#include "runtime/runtime.h"
#include "runtime/testing.h"
#include "sys/file.h"

namespace crisp::runtime::testing {

constexpr std::chrono::seconds kLong{30};

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
  std::string shim_binary_ = CRISP_SHIM_BINARY;
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    runtime_ = MakeRuntime(recorder_);
  }
  void TearDown() override {
    for (const PodId& pod : pods_) EXPECT_TRUE(runtime_->StopPod(Ctx(), pod, RunDir(pod)));
    for (const ContainerId& id : containers_)
      EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pods_.front(), id, handler(), ""));
  }

  std::unique_ptr<Runtime> MakeRuntime(Recorder& recorder) {
    Runtime::Options options;
    options.shim_binary = shim_binary_;
    options.handlers = {
        {.name = "runc", .type = "oci", .binary = "runc", .root_dir = ground_.dir() + "/state/runc"},
        {.name = "crun", .type = "oci", .binary = "crun", .root_dir = ground_.dir() + "/state/crun"},
        {.name = "native", .type = "native", .binary = "", .root_dir = ""},
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
  Result<Started> Start(const PodId& pod, const ContainerSpec& spec) {
    return runtime_->StartContainer(Ctx(), pod, spec);
  }
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
    spec.process_json = [command] { return Result<std::string>(DumpJson(Process(command))); };
    return spec;
  }
  Result<ExecSyncResult> ExecSync(const PodId& pod, const ContainerId& id, const std::vector<std::string>& command,
                                  std::chrono::seconds timeout = std::chrono::seconds(0), size_t bytes_max = 1 << 20) {
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
    })
        .join();
    return made;
  }

  Playground ground_;
  Recorder recorder_;
  std::unique_ptr<Runtime> runtime_;
  std::vector<PodId> pods_;
  std::vector<ContainerId> containers_;
  PodNamespaces namespaces_;
};

}  // namespace crisp::runtime::testing
