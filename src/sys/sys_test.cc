#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::sys {
namespace {

using std::chrono::milliseconds;

class SysTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(dir_.data()), nullptr); }
  void TearDown() override { ASSERT_TRUE(RemoveTree(dir_)); }
  std::string dir_ = "/tmp/crisp-sys-XXXXXX";
};

TEST_F(SysTest, AtomicWriteReplacesAndLeavesNothingBeside) {
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/f", "one", 0600, Durability::kSynced));
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/f", "two", 0600, Durability::kNone));
  EXPECT_EQ(*ReadFile(dir_ + "/f"), "two");
  EXPECT_FALSE(WriteFileAtomic(dir_ + "/none/f", "x", 0600, Durability::kNone));
  ASSERT_TRUE(RemoveFile(dir_ + "/f"));
  EXPECT_EQ(rmdir(dir_.c_str()), 0);
  EXPECT_EQ(mkdir(dir_.c_str(), 0700), 0);
}

// An image can make a tree deeper than any path, descriptor table or stack (through symlinks or by renaming).
TEST_F(SysTest, RemoveTreeManagesAnyDepth) {
  const int start = open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(mkdirat(start, "tree", 0700), 0);
  int at = openat(start, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(mkdirat(at, ".remove-3", 0700), 0);  // a name that the removal itself would use
  for (int depth = 0; depth < 1500; ++depth) {
    ASSERT_EQ(mkdirat(at, "d", 0700), 0);
    close(openat(at, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(at);
    at = next;
  }
  close(at);
  close(start);
  Result<> removed = RemoveTree(dir_ + "/tree");
  EXPECT_TRUE(removed) << removed.error().message();
  EXPECT_FALSE(Exists(dir_ + "/tree"));
}

TEST_F(SysTest, RemoveTreeEndsWhenItIsStopped) {
  ASSERT_TRUE(MakeDirs(dir_ + "/tree/a", 0700));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(RemoveTree(dir_ + "/tree", stop.get_token()).error().code(), Code::kCancelled);
  EXPECT_TRUE(Exists(dir_ + "/tree/a"));
  EXPECT_TRUE(RemoveTree(dir_ + "/tree"));
}

TEST_F(SysTest, RemoveTreeDoesNotFollowSymlinks) {
  ASSERT_TRUE(MakeDirs(dir_ + "/keep", 0700));
  ASSERT_TRUE(WriteFileAtomic(dir_ + "/keep/file", "x", 0600, Durability::kNone));
  ASSERT_TRUE(MakeDirs(dir_ + "/tree/a/b", 0700));
  ASSERT_EQ(symlink("../../keep", (dir_ + "/tree/a/link").c_str()), 0);
  ASSERT_TRUE(RemoveTree(dir_ + "/tree"));
  EXPECT_FALSE(Exists(dir_ + "/tree"));
  EXPECT_TRUE(Exists(dir_ + "/keep/file"));
  EXPECT_TRUE(RemoveTree(dir_ + "/tree"));
}

TEST_F(SysTest, OpenInRootStaysInside) {
  ASSERT_TRUE(MakeDirs(dir_ + "/root", 0700));
  ASSERT_EQ(symlink("/etc/passwd", (dir_ + "/root/out").c_str()), 0);
  Result<UniqueFd> root = Open(dir_ + "/root", O_PATH | O_DIRECTORY);
  ASSERT_TRUE(root);
  EXPECT_EQ(OpenInRoot(*root, "out", O_RDONLY).error().os_errno(), ENOENT);
  EXPECT_EQ(OpenInRoot(*root, "../../../etc/passwd", O_RDONLY).error().os_errno(), ENOENT);
}

TEST(Run, CollectsOutputInputAndCode) {
  Result<RunResult> done = sys::Run(Ctx(), {.program = "sh", .args = {"-c", "cat; echo err >&2; exit 3"}},
                               {.input = "hello"});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->out, "hello");
  EXPECT_EQ(done->err, "err\n");
  EXPECT_EQ(done->status.code, 3);
}

TEST(Run, KillsAtTimeoutAndAtTooMuchOutput) {
  Command sleeper{.program = "sleep", .args = {"1000"}};
  EXPECT_EQ(sys::Run(Ctx(), sleeper, {.timeout = milliseconds(50)}).error().code(), Code::kDeadlineExceeded);
  Command talker{.program = "yes", .args = {}};
  EXPECT_EQ(sys::Run(Ctx(), talker, {.output_bytes_max = 1000}).error().code(), Code::kResourceExhausted);
}

// A network plugin waits for its address plugin, and that one hangs.
TEST(Run, KillsWhatTheProgramHasStartedToo) {
  Pipe held = *MakePipe();
  Command parent{.program = "sh", .args = {"-c", "sleep 1000 & wait"}};
  parent.fds.emplace(9, held.write.borrow());
  EXPECT_EQ(sys::Run(Ctx(), parent, {.timeout = milliseconds(200)}).error().code(), Code::kDeadlineExceeded);
  held.write.Reset();
  pollfd ended{held.read.get(), POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 10'000), 1) << "somebody still has the other end";
}

TEST(Run, MissingProgramIsAnError) {
  Result<RunResult> done = sys::Run(Ctx(), {.program = "/no/such", .args = {}});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kNotFound);
}

TEST(Spawn, ChildInheritsOnlyWhatIsNamed) {
  Result<RunResult> done = sys::Run(Ctx(), {.program = "ls", .args = {"/proc/self/fd"}});
  ASSERT_TRUE(done);
  EXPECT_EQ(done->out, "0\n1\n2\n3\n");  // 3 is ls's own
}

}  // namespace
}  // namespace crisp::sys
