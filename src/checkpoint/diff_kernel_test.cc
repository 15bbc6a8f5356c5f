// Needs root: overlayfs's whiteouts are device nodes and trusted attributes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "base/strings.h"
#include "checkpoint/diff.h"
#include "codec/tar.h"
#include "sys/file.h"

namespace crisp::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

class Collector final : public codec::TarSink {
 public:
  Result<> OnEntry(const codec::TarEntry& entry) override {
    last_ = entry.path;
    entries[last_] = entry;
    return {};
  }
  Result<> OnData(uint64_t, std::string_view bytes) override {
    contents[last_] += bytes;
    return {};
  }
  Result<> OnEntryEnd() override { return {}; }
  std::map<std::string, codec::TarEntry> entries;
  std::map<std::string, std::string> contents;

 private:
  std::string last_;
};

class DiffTest : public testing::Test {
 protected:
  DiffTest() {
    std::string pattern = testing::TempDir() + "/diff-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    fs::create_directories(dir_ + "/upper/etc");
    fs::create_directories(dir_ + "/layer/etc/old");
  }
  ~DiffTest() override { fs::remove_all(dir_); }
  void Put(const std::string& name, const std::string& text) { std::ofstream(dir_ + "/" + name) << text; }

  std::string dir_;
};

TEST_F(DiffTest, ChangedFilesAndDeletedOnes) {
  Put("upper/etc/conf", "new");
  ASSERT_EQ(chown((dir_ + "/upper/etc/conf").c_str(), 7, 8), 0);
  ASSERT_EQ(chmod((dir_ + "/upper/etc/conf").c_str(), 04750), 0);  // a chown would take the setuid bit away
  fs::create_hard_link(dir_ + "/upper/etc/conf", dir_ + "/upper/etc/zweit");
  fs::create_symlink("/etc/shadow", dir_ + "/upper/link");
  ASSERT_EQ(mknod((dir_ + "/upper/gone").c_str(), S_IFCHR, makedev(0, 0)), 0);
  Put("layer/etc/old/hidden", "");
  fs::create_directories(dir_ + "/upper/etc/old");
  Put("upper/etc/old/kept", "");
  Put("layer/etc/old/kept", "");
  if (setxattr((dir_ + "/upper/etc/old").c_str(), "trusted.overlay.opaque", "y", 1, 0) != 0)
    GTEST_SKIP() << "no trusted attributes here";

  Result<Diff> diff = WriteDiff(Ctx(), dir_ + "/upper", {dir_ + "/layer"}, dir_ + "/d.tar", 1 << 20);
  ASSERT_TRUE(diff) << diff.error().message();
  EXPECT_THAT(diff->deleted, ElementsAre("etc/old/hidden", "gone"));
  Collector seen;
  codec::TarReader reader(seen);
  ASSERT_TRUE(reader.Push(*sys::ReadFile(dir_ + "/d.tar")));
  ASSERT_TRUE(reader.Finish());
  EXPECT_EQ(seen.contents["etc/conf"], "new");
  EXPECT_EQ(seen.entries["etc/conf"].mode, 04750u);
  EXPECT_EQ(seen.entries["etc/conf"].gid, 8u);
  EXPECT_EQ(seen.entries["etc/zweit"].link_target, "etc/conf");
  EXPECT_EQ(seen.entries["link"].link_target, "/etc/shadow");
  EXPECT_TRUE(seen.contents["link"].empty());
  EXPECT_FALSE(seen.entries.contains("gone"));
}

TEST_F(DiffTest, HasALimit) {
  Put("upper/big", std::string(10'000, 'x'));
  EXPECT_EQ(WriteDiff(Ctx(), dir_ + "/upper", {}, dir_ + "/d.tar", 5000).error().code(), Code::kResourceExhausted);
}

TEST_F(DiffTest, DeletionsStayInTheRoot) {
  fs::create_directories(dir_ + "/root/a/b");
  Put("root/a/x", "");
  Put("keep", "");
  fs::create_symlink(dir_, dir_ + "/root/out");
  ASSERT_TRUE(ApplyDeleted(Ctx(), dir_ + "/root", {"a/x", "a/b", "none/there", "out/keep"}));
  EXPECT_FALSE(fs::exists(dir_ + "/root/a/x"));
  EXPECT_FALSE(fs::exists(dir_ + "/root/a/b"));
  EXPECT_TRUE(fs::exists(dir_ + "/keep"));
}

}  // namespace
}  // namespace crisp::checkpoint
