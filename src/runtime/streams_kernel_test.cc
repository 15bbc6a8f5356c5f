// Execs with streams and attached clients, with the real runc and crun.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "base/strings.h"
#include "base/synchronized.h"
#include "runtime/runtime.h"
#include "runtime/testing.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::runtime {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kLong{30};
constexpr StreamWants kAll{.tty = false, .in = true, .out = true, .err = true};
constexpr StreamWants kInOut{.tty = false, .in = true, .out = true, .err = false};
constexpr StreamWants kOut{.tty = false, .in = false, .out = true, .err = false};
constexpr StreamWants kTerminal{.tty = true, .in = true, .out = true, .err = false};

// The front's part in small: a session with somebody who reads and writes.
class Client {
 public:
  explicit Client(Result<std::unique_ptr<StreamSession>> opened) {
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().message());
    if (!opened) return;
    session = *std::move(opened);
    fds = session->TakeFds();
    session->OnExit([end = end_](Result<int> result) { end->set_value(std::move(result)); });
  }
  // Reads `fd` until `text` has come, or to its end where text is empty.
  std::string Read(sys::UniqueFd& fd, std::string_view text = "") {
    std::string all;
    Clock::time_point until = Clock::now() + kLong;
    while (text.empty() || all.find(text) == std::string::npos) {
      pollfd event{fd.get(), POLLIN, 0};
      if (Clock::now() > until || poll(&event, 1, 1000) < 0) return all + "<timeout>";
      char buffer[65536];
      ssize_t n = read(fd.get(), buffer, sizeof buffer);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (n <= 0) return all;  // a terminal's end is EIO
      all.append(buffer, static_cast<size_t>(n));
    }
    return all;
  }
  std::string ReadOut(std::string_view text = "") { return Read(fds.out, text); }
  bool Write(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = write(fds.in.get(), bytes.data(), bytes.size());
      if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
      if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
      pollfd event{fds.in.get(), POLLOUT, 0};
      if (poll(&event, 1, 30'000) <= 0) return false;
    }
    return true;
  }
  Result<int> Exit() {
    if (told_.wait_for(kLong) != std::future_status::ready)
      return Error(Code::kDeadlineExceeded, "nobody tells of the end");
    return told_.get();
  }
  bool ended() const { return told_.wait_for(milliseconds(0)) == std::future_status::ready; }

  std::unique_ptr<StreamSession> session;
  StreamFds fds;

 private:
  std::shared_ptr<std::promise<Result<int>>> end_ = std::make_shared<std::promise<Result<int>>>();
  std::shared_future<Result<int>> told_ = end_->get_future().share();
};

class StreamsKernelTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    runtime_ = MakeRuntime();
    PodSpec spec;
    spec.pod = pod_;
    spec.run_dir = RunDir();
    ASSERT_TRUE(sys::MakeDir(spec.run_dir, 0700));
    Result<PodNamespaces> namespaces = runtime_->StartPod(Ctx(), spec);
    ASSERT_TRUE(namespaces) << namespaces.error().message();
    shim_ = namespaces->shim_pid;
  }
  void TearDown() override {
    EXPECT_TRUE(runtime_->StopPod(Ctx(), pod_, RunDir()));
    for (const ContainerId& id : containers_) EXPECT_TRUE(runtime_->DeleteContainer(Ctx(), pod_, id, handler(), ""));
  }

  std::unique_ptr<Runtime> MakeRuntime() {
    Runtime::Options options;
    options.shim_binary = CRISP_SHIM_BINARY;
    options.handlers = {{.name = "runc", .type = "oci", .binary = "runc", .root_dir = ground_.dir() + "/state/runc"},
                        {.name = "crun", .type = "oci", .binary = "crun", .root_dir = ground_.dir() + "/state/crun"}};
    return Runtime::Make(options).value();
  }
  std::string handler() const { return GetParam(); }
  std::string RunDir() const { return ground_.dir() + "/pods/" + pod_.str(); }

  ContainerId MustStart(const std::vector<std::string>& command,
                        const std::function<void(ContainerSpec&)>& adjust = nullptr) {
    ContainerSpec spec;
    spec.id = ContainerId::Random();
    spec.handler = handler();
    if (adjust) adjust(spec);
    spec.bundle_dir =
        ground_.MakeBundle(spec.id, command, [&](Json& config) { config["process"]["terminal"] = spec.terminal; });
    spec.log_path = LogPath(spec.id);
    containers_.push_back(spec.id);
    Result<Started> started = runtime_->StartContainer(Ctx(), pod_, spec);
    EXPECT_TRUE(started) << started.error().message();
    return spec.id;
  }
  ContainerId MustStartWithStdin(const std::vector<std::string>& command, bool once = false) {
    return MustStart(command, [&](ContainerSpec& spec) {
      spec.stdin_open = true;
      spec.stdin_once = once;
    });
  }
  std::string LogPath(const ContainerId& id) const { return ground_.dir() + "/" + id.str() + ".log"; }
  std::string Log(const ContainerId& id) {
    std::string joined;
    std::ifstream file(LogPath(id));
    for (std::string line; std::getline(file, line);) {
      std::vector<std::string_view> words = Split(line, ' ');
      if (words.size() < 4) continue;
      joined += line.substr(words[0].size() + words[1].size() + words[2].size() + 3);
      if (words[2] == "F") joined += '\n';
    }
    return joined;
  }

  Result<std::unique_ptr<StreamSession>> OpenExec(const ContainerId& id, const std::vector<std::string>& command,
                                                  const StreamWants& wants = kAll) {
    ExecSpec spec;
    spec.cmd = command;
    spec.terminal = wants.tty;
    Json process = testing::Process(command);
    process["terminal"] = wants.tty;
    spec.process_json = [text = DumpJson(process)] { return Result<std::string>(text); };
    return runtime_->OpenExec(Ctx(), pod_, id, handler(), spec, wants);
  }
  Result<std::unique_ptr<StreamSession>> OpenAttach(const ContainerId& id, const StreamWants& wants = kAll) {
    return runtime_->OpenAttach(Ctx(), pod_, id, wants);
  }
  void Kill(const ContainerId& id) { EXPECT_TRUE(runtime_->Signal(Ctx(), pod_, id, SIGKILL)); }
  // A line that comes back tells that all that was sent before has been worked off.
  size_t FdsOfShim() {
    EXPECT_TRUE(runtime_->Signal(Ctx(), pod_, ContainerId::Random(), 1));
    return testing::CountFds(shim_);
  }
  // The container's processes, those in cgroups of execs included.
  size_t CountProcesses(const ContainerId& id) {
    size_t count = 0;
    std::vector<std::string> dirs{ground_.CgroupDir("pids", id)};
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(dirs.front(), ignored)) {
      if (entry.is_directory()) dirs.push_back(entry.path());
    }
    for (const std::string& dir : dirs) {
      if (Result<std::string> text = sys::ReadFile(dir + "/cgroup.procs")) count += SplitWords(*text).size();
    }
    return count;
  }
  size_t WaitForProcesses(const ContainerId& id, size_t wanted) {
    for (int i = 0; i < 1000 && CountProcesses(id) != wanted; ++i) poll(nullptr, 0, 10);
    return CountProcesses(id);
  }

  testing::Playground ground_;
  std::unique_ptr<Runtime> runtime_;
  const PodId pod_ = PodId::Random();
  pid_t shim_ = 0;
  std::vector<ContainerId> containers_;
};

INSTANTIATE_TEST_SUITE_P(Handlers, StreamsKernelTest, ::testing::Values("runc", "crun"),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST_P(StreamsKernelTest, ExecHasThreeStreamsAndAnExitCode) {
  ContainerId id = MustStart({"sleep", "1000"});
  Client client(OpenExec(id, {"sh", "-c", "cat; echo err >&2; exit 3"}));
  ASSERT_TRUE(client.session);
  EXPECT_FALSE(client.session->Resize(80, 24)) << "no terminal";
  ASSERT_TRUE(client.Write("half\n"));
  EXPECT_EQ(client.ReadOut("half\n"), "half\n");
  EXPECT_FALSE(client.ended());
  client.fds.in.Reset();
  EXPECT_EQ(client.ReadOut(), "");
  EXPECT_EQ(client.Read(client.fds.err), "err\n");
  Result<int> exit = client.Exit();
  ASSERT_TRUE(exit) << exit.error().message();
  EXPECT_EQ(*exit, 3);
  client.session.reset();
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(RunDir() + "/tmp"), {}), 0);
  Result<std::unique_ptr<StreamSession>> missing = OpenExec(id, {"/no/such/program"});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message().find("/no/such/program"), std::string::npos) << missing.error().message();
  Result<std::unique_ptr<StreamSession>> unknown = OpenExec(ContainerId::Random(), {"true"});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), Code::kFailedPrecondition);
}

TEST_P(StreamsKernelTest, SixtyFourMebibytesOfStdinArriveWhole) {
  ContainerId id = MustStart({"sleep", "1000"});
  Client client(OpenExec(id, {"sha256sum"}, kInOut));
  ASSERT_TRUE(client.session);
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(client.Write(block));
  client.fds.in.Reset();
  // head -c 67108864 /dev/zero | tr '\0' x | sha256sum
  EXPECT_EQ(client.ReadOut(), "e20a69eca39368572e90b9135738a613838f954987a0b44b6220889c171cbb76  -\n");
  EXPECT_EQ(*client.Exit(), 0);
}

TEST_P(StreamsKernelTest, TerminalOfAnExec) {
  ContainerId id = MustStart({"sleep", "1000"});
  Client client(OpenExec(id, {"sh", "-c", "while read line; do stty size; done; exit 5"}, kTerminal));
  ASSERT_TRUE(client.session);
  EXPECT_FALSE(client.fds.err.ok());
  for (int i = 1; i <= 20; ++i) {
    ASSERT_TRUE(client.session->Resize(static_cast<uint16_t>(100 + i), static_cast<uint16_t>(40 + i)));
    ASSERT_TRUE(client.Write("\n"));
    std::string size = StrCat(40 + i, " ", 100 + i);
    EXPECT_NE(client.ReadOut(size).find(size), std::string::npos);
  }
  ASSERT_TRUE(client.Write("\x04"));
  client.ReadOut();
  EXPECT_EQ(*client.Exit(), 5);
}

TEST_P(StreamsKernelTest, AnExecThatIsDroppedLeavesNoProcess) {
  ContainerId id = MustStart({"sleep", "1000"});
  for (const StreamWants& wants : {kAll, kTerminal}) {
    Client client(
        OpenExec(id, {"sh", "-c", "setsid sleep 1000 & (setsid sleep 1000 &) ; echo up; sleep 1000; true"}, wants));
    ASSERT_TRUE(client.session);
    client.ReadOut("up");
    EXPECT_EQ(WaitForProcesses(id, 5), 5u);
    client.session.reset();
    EXPECT_EQ(WaitForProcesses(id, 1), 1u);
  }
}

// What an exec leaves behind may hold its pipes for ever: the exit is told all the same.
TEST_P(StreamsKernelTest, AnExecsExitDoesNotWaitForItsGrandchildren) {
  ContainerId id = MustStart({"sleep", "1000"});
  Client client(OpenExec(id, {"sh", "-c", "sleep 1000 & echo said"}));
  ASSERT_TRUE(client.session);
  EXPECT_EQ(*client.Exit(), 0);
  EXPECT_EQ(client.ReadOut("\n"), "said\n");
  char byte;
  EXPECT_EQ(read(client.fds.out.get(), &byte, 1), -1) << "open, and empty";
  client.session.reset();
  EXPECT_EQ(WaitForProcesses(id, 2), 2u) << "it ended by itself: what it left may stay";
}

TEST_P(StreamsKernelTest, ClientsShareAContainersStreams) {
  ContainerId id = MustStartWithStdin({"sh", "-c", "while read line; do echo $line; echo $line >&2; done"});
  Client one(OpenAttach(id)), two(OpenAttach(id));
  ASSERT_TRUE(one.session && two.session);
  ASSERT_TRUE(one.Write("first\n"));
  for (Client* client : {&one, &two}) {
    EXPECT_EQ(client->ReadOut("\n"), "first\n");
    EXPECT_EQ(client->Read(client->fds.err, "\n"), "first\n");
  }
  one.fds.in.Reset();  // the container keeps its stdin
  ASSERT_TRUE(two.Write("second\n"));
  EXPECT_EQ(one.ReadOut("\n"), "second\n");
  EXPECT_EQ(two.ReadOut("\n"), "second\n");
  one.session.reset();
  ASSERT_TRUE(two.Write("third\n"));
  EXPECT_EQ(two.ReadOut("\n"), "third\n");
  EXPECT_EQ(two.Read(two.fds.err, "third\n"), "second\nthird\n");
  EXPECT_EQ(one.ReadOut(), "") << "detached";
  EXPECT_FALSE(two.ended());
  Kill(id);
  EXPECT_EQ(*two.Exit(), 137);
  EXPECT_EQ(two.ReadOut(), "");
  EXPECT_EQ(Log(id), "first\nfirst\nsecond\nsecond\nthird\nthird\n");
  EXPECT_FALSE(OpenAttach(id)) << "not running";
}

TEST_P(StreamsKernelTest, StdinOnceEndsWithTheFirstClient) {
  ContainerId id = MustStartWithStdin({"sh", "-c", "cat; echo the end"}, true);
  Client client(OpenAttach(id));
  ASSERT_TRUE(client.session);
  const std::string block(1 << 20, 'x');
  ASSERT_TRUE(client.Write("begin\n"));
  EXPECT_EQ(client.ReadOut("\n"), "begin\n");
  std::future<std::string> rest = std::async(std::launch::async, [&] { return client.ReadOut(); });
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(client.Write(block));
  client.fds.in.Reset();
  std::string all = rest.get();
  EXPECT_EQ(all.size(), block.size() * 8 + 8);
  EXPECT_TRUE(all.ends_with("xthe end\n"));
  EXPECT_EQ(*client.Exit(), 0);
}

// The one who does not read is dropped; container, log and the other client do not suffer.
TEST_P(StreamsKernelTest, AClientThatDoesNotReadStopsNobody) {
  constexpr int kLines = 1'500'000;  // 10 MB
  ContainerId id = MustStartWithStdin({"sh", "-c", StrCat("read go; seq 1 ", kLines)});
  Client good(OpenAttach(id)), bad(OpenAttach(id, kOut));
  ASSERT_TRUE(good.session && bad.session);
  ASSERT_TRUE(good.Write("go\n"));
  std::string seen = good.ReadOut();
  std::string expected;
  for (int i = 1; i <= kLines; ++i) expected += StrCat(i, "\n");
  EXPECT_TRUE(seen == expected) << seen.size() << " of " << expected.size();
  EXPECT_EQ(*good.Exit(), 0);
  EXPECT_TRUE(Log(id) == expected);
  Result<int> dropped = bad.Exit();
  ASSERT_FALSE(dropped);
  EXPECT_EQ(dropped.error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(expected.starts_with(bad.ReadOut())) << "what it got is a beginning";
}

TEST_P(StreamsKernelTest, TerminalOfAContainer) {
  ContainerId id = MustStart({"sh"}, [](ContainerSpec& spec) { spec.terminal = spec.stdin_open = true; });
  Client one(OpenAttach(id, kTerminal)), two(OpenAttach(id, kTerminal));
  ASSERT_TRUE(one.session && two.session);
  EXPECT_FALSE(one.fds.err.ok());
  ASSERT_TRUE(one.session->Resize(132, 43));
  ASSERT_TRUE(one.Write("stty size\n"));
  EXPECT_NE(two.ReadOut("43 132").find("43 132"), std::string::npos);
  one.session.reset();
  ASSERT_TRUE(two.Write("exit 6\n"));
  EXPECT_EQ(*two.Exit(), 6);
  EXPECT_NE(Log(id).find("43 132\r\n"), std::string::npos) << "raw, in records";
}

TEST_P(StreamsKernelTest, AttachAfterARestart) {
  ContainerId id = MustStartWithStdin({"cat"});
  Client before(OpenAttach(id));
  Client exec(OpenExec(id, {"sleep", "1000"}));
  ASSERT_TRUE(before.session && exec.session);
  ASSERT_TRUE(before.Write("before\n"));
  EXPECT_EQ(before.ReadOut("\n"), "before\n");
  before.session.reset();
  exec.session.reset();
  runtime_.reset();
  runtime_ = MakeRuntime();
  ASSERT_TRUE(runtime_->ReconnectPod(Ctx(), pod_, RunDir()));
  Client after(OpenAttach(id));
  ASSERT_TRUE(after.session);
  ASSERT_TRUE(after.Write("after\n"));
  EXPECT_EQ(after.ReadOut("\n"), "after\n");
  EXPECT_EQ(WaitForProcesses(id, 1), 1u);
}

TEST_P(StreamsKernelTest, ALostShimEndsSessions) {
  ContainerId id = MustStart({"sleep", "1000"});
  Client client(OpenAttach(id));
  ASSERT_TRUE(client.session);
  ASSERT_EQ(kill(shim_, SIGKILL), 0);
  Result<int> end = client.Exit();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().code(), Code::kUnavailable);
}

TEST_P(StreamsKernelTest, AbortsLeaveNothing) {
  ContainerId id = MustStartWithStdin({"sh", "-c", "while read line; do echo $line; done"});
  auto attach_and_go = [&] {
    Client client(OpenAttach(id));
    ASSERT_TRUE(client.session);
    ASSERT_TRUE(client.Write("x\n"));
    client.ReadOut("x\n");
  };
  auto exec_and_go = [&](const StreamWants& wants) {
    Client client(OpenExec(id, {"cat"}, wants));
    ASSERT_TRUE(client.session);
    if (wants.tty) (void)client.session->Resize(80, 24).has_value();
  };
  exec_and_go(kAll);
  attach_and_go();
  ASSERT_EQ(WaitForProcesses(id, 1), 1u);
  size_t own = testing::CountFds(getpid()), shim = FdsOfShim();
  for (int i = 0; i < 1000 && !HasFatalFailure(); ++i) attach_and_go();
  for (int i = 0; i < 20 && !HasFatalFailure(); ++i) exec_and_go(i % 2 ? kAll : kTerminal);
  EXPECT_EQ(WaitForProcesses(id, 1), 1u);
  for (int i = 0; i < 500 && testing::ChildrenOf(shim_).size() != 1; ++i) poll(nullptr, 0, 10);
  EXPECT_EQ(FdsOfShim(), shim);
  EXPECT_EQ(testing::CountFds(getpid()), own);
  EXPECT_EQ(testing::ChildrenOf(shim_).size(), 1u);
}

}  // namespace
}  // namespace crisp::runtime
