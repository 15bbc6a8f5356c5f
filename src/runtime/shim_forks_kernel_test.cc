// Shims that are forks of one another.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <set>

#include "base/strings.h"
#include "runtime/kernel_fixture.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::runtime {
namespace {

std::string Proc(pid_t pid, const char* file) {
  return sys::ReadFile(StrCat("/proc/", pid, "/", file)).value_or(std::string());
}

// Fields of /proc/PID/stat from the state on.
std::vector<std::string> Stat(pid_t pid) {
  std::string stat = Proc(pid, "stat");
  std::vector<std::string> fields;
  for (std::string_view field : SplitWords(std::string_view(stat).substr(stat.rfind(')') + 1)))
    fields.emplace_back(field);
  return fields;
}

std::set<pid_t> OurForkServers() {
  std::set<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::optional<pid_t> pid = ParseInt<pid_t>(entry.path().filename().string());
    if (!pid || Proc(*pid, "comm") != "crisp-forks\n") continue;
    std::vector<std::string> stat = Stat(*pid);
    if (stat.size() > 1 && stat[0] != "Z" && stat[1] == StrCat(getpid())) found.insert(*pid);
  }
  return found;
}

class ShimForksTest : public testing::RuntimeKernelTest {};

INSTANTIATE_TEST_SUITE_P(Handlers, ShimForksTest, ::testing::Values("runc"));

TEST_P(ShimForksTest, AForkedShimIsLikeOneThatWasStarted) {
  for (int i = 0; i < 2; ++i) {
    PodId pod = StartPod();
    const pid_t shim = namespaces_.shim_pid;
    EXPECT_EQ(Proc(shim, "cmdline"), StrCat(CRISP_SHIM_BINARY, '\0', pod.str(), '\0', RunDir(pod), '\0'));
    EXPECT_EQ(Proc(shim, "comm"), "crisp-shim\n");
    std::vector<std::string> stat = Stat(shim);
    ASSERT_GT(stat.size(), 3u);
    EXPECT_EQ(stat[1], StrCat(getpid())) << "we are its parent, and reap it";
    EXPECT_EQ(stat[3], StrCat(shim)) << "it leads a session";
    EXPECT_EQ(std::filesystem::read_symlink(StrCat("/proc/", shim, "/cwd")), "/");
    EXPECT_EQ(std::filesystem::read_symlink(StrCat("/proc/", shim, "/fd/2")), RunDir(pod) + "/shim.log");
    for (const auto& fd : std::filesystem::directory_iterator(StrCat("/proc/", shim, "/fd"))) {
      for (const PodId& other : pods_) {
        if (other == pod) continue;
        EXPECT_EQ(std::filesystem::read_symlink(fd).string().find(other.str()), std::string::npos);
      }
    }
  }
  EXPECT_EQ(OurForkServers().size(), 1u);
}

TEST_P(ShimForksTest, AKilledForkServerIsReplacedAndItsShimsLive) {
  PodId first = StartPod();
  std::set<pid_t> servers = OurForkServers();
  ASSERT_EQ(servers.size(), 1u);
  sys::UniqueFd pidfd = *sys::PidfdOpen(*servers.begin());
  ASSERT_TRUE(sys::PidfdSignal(pidfd, SIGKILL));
  pollfd event{pidfd.get(), POLLIN, 0};
  ASSERT_EQ(poll(&event, 1, 30'000), 1);
  StartPod();
  ASSERT_EQ(OurForkServers().size(), 1u);
  EXPECT_NE(*OurForkServers().begin(), *servers.begin());
  EXPECT_FALSE(recorder_.Lost(first));
}

// The pod that is just being made does without it, the others are served by the next.
TEST_P(ShimForksTest, AForkServerThatDiesOverARequestHoldsUpNobody) {
  StartPod();
  const std::set<pid_t> servers = OurForkServers();
  ASSERT_EQ(servers.size(), 1u);
  sys::UniqueFd pidfd = *sys::PidfdOpen(*servers.begin());
  ASSERT_TRUE(sys::PidfdSignal(pidfd, SIGSTOP));
  auto pod = std::async(std::launch::async, [&] { return StartPod(); });
  EXPECT_EQ(pod.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout) << "it is not asked at all";
  ASSERT_TRUE(sys::PidfdSignal(pidfd, SIGKILL));
  pod.get();
  StartPod();
  EXPECT_EQ(OurForkServers().size(), 1u);
}

TEST_P(ShimForksTest, OneThatGivesNoAnswerIsEndedAndLeftAloneForAWhile) {
  StartPod();
  const std::set<pid_t> servers = OurForkServers();
  ASSERT_EQ(servers.size(), 1u);
  ASSERT_TRUE(sys::PidfdSignal(*sys::PidfdOpen(*servers.begin()), SIGSTOP));
  StartPod();
  StartPod();
  EXPECT_TRUE(OurForkServers().empty());
}

TEST_P(ShimForksTest, AProgramThatWasReplacedHasAServerOfItsOwn) {
  shim_binary_ = ground_.dir() + "/crisp-shim";
  std::filesystem::copy_file(CRISP_SHIM_BINARY, shim_binary_);
  runtime_ = MakeRuntime(recorder_);
  PodId old = StartPod();
  const std::set<pid_t> servers = OurForkServers();
  ASSERT_EQ(servers.size(), 1u);
  std::filesystem::copy_file(CRISP_SHIM_BINARY, shim_binary_ + ".new");
  std::filesystem::rename(shim_binary_ + ".new", shim_binary_);
  StartPod();
  ASSERT_EQ(OurForkServers().size(), 1u);
  EXPECT_NE(OurForkServers(), servers);
  EXPECT_FALSE(recorder_.Lost(old));
}

// An exec does where the command line would have another length than the server has room for.
TEST_P(ShimForksTest, ARunDirectoryElsewhereIsServed) {
  StartPod();
  const std::string long_dir = ground_.dir() + "/pods/another-directory";
  PodId pod = StartPod([&](PodSpec& spec) { spec.run_dir = long_dir; });
  EXPECT_EQ(Proc(namespaces_.shim_pid, "cmdline"), StrCat(CRISP_SHIM_BINARY, '\0', pod.str(), '\0', long_dir, '\0'));
  pods_.pop_back();
  EXPECT_TRUE(runtime_->StopPod(Ctx(), pod, long_dir));
}

TEST_P(ShimForksTest, TheForkServerEndsWithUs) {
  {
    testing::Recorder recorder;
    auto other = MakeRuntime(recorder);
    PodSpec spec;
    spec.pod = PodId::Random();
    spec.run_dir = RunDir(spec.pod);
    ASSERT_TRUE(sys::MakeDir(spec.run_dir, 0700));
    ASSERT_TRUE(other->StartPod(Ctx(), spec));
    EXPECT_EQ(OurForkServers().size(), 1u);
    EXPECT_TRUE(other->StopPod(Ctx(), spec.pod, spec.run_dir));
  }
  EXPECT_TRUE(OurForkServers().empty());
}

}  // namespace
}  // namespace crisp::runtime
