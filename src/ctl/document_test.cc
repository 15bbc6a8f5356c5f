// YAML, JSON and protobuf messages, and the settings file.
#include <gmock/gmock.h>

#include "base/json.h"
#include "cri/v1/api.pb.h"
#include "ctl/message.h"
#include "ctl/settings.h"
#include "codec/yaml.h"

namespace crisp::ctl {
namespace {

using testing::HasSubstr;

TEST(ParseYaml, BlockFlowAndScalars) {
  auto value = codec::ParseYaml(R"(
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
  auto value = codec::ParseYaml("a: 1\nb: [1\nc: 2\n", "pod.yaml");
  ASSERT_FALSE(value);
  EXPECT_THAT(value.error().message(), HasSubstr("pod.yaml: line "));
}

TEST(ParseYaml, RefusesWhatCouldExpandOrConfuse) {
  EXPECT_THAT(codec::ParseYaml("a: &x [1]\nb: *x\n", "t").error().message(), HasSubstr("anchors"));
  EXPECT_THAT(codec::ParseYaml("a: !!python/object x\n", "t").error().message(), HasSubstr("tags"));
  EXPECT_THAT(codec::ParseYaml("a: 1\na: 2\n", "t").error().message(), HasSubstr("second time"));
  EXPECT_THAT(codec::ParseYaml("a: 1\n---\nb: 1\n", "t").error().message(), HasSubstr("document"));
  EXPECT_THAT(codec::ParseYaml("? [a]\n: 1\n", "t").error().message(), HasSubstr("key"));
  EXPECT_THAT(codec::ParseYaml(std::string(200, '['), "t").error().message(), HasSubstr("t: line"));
  EXPECT_FALSE(codec::ParseYaml(std::string(100, '[') + std::string(100, ']'), "t"));
}

TEST(RenderYaml, ComesBackAsItWas) {
  Json value =
      Json::parse(R"({"a":{"b":[1,{"c":null,"d":[]},[2,3]],"e":{}},"s":["","yes","null","1","a: b","- x","#","x #y",
    "line\nbreak","tab\t","caf\u00e9","1e3","true","@x"," lead","trail ","0x10","~"],"t":true,"n":-1.5})");
  auto back = codec::ParseYaml(codec::RenderYaml(value), "rendered");
  ASSERT_TRUE(back) << back.error().message() << codec::RenderYaml(value);
  EXPECT_EQ(*back, value) << codec::RenderYaml(value);
}

TEST(RenderYaml, BlockStyle) {
  EXPECT_EQ(codec::RenderYaml(Json::parse(R"({"a":{"b":"x"},"l":[{"k":1,"m":2},"y"]})")),
            "a:\n  b: x\nl:\n- k: 1\n  m: 2\n- \"y\"\n");
}

TEST(ParseMessage, CrictlsPodFilesInJsonAndYaml) {
  const char* json = R"({"metadata":{"name":"p","namespace":"default","uid":"u","attempt":1},"log_directory":"/tmp",
    "port_mappings":[{"container_port":80,"host_port":8080,"protocol":0}],
    "linux":{"cgroup_parent":"/x","security_context":{"namespace_options":{"network":2,"pid":"CONTAINER"}}}})";
  const char* yaml = R"(
metadata: {name: p, namespace: default, uid: u, attempt: 1}
log_directory: /tmp
port_mappings:
- container_port: 80
  host_port: 8080
  protocol: TCP
linux:
  cgroup_parent: /x
  security_context:
    namespace_options: {network: 2, pid: CONTAINER}
)";
  ::runtime::v1::PodSandboxConfig from_json, from_yaml;
  ASSERT_TRUE(ParseMessage(json, "pod.json", from_json));
  ASSERT_TRUE(ParseMessage(yaml, "pod.yaml", from_yaml));
  EXPECT_EQ(from_json.SerializeAsString(), from_yaml.SerializeAsString());
  EXPECT_EQ(from_yaml.port_mappings(0).host_port(), 8080);
  EXPECT_EQ(from_yaml.linux().security_context().namespace_options().network(), ::runtime::v1::NODE);
}

TEST(ParseMessage, AnUnknownFieldIsNamed) {
  ::runtime::v1::PodSandboxConfig pod;
  auto parsed = ParseMessage(R"({"metadata":{"nam":"p"}})", "pod.json", pod);
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().message(), HasSubstr("pod.json"));
  EXPECT_THAT(parsed.error().message(), HasSubstr("nam"));
  EXPECT_FALSE(ParseMessage("[1]", "list", pod));
  EXPECT_FALSE(ParseMessage("", "empty", pod));
  EXPECT_FALSE(ParseMessage(R"({"metadata":{"attempt":"x"}})", "type", pod));
}

TEST(StatusToJson, TimesAreTextsAndInfoIsParsed) {
  ::runtime::v1::ContainerStatus status;
  status.set_id("abc");
  status.set_state(::runtime::v1::CONTAINER_EXITED);
  status.set_created_at(1475713029669794202);
  auto document = StatusToJson(status, {{"pid", "7"}, {"config", R"({"a":1})"}, {"broken", "{"}});
  ASSERT_TRUE(document);
  EXPECT_EQ((*document)["status"]["createdAt"], "2016-10-06T00:17:09.669794202Z");
  EXPECT_EQ((*document)["status"]["finishedAt"], "0001-01-01T00:00:00Z");
  EXPECT_EQ((*document)["status"]["state"], "CONTAINER_EXITED");
  EXPECT_EQ((*document)["config"]["a"], 1);
  EXPECT_EQ((*document)["pid"], "7");
  EXPECT_EQ((*document)["broken"], "{");
}

TEST(Settings, CrictlsFile) {
  auto settings = ParseSettings("runtime-endpoint: unix:///run/x.sock\ntimeout: 5\ndebug: false\n", "t");
  ASSERT_TRUE(settings);
  EXPECT_EQ((*settings)["runtime-endpoint"], "unix:///run/x.sock");
  EXPECT_EQ((*settings)["timeout"], "5");
  EXPECT_TRUE(ParseSettings("", "t")->empty());
  EXPECT_FALSE(ParseSettings("- a\n", "t"));
  EXPECT_FALSE(ParseSettings("a: {b: 1}\n", "t"));
}

}  // namespace
}  // namespace crisp::ctl
