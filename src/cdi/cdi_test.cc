#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/json.h"
#include "base/strings.h"
#include "cdi/inject.h"
#include "cdi/registry.h"
#include "cdi/spec.h"

namespace crisp::cdi {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Read(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string Minimal(const std::string& edits, const std::string& kind = "vendor.com/gpu",
                    const std::string& name = "0") {
  return StrCat(R"({"cdiVersion":"0.8.0","kind":")", kind, R"(","devices":[{"name":")", name, R"(","containerEdits":)",
                edits, "}]}");
}

TEST(CdiSpec, Refuses) {
  struct Case {
    const char *text, *why;
  };
  for (const Case& c : std::initializer_list<Case>{
           {R"({"cdiVersion":"9.0.0","kind":"a/b","devices":[{"name":"x"}]})", "cdiVersion"},
           {R"({"kind":"a/b","devices":[{"name":"x"}]})", "cdiVersion"},
           {R"({"cdiVersion":"0.8.0","kind":"gpu","devices":[{"name":"x"}]})", "vendor/class"},
           {R"({"cdiVersion":"0.8.0","kind":"1a/b","devices":[{"name":"x"}]})", "vendor/class"},
           {R"({"cdiVersion":"0.8.0","kind":"a/b"})", "no devices"},
           {R"({"cdiVersion":"0.8.0","kind":"a/b","devices":[{"name":"x"},{"name":"x"}]})", "second time"},
           {R"({"cdiVersion":"0.8.0","kind":"a/b","devices":[{"name":"-x"}]})", "no name of a device"},
           {R"({"cdiVersion":"0.8.0","kind":"a/b","devices":[{"name":"x","edits":{}}]})", "unknown key"},
           {R"({"cdiVersion":"0.8.0","kind":"a/b","devices":[{"name":"x","containerEdits":[]}]})", "object"},
       }) {
    Result<Spec> spec = ParseSpec(c.text, Syntax::kJson, "f");
    ASSERT_FALSE(spec) << c.text;
    EXPECT_THAT(spec.error().message(), HasSubstr(c.why)) << c.text;
  }
  for (const Case& c : std::initializer_list<Case>{
           {R"({"env":["=x"]})", "NAME=value"},
           {R"({"env":["x"]})", "NAME=value"},
           {R"({"deviceNodes":[{"path":"dev/x"}]})", "absolute"},
           {R"({"deviceNodes":[{"path":"/dev/x","type":"z"}]})", "type"},
           {R"({"deviceNodes":[{"path":"/dev/x","permissions":"rx"}]})", "permissions"},
           {R"({"deviceNodes":[{"path":"/dev/x","major":-1}]})", "range"},
           {R"({"mounts":[{"containerPath":"/x"}]})", "hostPath"},
           {R"({"mounts":[{"hostPath":"/x","containerPath":"x"}]})", "absolute"},
           {R"({"hooks":[{"hookName":"boot","path":"/x"}]})", "no such hook"},
           {R"({"hooks":[{"hookName":"prestart","path":"x"}]})", "absolute"},
           {R"({"intelRdt":{"closID":"../x"}})", "closID"},
           {R"({"additionalGids":[-1]})", "group"},
           {R"({"rootfs":"/"})", "unknown key"},
       }) {
    Result<Spec> spec = ParseSpec(Minimal(c.text), Syntax::kJson, "f");
    ASSERT_FALSE(spec) << c.text;
    EXPECT_THAT(spec.error().message(), HasSubstr(c.why)) << c.text;
  }
}

TEST(CdiSpec, YamlAndJsonAreTheSame) {
  Result<Spec> spec = ParseSpec(
      "cdiVersion: 0.8.0\nkind: vendor.com/gpu\ndevices:\n- name: gpu0\n  containerEdits:\n"
      "    env: [A=1]\n    deviceNodes:\n    - {path: /dev/a, hostPath: /dev/b, uid: 7}\n",
      Syntax::kYaml, "f");
  ASSERT_TRUE(spec) << spec.error().message();
  const Edits& edits = spec->devices.at("gpu0");
  EXPECT_THAT(edits.env, ElementsAre("A=1"));
  ASSERT_EQ(edits.device_nodes.size(), 1u);
  EXPECT_EQ(edits.device_nodes[0].host_path, "/dev/b");
  EXPECT_EQ(edits.device_nodes[0].uid, 7u);
  EXPECT_EQ(edits.device_nodes[0].permissions, "rwm");
}

TEST(CdiNames, OfDevices) {
  EXPECT_TRUE(ParseDeviceName("vendor.com/class=gpu0"));
  EXPECT_TRUE(ParseDeviceName("v/c=0"));
  EXPECT_TRUE(ParseDeviceName("nvidia.com/gpu=GPU-1:2.3"));
  for (const char* bad :
       {"", "gpu0", "v=0", "v/c", "v/c=", "/c=0", "v/=0", "v./c=0", "v/c=a/b", "v/c=../x", "1v/c=0", "v/c=a=b"}) {
    Result<DeviceName> name = ParseDeviceName(bad);
    ASSERT_FALSE(name) << bad;
    EXPECT_EQ(name.error().code(), Code::kInvalidArgument);
  }
}

TEST(CdiNames, S56_AnnotationsThatLookAlikeAreNotHonoured) {
  EXPECT_THAT(DevicesOfAnnotations({{"cdi.k8s.io/plugin_id", "v/c=0,v/c=1"},
                                    {"cdi.k8s.io", "v/c=2"},
                                    {"cdi.k8s.io.evil.com/x", "v/c=3"},
                                    {"xcdi.k8s.io/x", "v/c=4"},
                                    {"CDI.k8s.io/x", "v/c=5"},
                                    {"evil/cdi.k8s.io/x", "v/c=6"}}),
              ElementsAre("v/c=0", "v/c=1"));
}

class CdiRegistry : public ::testing::Test {
 protected:
  CdiRegistry() {
    std::string name = "/tmp/crisp-cdi-XXXXXX";
    dir_ = mkdtemp(name.data());
    std::filesystem::create_directories(dir_ + "/low");
    std::filesystem::create_directories(dir_ + "/high");
  }
  ~CdiRegistry() override { std::filesystem::remove_all(dir_); }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ + "/new") << text;  // a file of another inode, as writers of configuration do it
    std::filesystem::rename(dir_ + "/new", dir_ + "/" + name);
  }
  std::string dir_;
};

TEST_F(CdiRegistry, LaterDirectoriesWinAndChangesAreSeen) {
  Registry registry({dir_ + "/low", dir_ + "/high", dir_ + "/missing"});
  EXPECT_EQ(registry.Resolve({"vendor.com/gpu=0"}).error().code(), Code::kNotFound);
  Write("low/a.json", Minimal(R"({"env":["A=low"]})"));
  EXPECT_THAT(registry.Resolve({"vendor.com/gpu=0"}).value().back().env, ElementsAre("A=low"));
  Write("high/a.json", Minimal(R"({"env":["A=high"]})"));
  EXPECT_THAT(registry.Resolve({"vendor.com/gpu=0"}).value().back().env, ElementsAre("A=high"));
  Write("high/a.json", Minimal(R"({"env":["A=next"]})"));
  EXPECT_THAT(registry.Resolve({"vendor.com/gpu=0"}).value().back().env, ElementsAre("A=next"));
  std::filesystem::remove(dir_ + "/high/a.json");
  EXPECT_THAT(registry.Resolve({"vendor.com/gpu=0"}).value().back().env, ElementsAre("A=low"));
}

TEST_F(CdiRegistry, ConflictWithinOneDirectory) {
  Registry registry({dir_ + "/low", dir_ + "/high"});
  Write("low/a.json", Minimal("{}"));
  Write("low/b.json", Minimal("{}"));
  Result<std::vector<Edits>> edits = registry.Resolve({"vendor.com/gpu=0"});
  ASSERT_FALSE(edits);
  EXPECT_EQ(edits.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(edits.error().message(), HasSubstr("b.json"));
  Write("high/c.json", Minimal("{}"));
  EXPECT_TRUE(registry.Resolve({"vendor.com/gpu=0"}));
}

TEST_F(CdiRegistry, ErrorsNameTheDeviceAndTheBrokenFile) {
  Registry registry({dir_ + "/low"});
  Write("low/broken.json", "{");
  Write("low/fine.json", Minimal("{}", "vendor.com/gpu", "1"));
  Write("low/notes.txt", "not looked at");
  Result<std::vector<Edits>> edits = registry.Resolve({"vendor.com/gpu=1", "vendor.com/gpu=0"});
  ASSERT_FALSE(edits);
  EXPECT_EQ(edits.error().code(), Code::kNotFound);
  EXPECT_THAT(edits.error().message(), HasSubstr("vendor.com/gpu=0"));
  EXPECT_THAT(edits.error().message(), HasSubstr("broken.json"));
  EXPECT_EQ(registry.Resolve({"gpu"}).error().code(), Code::kInvalidArgument);
}

TEST_F(CdiRegistry, CommonEditsOnceAndDevicesLookedUp) {
  Registry registry({dir_ + "/low"});
  Write("low/a.json", R"({"cdiVersion":"0.8.0","kind":"v/c","containerEdits":{"env":["ALL=1"]},"devices":[
      {"name":"null","containerEdits":{"deviceNodes":[{"path":"/dev/mine","hostPath":"/dev/null"}]}},
      {"name":"zero","containerEdits":{"env":["Z=1"]}},
      {"name":"gone","containerEdits":{"deviceNodes":[{"path":"/dev/crisp-not-there"}]}}]})");
  Result<std::vector<Edits>> edits = registry.Resolve({"v/c=null", "v/c=zero", "v/c=null"});
  ASSERT_TRUE(edits) << edits.error().message();
  ASSERT_EQ(edits->size(), 3u);
  EXPECT_THAT((*edits)[0].env, ElementsAre("ALL=1"));
  const DeviceNode& node = (*edits)[1].device_nodes.at(0);
  EXPECT_EQ(node.type, "c");
  EXPECT_EQ(node.major, 1);
  EXPECT_EQ(node.minor, 3);
  Result<std::vector<Edits>> gone = registry.Resolve({"v/c=gone"});
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message(), HasSubstr("/dev/crisp-not-there"));
}

// Byte for byte: tests/data/cdi/. After a wanted change: ACCEPT=1 cdi_test, and look at the difference.
TEST(CdiInject, Golden) {
  std::string data = CRISP_SOURCE_DIR "/tests/data/cdi/";
  Result<Spec> spec = ParseSpec(Read(data + "spec.json"), Syntax::kJson, "spec.json");
  ASSERT_TRUE(spec) << spec.error().message();
  Result<std::string> config = Inject(Read(data + "before.json"), {spec->edits, spec->devices.at("0")});
  ASSERT_TRUE(config) << config.error().message();
  std::string text = Json::parse(*config).dump(2) + "\n";
  if (getenv("ACCEPT") != nullptr) std::ofstream(data + "after.json") << text;
  EXPECT_EQ(text, Read(data + "after.json"));
}

TEST(CdiInject, NetworkDevicesAreRefusedByName) {
  Edits edits;
  edits.net_devices = {"eth7"};
  Result<std::string> config = Inject(R"({"process":{},"linux":{}})", {edits});
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code(), Code::kUnimplemented);
  EXPECT_THAT(config.error().message(), HasSubstr("eth7"));
}

}  // namespace
}  // namespace crisp::cdi
