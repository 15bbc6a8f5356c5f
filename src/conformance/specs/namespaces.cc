// Which namespaces containers share with their pod and with the machine.
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>

#include "base/strings.h"
#include "conformance/spec.h"
#include "conformance/specs/ports.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

Json Namespaces(const Json& options) { return {{"linux", {{"security_context", {{"namespace_options", options}}}}}}; }

constexpr const char* kDropPodOptions =
    "RunPodSandbox<-config.linux.security_context.namespace_options; "
    "CreateContainer<-config.linux.security_context.namespace_options; "
    "CreateContainer<-sandbox_config.linux.security_context.namespace_options";

SPEC(SecurityContext, HostPidSeesTheMachine, .like = {6}, .faults = {kDropPodOptions}) {
  Json options = Namespaces({{"pid", "NODE"}});
  std::string id = Run(RunPod(options), options);
  EXPECT_EQ(Sh(id, StrCat("test -d /proc/", getpid(), " && grep -c . /proc/", getpid(), "/comm")), "1\n");
}

// A segment of System V shared memory on the machine: is it there inside?
void ShmIsSeen(const std::function<std::string()>& segments, bool expected) {
  int segment = shmget(IPC_PRIVATE, 1 << 20, 0600);
  if (segment < 0) throw Failure("shmget fails on this machine");
  std::string list;
  try {
    list = segments();
  } catch (...) {
    shmctl(segment, IPC_RMID, nullptr);
    throw;
  }
  shmctl(segment, IPC_RMID, nullptr);
  bool seen = false;
  for (std::string_view line : Split(list, '\n')) {
    auto words = SplitWords(line);
    seen = seen || (words.size() > 3 && words[1] == StrCat(segment) && words[3] == "1048576");
  }
  EXPECT_EQ(seen, expected) << "segment " << segment << " in\n" << list;
}

SPEC(SecurityContext, HostIpcSharesMemorySegments, .like = {7}, .faults = {kDropPodOptions}) {
  Json options = Namespaces({{"ipc", "NODE"}});
  std::string id = Run(RunPod(options), options);
  ShmIsSeen([&] { return Sh(id, "cat /proc/sysvipc/shm"); }, true);
}
SPEC(SecurityContext, PodIpcHidesMemorySegments, .like = {8},
     .faults = {"RunPodSandbox<config.linux.security_context.namespace_options.ipc=NODE; "
                "CreateContainer<config.linux.security_context.namespace_options.ipc=NODE; "
                "CreateContainer<sandbox_config.linux.security_context.namespace_options.ipc=NODE"}) {
  Json options = Namespaces({{"ipc", "POD"}});
  std::string id = Run(RunPod(options), options);
  ShmIsSeen([&] { return Sh(id, "cat /proc/sysvipc/shm"); }, false);
}

SPEC(SecurityContext, PodPidIsShared, .like = {9},
     .faults = {"RunPodSandbox<config.linux.security_context.namespace_options.pid=CONTAINER; "
                "CreateContainer<config.linux.security_context.namespace_options.pid=CONTAINER"}) {
  Json options = Namespaces({{"pid", "POD"}});
  Pod pod = RunPod(options);
  Run(pod, Merged(options, {{"metadata", {{"name", "web"}}}, {"command", {"/guest", "http", "8123"}}}));
  std::string id = Run(pod, options);
  Eventually("a process of the other container is seen",
             [&] { return Sh(id, "ps").find("http 8123") != std::string::npos; });
  EXPECT_EQ(Sh(id, "cat /proc/1/cmdline").find("hold"), std::string::npos)
      << "the container's process is not the first of the pod";
}

SPEC(SecurityContext, ContainerPidIsItsOwn, .like = {10},
     .faults = {"RunPodSandbox<config.linux.security_context.namespace_options.pid=POD; "
                "CreateContainer<config.linux.security_context.namespace_options.pid=POD"}) {
  Json options = Namespaces({{"pid", "CONTAINER"}});
  std::string id = Run(RunPod(options), options);
  EXPECT_NE(Sh(id, "cat /proc/1/cmdline").find("hold"), std::string::npos);
}

SPEC(SecurityContext, TargetPidJoinsAContainer,
     .faults = {"CreateContainer<config.linux.security_context.namespace_options.pid=CONTAINER"}) {
  Json own = Namespaces({{"pid", "CONTAINER"}});
  Pod pod = RunPod(own);
  std::string target =
      Run(pod, Merged(own, {{"metadata", {{"name", "target"}}}, {"command", {"/guest", "http", "8124"}}}));
  std::string id = Run(pod, Namespaces({{"pid", "TARGET"}, {"target_id", target}}));
  EXPECT_NE(Sh(id, "cat /proc/1/cmdline").find("8124"), std::string::npos);
}

SPEC(SecurityContext, HostNetworkReachesLoopback, .like = {11}, .faults = {kDropPodOptions}) {
  Listener listener("hello from the machine\n");
  Json options = Namespaces({{"network", "NODE"}});
  std::string id = Run(RunPod(options), options);
  EXPECT_EQ(Sh(id, StrCat("nc -w 2 127.0.0.1 ", listener.port(), " </dev/null")), "hello from the machine\n");
}

SPEC(SecurityContext, PodNetworkHidesLoopback, .like = {12},
     .faults = {"RunPodSandbox<config.linux.security_context.namespace_options.network=NODE; "
                "CreateContainer<config.linux.security_context.namespace_options.network=NODE; "
                "CreateContainer<sandbox_config.linux.security_context.namespace_options.network=NODE"}) {
  Listener listener("hello from the machine\n");
  Json options = Namespaces({{"network", "POD"}});
  std::string id = Run(RunPod(options), options);
  ExecResult result = Exec(id, {"/bin/sh", "-c", StrCat("nc -w 2 127.0.0.1 ", listener.port(), " </dev/null")});
  EXPECT_EQ(result.out, "") << "the machine's loopback is reached";
}

// ---- user namespaces

bool HandlerHas(const Json& status, const std::string& handler, const char* feature) {
  for (const Json& one : status.at("runtime_handlers")) {
    if (one.at("name") == handler && one.contains("features") && one.at("features").at(feature) == true) return true;
  }
  return false;
}

class UserNamespaces : public Spec {
 protected:
  void NeedsThem() {
    if (!HandlerHas(Call("Status"), context().runtime_handler, "user_namespaces")) {
      throw Unsupported("the runtime handler does not offer user namespaces");
    }
  }
  Json Options(const Json& userns) { return Namespaces({{"userns_options", userns}}); }
};

#define USERNS_SPEC(name_, ...)                                                                                     \
  class UserNamespaces_##name_ : public UserNamespaces {                                                            \
   protected:                                                                                                       \
    void Body() override;                                                                                           \
  };                                                                                                                \
  static const bool registered_userns_##name_ =                                                                     \
      internal::Register({"SecurityContext", "UserNamespace" #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<UserNamespaces_##name_>);                           \
  void UserNamespaces_##name_::Body()

const Json kMapping = {{{"container_id", 0}, {"host_id", 100000}, {"length", 65536}}};
constexpr const char* kSwallowPod = "RunPodSandbox:swallow";

USERNS_SPEC(MapsIds, .like = {39}, .faults = {kDropPodOptions}) {
  NeedsThem();
  Json options = Options({{"mode", "POD"}, {"uids", kMapping}, {"gids", kMapping}});
  std::string id = Run(RunPod(options), options);
  auto words = Sh(id, "cat /proc/self/uid_map");
  auto parts = SplitWords(words);
  ASSERT_EQ(parts.size(), 3u) << words;
  EXPECT_EQ(parts[0], "0");
  EXPECT_EQ(parts[1], "100000");
  EXPECT_EQ(parts[2], "65536");
  EXPECT_EQ(Sh(id, "touch /tmp/mine && stat -c %u /tmp/mine"), "0\n") << "the root file system is not mapped";
}
USERNS_SPEC(NodeModeIsTheMachines, .like = {40}, .faults = {"ExecSync:stdout=\"0 100000 65536\\n\""}) {
  NeedsThem();
  Json options = Options({{"mode", "NODE"}});
  auto inside = Sh(Run(RunPod(options), options), "cat /proc/self/uid_map");
  auto outside = sys::ReadFile("/proc/self/uid_map");
  ASSERT_TRUE(outside);
  EXPECT_EQ(SplitWords(inside), SplitWords(*outside));
}
USERNS_SPEC(RefusesTwoMappings, .like = {41}, .faults = {kSwallowPod}) {
  NeedsThem();
  Json two = kMapping;
  two.push_back({{"container_id", 0}, {"host_id", 200000}, {"length", 65536}});
  MustFail("RunPodSandbox", {{"config", PodConfig(Options({{"mode", "POD"}, {"uids", two}, {"gids", two}}))},
                             {"runtime_handler", context().runtime_handler}});
}
USERNS_SPEC(RefusesUnmappedRoot, .like = {42}, .faults = {kSwallowPod}) {
  NeedsThem();
  Json other = {{{"container_id", 1}, {"host_id", 100000}, {"length", 65536}}};
  MustFail("RunPodSandbox", {{"config", PodConfig(Options({{"mode", "POD"}, {"uids", other}, {"gids", other}}))},
                             {"runtime_handler", context().runtime_handler}});
}
USERNS_SPEC(RefusesContainerMode, .like = {43}, .faults = {kSwallowPod}) {
  NeedsThem();
  MustFail("RunPodSandbox",
           {{"config", PodConfig(Options({{"mode", "CONTAINER"}}))}, {"runtime_handler", context().runtime_handler}});
}
USERNS_SPEC(RefusesTargetMode, .like = {44}, .faults = {kSwallowPod}) {
  NeedsThem();
  MustFail("RunPodSandbox",
           {{"config", PodConfig(Options({{"mode", "TARGET"}}))}, {"runtime_handler", context().runtime_handler}});
}

}  // namespace
}  // namespace crisp::conformance
