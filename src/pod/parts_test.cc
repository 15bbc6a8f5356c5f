// The pure parts: states, records, checks of requests; and who waits for whom.
#include <gmock/gmock.h>

#include <future>

#include "base/json.h"
#include "base/strings.h"
#include "pod/config_json.h"
#include "pod/flight.h"
#include "pod/host_paths.h"
#include "pod/op_lock.h"
#include "pod/paths.h"
#include "pod/record.h"
#include "pod/start_ahead.h"
#include "pod/state_machine.h"
#include "pod/validate.h"
#include "sys/file.h"

namespace crisp::pod {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

TEST(StartAhead, IsDoneOnceByWhoComesFirst) {
  int runs = 0;
  auto work = [&] { return runtime::PreparedStart{.launch = StrCat("launch ", ++runs), .begun = true}; };
  StartAhead ahead(work);
  ahead.Run();
  ahead.Run();
  EXPECT_EQ(ahead.Take().launch, "launch 1");
  EXPECT_EQ(ahead.Take().launch, "") << "it is taken";
  EXPECT_FALSE(ahead.Drop().begun) << "by the start, which ends what has begun";
  StartAhead lazy(work);
  EXPECT_EQ(lazy.Take().launch, "launch 2") << "nobody had begun";
  EXPECT_EQ(runs, 2);
}

TEST(StartAhead, WhatWasDroppedIsNotBegunAndWhatHasBegunIsWaitedFor) {
  int runs = 0;
  StartAhead never([&] { return runtime::PreparedStart{.launch = StrCat(++runs), .begun = true}; });
  EXPECT_FALSE(never.Drop().begun);
  never.Run();
  EXPECT_EQ(never.Take().launch, "");
  EXPECT_EQ(runs, 0);

  std::promise<void> begun, go_on;
  StartAhead slow([&] {
    begun.set_value();
    go_on.get_future().wait();
    return runtime::PreparedStart{.launch = "launch", .begun = true};
  });
  auto running = std::async(std::launch::async, [&] { slow.Run(); });
  begun.get_future().wait();
  auto dropping = std::async(std::launch::async, [&] { return slow.Drop().begun; });
  go_on.set_value();
  EXPECT_TRUE(dropping.get());
  EXPECT_EQ(slow.Take().launch, "");
}

ContainerRecord InLife(Life life) {
  ContainerRecord r;
  r.id = *ContainerId::Parse(std::string(64, 'c'));
  r.made = life != Life::kMaking;
  if (life >= Life::kStarting) r.start_asked_at = 1;
  if (life >= Life::kRunning) r.started_at = 2;
  if (life >= Life::kExited) r.finished_at = 3;
  r.removing = life == Life::kRemoving;
  return r;
}

TEST(StateMachine, EveryVerbInEveryState) {
  struct Row {
    Life life;
    std::string allowed;  // start, Stop, remove, exec, update, log
    ContainerState shown;
  };
  for (const Row& row : {Row{Life::kMaking, "------", ContainerState::kCreated},
                         Row{Life::kCreated, "sSr-u-", ContainerState::kCreated},
                         Row{Life::kStarting, "-Sr---", ContainerState::kCreated},
                         Row{Life::kRunning, "-Sreul", ContainerState::kRunning},
                         Row{Life::kExited, "-Sr---", ContainerState::kExited},
                         Row{Life::kRemoving, "-Sr---", ContainerState::kExited}}) {
    ContainerRecord record = InLife(row.life);
    EXPECT_EQ(LifeOf(record), row.life);
    EXPECT_EQ(ShownState(record), row.shown) << LifeName(row.life);
    EXPECT_EQ(IsListed(record), row.life != Life::kMaking);
    std::string allowed;
    for (auto [verb, letter] : {std::pair{Verb::kStart, 's'}, {Verb::kStop, 'S'}, {Verb::kRemove, 'r'}, {Verb::kExec, 'e'},
                                {Verb::kUpdate, 'u'}, {Verb::kReopenLog, 'l'}}) {
      Result<> done = CheckAllowed(verb, record);
      allowed.push_back(done ? letter : '-');
      if (done) continue;
      EXPECT_EQ(done.error().code(), row.life == Life::kMaking ? Code::kNotFound : Code::kFailedPrecondition);
    }
    EXPECT_EQ(allowed, row.allowed) << LifeName(row.life);
  }
}

TEST(StateMachine, ExitBeforeTheStartIsRecordedIsAnExit) {
  ContainerRecord record = InLife(Life::kStarting);
  record.finished_at = 5;
  EXPECT_EQ(LifeOf(record), Life::kExited);
}

TEST(StateMachine, PodsAreReadyInOnePhaseOnly) {
  for (PodPhase phase : {PodPhase::kMaking, PodPhase::kReady, PodPhase::kDown, PodPhase::kStopped, PodPhase::kRemoving}) {
    PodRecord record;
    record.phase = phase;
    EXPECT_EQ(ShownState(record) == SandboxState::kReady, phase == PodPhase::kReady);
    EXPECT_FALSE(IsListed(record));
  }
}

// ---- records ----

SandboxConfig FullSandbox() {
  SandboxConfig c;
  c.metadata = {"web", "uid-1", "default", 3};
  c.hostname = "host";
  c.log_directory = "/var/log/pods/x";
  c.dns_servers = {"10.0.0.10"};
  c.dns_searches = {"svc.local"};
  c.dns_options = {"ndots:5"};
  c.has_dns = true;
  c.port_mappings = {{Protocol::kUdp, 53, 5353, "127.0.0.1"}};
  c.labels = {{"a", "1"}, {"b", ""}};
  c.annotations = {{"k", "v"}};
  c.cgroup_parent = "/kubepods/pod1";
  c.security.namespaces.network = NamespaceMode::kNode;
  c.security.namespaces.userns_pod = true;
  c.security.namespaces.uids = {{100000, 0, 65536}};
  c.security.selinux.level = "s0:c1,c2";
  c.security.run_as_user = 0;
  c.security.supplemental_groups = {1, 2};
  c.security.groups_policy = GroupsPolicy::kStrict;
  c.security.privileged = true;
  c.security.seccomp = SecurityProfile{};
  c.sysctls = {{"net.core.somaxconn", "1024"}};
  c.overhead.cpu_shares = 2;
  c.resources.memory_limit_bytes = int64_t{1} << 40;
  c.runtime_handler = "runc";
  return c;
}

ContainerConfig FullContainer() {
  ContainerConfig c;
  c.metadata = {"main", 7};
  c.image = "sha256:" + std::string(64, 'a');
  c.user_specified_image = "busybox:1";
  c.image_annotations = {{"i", "a"}};
  c.command = {"/bin/sh"};
  c.args = {"-c", "true"};
  c.working_dir = "/w";
  c.envs = {{"PLAIN", "x"}, {"BYTES", "\xff\xfe"}, {"EMPTY", ""}};
  c.mounts = {{.container_path = "/c", .host_path = "/h", .readonly = true, .propagation = Propagation::kBidirectional}};
  c.mounts.push_back({.container_path = "/i", .image = "vol:1", .mount_options = {"noexec"}});
  c.devices = {{"/dev/fuse", "/dev/fuse", "rwm"}};
  c.cdi_devices = {"vendor.com/device=0"};
  c.labels = {{"l", "1"}};
  c.annotations = {{"k", "v"}};
  c.log_path = "main/0.log";
  c.stdin_open = c.stdin_once = c.tty = true;
  c.resources.cpu_quota = -1;
  c.resources.hugepages = {{"2MB", ~uint64_t{0}}};
  c.resources.unified = {{"memory.high", "1"}};
  c.security.capabilities.add = {"NET_ADMIN"};
  c.security.run_as_group = 5;
  c.security.run_as_username = "nobody";
  c.security.masked_paths = {"/proc/kcore"};
  c.security.seccomp = SecurityProfile{ProfileType::kLocalhost, "/p.json"};
  c.security.apparmor_profile = "runtime/default";
  c.stop_signal = 10;
  return c;
}

TEST(Record, PodComesBackAsItWas) {
  PodRecord record;
  record.id = *PodId::Parse(std::string(64, 'b'));
  record.config = FullSandbox();
  record.phase = PodPhase::kDown;
  record.made = true;
  record.created_at = 1234567890123456789;
  record.ips = {"10.0.0.1", "fd00::1"};
  record.namespaces = {.shim_pid = 9, .net = "/n", .pid = "/p"};
  record.shm_bytes = 64 << 20;
  record.files_bytes = 1 << 20;
  std::string text = EncodeRecord(record);
  Result<PodRecord> back = DecodePod(record.id.str(), kRecordVersion, text);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(EncodeRecord(*back), text);
  EXPECT_EQ(back->created_at, record.created_at);
  EXPECT_EQ(back->config.security.run_as_user, 0) << "zero is not absent";
  EXPECT_TRUE(back->config.security.seccomp.has_value());
  EXPECT_EQ(back->config.metadata, record.config.metadata);
  EXPECT_EQ(back->namespaces.shim_pid, 9);
}

TEST(Record, ContainerComesBackAsItWas) {
  ContainerRecord record = InLife(Life::kExited);
  record.pod = *PodId::Parse(std::string(64, 'b'));
  record.config = FullContainer();
  record.user = ContainerUser{1000, 100, {100, 7}};
  record.exit_code = 137;
  record.reason = "OOMKilled";
  std::string text = EncodeRecord(record);
  Result<ContainerRecord> back = DecodeContainer(record.id.str(), kRecordVersion, text);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(EncodeRecord(*back), text);
  EXPECT_EQ(back->config.envs[1].value, "\xff\xfe") << "values of variables are bytes";
  EXPECT_EQ(back->config.resources.hugepages[0].limit, ~uint64_t{0});
  EXPECT_EQ(back->user->supplemental_groups, record.user->supplemental_groups);
  EXPECT_EQ(back->pod, record.pod);
}

// What version 1 looks like on disk: a change here is a change of the format.
TEST(Record, GoldenFiles) {
  for (auto [file, text] : {std::pair{"sandbox-config-v1.json", CanonicalText(FullSandbox())},
                            {"container-config-v1.json", CanonicalText(FullContainer())}}) {
    std::string path = StrCat(CRISP_SOURCE_DIR, "/tests/data/pod/", file);
    EXPECT_EQ(*ParseJson(text, "text"), *ParseJson(sys::ReadFile(path).value_or("{}"), path)) << text;
  }
}

TEST(Record, RefusesWhatContradictsTheFormat) {
  std::string id(64, 'b');
  for (const char* bad : {"", "[]", "{", "7", R"({"phase":5})", R"({"phase":-1})", R"({"phase":"ready"})", R"({"made":1})",
                          R"({"config":[]})", R"({"config":{"labels":{"a":"b"}}})", R"({"config":{"labels":[["a"]]}})",
                          R"({"config":{"metadata":{"attempt":4294967296}}})", R"({"config":{"hostname":{"hex":"zz"}}})",
                          R"({"config":{"hostname":{"hex":"f"}}})", R"({"ips":"10.0.0.1"})", R"({"ips":[1]})"}) {
    EXPECT_FALSE(DecodePod(id, kRecordVersion, bad)) << bad;
  }
  EXPECT_TRUE(DecodePod(id, kRecordVersion, R"({"from a later version":[1,2]})"));
  EXPECT_FALSE(DecodePod("x", kRecordVersion, "{}"));
  EXPECT_FALSE(DecodePod(id, 2, "{}"));
  EXPECT_FALSE(DecodeContainer(id, kRecordVersion, "{}")) << "without a pod";
  Result<PodRecord> deep = DecodePod(id, kRecordVersion, R"({"config":{"security":{"namespaces":{"uids":[{"length":"x"}]}}}})");
  EXPECT_THAT(deep.error().message(), HasSubstr("config.security.namespaces.uids.length"));
}

TEST(Config, EqualTextsMeanEqualRequests) {
  SandboxConfig a = FullSandbox(), b = FullSandbox();
  EXPECT_EQ(CanonicalText(a), CanonicalText(b));
  b.security.run_as_user.reset();
  EXPECT_NE(CanonicalText(a), CanonicalText(b));
}

// ---- checks ----

TEST(Validate, LogPath) {
  SandboxConfig sandbox;
  ContainerConfig container;
  sandbox.log_directory = "/var/log/pods/x";
  container.log_path = "main/0.log";
  EXPECT_EQ(*LogPath(sandbox, container), "/var/log/pods/x/main/0.log");
  container.log_path = "..dots..log";
  EXPECT_TRUE(LogPath(sandbox, container)) << "dots alone lead nowhere";
  container.log_path = "";
  EXPECT_EQ(*LogPath(sandbox, container), "");
  container.log_path = "x";
  sandbox.log_directory = "";
  EXPECT_EQ(*LogPath(sandbox, container), "");
}

// ---- waiting ----

TEST(OpLock, SharedTogetherExclusiveAlone) {
  OpLock lock;
  Ctx soon = Ctx().WithTimeout(20ms);
  auto a = lock.Shared(Ctx(), "CreateContainer"), b = lock.Shared(soon, "StartContainer");
  ASSERT_TRUE(a && b);
  Result<OpLock::Hold> refused = lock.Exclusive(soon, "StopPodSandbox");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kDeadlineExceeded);
  EXPECT_THAT(refused.error().message(), HasSubstr("StopPodSandbox waits for StartContainer"));
  a->Release();
  b->Release();
  auto alone = lock.Exclusive(Ctx(), "StopPodSandbox");
  ASSERT_TRUE(alone);
  EXPECT_FALSE(lock.Shared(Ctx().WithTimeout(20ms), "StartContainer"));
}

TEST(OpLock, WaitingWriterGoesBeforeNewReaders) {
  OpLock lock;
  auto reader = lock.Shared(Ctx(), "a");
  auto writer = std::async(std::launch::async, [&] { return lock.Exclusive(Ctx(), "stop"); });
  // Once the writer waits, new readers don't get in.
  while (lock.Shared(Ctx().WithTimeout(0ms), "probe").has_value()) std::this_thread::yield();
  reader->Release();
  EXPECT_TRUE(writer.get());
}

TEST(OpLock, GivenUpWriterLetsReadersGoOn) {
  OpLock lock;
  auto reader = lock.Shared(Ctx(), "a");
  auto writer = std::async(std::launch::async, [&] { return lock.Exclusive(Ctx().WithTimeout(50ms), "stop").has_value(); });
  while (lock.Shared(Ctx().WithTimeout(0ms), "probe").has_value()) std::this_thread::yield();
  EXPECT_TRUE(lock.Shared(Ctx().WithTimeout(10s), "b"));
  EXPECT_FALSE(writer.get());
}

TEST(Flight, EveryWaiterGetsTheResult) {
  Flight<int> flight;
  EXPECT_EQ(flight.Wait(Ctx().WithTimeout(0ms), "it").error().code(), Code::kDeadlineExceeded);
  auto waiter = std::async(std::launch::async, [&] { return flight.Wait(Ctx(), "it"); });
  flight.Land(Error(Code::kNotFound, "gone"));
  EXPECT_EQ(waiter.get().error().code(), Code::kNotFound);
  EXPECT_EQ(flight.Wait(Ctx(), "it").error().code(), Code::kNotFound);
}

// ---- host paths ----

class HostPaths : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/host-paths-XXXXXX";
    dir_ = mkdtemp(name);
  }
  void TearDown() override { EXPECT_TRUE(sys::RemoveTree(dir_)); }
  std::string dir_;
};

TEST_F(HostPaths, SymlinksAreResolvedOnceAndMissingDirectoriesMade) {
  ASSERT_TRUE(sys::MakeDirs(dir_ + "/real", 0755));
  ASSERT_EQ(symlink((dir_ + "/real").c_str(), (dir_ + "/link").c_str()), 0);
  MountStaging none;
  none.mounts.resize(4);
  auto sources =
      FindMountSources({{.container_path = "/a", .host_path = dir_ + "/link"},
                        {.container_path = "/b", .host_path = dir_ + "/new/deep"},
                        {.container_path = "/c", .host_path = "/", .propagation = Propagation::kHostToContainer},
                        {.container_path = "/i", .image = "vol"}},
                       none);
  ASSERT_TRUE(sources) << sources.error().message();
  EXPECT_EQ((*sources)[0].path, dir_ + "/real");
  EXPECT_EQ((*sources)[1].path, dir_ + "/new/deep");
  EXPECT_TRUE(sys::Exists(dir_ + "/new/deep"));
  EXPECT_EQ((*sources)[2].mount_point, "/");
  EXPECT_EQ((*sources)[3].path, "");
}

TEST_F(HostPaths, DanglingSymlinkIsAnErrorNotADirectoryElsewhere) {
  ASSERT_EQ(symlink((dir_ + "/nowhere").c_str(), (dir_ + "/link").c_str()), 0);
  MountStaging none;
  none.mounts.resize(1);
  EXPECT_FALSE(FindMountSources({{.container_path = "/a", .host_path = dir_ + "/link"}}, none));
  EXPECT_FALSE(sys::Exists(dir_ + "/nowhere"));
}

TEST_F(HostPaths, Devices) {
  auto nodes = FindDeviceNodes({{"/dev/mine", "/dev/null", "r"}});
  ASSERT_TRUE(nodes) << nodes.error().message();
  ASSERT_EQ(nodes->size(), 1u);
  EXPECT_EQ((*nodes)[0].container_path, "/dev/mine");
  EXPECT_EQ((*nodes)[0].major, 1u);
  EXPECT_EQ((*nodes)[0].minor, 3u);
  EXPECT_EQ((*nodes)[0].permissions, "r");
  EXPECT_FALSE(FindDeviceNodes({{"/dev/x", "/etc/passwd", ""}}));
  EXPECT_FALSE(FindDeviceNodes({{"/dev/x", dir_ + "/missing", ""}}));
  auto all = FindAllDevices({"/dev/null"});
  ASSERT_TRUE(all);
  for (const auto& node : *all) EXPECT_NE(node.container_path, "/dev/null");
}

}  // namespace
}  // namespace crisp::pod
