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
  static sys::ExitStatus RunChild(const std::string& failpoints, const std::string& trace = "") {
    std::vector<std::string> env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CRISP_TEST_CHILD=1", "CRISP_FAILPOINTS=" + failpoints};
    if (!trace.empty()) env.push_back("CRISP_FAILPOINTS_TRACE=" + trace);
    auto run = sys::Run({}, {.program = "/proc/self/exe", .args = {"--gtest_filter=CrashTest.Child", "--gtest_output="}, .env = env});
    EXPECT_TRUE(run) << run.error().message();
    return run ? run->status : sys::ExitStatus{};
  }
  void CloseAll() {
    network_.reset();
    db_.reset();
  }
};

// One pod's life; two plugins, both built in.
TEST_F(CrashTest, Child) {
  if (std::getenv("CRISP_TEST_CHILD") == nullptr) GTEST_SKIP() << "run by the test below";
  auto request = Request();
  request.port_mappings = {{.container_port = 80, .host_port = 8080}};
  Result<PodNetwork> made = network_->Setup({}, request);
  Result<> gone = network_->Teardown({}, request.pod);
  // Only "kill" gets here by accident; errors are what the failpoint asked for.
  std::_Exit(made && gone ? 0 : 7);
}

TEST_F(CrashTest, NothingIsLeftWhereverItDies) {
  CloseAll();
  const std::string trace = "/mnt/trace";
  ASSERT_EQ(RunChild("", trace).code, 0);
  std::map<std::string, int> passed;  // failpoint → how often
  std::string text = sys::ReadFile(trace).value();
  for (std::string_view line : Split(text, '\n')) {
    if (!line.empty()) ++passed[std::string(line)];
  }
  unlink(trace.c_str());
  EXPECT_GE(passed.size(), 9u);
  EXPECT_EQ(passed["network.after_plugin_add"], 2);
  for (const auto& [name, times] : passed) {
    for (int nth = 1; nth <= times; ++nth) {
      if (!name.starts_with("network.")) continue;
      for (const char* action : {"kill", "error"}) {
        std::string spec = StrCat(name, "=", action, "*", nth);
        sys::ExitStatus status = RunChild(spec);
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
    }
  }
  Open();
}

}  // namespace
}  // namespace crisp::network
