#include "codec/cri_log.h"

#include <gtest/gtest.h>

#include <random>

namespace crisp::codec {
namespace {

constexpr int64_t kTime = 1'767'366'245'000'000'007;  // 2026-01-02T15:04:05.000000007Z
const std::string kPrefix = "2026-01-02T15:04:05.000000007Z stdout ";

std::string Framed(CriLogFramer& framer, std::string_view bytes, size_t out_size = 64 * 1024) {
  std::string all, out(out_size, '\0');
  while (!bytes.empty()) {
    size_t before = bytes.size();
    size_t filled = framer.Push(bytes, kTime, out.data(), out.size());
    EXPECT_TRUE(filled > 0 || bytes.size() < before || bytes.empty());
    all.append(out, 0, filled);
  }
  return all;
}
std::string Finish(CriLogFramer& framer) {
  std::string out(kCriLogRecordMax, '\0');
  out.resize(framer.Finish(kTime, out.data(), out.size()));
  return out;
}

TEST(CriLogFramer, CompleteLines) {
  CriLogFramer framer(LogStream::kStdout);
  EXPECT_EQ(Framed(framer, "one\n\ntwo words\r\n"), kPrefix + "F one\n" + kPrefix + "F \n" + kPrefix + "F two words\r\n");
  EXPECT_EQ(Finish(framer), "");
}

TEST(CriLogFramer, StderrIsNamed) {
  CriLogFramer framer(LogStream::kStderr);
  EXPECT_EQ(Framed(framer, "x\n"), "2026-01-02T15:04:05.000000007Z stderr F x\n");
}

TEST(CriLogFramer, UnfinishedLineWaitsAndEndsAsPartial) {
  CriLogFramer framer(LogStream::kStdout);
  EXPECT_EQ(Framed(framer, "no end"), "");
  EXPECT_EQ(framer.held_bytes(), 6u);
  EXPECT_EQ(Finish(framer), kPrefix + "P no end\n");
  EXPECT_EQ(Finish(framer), "");
}

TEST(CriLogFramer, LongLinesAreCutAtTheLimit) {
  const std::string full(kCriLogTextMax, 'a');
  CriLogFramer framer(LogStream::kStdout);
  EXPECT_EQ(Framed(framer, full + "\n"), kPrefix + "F " + full + "\n");
  EXPECT_EQ(Framed(framer, full + "b\n"), kPrefix + "P " + full + "\n" + kPrefix + "F b\n");
  EXPECT_EQ(Framed(framer, full), "");
  EXPECT_EQ(Framed(framer, "\n"), kPrefix + "F " + full + "\n");
}

TEST(CriLogFramer, RawBytesPass) {
  CriLogFramer framer(LogStream::kStdout);
  const std::string raw("\x1b[2J\0\xff\rF stdout", 16);
  EXPECT_EQ(Framed(framer, raw + "\n"), kPrefix + "F " + raw + "\n");
}

// However the bytes are split into reads and however small the output buffer is: the same log, and putting its texts
// together again gives the input.
TEST(CriLogFramer, SplitsDoNotShow) {
  std::mt19937 random(7);
  for (int round = 0; round < 60; ++round) {
    std::string input;
    for (int line = 0; line < 30; ++line) {
      size_t length = random() % 5 == 0 ? random() % (3 * kCriLogTextMax) : random() % 100;
      input.append(length, static_cast<char>('a' + line % 26));
      if (random() % 8 != 0) input += '\n';
    }
    CriLogFramer whole(LogStream::kStdout);
    std::string expected = Framed(whole, input, 1 << 20);
    expected += Finish(whole);

    CriLogFramer split(LogStream::kStdout);
    std::string log;
    for (std::string_view rest = input; !rest.empty();) {
      size_t n = std::min<size_t>(rest.size(), 1 + random() % (random() % 2 ? 70'000 : 20));
      log += Framed(split, rest.substr(0, n), kCriLogRecordMax + random() % 1000);
      rest.remove_prefix(n);
    }
    log += Finish(split);
    ASSERT_EQ(log, expected);

    std::string joined;
    for (std::string_view rest = log; !rest.empty();) {
      size_t end = rest.find('\n');
      ASSERT_NE(end, std::string_view::npos);
      Result<CriLogRecord> record = ParseCriLogRecord(rest.substr(0, end + 1));
      ASSERT_TRUE(record);
      ASSERT_LE(record->text.size(), kCriLogTextMax);
      joined += record->text;
      if (!record->partial) joined += '\n';
      rest.remove_prefix(end + 1);
    }
    ASSERT_EQ(joined, input);
  }
}

TEST(ParseCriLogRecord, Fields) {
  Result<CriLogRecord> record = ParseCriLogRecord("2026-01-02T15:04:05.1+02:00 stderr P:x  two  blanks \n");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->time, "2026-01-02T15:04:05.1+02:00");
  EXPECT_EQ(record->stream, LogStream::kStderr);
  EXPECT_TRUE(record->partial);
  EXPECT_EQ(record->text, " two  blanks ");
}

TEST(ParseCriLogRecord, ForeignLinesAreRefused) {
  for (const char* line : {"", "\n", "hello", "2026-01-02T15:04:05Z stdout", "2026-01-02T15:04:05Z stdin F x",
                           "2026-01-02T15:04:05Z stdout Q x", "2026-01-02T15:04:05Z  stdout F x", "   "}) {
    EXPECT_FALSE(ParseCriLogRecord(line)) << line;
  }
}

}  // namespace
}  // namespace crisp::codec
