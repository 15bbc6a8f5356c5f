#include "codec/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"

namespace crisp::codec {
namespace {

using ::testing::HasSubstr;

TEST(ParseYaml, BlockFlowAndScalars) {
  auto value = ParseYaml(R"(
name: pod          # a comment
quoted: "1"
number: 1
negative: -7
real: 1.5
flag: true
nothing:
tilde: ~
version: 1.2.3
octal: 0o17
list: [a, 2, {b: c}]
nested:
- x: 1
  y: |
    two
    lines
- z
)",
                         "test");
  ASSERT_TRUE(value) << value.error().message();
  EXPECT_EQ(*value, Json::parse(R"({"name":"pod","quoted":"1","number":1,"negative":-7,"real":1.5,"flag":true,
    "nothing":null,"tilde":null,"version":"1.2.3","octal":15,"list":["a",2,{"b":"c"}],
    "nested":[{"x":1,"y":"two\nlines\n"},"z"]})"));
}

TEST(ParseYaml, ErrorsNameTheLine) {
  auto value = ParseYaml("a: 1\nb: [1\nc: 2\n", "pod.yaml");
  ASSERT_FALSE(value);
  EXPECT_THAT(value.error().message(), HasSubstr("pod.yaml: line "));
}

TEST(ParseYaml, RefusesWhatCouldExpandOrConfuse) {
  EXPECT_THAT(ParseYaml("a: &x [1]\nb: *x\n", "t").error().message(), HasSubstr("anchors"));
  EXPECT_THAT(ParseYaml("a: !!python/object x\n", "t").error().message(), HasSubstr("tags"));
  EXPECT_THAT(ParseYaml("a: 1\na: 2\n", "t").error().message(), HasSubstr("second time"));
  EXPECT_THAT(ParseYaml("a: 1\n---\nb: 1\n", "t").error().message(), HasSubstr("document"));
  EXPECT_THAT(ParseYaml("? [a]\n: 1\n", "t").error().message(), HasSubstr("key"));
  EXPECT_THAT(ParseYaml(std::string(200, '['), "t").error().message(), HasSubstr("t: line"));
  EXPECT_FALSE(ParseYaml(std::string(100, '[') + std::string(100, ']'), "t"));
}

TEST(RenderYaml, ComesBackAsItWas) {
  Json value =
      Json::parse(R"({"a":{"b":[1,{"c":null,"d":[]},[2,3]],"e":{}},"s":["","yes","null","1","a: b","- x","#","x #y",
    "line\nbreak","tab\t","caf\u00e9","1e3","true","@x"," lead","trail ","0x10","~"],"t":true,"n":-1.5})");
  auto back = ParseYaml(RenderYaml(value), "rendered");
  ASSERT_TRUE(back) << back.error().message() << RenderYaml(value);
  EXPECT_EQ(*back, value) << RenderYaml(value);
}

TEST(RenderYaml, BlockStyle) {
  EXPECT_EQ(RenderYaml(Json::parse(R"({"a":{"b":"x"},"l":[{"k":1,"m":2},"y"]})")),
            "a:\n  b: x\nl:\n- k: 1\n  m: 2\n- \"y\"\n");
  EXPECT_EQ(RenderYaml(Json::parse(R"(["2026-01-02T03:04:05Z","v-2026-01-02"])")),
            "- \"2026-01-02T03:04:05Z\"\n- v-2026-01-02\n");
}

}  // namespace
}  // namespace crisp::codec
