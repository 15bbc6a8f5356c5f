#include "runtime/runtime.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "runtime/exec_place.h"
#include "runtime/oci_handler.h"
#include "sys/file.h"

namespace crisp::runtime {
namespace {

using Words = std::vector<std::string>;
const std::string kId(64, 'a');
ContainerId Id() { return ContainerId::Parse(kId).value(); }

TEST(PrepareStart, KeepsNoHooksOfAContainerThatMayNeverStart) {
  Runtime::Options options;
  options.handlers = {{.name = "native", .type = "native"}};
  std::unique_ptr<Runtime> runtime = Runtime::Make(std::move(options)).value();
  ContainerSpec spec;
  spec.id = Id();
  spec.handler = "native";
  spec.bundle_dir = "/nonexistent";
  spec.config = std::make_shared<const Json>(Json{{"hooks", {{"poststop", {{{"path", "/bin/true"}}}}}}});
  Result<PreparedStart> prepared = runtime->PrepareStart(PodId::Random(), spec, [] { return Result<>(); });
  ASSERT_TRUE(prepared) << prepared.error().message();
  EXPECT_EQ(prepared->launch, "");
  EXPECT_FALSE(prepared->begun);
  spec.config = std::make_shared<const Json>(Json{{"hooks", {{"poststop", 1}}}});
  EXPECT_FALSE(runtime->PrepareStart(PodId::Random(), spec, [] { return Result<>(); }));
}

TEST(OciHandler, CommandLines) {
  OciHandler plain({.name = "runc", .type = "oci", .binary = "runc", .root_dir = "/r"});
  EXPECT_EQ(plain.RunArgv(Id(), {"/b", "/p", "/b/runtime.log", ""}),
            (Words{"runc", "--root", "/r", "--log", "/b/runtime.log", "--log-format", "json", "run", "--detach", "--bundle", "/b",
                   "--pid-file", "/p", kId}));
  using Deletion = OciHandler::Deletion;
  EXPECT_EQ(plain.DeleteArgv(Id(), Deletion::kStopped), (Words{"runc", "--root", "/r", "delete", kId}));
  EXPECT_EQ(plain.DeleteArgv(Id(), Deletion::kForced), (Words{"runc", "--root", "/r", "delete", "--force", kId}));
  EXPECT_EQ(plain.UpdateArgv(Id()), (Words{"runc", "--root", "/r", "update", "--resources", "/dev/stdin", kId}));
  OciHandler full({.name = "x", .type = "oci", .binary = "/usr/bin/crun", .root_dir = "/r", .systemd_cgroup = true,
                   .extra_args = {"--debug"}});
  EXPECT_EQ(full.RunArgv(Id(), {"/b", "/p", "/l", "/c"}),
            (Words{"/usr/bin/crun", "--root", "/r", "--systemd-cgroup", "--debug", "--log", "/l", "--log-format", "json", "run",
                   "--detach", "--bundle", "/b", "--pid-file", "/p", "--console-socket", "/c", kId}));
  EXPECT_EQ(full.ExecArgv(Id(), {"/j", "/p", "/l", "freezer:e"}),
            (Words{"/usr/bin/crun", "--root", "/r", "--systemd-cgroup", "--debug", "--log", "/l", "--log-format", "json", "exec",
                   "--detach", "--process", "/j", "--pid-file", "/p", "--cgroup", "freezer:e", kId}));
}

// Row S58: hooks and runtimes get nothing of crispd's, such as a proxy's password.
TEST(OciHandler, S58_RuntimesGetAnEnvironmentOfTheirOwn) {
  setenv("HTTPS_PROXY", "http://user:secret@proxy", 1);
  sys::RunResult run = sys::Run(Ctx(), ToCommand({"/usr/bin/env"})).value();
  unsetenv("HTTPS_PROXY");
  EXPECT_EQ(run.out.find("secret"), std::string::npos) << run.out;
  EXPECT_TRUE(run.out.starts_with("PATH=")) << run.out;
}

TEST(OciHandler, LastErrorOfLog) {
  EXPECT_EQ(LastErrorOfLog(""), "");
  EXPECT_EQ(LastErrorOfLog(R"({"level":"warning","msg":"w"})"), "");
  EXPECT_EQ(LastErrorOfLog("{\"level\":\"error\",\"msg\":\"first\",\"time\":\"t\"}\n"
                           "{\"level\":\"error\",\"msg\":\"exec: \\\"x\\\": not found\"}\nno json\n{\"level\":\"info\",\"msg\":\"i\"}\n[]\n"
                           "{\"level\":5}\n"),
            "exec: \"x\": not found");
}

TEST(OciHandler, Features) {
  HandlerFeatures features = ParseFeatures(R"({"mountOptions":["ro","rro"],"linux":{"namespaces":["pid","user"]}})");
  EXPECT_TRUE(features.recursive_read_only_mounts);
  EXPECT_TRUE(features.user_namespaces);
  features = ParseFeatures(R"({"mountOptions":["ro"],"linux":{"namespaces":["pid"]}})");
  EXPECT_FALSE(features.recursive_read_only_mounts);
  EXPECT_FALSE(features.user_namespaces);
  for (const char* bad : {"", "[]", "{}", "unknown command features", R"({"mountOptions":"rro","linux":[]})", R"({"mountOptions":[1]})"}) {
    features = ParseFeatures(bad);
    EXPECT_FALSE(features.recursive_read_only_mounts || features.user_namespaces) << bad;
  }
}

TEST(OciHandler, FeaturesOfVersion) {
  EXPECT_TRUE(FeaturesOfVersion("crun version 1.8.1\ncommit: x\n").recursive_read_only_mounts);
  for (const char* other : {"", "crun", "crun version 0.17", "crun version 1.x", "runc version 1.0.0", "crun version 1"}) {
    EXPECT_FALSE(FeaturesOfVersion(other).recursive_read_only_mounts) << other;
  }
}

sys::MountInfo Mount(std::string at, std::string fstype, std::vector<std::string> super_options, std::string root = "/") {
  sys::MountInfo mount;
  mount.root = std::move(root);
  mount.mountpoint = std::move(at);
  mount.fstype = std::move(fstype);
  mount.super_options = std::move(super_options);
  return mount;
}

const std::vector<sys::MountInfo> kHybrid = {
    Mount("/sys/fs/cgroup", "tmpfs", {"rw"}),
    Mount("/sys/fs/cgroup/cpu,cpuacct", "cgroup", {"rw", "cpu", "cpuacct"}),
    Mount("/sys/fs/cgroup/freezer", "cgroup", {"rw", "freezer"}),
    Mount("/sys/fs/cgroup/systemd", "cgroup", {"rw", "name=systemd"}),
    Mount("/sys/fs/cgroup/unified", "cgroup2", {"rw"}),
};
const char kHybridProc[] = "4:cpu,cpuacct:/p/c\n3:freezer:/p/c\n2:perf_event:/\n1:name=systemd:/p/c\n0::/p/c\n";

TEST(PlaceExec, UnifiedUsesTheOneHierarchy) {
  std::vector<sys::MountInfo> mounts = {Mount("/sys/fs/cgroup", "cgroup2", {"rw"})};
  for (ExecCgroupSupport support : {ExecCgroupSupport::kPerController, ExecCgroupSupport::kWhole}) {
    ExecPlace place = PlaceExec(support, mounts, "0::/p/c\n", "e");
    EXPECT_EQ(place.argument, "e");
    EXPECT_EQ(place.dirs, Words{"/sys/fs/cgroup/p/c/e"});
  }
}

TEST(PlaceExec, RuncNeedsTheFreezerOnly) {
  ExecPlace place = PlaceExec(ExecCgroupSupport::kPerController, kHybrid, kHybridProc, "e");
  EXPECT_EQ(place.argument, "freezer:e");
  EXPECT_EQ(place.dirs, Words{"/sys/fs/cgroup/freezer/p/c/e"});
}

TEST(PlaceExec, CrunNeedsAllHierarchiesFreezerFirst) {
  ExecPlace place = PlaceExec(ExecCgroupSupport::kWhole, kHybrid, kHybridProc, "e");
  EXPECT_EQ(place.argument, "e");
  EXPECT_EQ(place.dirs, (Words{"/sys/fs/cgroup/freezer/p/c/e", "/sys/fs/cgroup/cpu,cpuacct/p/c/e",
                               "/sys/fs/cgroup/systemd/p/c/e", "/sys/fs/cgroup/unified/p/c/e"}));
}

// Where a hierarchy is mounted but the container has no cgroup of its own in it, crun would leave the process in ours.
TEST(PlaceExec, NothingWhereItWouldNotBeExact) {
  EXPECT_TRUE(PlaceExec(ExecCgroupSupport::kNone, kHybrid, kHybridProc, "e").dirs.empty());
  EXPECT_TRUE(PlaceExec(ExecCgroupSupport::kWhole, kHybrid, "3:freezer:/p/c\n1:name=systemd:/\n", "e").dirs.empty());
  EXPECT_TRUE(PlaceExec(ExecCgroupSupport::kPerController, kHybrid, "3:freezer:/\n1:name=systemd:/p\n", "e").argument.empty());
  EXPECT_TRUE(PlaceExec(ExecCgroupSupport::kPerController, kHybrid, "garbage\n::\n", "e").argument.empty());
  EXPECT_TRUE(PlaceExec(ExecCgroupSupport::kPerController, {}, kHybridProc, "e").argument.empty());
}

TEST(PlaceExec, MountOfASubtree) {
  std::vector<sys::MountInfo> mounts = {Mount("/cg", "cgroup2", {}, "/outer")};
  EXPECT_EQ(PlaceExec(ExecCgroupSupport::kWhole, mounts, "0::/outer/c\n", "e").dirs, Words{"/cg/c/e"});
  EXPECT_TRUE(PlaceExec(ExecCgroupSupport::kWhole, mounts, "0::/outerspace/c\n", "e").dirs.empty());
}

class ExitFileTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(sys::MakeDirs(dir_ + "/exits", 0700)); }
  void TearDown() override { EXPECT_TRUE(sys::RemoveTree(dir_)); }
  Result<std::optional<ContainerExit>> Read(std::string_view text) {
    EXPECT_TRUE(sys::WriteFileAtomic(dir_ + "/exits/" + kId, text, 0600, sys::Durability::kNone));
    return Runtime::ReadExit(dir_, Id());
  }
  std::string dir_ = "/tmp/crisp-exit-test-" + RandomHex(6);
};

TEST_F(ExitFileTest, Golden) {
  EXPECT_FALSE(Runtime::ReadExit(dir_, Id())->has_value());
  auto exit = Read("crisp-exit 1\ncode 137\nsignal 9\noom_killed 1\nfinished_at 1767366245000000007\n");
  ASSERT_TRUE(exit && exit->has_value());
  EXPECT_EQ((*exit)->code, 137);
  EXPECT_EQ((*exit)->signal, 9);
  EXPECT_TRUE((*exit)->oom_killed);
  EXPECT_EQ((*exit)->finished_at_unix_nanos, 1767366245000000007);
  exit = Read("crisp-exit 2\ncode 1\nsignal 0\noom_killed 0\nfinished_at 5\nfrom_the_future yes\n");
  ASSERT_TRUE(exit && exit->has_value());
  EXPECT_EQ((*exit)->code, 1);
}

TEST_F(ExitFileTest, WhatIsNoneIsDataLoss) {
  for (const char* text : {"", "\n", "137\n", "crisp-exit 1\n", "crisp-exit 1\ncode 1\nsignal 0\noom_killed 0\n",
                           "crisp-exit 1\ncode x\nsignal 0\noom_killed 0\nfinished_at 5\n"}) {
    auto exit = Read(text);
    ASSERT_FALSE(exit) << text;
    EXPECT_EQ(exit.error().code(), Code::kDataLoss);
  }
}

TEST(Runtime, UnknownHandlerType) {
  Runtime::Options options;
  options.handlers = {{.name = "x", .type = "magic"}};
  EXPECT_FALSE(Runtime::Make(options));
}

TEST(Runtime, NoShimNoService) {
  Runtime::Options options;
  options.handlers = {{.name = "x", .type = "oci", .binary = "/nonexistent", .root_dir = "/r"}};
  std::unique_ptr<Runtime> runtime = Runtime::Make(options).value();
  EXPECT_TRUE(runtime->HasHandler("x"));
  EXPECT_FALSE(runtime->HasHandler("y"));
  ASSERT_EQ(runtime->Handlers().size(), 1u);
  EXPECT_FALSE(runtime->Handlers()[0].second.recursive_read_only_mounts);
  PodId pod = PodId::Random();
  EXPECT_EQ(runtime->Signal(Ctx(), pod, Id(), 15).error().code(), Code::kUnavailable);
  EXPECT_EQ(runtime->ReconnectPod(Ctx(), pod, "/nonexistent/dir").error().code(), Code::kNotFound);
  ContainerSpec spec;
  spec.id = Id();
  spec.handler = "y";
  EXPECT_EQ(runtime->StartContainer(Ctx(), pod, spec).error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace crisp::runtime
