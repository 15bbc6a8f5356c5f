// Command lines, records and what follows from flags. The commands themselves: tests/crisp_oci_test.py.
#include <gmock/gmock.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/strings.h"
#include "ocicli/commands.h"
#include "ocicli/criu_flags.h"
#include "ocicli/store.h"
#include "sys/file.h"
#include "sys/process_info.h"

namespace crisp::ocicli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::vector<FlagSpec> kSpecs = {{"detach,d"}, {"bundle,b", FlagSpec::kText}, {"env,e", FlagSpec::kList}};

TEST(FlagsTest, AsRuncUnderstandsThem) {
  Flags flags = *Flags::Parse(kSpecs, {"-d", "--bundle", "/x", "--env=A=1", "-e", "B=2", "name", "sh", "-d"});
  EXPECT_TRUE(flags.On("detach"));
  EXPECT_EQ(flags.Text("bundle"), "/x");
  EXPECT_THAT(flags.List("env"), ElementsAre("A=1", "B=2"));
  EXPECT_THAT(flags.words(), ElementsAre("name", "sh", "-d")) << "what stands behind the first word is the command's";
  flags = *Flags::Parse(kSpecs, {"-bundle=/y", "--detach=false", "--bundle", "/z", "--", "-x"});
  EXPECT_EQ(flags.Text("bundle"), "/z");
  EXPECT_FALSE(flags.On("detach"));
  EXPECT_TRUE(flags.Has("detach"));
  EXPECT_THAT(flags.words(), ElementsAre("-x"));
  EXPECT_THAT(Flags::Parse(kSpecs, {"-"})->words(), ElementsAre("-"));
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{{"--unknown"}, {"--bundle"}, {"--detach=maybe"}}) {
    EXPECT_EQ(Flags::Parse(kSpecs, bad).error().code(), Code::kInvalidArgument) << bad[0];
  }
}

TEST(SignalTest, NamesAndNumbers) {
  EXPECT_EQ(*ParseSignal("9"), SIGKILL);
  EXPECT_EQ(*ParseSignal("KILL"), SIGKILL);
  EXPECT_EQ(*ParseSignal("SIGTERM"), SIGTERM);
  EXPECT_EQ(*ParseSignal("sigusr1"), SIGUSR1);
  EXPECT_EQ(*ParseSignal("SIGRTMIN+3"), SIGRTMIN + 3);
  EXPECT_EQ(*ParseSignal("RTMAX-1"), SIGRTMAX - 1);
  EXPECT_EQ(*ParseSignal("0"), 0);
  for (const char* bad : {"", "SIG", "FOO", "-1", "65", "RTMIN+99", "RTMIN3", "9x"}) EXPECT_FALSE(ParseSignal(bad)) << bad;
}

TEST(BytesTest, Units) {
  EXPECT_EQ(*ParseBytes("1024"), 1024);
  EXPECT_EQ(*ParseBytes("-1"), -1);
  EXPECT_EQ(*ParseBytes("10k"), 10240);
  EXPECT_EQ(*ParseBytes("3MB"), 3 << 20);
  EXPECT_EQ(*ParseBytes("2g"), int64_t{2} << 30);
  for (const char* bad : {"", "k", "-1k", "-2", "1.5g", "9000000000g", "10x"}) EXPECT_FALSE(ParseBytes(bad)) << bad;
}

TEST(UpdateTest, FlagsAndFileTogether) {
  char name[] = "/tmp/crisp-oci-XXXXXX";
  ASSERT_GE(mkstemp(name), 0);
  ASSERT_TRUE(sys::WriteExisting(name, R"({"cpu": {"shares": 5, "quota": 7}, "devices": [{"allow": true}]})"));
  Flags flags = *Flags::Parse(UpdateFlags(), {"-r", name, "--cpu-share", "9", "-m", "1m", "--pids-limit", "-1", "--cpuset-cpus=0-1", "id"});
  EXPECT_EQ(Json::parse(*ResourcesOfFlags(flags)),
            Json::parse(R"({"cpu": {"shares": 9, "quota": 7, "cpus": "0-1"}, "memory": {"limit": 1048576}, "pids": {"limit": -1}})"));
  flags = *Flags::Parse(UpdateFlags(), {"--cpu-quota", "much", "id"});
  EXPECT_EQ(ResourcesOfFlags(flags).error().code(), Code::kInvalidArgument);
  unlink(name);
}

TEST(ExecTest, FlagsChangeTheContainersProcess) {
  const char config[] = R"({"process": {"args": ["init"], "cwd": "/", "env": ["A=1"], "terminal": true,
    "user": {"uid": 5, "gid": 6}, "capabilities": {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]}}})";
  Flags flags = *Flags::Parse(ExecFlags(), {"--user", "7:8", "-g", "9", "--cwd", "/tmp", "-e", "B=2", "--cap", "CAP_CHOWN", "id", "sh", "-c", "x"});
  Json process = Json::parse(*ProcessOfFlags(config, flags));
  EXPECT_EQ(process, Json::parse(R"({"args": ["sh", "-c", "x"], "cwd": "/tmp", "env": ["A=1", "B=2"], "terminal": false,
    "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
    "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "ambient": ["CAP_KILL"]}})"));
  EXPECT_FALSE(ProcessOfFlags(config, *Flags::Parse(ExecFlags(), {"id"}))) << "no command";
  EXPECT_FALSE(ProcessOfFlags(config, *Flags::Parse(ExecFlags(), {"-u", "root", "id", "sh"})));
}

TEST(KernelPathTest, OfBothDrivers) {
  EXPECT_EQ(*KernelPath("", "c1", false), "/crisp-oci/c1");
  EXPECT_EQ(*KernelPath("/a/b/", "c1", false), "/a/b");
  EXPECT_EQ(*KernelPath("a", "c1", false), "/a");
  EXPECT_EQ(*KernelPath("", "c1", true), "/system.slice/crisp-oci-c1.scope");
  EXPECT_EQ(*KernelPath("machine-a.slice:libpod:c1", "x", true), "/machine.slice/machine-a.slice/libpod-c1.scope");
  for (const char* bad : {"/", "/a/../b", "/a//b", "/a:b"}) EXPECT_FALSE(KernelPath(bad, "c1", false)) << bad;
  for (const char* bad : {"/a/b", "a:b", "a.slice:b:../c"}) EXPECT_FALSE(KernelPath(bad, "c1", true)) << bad;
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/crisp-oci-XXXXXX";
    dir_ = mkdtemp(name);
  }
  void TearDown() override { ASSERT_TRUE(sys::RemoveTree(dir_)); }
  Record Own(const std::string& id) {
    Record record;
    record.id = id;
    record.bundle = "/b";
    record.oci_version = "1.0.2";
    record.pid = getpid();
    record.pid_start_ticks = sys::ReadProcessStat(getpid())->start_ticks;
    record.annotations = R"({"a":"b"})";
    return record;
  }
  std::string dir_;
};

TEST_F(StoreTest, RecordsComeBack) {
  Store store(dir_ + "/root");
  EXPECT_THAT(*store.Ids(), IsEmpty());
  sys::UniqueFd lock = *store.Create("c1");
  EXPECT_EQ(store.Create("c1").error().code(), Code::kAlreadyExists);
  EXPECT_THAT(*store.Ids(), IsEmpty()) << "without a record it is none";
  Record record = Own("c1");
  ASSERT_TRUE(store.Save(record));
  EXPECT_EQ(ToJson(*store.Load("c1")), ToJson(record));
  EXPECT_THAT(*store.Ids(), ElementsAre("c1"));
  ASSERT_TRUE(store.Remove("c1"));
  EXPECT_EQ(store.Load("c1").error().code(), Code::kNotFound);
  EXPECT_EQ(store.Lock("c1").error().code(), Code::kNotFound);
}

TEST_F(StoreTest, StatusIsWhatTheKernelSays) {
  Store store(dir_);
  sys::UniqueFd lock = *store.Create("c1");
  Record record = Own("c1");
  EXPECT_EQ(store.StatusOf(record), "running");
  ASSERT_EQ(mkfifo(store.File("c1", "start").c_str(), 0600), 0);
  EXPECT_EQ(store.StatusOf(record), "created");
  // The number has been given to another process since.
  ++record.pid_start_ticks;
  EXPECT_EQ(store.StatusOf(record), "stopped");
  EXPECT_EQ(OpenProcess(record).error().code(), Code::kNotFound);
  record.pid = 0;
  EXPECT_EQ(store.StatusOf(record), "creating") << "somebody holds the lock";
  lock.Reset();
  EXPECT_EQ(store.StatusOf(record), "stopped") << "who created it is gone";
}

TEST_F(StoreTest, RecordsThatAreNone) {
  Store store(dir_);
  sys::UniqueFd lock = *store.Create("c1");
  for (const char* text : {"", "[]", "{}", R"({"format": 2})", R"({"format": 1, "id": "other"})", R"({"format": 1, "id": "c1", "pid": 1})",
                           R"({"format": 1, "id": "c1", "pid": -5})", R"({"format": 1, "id": "c1", "pid": "7"})"}) {
    ASSERT_TRUE(sys::WriteFileAtomic(store.File("c1", "state.json"), text, 0600, sys::Durability::kNone));
    EXPECT_FALSE(store.Load("c1")) << text;
  }
}

TEST(IdTest, OnePartOfAPath) {
  for (const char* good : {"a", "a.b-c_d+9", "0123456789abcdef"}) EXPECT_TRUE(CheckId(good)) << good;
  for (const char* bad : {"", ".", "..", "a/b", "a b", "../x", "a\n"}) EXPECT_FALSE(CheckId(bad)) << bad;
  EXPECT_FALSE(CheckId(std::string(256, 'a')));
}

TEST(CriuTest, CommandLines) {
  std::vector<FlagSpec> specs;
  for (const Command& command : CheckpointCommands()) specs.insert(specs.end(), command.flags.begin(), command.flags.end());
  native::Mount bound, proc;
  bound.target = "/data";
  bound.source = "/srv/data";
  proc.kind = native::Mount::kFilesystem;
  proc.target = "/proc";
  Flags flags = *Flags::Parse(specs, {"--leave-running", "--tcp-established", "--manage-cgroups-mode", "strict", "--empty-ns", "network", "c1"});
  native::DumpPlan dump{.pid = 7, .rootfs = "/r", .freezer_dir = "/f", .mounts = {bound, proc}, .masked_files = {"/proc/kcore"}, .net_namespace_inode = "99"};
  EXPECT_THAT(CriuDumpArgs(flags, dump, {"/i", "/w"}),
              ElementsAre("dump", "--images-dir", "/i", "--work-dir", "/w", "-v4", "--tree", "7", "--log-file", "dump.log", "--root", "/r",
                          "--freeze-cgroup", "/f", "--external", "net[99]:extRootNetNS", "--external", "mnt[/data]:/data", "--external",
                          "mnt[/proc/kcore]:/proc/kcore", "--tcp-established", "--manage-cgroups=strict", "--empty-ns", "network",
                          "--leave-running"));
  flags = *Flags::Parse(specs, {"c1"});
  native::RestorePlan restore{.root = "/m", .pid_file = "/p", .mounts = {bound, proc}, .masked_files = {"/proc/kcore"},
                              .cgroup_roots = {"cpu,cpuacct:/x"}, .pipes = {"", "pipe:[5]"}, .net_namespace_fd = 3};
  EXPECT_THAT(CriuRestoreArgs(flags, restore, {"/i", "/w"}),
              ElementsAre("restore", "--images-dir", "/i", "--work-dir", "/w", "-v4", "--restore-detached", "--restore-sibling", "--log-file",
                          "restore.log", "--root", "/m", "--pidfile", "/p", "--cgroup-root", "cpu,cpuacct:/x", "--inherit-fd",
                          "fd[1]:pipe:[5]", "--inherit-fd", "fd[3]:extRootNetNS", "--external", "mnt[/data]:/srv/data", "--external",
                          "mnt[/proc/kcore]:/dev/null", "--manage-cgroups=soft"));
}

TEST(FeaturesTest, AreJsonOfTheSpec) {
  Json features = Json::parse(FeaturesJson());
  EXPECT_EQ(features["ociVersionMin"], "1.0.0");
  EXPECT_THAT(features["mountOptions"], ::testing::Contains("rro"));
  EXPECT_THAT(features["linux"]["namespaces"], ::testing::Contains("time"));
  EXPECT_THAT(features["linux"]["capabilities"], ::testing::Contains("CAP_NET_ADMIN"));
  EXPECT_TRUE(Json::parse(SpecJson())["process"]["noNewPrivileges"].get<bool>());
}

}  // namespace
}  // namespace crisp::ocicli
