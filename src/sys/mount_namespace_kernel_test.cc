#include "sys/mount_namespace.h"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

#include "sys/mountinfo.h"

namespace crisp::sys {
namespace {

// In a child that has entered a copy of `ns`: its exit code.
int InCopy(BorrowedFd ns, const std::function<int()>& work) {
  pid_t pid = fork();
  if (pid == 0) {
    if (setns(ns.get(), CLONE_NEWNS) != 0 || unshare(CLONE_NEWNS) != 0) _exit(100);
    _exit(work());
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

int CountEntries(const char* path) {
  DIR* dir = opendir(path);
  if (dir == nullptr) return -1;
  int count = 0;
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count - 2;  // "." and ".."
}

TEST(BareMountNamespace, HasAnEmptyDirectoryOnly) {
  Result<UniqueFd> ns = MakeBareMountNamespace();
  ASSERT_TRUE(ns) << ns.error().message();
  EXPECT_EQ(InCopy(*ns,
                   [] {
                     if (CountEntries("/") != 0 || CountEntries(".") != 0 || CountEntries("..") != 0) return 1;
                     return mkdir("/x", 0700) != 0 && errno == EROFS ? 0 : 2;
                   }),
            0);
}

TEST(BareMountNamespace, WhatIsMountedInACopyIsSeenNowhereElse) {
  Result<UniqueFd> ns = MakeBareMountNamespace();
  ASSERT_TRUE(ns) << ns.error().message();
  size_t before = ReadMountInfo()->size();
  EXPECT_EQ(InCopy(*ns,
                   [] {
                     // As whoever enters: what was mounted on "/" is the new root.
                     if (mount("x", "/", "tmpfs", 0, "size=4k") != 0 || chdir("/..") != 0 || chroot(".") != 0) return 1;
                     return mkdir("/in", 0700) == 0 ? 0 : 2;
                   }),
            0);
  EXPECT_EQ(InCopy(*ns, [] { return CountEntries("/"); }), 0);
  EXPECT_EQ(ReadMountInfo()->size(), before);
}

TEST(BareMountNamespace, TheCallerStaysWhereItIs) {
  struct stat before{}, after{};
  ASSERT_EQ(stat("/proc/self/ns/mnt", &before), 0);
  ASSERT_TRUE(MakeBareMountNamespace());
  ASSERT_EQ(stat("/proc/self/ns/mnt", &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_GT(CountEntries("/"), 3);
}

}  // namespace
}  // namespace crisp::sys
