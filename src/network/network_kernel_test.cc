// Wants root. The test's own network and mount namespace plays the host.
#include "network/network.h"

#include <gtest/gtest.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>

#include <algorithm>

#include "network/testing.h"

namespace crisp::network {
namespace {

TEST_F(NetworkTest, PodsReachEachOtherAndTheHostBothFamilies) {
  auto a = network_->Setup({}, Request()), b = network_->Setup({}, Request());
  Ok(a);
  Ok(b);
  EXPECT_EQ(a->ips, (std::vector<std::string>{"10.88.0.2", "fd00:88::2"}));
  EXPECT_EQ(b->ips, (std::vector<std::string>{"10.88.0.3", "fd00:88::3"}));
  EXPECT_EQ(a->primary_interface, "eth0");
  Server in_b(b->netns_path, SOCK_STREAM, 80, "b");
  Server on_host("/proc/self/ns/net", SOCK_STREAM, 81, "host");
  EXPECT_EQ(Ask(a->netns_path, SOCK_STREAM, "10.88.0.3", 80), "10.88.0.2 at b");
  EXPECT_EQ(Ask(a->netns_path, SOCK_STREAM, "fd00:88::3", 80), "fd00:88::2 at b");
  EXPECT_EQ(Ask(a->netns_path, SOCK_STREAM, "10.88.0.1", 81), "10.88.0.2 at host");
  EXPECT_EQ(Ask("", SOCK_STREAM, "10.88.0.3", 80), "10.88.0.1 at b");
  EXPECT_EQ(Ask(b->netns_path, SOCK_STREAM, "127.0.0.1", 80), "127.0.0.1 at b") << "lo is up";
}

TEST_F(NetworkTest, TheNamespaceIsToldBeforeThePluginsRun) {
  auto request = Request();
  std::string told;
  bool furnished = true;
  request.on_netns = [&](const std::string& path) {
    told = path;
    Result<sys::UniqueFd> netns = sys::OpenNetns(path);
    ASSERT_TRUE(netns) << netns.error().message();
    Result<sys::RouteSocket> inside = sys::OpenRouteSocketIn(*netns);
    ASSERT_TRUE(inside) << inside.error().message();
    furnished = inside->FindLink("eth0").has_value();
  };
  auto pod = network_->Setup({}, request);
  Ok(pod);
  EXPECT_EQ(told, pod->netns_path);
  EXPECT_FALSE(furnished);
  told.clear();
  Ok(network_->Setup({}, request));
  EXPECT_EQ(told, "") << "nothing is made anew";
}

TEST_F(NetworkTest, APairMadeAheadBecomesAPods) {
  auto first = network_->Setup({}, Request());
  Ok(first);
  const std::vector<std::string> ahead = AwaitPairsAhead();
  ASSERT_EQ(ahead.size(), NetnsPool::kSpare);
  auto request = Request();
  request.port_mappings = {{.container_port = 80, .host_port = 8080}};
  auto pod = network_->Setup({}, request);
  Ok(pod);
  const Json interfaces = ParseJson(pod->result_json, "result")->at("interfaces");
  const std::string name = interfaces[1]["name"];
  EXPECT_TRUE(std::ranges::find(ahead, name) != ahead.end()) << name;
  auto outside = sys::RouteSocket::Open()->FindLink(name);
  Ok(outside);
  EXPECT_NE(outside->master, 0);
  EXPECT_TRUE(outside->alias.ends_with(" ahead")) << outside->alias;
  EXPECT_EQ(sys::MacText(outside->mac), interfaces[1]["mac"]);
  EXPECT_EQ(Output("cat /proc/sys/net/ipv6/conf/" + name + "/accept_ra"), "0\n");
  auto inside = sys::OpenRouteSocketIn(*sys::OpenNetns(pod->netns_path))->FindLink("eth0");
  Ok(inside);
  EXPECT_EQ(sys::MacText(inside->mac), interfaces[2]["mac"]);
  EXPECT_EQ(interfaces[2]["mac"], "0a:58:0a:58:00:03") << "made from the address";
  {
    Server server(pod->netns_path, SOCK_STREAM, 80, "pod");
    EXPECT_EQ(Ask(first->netns_path, SOCK_STREAM, "10.88.0.3", 80), "10.88.0.2 at pod");
    EXPECT_EQ(Ask(first->netns_path, SOCK_STREAM, "fd00:88::3", 80), "fd00:88::2 at pod");
    EXPECT_EQ(Ask(pod->netns_path, SOCK_STREAM, "192.0.2.1", 8080), "10.88.0.1 at pod") << "the port is a hairpin";
  }
  Open();
  Ok(network_->KeepOnly({}, [&](const PodId& id) { return id == request.pod; }));
  EXPECT_TRUE(sys::RouteSocket::Open()->FindLink(name)) << "no stray for a later process";
  Ok(network_->Teardown({}, request.pod));
  network_.reset();
  EXPECT_FALSE(sys::RouteSocket::Open()->FindLink(name));
  Open();
}

TEST_F(NetworkTest, PairsMadeAheadGoWithTheProcess) {
  Ok(network_->Setup({}, Request()));
  const std::vector<std::string> ahead = AwaitPairsAhead();
  ASSERT_EQ(ahead.size(), NetnsPool::kSpare);
  network_.reset();
  for (const std::string& name : ahead) EXPECT_FALSE(sys::RouteSocket::Open()->FindLink(name)) << name;
  Open();
}

TEST_F(NetworkTest, APairMadeAheadThatSomebodyTookAway) {
  Ok(network_->Setup({}, Request()));
  const std::vector<std::string> ahead = AwaitPairsAhead();
  ASSERT_EQ(ahead.size(), NetnsPool::kSpare);
  for (const std::string& name : ahead) Output("ip link delete " + name);
  auto pod = network_->Setup({}, Request());
  Ok(pod);
  Server server(pod->netns_path, SOCK_STREAM, 80, "pod");
  EXPECT_EQ(Ask("", SOCK_STREAM, "10.88.0.3", 80), "10.88.0.1 at pod");
}

TEST_F(NetworkTest, SysctlsOfTheRequest) {
  for (const char* start : {"0", "0", "17"}) {  // the second pod's namespace is made ahead
    auto request = Request();
    request.sysctls = {{"net/ipv4/ip_unprivileged_port_start", start}, {"net/ipv4/ping_group_range", "0 2147483647"}};
    std::string ports, groups;
    request.on_netns = [&](const std::string& path) {
      Ok(sys::RunInNetns(*sys::OpenNetns(path), [&]() -> Result<> {
        ports = TRY(sys::ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"));
        groups = TRY(sys::ReadFile("/proc/sys/net/ipv4/ping_group_range"));
        return {};
      }));
    };
    Ok(network_->Setup({}, request));
    EXPECT_EQ(ports, StrCat(start, "\n"));
    EXPECT_EQ(groups, "0\t2147483647\n");
  }
}

// Each change of a port's state makes the bridge look through all its ports.
TEST_F(NetworkTest, TheHostsEndIsNeverUpWithoutACarrier) {
  Ok(network_->Setup({}, Request()));  // the bridge's own coming and going
  sys::UniqueFd events(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  ASSERT_EQ(bind(events.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  for (int i = 0; i < 5; ++i) Ok(network_->Setup({}, Request()));
  int up = 0;
  char message[16384];
  while (recv(events.get(), message, sizeof message, 0) > 0) {
    nlmsghdr header;
    ifinfomsg link;
    memcpy(&header, message, sizeof header);
    memcpy(&link, message + NLMSG_HDRLEN, sizeof link);
    if (header.nlmsg_type != RTM_NEWLINK || link.ifi_family != AF_UNSPEC || (link.ifi_flags & IFF_UP) == 0) continue;
    ++up;
    EXPECT_NE(link.ifi_flags & IFF_LOWER_UP, 0u) << "link number " << link.ifi_index;
  }
  EXPECT_GE(up, 5);
}

TEST_F(NetworkTest, SetupIsIdempotentAndSurvivesARestart) {
  auto request = Request();
  auto first = network_->Setup({}, request), again = network_->Setup({}, request);
  Ok(again);
  EXPECT_EQ(again->ips, first->ips);
  Open();
  auto restored = network_->Get(request.pod);
  Ok(restored);
  EXPECT_EQ(restored->ips, first->ips);
  EXPECT_EQ(restored->netns_path, first->netns_path);
  EXPECT_EQ(restored->result_json, first->result_json);
  Ok(network_->Teardown({}, request.pod));
}

TEST_F(NetworkTest, SetupOfAPodWhoseNamespaceVanishedBeginsAnew) {
  auto request = Request();
  auto first = network_->Setup({}, request);
  Ok(first);
  Ok(sys::UnpinNetns(first->netns_path));
  auto second = network_->Setup({}, request);
  Ok(second);
  EXPECT_TRUE(sys::OpenNetns(second->netns_path));
}

TEST_F(NetworkTest, HostPortsAreReachedFromEverywhere) {
  auto request = Request(), other = Request();
  request.port_mappings = {{.container_port = 80, .host_port = 8080}};
  auto pod = network_->Setup({}, request), client = network_->Setup({}, other);
  Ok(pod);
  Ok(client);
  Server server(pod->netns_path, SOCK_STREAM, 80, "pod");
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at pod");
  EXPECT_EQ(Ask("", SOCK_STREAM, "127.0.0.1", 8080), "10.88.0.1 at pod") << "masqueraded: 127.0.0.1 could not be answered";
  EXPECT_EQ(Ask("", SOCK_STREAM, "2001:db8::1", 8080), "2001:db8::1 at pod");
  EXPECT_EQ(Ask(client->netns_path, SOCK_STREAM, "192.0.2.1", 8080), "10.88.0.1 at pod") << "hairpin is masqueraded";
  EXPECT_EQ(Ask(pod->netns_path, SOCK_STREAM, "192.0.2.1", 8080), "10.88.0.1 at pod") << "the pod itself by its host port";
  EXPECT_EQ(Ask(client->netns_path, SOCK_STREAM, "2001:db8::1", 8080), "fd00:88::1 at pod");
  EXPECT_EQ(Ask(client->netns_path, SOCK_STREAM, "10.88.0.2", 80), "10.88.0.3 at pod") << "no masquerading inside the network";
  Ok(network_->Teardown({}, request.pod));
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "read: Connection refused");
}

TEST_F(NetworkTest, HostPortsMatchLocalDestinationsOnly) {
  // Rows S62: a connection through this host to the same port elsewhere is not ours.
  auto elsewhere = sys::CreateNetns();
  Ok(sys::PinNetns(elsewhere->fd, "/run/elsewhere"));
  auto host = sys::RouteSocket::Open();
  sys::NetlinkBatch batch, addresses, inside;
  AddVeth(batch, {.name = "lan0", .mac = {0x0a, 0, 0, 0, 1, 1}, .peer_name = "eth0", .peer_mac = {0x0a, 0, 0, 0, 1, 2}, .peer_netns = elsewhere->fd.get()});
  SetLink(batch, "lan0", {.up = true});
  Ok(host->Send(batch));
  AddAddress(addresses, host->FindLink("lan0").value().index, sys::IpPrefix::Parse("198.51.100.1/24").value());
  Ok(host->Send(addresses));
  int index = elsewhere->route.FindLink("eth0").value().index;
  SetLink(inside, "eth0", {.up = true});
  AddAddress(inside, index, sys::IpPrefix::Parse("198.51.100.9/24").value());
  AddRoute(inside, index, {.destination = sys::IpPrefix::Default(AF_INET), .gateway = sys::IpAddress::Parse("198.51.100.1").value()});
  Ok(elsewhere->route.Send(inside));
  {
    auto request = Request(), other = Request();
    request.port_mappings = {{.container_port = 80, .host_port = 8080}};
    auto pod = network_->Setup({}, request), client = network_->Setup({}, other);
    Server in_pod(pod->netns_path, SOCK_STREAM, 80, "pod"), away("/run/elsewhere", SOCK_STREAM, 8080, "elsewhere");
    EXPECT_EQ(Ask("", SOCK_STREAM, "198.51.100.9", 8080), "198.51.100.1 at elsewhere");
    EXPECT_EQ(Ask(client->netns_path, SOCK_STREAM, "198.51.100.9", 8080), "198.51.100.1 at elsewhere") << "pods go out with the host's address";
    EXPECT_EQ(Ask("/run/elsewhere", SOCK_STREAM, "198.51.100.1", 8080), "198.51.100.9 at pod") << "clients of the LAN keep their address";
    // 127.0.0.1 of this host stays its own, from pods and from the LAN (CVE-2020-8558).
    Server secret("/proc/self/ns/net", SOCK_DGRAM, 4000, "secret", AF_INET);
    for (const std::string& from : {client->netns_path, std::string("/run/elsewhere")}) {
      auto netns = sys::OpenNetns(from).value();
      auto route = sys::OpenRouteSocketIn(netns).value();
      sys::NetlinkBatch evil, forget;
      int link = route.FindLink("eth0").value().index;
      auto gateway = sys::IpAddress::Parse(from == "/run/elsewhere" ? "198.51.100.1" : "10.88.0.1").value();
      // The pod's own loopback must be out of the way for its packets to leave.
      DeleteAddress(evil, route.FindLink("lo").value().index, sys::IpPrefix::Parse("127.0.0.1/8").value());
      AddRoute(evil, link, {.destination = sys::IpPrefix::Parse("127.0.0.0/8").value(), .gateway = gateway});
      Ok(route.Send(evil));
      Ok(sys::RunInNetns(netns, [&] { return sys::WriteExisting("/proc/sys/net/ipv4/conf/all/route_localnet", "1"); }));
      EXPECT_EQ(Ask(from, SOCK_DGRAM, "127.0.0.1", 4000, 200), "no answer") << from;
    }
    // Nor later, when the pod with the host port has gone, nor after a restart.
    Ok(network_->Teardown({}, request.pod));
    EXPECT_EQ(Ask(client->netns_path, SOCK_DGRAM, "127.0.0.1", 4000, 200), "no answer");
    Open();
    EXPECT_EQ(Ask(client->netns_path, SOCK_DGRAM, "127.0.0.1", 4000, 200), "no answer");
    EXPECT_EQ(Ask("", SOCK_DGRAM, "127.0.0.1", 4000), "127.0.0.1 at secret");
    EXPECT_EQ(secret.received(), 1) << "the host's own only";
    Ok(network_->Teardown({}, other.pod));
  }
  Ok(sys::UnpinNetns("/run/elsewhere"));
  sys::NetlinkBatch remove;
  DeleteLink(remove, "lan0");
  Ok(host->Send(remove));
}

TEST_F(NetworkTest, HostPortOfOneAddressOnly) {
  auto one = Request(), all = Request();
  one.port_mappings = {{.container_port = 80, .host_port = 8080, .host_ip = "192.0.2.1"}};
  all.port_mappings = {{.container_port = 80, .host_port = 8080}};
  auto a = network_->Setup({}, one), b = network_->Setup({}, all);
  Server in_a(a->netns_path, SOCK_STREAM, 80, "one"), in_b(b->netns_path, SOCK_STREAM, 80, "all");
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at one");
  EXPECT_EQ(Ask("", SOCK_STREAM, "10.88.0.1", 8080), "10.88.0.1 at all");
  EXPECT_EQ(Ask("", SOCK_STREAM, "127.0.0.1", 8080), "10.88.0.1 at all");
}

TEST_F(NetworkTest, LaterClaimOfAHostPortWinsAndGivesItBack) {
  auto first = Request(), second = Request();
  first.port_mappings = second.port_mappings = {{.container_port = 80, .host_port = 8080}};
  auto a = network_->Setup({}, first);
  Server in_a(a->netns_path, SOCK_STREAM, 80, "first");
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at first");
  auto b = network_->Setup({}, second);
  {
    Server in_b(b->netns_path, SOCK_STREAM, 80, "second");
    EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at second");
    Open();  // the order is not kept over a restart, but one of them has it
    EXPECT_NE(Ask("", SOCK_STREAM, "192.0.2.1", 8080).find("192.0.2.1 at "), std::string::npos);
  }
  Ok(network_->Teardown({}, second.pod));
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at first");
}

TEST_F(NetworkTest, UdpFlowsFollowThePort) {
  auto first = Request(), second = Request();
  first.port_mappings = second.port_mappings = {{.protocol = PortMapping::Protocol::kUdp, .container_port = 53, .host_port = 5353}};
  auto a = network_->Setup({}, first);
  {
    Server in_a(a->netns_path, SOCK_DGRAM, 53, "first");
    EXPECT_EQ(Ask("", SOCK_DGRAM, "192.0.2.1", 5353, 2000, "192.0.2.1", 40000), "192.0.2.1 at first");
  }
  Ok(network_->Teardown({}, first.pod));
  auto b = network_->Setup({}, second);
  Server in_b(b->netns_path, SOCK_DGRAM, 53, "second");
  // The same flow: without forgetting it would lead to the first pod's address for 30 s more.
  EXPECT_EQ(Ask("", SOCK_DGRAM, "192.0.2.1", 5353, 2000, "192.0.2.1", 40000), "192.0.2.1 at second");
}

TEST_F(NetworkTest, SctpPorts) {
  sys::UniqueFd probe(socket(AF_INET, SOCK_SEQPACKET | SOCK_CLOEXEC, IPPROTO_SCTP));
  auto request = Request();
  request.port_mappings = {{.protocol = PortMapping::Protocol::kSctp, .container_port = 5000, .host_port = 5001}};
  Ok(network_->Setup({}, request));
  EXPECT_NE(Output("nft list ruleset").find("sctp . 5001 : 10.88.0.2 . 5000"), std::string::npos);
  if (!probe.ok()) GTEST_SKIP() << "no SCTP in this kernel to send some";
}

TEST_F(NetworkTest, ManyAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 8; ++i) {
        auto request = Request();
        request.port_mappings = {{.container_port = 80, .host_port = 9000 + 100 * t + i}};
        auto pod = network_->Setup({}, request);
        Ok(pod);
        Ok(network_->Get(request.pod));
        EXPECT_TRUE(network_->Status().ready);
        if (i % 2 == 0) Ok(network_->Teardown({}, request.pod));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(db_->List("network")->size(), 24u);
  EXPECT_EQ(Output("ls /run/crisp/ipam/crispbr0 | grep -c ^10"), "24\n");
  Ok(network_->KeepOnly({}, [](const PodId&) { return false; }));
}

TEST_F(NetworkTest, RulesComeBackAfterAFlushAndARestart) {
  auto request = Request(), other = Request();
  request.port_mappings = {{.container_port = 80, .host_port = 8080}};
  auto pod = network_->Setup({}, request);
  Server server(pod->netns_path, SOCK_STREAM, 80, "pod");
  Output("nft flush ruleset");
  EXPECT_NE(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at pod");
  Ok(network_->Setup({}, other));  // finds its table gone
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at pod");
  Output("nft flush ruleset");
  network_->Status();  // in the background
  Output(R"(i=0; until nft list tables | grep -q crisp; do i=$((i + 1)); [ $i -lt 5000 ] || exit; done)");
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at pod");
  Output("nft flush ruleset");
  Ok(network_->KeepOnly({}, [](const PodId&) { return true; }));
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at pod");
  Output("nft flush ruleset");
  Open();
  EXPECT_EQ(Ask("", SOCK_STREAM, "192.0.2.1", 8080), "192.0.2.1 at pod");
}

TEST_F(NetworkTest, RouterAdvertisementsOfPodsAreIgnored) {
  auto pod = network_->Setup({}, Request());
  Ok(pod);
  auto netns = sys::OpenNetns(pod->netns_path).value();
  std::string inside;
  Ok(sys::RunInNetns(netns, [&]() -> Result<> {
    inside = TRY(sys::ReadFile("/proc/sys/net/ipv6/conf/eth0/accept_ra"));
    return {};
  }));
  EXPECT_EQ(inside, "0\n");
  EXPECT_EQ(sys::ReadFile("/proc/sys/net/ipv6/conf/crispbr0/accept_ra").value(), "0\n");
  const std::vector<sys::Link> links = sys::RouteSocket::Open()->Links().value();
  for (const sys::Link& link : links) {
    if (link.kind != "veth") continue;
    EXPECT_EQ(sys::ReadFile(StrCat("/proc/sys/net/ipv6/conf/", link.name, "/accept_ra")).value(), "0\n");
  }
}

TEST_F(NetworkTest, NoIpv6OnANetworkWithoutIt) {
  options_.fallback_conflist = DefaultConflist("crispbr0", "10.88.0.0/16", "/run/crisp/ipam").value();
  Open();
  auto pod = network_->Setup({}, Request());
  Ok(pod);
  EXPECT_EQ(pod->ips, std::vector<std::string>{"10.88.0.2"});
  auto netns = sys::OpenNetns(pod->netns_path).value();
  auto route = sys::OpenRouteSocketIn(netns).value();
  EXPECT_EQ(route.Addresses(route.FindLink("eth0")->index)->size(), 1u);
  auto host = sys::RouteSocket::Open();
  EXPECT_EQ(host->Addresses(host->FindLink("crispbr0")->index)->size(), 1u);
  Server server(pod->netns_path, SOCK_STREAM, 80, "pod");
  EXPECT_EQ(Ask("", SOCK_STREAM, "10.88.0.2", 80), "10.88.0.1 at pod");
  EXPECT_EQ(Ask(pod->netns_path, SOCK_STREAM, "::1", 80), "::1 at pod") << "loopback keeps it";
}

TEST_F(NetworkTest, BridgeKeepsItsMacAddress) {
  auto host = sys::RouteSocket::Open();
  std::vector<PodId> pods;
  std::string mac;
  for (int i = 0; i < 8; ++i) {
    auto request = Request();
    Ok(network_->Setup({}, request));
    pods.push_back(request.pod);
    std::string now = sys::MacText(host->FindLink("crispbr0")->mac);
    if (i == 0) mac = now;
    EXPECT_EQ(now, mac);
  }
  for (const PodId& pod : pods) Ok(network_->Teardown({}, pod));
  EXPECT_EQ(sys::MacText(host->FindLink("crispbr0")->mac), mac);
}

TEST_F(NetworkTest, AddressesReuseTheirMac) {
  options_.fallback_conflist =
      R"({"cniVersion":"1.0.0","name":"tiny","plugins":[{"type":"bridge","bridge":"tiny0","isDefaultGateway":true,
          "ipam":{"type":"host-local","dataDir":"/run/crisp/ipam","subnet":"10.9.0.0/30"}}]})";
  Open();
  std::vector<std::unique_ptr<Server>> servers;
  for (int i = 0; i < 3; ++i) {
    // One address only: a neighbour that remembers the pod before must reach the new one at once, although the old
    // namespace still lives (the Server has a socket there).
    auto request = Request();
    auto pod = network_->Setup({}, request);
    Ok(pod);
    servers.push_back(std::make_unique<Server>(pod->netns_path, SOCK_STREAM, 80, StrCat("pod ", i)));
    EXPECT_EQ(Ask("", SOCK_STREAM, "10.9.0.2", 80, 700), StrCat("10.9.0.1 at pod ", i));
    Ok(network_->Teardown({}, request.pod));
  }
}

TEST_F(NetworkTest, AfterAReboot) {
  auto request = Request();
  auto pod = network_->Setup({}, request);
  Ok(pod);
  network_.reset();
  // What the boot takes: namespaces with their links, rules, the bridge. Addresses are on the disk.
  Ok(sys::UnpinNetns(pod->netns_path));
  Output("nft flush ruleset; ip link del crispbr0");
  Open();
  Ok(network_->AfterReboot({}));
  EXPECT_EQ(network_->Get(request.pod).error().code(), Code::kNotFound);
}

TEST_F(NetworkTest, SweepSparesTheLivingAndRemovesStrays) {
  auto kept = Request(), lost = Request();
  auto a = network_->Setup({}, kept), b = network_->Setup({}, lost);
  auto stray = sys::CreateNetns();
  std::string stray_path = b->netns_path;
  stray_path.replace(stray_path.size() - 4, 4, "ffff");
  Ok(sys::PinNetns(stray->fd, stray_path));
  Ok(sys::PinNetns(stray->fd, "/run/crisp/netns/somebody-elses"));
  auto remaining = network_->KeepOnly({}, [&](const PodId& pod) { return pod == kept.pod; });
  Ok(remaining);
  EXPECT_EQ(*remaining, 0);
  Ok(network_->Get(kept.pod));
  EXPECT_EQ(network_->Get(lost.pod).error().code(), Code::kNotFound);
  EXPECT_FALSE(sys::Exists(stray_path));
  EXPECT_TRUE(sys::Exists("/run/crisp/netns/somebody-elses"));
  Ok(sys::UnpinNetns("/run/crisp/netns/somebody-elses"));
}

TEST_F(NetworkTest, ALinkThatOutlivesItsPodIsRemoved) {
  auto request = Request();
  auto pod = network_->Setup({}, request);
  auto held = sys::OpenNetns(pod->netns_path);  // as a process that would not die
  Ok(network_->Teardown({}, request.pod));
  network_.reset();
  EXPECT_EQ(Leftovers(), "");
  Open();
}

TEST_F(NetworkTest, ALinkWhosePodIsForgottenIsSwept) {
  auto request = Request();
  auto pod = network_->Setup({}, request);
  auto held = sys::OpenNetns(pod->netns_path);
  network_.reset();
  Ok(db_->Delete("network", request.pod.str(), state::Durability::kProcess));  // as when we died right after a teardown
  Open();
  Ok(network_->KeepOnly({}, [](const PodId&) { return false; }));
  Output("rm -f /run/crisp/ipam/crispbr0/10* /run/crisp/ipam/crispbr0/fd* /run/crisp/cni/*");
}

TEST_F(NetworkTest, TwoInstancesSideBySide) {
  NetworkOptions other = options_;
  other.state_dir = "/run/crisp/other";
  other.fallback_conflist = DefaultConflist("crispbr1", "10.89.0.0/16", "/run/crisp/other/ipam").value();
  auto db = state::Database::Open("/mnt/db/other.db");
  auto second = Network::Open(other, **db);
  Ok(second);
  auto one = Request(), two = Request();
  one.port_mappings = {{.container_port = 80, .host_port = 8080}};
  two.port_mappings = {{.container_port = 80, .host_port = 8081}};
  auto a = network_->Setup({}, one), b = (*second)->Setup({}, two);
  Server in_a(a->netns_path, SOCK_STREAM, 80, "a"), in_b(b->netns_path, SOCK_STREAM, 80, "b");
  // Neither takes the other's for its own.
  Ok((*second)->KeepOnly({}, [&](const PodId& pod) { return pod == two.pod; }));
  Ok(network_->KeepOnly({}, [&](const PodId& pod) { return pod == one.pod; }));
  EXPECT_EQ(Ask("", SOCK_STREAM, "127.0.0.1", 8080), "10.88.0.1 at a");
  EXPECT_EQ(Ask("", SOCK_STREAM, "127.0.0.1", 8081), "10.89.0.1 at b");
  Ok((*second)->Teardown({}, two.pod));
  second->reset();
  EXPECT_EQ(Ask("", SOCK_STREAM, "127.0.0.1", 8080), "10.88.0.1 at a");
}

TEST_F(NetworkTest, BadRecordsGoIntoQuarantineAndTheRestIsServed) {
  auto request = Request();
  Ok(network_->Setup({}, request));
  Ok(db_->Put("network", PodId::Random().str(), 1, "{torn", state::Durability::kProcess));
  Ok(db_->Put("network", PodId::Random().str(), 99, "{}", state::Durability::kProcess));
  Open();
  Ok(network_->Get(request.pod));
  EXPECT_EQ(db_->List("network")->size(), 1u);
}

// So many that several threads read them.
TEST_F(NetworkTest, HundredsOfRecordsAreReadEachAsItsOwn) {
  auto request = Request();
  Ok(network_->Setup({}, request));
  Json record = Json::parse(db_->Get("network", request.pod.str()).value());
  record["result"]["ips"].erase(1);  // the one of IPv6
  std::map<PodId, std::string> ips;
  for (int i = 0; i < 300; ++i) {
    std::string ip = StrCat("10.88.", 1 + i / 100, ".", 1 + i % 100);
    record["result"]["ips"][0]["address"] = ip + "/16";
    PodId pod = PodId::Random();
    Ok(db_->Put("network", pod.str(), 1, DumpJson(record), state::Durability::kProcess));
    ips.emplace(pod, ip);
  }
  Ok(db_->Put("network", PodId::Random().str(), 1, "{torn", state::Durability::kProcess));
  Open();
  EXPECT_EQ(db_->List("network")->size(), 301u);
  for (const auto& [pod, ip] : ips) {
    auto network = network_->Get(pod);
    Ok(network);
    EXPECT_EQ(network->ips, std::vector<std::string>{ip});
  }
}

TEST_F(NetworkTest, StatusTellsWhatIsInUse) {
  NetworkStatus status = network_->Status();
  EXPECT_TRUE(status.ready) << status.message;
  EXPECT_EQ(status.conflist_name, "crispbr0");
  options_.fallback_conflist = "";
  Open();
  status = network_->Status();
  EXPECT_FALSE(status.ready);
  EXPECT_EQ(status.reason, "NetworkPluginNotReady");
  EXPECT_EQ(network_->Setup({}, Request()).error().code(), Code::kUnavailable);
  Ok(sys::WriteFileAtomic("/mnt/conf/10-x.conflist", R"({"cniVersion":"1.0.0","name":"x","plugins":[{"type":"no-such-plugin"}]})", 0644,
                          sys::Durability::kNone));
  status = network_->Status();
  EXPECT_FALSE(status.ready);
  EXPECT_EQ(status.message, "network \"x\": no program \"no-such-plugin\" in /usr/lib/cni");
  EXPECT_EQ(status.conflist_file, "/mnt/conf/10-x.conflist");
}

TEST_F(NetworkTest, PodCidrChangesTheFallback) {
  auto before = network_->Setup({}, Request());
  EXPECT_EQ(before->ips[0], "10.88.0.2");
  Ok(network_->SetPodCidr("10.77.0.0/24"));
  auto after = network_->Setup({}, Request());
  Ok(after);
  EXPECT_EQ(after->ips, std::vector<std::string>{"10.77.0.2"});
  EXPECT_FALSE(network_->SetPodCidr("10.77.0.0/24,nonsense"));
  Ok(network_->SetPodCidr(""));
}

TEST_F(NetworkTest, ExpiredCallsMakeNothing) {
  EXPECT_EQ(network_->Setup(Ctx().WithTimeout(std::chrono::milliseconds(0)), Request()).error().code(), Code::kDeadlineExceeded);
  auto request = Request();
  Ok(network_->Setup({}, request));
  // Clean-up has a deadline of its own (row 21).
  Ok(network_->Teardown(Ctx().WithTimeout(std::chrono::milliseconds(0)), request.pod));
}

TEST_F(NetworkTest, TeardownLeavesNothing) {
  std::vector<PodId> pods;
  for (int i = 0; i < 5; ++i) {
    auto request = Request();
    request.port_mappings = {{.container_port = 80, .host_port = 8000 + i}};
    Ok(network_->Setup({}, request));
    pods.push_back(request.pod);
  }
  for (const PodId& pod : pods) Ok(network_->Teardown({}, pod));
  for (const PodId& pod : pods) Ok(network_->Teardown({}, pod));
  EXPECT_EQ(network_->Get(pods[0]).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace crisp::network
