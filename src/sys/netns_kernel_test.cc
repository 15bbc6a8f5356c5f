// Wants root. Everything happens in a network and a mount namespace of the test's own.
#include "sys/netns.h"

#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/net_dev.h"

namespace crisp::sys {
namespace {

class OwnNamespaces : public testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("tmpfs", "/mnt", "tmpfs", 0, nullptr), 0);
  }
};
[[maybe_unused]] const auto* const g_environment = testing::AddGlobalTestEnvironment(new OwnNamespaces);

ino_t MyNetns() {
  struct stat status{};
  EXPECT_EQ(stat("/proc/thread-self/ns/net", &status), 0);
  return status.st_ino;
}

template <class R>
void Ok(R&& result) {
  ASSERT_TRUE(result) << result.error().message();
}

IpPrefix P(std::string_view text) { return IpPrefix::Parse(text).value(); }

TEST(Netns, IsMadeWithoutTouchingOurOwn) {
  ino_t before = MyNetns();
  auto made = CreateNetns({{"net/ipv4/ip_forward", "1"}, {"net/no/such/file", "1"}});
  Ok(made);
  EXPECT_EQ(MyNetns(), before);
  Link lo = made->route.FindLink("lo").value();
  EXPECT_TRUE(lo.flags & IFF_UP);
  std::string inside;
  Ok(RunInNetns(made->fd, [&]() -> Result<> {
    EXPECT_NE(MyNetns(), before);
    inside = TRY(ReadFile("/proc/sys/net/ipv4/ip_forward"));
    return {};
  }));
  EXPECT_EQ(inside, "1\n");
}

TEST(Netns, SysctlsByAProcOfItsOwn) {
  auto proc = OpenOwnProc();
  Ok(proc);
  auto here = ReadFile("/proc/sys/net/ipv4/ip_forward");
  auto one = CreateNetns({{"net/ipv4/ip_forward", *here == "0\n" ? "1" : "0"}, {"net/no/such/file", "1"}}, *proc);
  auto two = CreateNetns({{"net/ipv4/ip_default_ttl", "17"}}, *proc);
  Ok(one);
  Ok(two);
  EXPECT_FALSE(CreateNetns({{"net/ipv4/ip_default_ttl", "none"}}, *proc));
  std::string forward, ttl, ttl_of_two;
  Ok(RunInNetns(one->fd, [&]() -> Result<> {
    forward = TRY(ReadFile("/proc/sys/net/ipv4/ip_forward"));
    ttl = TRY(ReadFile("/proc/sys/net/ipv4/ip_default_ttl"));
    return {};
  }));
  Ok(RunInNetns(two->fd, [&]() -> Result<> {
    ttl_of_two = TRY(ReadFile("/proc/sys/net/ipv4/ip_default_ttl"));
    return {};
  }));
  EXPECT_NE(forward, *here);
  EXPECT_NE(ttl, "17\n");
  EXPECT_EQ(ttl_of_two, "17\n");
  EXPECT_EQ(*ReadFile("/proc/sys/net/ipv4/ip_forward"), *here);
}

TEST(Netns, PinKeepsItAndUnpinIsIdempotent) {
  const std::string path = "/mnt/pinned";
  struct stat original{}, pinned{};
  {
    auto made = CreateNetns();
    Ok(made);
    fstat(made->fd.get(), &original);
    Ok(PinNetns(made->fd, path));
    EXPECT_FALSE(PinNetns(made->fd, path));  // never over another's
  }
  auto again = OpenNetns(path);
  Ok(again);
  fstat(again->get(), &pinned);
  EXPECT_EQ(pinned.st_ino, original.st_ino);
  Ok(UnpinNetns(path));
  EXPECT_FALSE(Exists(path));
  Ok(UnpinNetns(path));
  EXPECT_EQ(OpenNetns(path).error().code(), Code::kNotFound);
}

TEST(Netns, UnpinAfterACrashBetweenFileAndMount) {
  Ok(WriteFileAtomic("/mnt/half", "", 0444, Durability::kNone));
  EXPECT_EQ(OpenNetns("/mnt/half").error().code(), Code::kFailedPrecondition);
  Ok(UnpinNetns("/mnt/half"));
  EXPECT_FALSE(Exists("/mnt/half"));
}

TEST(Route, VethIntoAnotherNamespaceInOneBatch) {
  auto pod = CreateNetns();
  Ok(pod);
  RouteSocket host = RouteSocket::Open().value();
  NetlinkBatch batch;
  AddBridge(batch, "br0", ParseMac("0a:58:0a:00:00:01").value(), 1400);
  AddBridge(batch, "br0", ParseMac("0a:58:0a:00:00:09").value(), 0);  // existing is fine and is left alone
  SetLink(batch, "br0", {.up = true});
  Ok(host.Send(batch));
  Link bridge = host.FindLink("br0").value();
  EXPECT_EQ(bridge.kind, "bridge");
  EXPECT_EQ(bridge.mtu, 1400);
  EXPECT_EQ(MacText(bridge.mac), "0a:58:0a:00:00:01");

  NetlinkBatch make;
  AddVeth(make, {.name = "veth1", .mac = ParseMac("0a:00:00:00:00:01").value(), .master = bridge.index, .peer_name = "eth0",
                 .peer_mac = ParseMac("0a:00:00:00:00:02").value(), .peer_netns = pod->fd.get(), .mtu = 1400});
  SetLink(make, "veth1", {.up = true, .no_link_local_address = true, .hairpin = true});
  AddAddress(make, bridge.index, P("10.0.0.1/24"));
  Ok(host.Send(make));
  Link end = host.FindLink("veth1").value();
  EXPECT_EQ(end.master, bridge.index);
  EXPECT_TRUE(end.flags & IFF_UP);
  ASSERT_EQ(mkdir("/mnt/sys", 0755), 0);
  ASSERT_EQ(mount("sysfs", "/mnt/sys", "sysfs", 0, nullptr), 0);  // the other is of the network namespace before
  EXPECT_EQ(ReadFile("/mnt/sys/class/net/veth1/brport/hairpin_mode").value(), "1\n");
  EXPECT_TRUE(Exists("/mnt/sys/class/net/veth1/queues/tx-0"));
  EXPECT_FALSE(Exists("/mnt/sys/class/net/veth1/queues/tx-1"));
  EXPECT_FALSE(Exists("/mnt/sys/class/net/veth1/queues/rx-1"));
  auto bridge_addresses = host.Addresses(bridge.index).value();
  EXPECT_EQ(std::ranges::count(bridge_addresses, P("10.0.0.1/24"), &LinkAddress::prefix), 1);
  EXPECT_TRUE(host.Addresses(end.index).value().empty()) << "no link-local address on a bridge port";

  Link inner = pod->route.FindLink("eth0").value();
  EXPECT_EQ(inner.kind, "veth");
  EXPECT_EQ(inner.mtu, 1400);
  EXPECT_EQ(inner.peer, end.index);
  NetlinkBatch inside;
  SetLink(inside, "eth0", {.up = true});
  AddAddress(inside, inner.index, P("10.0.0.2/24"));
  AddAddress(inside, inner.index, P("fd00::2/64"));
  AddRoute(inside, inner.index, {.destination = IpPrefix::Default(AF_INET), .gateway = IpAddress::Parse("10.0.0.1").value()});
  AddRoute(inside, inner.index, {.destination = P("192.0.2.9/24"), .gateway = IpAddress::Parse("10.0.0.1").value(), .mtu = 1300});
  Ok(pod->route.Send(inside));
  Ok(pod->route.Send(inside));  // all of it again: success
  EXPECT_EQ(pod->route.LinkTowards(IpAddress::Parse("198.51.100.1").value()).value(), inner.index);
  EXPECT_EQ(host.LinkTowards(IpAddress::Parse("198.51.100.1").value()).error().code(), Code::kNotFound);
  auto addresses = pod->route.Addresses(inner.index).value();
  EXPECT_TRUE(std::ranges::any_of(addresses, [](const LinkAddress& a) { return a.prefix == P("fd00::2/64"); }));

  NetlinkBatch remove;
  SetLinkGroup(remove, "veth1", 4711);
  SetLinkGroup(remove, "no-such", 4711);
  DeleteLinkGroup(remove, 4711);
  DeleteLinkGroup(remove, 4711);
  DeleteLink(remove, "br0");
  DeleteLink(remove, "br0");
  Ok(host.Send(remove));
  EXPECT_EQ(host.FindLink("veth1").error().code(), Code::kNotFound);
  EXPECT_EQ(pod->route.FindLink("eth0").error().code(), Code::kNotFound);
}

TEST(Route, ErrorsNameTheStepThatFailedAndLaterStepsAreTried) {
  RouteSocket host = RouteSocket::Open().value();
  NetlinkBatch batch;
  SetLink(batch, "absent0", {.up = true});
  SetLink(batch, "lo", {.up = true});
  Result<> sent = host.Send(batch);
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().message(), "set up link absent0: No such device");
  EXPECT_TRUE(host.FindLink("lo").value().flags & IFF_UP);
}

TEST(Route, DumpsOfManyPiecesAndBatchesOfManyAnswers) {
  RouteSocket host = RouteSocket::Open().value();
  NetlinkBatch batch;
  for (int i = 0; i < 60; ++i) AddBridge(batch, StrCat("many", i), {0x0a, 0, 0, 0, 0, static_cast<uint8_t>(i)}, 0);
  for (int i = 0; i < 600; ++i) SetLink(batch, "lo", {.up = true});
  Ok(host.Send(batch));
  auto links = host.Links().value();  // more than the 32 KiB of one piece
  EXPECT_EQ(std::ranges::count_if(links, [](const Link& l) { return l.name.starts_with("many"); }), 60);
  NetlinkBatch remove;
  for (int i = 0; i < 60; ++i) SetLinkGroup(remove, StrCat("many", i), 99);
  DeleteLinkGroup(remove, 99);
  Ok(host.Send(remove));
}

TEST(NetDev, CountersOfOtherNamespacesAreReadWithoutKeepingThem) {
  auto made = CreateNetns();
  Ok(made);
  NetlinkBatch batch;
  AddBridge(batch, "inside0", {0x0a, 0, 0, 0, 0, 1}, 0);
  Ok(made->route.Send(batch));
  std::string pin = "/mnt/counters";
  Ok(PinNetns(made->fd, pin));
  ino_t before = MyNetns();
  auto links = ReadLinkCounters({"/mnt/no-such", pin}).value();
  EXPECT_EQ(MyNetns(), before);
  EXPECT_FALSE(links[0]);
  ASSERT_TRUE(links[1]);
  ASSERT_EQ(links[1]->size(), 1u) << "lo is left out";
  EXPECT_EQ((*links[1])[0].name, "inside0");
  Ok(UnpinNetns(pin));
}

}  // namespace
}  // namespace crisp::sys
