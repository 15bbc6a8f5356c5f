// Exec, attach and port-forward as the fronts ask for them; the world is made of files (testing/world.h).
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/ids.h"
#include "pod/testing/world.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using testing::Daemon;

constexpr StreamWants kAll{.tty = false, .in = true, .out = true, .err = true};

class StreamsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    pod_ = daemon_->RunSandbox(Ctx(), testing::Sandbox("web"))->str();
    runs_ = daemon_->CreateContainer(Ctx(), pod_, testing::Container("runs"))->str();
    created_ = daemon_->CreateContainer(Ctx(), pod_, testing::Container("created"))->str();
    ASSERT_TRUE(daemon_->StartContainer(Ctx(), runs_));
  }
  Code CodeOf(const Result<>& result) { return result ? Code{} : result.error().code(); }

  struct Ground {
    Ground() { EXPECT_TRUE(sys::MakeDirs(dir, 0700)); }
    ~Ground() { EXPECT_TRUE(sys::RemoveTree(dir)); }
    const std::string dir = "/tmp/crisp-pod-streams-" + RandomHex(6);
  } ground_;
  Daemon daemon_{ground_.dir};  // ends first: it works in the background
  std::string pod_, runs_, created_;
};

TEST_F(StreamsTest, ChecksSayWhatIsWrong) {
  for (auto check : {&Manager::CheckExec, &Manager::CheckAttach}) {
    auto of = [&](const std::string& id, const StreamWants& wants) { return CodeOf(((*daemon_).*check)(id, wants)); };
    EXPECT_EQ(of(runs_, kAll), Code{});
    EXPECT_EQ(of(runs_.substr(0, 20), {.tty = true, .in = true, .out = true, .err = false}), Code{}) << "by prefix";
    EXPECT_EQ(of(std::string(64, '0'), kAll), Code::kNotFound);
    EXPECT_EQ(of("", kAll), Code::kInvalidArgument);
    EXPECT_EQ(of(created_, kAll), Code::kFailedPrecondition);
    EXPECT_EQ(of(runs_, {.tty = true, .in = true, .out = true, .err = true}), Code::kInvalidArgument);
    EXPECT_EQ(of(runs_, {}), Code::kInvalidArgument);
  }
  EXPECT_EQ(CodeOf(daemon_->CheckPortForward(pod_)), Code{});
  EXPECT_EQ(CodeOf(daemon_->CheckPortForward(std::string(64, '0'))), Code::kNotFound);
  ASSERT_TRUE(daemon_->StopSandbox(Ctx(), pod_));
  EXPECT_EQ(CodeOf(daemon_->CheckPortForward(pod_)), Code::kFailedPrecondition);
  EXPECT_EQ(CodeOf(daemon_->CheckExec(runs_, kAll)), Code::kFailedPrecondition);
}

TEST_F(StreamsTest, ExecIsPlannedAsTheContainersProcess) {
  Result<StreamSessionPtr> session =
      daemon_->OpenExec(Ctx(), runs_, {"top", "-b"}, {.tty = true, .in = false, .out = true, .err = false});
  ASSERT_TRUE(session) << session.error().message();
  StreamFds fds = (*session)->TakeFds();
  std::string process = *sys::ReadAll(fds.out, 1 << 20);
  EXPECT_NE(process.find("[\"top\",\"-b\"]"), std::string::npos) << process;
  EXPECT_NE(process.find("\"terminal\":true"), std::string::npos);
  EXPECT_FALSE(daemon_->OpenExec(Ctx(), runs_, {}, kAll)) << "no command";
  EXPECT_FALSE(daemon_->OpenExec(Ctx(), created_, {"top"}, kAll));
}

TEST_F(StreamsTest, AttachNeedsARunningContainer) {
  EXPECT_TRUE(daemon_->OpenAttach(Ctx(), runs_, kAll));
  Result<StreamSessionPtr> none = daemon_->OpenAttach(Ctx(), created_, kAll);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message().find("CONTAINER_CREATED"), std::string::npos) << none.error().message();
}

TEST_F(StreamsTest, APodsNetworkThatIsGoneIsNotTheNodes) {
  Result<sys::UniqueFd> dialled = daemon_->DialPod(Ctx(), pod_, 80);
  ASSERT_FALSE(dialled);
  EXPECT_NE(dialled.error().message().find("/netns/" + pod_), std::string::npos) << dialled.error().message();
  EXPECT_EQ(daemon_->DialPod(Ctx(), pod_, 0).error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace crisp::pod
