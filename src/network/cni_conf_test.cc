#include "network/cni_conf.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/strings.h"
#include "network/bridge.h"
#include "network/builtin.h"
#include "sys/file.h"

namespace crisp::network {
namespace {

constexpr const char* kList = R"({"cniVersion":"1.0.0","name":"pods","plugins":[
  {"type":"bridge","ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true,"bandwidth":false}}]})";

std::string Problem(std::string_view text) {
  auto conf = ParseNetworkConf(text, "x");
  return conf ? "" : conf.error().message();
}

TEST(NetworkConf, List) {
  NetworkConf conf = ParseNetworkConf(kList, "x").value();
  EXPECT_EQ(conf.name, "pods");
  EXPECT_EQ(conf.cni_version, "1.0.0");
  ASSERT_EQ(conf.plugins.size(), 2u);
  EXPECT_EQ(conf.plugins[1].type, "portmap");
  EXPECT_EQ(conf.plugins[1].capabilities, std::vector<std::string>{"portMappings"});
  EXPECT_EQ(ParseNetworkConf(conf.text, "again").value().text, conf.text);
}

TEST(NetworkConf, OnePluginIsAListOfOne) {
  NetworkConf conf = ParseNetworkConf(R"({"cniVersion":"0.4.0","name":"one","type":"ptp","mtu":1400})", "x").value();
  ASSERT_EQ(conf.plugins.size(), 1u);
  EXPECT_EQ(conf.plugins[0].conf["mtu"], 1400);
  EXPECT_EQ(ParseNetworkConf(conf.text, "again").value().plugins[0].conf["mtu"], 1400);
}

TEST(NetworkConf, Versions) {
  auto version = [](const std::string& members) {
    auto conf = ParseNetworkConf(R"({"name":"n","type":"t")" + members + "}", "x");
    return conf ? conf->cni_version : conf.error().message();
  };
  EXPECT_EQ(version(""), "0.1.0");
  for (std::string_view known : kCniVersions) EXPECT_EQ(version(StrCat(R"(,"cniVersion":")", known, "\"")), known);
  EXPECT_EQ(version(R"(,"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0","9.0.0"])"), "1.1.0");
  EXPECT_EQ(version(R"(,"cniVersion":"2.0.0")"), "x: CNI version \"2.0.0\" is not supported");
}

TEST(NetworkConf, FlagsMayBeText) {
  auto conf = ParseNetworkConf(R"({"name":"n","disableCheck":"true","disableGC":true,"plugins":[{"type":"t"}]})", "x").value();
  EXPECT_TRUE(conf.disable_check);
  EXPECT_TRUE(conf.disable_gc);
}

// CVE-2021-20206: a type with a path in it runs any program of the host.
TEST(NetworkConf, RejectsTypesAndNamesThatArePaths) {
  for (const char* type : {"../../bin/sh", "/bin/sh", "a/b", "", ".", "..", ".hidden", "-x", "a b", "a\\u0000b"}) {
    EXPECT_NE(Problem(StrCat(R"({"name":"n","plugins":[{"type":")", type, "\"}]}")), "") << type;
    if (*type != '\0') {
      EXPECT_NE(Problem(StrCat(R"({"name":"n","plugins":[{"type":"ok","ipam":{"type":")", type, "\"}}]}")), "") << type;
    }
    EXPECT_NE(Problem(StrCat(R"({"name":")", type, R"(","plugins":[{"type":"ok"}]})")), "") << type;
  }
}

TEST(NetworkConf, RejectsWhatHasAnotherShape) {
  for (const char* bad : {"", "null", "[]", "{", "7", R"({"name":"n"})", R"({"name":"n","plugins":{}})", R"({"name":"n","plugins":[]})",
                          R"({"name":"n","plugins":[7]})", R"({"name":7,"type":"t"})", R"({"name":"n","type":["t"]})",
                          R"({"name":"n","type":"t","capabilities":[]})", R"({"name":"n","type":"t","capabilities":{"a":1}})",
                          R"({"name":"n","type":"t","ipam":"host-local"})", R"({"name":"n","type":"t","cniVersions":[1]})",
                          R"({"name":"n","type":"t","disableCheck":"perhaps"})"}) {
    EXPECT_NE(Problem(bad), "") << bad;
  }
  EXPECT_NE(Problem(std::string(100'000, '[')), "");
  EXPECT_NE(Problem(R"({"name":"n","type":"t","x":")" + std::string(kConfBytesMax, 'x') + "\"}"), "");
}

class ConfDirTest : public testing::Test {
 protected:
  ConfDirTest() {
    char path[] = "/tmp/crisp-conf-XXXXXX";
    top_ = mkdtemp(path);
    dir_ = top_ + "/net.d";
    mkdir(dir_.c_str(), 0755);
  }
  ~ConfDirTest() override { std::filesystem::remove_all(top_); }
  void Write(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(sys::WriteFileAtomic(StrCat(dir_, "/", name), text, 0644, sys::Durability::kNone));
  }
  static std::string List(const std::string& name) { return R"({"cniVersion":"1.0.0","name":")" + name + R"(","plugins":[{"type":"bridge"}]})"; }
  static std::string Name(const ConfDir& dir) {
    auto loaded = dir.Current();
    return loaded->conf ? loaded->conf->name : "none";
  }
  std::string top_, dir_;
};

TEST_F(ConfDirTest, FirstValidByName) {
  ConfDir confs(dir_, "");
  EXPECT_EQ(Name(confs), "none");
  EXPECT_NE(confs.Current()->problem.find(dir_), std::string::npos);
  Write("50-b.conflist", List("b"));
  EXPECT_EQ(Name(confs), "b");
  Write("10-a.conf", R"({"name":"a","type":"bridge"})");
  EXPECT_EQ(Name(confs), "a");
  Write("05-bad.conflist", "{");
  Write("06-other.txt", List("text"));
  EXPECT_EQ(Name(confs), "a") << "a bad file is passed over";
  Write("05-bad.conflist", List("good-now"));
  EXPECT_EQ(Name(confs), "good-now");
  unlink((dir_ + "/05-bad.conflist").c_str());
  unlink((dir_ + "/10-a.conf").c_str());
  EXPECT_EQ(Name(confs), "b");
}

TEST_F(ConfDirTest, FallbackAndADirectoryThatComesAndGoes) {
  ConfDir confs(dir_, List("fallback"));
  EXPECT_EQ(Name(confs), "fallback");
  std::filesystem::remove_all(dir_);
  EXPECT_EQ(Name(confs), "fallback");
  mkdir(dir_.c_str(), 0755);
  Write("1.conflist", List("new"));
  EXPECT_EQ(Name(confs), "new");
  std::filesystem::rename(dir_, dir_ + ".old");
  EXPECT_EQ(Name(confs), "fallback");
  mkdir(dir_.c_str(), 0755);
  Write("1.conflist", List("newer"));
  EXPECT_EQ(Name(confs), "newer");
  confs.SetFallback(List("other"));
  unlink((dir_ + "/1.conflist").c_str());
  EXPECT_EQ(Name(confs), "other");
}

TEST_F(ConfDirTest, OnlyRegularFilesOfModestSize) {
  ConfDir confs(dir_, "");
  ASSERT_EQ(mkfifo((dir_ + "/00-fifo.conflist").c_str(), 0644), 0);
  ASSERT_EQ(symlink("/dev/zero", (dir_ + "/01-zero.conflist").c_str()), 0);
  ASSERT_EQ(symlink("/nowhere", (dir_ + "/02-dangling.conflist").c_str()), 0);
  ASSERT_EQ(mkdir((dir_ + "/03-dir.conflist").c_str(), 0755), 0);
  Write("04-huge.conflist", List("huge") + std::string(kConfBytesMax, ' '));
  EXPECT_EQ(Name(confs), "none");
  ASSERT_TRUE(sys::WriteFileAtomic(top_ + "/real", List("linked"), 0644, sys::Durability::kNone));
  ASSERT_EQ(symlink((top_ + "/real").c_str(), (dir_ + "/05-link.conflist").c_str()), 0);
  EXPECT_EQ(Name(confs), "linked");
}

TEST_F(ConfDirTest, PluginsBesideTheList) {
  mkdir((dir_ + "/pods").c_str(), 0755);
  Write("10-pods.conflist", R"({"cniVersion":"1.1.0","name":"pods","plugins":[{"type":"bridge"}]})");
  Write("pods/20-tuning.conf", R"({"type":"tuning"})");
  Write("pods/10-portmap.conf", R"({"type":"portmap"})");
  Write("pods/30-bad.txt", "{");
  auto conf = LoadNetworkConf(dir_ + "/10-pods.conflist").value();
  ASSERT_EQ(conf.plugins.size(), 3u);
  EXPECT_EQ(conf.plugins[1].type, "portmap");
  EXPECT_EQ(conf.plugins[2].type, "tuning");
  Write("10-pods.conflist", R"({"cniVersion":"1.1.0","name":"pods","loadOnlyInlinedPlugins":true,"plugins":[{"type":"bridge"}]})");
  EXPECT_EQ(LoadNetworkConf(dir_ + "/10-pods.conflist").value().plugins.size(), 1u);
}

TEST(Fallback, IsAValidListThatIsAllBuiltIn) {
  NetworkConf conf = ParseNetworkConf(DefaultConflist("crisp0", "10.88.7.9/16, fd00:88::/64", "/run/x/ipam").value(), "x").value();
  EXPECT_EQ(conf.name, "crisp0");
  for (const PluginConf& plugin : conf.plugins) EXPECT_TRUE(Builtin::Supports(plugin)) << plugin.type;
  EXPECT_EQ(conf.plugins[0].conf["ipam"]["ranges"][0][0]["subnet"], "10.88.0.0/16");
  EXPECT_EQ(conf.plugins[0].conf["ipam"]["routes"][1]["dst"], "::/0");
  EXPECT_FALSE(DefaultConflist("crisp0", "10.88.0.0", "/x"));
  EXPECT_FALSE(DefaultConflist("crisp0", "", "/x"));
}

TEST(Builtins, LeaveToTheRealPluginWhatTheyCannotDo) {
  auto supports = [](const char* text) {
    return Builtin::Supports(ParseNetworkConf(StrCat(R"({"name":"n","plugins":[)", text, "]}"), "x").value().plugins[0]);
  };
  EXPECT_TRUE(supports(R"({"type":"loopback"})"));
  EXPECT_TRUE(supports(R"({"type":"bridge","bridge":"b","isDefaultGateway":true,"ipMasq":true,"mtu":1400,"vlan":0,"macspoofchk":false})"));
  EXPECT_FALSE(supports(R"({"type":"bridge","vlan":7})"));
  EXPECT_FALSE(supports(R"({"type":"bridge","macspoofchk":true})"));
  EXPECT_FALSE(supports(R"({"type":"bridge","enabledad":true})"));
  EXPECT_FALSE(supports(R"({"type":"bridge","ipMasqBackend":"iptables"})"));
  EXPECT_FALSE(supports(R"({"type":"bridge","keyOfTheFuture":"x"})"));
  EXPECT_TRUE(supports(R"({"type":"portmap","snat":true,"capabilities":{"portMappings":true}})"));
  EXPECT_FALSE(supports(R"({"type":"portmap","snat":false})"));
  EXPECT_FALSE(supports(R"({"type":"portmap","conditionsV4":["-s","10.0.0.0/8"]})"));
  EXPECT_FALSE(supports(R"({"type":"portmap","externalSetMarkChain":"KUBE-MARK-MASQ"})"));
  EXPECT_FALSE(supports(R"({"type":"firewall"})"));
}

TEST(Bridge, ConfLimits) {
  auto problem = [](const char* text) {
    auto conf = ParseBridgeConf(Json::parse(text));
    return conf ? "" : conf.error().message();
  };
  EXPECT_EQ(problem("{}"), "");
  EXPECT_EQ(problem(R"({"hairpinMode":true,"promiscMode":true})"), "bridge: cannot set hairpin mode and promiscuous mode at the same time");
  for (const char* bad : {R"({"bridge":"../x"})", R"({"bridge":"a/b"})", R"({"bridge":""})", R"({"bridge":"0123456789abcdef"})",
                          R"({"mtu":-1})", R"({"mtu":"1500"})", R"({"mtu":70000})", R"({"isGateway":"yes"})",
                          R"({"runtimeConfig":{"mac":"zz"}})"}) {
    EXPECT_NE(problem(bad), "") << bad;
  }
}

}  // namespace
}  // namespace crisp::network
