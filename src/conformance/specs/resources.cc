// Limits: set at creation, changed while the container runs, seen inside.
#include <dirent.h>
#include <unistd.h>

#include <cstdlib>

#include "base/context.h"
#include "base/strings.h"
#include "conformance/spec.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::conformance {
namespace {

class Resources : public Spec {
 protected:
  // A file of the container's cgroup, by its v2 or v1 name; read from outside, by what the process says of itself.
  std::string CgroupFile(const std::string& id, const std::string& controller, const std::string& v2,
                         const std::string& v1) {
    std::string pid = Pid(id);
    auto table = sys::ReadFile(StrCat("/proc/", pid, "/cgroup"));
    if (!table) throw Failure(table.error().message());
    for (std::string_view line : Split(*table, '\n')) {
      auto parts = Split(line, ':');
      if (parts.size() != 3) continue;
      bool is_v1 = false;
      for (std::string_view name : Split(parts[1], ',')) is_v1 = is_v1 || name == controller;
      for (const std::string& root : {StrCat("/sys/fs/cgroup/", parts[1]), StrCat("/sys/fs/cgroup/", controller)}) {
        if (!is_v1) continue;
        if (auto text = sys::ReadFile(StrCat(root, parts[2], "/", v1))) return std::string(Trim(*text));
      }
      if (parts[1].empty()) {
        if (auto text = sys::ReadFile(StrCat("/sys/fs/cgroup", parts[2], "/", v2))) return std::string(Trim(*text));
      }
    }
    throw Unsupported(StrCat("no ", v2, " or ", v1, " of the container on this machine"));
  }
  // The container's process: the one whose environment carries its mark.
  std::string Pid(const std::string& id) {
    if (auto known = pids_.find(id); known != pids_.end()) return known->second;
    throw Failure("no process of the container");
  }
  std::string RunMarked(const Pod& pod, Json more) {
    std::string mark = Unique("crisptest-mark-");
    more["envs"] = {{{"key", "CRISPTEST_MARK"}, {"value", mark}}};
    std::string id = Run(pod, more);
    // A start may be over before the program is in its place.
    Eventually("a process carries the mark", [&] { return FindMarked(id, mark); });
    return id;
  }
  bool FindMarked(const std::string& id, const std::string& mark) {
    DIR* proc = opendir("/proc");
    while (dirent* entry = readdir(proc)) {
      if (!isdigit(entry->d_name[0])) continue;
      auto environment = sys::ReadFile(StrCat("/proc/", entry->d_name, "/environ"));
      if (environment && environment->find("CRISPTEST_MARK=" + mark) != std::string::npos) pids_[id] = entry->d_name;
    }
    closedir(proc);
    return pids_.contains(id);
  }
  std::string Memory(const std::string& id) { return CgroupFile(id, "memory", "memory.max", "memory.limit_in_bytes"); }
  void Update(const std::string& id, const Json& linux_resources) {
    Call("UpdateContainerResources", {{"container_id", id}, {"linux", linux_resources}});
  }
  static Json Limits(const Json& resources) { return {{"linux", {{"resources", resources}}}}; }
  std::map<std::string, std::string> pids_;
};

#define RESOURCE_SPEC(name_, ...)                                                             \
  class Resources_##name_ : public Resources {                                                \
   protected:                                                                                 \
    void Body() override;                                                                     \
  };                                                                                          \
  static const bool registered_resources_##name_ =                                            \
      internal::Register({"Resources", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<Resources_##name_>);          \
  void Resources_##name_::Body()

constexpr const char* kDropResources = "CreateContainer<-config.linux.resources";

RESOURCE_SPEC(LimitsAreSet,
              .faults = {kDropResources, "CreateContainer<config.linux.resources.memory_limit_in_bytes=1234567890"}) {
  std::string id =
      RunMarked(RunPod(), Limits({{"memory_limit_in_bytes", 96 << 20}, {"cpu_quota", 30000}, {"cpu_period", 100000}}));
  EXPECT_EQ(Memory(id), StrCat(96 << 20));
  std::string quota = CgroupFile(id, "cpu", "cpu.max", "cpu.cfs_quota_us");
  EXPECT_TRUE(quota == "30000" || quota == "30000 100000") << quota;
}
RESOURCE_SPEC(StatusHasThem, .faults = {"ContainerStatus:-status.resources", kDropResources}) {
  std::string id = Run(RunPod(), Limits({{"memory_limit_in_bytes", 96 << 20}, {"cpu_shares", 512}}));
  Json status = Status(id);
  if (!status.contains("resources") && context().fault.empty())
    throw Unsupported("the status of the runtime's containers has no resources");
  EXPECT_EQ(status.at("resources").at("linux")["memory_limit_in_bytes"], 96 << 20);
  EXPECT_EQ(status["resources"]["linux"]["cpu_shares"], 512);
}
RESOURCE_SPEC(OomScoreAdjustment, .faults = {kDropResources}) {
  Pod pod = RunPod();
  WaitExited(
      Run(pod, Merged(Limits({{"oom_score_adj", 777}}), {{"command", {"/bin/cat", "/proc/self/oom_score_adj"}}})));
  EXPECT_EQ(LogText(pod), "777\n");
}
RESOURCE_SPEC(CpusetIsSet, .faults = {kDropResources}) {
  std::string id = RunMarked(RunPod(), Limits({{"cpuset_cpus", "0"}}));
  EXPECT_EQ(CgroupFile(id, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
}
RESOURCE_SPEC(UpdateOfARunningContainer,
              .faults = {"UpdateContainerResources:noop",
                         "UpdateContainerResources<linux.memory_limit_in_bytes=1234567890"}) {
  std::string id = RunMarked(RunPod(), Limits({{"memory_limit_in_bytes", 96 << 20}}));
  Update(id, {{"memory_limit_in_bytes", 128 << 20}, {"cpu_quota", 40000}, {"cpu_period", 100000}});
  EXPECT_EQ(Memory(id), StrCat(128 << 20));
  std::string quota = CgroupFile(id, "cpu", "cpu.max", "cpu.cfs_quota_us");
  EXPECT_TRUE(quota == "40000" || quota == "40000 100000") << quota;
  Update(id, {{"memory_limit_in_bytes", 64 << 20}});
  EXPECT_EQ(Memory(id), StrCat(64 << 20));
}
RESOURCE_SPEC(UpdateBeforeTheStart, .faults = {"UpdateContainerResources:noop"}) {
  Pod pod = RunPod();
  std::string id = Create(pod, Limits({{"memory_limit_in_bytes", 96 << 20}}));
  Update(id, {{"memory_limit_in_bytes", 128 << 20}});
  Start(id);
  Json status = Status(id);
  if (!status.contains("resources") && context().fault.empty())
    throw Unsupported("the status of the runtime's containers has no resources");
  EXPECT_EQ(status.at("resources")["linux"]["memory_limit_in_bytes"], 128 << 20);
}
RESOURCE_SPEC(UpdateShowsInTheStatus,
              .faults = {"UpdateContainerResources:noop", "ContainerStatus:-status.resources"}) {
  std::string id = Run(RunPod(), Limits({{"memory_limit_in_bytes", 96 << 20}}));
  Update(id, {{"memory_limit_in_bytes", 128 << 20}});
  Json status = Status(id);
  if (!status.contains("resources") && context().fault.empty())
    throw Unsupported("the status of the runtime's containers has no resources");
  EXPECT_EQ(status.at("resources")["linux"]["memory_limit_in_bytes"], 128 << 20);
}
RESOURCE_SPEC(UpdateOfAnUnknownContainerFails, .faults = {"UpdateContainerResources:swallow"}) {
  MustFail("UpdateContainerResources", {{"container_id", "no-such-container"}, {"linux", {{"cpu_shares", 2}}}});
}
RESOURCE_SPEC(UpdateOfAPod,
              .faults = {"UpdatePodSandboxResources:fail", "UpdatePodSandboxResources<pod_sandbox_id=other"}) {
  Pod pod = RunPod();
  Needs("UpdatePodSandboxResources", {{"pod_sandbox_id", pod.id}});
  Call("UpdatePodSandboxResources", {{"pod_sandbox_id", pod.id},
                                     {"resources", {{"memory_limit_in_bytes", 256 << 20}, {"cpu_shares", 1024}}},
                                     {"overhead", Json::object()}});
  Run(pod);
  MustFail("UpdatePodSandboxResources", {{"pod_sandbox_id", "no-such-pod"}, {"resources", {{"cpu_shares", 2}}}});
}
RESOURCE_SPEC(SwapLimit, .faults = {kDropResources}) {
  std::string id =
      RunMarked(RunPod(), Limits({{"memory_limit_in_bytes", 96 << 20}, {"memory_swap_limit_in_bytes", 96 << 20}}));
  std::string swap = CgroupFile(id, "memory", "memory.swap.max", "memory.memsw.limit_in_bytes");
  EXPECT_TRUE(swap == "0" || swap == StrCat(96 << 20)) << swap;
}
RESOURCE_SPEC(
    HugePages,
    .faults = {"CreateContainer<config.linux.resources.hugepage_limits=[{\"page_size\":\"2MB\",\"limit\":2097152}]"}) {
  if (!sys::Exists("/sys/kernel/mm/hugepages/hugepages-2048kB"))
    throw Unsupported("this machine has no huge pages of 2 MiB");
  std::string id = RunMarked(RunPod(), Limits({{"hugepage_limits", {{{"page_size", "2MB"}, {"limit", 8 << 20}}}}}));
  EXPECT_EQ(CgroupFile(id, "hugetlb", "hugetlb.2MB.max", "hugetlb.2MB.limit_in_bytes"), StrCat(8 << 20));
}

// ---- CDI

class Cdi : public Spec {
 protected:
  void WriteSpecification(const std::string& vendor) {
    auto made = sys::MakeDirs(context().cdi_dir, 0755);
    if (!made) throw Unsupported(made.error().message());
    std::string path = StrCat(context().cdi_dir, "/", vendor, ".json");
    Json document = {{"cdiVersion", "0.6.0"},
                     {"kind", vendor + "/device"},
                     {"devices",
                      {{{"name", "one"},
                        {"containerEdits",
                         {{"env", {"CRISPTEST_CDI=" + vendor}},
                          {"deviceNodes", {{{"path", "/dev/crisptest-cdi"}, {"hostPath", "/dev/null"}}}}}}}}}};
    if (!sys::WriteFileAtomic(path, DumpJson(document), 0644, sys::Durability::kNone))
      throw Unsupported("cannot write into " + context().cdi_dir);
    AtEnd([path] { (void)sys::RemoveFile(path); });
  }
};
class Cdi_DeviceIsInjected : public Cdi {
 protected:
  void Body() override {
    std::string vendor = Unique("crisptest") + ".example";
    WriteSpecification(vendor);
    auto id = TryCreate(RunPod(), {{"CDI_devices", {{{"name", vendor + "/device=one"}}}}});
    if (!id && context().fault.empty()) throw Unsupported("no CDI here: " + id.error().message());
    ASSERT_TRUE(id) << id.error().message();
    Start(*id);
    EXPECT_EQ(Sh(*id, "echo $CRISPTEST_CDI; test -c /dev/crisptest-cdi && echo node"), vendor + "\nnode\n");
  }
};
static const bool registered_cdi = internal::Register(
    {"CDI", "DeviceIsInjected", __FILE__, __LINE__, SpecOptions{.faults = {"CreateContainer<-config.CDI_devices"}}},
    new testing::internal::TestFactoryImpl<Cdi_DeviceIsInjected>);
class Cdi_UnknownDeviceIsRefused : public Cdi {
 protected:
  void Body() override {
    MustNotRun(RunPod(), {{"CDI_devices", {{{"name", Unique("crisptest") + ".example/device=none"}}}}});
  }
};
static const bool registered_cdi_unknown =
    internal::Register({"CDI", "UnknownDeviceIsRefused", __FILE__, __LINE__,
                        SpecOptions{.faults = {"CreateContainer<-config.CDI_devices"}}},
                       new testing::internal::TestFactoryImpl<Cdi_UnknownDeviceIsRefused>);

// ---- checkpoints

SPEC(Checkpoint, ArchiveIsWritten, .faults = {"CheckpointContainer:noop"}) {
  std::string id = Run(RunPod()), path = TempDir() + "/checkpoint.tar";
  auto reply = Try("CheckpointContainer", {{"container_id", id}, {"location", path}, {"timeout", 30}});
  if (!reply) throw Unsupported(StrCat("no checkpoint here: ", reply.error().message()));
  auto archive = sys::ReadFile(path, 1u << 30);
  ASSERT_TRUE(archive) << archive.error().message();
  EXPECT_NE(archive->find("config.dump"), std::string::npos);
  EXPECT_NE(archive->find("spec.dump"), std::string::npos);
  EXPECT_EQ(Status(id)["state"], "CONTAINER_RUNNING");
}
SPEC(Checkpoint, OfAnUnknownContainerFails, .faults = {"CheckpointContainer:swallow"}) {
  auto reply =
      Try("CheckpointContainer", {{"container_id", "no-such-container"}, {"location", TempDir() + "/checkpoint.tar"}});
  if (!reply && reply.error().code() == Code::kUnimplemented)
    throw Unsupported("the runtime does not have CheckpointContainer");
  EXPECT_FALSE(reply);
}

// ---- restart of the daemon

class Restart : public Spec {
 protected:
  void RestartDaemon(const std::string& before = "") {
    if (context().restart_command.empty())
      throw Unsupported("--restart-command does not say how to restart the daemon");
    auto done = sys::Run({}, {.program = "/bin/sh", .args = {"-c", before + context().restart_command}},
                         {.timeout = std::chrono::seconds(60)});
    if (!done || done->status.code != 0) throw Failure("the restart command failed");
    AwaitRuntime();
  }
};
#define RESTART_SPEC(name_, ...)                                                                            \
  class Restart_##name_ : public Restart {                                                                  \
   protected:                                                                                               \
    void Body() override;                                                                                   \
  };                                                                                                        \
  static const bool registered_restart_##name_ =                                                            \
      internal::Register({"Restart", #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__, .serial = true}}, \
                         new testing::internal::TestFactoryImpl<Restart_##name_>);                          \
  void Restart_##name_::Body()

RESTART_SPEC(ContainersLiveOn, .faults = {"ContainerStatus:status.state=CONTAINER_UNKNOWN", "ExecSync:stdout="}) {
  Pod pod = RunPod();
  std::string id = Run(pod, {{"command", {"/bin/sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"}}});
  WaitLog(pod, "2\n");
  std::string since = Sh(id, "stat -c %Y /proc/1");
  Json before = Status(id);
  RestartDaemon();
  Json after = Status(id);
  EXPECT_EQ(after["state"], "CONTAINER_RUNNING");
  EXPECT_EQ(after["started_at"], before["started_at"]);
  EXPECT_EQ(PodStatus(pod.id)["state"], "SANDBOX_READY");
  EXPECT_EQ(Sh(id, "echo alive"), "alive\n");
  size_t lines = Log(pod).size();
  Eventually("the log goes on", [&] { return Log(pod).size() > lines; });
}
RESTART_SPEC(ExitsOfMeanwhileAreKnown, .faults = {"ContainerStatus:status.exit_code=0"}) {
  std::string dir = TempDir();
  std::string id =
      Run(RunPod(), {{"command", {"/bin/sh", "-c", "while [ ! -e /volume/go ]; do sleep 0.05; done; exit 21"}},
                     {"mounts", {{{"host_path", dir}, {"container_path", "/volume"}}}}});
  RestartDaemon(StrCat("touch ", dir, "/go; "));
  EXPECT_EQ(WaitExited(id)["exit_code"], 21);
}
RESTART_SPEC(ImagesAreKept, .faults = {"ImageStatus:-image"}) {
  std::string reference = Image("small/" + Unique(), "v1");
  Json before = Call("ImageStatus", {{"image", {{"image", reference}}}}).at("image");
  RestartDaemon();
  EXPECT_EQ(Call("ImageStatus", {{"image", {{"image", reference}}}}).at("image")["id"], before["id"]);
}

}  // namespace
}  // namespace crisp::conformance
