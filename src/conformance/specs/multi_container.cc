// Several containers in one pod.
#include "base/strings.h"
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

SPEC(MultipleContainers, ShareTheNetwork, .like = {45},
     .faults = {"CreateContainer<config.command=[\"/guest\",\"hold\"]"}) {
  Pod pod = RunPod();
  Run(pod, {{"metadata", {{"name", "web"}}},
            {"image", {{"image", Image("web")}}},
            {"command", {"/guest", "http", "80"}},
            {"log_path", "web.log"}});
  WaitLog(pod, "serving", "web.log");
  std::string client = Run(pod, {{"command", {"/guest", "hold"}}});
  EXPECT_EQ(Sh(client, "/guest get 127.0.0.1 80"), "crisptest web\n");
}
SPEC(MultipleContainers, HaveLogsOfTheirOwn, .like = {46}, .faults = {"CreateContainer<config.log_path=same.log"}) {
  Pod pod = RunPod();
  for (const char* name : {"one", "two"}) {
    WaitExited(Run(
        pod, {{"metadata", {{"name", name}}}, {"command", {"/bin/echo", name}}, {"log_path", StrCat(name, ".log")}}));
  }
  EXPECT_EQ(LogText(pod, "one.log"), "one\n");
  EXPECT_EQ(LogText(pod, "two.log"), "two\n");
}
SPEC(MultipleContainers, HaveExecsOfTheirOwn, .like = {47},
     .faults = {"ExecSync:stale", "CreateContainer<config.envs=[{\"key\":\"WHO\",\"value\":\"same\"}]"}) {
  Pod pod = RunPod();
  std::vector<std::string> ids;
  for (const char* name : {"one", "two"}) {
    ids.push_back(Run(pod, {{"metadata", {{"name", name}}}, {"envs", {{{"key", "WHO"}, {"value", name}}}}}));
  }
  EXPECT_EQ(Sh(ids[0], "echo $WHO"), "one\n");
  EXPECT_EQ(Sh(ids[1], "echo $WHO"), "two\n");
}
SPEC(MultipleContainers, ShareHostNameAndIpc, .faults = {"ExecSync:stale"}) {
  Pod pod = RunPod({{"hostname", "shared"}});
  std::string one = Run(pod, {{"metadata", {{"name", "one"}}}}), two = Run(pod, {{"metadata", {{"name", "two"}}}});
  EXPECT_EQ(Sh(one, "echo via-shm > /dev/shm/file; hostname"), "shared\n");
  EXPECT_EQ(Sh(two, "cat /dev/shm/file"), "via-shm\n");
}

}  // namespace
}  // namespace crisp::conformance
