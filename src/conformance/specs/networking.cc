// DNS, host names, addresses and ports of pods.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/strings.h"
#include "conformance/spec.h"
#include "conformance/specs/ports.h"
#include "conformance/stream.h"

namespace crisp::conformance {

int FreePort() {
  sys::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t length = sizeof address;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw Failure("no free port on this machine");
  }
  return ntohs(address.sin_port);
}

Listener::Listener(const std::string& text) {
  fd_ = sys::UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t length = sizeof address;
  if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(fd_.get(), 16) != 0 ||
      getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    throw Failure("cannot listen on this machine");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this, text] {
    while (true) {
      sys::UniqueFd client(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client.ok()) return;
      (void)send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
    }
  });
}

Listener::~Listener() {
  shutdown(fd_.get(), SHUT_RDWR);
  thread_.join();
}

namespace {

constexpr const char* kGet = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

SPEC(Networking, DnsConfigReachesResolvConf, .like = {1},
     .faults = {"RunPodSandbox<-config.dns_config", "RunPodSandbox<config.dns_config.servers.0=192.0.2.9"}) {
  Pod pod = RunPod(
      {{"dns_config", {{"servers", {"10.10.10.10"}}, {"searches", {"crisptest.example"}}, {"options", {"ndots:8"}}}}});
  std::string resolv = Sh(Run(pod), "cat /etc/resolv.conf");
  EXPECT_NE(resolv.find("nameserver 10.10.10.10\n"), std::string::npos) << resolv;
  EXPECT_NE(resolv.find("search crisptest.example\n"), std::string::npos) << resolv;
  EXPECT_NE(resolv.find("options ndots:8\n"), std::string::npos) << resolv;
}

SPEC(Networking, HostNameIsSet, .like = {2},
     .faults = {"RunPodSandbox<-config.hostname", "RunPodSandbox<config.hostname=other"}) {
  Pod pod = RunPod({{"hostname", "crisptest-host"}});
  std::string id = Run(pod);
  EXPECT_EQ(Sh(id, "hostname"), "crisptest-host\n");
  EXPECT_EQ(Sh(id, "cat /etc/hostname"), "crisptest-host\n");
}

SPEC(Networking, ContainerPortIsReachable, .like = {3},
     .faults = {"PodSandboxStatus:status.network.ip=127.0.0.2", "PodSandboxStatus:-status.network"}) {
  Pod pod = RunPod({{"port_mappings", {{{"container_port", 80}}}}});
  Run(pod, {{"image", {{"image", Image("web")}}}, {"command", Json::array()}});
  WaitLog(pod, "serving");
  Json status = PodStatus(pod.id);
  auto answer = TcpOnce(status["network"]["ip"], 80, kGet, patience());
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_NE(answer->find("crisptest web"), std::string::npos) << *answer;
}

SPEC(Networking, HostPortIsMapped, .like = {4},
     .faults = {"RunPodSandbox<-config.port_mappings", "RunPodSandbox<config.port_mappings.0.container_port=81"}) {
  int port = FreePort();
  Pod pod = RunPod({{"port_mappings", {{{"container_port", 80}, {"host_port", port}}}}});
  Run(pod, {{"image", {{"image", Image("web")}}}, {"command", Json::array()}});
  WaitLog(pod, "serving");
  auto answer = TcpOnce("127.0.0.1", port, kGet, patience());
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_NE(answer->find("crisptest web"), std::string::npos) << *answer;
}

SPEC(Networking, PodsReachEachOther, .faults = {"PodSandboxStatus:status.network.ip=127.0.0.2"}) {
  Pod server = RunPod(), client = RunPod();
  Run(server, {{"image", {{"image", Image("web")}}}, {"command", Json::array()}});
  WaitLog(server, "serving");
  Json status = PodStatus(server.id);
  std::string address = status["network"]["ip"];
  std::string page = Sh(Run(client), StrCat("/guest get ", address, " 80"));
  EXPECT_EQ(page, "crisptest web\n");
}

SPEC(Networking, LoopbackIsUp, .faults = {"ExecSync<cmd=[\"/bin/sh\",\"-c\",\"/guest get 127.0.0.1 81\"]"}) {
  Pod pod = RunPod();
  std::string id = Run(pod, {{"image", {{"image", Image("web")}}}, {"command", Json::array()}});
  WaitLog(pod, "serving");
  EXPECT_EQ(Sh(id, "/guest get 127.0.0.1 80"), "crisptest web\n");
}

SPEC(Networking, StoppedPodFreesItsHostPort, .faults = {"StopPodSandbox:noop"}) {
  int port = FreePort();
  Json mapping = {{"port_mappings", {{{"container_port", 80}, {"host_port", port}}}}};
  Pod first = RunPod(mapping);
  Run(first, {{"image", {{"image", Image("web")}}}, {"command", {"/guest", "http", "80", "first"}}});
  WaitLog(first, "serving");
  Call("StopPodSandbox", {{"pod_sandbox_id", first.id}});
  EXPECT_FALSE(TcpOnce("127.0.0.1", port, kGet, std::chrono::seconds(1))) << "the port of a stopped pod answers";
  Pod second = RunPod(mapping);
  Run(second, {{"image", {{"image", Image("web")}}}, {"command", {"/guest", "http", "80", "second"}}});
  WaitLog(second, "serving");
  auto answer = TcpOnce("127.0.0.1", port, kGet, patience());
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_NE(answer->find("second"), std::string::npos) << *answer;
}

}  // namespace
}  // namespace crisp::conformance
