// The life of a container, its exec, its volumes and its stats' lists.
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "conformance/spec.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

SPEC(Container, CreatedIsListed, .like = {79},
     .faults = {"ListContainers:-containers", "ListContainers:stale", "CreateContainer:noop"}) {
  Pod pod = RunPod();
  Call("ListContainers");
  std::string id = Create(pod);
  EXPECT_TRUE(IsListed(Call("ListContainers")["containers"], id));
  EXPECT_EQ(Status(id)["state"], "CONTAINER_CREATED");
}

SPEC(Container, AttributesAreKept, .like = {80},
     .faults = {"ListContainers:containers.*.labels={}", "ContainerStatus:-status.annotations",
                "ListContainers:containers.*.created_at=0"}) {
  Pod pod = RunPod();
  Json more = {{"metadata", {{"name", Unique("attributes-")}, {"attempt", 3}}},
               {"labels", {{"label", "value"}}},
               {"annotations", {{"note", "some text"}}}};
  std::string id = Create(pod, more);
  Json list = Call("ListContainers", {{"filter", {{"id", id}}}});
  ASSERT_EQ(list.at("containers").size(), 1u);
  Json status = Status(id);
  for (const Json& seen : {list.at("containers").at(0), status}) {
    EXPECT_EQ(seen.at("id"), id);
    EXPECT_EQ(seen.at("metadata"), more["metadata"]);
    EXPECT_EQ(seen.at("labels").at("label"), "value");
    EXPECT_EQ(seen.at("annotations"), more["annotations"]);
    EXPECT_EQ(seen.at("state"), "CONTAINER_CREATED");
    EXPECT_GT(seen.at("created_at"), 0);
    EXPECT_EQ(seen.at("image").at("image").get<std::string>().empty(), false);
  }
  EXPECT_EQ(list.at("containers").at(0).at("pod_sandbox_id"), pod.id);
  EXPECT_EQ(status["log_path"], pod.log_dir + "/main.log");
}

SPEC(Container, StartedIsRunning, .like = {81},
     .faults = {"StartContainer:noop", "ContainerStatus:status.state=CONTAINER_CREATED"}) {
  std::string id = Run(RunPod());
  Json status = Status(id);
  EXPECT_EQ(status["state"], "CONTAINER_RUNNING");
  EXPECT_GE(status["started_at"], status["created_at"]);
  EXPECT_EQ(status["finished_at"], 0);
}

SPEC(Container, StoppedHasExited, .like = {82}, .faults = {"StopContainer:noop", "ContainerStatus:stale"}) {
  std::string id = Run(RunPod());
  Status(id);
  Stop(id, 10);
  Json status = Status(id);
  EXPECT_EQ(status["state"], "CONTAINER_EXITED");
  EXPECT_GE(status["finished_at"], status["started_at"]);
}

SPEC(Container, CreatedIsRemoved, .like = {83}, .faults = {"RemoveContainer:noop"}) {
  std::string id = Create(RunPod());
  Remove(id);
  EXPECT_FALSE(IsListed(Call("ListContainers")["containers"], id));
  MustFail("ContainerStatus", {{"container_id", id}}, {Code::kNotFound});
}
SPEC(Container, RunningIsRemoved, .like = {84},
     .faults = {"RemoveContainer:noop", "RemoveContainer:fail=FAILED_PRECONDITION"}) {
  std::string id = Run(RunPod());
  Remove(id);
  EXPECT_FALSE(IsListed(Call("ListContainers")["containers"], id));
}
SPEC(Container, StoppedIsRemoved, .like = {85}, .faults = {"RemoveContainer:noop"}) {
  std::string id = Run(RunPod());
  Stop(id);
  Remove(id);
  EXPECT_FALSE(IsListed(Call("ListContainers")["containers"], id));
}

SPEC(Container, ExecSyncGivesOutputAndCode, .like = {86},
     .faults = {"ExecSync:stdout=", "ExecSync:exit_code=0", "ExecSync:-stderr", "ExecSync:noop"}) {
  std::string id = Run(RunPod());
  ExecResult result = Exec(id, {"/bin/sh", "-c", "echo hello; echo trouble >&2; exit 7"});
  EXPECT_EQ(result.out, "hello\n");
  EXPECT_EQ(result.err, "trouble\n");
  EXPECT_EQ(result.code, 7);
}
SPEC(Container, ExecSyncEndsAtItsTimeout, .like = {87}, .faults = {"ExecSync:swallow", "ExecSync<timeout=0"}) {
  std::string id = Run(RunPod());
  auto reply = cri().Call("ExecSync", {{"container_id", id}, {"cmd", {"/bin/sleep", "20"}}, {"timeout", 1}},
                          std::chrono::seconds(10));
  if (reply) {  // CRI-O's way; a kubelet takes both for a failure
    EXPECT_NE(reply->at("exit_code"), 0) << "an exec of 20 s with a timeout of 1 s succeeds";
  } else {
    EXPECT_EQ(static_cast<int>(reply.error().code()), static_cast<int>(Code::kDeadlineExceeded))
        << reply.error().message();
  }
  EXPECT_EQ(Sh(id, "ps | grep -c '[s]leep 20' || true"), "0\n") << "what the exec started lives on";
}
SPEC(Container, ExecSyncOfAMissingProgramFails, .faults = {"ExecSync:noop"}) {
  std::string id = Run(RunPod());
  auto reply = Try("ExecSync", {{"container_id", id}, {"cmd", {"/no/such/program"}}, {"timeout", 5}});
  EXPECT_TRUE(!reply || (*reply)["exit_code"] != 0);
}
SPEC(Container, ExecSyncOfACreatedContainerFails, .faults = {"ExecSync:swallow"}) {
  std::string id = Create(RunPod());
  MustFail("ExecSync", {{"container_id", id}, {"cmd", {"/bin/true"}}, {"timeout", 5}});
}
SPEC(Container, ExecSyncCarriesLargeOutput, .faults = {"ExecSync:stdout=short"}) {
  std::string id = Run(RunPod());
  ExecResult result = Exec(id, {"/guest", "lines", "20000", "100"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out.size(), 20000u * 101u);
  EXPECT_NE(result.out.find("00019999 "), std::string::npos);
}

// ---- lists of stats

Json StatsIn(const Json& reply, const std::string& id) {
  for (const Json& one : reply.at("stats")) {
    if (one.at("attributes").at("id") == id) return one;
  }
  return {};
}

SPEC(Container, StatsOfACreatedContainer, .like = {88},
     .faults = {"ListContainerStats:-stats", "ListContainerStats:fail"}) {
  std::string id = Create(RunPod());
  Json reply = Call("ListContainerStats", {{"filter", {{"id", id}}}});
  ASSERT_EQ(reply.at("stats").size(), 1u);
  EXPECT_EQ(reply.at("stats").at(0).at("attributes").at("id"), id);
}
SPEC(Container, StatsOfAStartedContainer, .like = {89},
     .faults = {"ListContainerStats:-stats", "ListContainerStats:stats.*.attributes.id=other"}) {
  std::string id = Run(RunPod());
  Json reply = Call("ListContainerStats", {{"filter", {{"id", id}}}});
  ASSERT_EQ(reply.at("stats").size(), 1u);
  EXPECT_EQ(reply.at("stats").at(0).at("attributes").at("id"), id);
  EXPECT_EQ(reply.at("stats").at(0).at("attributes").at("metadata").at("name"), "main");
}
SPEC(Container, StatsWithoutAFilter, .like = {90}, .faults = {"ListContainerStats:-stats"}) {
  std::string id = Run(RunPod());
  EXPECT_FALSE(StatsIn(Call("ListContainerStats"), id).is_null());
}
SPEC(Container, StatsOfThreeContainersWithoutAFilter, .like = {91},
     .faults = {"ListContainerStats:-stats.0", "ListContainerStats:stale"}) {
  Call("ListContainerStats");
  Pod pod = RunPod();
  std::vector<std::string> ids;
  for (const char* name : {"a", "b", "c"}) ids.push_back(Run(pod, {{"metadata", {{"name", name}}}}));
  Json reply = Call("ListContainerStats");
  size_t seen = 0;
  for (const std::string& id : ids) seen += StatsIn(reply, id).is_null() ? 0 : 1;
  EXPECT_EQ(seen, 3u);
  Json of_pod = Call("ListContainerStats", {{"filter", {{"pod_sandbox_id", pod.id}}}});
  EXPECT_EQ(of_pod["stats"].size(), 3u);
}
SPEC(Container, StatsByLabels, .like = {92}, .faults = {"ListContainerStats<-filter", "ListContainerStats:-stats"}) {
  Pod pod = RunPod();
  std::string value = Unique();
  std::string wanted = Run(pod, {{"metadata", {{"name", "a"}}}, {"labels", {{"find", value}}}});
  Run(pod, {{"metadata", {{"name", "b"}}}, {"labels", {{"find", "another"}}}});
  Json reply = Call("ListContainerStats", {{"filter", {{"label_selector", {{"find", value}}}}}});
  ASSERT_EQ(reply.at("stats").size(), 1u);
  EXPECT_EQ(reply.at("stats").at(0).at("attributes").at("id"), wanted);
}

// ---- volumes

SPEC(Container, VolumeIsMounted, .like = {93},
     .faults = {"CreateContainer<-config.mounts", "CreateContainer<config.mounts.0.readonly=true"}) {
  std::string dir = TempDir();
  ASSERT_TRUE(sys::WriteFileAtomic(dir + "/from-host", "host\n", 0644, sys::Durability::kNone));
  std::string id = Run(RunPod(), {{"mounts", {{{"host_path", dir}, {"container_path", "/volume"}}}}});
  EXPECT_EQ(Sh(id, "cat /volume/from-host; echo container > /volume/from-container"), "host\n");
  auto back = sys::ReadFile(dir + "/from-container");
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(*back, "container\n");
}
SPEC(Container, VolumeBehindASymlinkIsMounted, .like = {94}, .faults = {"CreateContainer<-config.mounts"}) {
  std::string dir = TempDir(), link = TempDir() + "/link";
  ASSERT_TRUE(sys::WriteFileAtomic(dir + "/file", "behind the link\n", 0644, sys::Durability::kNone));
  ASSERT_EQ(symlink(dir.c_str(), link.c_str()), 0);
  std::string id = Run(RunPod(), {{"mounts", {{{"host_path", link}, {"container_path", "/volume"}}}}});
  EXPECT_EQ(Sh(id, "cat /volume/file"), "behind the link\n");
}
SPEC(Container, DeviceIsThere, .faults = {"CreateContainer<-config.devices"}) {
  std::string id =
      Run(RunPod(),
          {{"devices", {{{"host_path", "/dev/full"}, {"container_path", "/dev/crisptest"}, {"permissions", "rw"}}}}});
  EXPECT_NE(Exec(id, {"/bin/sh", "-c", "echo x > /dev/crisptest"}).code, 0) << "/dev/full must refuse";
  EXPECT_EQ(Sh(id, "head -c 3 /dev/crisptest | wc -c"), "3\n");
}

// ---- configuration

SPEC(Container, EnvironmentIsImagesAndOurs, .faults = {"CreateContainer<-config.envs"}) {
  Pod pod = RunPod();
  std::string id = Run(pod, {{"image", {{"image", Image("environment")}}},
                             {"command", Json::array()},
                             {"envs", {{{"key", "OURS"}, {"value", "a b"}}}}});
  WaitExited(id);
  std::string text = LogText(pod);
  EXPECT_NE(text.find("FROM_IMAGE=yes\n"), std::string::npos) << text;
  EXPECT_NE(text.find("OURS=a b\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("/mnt\n")) << text;
}
SPEC(Container, CommandReplacesTheImages, .faults = {"CreateContainer<-config.command"}) {
  Pod pod = RunPod();
  WaitExited(
      Run(pod, {{"image", {{"image", Image("environment")}}}, {"command", {"/bin/echo"}}, {"args", {"only", "this"}}}));
  EXPECT_EQ(LogText(pod), "only this\n");
}
SPEC(Container, WorkingDirectory, .faults = {"CreateContainer<-config.working_dir"}) {
  Pod pod = RunPod();
  WaitExited(Run(pod, {{"command", {"/bin/pwd"}}, {"working_dir", "/var/made/by/the/runtime"}}));
  EXPECT_EQ(LogText(pod), "/var/made/by/the/runtime\n");
}
SPEC(Container, ExitCodeIsReported,
     .faults = {"ContainerStatus:status.exit_code=0", "ContainerStatus:-status.reason"}) {
  std::string id = Run(RunPod(), {{"command", {"/bin/sh", "-c", "exit 42"}}});
  Json status = WaitExited(id);
  EXPECT_EQ(status["exit_code"], 42);
  EXPECT_EQ(status["reason"], "Error");
}
SPEC(Container, SuccessIsCompleted, .faults = {"ContainerStatus:-status.reason"}) {
  Json status = WaitExited(Run(RunPod(), {{"command", {"/bin/true"}}}));
  EXPECT_EQ(status["exit_code"], 0);
  EXPECT_EQ(status["reason"], "Completed");
}
SPEC(Container, StopGivesTimeToEnd, .faults = {"StopContainer<timeout=0"}) {
  Pod pod = RunPod();
  std::string id = Run(
      pod, {{"command", {"/bin/sh", "-c", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"}}});
  WaitLog(pod, "ready");
  Stop(id, 20);
  EXPECT_EQ(Status(id)["exit_code"], 3);
  EXPECT_EQ(LogText(pod), "ready\nbye\n");
}
SPEC(Container, StopKillsWhoDoesNotEnd,
     .faults = {"StopContainer<timeout=100; StopContainer:fail=DEADLINE_EXCEEDED",
                "ContainerStatus:status.exit_code=143"}) {
  Pod pod = RunPod();
  std::string id = Run(pod, {{"command", {"/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"}}});
  WaitLog(pod, "ready");
  Stop(id, 1);
  Json status = Status(id);
  EXPECT_EQ(status["state"], "CONTAINER_EXITED");
  EXPECT_EQ(status["exit_code"], 137);
}
SPEC(Container, StopSignalOfTheConfiguration,
     .faults = {"CreateContainer<-config.stop_signal", "ContainerStatus:status.stop_signal=SIGNAL_RUNTIME_DEFAULT"}) {
  Pod pod = RunPod();
  std::string id = Create(pod, {{"command", {"/guest", "signals"}}, {"stop_signal", "SIGNAL_SIGUSR1"}});
  if (Status(id)["stop_signal"] != "SIGNAL_SIGUSR1") {
    Json features = Call("Version");
    if (context().fault.empty())
      throw Unsupported("the runtime does not know stop_signal of a container's configuration");
    throw Failure("stop_signal is not in the status");
  }
  Start(id);
  WaitLog(pod, "ready");
  Stop(id, 20);
  EXPECT_NE(LogText(pod).find("signal 10\n"), std::string::npos) << LogText(pod);
}
SPEC(Container, ListFilters, .faults = {"ListContainers<-filter", "ListContainers:-containers"}) {
  Pod pod = RunPod();
  std::string value = Unique();
  std::string created = Create(pod, {{"metadata", {{"name", "a"}}}, {"labels", {{"find", value}}}});
  std::string running = Run(pod, {{"metadata", {{"name", "b"}}}, {"labels", {{"find", value}}}});
  auto count = [&](const Json& filter) { return Call("ListContainers", {{"filter", filter}})["containers"].size(); };
  EXPECT_EQ(count({{"id", created}}), 1u);
  EXPECT_EQ(count({{"pod_sandbox_id", pod.id}}), 2u);
  EXPECT_EQ(count({{"label_selector", {{"find", value}}}}), 2u);
  EXPECT_EQ(count({{"label_selector", {{"find", value}}}, {"state", {{"state", "CONTAINER_RUNNING"}}}}), 1u);
  EXPECT_EQ(count({{"label_selector", {{"find", "nothing"}}}}), 0u);
}
SPEC(Container, SameNameAndAttemptIsOneContainer,
     .faults = {"CreateContainer<config.metadata.name=another-each-time; CreateContainer:fail"}) {
  Pod pod = RunPod();
  std::string first = Create(pod);
  auto second = TryCreate(pod, Json::object());
  EXPECT_TRUE(!second || *second == first) << "a second container of the same name and attempt";
  EXPECT_EQ(Call("ListContainers", {{"filter", {{"pod_sandbox_id", pod.id}}}})["containers"].size(), 1u);
}
SPEC(Container, OutOfMemoryIsTold, .like = {60},
     .faults = {"ContainerStatus:status.reason=Error", "ContainerStatus:status.exit_code=1"}) {
  std::string id = Run(
      RunPod(),
      {{"command", {"/guest", "eat", "64"}},
       {"linux", {{"resources", {{"memory_limit_in_bytes", 16 << 20}, {"memory_swap_limit_in_bytes", 16 << 20}}}}}});
  Json status = WaitExited(id);
  EXPECT_EQ(status["exit_code"], 137);
  EXPECT_EQ(status["reason"], "OOMKilled");
}

}  // namespace
}  // namespace crisp::conformance
