#include "daemon/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::daemon {
namespace {

using testing::HasSubstr;

Config Parsed(std::string_view text) {
  Config config;
  Result<> done = ApplyToml(config, text, "t.toml");
  EXPECT_TRUE(done) << done.error().message();
  return config;
}

std::string ErrorOf(std::string_view text) {
  Config config;
  Result<> done = ApplyToml(config, text, "t.toml");
  return done ? "no error" : done.error().message();
}

// One value that differs from the default for each key: a key that the table forgets, or ties to another member, fails
// here.
struct Sample {
  const char* key;
  const char* value;  // as TOML
};
const Sample kSamples[] = {
    {"socket", "\"/a/s\""},
    {"root_dir", "\"/a\""},
    {"state_dir", "\"/b\""},
    {"netns_dir", "\"/c\""},
    {"streaming.address", "\"[::1]:80\""},
    {"streaming.tls_cert", "\"/t/c\""},
    {"streaming.tls_key", "\"/t/k\""},
    {"streaming.idle_seconds", "60"},
    {"cni.conf_dir", "\"/d\""},
    {"cni.bin_dirs", "[\"/e\", \"/f\"]"},
    {"cni.builtin_plugins", "false"},
    {"cni.timeout_seconds", "7"},
    {"network.fallback", "false"},
    {"network.fallback_bridge", "\"br9\""},
    {"network.fallback_subnet", "\"10.1.0.0/24\""},
    {"registry.certs_dir", "\"/g\""},
    {"registry.docker_config", "\"/h\""},
    {"images.pinned", "[\"busybox\"]"},
    {"images.parallel_layers", "2"},
    {"images.signature_policy", "\"/etc/containers/policy.json\""},
    {"images.signature_policy_dir", "\"/etc/crisp/policies\""},
    {"images.signature_lookaside_dir", "\"/etc/crisp/registries.d\""},
    {"runtime.default_handler", "\"crun\""},
    {"runtime.shim", "\"/i\""},
    {"cgroup.driver", "\"systemd\""},
    {"cdi.spec_dirs", "[\"/j\"]"},
    {"nri.enabled", "false"},
    {"nri.socket", "\"/k\""},
    {"nri.plugin_dir", "\"/l\""},
    {"nri.plugin_config_dir", "\"/m\""},
    {"nri.registration_timeout_seconds", "9"},
    {"nri.request_timeout_seconds", "3"},
    {"pod.pids_max", "99"},
    {"pod.rlimits", "[\"nofile=1024:4096\"]"},
    {"pod.shm_bytes", "65536"},
    {"pod.unprivileged_ports", "false"},
    {"pod.unprivileged_icmp", "false"},
    {"checkpoint.enabled", "true"},
    {"checkpoint.restore", "true"},
    {"checkpoint.bytes_max", "1048576"},
    {"checkpoint.archives_max", "7"},
    {"log.level", "\"debug\""},
    {"log.format", "\"json\""},
    {"log.slow_call_seconds", "9"},
    {"metrics.address", "\"127.0.0.1:9\""},
};

TEST(Config, EveryKeyIsReadAndDumped) {
  std::string defaults = DumpConfig(Config(), false);
  std::set<std::string> dumps;
  for (const Sample& sample : kSamples) {
    std::string key = sample.key;
    size_t dot = key.find('.');
    std::string text = dot == std::string::npos
                           ? StrCat(key, " = ", sample.value, "\n")
                           : StrCat("[", key.substr(0, dot), "]\n", key.substr(dot + 1), " = ", sample.value, "\n");
    Config config = Parsed(text);
    EXPECT_NE(config, Config()) << key;
    EXPECT_TRUE(CheckConfig(config)) << key << ": " << CheckConfig(config).error().message();
    dumps.insert(DumpConfig(config, false));
    Config again = Parsed(DumpConfig(config, true));
    EXPECT_EQ(again, config) << key;
  }
  EXPECT_EQ(dumps.size(), std::size(kSamples)) << "two keys set the same member";
  // And the samples name every key: as many as the dump has outside of [handlers.…].
  size_t keys = 0;
  std::string plain = defaults.substr(0, defaults.find("[handlers."));
  for (size_t at = plain.find(" = "); at != std::string::npos; at = plain.find(" = ", at + 1)) ++keys;
  EXPECT_EQ(keys, std::size(kSamples));
}

TEST(Config, EveryKeyCanBeSet) {
  for (const Sample& sample : kSamples) {
    std::string value = sample.value;
    if (value.starts_with('"')) value = value.substr(1, value.size() - 2);
    Config config;
    Result<> done = ApplySetting(config, StrCat(sample.key, "=", value));
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_NE(config, Config()) << sample.key;
  }
}

TEST(Config, DefaultsAreWhole) {
  EXPECT_TRUE(CheckConfig(Config()));
  EXPECT_EQ(Parsed(DumpConfig(Config(), true)), Config());
  EXPECT_EQ(Parsed(""), Config());
}

TEST(Config, PackagedFileIsTheDefault) {
  Result<std::string> packaged = sys::ReadFile(std::string(CRISP_SOURCE_DIR) + "/packaging/crispd.toml");
  ASSERT_TRUE(packaged) << packaged.error().message();
  EXPECT_EQ(*packaged, DumpConfig(Config(), true)) << "run: crispd config default > packaging/crispd.toml";
}

TEST(Config, ErrorsNameTheLine) {
  struct {
    const char* text;
    const char* error;
  } rows[] = {
      {"\nsockt = \"/x\"\n", "t.toml:2: unknown key \"sockt\""},
      {"[log]\nlevel = \"info\"\nlevl = 1\n", "t.toml:3: unknown key \"log.levl\""},
      {"[nothing]\nx = 1\n", "t.toml:1: unknown key \"nothing\""},
      {"\n\nsocket = 5\n", "t.toml:3: socket: a text in quotes is wanted"},
      {"[cni]\nbuiltin_plugins = 1\n", "t.toml:2: cni.builtin_plugins: true or false is wanted"},
      {"[cni]\nbin_dirs = [\n1]\n", "t.toml:2: cni.bin_dirs: a text in quotes is wanted"},
      {"[cni]\ntimeout_seconds = \"1\"\n", "t.toml:2: cni.timeout_seconds: a whole number is wanted"},
      {"log = 3\n", "t.toml:1: log: a table is wanted"},
      {"[handlers.x]\nbinary = \"x\"\nkind = 1\n", "t.toml:3: unknown key \"handlers.x.kind\""},
      {"[handlers]\nx = 1\n", "t.toml:2: handlers.x: a table is wanted"},
      {"socket = \"a\\u0000b\"\n", "t.toml:1: socket: NUL in the text"},
  };
  for (const auto& row : rows) EXPECT_EQ(ErrorOf(row.text), row.error);
  EXPECT_THAT(ErrorOf("[log\n"), HasSubstr("t.toml:1: "));
  EXPECT_THAT(ErrorOf("a = 1\nb = = 2\n"), HasSubstr("t.toml:2: "));
}

TEST(Config, HandlersAddToTheDefaults) {
  Config config = Parsed("[handlers.\"gvisor.x\"]\nbinary = \"/usr/bin/runsc\"\noptions = [\"--debug\"]\n");
  EXPECT_EQ(config.handlers.size(), 4u);
  EXPECT_EQ(config.handlers["gvisor.x"].binary, "/usr/bin/runsc");
  ASSERT_TRUE(ApplySetting(config, "handlers.gvisor.x.options=--a,--b"));
  EXPECT_EQ(config.handlers["gvisor.x"].options, (std::vector<std::string>{"--a", "--b"}));
  EXPECT_EQ(Parsed(DumpConfig(config, false)).handlers, config.handlers);
}

TEST(Config, SettingsThatAreWrong) {
  for (const char* text :
       {"socket", "nothing=1", "log=1", "handlers.x=1", "handlers.x.kind=1", "cni.timeout_seconds=1x",
        "cni.builtin_plugins=yes", "cni.bin_dirs=[1]", "cni.bin_dirs=[", "=1", ""}) {
    Config config;
    Result<> done = ApplySetting(config, text);
    ASSERT_FALSE(done) << text;
    EXPECT_THAT(done.error().message(), HasSubstr("--set")) << text;
  }
}

TEST(Config, ListsBySetting) {
  Config config;
  ASSERT_TRUE(ApplySetting(config, "cni.bin_dirs=/a, /b"));
  EXPECT_EQ(config.cni_bin_dirs, (std::vector<std::string>{"/a", "/b"}));
  ASSERT_TRUE(ApplySetting(config, "cni.bin_dirs=[\"/a,b\"]"));
  EXPECT_EQ(config.cni_bin_dirs, (std::vector<std::string>{"/a,b"}));
  ASSERT_TRUE(ApplySetting(config, "cni.bin_dirs="));
  EXPECT_TRUE(config.cni_bin_dirs.empty());
}

TEST(Config, ChecksNameTheKey) {
  struct {
    const char* setting;
    const char* error;
  } rows[] = {
      {"socket=relative", "socket: \"relative\" is not an absolute path"},
      {"root_dir=/a/../b", "root_dir: \"..\" in \"/a/../b\""},
      {"log.level=loud", "log.level: \"loud\" is none of debug, info, warning, error"},
      {"cgroup.driver=v3", "cgroup.driver: "},
      {"runtime.default_handler=none", "runtime.default_handler: there is no handler \"none\""},
      {"handlers.runc.type=vm", "handlers.runc.type: "},
      {"handlers.new.type=oci", "handlers.new.binary: missing"},
      {"handlers.native.binary=x", "handlers.native.binary: "},
      {"handlers.A B.binary=x", "handlers.A B: a name is "},
      {"streaming.address=localhost:1", "streaming.address: \"localhost\" is no IP address"},
      {"streaming.address=127.0.0.1", "streaming.address: "},
      {"streaming.tls_cert=c", "streaming.tls_cert: \"c\" is not an absolute path"},
      {"streaming.idle_seconds=0", "streaming.idle_seconds: "},
      {"metrics.address=127.0.0.1:70000", "metrics.address: "},
      {"network.fallback_subnet=10.0.0.0", "network.fallback_subnet: "},
      {"network.fallback_subnet=10.0.0.0/32", "network.fallback_subnet: "},
      {"network.fallback_bridge=much-too-long-name", "network.fallback_bridge: "},
      {"pod.rlimits=files=3", "pod.rlimits: no such limit: \"files\""},
      {"images.parallel_layers=0", "images.parallel_layers: 0 is not within 1 … 64"},
  };
  for (const auto& row : rows) {
    Config config;
    ASSERT_TRUE(ApplySetting(config, row.setting)) << row.setting;
    Result<> checked = CheckConfig(config);
    ASSERT_FALSE(checked) << row.setting;
    EXPECT_THAT(checked.error().message(), testing::StartsWith(row.error));
  }
  Config config;
  config.socket = "/" + std::string(200, 'x');
  EXPECT_FALSE(CheckConfig(config));
}

}  // namespace
}  // namespace crisp::daemon
