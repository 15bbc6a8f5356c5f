#include "network/host_local.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/file.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "base/strings.h"
#include "network/capability_args.h"
#include "network/portmap.h"
#include "sys/file.h"

namespace crisp::network {
namespace {

class HostLocalTest : public testing::Test {
 protected:
  HostLocalTest() {
    char path[] = "/tmp/crisp-ipam-XXXXXX";
    dir_ = mkdtemp(path);
  }
  ~HostLocalTest() override { std::filesystem::remove_all(dir_); }

  HostLocalConf Conf(const std::string& ipam, const std::string& runtime = "{}") const {
    Json conf = Json::parse(StrCat(R"({"name":"pods","ipam":)", ipam, R"(,"runtimeConfig":)", runtime, "}"));
    conf["ipam"]["dataDir"] = dir_;
    auto parsed = ParseHostLocalConf(conf, "");
    EXPECT_TRUE(parsed) << parsed.error().message();
    return *parsed;
  }
  static Attachment Id(const std::string& id) { return {.container_id = id, .ifname = "eth0"}; }
  // The addresses that `id` gets, or the error.
  std::string Add(const HostLocalConf& conf, const std::string& id) const {
    auto result = HostLocalAdd({}, conf, Id(id), false);
    if (!result) return result.error().message();
    std::vector<std::string> texts;
    for (const CniIp& ip : result->ips) texts.push_back(StrCat(ip.address.Text(), " via ", ip.gateway->Text()));
    return Join(texts, ", ");
  }
  std::string File(const std::string& name) const { return sys::ReadFile(StrCat(dir_, "/pods/", name)).value_or("none"); }
  std::vector<std::string> Held() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir_ + "/pods")) {
      if (sys::IpAddress::Parse(entry.path().filename().string())) names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    return names;
  }
  std::string dir_;
};

TEST_F(HostLocalTest, FilesAreTheReferencePlugins) {
  HostLocalConf conf = Conf(R"({"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]})");
  EXPECT_EQ(Add(conf, "abc"), "10.1.0.2/24 via 10.1.0.1, fd00::2/64 via fd00::1");
  EXPECT_EQ(File("10.1.0.2"), "abc\r\neth0");
  EXPECT_EQ(File("fd00::2"), "abc\r\neth0");
  EXPECT_EQ(File("last_reserved_ip.0"), "10.1.0.2");
  EXPECT_EQ(File("last_reserved_ip.1"), "fd00::2");
  EXPECT_TRUE(sys::Exists(dir_ + "/pods/lock"));
}

TEST_F(HostLocalTest, RoundRobinUsesAnAddressAgainAsLateAsPossible) {
  HostLocalConf conf = Conf(R"({"subnet":"10.1.0.0/29"})");  // .2 to .6
  for (int i = 2; i <= 4; ++i) EXPECT_EQ(Add(conf, StrCat("c", i)), StrCat("10.1.0.", i, "/29 via 10.1.0.1"));
  ASSERT_TRUE(HostLocalDel({}, conf, Id("c2"), nullptr));
  EXPECT_EQ(Add(conf, "c5"), "10.1.0.5/29 via 10.1.0.1");
  EXPECT_EQ(Add(conf, "c6"), "10.1.0.6/29 via 10.1.0.1");
  EXPECT_EQ(Add(conf, "c7"), "10.1.0.2/29 via 10.1.0.1");
  EXPECT_EQ(Add(conf, "c8"), "host-local: no address is free in range set 0");
  EXPECT_EQ(Held().size(), 5u);
}

TEST_F(HostLocalTest, RangesOfASetAreUsedInTurn) {
  HostLocalConf conf = Conf(R"({"ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.10","rangeEnd":"10.1.0.11","gateway":"10.1.0.254"},
                                          {"subnet":"10.2.0.0/24","rangeStart":"10.2.0.5","rangeEnd":"10.2.0.5"}]]})");
  EXPECT_EQ(Add(conf, "a"), "10.1.0.10/24 via 10.1.0.254");
  EXPECT_EQ(Add(conf, "b"), "10.1.0.11/24 via 10.1.0.254");
  EXPECT_EQ(Add(conf, "c"), "10.2.0.5/24 via 10.2.0.1");
  EXPECT_NE(Add(conf, "d").find("no address is free"), std::string::npos);
}

TEST_F(HostLocalTest, NeverTheGatewayNorTheBroadcastAddress) {
  HostLocalConf conf = Conf(R"({"subnet":"10.1.0.0/30","gateway":"10.1.0.2"})");
  EXPECT_EQ(Add(conf, "a"), "10.1.0.1/30 via 10.1.0.2");
  EXPECT_NE(Add(conf, "b").find("no address is free"), std::string::npos);
}

TEST_F(HostLocalTest, RequestedAddresses) {
  HostLocalConf conf = Conf(R"({"subnet":"10.1.0.0/24"})", R"({"ips":["10.1.0.77"]})");
  EXPECT_EQ(Add(conf, "a"), "10.1.0.77/24 via 10.1.0.1");
  EXPECT_EQ(Add(conf, "b"), "host-local: requested address 10.1.0.77 is in use");
  EXPECT_EQ(Add(Conf(R"({"subnet":"10.1.0.0/24"})", R"({"ips":["10.9.0.1"]})"), "c"), "host-local: requested address 10.9.0.1 is in no range");
  EXPECT_EQ(Held(), std::vector<std::string>{"10.1.0.77"}) << "what was taken before the error is given back";
  EXPECT_EQ(Add(Conf(R"({"ranges":[]})", R"({"ipRanges":[[{"subnet":"10.7.0.0/24"}]]})"), "d"), "10.7.0.2/24 via 10.7.0.1");
}

TEST_F(HostLocalTest, AnErrorInOneSetFreesTheOthers) {
  HostLocalConf conf = Conf(R"({"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/30","rangeStart":"10.2.0.2","rangeEnd":"10.2.0.2"}]]})");
  EXPECT_EQ(Add(conf, "a"), "10.1.0.2/24 via 10.1.0.1, 10.2.0.2/30 via 10.2.0.1");
  EXPECT_NE(Add(conf, "b").find("no address is free in range set 1"), std::string::npos);
  EXPECT_EQ(Held(), (std::vector<std::string>{"10.1.0.2", "10.2.0.2"}));
}

TEST_F(HostLocalTest, DelFreesWhatItsHolderHasAndNothingElse) {
  HostLocalConf conf = Conf(R"({"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]})");
  Add(conf, "a");
  Add(conf, "b");
  auto of_a = HostLocalAdd({}, conf, Id("c"), false).value();
  ASSERT_TRUE(HostLocalDel({}, conf, Id("a"), &of_a)) << "a result of another holder is no licence";
  EXPECT_EQ(Held(), (std::vector<std::string>{"10.1.0.3", "10.1.0.4", "fd00::3", "fd00::4"}));
  ASSERT_TRUE(HostLocalDel({}, conf, Id("a"), nullptr));
  ASSERT_TRUE(HostLocalDel({}, conf, Id("c"), &of_a));
  // As a version without interface names wrote it.
  ASSERT_TRUE(sys::WriteFileAtomic(dir_ + "/pods/10.1.0.9", "b", 0644, sys::Durability::kNone));
  ASSERT_TRUE(HostLocalDel({}, conf, Id("b"), nullptr));
  EXPECT_TRUE(Held().empty());
}

TEST_F(HostLocalTest, SameIdTwiceIsAnError) {
  HostLocalConf conf = Conf(R"({"subnet":"10.1.0.0/24"})");
  Add(conf, "a");
  EXPECT_EQ(Add(conf, "a"), "host-local: a has address 10.1.0.2 already");
}

TEST_F(HostLocalTest, WaitsForTheLockButNotForEver) {
  HostLocalConf conf = Conf(R"({"subnet":"10.1.0.0/24"})");
  Add(conf, "a");
  int lock = open((dir_ + "/pods/lock").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  auto late = HostLocalAdd(Ctx().WithTimeout(std::chrono::milliseconds(20)), conf, Id("b"), true);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), Code::kDeadlineExceeded);
  close(lock);
  EXPECT_EQ(Add(conf, "b"), "10.1.0.3/24 via 10.1.0.1");
}

TEST_F(HostLocalTest, ManyAtOnceGetDifferentAddresses) {
  HostLocalConf conf = Conf(R"({"subnet":"10.1.0.0/24"})");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) EXPECT_TRUE(HostLocalAdd({}, conf, Id(StrCat("c", t, "-", i)), true));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Held().size(), 80u);
}

TEST_F(HostLocalTest, ResolvConfAndRoutes) {
  ASSERT_TRUE(sys::WriteFileAtomic(dir_ + "/resolv.conf", "# x\nnameserver 10.0.0.53\nsearch a b\noptions ndots:2\n", 0644, sys::Durability::kNone));
  HostLocalConf conf = Conf(StrCat(R"({"subnet":"10.1.0.0/24","routes":[{"dst":"0.0.0.0/0"}],"resolvConf":")", dir_, R"(/resolv.conf"})"));
  CniResult result = HostLocalAdd({}, conf, Id("a"), false).value();
  EXPECT_EQ(result.dns.nameservers, std::vector<std::string>{"10.0.0.53"});
  EXPECT_EQ(result.dns.search, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(result.routes.size(), 1u);
}

TEST(HostLocalConf, Rejects) {
  for (const char* bad :
       {"{}", R"({"subnet":"10.0.0.0/31"})", R"({"subnet":"10.0.0.0/32"})", R"({"subnet":"10.0.0.5/24"})", R"({"subnet":"fd00::/127"})",
        R"({"subnet":"10.0.0.0/24","rangeStart":"10.0.1.5"})", R"({"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8"})",
        R"({"subnet":"10.0.0.0/24","gateway":"10.1.0.1"})", R"({"ranges":[[]]})", R"({"ranges":[{}]})", R"({"ranges":{}})",
        R"({"ranges":[[{"subnet":"10.0.0.0/24"}],[{"subnet":"10.0.0.0/16"}]]})", R"({"ranges":[[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]]})",
        R"({"subnet":7})", R"({"subnet":"10.0.0.0/24","routes":{}})", R"({"subnet":"10.0.0.0/24","dataDir":7})"}) {
    EXPECT_FALSE(ParseHostLocalConf(Json{{"name", "n"}, {"ipam", Json::parse(bad)}}, "")) << bad;
  }
  EXPECT_FALSE(ParseHostLocalConf(Json::parse(R"({"name":"../x","ipam":{"subnet":"10.0.0.0/24"}})"), ""));
  EXPECT_FALSE(ParseHostLocalConf(Json::parse(R"({"name":"n"})"), ""));
}

TEST(CapabilityArgs, FromThePodsRequest) {
  PodNetworkRequest request{.pod = PodId::Random(), .name = "web-0", .pod_namespace = "prod", .uid = "u-1"};
  EXPECT_EQ(CniArgs(request).value(), StrCat("IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=",
                                             request.pod.str(), ";K8S_POD_UID=u-1"));
  EXPECT_EQ(CapabilityArgs(request, "").value(), Json::object());
  request.port_mappings = {{.container_port = 80, .host_port = 8080}, {.container_port = 81},
                           {.protocol = PortMapping::Protocol::kUdp, .container_port = 53, .host_port = 53, .host_ip = "127.0.0.1"}};
  request.annotations = {{"kubernetes.io/ingress-bandwidth", "10M"}, {"kubernetes.io/egress-bandwidth", "1.5Gi"}, {"crisp.dev/cni-ips", "10.0.0.1, fd00::1"}};
  request.cgroup_path = "/kubepods/x";
  request.dns_servers = {"10.0.0.53"};
  Json args = CapabilityArgs(request, "10.1.0.0/24,fd01::/64").value();
  EXPECT_EQ(args["portMappings"], Json::parse(R"([{"containerPort":80,"hostPort":8080,"protocol":"tcp"},
                                                  {"containerPort":53,"hostPort":53,"protocol":"udp","hostIP":"127.0.0.1"}])"));
  EXPECT_EQ(args["bandwidth"], Json::parse(R"({"ingressRate":10000000,"ingressBurst":2147483647,"egressRate":1610612736,"egressBurst":2147483647})"));
  EXPECT_EQ(args["ipRanges"], Json::parse(R"([[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd01::/64"}]])"));
  EXPECT_EQ(args["ips"], Json::parse(R"(["10.0.0.1","fd00::1"])"));
  EXPECT_EQ(args["cgroupPath"], "/kubepods/x");
  EXPECT_EQ(args["dns"]["servers"][0], "10.0.0.53");
  EXPECT_EQ(args["io.kubernetes.cri.pod-annotations"]["crisp.dev/cni-ips"], "10.0.0.1, fd00::1");
}

TEST(CapabilityArgs, RejectsForgedAndBadValues) {
  PodNetworkRequest request{.pod = PodId::Random(), .name = "a;K8S_POD_UID=0", .pod_namespace = "n"};
  EXPECT_FALSE(CniArgs(request));
  request.annotations = {{"kubernetes.io/ingress-bandwidth", "much"}};
  EXPECT_FALSE(CapabilityArgs(request, ""));
  request.annotations = {};
  request.port_mappings = {{.container_port = 80, .host_port = 80, .host_ip = "localhost"}};
  EXPECT_FALSE(CapabilityArgs(request, ""));
  request.port_mappings = {{.container_port = 0, .host_port = 80}};
  EXPECT_FALSE(CapabilityArgs(request, ""));
  for (const char* bad : {"", "M", "10Q", "-10M", "1e99", "nan", "0x10M", "10 M", "999", "2P"}) EXPECT_FALSE(ParseBandwidth(bad)) << bad;
  EXPECT_EQ(ParseBandwidth("1k").value(), 1000);
  EXPECT_EQ(ParseBandwidth("2e6").value(), 2'000'000);
}

TEST(Portmap, RulesOfBothFamilies) {
  CniResult previous = ParseCniResult(Json::parse(R"({"cniVersion":"1.0.0","interfaces":[{"name":"br"},{"name":"eth0","sandbox":"/x"}],
    "ips":[{"address":"10.9.9.9/24","interface":0},{"address":"10.1.0.5/16","interface":1},{"address":"fd00::5/64","interface":1}]})")).value();
  Json conf = Json::parse(R"({"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"TCP"},
    {"hostPort":53,"containerPort":5353,"protocol":"udp","hostIP":"192.0.2.1"},{"hostPort":9,"containerPort":9,"protocol":"sctp","hostIP":"::"}]}})");
  PodRules rules = PortmapRules(conf, previous, "eth0").value();
  ASSERT_EQ(rules.ports.size(), 4u);
  EXPECT_EQ(rules.ports[0].pod.Text(), "10.1.0.5");
  EXPECT_EQ(rules.ports[1].pod.Text(), "fd00::5");
  EXPECT_EQ(rules.ports[2].host.Text(), "192.0.2.1");
  EXPECT_EQ(rules.ports[2].protocol, IPPROTO_UDP);
  EXPECT_EQ(rules.ports[3].pod.Text(), "fd00::5");
  for (const char* bad : {R"([{"hostPort":0,"containerPort":80}])", R"([{"hostPort":70000,"containerPort":80}])", R"([{"hostPort":80}])", "{}", "[7]",
                          R"([{"hostPort":80,"containerPort":80,"protocol":"icmp"}])", R"([{"hostPort":80,"containerPort":80,"hostIP":"x"}])"}) {
    EXPECT_FALSE(PortmapRules(Json{{"runtimeConfig", {{"portMappings", Json::parse(bad)}}}}, previous, "eth0")) << bad;
  }
}

}  // namespace
}  // namespace crisp::network
