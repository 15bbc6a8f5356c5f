// The rules for what several plugins want, and what becomes of it. Plugins as programs: tests/nri_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "base/json.h"
#include "nri/adjust.h"
#include "nri/collector.h"
#include "nri/convert.h"
#include "nri/gate.h"

namespace crisp::nri {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::KeyValue Env(const std::string& key, const std::string& value = "") {
  v1::KeyValue out;
  out.set_key(key);
  out.set_value(value);
  return out;
}
v1::Mount MountAt(const std::string& destination, const std::string& source = "/src") {
  v1::Mount out;
  out.set_destination(destination);
  out.set_source(source);
  out.set_type("bind");
  out.add_options("rbind");
  return out;
}

class CollectorTest : public ::testing::Test {
 protected:
  static v1::Container SomeContainer() {
    v1::Container container;
    container.set_id("c1");
    container.add_env("A=image");
    container.add_args("/bin/sh");
    *container.add_mounts() = MountAt("/data");
    return container;
  }
  Result<> Adjust(const std::string& plugin, const std::function<void(v1::ContainerAdjustment&)>& what) {
    v1::ContainerAdjustment wanted;
    what(wanted);
    return collector_.Adjust(wanted, plugin);
  }
  void Conflict(const std::string& field, const std::function<void(v1::ContainerAdjustment&)>& what) {
    ASSERT_TRUE(Adjust("10-a", what)) << field;
    Result<> second = Adjust("20-b", what);
    ASSERT_FALSE(second) << field;
    EXPECT_EQ(second.error().code(), Code::kInvalidArgument);
    for (const std::string& part : {std::string("10-a"), std::string("20-b"), field}) {
      EXPECT_THAT(second.error().message(), HasSubstr(part));
    }
  }
  v1::Container container_ = SomeContainer();
  Collector collector_ = Collector::ForCreate(container_);
};

TEST_F(CollectorTest, EachFieldHasOneOwner) {
  using A = v1::ContainerAdjustment;
  Conflict("ANNOTATIONS", [](A& a) { (*a.mutable_annotations())["k"] = "v"; });
  Conflict("MOUNTS", [](A& a) { *a.add_mounts() = MountAt("/x"); });
  Conflict("ENV", [](A& a) { *a.add_env() = Env("E"); });
  Conflict("ARGS", [](A& a) { a.add_args("x"); });
  Conflict("RLIMITS", [](A& a) { a.add_rlimits()->set_type("RLIMIT_NOFILE"); });
  Conflict("CDI_DEVICES", [](A& a) { a.add_cdi_devices()->set_name("v/c=0"); });
  Conflict("DEVICES", [](A& a) { a.mutable_linux()->add_devices()->set_path("/dev/x"); });
  Conflict("CGROUPS_PATH", [](A& a) { a.mutable_linux()->set_cgroups_path("/x"); });
  Conflict("OOM_SCORE_ADJ", [](A& a) { a.mutable_linux()->mutable_oom_score_adj()->set_value(1); });
  Conflict("IO_PRIORITY", [](A& a) { a.mutable_linux()->mutable_io_priority(); });
  Conflict("SECCOMP_POLICY", [](A& a) { a.mutable_linux()->mutable_seccomp_policy(); });
  Conflict("NAMESPACE", [](A& a) { a.mutable_linux()->add_namespaces()->set_type("ipc"); });
  Conflict("SYSCTL", [](A& a) { (*a.mutable_linux()->mutable_sysctl())["net.x"] = "1"; });
  Conflict("LINUX_NET_DEVICES", [](A& a) { (*a.mutable_linux()->mutable_net_devices())["eth0"]; });
  Conflict("LINUX_SCHED", [](A& a) { a.mutable_linux()->mutable_scheduler(); });
  Conflict("RDT_CLOS_ID", [](A& a) { a.mutable_linux()->mutable_rdt()->mutable_clos_id()->set_value("x"); });
  Conflict("MEMORY_POLICY", [](A& a) { a.mutable_linux()->mutable_memory_policy(); });
  auto resources = [](A& a) { return a.mutable_linux()->mutable_resources(); };
  Conflict("MEM_LIMIT", [&](A& a) { resources(a)->mutable_memory()->mutable_limit()->set_value(1); });
  Conflict("CPU_SHARES", [&](A& a) { resources(a)->mutable_cpu()->mutable_shares()->set_value(2); });
  Conflict("CPUSET_CPUS", [&](A& a) { resources(a)->mutable_cpu()->set_cpus("0"); });
  Conflict("HUGEPAGE_LIMITS", [&](A& a) { resources(a)->add_hugepage_limits()->set_page_size("2MB"); });
  Conflict("CGROUPS_UNIFIED", [&](A& a) { (*resources(a)->mutable_unified())["memory.high"] = "1"; });
  Conflict("PIDS_LIMIT", [&](A& a) { resources(a)->mutable_pids()->set_limit(1); });
}

TEST_F(CollectorTest, DifferentKeysAndHooksDoNotConflict) {
  ASSERT_TRUE(Adjust("10-a", [](auto& a) {
    *a.add_env() = Env("X", "1");
    a.mutable_hooks()->add_prestart()->set_path("/a");
  }));
  ASSERT_TRUE(Adjust("20-b", [](auto& a) {
    *a.add_env() = Env("Y", "2");
    a.mutable_hooks()->add_prestart()->set_path("/b");
  }));
  EXPECT_THAT(container_.env(), ElementsAre("A=image", "X=1", "Y=2"));
  EXPECT_EQ(collector_.adjustment().hooks().prestart_size(), 2);
  EXPECT_EQ(collector_.owners().owners().at("c1").simple().at(v1::FIELD_OCI_HOOKS), "10-a,20-b");
  EXPECT_EQ(collector_.owners().owners().at("c1").compound().at(v1::FIELD_ENV).owners().at("Y"), "20-b");
}

TEST_F(CollectorTest, WhoRemovesFirstMaySet) {
  ASSERT_TRUE(Adjust("10-a", [](auto& a) {
    *a.add_env() = Env("X", "1");
    *a.add_mounts() = MountAt("/m", "/of-a");
    (*a.mutable_annotations())["k"] = "a";
    a.add_args("of-a");
  }));
  ASSERT_TRUE(Adjust("20-b", [](auto& a) {
    *a.add_env() = Env("-X");
    *a.add_env() = Env("X", "2");
    *a.add_mounts() = MountAt("-/m");
    *a.add_mounts() = MountAt("/m", "/of-b");
    (*a.mutable_annotations())["-k"] = "";
    (*a.mutable_annotations())["k"] = "b";
    a.add_args("");
    a.add_args("of-b");
  }));
  EXPECT_THAT(container_.env(), ElementsAre("A=image", "X=2"));
  EXPECT_THAT(container_.args(), ElementsAre("of-b"));
  EXPECT_EQ(container_.annotations().at("k"), "b");
  ASSERT_EQ(container_.mounts_size(), 2);
  EXPECT_EQ(container_.mounts(1).source(), "/of-b");
  EXPECT_FALSE(Adjust("30-c", [](auto& a) { *a.add_env() = Env("X", "3"); }));
}

TEST_F(CollectorTest, UpdatesOfOthers) {
  google::protobuf::RepeatedPtrField<v1::ContainerUpdate> updates;
  v1::ContainerUpdate& update = *updates.Add();
  update.set_container_id("other");
  update.mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(7);
  ASSERT_TRUE(collector_.Update(updates, "10-a"));
  EXPECT_FALSE(collector_.Update(updates, "20-b"));
  updates[0].set_ignore_failure(true);
  updates[0].mutable_linux()->mutable_resources()->mutable_cpu()->mutable_shares()->set_value(8);
  ASSERT_TRUE(collector_.Update(updates, "20-b"));
  ASSERT_EQ(collector_.updates().size(), 1u);
  EXPECT_EQ(collector_.updates()[0].linux().resources().cpu().shares().value(), 7u);
  updates[0].set_container_id("c1");
  EXPECT_FALSE(collector_.Update(updates, "10-a")) << "it is just being created";
}

TEST(CollectorUpdate, OfTheRequestedContainerIsSeenByTheNextPlugin) {
  v1::LinuxResources resources;
  resources.mutable_cpu()->mutable_shares()->set_value(2);
  Collector collector = Collector::ForUpdate("c1", resources);
  google::protobuf::RepeatedPtrField<v1::ContainerUpdate> updates;
  v1::ContainerUpdate& update = *updates.Add();
  update.set_container_id("c1");
  update.mutable_linux()->mutable_resources()->mutable_memory()->mutable_limit()->set_value(9);
  ASSERT_TRUE(collector.Update(updates, "10-a"));
  EXPECT_EQ(resources.memory().limit().value(), 9);
  EXPECT_EQ(resources.cpu().shares().value(), 2u);
  EXPECT_TRUE(collector.updates().empty());
  EXPECT_FALSE(collector.Update(updates, "20-b"));
}

constexpr char kConfig[] =
    R"({"annotations":{"old":"1"},"mounts":[{"destination":"/proc"},{"destination":"/data/below"}],
  "process":{"args":["sh"],"env":["A=1","AB=2"],"rlimits":[{"type":"RLIMIT_NOFILE","hard":1,"soft":1}]},
  "linux":{"namespaces":[{"type":"mount"},{"type":"ipc","path":"/x"}],"devices":[{"path":"/dev/old"}],
  "resources":{"memory":{"limit":5,"swap":5},"hugepageLimits":[{"pageSize":"2MB","limit":1}],"devices":[{"allow":false}]}}})";

TEST(Adjust, EverythingFindsItsPlace) {
  v1::ContainerAdjustment a;
  (*a.mutable_annotations())["-old"] = "";
  (*a.mutable_annotations())["new"] = "2";
  *a.add_mounts() = MountAt("/data");
  *a.add_env() = Env("-A");
  *a.add_env() = Env("AB", "3");
  a.add_args("run");
  a.mutable_hooks()->add_create_runtime()->set_path("/hook");
  v1::POSIXRlimit& limit = *a.add_rlimits();
  limit.set_type("RLIMIT_NOFILE");
  limit.set_hard(20);
  limit.set_soft(10);
  v1::LinuxContainerAdjustment& l = *a.mutable_linux();
  v1::LinuxDevice& device = *l.add_devices();
  device.set_path("/dev/new");
  device.set_type("c");
  device.set_major(1);
  device.set_minor(3);
  l.add_devices()->set_path("-/dev/old");
  l.mutable_resources()->mutable_memory()->mutable_limit()->set_value(9);
  v1::HugepageLimit& pages = *l.mutable_resources()->add_hugepage_limits();
  pages.set_page_size("2MB");
  pages.set_limit(7);
  l.set_cgroups_path("/place");
  l.mutable_oom_score_adj()->set_value(5000);
  l.mutable_io_priority()->set_class_(v1::IOPRIO_CLASS_BE);
  l.mutable_io_priority()->set_priority(3);
  l.mutable_scheduler()->set_policy(v1::SCHEDULER_BATCH);
  l.mutable_seccomp_policy()->set_default_action("SCMP_ACT_ALLOW");
  l.add_namespaces()->set_type("-ipc");
  l.add_namespaces()->set_type("uts");
  (*l.mutable_sysctl())["kernel.x"] = "1";
  l.mutable_rdt()->mutable_clos_id()->set_value("class");
  Result<std::string> adjusted = ApplyAdjustment(kConfig, a);
  ASSERT_TRUE(adjusted) << adjusted.error().message();
  Json want = Json::parse(R"({"annotations":{"new":"2"},
    "mounts":[{"destination":"/proc"},{"destination":"/data","source":"/src","type":"bind","options":["rbind"]},{"destination":"/data/below"}],
    "process":{"args":["run"],"env":["AB=3"],"rlimits":[{"type":"RLIMIT_NOFILE","hard":20,"soft":10}],"oomScoreAdj":1000,
      "ioPriority":{"class":"IOPRIO_CLASS_BE","priority":3},"scheduler":{"policy":"SCHED_BATCH"}},
    "hooks":{"createRuntime":[{"path":"/hook"}]},
    "linux":{"namespaces":[{"type":"mount"},{"type":"uts"}],"devices":[{"path":"/dev/new","type":"c","major":1,"minor":3}],
      "cgroupsPath":"/place","sysctl":{"kernel.x":"1"},"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},"intelRdt":{"closID":"class"},
      "resources":{"memory":{"limit":9,"swap":9},"hugepageLimits":[{"pageSize":"2MB","limit":7}],
        "devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}]}}})");
  EXPECT_EQ(Json::parse(*adjusted), want) << Json::parse(*adjusted).dump(1);
}

TEST(Adjust, Refuses) {
  auto code = [](const std::function<void(v1::ContainerAdjustment&)>& what) {
    v1::ContainerAdjustment a;
    what(a);
    Result<std::string> adjusted = ApplyAdjustment(kConfig, a);
    return adjusted ? Code::kUnknown : adjusted.error().code();
  };
  EXPECT_EQ(code([](auto& a) { *a.add_mounts() = MountAt("relative"); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& a) { a.mutable_hooks()->add_poststop()->set_path("hook"); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& a) { a.add_rlimits()->set_type("nofile"); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& a) { a.mutable_linux()->add_namespaces()->set_type("net"); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& a) { a.mutable_linux()->add_devices()->set_path("/dev/x"); }), Code::kInvalidArgument);
  EXPECT_EQ(code([](auto& a) { a.mutable_linux()->mutable_memory_policy(); }), Code::kUnimplemented);
  EXPECT_EQ(code([](auto& a) { (*a.mutable_linux()->mutable_net_devices())["eth0"]; }), Code::kUnimplemented);
  EXPECT_EQ(code([](auto& a) { a.mutable_linux()->mutable_resources()->mutable_rdt_class()->set_value("gold"); }),
            Code::kUnimplemented);
}

TEST(Convert, ResourcesComeBack) {
  Json oci = Json::parse(R"({"cpu":{"shares":2,"quota":-1,"period":100000,"cpus":"0-1","mems":"0"},
    "memory":{"limit":9,"swap":-1,"reservation":4,"swappiness":1,"disableOOMKiller":true},
    "hugepageLimits":[{"pageSize":"2MB","limit":7}],"unified":{"memory.high":"3"},"pids":{"limit":5}})");
  EXPECT_EQ(ResourcesToOci(ResourcesToNri(oci)).value(), oci);
  EXPECT_TRUE(
      ResourcesToOci(ResourcesToNri(Json::parse(R"({"cpu":7,"memory":{"limit":"x"},"pids":[]})"))).value().empty());
}

TEST(Convert, ADamagedConfigJsonIsNone) {
  pod::ContainerStatus status;
  status.config.metadata.name = "app";
  for (const char* text : {"", "{", "[]", R"({"process":7,"linux":[],"mounts":{},"annotations":[1]})"}) {
    EXPECT_EQ(ToNri(status, text).name(), "app") << text;
  }
}

TEST(PluginNames, Table) {
  EXPECT_EQ(ParsePluginName("10-a-b")->base, "a-b");
  for (const char* bad : {"", "1-a", "100-a", "ab-c", "10a", "10-", "-10-a"}) EXPECT_FALSE(ParsePluginName(bad)) << bad;
}

TEST(GateTest, APluginComesInBetweenAndNobodyWaitsForEver) {
  auto gate = std::make_shared<Gate>();
  auto soon = [] { return Ctx().WithTimeout(std::chrono::milliseconds(20)); };
  Gate::Pass inside = gate->Enter(soon()).value();
  EXPECT_TRUE(gate->Enter(soon())) << "verbs do not exclude each other";
  EXPECT_FALSE(gate->Close(soon()));
  EXPECT_TRUE(gate->Enter(soon())) << "a plugin that gave up holds up nobody";
  std::thread closer([&] {
    Gate::Pass closed = gate->Close(Ctx().WithTimeout(std::chrono::seconds(20))).value();
    EXPECT_FALSE(gate->Enter(soon()));
  });
  inside.reset();
  closer.join();
  EXPECT_TRUE(gate->Enter(soon()));
  gate->Hold();
  EXPECT_FALSE(gate->Enter(soon()));
  EXPECT_TRUE(gate->Close(soon())) << "a plugin that is being started";
  gate->Release();
  EXPECT_TRUE(gate->Enter(soon()));
}

}  // namespace
}  // namespace crisp::nri
