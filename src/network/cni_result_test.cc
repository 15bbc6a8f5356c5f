#include "network/cni_result.h"

#include <gtest/gtest.h>

#include "base/strings.h"
#include "network/plugin_exec.h"
#include "network/record.h"
#include "network/reference_chains.h"

namespace crisp::network {
namespace {

constexpr const char* kNewest = R"({"cniVersion":"1.1.0",
  "interfaces":[{"name":"cni0","mac":"0a:00:00:00:00:01","mtu":1400},{"name":"eth0","sandbox":"/run/netns/x","pciID":"0000:00:1f.6","socketPath":"/s"}],
  "ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":1},{"address":"fd00::5/64","interface":1}],
  "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1300,"advmss":1260,"priority":5,"table":100,"scope":0},{"dst":"::/0"}],
  "dns":{"nameservers":["10.1.0.1"],"domain":"local","search":["a"],"options":["b"]}})";

Json Converted(const char* text, std::string_view version) {
  return CniResultJson(ParseCniResult(Json::parse(text)).value(), version).value();
}

TEST(CniResult, NewestKeepsEverything) { EXPECT_EQ(Converted(kNewest, "1.1.0"), Json::parse(kNewest)); }

TEST(CniResult, OlderFormsHaveWhatTheyHad) {
  Json one = Converted(kNewest, "1.0.0");
  EXPECT_EQ(one["cniVersion"], "1.0.0");
  EXPECT_EQ(one["routes"][0], Json::parse(R"({"dst":"0.0.0.0/0","gw":"10.1.0.1"})"));
  EXPECT_FALSE(one["interfaces"][0].contains("mtu"));
  EXPECT_FALSE(one["ips"][0].contains("version"));
  for (const char* version : {"0.3.0", "0.3.1", "0.4.0"}) {
    Json json = Converted(kNewest, version);
    EXPECT_EQ(json["ips"][0]["version"], "4");
    EXPECT_EQ(json["ips"][1]["version"], "6");
  }
  for (const char* version : {"0.1.0", "0.2.0"}) {
    Json json = Converted(kNewest, version);
    EXPECT_EQ(json["ip4"], Json::parse(R"({"ip":"10.1.0.5/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}]})"));
    EXPECT_EQ(json["ip6"]["ip"], "fd00::5/64");
    EXPECT_FALSE(json.contains("interfaces"));
  }
  EXPECT_FALSE(CniResultJson({}, "2.0.0"));
}

TEST(CniResult, EveryFormIsReadBack) {
  for (std::string_view version : kCniVersions) {
    CniResult again = ParseCniResult(Converted(kNewest, version)).value();
    ASSERT_EQ(again.ips.size(), 2u) << version;
    EXPECT_EQ(again.ips[0].address.Text(), "10.1.0.5/16");
    EXPECT_EQ(again.routes.size(), 2u);
    EXPECT_EQ(again.dns.search, std::vector<std::string>{"a"});
  }
  EXPECT_EQ(ParseCniResult(Json::parse(R"({"ip4":{"ip":"10.0.0.1/8"}})")).value().ips.size(), 1u) << "no version is 0.1.0";
}

TEST(CniResult, HostileInputIsAnError) {
  for (const char* bad :
       {"[]", "7", "null", R"({"cniVersion":"7.0.0"})", R"({"cniVersion":1})", R"({"cniVersion":"1.0.0","ips":{}})",
        R"({"cniVersion":"1.0.0","ips":[1]})", R"({"cniVersion":"1.0.0","ips":[{}]})", R"({"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1"}]})",
        R"({"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/99"}]})", R"({"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8","gateway":"x"}]})",
        R"({"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8","interface":"0"}]})", R"({"cniVersion":"1.0.0","routes":[{"dst":"::/0","gw":"10.0.0.1"}]})",
        R"({"cniVersion":"1.1.0","routes":[{"dst":"::/0","mtu":-1}]})", R"({"cniVersion":"1.1.0","routes":[{"dst":"::/0","scope":300}]})",
        R"({"cniVersion":"1.0.0","interfaces":[{"name":7}]})", R"({"cniVersion":"1.0.0","dns":[]})", R"({"cniVersion":"1.0.0","dns":{"search":"x"}})",
        R"({"cniVersion":"0.2.0","ip4":[]})", R"({"cniVersion":"0.2.0","ip4":{}})"}) {
    EXPECT_FALSE(ParseCniResult(Json::parse(bad))) << bad;
  }
  Json many{{"cniVersion", "1.0.0"}};
  for (int i = 0; i < 2000; ++i) many["ips"].push_back({{"address", "10.0.0.1/8"}});
  EXPECT_FALSE(ParseCniResult(many));
  // An index that points nowhere is kept: it is checked where it is used.
  EXPECT_TRUE(ParseCniResult(Json::parse(R"({"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8","interface":-9223372036854775808}]})")));
}

TEST(PluginError, IsDecodedOrQuoted) {
  Error known = DecodePluginError(R"({"cniVersion":"1.0.0","code":11,"msg":"no lease","details":"server silent"})", "", 1);
  EXPECT_EQ(known.message(), "no lease; server silent (code 11)");
  EXPECT_EQ(known.code(), Code::kUnavailable);
  EXPECT_EQ(DecodePluginError(R"({"code":999,"msg":"x"})", "", 1).code(), Code::kInternal);
  EXPECT_EQ(DecodePluginError("", "segfault\n", 139).message(), "exit code 139, it printed \"segfault\"");
  EXPECT_EQ(DecodePluginError("{}", "", 3).message(), "exit code 3, it printed \"{}\"");
  EXPECT_LT(DecodePluginError(std::string(1 << 20, 'x'), "", 1).message().size(), 400u);
  EXPECT_LT(DecodePluginError(Json{{"code", 7}, {"msg", std::string(1 << 20, 'x')}}.dump(), "", 1).message().size(), 2100u);
}

constexpr const char* kConf = R"({"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"tuning"}]})";

Result<Record> Decode(const std::string& key, std::string_view value) {
  SharedConfs confs;
  return DecodeRecord(key, value, confs);
}

Record SomeRecord() {
  Record record{.pod = PodId::Random(),
                .conf = std::make_shared<const NetworkConf>(ParseNetworkConf(kConf, "x").value()),
                .by_program = {false, true}};
  record.attachment = {.container_id = record.pod.str(), .netns = "/run/netns/x", .ifname = "eth0", .args = "IgnoreUnknown=1;K8S_POD_NAME=a",
                       .capability_args = {{"portMappings", Json::array()}}};
  return record;
}

TEST(Record, RoundTrip) {
  Record record = SomeRecord();
  for (bool with_result : {false, true}) {
    if (with_result) record.result = ParseCniResult(Json::parse(kNewest)).value();
    Record again = Decode(record.pod.str(), EncodeRecord(record)).value();
    EXPECT_EQ(EncodeRecord(again), EncodeRecord(record));
    EXPECT_EQ(again.attachment.container_id, record.pod.str());
    EXPECT_EQ(again.result.has_value(), with_result);
    EXPECT_EQ(again.by_program, record.by_program);
  }
}

TEST(Record, BadOnesAreErrors) {
  Record record = SomeRecord();
  std::string good = EncodeRecord(record);
  EXPECT_FALSE(Decode("short", good));
  for (const char* member : {"conflist", "ifName", "byProgram"}) {
    Json json = Json::parse(good);
    json.erase(member);
    EXPECT_FALSE(Decode(record.pod.str(), json.dump())) << member;
  }
  EXPECT_FALSE(Decode(record.pod.str(), good.substr(0, good.size() / 2)));
  EXPECT_FALSE(Decode(record.pod.str(), "[]"));
}

TEST(Record, OfOneConfigurationShareIt) {
  auto text_of = [](const char* file, const char* conf) {
    Record record = SomeRecord();
    NetworkConf one = ParseNetworkConf(conf, "x").value();
    one.file = file;
    record.conf = std::make_shared<const NetworkConf>(std::move(one));
    return EncodeRecord(record);
  };
  SharedConfs confs;
  auto conf_of = [&](const std::string& text) { return DecodeRecord(PodId::Random().str(), text, confs).value().conf; };
  auto first = conf_of(text_of("a.conflist", kConf));
  EXPECT_EQ(conf_of(text_of("a.conflist", kConf)), first);
  EXPECT_EQ(first->file, "a.conflist");
  EXPECT_EQ(conf_of(text_of("b.conflist", kConf))->file, "b.conflist");
  auto other = conf_of(text_of("a.conflist", R"({"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"},{"type":"tuning"}]})"));
  EXPECT_EQ(other->name, "other");
  EXPECT_EQ(other->file, "a.conflist");
}

TEST(Record, CacheFileIsLibcnis) {
  Record record = SomeRecord();
  record.result = ParseCniResult(Json::parse(kNewest)).value();
  Json json = Json::parse(CacheFileText(record));
  EXPECT_EQ(json["kind"], "cniCacheV1");
  EXPECT_EQ(json["cniArgs"][1], Json::parse(R"(["K8S_POD_NAME","a"])"));
  EXPECT_EQ(json["result"]["cniVersion"], "1.0.0");
  EXPECT_EQ(json["config"].get<std::string>().substr(0, 8), "eyJjbmlW");  // {"cniV
}

// As the reference plugins named them for network "podnet", container "abc".
TEST(ReferenceChains, Names) {
  EXPECT_EQ(ReferenceChainNames("podnet", "abc"),
            (std::vector<std::string>{"CNI-0830037e596fec48748660dd", "CNI-DN-0830037e596fec4874866", "CNI-SN-0830037e596fec4874866"}));
}

TEST(ReferenceChains, ScriptRemovesOneAttachmentOnly) {
  constexpr const char* kSaved = R"(*nat
:POSTROUTING ACCEPT [0:0]
:CNI-0830037e596fec48748660dd - [0:0]
:CNI-DN-0830037e596fec4874866 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-aaaaaaaaaaaaaaaaaaaaaaaa - [0:0]
-A POSTROUTING -s 10.88.0.5/32 -m comment --comment "name: \"podnet\" id: \"abc\"" -j CNI-0830037e596fec48748660dd
-A POSTROUTING -s 10.88.0.6/32 -m comment --comment "name: \"podnet\" id: \"abd\"" -j CNI-aaaaaaaaaaaaaaaaaaaaaaaa
-A CNI-0830037e596fec48748660dd -d 10.88.0.0/16 -j ACCEPT
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"podnet\" id: \"abc\"" -m multiport --dports 8080 -j CNI-DN-0830037e596fec4874866
COMMIT
)";
  EXPECT_EQ(RemovalScript(kSaved, ReferenceChainNames("podnet", "abc")), R"(*nat
-D POSTROUTING -s 10.88.0.5/32 -m comment --comment "name: \"podnet\" id: \"abc\"" -j CNI-0830037e596fec48748660dd
-D CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"podnet\" id: \"abc\"" -m multiport --dports 8080 -j CNI-DN-0830037e596fec4874866
-F CNI-0830037e596fec48748660dd
-X CNI-0830037e596fec48748660dd
-F CNI-DN-0830037e596fec4874866
-X CNI-DN-0830037e596fec4874866
COMMIT
)");
  EXPECT_EQ(RemovalScript(kSaved, ReferenceChainNames("podnet", "other")), "");
}

}  // namespace
}  // namespace crisp::network
