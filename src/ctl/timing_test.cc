#include "ctl/timing.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace crisp::ctl {
namespace {

const char* const kTimings = R"([
  {"call": "RunPodSandbox", "container": "", "began_at": 1, "took_us": 10000,
   "stages": [{"name": "shim", "begin_us": 0, "took_us": 5000}, {"name": "cni", "begin_us": 5000, "took_us": 5000}]},
  {"call": "StartContainer", "container": "a<b\u001b", "began_at": 2, "took_us": 2500, "stages": [{"name": "init"}]}])";

TEST(ParseTimings, WhatCrispdTellsAndNothingElse) {
  auto calls = ParseTimings(Json::parse(kTimings));
  ASSERT_TRUE(calls);
  ASSERT_EQ(calls->size(), 2u);
  EXPECT_EQ((*calls)[0].stages[1].begin_us, 5000);
  EXPECT_EQ((*calls)[1].took_us, 2500);
  for (const char* bad : {"{}", "[1]", R"([{"took_us": "x"}])", R"([{"stages": [1]}])"}) {
    EXPECT_FALSE(ParseTimings(Json::parse(bad))) << bad;
  }
}

TEST(WaterfallText, OneScaleForAllCalls) {
  auto calls = ParseTimings(Json::parse(kTimings));
  ASSERT_TRUE(calls);
  std::string half;
  for (int i = 0; i < 13; ++i) half += "\u2588";
  // 60 columns: 19 for the names, 26 for the bars (the one with the odd cell is the blank's), 15 for the times.
  std::string text = WaterfallText(*calls, 62);
  EXPECT_NE(text.find("  shim              |" + half + std::string(13, ' ') + "|      5.000 ms\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("  cni               |" + std::string(13, ' ') + half + "|      5.000 ms\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("StartContainer a<b?"), std::string::npos) << text;
  EXPECT_NE(text.find("  init              |\u2588 "), std::string::npos) << text;
  EXPECT_EQ(WaterfallText({}, 80), "");
}

TEST(WaterfallSvg, EscapesNamesAndKnowsBothSchemes) {
  auto calls = ParseTimings(Json::parse(kTimings));
  ASSERT_TRUE(calls);
  std::string svg = WaterfallSvg(*calls, "pod \"web\" & more");
  EXPECT_TRUE(svg.starts_with("<svg xmlns="));
  EXPECT_NE(svg.find("StartContainer a&lt;b?"), std::string::npos);
  EXPECT_NE(svg.find("pod &quot;web&quot; &amp; more"), std::string::npos);
  EXPECT_NE(svg.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_EQ(svg.find("href"), std::string::npos);  // it loads nothing
}

}  // namespace
}  // namespace crisp::ctl
