#include <gmock/gmock.h>

#include "base/json.h"
#include "stream/status.h"
#include "stream/tokens.h"

namespace crisp::stream {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

TEST(Tokens, S48OnceForOneVerbWithinItsTime) {
  Tokens tokens({});
  Clock::time_point now = Clock::now();
  std::string token = *tokens.Issue({.verb = Verb::kExec, .id = "c1"}, now);
  EXPECT_GE(token.size() * 4, 128u);
  EXPECT_FALSE(tokens.Redeem(Verb::kAttach, token, now));
  EXPECT_FALSE(tokens.Redeem(Verb::kExec, token.substr(1), now));
  EXPECT_FALSE(tokens.Redeem(Verb::kExec, "", now));
  std::optional<Request> request = tokens.Redeem(Verb::kExec, token, now + seconds(59));
  ASSERT_TRUE(request);
  EXPECT_EQ(request->id, "c1");
  EXPECT_FALSE(tokens.Redeem(Verb::kExec, token, now));

  std::string late = *tokens.Issue({}, now);
  EXPECT_FALSE(tokens.Redeem(Verb::kExec, late, now + seconds(60)));
  EXPECT_EQ(tokens.in_flight(), 0u);
}

TEST(Tokens, S48AThousandAtMost) {
  Tokens tokens({});
  Clock::time_point now = Clock::now();
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(tokens.Issue({}, now));
  Result<std::string> more = tokens.Issue({}, now + seconds(59));
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(tokens.Issue({}, now + seconds(60)));
  EXPECT_EQ(tokens.in_flight(), 1u);
}

TEST(Status, AsClientGoReadsIt) {
  EXPECT_EQ(StatusText(0, 4), R"({"metadata":{},"status":"Success"})");
  Json failed = *ParseJson(StatusText(7, 5), "status");
  EXPECT_EQ(failed["status"], "Failure");
  EXPECT_EQ(failed["reason"], "NonZeroExitCode");
  EXPECT_EQ(failed["details"]["causes"][0]["reason"], "ExitCode");
  EXPECT_EQ(failed["details"]["causes"][0]["message"], "7");
  Json error = *ParseJson(StatusText(Error(Code::kNotFound, "no such program"), 4), "status");
  EXPECT_EQ(error["reason"], "InternalError");
  EXPECT_EQ(error["message"], "no such program");
  EXPECT_EQ(StatusText(0, 1), "");
  EXPECT_THAT(StatusText(7, 3), HasSubstr("exit status 7"));
}

TEST(TerminalSize, LastWholeOneCounts) {
  std::string text = R"({"Width":80,"Height":24}{"Width":100,"Height":30}{"Wid)";
  std::optional<TerminalSize> size = TakeTerminalSize(text);
  ASSERT_TRUE(size);
  EXPECT_EQ(size->width, 100);
  EXPECT_EQ(size->height, 30);
  text += R"(th":1,"Height":2})";
  EXPECT_EQ(TakeTerminalSize(text)->width, 1);
  EXPECT_EQ(text, "");
}

TEST(TerminalSize, S45FloodsAndNonsenseAreDropped) {
  for (std::string text : {R"({"Width":0,"Height":1})", R"({"Width":70000,"Height":1})", R"({"Width":"1","Height":1})",
                           "}", "[]", R"({"Width":-1,"Height":1})"}) {
    EXPECT_FALSE(TakeTerminalSize(text));
  }
  std::string endless(1 << 20, '{');
  EXPECT_FALSE(TakeTerminalSize(endless));
  EXPECT_LE(endless.size(), 4096u);
}

}  // namespace
}  // namespace crisp::stream
