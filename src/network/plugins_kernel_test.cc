// Wants root, iptables and the reference plugins (Debian: containernetworking-plugins).
// Our plugins beside the reference plugins, one after the other, and plugins that misbehave.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/json.h"
#include "network/chain.h"
#include "network/testing.h"

namespace crisp::network {
namespace {

class ReferenceTest : public NetworkTest {
 protected:
  static void Write(const std::string& conflist) {
    Ok(sys::WriteFileAtomic("/mnt/conf/10-test.conflist", conflist, 0644, sys::Durability::kNone));
  }
  static std::string List(const std::string& bridge_keys, const std::string& version = "1.0.0", const std::string& more = "") {
    return StrCat(R"({"cniVersion":")", version, R"(","name":"test","plugins":[{"type":"bridge","bridge":"test0",)", bridge_keys, "}",
                  R"(,{"type":"portmap","capabilities":{"portMappings":true}})", more, "]}");
  }
  static std::string Ipam(const std::string& rest) { return R"("ipam":{"type":"host-local","dataDir":"/run/crisp/ipam",)" + rest + "}"; }

  // All that an attachment with this configuration makes: its result, what the pod sees, the address files.
  // What differs from pod to pod (MAC addresses, random names, indexes) is replaced.
  std::string Picture(bool builtin) {
    options_.builtin_plugins = builtin;
    Open();
    auto request = Request();
    request.port_mappings = {{.container_port = 80, .host_port = 8080}};
    auto pod = network_->Setup({}, request);
    if (!pod) return pod.error().message();
    Json result = Json::parse(pod->result_json);
    if (result.contains("interfaces")) {
      for (Json& interface : result["interfaces"]) {
        EXPECT_TRUE(sys::ParseMac(interface["mac"].get<std::string>()));
        interface["mac"] = "MAC";
        if (interface["name"].get<std::string>().starts_with("veth")) interface["name"] = "VETH";
        if (interface.contains("sandbox")) interface["sandbox"] = interface["sandbox"] == pod->netns_path ? "POD" : "WRONG";
      }
    }
    std::string in_pod = Output(StrCat("nsenter --net=", pod->netns_path, " sh -c '"
                                       "ip -o addr | grep -v fe80 | sed \"s/^[0-9]*: //; s/ tentative//; s/ nodad//\"; ip -o link | cut -d\" \" -f2,3,4,5 | sed \"s/@[^ ]*//\";"
                                       "ip route; ip -6 route | grep -v fe80'"));
    const std::string look_at_host =
        "ip -o addr show dev test0 | grep -v fe80 | sed 's/^[0-9]*: //; s/ tentative//; s/ nodad//';"
        "bridge -d link | grep -o 'hairpin [a-z]*'; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/test0/route_localnet;"
        "cd /run/crisp/ipam/test && for f in [0-9f]*; do echo $f $(tail -n1 $f); done; cat last_reserved_ip*";
    std::string on_host = Output(look_at_host);
    // Veth pairs for later pods are made meanwhile.
    while (on_host.find("Dump was interrupted") != std::string::npos) on_host = Output(look_at_host);
    EXPECT_EQ(Output("cat /run/crisp/ipam/test/[0-9f]* | head -c 64"), pod->ips.empty() ? Output("cat /run/crisp/ipam/test/[0-9f]* | head -c 64") : request.pod.str());
    Ok(network_->Teardown({}, request.pod));
    network_.reset();
    // Each begins with a clean host.
    Output("ip link del test0; rm -rf /run/crisp/ipam; echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding");
    Open();
    return StrCat(result.dump(1), "\n", in_pod, "--\n", on_host);
  }

  // Leftovers of the reference plugins that are the same with no pod at all: their shared chains.
  static std::string ReferenceLeftovers() { return Output("for i in iptables ip6tables; do $i-save -t nat; done | grep -e CNI-[0-9a-f] -e CNI-DN"); }
  void TearDown() override {
    NetworkTest::TearDown();
    EXPECT_EQ(ReferenceLeftovers(), "");
  }
  void CleanTables() { Output("nft flush ruleset; ip link del test0"); }
};

TEST_F(ReferenceTest, SameResultAndSamePodForTheSameConfiguration) {
  const std::string confs[] = {
      List(R"("isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,)" + Ipam(R"("ranges":[[{"subnet":"10.5.0.0/24"}],[{"subnet":"fd05::/64"}]])")),
      List(R"("isGateway":true,"mtu":1400,)" + Ipam(R"("subnet":"10.5.0.0/24","routes":[{"dst":"0.0.0.0/0"},{"dst":"192.168.0.0/16","gw":"10.5.0.9"}])")),
      List(R"("isGateway":true,"ipMasq":true,)" + Ipam(R"("ranges":[[{"subnet":"10.5.0.0/24","rangeStart":"10.5.0.40","rangeEnd":"10.5.0.50","gateway":"10.5.0.200"}]],
           "routes":[{"dst":"0.0.0.0/0"}])")),
      List(R"("isDefaultGateway":true,"dns":{"nameservers":["10.5.0.1"],"search":["x"]},)" + Ipam(R"("subnet":"10.5.0.0/24")"), "0.4.0"),
      List(R"("isDefaultGateway":true,)" + Ipam(R"("subnet":"10.5.0.0/24")"), "0.3.1"),
      List(R"("isDefaultGateway":true,)" + Ipam(R"("ranges":[[{"subnet":"10.5.0.0/24"}],[{"subnet":"fd05::/64"}]])"), "0.2.0"),
      List(Ipam(R"("subnet":"10.5.0.0/24")")),
  };
  for (const std::string& conf : confs) {
    Write(conf);
    std::string reference = Picture(false), ours = Picture(true);
    EXPECT_NE(reference.find("10.5.0."), std::string::npos) << reference;
    EXPECT_EQ(ours, reference) << conf;
    CleanTables();
  }
}

// Layer 2 only: portmap has nothing to map, so just the bridge.
TEST_F(ReferenceTest, SameWithoutAddresses) {
  Write(R"({"cniVersion":"1.0.0","name":"test","plugins":[{"type":"bridge","bridge":"test0"}]})");
  EXPECT_EQ(Picture(true), Picture(false));
}

TEST_F(ReferenceTest, ReferencePluginsAloneMakeAWorkingNetwork) {
  Write(List(R"("isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,)" + Ipam(R"("subnet":"10.5.0.0/24")")));
  options_.builtin_plugins = false;
  Open();
  auto request = Request(), other = Request();
  request.port_mappings = {{.container_port = 80, .host_port = 8080}};
  auto pod = network_->Setup({}, request), client = network_->Setup({}, other);
  Ok(pod);
  Ok(client);
  Server server(pod->netns_path, SOCK_STREAM, 80, "pod");
  EXPECT_EQ(Ask(client->netns_path, SOCK_STREAM, pod->ips[0], 80), client->ips[0] + " at pod");
  EXPECT_EQ(Ask("", SOCK_STREAM, "127.0.0.1", 8080), "10.5.0.1 at pod");
  EXPECT_EQ(Output("nft list tables | grep crisp"), "");
  Ok(network_->Teardown({}, request.pod));
  Ok(network_->Teardown({}, other.pod));
  EXPECT_EQ(ReferenceLeftovers(), "");
  network_.reset();
  CleanTables();
  Open();
}

TEST_F(ReferenceTest, OursAndTheirsShareOneNetwork) {
  Write(List(R"("isDefaultGateway":true,"ipMasq":true,)" + Ipam(R"("subnet":"10.5.0.0/29")")));
  auto ours = network_->Setup({}, Request());
  Ok(ours);
  options_.builtin_plugins = false;
  Open();
  auto theirs = network_->Setup({}, Request());
  Ok(theirs);
  EXPECT_EQ(ours->ips[0], "10.5.0.2");
  EXPECT_EQ(theirs->ips[0], "10.5.0.3") << "each sees the other's addresses";
  Server server(theirs->netns_path, SOCK_STREAM, 80, "theirs");
  EXPECT_EQ(Ask(ours->netns_path, SOCK_STREAM, "10.5.0.3", 80), "10.5.0.2 at theirs");
  options_.builtin_plugins = true;
  Open();
  auto third = network_->Setup({}, Request());
  EXPECT_EQ(third->ips[0], "10.5.0.4");
  Ok(network_->KeepOnly({}, [](const PodId&) { return false; }));
  network_.reset();
  CleanTables();
  Open();
}

// ADD by one, DEL by the other: nothing stays.
TEST_F(ReferenceTest, EitherRemovesWhatTheOtherMade) {
  Write(List(R"("isDefaultGateway":true,"ipMasq":true,)" + Ipam(R"("ranges":[[{"subnet":"10.5.0.0/24"}],[{"subnet":"fd05::/64"}]])")));
  for (bool first : {true, false}) {
    options_.builtin_plugins = first;
    Open();
    auto request = Request();
    request.port_mappings = {{.container_port = 80, .host_port = 8080}};
    Ok(network_->Setup({}, request));
    options_.builtin_plugins = !first;
    Open();
    Ok(network_->Teardown({}, request.pod));
    EXPECT_EQ(ReferenceLeftovers(), "");
    EXPECT_EQ(Output("ls /run/crisp/ipam/test | grep -v -e last -e lock"), "");
    network_.reset();
    CleanTables();
    EXPECT_EQ(Leftovers(), "");
  }
  Open();
}

TEST_F(ReferenceTest, OursRemovesWhatUninstalledPluginsMade) {
  Write(List(R"("isDefaultGateway":true,"ipMasq":true,)" + Ipam(R"("ranges":[[{"subnet":"10.5.0.0/24"}],[{"subnet":"fd05::/64"}]])")));
  options_.builtin_plugins = false;
  Open();
  auto request = Request();
  request.port_mappings = {{.container_port = 80, .host_port = 8080}};
  Ok(network_->Setup({}, request));
  EXPECT_NE(ReferenceLeftovers(), "");
  options_.bin_dirs = {"/mnt/no-plugins-here"};
  Open();
  Ok(network_->Teardown({}, request.pod));
  EXPECT_EQ(ReferenceLeftovers(), "");
  network_.reset();
  CleanTables();
  Open();
}

TEST_F(ReferenceTest, WhatWeCannotDoTheRealPluginDoes) {
  Write(List(R"("isGateway":true,"macspoofchk":true,)" + Ipam(R"("subnet":"10.5.0.0/24")")));
  auto pod = network_->Setup({}, Request());
  Ok(pod);
  EXPECT_NE(Output("nft list ruleset bridge"), "") << "the reference plugin's spoof check";
  Ok(network_->KeepOnly({}, [](const PodId&) { return false; }));
  network_.reset();
  CleanTables();
  Open();
}

TEST_F(ReferenceTest, OursInFrontOfOtherPlugins) {
  Write(List(R"("isDefaultGateway":true,)" + Ipam(R"("subnet":"10.5.0.0/24")"), "1.0.0",
             R"(,{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}},{"type":"bandwidth","capabilities":{"bandwidth":true}})"));
  auto request = Request();
  request.annotations = {{"kubernetes.io/ingress-bandwidth", "8M"}};
  auto pod = network_->Setup({}, request);
  Ok(pod);
  EXPECT_NE(Output("tc qdisc show").find("tbf"), std::string::npos);
  Ok(network_->Teardown({}, request.pod));
}

TEST_F(ReferenceTest, AddressesFromAnotherIpamPlugin) {
  Write(R"({"cniVersion":"1.0.0","name":"test","plugins":[{"type":"bridge","bridge":"test0","isGateway":true,
            "ipam":{"type":"static","addresses":[{"address":"10.5.0.77/24","gateway":"10.5.0.1"}]}}]})");
  auto pod = network_->Setup({}, Request());
  Ok(pod);
  EXPECT_EQ(pod->ips, std::vector<std::string>{"10.5.0.77"});
}

// CHECK is nobody's caller yet: the chain offers it, in both kinds.
TEST_F(ReferenceTest, CheckSeesWhatIsMissing) {
  // Without portmap: the CHECK of its version 1.1.1 looks for IPv4 rules in ip6tables.
  Write(R"({"cniVersion":"1.0.0","name":"test","plugins":[{"type":"bridge","bridge":"test0","isDefaultGateway":true,)" + Ipam(R"("subnet":"10.5.0.0/24")") + "}]}");
  for (bool builtin : {true, false}) {
    options_.builtin_plugins = builtin;
    Open();
    auto request = Request();
    auto pod = network_->Setup({}, request);
    Ok(pod);
    SharedConfs confs;
    Record record = DecodeRecord(request.pod.str(), db_->Get("network", request.pod.str()).value(), confs).value();
    PluginExec exec({options_.bin_dirs});
    NftRules rules("crisp_check");
    Builtin plugins(rules, exec);
    Chain chain(exec, plugins, builtin, "", std::chrono::seconds(10));
    Ok(chain.Check({}, record));
    Output(StrCat("nsenter --net=", pod->netns_path, " ip addr flush dev eth0"));
    EXPECT_FALSE(chain.Check({}, record)) << builtin;
    Ok(network_->Teardown({}, request.pod));
    network_.reset();
    CleanTables();
  }
  Open();
}

TEST_F(ReferenceTest, VersionsAndIncompatibleOnes) {
  NetworkConf conf = ParseNetworkConf(List(Ipam(R"("subnet":"10.5.0.0/24")"), "1.1.0"), "x").value();
  PluginExec exec({options_.bin_dirs});
  auto version = exec.Run({}, Verb::kVersion, {.network = conf, .plugin = conf.plugins[0]});
  Ok(version);
  EXPECT_EQ(Json::parse(*version)["supportedVersions"].back(), "1.0.0");
  Write(conf.text);
  Ok(network_->Setup({}, Request()));  // ours speak 1.1.0
  options_.builtin_plugins = false;
  Open();
  auto pod = network_->Setup({}, Request());
  ASSERT_FALSE(pod);
  EXPECT_NE(pod.error().message().find("incompatible CNI versions"), std::string::npos) << pod.error().message();
  EXPECT_EQ(pod.error().message().find("undoing"), std::string::npos) << "a plugin that made nothing keeps nothing";
}

// Plugins that misbehave, behind our bridge.
class BrokenPluginTest : public NetworkTest {
 protected:
  void SetUp() override {
    NetworkTest::SetUp();
    Ok(sys::MakeDirs("/mnt/bin", 0755));
    options_.bin_dirs = {"/mnt/bin"};
    options_.plugin_timeout = std::chrono::milliseconds(300);
    Open();
    UseVersion("1.0.0");
  }
  void TearDown() override {
    Plugin("cat >/dev/null; exit 0");
    NetworkTest::TearDown();
    Ok(sys::RemoveTree("/mnt/bin"));
  }
  static void UseVersion(const std::string& version) {
    Ok(sys::WriteFileAtomic("/mnt/conf/10-test.conflist", StrCat(R"({"cniVersion":")", version, R"(","name":"test","plugins":[
      {"type":"bridge","bridge":"test0","isDefaultGateway":true,"ipMasq":true,"ipam":{"type":"host-local","dataDir":"/run/crisp/ipam","subnet":"10.5.0.0/24"}},
      {"type":"evil","capabilities":{"io.kubernetes.cri.pod-annotations":true}}]})"), 0644, sys::Durability::kNone));
  }
  // The body of the program "evil"; $IN is what it got on stdin.
  static void Plugin(const std::string& body) {
    Ok(sys::WriteFileAtomic("/mnt/bin/evil", "#!/bin/sh\n" + body + "\n", 0755, sys::Durability::kNone));
  }
  std::string SetupError() {
    auto pod = network_->Setup({}, Request());
    return pod ? "it worked" : pod.error().message();
  }
  static std::string Addresses() { return Output("ls /run/crisp/ipam/test | grep -v -e last -e lock"); }
};

TEST_F(BrokenPluginTest, EachWayToFailGivesAClearErrorAndFreesEverything) {
  const struct {
    const char* body;
    const char* error;
  } cases[] = {
      {R"([ $CNI_COMMAND = DEL ] || { echo '{"code":100,"msg":"no luck","details":"at all"}'; exit 1; })", R"(plugin "evil" of network "test": ADD: no luck; at all (code 100))"},
      {"[ $CNI_COMMAND = DEL ] || { echo oops >&2; exit 3; }", R"(plugin "evil" of network "test": ADD: exit code 3, it printed "oops")"},
      {"[ $CNI_COMMAND = DEL ] || exec sleep 1000", R"(plugin "evil" of network "test": ADD: it did not finish in time and was killed)"},
      {"[ $CNI_COMMAND = DEL ] || { sleep 1000 & sleep 1000; }", R"(plugin "evil" of network "test": ADD: it did not finish in time and was killed)"},
      {"[ $CNI_COMMAND = DEL ] || echo garbage", R"(plugin "evil" of network "test": ADD: result: no valid JSON)"},
      {"[ $CNI_COMMAND = DEL ] || exit 0", R"(plugin "evil" of network "test": ADD: result: no valid JSON)"},
      {"[ $CNI_COMMAND = DEL ] || head -c 100000000 /dev/zero", R"(plugin "evil" of network "test": ADD: /mnt/bin/evil: more than 4194304 bytes of output)"},
      {"[ $CNI_COMMAND = DEL ] || head -c 100000000 /dev/zero >&2", R"(more than 4194304 bytes of output)"},
      {R"([ $CNI_COMMAND = DEL ] || printf '{"cniVersion":"9.9.9"}')", R"(plugin "evil" of network "test": ADD: CNI result of unknown version "9.9.9")"},
      {R"([ $CNI_COMMAND = DEL ] || printf '{"cniVersion":"1.0.0","ips":[{"address":"nonsense"}]}')", R"(plugin "evil" of network "test": ADD: CNI result: address)"},
      {"[ $CNI_COMMAND = DEL ] || kill -SEGV $$", R"(plugin "evil" of network "test": ADD: exit code 139)"},
      {"[ $CNI_COMMAND = DEL ] || { head -c 3000000 /dev/zero | tr '\\0' '['; }", R"(plugin "evil" of network "test": ADD: result: JSON nested deeper than 32)"},
  };
  for (const auto& [body, error] : cases) {
    Plugin(body);
    EXPECT_NE(SetupError().find(error), std::string::npos) << body << "\n" << SetupError();
    EXPECT_EQ(Addresses(), "") << body;
    EXPECT_EQ(Output("ls /run/crisp/netns"), "") << body;
    EXPECT_EQ(db_->List("network")->size(), 0u) << body;
  }
  unlink("/mnt/bin/evil");
  EXPECT_EQ(SetupError(), R"(network "test": no program "evil" in /mnt/bin)");
  EXPECT_EQ(db_->List("network")->size(), 0u);
}

TEST_F(BrokenPluginTest, GetsWhatTheSpecificationSays) {
  Plugin(R"(cat > /mnt/bin/$CNI_COMMAND.json; env | grep ^CNI_ | sort > /mnt/bin/$CNI_COMMAND.env
            printf '{"cniVersion":"1.0.0","ips":[{"address":"10.5.0.2/24"}]}')");
  auto request = Request();
  request.annotations = {{"a", "b"}};
  auto pod = network_->Setup({}, request);
  Ok(pod);
  EXPECT_EQ(pod->ips, std::vector<std::string>{"10.5.0.2"}) << "the last plugin's result is the result";
  const std::string id = request.pod.str();
  EXPECT_EQ(sys::ReadFile("/mnt/bin/ADD.env").value(),
            StrCat("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=", id, ";K8S_POD_UID=u1\n",
                   "CNI_COMMAND=ADD\nCNI_CONTAINERID=", id, "\nCNI_IFNAME=eth0\nCNI_NETNS=", pod->netns_path, "\nCNI_PATH=/mnt/bin\n"));
  Json add = Json::parse(sys::ReadFile("/mnt/bin/ADD.json").value());
  EXPECT_EQ(add["name"], "test");
  EXPECT_EQ(add["cniVersion"], "1.0.0");
  EXPECT_EQ(add["prevResult"]["interfaces"][2]["sandbox"], pod->netns_path);
  EXPECT_EQ(add["runtimeConfig"], Json::parse(R"({"io.kubernetes.cri.pod-annotations":{"a":"b"}})"));
  // The directory may change meanwhile: DEL uses what ADD used, and gets ADD's result.
  unlink("/mnt/conf/10-test.conflist");
  Ok(network_->Teardown({}, request.pod));
  Json del = Json::parse(sys::ReadFile("/mnt/bin/DEL.json").value());
  EXPECT_EQ(del["type"], "evil");
  EXPECT_EQ(del["prevResult"]["ips"][0]["address"], "10.5.0.2/24");
}

// Rows 19 and 21: nothing is forgotten until DEL succeeded.
TEST_F(BrokenPluginTest, AFailedDelIsKeptAndTriedAgain) {
  Plugin(R"([ $CNI_COMMAND = DEL ] && { echo '{"code":11,"msg":"later"}'; exit 1; }; printf '{"cniVersion":"1.0.0","ips":[{"address":"10.5.0.2/24"}]}')");
  auto request = Request();
  Ok(network_->Setup({}, request));
  auto torn = network_->Teardown({}, request.pod);
  ASSERT_FALSE(torn);
  EXPECT_EQ(torn.error().code(), Code::kUnavailable);
  EXPECT_NE(torn.error().message().find(R"(plugin "evil" of network "test": DEL: later (code 11))"), std::string::npos) << torn.error().message();
  EXPECT_EQ(Addresses(), "") << "DEL goes on down the chain past the plugin that fails";
  Open();  // a restart forgets nothing
  EXPECT_EQ(network_->KeepOnly({}, [](const PodId&) { return false; }).value(), 1);
  unlink("/mnt/bin/evil");
  EXPECT_EQ(network_->KeepOnly({}, [](const PodId&) { return false; }).value(), 1) << "a missing plugin is no success";
  Plugin("cat > /dev/null");
  EXPECT_EQ(network_->KeepOnly({}, [](const PodId&) { return false; }).value(), 0);
  EXPECT_EQ(db_->List("network")->size(), 0u);
}

TEST_F(BrokenPluginTest, AddThatFailsWithADelThatFailsIsKeptToo) {
  Plugin("cat > /dev/null; exit 1");
  EXPECT_NE(SetupError().find("and undoing it failed, it will be tried again"), std::string::npos);
  EXPECT_EQ(network_->KeepOnly({}, [](const PodId&) { return false; }).value(), 1);
  Plugin("cat > /dev/null");
  EXPECT_EQ(network_->KeepOnly({}, [](const PodId&) { return false; }).value(), 0);
}

TEST_F(BrokenPluginTest, OneThatHangsHoldsUpNoOtherPod) {
  options_.plugin_timeout = std::chrono::seconds(20);
  Open();
  Plugin(R"(case $CNI_ARGS in *=slow\;*) mkfifo /mnt/bin/gate 2>/dev/null; cat /mnt/bin/gate > /dev/null;; esac
            [ $CNI_COMMAND = DEL ] || printf '{"cniVersion":"1.0.0","ips":[{"address":"10.5.0.2/24"}]}')");
  auto slow = Request();
  slow.name = "slow";
  std::thread hanging([&] { Ok(network_->Setup({}, slow)); });
  auto quick = Request();
  Ok(network_->Setup({}, quick));
  Ok(network_->Teardown({}, quick.pod));
  Output("until [ -p /mnt/bin/gate ]; do :; done; echo > /mnt/bin/gate");
  hanging.join();
  Plugin("cat > /dev/null");
}

TEST_F(BrokenPluginTest, StatusAndGarbageCollectionOfVersion11) {
  Plugin(R"(cat > /mnt/bin/$CNI_COMMAND.json
            [ $CNI_COMMAND = STATUS ] && [ -e /mnt/bin/broken ] && { echo '{"code":50,"msg":"no daemon"}'; exit 1; }
            [ $CNI_COMMAND = ADD ] && printf '{"cniVersion":"1.1.0","ips":[{"address":"10.5.0.2/24"}]}'; exit 0)");
  UseVersion("1.1.0");
  auto until = [&](const std::string& message) {
    for (NetworkStatus status = network_->Status();; status = network_->Status()) {
      if (status.message == message) return status.ready;
      if (status.message != "waiting for the network plugins' STATUS") return false;
    }
  };
  EXPECT_TRUE(until(""));
  Output("touch /mnt/bin/broken");
  Open();
  until(R"(plugin "evil" of network "test": STATUS: no daemon (code 50))");
  EXPECT_FALSE(network_->Status().ready);
  auto request = Request();
  Ok(network_->Setup({}, request));
  EXPECT_EQ(network_->KeepOnly({}, [](const PodId&) { return true; }).value(), 0);
  Json gc = Json::parse(sys::ReadFile("/mnt/bin/GC.json").value());
  EXPECT_EQ(gc["cni.dev/valid-attachments"], (Json::array({{{"containerID", request.pod.str()}, {"ifname", "eth0"}}})));
}

}  // namespace
}  // namespace crisp::network
