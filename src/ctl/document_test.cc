// YAML, JSON and protobuf messages, and the settings file.
#include <gmock/gmock.h>

#include "base/json.h"
#include "cri/v1/api.pb.h"
#include "ctl/message.h"
#include "ctl/schema.h"
#include "ctl/settings.h"

namespace crisp::ctl {
namespace {

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

TEST(ParseMessage, BytesArePlainTextAsInCrictl) {
  ::runtime::v1::ContainerConfig container;
  ASSERT_TRUE(ParseMessage(R"({"envs":[{"key":"A","value":"B=C"},{"key":"D","value":""}]})", "c.json", container));
  ASSERT_EQ(container.envs_size(), 2);
  EXPECT_EQ(container.envs(0).value(), "B=C");
  EXPECT_EQ(container.envs(1).value(), "");
}

TEST(ParseMessage, AnUnknownFieldIsNamed) {
  ::runtime::v1::PodSandboxConfig pod;
  auto parsed = ParseMessage(R"({"metadata":{"nam":"p"}})", "pod.json", pod);
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().message(), "pod.json: (metadata): no such field: nam");
  EXPECT_EQ(ParseMessage(R"({"lables":{}})", "pod.json", pod).error().message(), "pod.json: no such field: lables");
  EXPECT_FALSE(ParseMessage("[1]", "list", pod));
  for (const char* wrong : {R"({"labels":{"foo":{}}})", R"({"labels":{"foo":["x"]}})", R"({"labels":{"foo":null}})"}) {
    EXPECT_EQ(ParseMessage(wrong, "pod.json", pod).error().message(), "pod.json: labels.foo: one value is wanted, like \"text\"") << wrong;
  }
  EXPECT_EQ(ParseMessage(R"({"linux":{"sysctls":[]}})", "pod.json", pod).error().message(), "pod.json: linux.sysctls: an object is wanted");
  Result<> odd = ParseMessage(R"({"labels":null,"linux":{"sysctls":{"net.core.somaxconn":"1024"}}})", "pod.json", pod);
  EXPECT_TRUE(odd) << odd.error().message();
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

TEST(Schema, TypesOfFieldsAndWhatTheyAreMadeOf) {
  Json schema = SchemaOf(*::runtime::v1::ContainerConfig::descriptor(), "an-id");
  EXPECT_EQ(schema["$id"], "an-id");
  EXPECT_EQ(schema["$ref"], "#/$defs/ContainerConfig");
  const Json& container = schema["$defs"]["ContainerConfig"]["properties"];
  EXPECT_EQ(container["metadata"], Json({{"$ref", "#/$defs/ContainerMetadata"}}));
  EXPECT_EQ(container["command"], Json({{"type", "array"}, {"items", {{"type", "string"}}}}));
  EXPECT_EQ(container["labels"], Json({{"type", "object"}, {"additionalProperties", {{"type", "string"}}}}));
  EXPECT_EQ(container["tty"], Json({{"type", "boolean"}}));
  EXPECT_EQ(container["stop_signal"]["oneOf"].size(), 2u);
  EXPECT_EQ(schema["$defs"]["KeyValue"]["properties"]["value"], Json({{"type", "string"}}));  // bytes, written as text
  EXPECT_EQ(schema["$defs"]["ContainerMetadata"]["additionalProperties"], false);
  EXPECT_FALSE(schema["$defs"].contains("PodSandboxConfig"));
}

}  // namespace
}  // namespace crisp::ctl
