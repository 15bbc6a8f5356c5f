// The logs of containers, which a kubelet reads and rotates.
#include <unistd.h>

#include <thread>

#include "base/strings.h"
#include "conformance/spec.h"
#include "sys/file.h"

namespace crisp::conformance {
namespace {

SPEC(Container, LogHasTheOutput, .like = {95},
     .faults = {"CreateContainer<-config.log_path", "CreateContainer<config.log_path=other.log"}) {
  Pod pod = RunPod();
  WaitExited(Run(pod, {{"command", {"/bin/sh", "-c", "echo to stdout; echo to stderr >&2"}}}));
  EXPECT_EQ(LogText(pod), "to stdout\n");
  EXPECT_EQ(LogText(pod, "main.log", "stderr"), "to stderr\n");
}
SPEC(Container, LogIsReopened, .like = {96}, .faults = {"ReopenContainerLog:noop", "ReopenContainerLog:fail"}) {
  Pod pod = RunPod();
  std::string id =
      Run(pod, {{"command", {"/bin/sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done"}}});
  WaitLog(pod, "line 3");
  ASSERT_EQ(rename((pod.log_dir + "/main.log").c_str(), (pod.log_dir + "/main.log.1").c_str()), 0);
  Call("ReopenContainerLog", {{"container_id", id}});
  ASSERT_TRUE(sys::Exists(pod.log_dir + "/main.log")) << "no new file after the call";
  WaitLog(pod, "line");
}

// ---- beyond critest

SPEC(Log, LongLinesAreCutAndMarked, .faults = {"CreateContainer<config.command=[\"/guest\",\"lines\",\"2\",\"100\"]"}) {
  Pod pod = RunPod();
  WaitExited(Run(pod, {{"command", {"/guest", "lines", "2", "50000"}}}));
  size_t partial = 0;
  for (const LogLine& line : Log(pod)) {
    EXPECT_LE(line.text.size(), 16u << 10);
    partial += line.partial ? 1 : 0;
  }
  EXPECT_GE(partial, 6u);  // three full pieces of 16 KiB or more smaller ones before the rest of each line
  EXPECT_EQ(LogText(pod).size(), 2u * 50001u);
}
SPEC(Log, LastLineWithoutNewlineIsKept, .faults = {"CreateContainer<config.command=[\"/bin/true\"]"}) {
  Pod pod = RunPod();
  WaitExited(Run(pod, {{"command", {"/bin/sh", "-c", "printf 'no end'"}}}));
  ASSERT_EQ(Log(pod).size(), 1u);
  EXPECT_EQ(Log(pod)[0].text, "no end");
}
SPEC(Log, RotationUnderLoadLosesNothing,
     .faults = {"ReopenContainerLog:noop", "CreateContainer<config.command.2=\"1000\""}) {
  constexpr int kLines = 60000;
  Pod pod = RunPod();
  std::string id = Run(pod, {{"command", {"/guest", "lines", StrCat(kLines), "120"}}});
  std::vector<std::string> files;
  bool reopened = true;
  for (int i = 0; Status(id)["state"] == "CONTAINER_RUNNING" && i < 200; ++i) {
    std::string name = StrCat("main.log.", i);
    if (rename((pod.log_dir + "/main.log").c_str(), StrCat(pod.log_dir, "/", name).c_str()) != 0) continue;
    files.push_back(name);
    reopened = Try("ReopenContainerLog", {{"container_id", id}}).has_value();
    if (!reopened) break;  // it has just ended
  }
  WaitExited(id);
  files.push_back("main.log");
  int next = 0;
  std::string text;  // of one line; its pieces may lie in two files
  for (const std::string& file : files) {
    for (const LogLine& line : Log(pod, file)) {
      text += line.text;
      if (line.partial) continue;
      ASSERT_EQ(ParseInt<int>(std::string_view(text).substr(0, 8)).value_or(-1), next)
          << "in " << file << ": " << Quote(text);
      text.clear();
      ++next;
    }
  }
  EXPECT_EQ(next, kLines);
  EXPECT_GE(files.size(), 2u) << "the log was never rotated";
  EXPECT_TRUE(!reopened || sys::Exists(pod.log_dir + "/main.log"));
}
SPEC(Log, ReopenOfAnExitedContainerFails, .faults = {"ReopenContainerLog:swallow"}) {
  std::string id = Run(RunPod(), {{"command", {"/bin/true"}}});
  WaitExited(id);
  MustFail("ReopenContainerLog", {{"container_id", id}});
}

}  // namespace
}  // namespace crisp::conformance
