// For tests only: a "host" of its own (network and mount namespace), and what pods do in theirs.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <thread>

#include "base/strings.h"
#include "network/netns_pool.h"
#include "network/network.h"
#include "state/database.h"
#include "sys/file.h"
#include "sys/netns.h"
#include "sys/spawn.h"

namespace crisp::network {

template <class R>
void Ok(const R& result) {
  ASSERT_TRUE(result) << result.error().message();
}

// Enters new namespaces for good: called once per test program, before any thread exists. /mnt and /run are private.
inline void EnterTestHost() {
  ASSERT_EQ(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
  ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  for (const char* path : {"/mnt", "/run"}) ASSERT_EQ(mount("tmpfs", path, "tmpfs", 0, nullptr), 0);
  // New namespaces inherit these from the machine; a kubelet's or a container engine's work is not to be in the picture.
  for (const char* scope : {"all", "default"}) Ok(sys::WriteExisting(StrCat("/proc/sys/net/ipv4/conf/", scope, "/route_localnet"), "0"));
  sys::NetlinkBatch batch;
  sys::SetLink(batch, "lo", {.up = true});
  // The host's own address, as on its eth0.
  sys::AddBridge(batch, "uplink0", {0x0a, 0, 0, 0, 0, 1}, 0);
  sys::SetLink(batch, "uplink0", {.up = true});
  auto route = sys::RouteSocket::Open();
  Ok(route);
  Ok(route->Send(batch));
  sys::NetlinkBatch addresses;
  int uplink = route->FindLink("uplink0").value().index;
  sys::AddAddress(addresses, uplink, sys::IpPrefix::Parse("192.0.2.1/24").value());
  sys::AddAddress(addresses, uplink, sys::IpPrefix::Parse("2001:db8::1/64").value());
  Ok(route->Send(addresses));
}

inline std::string Output(const std::string& script) {
  auto run = sys::Run(Ctx(), {.program = "/bin/sh", .args = {"-c", script}}, {.output_bytes_max = 16u << 20});
  return run ? run->out + run->err : run.error().message();
}

struct Endpoint {
  sockaddr_storage address{};
  socklen_t length = 0;
};
inline Endpoint MakeEndpoint(const std::string& ip, uint16_t port) {
  Endpoint endpoint;
  auto parsed = sys::IpAddress::Parse(ip).value();
  if (parsed.v4()) {
    auto& in = reinterpret_cast<sockaddr_in&>(endpoint.address);
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    memcpy(&in.sin_addr, parsed.data(), 4);
    endpoint.length = sizeof in;
  } else {
    auto& in6 = reinterpret_cast<sockaddr_in6&>(endpoint.address);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    memcpy(&in6.sin6_addr, parsed.data(), 16);
    endpoint.length = sizeof in6;
  }
  return endpoint;
}

// Tells each client who it seems to be ("10.88.0.1 from pod-a"), on one port, inside a namespace.
class Server {
 public:
  Server(const std::string& netns, int type, uint16_t port, std::string name, int family = AF_INET6) : type_(type), name_(std::move(name)) {
    sys::UniqueFd ns = sys::OpenNetns(netns).value();
    Ok(sys::RunInNetns(ns, [&]() -> Result<> {
      socket_ = sys::UniqueFd(socket(family, type | SOCK_CLOEXEC, type == SOCK_SEQPACKET ? IPPROTO_SCTP : 0));
      int off = 0;
      if (family == AF_INET6) setsockopt(socket_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      Endpoint any = MakeEndpoint(family == AF_INET6 ? "::" : "0.0.0.0", port);
      if (bind(socket_.get(), reinterpret_cast<sockaddr*>(&any.address), any.length) != 0) return Errno(errno, "bind");
      if (type == SOCK_STREAM && listen(socket_.get(), 16) != 0) return Errno(errno, "listen");
      return {};
    }));
    thread_ = std::thread([this] { Serve(); });
  }
  ~Server() {
    stop_.write.Reset();
    thread_.join();
  }

  int received() const { return received_; }

 private:
  static std::string Text(const sockaddr_storage& from) {
    if (from.ss_family == AF_INET) return sys::IpAddress::FromBytes(AF_INET, &reinterpret_cast<const sockaddr_in&>(from).sin_addr).Text();
    auto address = sys::IpAddress::FromBytes(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(from).sin6_addr).Text();
    return sys::IpAddress::Parse(address).value().Text();
  }
  void Serve() {
    while (true) {
      pollfd events[2] = {{socket_.get(), POLLIN, 0}, {stop_.read.get(), POLLIN, 0}};
      poll(events, 2, -1);
      if (events[1].revents != 0) return;
      sockaddr_storage from{};
      socklen_t length = sizeof from;
      char byte;
      if (type_ == SOCK_STREAM) {
        sys::UniqueFd client(accept4(socket_.get(), reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC));
        std::string text = StrCat(Text(from), " at ", name_);
        [[maybe_unused]] ssize_t n = write(client.get(), text.data(), text.size());
      } else if (recvfrom(socket_.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&from), &length) >= 0) {
        std::string text = StrCat(Text(from), " at ", name_);
        ++received_;
        sendto(socket_.get(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&from), length);
      }
    }
  }

  int type_;
  std::atomic<int> received_ = 0;  // datagrams
  std::string name_;
  sys::UniqueFd socket_;
  sys::Pipe stop_ = sys::MakePipe().value();
  std::thread thread_;
};

// What a Server answers, asked from a namespace ("": the host); "no answer" within 2 s else. `source`: bind to it first.
inline std::string Ask(const std::string& netns, int type, const std::string& ip, uint16_t port, int patience_ms = 2000,
                       const std::string& source = "", uint16_t source_port = 0) {
  std::string answer;
  auto ask = [&]() -> Result<> {
    Endpoint to = MakeEndpoint(ip, port);
    sys::UniqueFd fd(socket(to.address.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!source.empty()) {
      Endpoint from = MakeEndpoint(source, source_port);
      if (bind(fd.get(), reinterpret_cast<sockaddr*>(&from.address), from.length) != 0) return Errno(errno, "bind");
    }
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to.address), to.length) != 0 && errno != EINPROGRESS) return Errno(errno, "connect");
    if (type == SOCK_DGRAM && send(fd.get(), "x", 1, 0) < 0) return Errno(errno, "send");
    pollfd event{fd.get(), POLLIN, 0};
    if (poll(&event, 1, patience_ms) <= 0) return Error(Code::kDeadlineExceeded, "no answer");
    char buffer[256];
    ssize_t got = read(fd.get(), buffer, sizeof buffer);
    if (got < 0) return Errno(errno, "read");
    answer.assign(buffer, static_cast<size_t>(got));
    return {};
  };
  Result<> asked = netns.empty() ? ask() : sys::RunInNetns(sys::OpenNetns(netns).value(), ask);
  return asked ? answer : asked.error().message();
}

// Everything that an attachment can leave on the host; "" when there is nothing. The bridge and the packet table go by
// themselves 2 s after the last pod, at once when the Network is closed.
inline std::string Leftovers(const std::string& ipam = "/run/crisp/ipam") {
  return Output("ip -o link | grep -v -e ' lo:' -e ' uplink0:' | cut -c1-120; nft list ruleset; ls /run/crisp/netns; ls /run/crisp/cni; "
                "ls " + ipam + "/*/ 2>/dev/null | grep -v -e last_reserved -e lock -e '^$' -e ':$'; grep /run/crisp/netns /proc/self/mounts");
}

// The host's ends of pairs that wait for a pod, once there are as many as are made ahead.
inline std::vector<std::string> AwaitPairsAhead() {
  std::vector<std::string> names;
  for (const auto until = Clock::now() + std::chrono::seconds(20); Clock::now() < until;) {
    names.clear();
    const std::vector<sys::Link> links = sys::RouteSocket::Open()->Links().value();
    for (const sys::Link& link : links) {
      if (link.kind == "veth" && link.alias.empty() && link.master == 0) names.push_back(link.name);
    }
    if (names.size() >= NetnsPool::kSpare) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return names;
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


}  // namespace crisp::network
