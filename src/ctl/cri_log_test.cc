#include "ctl/cri_log.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/strings.h"
#include "ctl/log_follow.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::ctl {
namespace {

const char* const kLog =
    "2016-10-06T00:17:09.100000000Z stdout F one\n"
    "2016-10-06T00:17:10.100000000Z stderr P two \n"
    "2016-10-06T00:17:11.100000000Z stderr F and more\n"
    "2016-10-06T00:17:12.100000000Z stdout F \n"
    "2016-10-06T00:17:13.100000000Z stdout F three  \n";

struct Output {
  std::string out, err;
};

Output Select(LogSelection selection, const std::vector<std::string>& pieces) {
  Output output;
  LogSelector selector(selection, [&](LogStream stream, std::string_view text) {
    (stream == LogStream::kStdout ? output.out : output.err) += text;
  });
  for (const std::string& piece : pieces) selector.Feed(piece);
  selector.Finish();
  return output;
}

TEST(LogSelector, StreamsGoWhereTheyBelongAndPartialLinesAreJoined) {
  Output output = Select({}, {kLog});
  EXPECT_EQ(output.out, "one\n\nthree  \n");
  EXPECT_EQ(output.err, "two and more\n");
}

TEST(LogSelector, TheSameForEveryCutIntoPieces) {
  std::string log = kLog;
  for (size_t cut = 0; cut <= log.size(); ++cut) {
    Output output = Select({}, {log.substr(0, cut), log.substr(cut)});
    ASSERT_EQ(output.out, "one\n\nthree  \n") << cut;
    ASSERT_EQ(output.err, "two and more\n") << cut;
  }
}

TEST(LogSelector, SinceStreamLimitAndTimestamps) {
  EXPECT_EQ(Select({.since_unix_nanos = 1475713032000000000}, {kLog}).out, "\nthree  \n");
  EXPECT_EQ(Select({.only = LogStream::kStderr}, {kLog}).out, "");
  EXPECT_EQ(Select({.bytes_max = 2}, {kLog}).out, "on");
  EXPECT_EQ(Select({.timestamps = true}, {kLog}).err, "2016-10-06T00:17:10.100000000Z two and more\n");
}

TEST(LogSelector, ForeignLinesAreShownAsTheyAre) {
  EXPECT_EQ(Select({}, {"hello\nworld"}).out, "hello\nworld");
  EXPECT_EQ(Select({}, {"2016-10-06T99:17:09.1Z stdout F x\n"}).out, "2016-10-06T99:17:09.1Z stdout F x\n");
}

TEST(TailOffset, LastLines) {
  std::string_view text = "a\nb\nc\n";
  EXPECT_EQ(TailOffset(text, 0), 6u);
  EXPECT_EQ(TailOffset(text, 1), 4u);
  EXPECT_EQ(TailOffset(text, 2), 2u);
  EXPECT_EQ(TailOffset(text, 3), 0u);
  EXPECT_EQ(TailOffset(text, 9), 0u);
  EXPECT_EQ(TailOffset("a\nb", 1), 2u);
  EXPECT_EQ(TailOffset("", 1), 0u);
}

class CriLogFile : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-log-test-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    path_ = dir_ + "/0.log";
  }
  void TearDown() override { ASSERT_TRUE(sys::RemoveTree(dir_)); }

  static std::string Line(int number) {
    return StrCat("2016-10-06T00:17:09.", 100000000 + number, "Z stdout F ", number, "\n");
  }
  void Append(const std::string& text) {
    auto file = sys::Open(path_, O_WRONLY | O_CREAT | O_APPEND, 0600);
    ASSERT_TRUE(file);
    ASSERT_TRUE(sys::WriteAll(*file, text));
  }
  std::string dir_, path_;
};

TEST_F(CriLogFile, TailOfALogOfManyBlocks) {
  std::string log, last;
  for (int i = 0; i < 20000; ++i) log += Line(i);
  for (int i = 18000; i < 20000; ++i) last += StrCat(i, "\n");
  Append(log);
  std::string out;
  LogSelector selector({}, [&](LogStream, std::string_view text) { out += text; });
  ASSERT_TRUE(ReadLog({.path = path_, .tail_lines = 2000}, selector));
  EXPECT_EQ(out, last);
}

// The writer rotates as the kubelet does: rename, then a new file at the old path. Nothing is lost, nothing doubled.
TEST_F(CriLogFile, FollowsThroughRotation) {
  Append(Line(0));
  std::string expected;
  for (int i = 0; i < 200; ++i) expected += StrCat(i, "\n");
  std::mutex mutex;
  std::condition_variable given;
  std::string out;
  std::atomic<bool> writing = true;
  std::thread writer([&] {
    // A kubelet leaves at least ten seconds between two rotations. Here: the reader has seen the file to be renamed, so
    // that never two rotations hide a file from it.
    auto await = [&](int line) {
      std::unique_lock lock(mutex);
      given.wait_for(lock, std::chrono::minutes(1), [&] { return out.ends_with(StrCat(line, "\n")); });
    };
    await(0);
    for (int i = 1; i < 200; ++i) {
      Append(Line(i));
      if (i % 50 == 1) await(i);
      if (i % 50 == 0) rename(path_.c_str(), StrCat(path_, ".", i).c_str());
    }
    writing = false;
  });
  LogSelector selector({}, [&](LogStream, std::string_view text) {
    std::lock_guard lock(mutex);
    out += text;
    given.notify_all();
  });
  auto read = ReadLog({.path = path_, .follow = true, .still_written = [&] { return writing.load(); }}, selector);
  writer.join();
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(out, expected);
}

TEST_F(CriLogFile, AMissingLogIsAnErrorThatNamesIt) {
  LogSelector selector({}, [](LogStream, std::string_view) {});
  auto read = ReadLog({.path = path_}, selector);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message(), testing::HasSubstr(path_));
}

}  // namespace
}  // namespace crisp::ctl
