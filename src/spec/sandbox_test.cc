#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "spec/plan.h"
#include "spec/testing/inputs.h"

namespace crisp::spec {
namespace {

using ::testing::HasSubstr;

class SandboxTest : public ::testing::Test {
 protected:
  Result<SandboxPlan> Plan() { return PlanSandbox(config_, testing::SomePod(), testing::SomeNode(), policy_); }
  SandboxPlan Planned() {
    Result<SandboxPlan> plan = Plan();
    EXPECT_TRUE(plan) << plan.error().message();
    return plan ? *plan : SandboxPlan{};
  }
  void ExpectRefused() {
    Result<SandboxPlan> plan = Plan();
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().code(), Code::kInvalidArgument);
  }
  SandboxConfig config_ = testing::SomeSandbox();
  Policy policy_;
};

TEST_F(SandboxTest, Defaults) {
  SandboxPlan plan = Planned();
  EXPECT_EQ(plan.hostname, "web-0");
  EXPECT_EQ(plan.hostname_file, "web-0\n");
  EXPECT_EQ(plan.resolv_conf, "nameserver 10.0.0.2\n");
  EXPECT_EQ(plan.hosts, "127.0.0.1 localhost\n");
  EXPECT_TRUE(plan.own_ipc && plan.own_uts && plan.shared_pid && !plan.host_network);
  EXPECT_EQ(plan.shm_bytes, 64 << 20);
  EXPECT_TRUE(plan.sysctls.empty());
  EXPECT_EQ(plan.netns_sysctls,
            (StringMap{{"net/ipv4/ip_unprivileged_port_start", "0"}, {"net/ipv4/ping_group_range", "0 2147483647"}}));
}

TEST_F(SandboxTest, HostNamespaces) {
  config_.security.namespaces.network = NamespaceMode::kNode;
  config_.security.namespaces.ipc = NamespaceMode::kNode;
  config_.security.namespaces.pid = NamespaceMode::kNode;
  SandboxPlan plan = Planned();
  EXPECT_TRUE(plan.host_network && !plan.own_ipc && !plan.own_uts && !plan.shared_pid);
  EXPECT_EQ(plan.hostname, "node-1");
  EXPECT_EQ(plan.shm_bytes, 0);
  EXPECT_TRUE(plan.sysctls.empty() && plan.netns_sysctls.empty());
  config_.security.namespaces.pid = NamespaceMode::kContainer;
  EXPECT_FALSE(Planned().shared_pid);
  config_.security.namespaces.pid = NamespaceMode::kTarget;
  ExpectRefused();
}

TEST_F(SandboxTest, Hostnames) {
  config_.hostname = "";
  EXPECT_EQ(Planned().hostname, "web-0");
  config_.metadata.name = "not a host name";
  EXPECT_EQ(Planned().hostname, std::string(13, 'a'));
  for (std::string bad : {std::string("a b"), std::string("a\n127.0.0.1 evil"), std::string(65, 'x'),
                          std::string("a\0b", 3), std::string("a/b")}) {
    config_.hostname = bad;
    ExpectRefused();
  }
}

TEST_F(SandboxTest, S38_SysctlsOfTheNodeAreRefused) {
  for (const char* name : {"kernel.core_pattern",
                           "vm.overcommit_memory",
                           "kernel.panic",
                           "fs.file-max",
                           "kernel.shmevil",
                           "kernel.hostname",
                           "kernel.domainname",
                           "kernel.msgs",
                           "dev.raid",
                           "net",
                           "fs.mqueue",
                           "",
                           "/net/ipv4/x",
                           "net..x",
                           "net.ipv4.../../x",
                           "net.ipv4.a b",
                           "net.ipv4.x\n",
                           "net.ipv4.x+y",
                           "net.ipv4.",
                           "../../kernel.core_pattern",
                           "net/../kernel/core_pattern",
                           "net.x=y"}) {
    config_.sysctls = {{name, "1"}};
    SCOPED_TRACE(name);
    ExpectRefused();
  }
}

TEST_F(SandboxTest, S38_SysctlValues) {
  for (const char* value : {"", "1+2", "1\n2", "/bin/sh", "|/bin/sh %P", "a;b", "$(x)", "\"1\"", "a=b"}) {
    config_.sysctls = {{"net.ipv4.tcp_syncookies", value}};
    SCOPED_TRACE(value);
    ExpectRefused();
  }
  for (const char* value :
       {"1", "32768 60999", "4096\t87380\t6291456", "bbr", "fq_codel", "8080,9000-9010", "-1", "fe80::1"}) {
    config_.sysctls = {{"net.ipv4.x", value}};
    EXPECT_EQ(Planned().sysctls["net.ipv4.x"], value);
  }
}

TEST_F(SandboxTest, SysctlsOfThePodsNamespaces) {
  for (const char* name : {"net.core.somaxconn", "kernel.shm_rmid_forced", "kernel.shmmax", "kernel.msgmax",
                           "kernel.sem", "fs.mqueue.msg_max", "net.ipv4.conf.eth0/100.forwarding"}) {
    config_.sysctls = {{name, "1"}};
    EXPECT_EQ(Planned().sysctls[name], "1") << name;
  }
  config_.sysctls = {{"net/ipv4/conf/eth0.100/forwarding", "1"}};
  EXPECT_EQ(Planned().sysctls.count("net.ipv4.conf.eth0/100.forwarding"), 1u);
  config_.sysctls = {{"net/ipv4/ip_forward", "1"}, {"net.ipv4.ip_forward", "0"}};
  ExpectRefused();
}

TEST_F(SandboxTest, SysctlsNeedTheirNamespace) {
  config_.sysctls = {{"net.core.somaxconn", "1"}};
  config_.security.namespaces.network = NamespaceMode::kNode;
  ExpectRefused();
  config_.sysctls = {{"kernel.shmmax", "1"}};
  Planned();
  config_.security.namespaces.ipc = NamespaceMode::kNode;
  ExpectRefused();
}

TEST_F(SandboxTest, DefaultSysctlsGiveWay) {
  config_.sysctls = {{"net.ipv4.ip_unprivileged_port_start", "1024"}};
  EXPECT_EQ(Planned().sysctls["net.ipv4.ip_unprivileged_port_start"], "1024") << "set after the node's";
  policy_.unprivileged_icmp = policy_.unprivileged_ports = false;
  EXPECT_TRUE(Planned().netns_sysctls.empty());
}

TEST_F(SandboxTest, ResolvConf) {
  config_.has_dns = true;
  config_.dns_searches = {"ns.svc.cluster.local", "svc.cluster.local"};
  config_.dns_servers = {"10.96.0.10", "fe80::1%eth0"};
  config_.dns_options = {"ndots:5", "use-vc"};
  EXPECT_EQ(Planned().resolv_conf,
            "search ns.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\noptions "
            "ndots:5 use-vc\n");
  config_.dns_servers = {"1.1.1.1\nnameserver 6.6.6.6"};
  ExpectRefused();
  config_.dns_servers = {"1.1.1.1 # x"};
  ExpectRefused();
  config_.dns_servers = {};
  config_.dns_searches = {""};
  ExpectRefused();
  config_.dns_searches = config_.dns_options = {};
  EXPECT_EQ(Planned().resolv_conf, "nameserver 10.0.0.2\n");
}

}  // namespace
}  // namespace crisp::spec
