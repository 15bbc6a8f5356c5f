// Wants root. The test's own network and mount namespace plays the host.
#include "network/network.h"

#include <gtest/gtest.h>

#include "network/testing.h"

namespace crisp::network {
namespace {

class Host : public testing::Environment {
  void SetUp() override { EnterTestHost(); }
};
[[maybe_unused]] const auto* const g_environment = testing::AddGlobalTestEnvironment(new Host);

// Everything that an attachment can leave on the host; "" when there is nothing. The bridge and the packet table go by
// themselves 2 s after the last pod, at once when the Network is closed.
std::string Leftovers(const std::string& ipam = "/run/crisp/ipam") {
  return Output("ip -o link | grep -v -e ' lo:' -e ' uplink0:' | cut -c1-120; nft list ruleset; ls /run/crisp/netns; ls /run/crisp/cni; "
                "ls " + ipam + "/*/ 2>/dev/null | grep -v -e last_reserved -e lock -e '^$' -e ':$'; grep /run/crisp/netns /proc/self/mounts");
}

class NetworkTest : public testing::Test {
 protected:
  void SetUp() override {
    Ok(sys::MakeDirs("/mnt/conf", 0755));
    options_ = {.state_dir = "/run/crisp", .netns_dir = "/run/crisp/netns", .conf_dir = "/mnt/conf", .bin_dirs = {"/usr/lib/cni"},
                .fallback_conflist = DefaultConflist("crispbr0", "10.88.0.0/16,fd00:88::/64", "/run/crisp/ipam").value()};
    Open();
  }
  void TearDown() override {
    Ok(network_->KeepOnly({}, [](const PodId&) { return false; }));
    network_.reset();
    EXPECT_EQ(Leftovers(), "");
    db_.reset();
    for (const char* dir : {"/run/crisp", "/mnt/conf", "/mnt/db"}) Ok(sys::RemoveTree(dir));
  }
  void Open() {
    network_.reset();
    db_.reset();
    Ok(sys::MakeDirs("/mnt/db", 0755));
    auto db = state::Database::Open("/mnt/db/state.db");
    Ok(db);
    db_ = *std::move(db);
    auto network = Network::Open(options_, *db_);
    Ok(network);
    network_ = *std::move(network);
  }
  static PodNetworkRequest Request() {
    return {.pod = PodId::Random(), .name = "web", .pod_namespace = "default", .uid = "u1"};
  }
  NetworkOptions options_;
  std::unique_ptr<state::Database> db_;
  std::unique_ptr<Network> network_;
};


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
