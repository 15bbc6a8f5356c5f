// Wants root. Kills a process that makes and unmakes attachments at each failpoint, then shows that the next process
// finds and removes whatever was half made (rows 19, 20).
#include <gtest/gtest.h>
#include <poll.h>

#include <set>

#include "network/testing.h"

namespace crisp::network {
namespace {

class CrashTest : public NetworkTest {
 protected:
  // Runs the test `Child` of this program with a failpoint specification. Returns how it ended.
  static sys::ExitStatus RunChild(const char* how, const std::string& failpoints, const std::string& trace = "") {
    std::vector<std::string> env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", StrCat("CRISP_TEST_CHILD=", how), "CRISP_FAILPOINTS=" + failpoints};
    if (!trace.empty()) env.push_back("CRISP_FAILPOINTS_TRACE=" + trace);
    auto run = sys::Run({}, {.program = "/proc/self/exe", .args = {"--gtest_filter=CrashTest.Child", "--gtest_output="}, .env = env});
    EXPECT_TRUE(run) << run.error().message();
    return run ? run->status : sys::ExitStatus{};
  }
  // failpoint → how often such a child passes it
  static std::map<std::string, int> Passed(const char* how) {
    const std::string trace = "/mnt/trace";
    EXPECT_EQ(RunChild(how, "", trace).code, 0);
    std::map<std::string, int> passed;
    std::string text = sys::ReadFile(trace).value();
    for (std::string_view line : Split(text, '\n')) {
      if (line.starts_with("network.")) ++passed[std::string(line)];
    }
    unlink(trace.c_str());
    return passed;
  }
  void DieAndCleanUp(const char* how, const std::string& spec) {
    sys::ExitStatus status = RunChild(how, spec);
    EXPECT_TRUE(status.signal == SIGKILL || status.code == 7) << spec;
    Open();
    auto remaining = network_->KeepOnly({}, [](const PodId&) { return false; });
    Ok(remaining);
    EXPECT_EQ(*remaining, 0) << spec;
    network_.reset();
    // The kernel takes a dead pod's link away in its own time, and the bridge with its last link: ask again.
    for (int again = 0; again < 100 && Leftovers() != ""; ++again) {
      poll(nullptr, 0, 20);
      Open();
      Ok(network_->KeepOnly({}, [](const PodId&) { return false; }));
      network_.reset();
    }
    EXPECT_EQ(Leftovers(), "") << spec;
    EXPECT_EQ(db_->List("network")->size(), 0u) << spec;
    CloseAll();
  }
  void CloseAll() {
    network_.reset();
    db_.reset();
  }
};

// One pod's life; two plugins, both built in. "ahead": by a veth pair that was made ahead, beside another pod.
TEST_F(CrashTest, Child) {
  const char* how = std::getenv("CRISP_TEST_CHILD");
  if (how == nullptr) GTEST_SKIP() << "run by the tests below";
  if (std::string_view(how) == "ahead") {
    Ok(network_->Setup({}, Request()));
    if (AwaitPairsAhead().size() < NetnsPool::kSpare) std::_Exit(3);
  }
  auto request = Request();
  request.port_mappings = {{.container_port = 80, .host_port = 8080}};
  Result<PodNetwork> made = network_->Setup({}, request);
  Result<> gone = network_->Teardown({}, request.pod);
  // Only "kill" gets here by accident; errors are what the failpoint asked for.
  std::_Exit(made && gone ? 0 : 7);
}

TEST_F(CrashTest, NothingIsLeftWhereverItDies) {
  CloseAll();
  const std::map<std::string, int> passed = Passed("plain");
  EXPECT_GE(passed.size(), 9u);
  EXPECT_EQ(passed.at("network.after_plugin_add"), 2);
  for (const auto& [name, times] : passed) {
    for (int nth = 1; nth <= times; ++nth) {
      for (const char* action : {"kill", "error"}) DieAndCleanUp("plain", StrCat(name, "=", action, "*", nth));
    }
  }
  Open();
}

TEST_F(CrashTest, NothingIsLeftOfAPairMadeAhead) {
  CloseAll();
  const std::map<std::string, int> plain = Passed("plain");
  for (const auto& [name, times] : Passed("ahead")) {
    // The pod beside has been set up before, and is not torn down.
    const int first = times > plain.at(name) ? plain.at(name) + 1 : 1;
    for (int nth = first; nth <= times; ++nth) DieAndCleanUp("ahead", StrCat(name, "=kill*", nth));
  }
  Open();
}

}  // namespace
}  // namespace crisp::network
