#include <gtest/gtest.h>

#include <atomic>

#include "base/context.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/result.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "base/time.h"

namespace crisp {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0) return Error(Code::kInvalidArgument, StrCat(n, " is odd"));
  return n / 2;
}

Result<int> Quarter(int n) {
  int half = TRY(Half(n));
  return TRY(Half(half), StrCat("quarter of ", n));
}

TEST(Result, TryPassesValuesAndAddsContext) {
  EXPECT_EQ(*Quarter(8), 2);
  Result<int> bad = Quarter(6);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(bad.error().message(), "quarter of 6: 3 is odd");
}

TEST(Error, ErrnoBecomesCodeAndText) {
  Error error = Errno(ENOENT, "open /x");
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_EQ(error.os_errno(), ENOENT);
  EXPECT_EQ(error.message(), "open /x: No such file or directory");
}

TEST(Strings, Utf8) {
  EXPECT_TRUE(IsValidUtf8("grün €"));
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_FALSE(IsValidUtf8("\xff"));
  EXPECT_FALSE(IsValidUtf8("a\xc3"));
  EXPECT_FALSE(IsValidUtf8("\xc0\x80"));
  EXPECT_FALSE(IsValidUtf8("\xed\xa0\x80"));
}

TEST(Strings, ParseIntTakesWholeNumbersOnly) {
  EXPECT_EQ(ParseInt<int>("-12"), -12);
  EXPECT_EQ(ParseInt<unsigned>("-12"), std::nullopt);
  EXPECT_EQ(ParseInt<int>("12x"), std::nullopt);
  EXPECT_EQ(ParseInt<int>(""), std::nullopt);
  EXPECT_EQ(ParseInt<int>("99999999999"), std::nullopt);
}

TEST(Ids, ParseIsExact) {
  PodId id = PodId::Random();
  EXPECT_EQ(*PodId::Parse(id.str()), id);
  EXPECT_FALSE(PodId::Parse(id.str().substr(1)));
  EXPECT_FALSE(PodId::Parse(""));
  EXPECT_FALSE(PodId::Parse(std::string(64, 'A')));
}

TEST(Json, LimitsAndTypes) {
  EXPECT_FALSE(ParseJson(std::string(100, '['), "x"));
  EXPECT_FALSE(ParseJson("{\"a\":", "x"));
  const JsonLimits unique{.unique_members = true};
  EXPECT_TRUE(ParseJson(R"({"a":{"b":1},"c":[{"b":2},{"b":3}]})", "x", unique));
  EXPECT_FALSE(ParseJson(R"({"a":{"b":1,"b":1}})", "x", unique));
  EXPECT_FALSE(ParseJson(R"([{"a":1,"\u0061":1}])", "x", unique));
  Result<Json> json = ParseJson(R"({"a":"b","n":-1})", "x");
  ASSERT_TRUE(json);
  EXPECT_EQ(*JsonGet<std::string>(*json, "a"), "b");
  EXPECT_EQ(*JsonGet<std::string>(*json, "none", "z"), "z");
  EXPECT_FALSE(JsonGet<std::string>(*json, "n"));
  EXPECT_FALSE(JsonGet<uint64_t>(*json, "n"));
  const Json made = {{"seven", 7}, {"minus", -7}};  // of signed numbers, unlike one that is parsed
  EXPECT_EQ(*JsonGet<uint64_t>(made, "seven"), 7u);
  EXPECT_FALSE(JsonGet<uint64_t>(made, "minus"));
}

TEST(Time, Rfc3339) {
  EXPECT_EQ(FormatRfc3339Nano(0), "1970-01-01T00:00:00.000000000Z");
  EXPECT_EQ(FormatRfc3339Nano(1'767'366'245'123'456'789), "2026-01-02T15:04:05.123456789Z");
}

TEST(Rollback, RunsInReverseUnlessDismissed) {
  std::string order;
  {
    Rollback undo;
    undo.Add("a", [&]() -> Result<> { order += 'a'; return {}; });
    undo.Add("b", [&]() -> Result<> { order += 'b'; return Error(Code::kInternal, "shall not stop the others"); });
  }
  EXPECT_EQ(order, "ba");
  {
    Rollback undo;
    undo.Add("c", [&]() -> Result<> { order += 'c'; return {}; });
    undo.Dismiss();
  }
  EXPECT_EQ(order, "ba");
}

TEST(Parallel, EachNumberComesOnce) {
  for (size_t count : {size_t{0}, size_t{1}, size_t{1000}}) {
    std::vector<std::atomic<int>> calls(count);
    InParallel(count, [&](size_t i) { ++calls[i]; });
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(calls[i], 1) << i << " of " << count;
  }
}

TEST(Context, AfterworkWaitsForWhoCollectsItAndElseIsDoneAtOnce) {
  std::string done;
  auto collected = std::make_shared<Afterwork>();
  Ctx ctx;
  ctx.Afterwards([&] { done += 'a'; });
  EXPECT_EQ(done, "a");
  ctx.CollectAfterwork(collected);
  ctx.Afterwards([&] { done += 'b'; });
  ctx.Detached(std::chrono::milliseconds(1)).Afterwards([&] { done += 'c'; });
  ctx.WithTimeout(std::chrono::milliseconds(1)).Afterwards([&] { done += 'd'; });
  EXPECT_EQ(done, "a");
  EXPECT_FALSE(collected->empty());
  collected->Run();
  collected->Run();
  EXPECT_EQ(done, "abcd");
}

TEST(Json, NumberOutOfRangeIsAnErrorNotAnException) {
  Result<Json> huge = ParseJson("{\"a\":1e999}", "input");
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace crisp
