// Logs of several containers as one.
#include "ctl/pod_log.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "base/strings.h"

namespace crisp::ctl {
namespace {

using testing::ElementsAre;

class PodLogTest : public testing::Test {
 protected:
  PodLogTest() { std::filesystem::create_directories(dir_); }
  ~PodLogTest() override { std::filesystem::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(StrCat(dir_, "/", name), std::ios::app) << text;
  }
  void Add(const std::string& name, LogSelection selection = {}) {
    auto file = LogFile::Open(StrCat(dir_, "/", name), std::nullopt);
    ASSERT_TRUE(file);
    sources_.emplace_back(name, *std::move(file), selection);
  }
  std::vector<std::string> Merged() {
    std::vector<std::string> lines;
    auto merged = MergeLogs(sources_, [&](const LogSource& source, const LogLine& line) {
      lines.push_back(StrCat(source.name(), ":", Trim(line.text)));
    });
    EXPECT_TRUE(merged);
    return lines;
  }
  static std::string Record(int second, const char* text, const char* tag = "F", const char* stream = "stdout") {
    return StrCat("2026-01-02T15:04:0", second, "Z ", stream, " ", tag, " ", text, "\n");
  }

  std::string dir_ = testing::TempDir() + "/pod_log_test";
  LogSources sources_;
};

TEST_F(PodLogTest, ByTime) {
  Write("a", Record(1, "one") + Record(3, "three") + Record(5, "five"));
  Write("b", Record(2, "two") + Record(4, "four"));
  Add("a");
  Add("b");
  EXPECT_THAT(Merged(), ElementsAre("a:one", "b:two", "a:three", "b:four", "a:five"));
  EXPECT_THAT(Merged(), ElementsAre());
}

TEST_F(PodLogTest, PartsOfALineAreOneLineOfTheTimeOfItsFirst) {
  Write("a", Record(1, "be", "P") + Record(2, "side", "F", "stderr") + Record(4, "gun", "F"));
  Write("b", Record(3, "between"));
  Add("a");
  Add("b");
  EXPECT_THAT(Merged(), ElementsAre("a:side", "a:begun", "b:between"));
}

TEST_F(PodLogTest, WhatComesLaterAndThroughRotation) {
  Write("a", Record(1, "one"));
  Add("a");
  EXPECT_THAT(Merged(), ElementsAre("a:one"));
  Write("a", Record(2, "two"));
  std::filesystem::rename(dir_ + "/a", dir_ + "/a.old");
  Write("a", Record(3, "three"));
  EXPECT_THAT(Merged(), ElementsAre("a:two", "a:three"));
  Write("a", "2026-01-02T15:04:05Z stdout F torn");
  EXPECT_THAT(Merged(), ElementsAre());
  ASSERT_TRUE(sources_.front().Finish());
  EXPECT_THAT(Merged(), ElementsAre("a:torn"));
}

TEST_F(PodLogTest, OfOneStreamOnly) {
  Write("a", Record(1, "out") + Record(2, "err", "F", "stderr"));
  Add("a", {.only = LogStream::kStderr});
  EXPECT_THAT(Merged(), ElementsAre("a:err"));
}

}  // namespace
}  // namespace crisp::ctl
