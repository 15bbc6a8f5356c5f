#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ids.h"
#include "base/strings.h"
#include "shim/attachment.h"
#include "shim/children.h"
#include "shim/exec_cgroup.h"
#include "shim/log_file.h"
#include "shim/loop.h"
#include "shim/namespaces.h"
#include "shim/oom_watch.h"
#include "sys/file.h"

namespace crisp::shim {
namespace {

using std::chrono::milliseconds;

TEST(SysctlFile, OnlyOfTheOwnNamespaces) {
  EXPECT_EQ(*SysctlFile("net.ipv4.ip_forward", true, true), "net/ipv4/ip_forward");
  EXPECT_EQ(*SysctlFile("kernel.shm_rmid_forced", false, true), "kernel/shm_rmid_forced");
  EXPECT_EQ(*SysctlFile("kernel.sem", false, true), "kernel/sem");
  EXPECT_EQ(*SysctlFile("fs.mqueue.msg_max", false, true), "fs/mqueue/msg_max");
  EXPECT_FALSE(SysctlFile("net.ipv4.ip_forward", false, true)) << "the node's network";
  EXPECT_FALSE(SysctlFile("kernel.msgmax", true, false)) << "the node's IPC";
  for (const char* bad : {"", ".", "net", "net..x", "net./x", "net/ipv4", "kernel.hostname", "kernel.semx", "vm.swappiness",
                          "net.ipv4.", ".net.x", "kernel.shm/../../x", "fs.file-max"}) {
    EXPECT_FALSE(SysctlFile(bad, true, true)) << bad;
  }
}

TEST(Loop, TimersAndWatches) {
  std::unique_ptr<Loop> loop = Loop::Make().value();
  sys::Pipe pipe = *sys::MakePipe();
  std::string order;
  Loop::Id cancelled = loop->After(milliseconds(1), [&] { order += 'x'; });
  loop->After(milliseconds(20), [&] {
    order += 'b';
    ASSERT_TRUE(sys::WriteAll(pipe.write, "!"));
  });
  loop->After(milliseconds(0), [&] {
    order += 'a';
    loop->CancelTimer(cancelled);
  });
  Loop::Id watch = 0;
  watch = *loop->Watch(pipe.read, EPOLLIN, [&](uint32_t) {
    order += 'c';
    loop->Unwatch(watch);  // within its own callback
    loop->After(milliseconds(1), [&] { loop->Stop(); });
  });
  loop->Run();
  EXPECT_EQ(order, "abc");
}

// Changes are told by cgroup files only: here what is read at the start and at the end.
TEST(OomWatch, TheEndCounts) {
  std::unique_ptr<Loop> loop = Loop::Make().value();
  std::string path = StrCat("/tmp/crisp-oom-test.", getpid());
  auto finish = [&](const char* before, const char* after, bool killed) {
    EXPECT_TRUE(sys::WriteFileAtomic(path, before, 0600, sys::Durability::kNone));
    OomWatch watch(*loop);
    watch.Start({path, "/no/such/memory.events"});
    EXPECT_TRUE(sys::WriteExisting(path, after));
    return watch.Finish(killed);
  };
  EXPECT_FALSE(finish("low 0\nmax 9\noom 0\noom_kill 0\n", "low 0\nmax 9\noom 0\noom_kill 0\n", true));
  EXPECT_TRUE(finish("low 0\nmax 9\noom 0\noom_kill 0\n", "low 0\nmax 9\noom 1\noom_kill 1\n", true));
  EXPECT_TRUE(finish("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "", false)) << "it was so once";
  EXPECT_FALSE(finish("oom 1\noom_kill 0\n", "oom 2\noom_kill 0\n", true)) << "killed by somebody else, as the file tells";
  EXPECT_FALSE(OomWatch(*loop).Finish(true));
  for (bool again : {false, true}) {
    EXPECT_TRUE(sys::WriteFileAtomic(path, "oom 1\noom_kill 1\n", 0600, sys::Durability::kNone));
    OomWatch watch(*loop);
    watch.PassOver({path});
    watch.Start({path});
    if (again) {
      EXPECT_TRUE(sys::WriteExisting(path, "oom 2\noom_kill 2\n"));
    }
    EXPECT_EQ(watch.Finish(true), again) << "the first was another process's";
  }
  unlink(path.c_str());
}

class LogTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(sys::MakeDir(dir_, 0700)); }
  void TearDown() override { EXPECT_TRUE(sys::RemoveTree(dir_)); }
  std::string dir_ = "/tmp/crisp-log-test-" + RandomHex(6);
};

TEST_F(LogTest, ReopenGoesOnInANewFile) {
  std::string path = dir_ + "/log";
  Result<LogFile> log = LogFile::Open(path);
  ASSERT_TRUE(log);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
  log->Write("one\n");
  ASSERT_EQ(rename(path.c_str(), (path + ".1").c_str()), 0);
  log->Write("two\n");
  ASSERT_TRUE(log->Reopen());
  log->Write("three\n");
  EXPECT_EQ(*sys::ReadFile(path + ".1"), "one\ntwo\n");
  EXPECT_EQ(*sys::ReadFile(path), "three\n");
  // Where the new file cannot be opened the old one stays in use.
  ASSERT_EQ(rename(path.c_str(), (path + ".2").c_str()), 0);
  ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
  EXPECT_FALSE(log->Reopen());
  log->Write("four\n");
  EXPECT_EQ(*sys::ReadFile(path + ".2"), "three\nfour\n");
}

TEST_F(LogTest, PumpWritesRecordsAndTheRestAtTheEnd) {
  std::unique_ptr<Loop> loop = Loop::Make().value();
  LogFile file = *LogFile::Open(dir_ + "/log");
  LogPump pump(codec::LogStream::kStdout, *loop, file);
  sys::Pipe pipe = *sys::MakePipe();
  ASSERT_EQ(fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK), 0);
  bool ended = false;
  ASSERT_TRUE(pump.Start(std::move(pipe.read), [&] {
    ended = true;
    loop->Stop();
  }));
  ASSERT_TRUE(sys::WriteAll(pipe.write, "line\nrest"));
  pump.Drain();
  EXPECT_FALSE(ended);
  EXPECT_TRUE(sys::ReadFile(dir_ + "/log")->ends_with(" stdout F line\n"));
  pipe.write.Reset();
  loop->Run();
  EXPECT_TRUE(ended);
  EXPECT_FALSE(pump.open());
  EXPECT_TRUE(sys::ReadFile(dir_ + "/log")->ends_with(" stdout P rest\n"));
}

TEST_F(LogTest, AHeldPumpReadsNothingUntilReleased) {
  std::unique_ptr<Loop> loop = Loop::Make().value();
  LogFile file = *LogFile::Open(dir_ + "/log");
  LogPump pump(codec::LogStream::kStdout, *loop, file);
  sys::Pipe pipe = *sys::MakePipe();
  ASSERT_EQ(fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK), 0);
  std::string copied;
  pump.CopyTo([&](std::string_view bytes) { copied += bytes; });
  ASSERT_TRUE(pump.Start(std::move(pipe.read), [&] { loop->Stop(); }));
  pump.Hold();
  pump.Hold();
  ASSERT_TRUE(sys::WriteAll(pipe.write, "line\n"));
  pipe.write.Reset();  // its end, which epoll tells unasked
  loop->After(milliseconds(20), [&] {
    EXPECT_EQ(copied, "");
    pump.Release();
    loop->After(milliseconds(20), [&] {
      EXPECT_EQ(copied, "") << "held by another still";
      pump.Release();
    });
  });
  loop->Run();
  EXPECT_EQ(copied, "line\n");
  EXPECT_FALSE(pump.open());
}

// A client that does not read holds the container's stream, and not for long.
TEST(Attachment, IsDroppedWhenItDoesNotRead) {
  struct Target final : AttachTarget {
    void OnDetach(Attachment&) override { ++detached; }
    bool TakesInput() const override { return true; }
    void TakeInput(std::string_view bytes) override { input += bytes; }
    void OnInputEnd() override { ++input_ends; }
    void OnHeld(codec::LogStream) override { ++held; }
    void OnReleased(codec::LogStream) override { ++released; }
    int detached = 0, input_ends = 0, held = 0, released = 0;
    std::string input;
  } target;
  std::unique_ptr<Loop> loop = Loop::Make().value();
  sys::Pipe in = *sys::MakePipe(), out = *sys::MakePipe();
  ASSERT_EQ(fcntl(out.read.get(), F_SETFL, O_NONBLOCK), 0);
  Attachment client(*loop, Asker(), shimapi::Attach(), [&](Attachment&) { loop->Stop(); });
  ASSERT_TRUE(client.Start(target, std::move(in.read), std::move(out.write), {}));
  ASSERT_TRUE(sys::WriteAll(in.write, "typed"));
  const std::string piece(16 * 1024, 'x');
  size_t written = 0;
  for (; target.held == 0; written += piece.size()) client.Write(codec::LogStream::kStdout, piece);
  // It reads in time: nothing is lost, and the stream goes on.
  std::string got;
  auto take = [&] {
    char buffer[65536];
    ssize_t n;
    while ((n = read(out.read.get(), buffer, sizeof buffer)) > 0) got.append(buffer, static_cast<size_t>(n));
  };
  loop->After(milliseconds(10), [&] {
    EXPECT_EQ(target.released, 0);
    take();
  });
  loop->After(milliseconds(200), [&] {
    take();
    EXPECT_EQ(got.size(), written);
    EXPECT_EQ(target.released, 1);
    while (target.held == 1) client.Write(codec::LogStream::kStdout, piece);
  });
  loop->Run();  // until it is dropped
  EXPECT_EQ(target.input, "typed");
  EXPECT_EQ(target.released, 2);
  EXPECT_EQ(target.input_ends, 1);
  EXPECT_EQ(target.detached, 1);
}

TEST(Children, UnknownZombiesWaitWhileARuntimeWorks) {
  Children children;
  sys::Process orphan = *sys::Spawn({.program = "true"});
  sys::Pipe hold = *sys::MakePipe();
  sys::Command command{.program = "cat"};
  command.fds.emplace(0, hold.read.borrow());
  sys::Process runtime = *sys::Spawn(command);
  hold.read.Reset();
  int runtime_code = -1, init_code = -1;
  children.AddRuntime(runtime.pid(), [&](sys::ExitStatus status) {
    runtime_code = status.code;
    // Only now the runtime's pid file is read: the "init" ended long ago.
    children.Adopt(orphan.pid(), [&] { children.Add(orphan.pid(), [&](sys::ExitStatus init) { init_code = init.code; }); });
  });
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(orphan.pid()), &info, WEXITED | WNOWAIT), 0);
  children.Reap();
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(orphan.pid()), &info, WEXITED | WNOWAIT | WNOHANG), 0) << "not reaped yet";
  hold.write.Reset();
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(runtime.pid()), &info, WEXITED | WNOWAIT), 0);
  children.Reap();
  EXPECT_EQ(runtime_code, 0);
  EXPECT_EQ(init_code, 0);
  // Without a runtime at work, orphans go at once.
  sys::Process other = *sys::Spawn({.program = "true"});
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(other.pid()), &info, WEXITED | WNOWAIT), 0);
  children.Reap();
  EXPECT_NE(waitid(P_PID, static_cast<id_t>(other.pid()), &info, WEXITED | WNOWAIT | WNOHANG), 0);
}

TEST(KillTree, ReachesGrandchildren) {
  sys::Pipe pipe = *sys::MakePipe();
  sys::Command command{.program = "/bin/sh", .args = {"-c", "(setsid sh -c 'echo x; sleep 1000' & wait) & wait"}};
  command.fds.emplace(1, pipe.write.borrow());
  sys::Process top = *sys::Spawn(command);
  pipe.write.Reset();
  char byte;
  ASSERT_EQ(read(pipe.read.get(), &byte, 1), 1);
  KillTree(top.pid());
  EXPECT_EQ(top.Wait(Ctx())->signal, SIGKILL);
  // The pipe ends when the last of them is gone.
  EXPECT_TRUE(sys::ReadAll(pipe.read, 10));
}

TEST(ExecCgroup, WithoutDirectoriesThereIsNothingToDo) {
  ExecCgroup none;
  EXPECT_TRUE(none.Make());
  none.Kill();
  EXPECT_TRUE(none.Empty());
  EXPECT_TRUE(none.Remove());
  ExecCgroup missing({"/nonexistent/cgroup"});
  EXPECT_FALSE(missing.Make());
}

}  // namespace
}  // namespace crisp::shim
