// Hostile layers (rows S01–S08 of docs/security.md): whatever the archive says, nothing beside the layer's directory is
// read, written, removed or gets other attributes.
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "codec/tar.h"
#include "image/layer_writer.h"
#include "image/testing/temp_dir.h"

namespace crisp::image {
namespace {

namespace fs = std::filesystem;
using codec::TarEntry;
using Type = codec::TarEntry::Type;

struct Item {
  TarEntry entry;
  std::string content;
};

Item Make(Type type, std::string path, std::string link = "", std::string content = "") {
  Item item{.entry = {}, .content = std::move(content)};
  item.entry.type = type;
  item.entry.path = std::move(path);
  item.entry.link_target = std::move(link);
  item.entry.mode = 0777;
  item.entry.uid = 1234;
  item.entry.gid = 1234;
  item.entry.mtime_seconds = 12345;
  item.entry.size = item.content.size();
  return item;
}
Item File(std::string path, std::string content = "evil") { return Make(Type::kFile, std::move(path), "", std::move(content)); }
Item Dir(std::string path) { return Make(Type::kDirectory, std::move(path)); }
Item Symlink(std::string path, std::string to) { return Make(Type::kSymlink, std::move(path), std::move(to)); }
Item Hardlink(std::string path, std::string to) { return Make(Type::kHardlink, std::move(path), std::move(to)); }

class HostileLayerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    temp_.Write("outside/secret", "secret", 0600);
    temp_.Write("outside/sub/file", "file", 0640);
    outside_ = temp_.path() + "/outside";
    before_ = Shape();
    NewRoot();
  }
  void TearDown() override { EXPECT_EQ(Shape(), before_); }

  void NewRoot() {
    root_path_ = temp_.path() + "/fs" + std::to_string(++roots_);
    fs::create_directory(root_path_);
    root_ = sys::Open(root_path_, O_RDONLY | O_DIRECTORY).value();
  }

  // Everything outside of the layer, with contents and attributes.
  std::string Shape() const {
    std::string all;
    for (const auto& file : fs::recursive_directory_iterator(outside_)) {
      struct stat info;
      EXPECT_EQ(lstat(file.path().c_str(), &info), 0);
      all += StrCat(file.path().string(), " ", info.st_mode, " ", info.st_uid, " ", info.st_nlink, " ", info.st_mtim.tv_sec, " ");
      if (S_ISREG(info.st_mode)) all += sys::ReadFile(file.path()).value();
      all += StrCat(" ", llistxattr(file.path().c_str(), nullptr, 0), "\n");
    }
    return all;
  }

  Result<LayerStats> Unpack(const std::vector<Item>& items, UnpackLimits limits = {}) {
    LayerWriter writer(root_, limits);
    codec::TarReader reader(writer);
    for (const Item& item : items) {
      std::string header = TRY(codec::TarHeader(item.entry));
      TRY(reader.Push(header));
      TRY(reader.Push(item.content));
      TRY(reader.Push(codec::TarPadding(item.content.size())));
    }
    TRY(reader.Push(codec::TarTrailer()));
    TRY(reader.Finish());
    return writer.Finish();
  }
  // In a fresh directory; contained or refused, both are right.
  void UnpackContained(const std::vector<Item>& items) {
    NewRoot();
    (void)Unpack(items).has_value();
    EXPECT_EQ(Shape(), before_) << items.back().entry.path;
  }

  testing::TempDir temp_;
  std::string outside_, before_, root_path_;
  sys::UniqueFd root_;
  int roots_ = 0;
};

TEST_F(HostileLayerTest, S01_DirectoryThatBecomesASymlinkBetweenEntries) {
  UnpackContained({Dir("a"), File("a/one"), Symlink("a", outside_), File("a/two"), File("a/secret")});
  UnpackContained({Dir("a"), File("a/b/c/one"), Symlink("a/b", outside_ + "/sub"), File("a/b/c/two"), File("a/b/file")});
  UnpackContained({Dir("a/b"), File("a/b/one"), Symlink("a", "../outside"), File("a/b/two"), File("a/sub/file")});
  // Modes and times of directories are set at the end, by path again.
  UnpackContained({Dir("a"), Dir("a/sub"), Symlink("a", outside_)});
  UnpackContained({Dir("sub"), Symlink("sub", outside_ + "/sub")});
}

TEST_F(HostileLayerTest, S01_DirectoryThatAnotherThreadSwapsForASymlink) {
  fs::create_directory(root_path_ + "/d");
  fs::create_symlink(outside_ + "/sub", root_path_ + "/l");
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    while (!stop) renameat2(root_.get(), "d", root_.get(), "l", RENAME_EXCHANGE);
  });
  for (int round = 0; round < 300; ++round) {
    (void)Unpack({Dir("other"), File("d/file"), File("other/x"), Dir("d"), File("d/new"), File("d/.wh.file")}).has_value();
  }
  stop = true;
  swapper.join();
}

TEST_F(HostileLayerTest, S02_AttributesStayOnTheSymlink) {
  Item link = Symlink("link", outside_ + "/secret");
  link.entry.xattrs = {{"user.x", "y"}, {"security.capability", std::string(20, '\1')}};
  UnpackContained({link, Hardlink("second", "link"), Symlink("dir", outside_), Dir("dir/sub/"), Hardlink("third", "dir")});
  struct stat info;
  ASSERT_EQ(lstat((root_path_ + "/second").c_str(), &info), 0);
  EXPECT_TRUE(S_ISLNK(info.st_mode));
  EXPECT_EQ(info.st_uid, 1234u);
}

TEST_F(HostileLayerTest, S03_NamesThatLeadOut) {
  for (const std::string& name : {std::string("../outside/secret"), outside_ + "/secret", std::string("a/../../outside/secret"),
                                  std::string("./../../../../../../../etc/crisp-evil"), std::string("..")}) {
    UnpackContained({Dir("a"), File(name)});
    UnpackContained({Dir(name), File(name + "/x")});
    UnpackContained({Symlink(name, "/"), File(name + "/tmp/crisp-evil")});
  }
  EXPECT_FALSE(fs::exists("/etc/crisp-evil"));
  EXPECT_FALSE(fs::exists("/tmp/crisp-evil"));
  for (Item& root : std::vector<Item>{Symlink(".", outside_), File("."), Hardlink("./", "/etc/passwd")}) {
    NewRoot();
    EXPECT_FALSE(Unpack({root})) << static_cast<int>(root.entry.type);
  }
}

TEST_F(HostileLayerTest, S04_HardlinksFindNothingOutside) {
  for (const std::string& target : {outside_ + "/secret", std::string("../outside/secret"), std::string("later"), std::string("me")}) {
    NewRoot();
    EXPECT_FALSE(Unpack({Hardlink("me", target), File("me"), File("later")})) << target;
  }
  // A link to a symlink is another name of the symlink, and what is written to it later replaces it.
  UnpackContained({Symlink("link", outside_ + "/secret"), Hardlink("name", "link"), File("name"), File("link")});
  EXPECT_EQ(sys::ReadFile(root_path_ + "/name").value(), "evil");
  UnpackContained({Symlink("dir", outside_), Hardlink("name", "dir/secret"), File("name")});
}

TEST_F(HostileLayerTest, S05_WhiteoutsRemoveNothingOutside) {
  for (const char* name : {".wh.", ".wh..", ".wh...", "../.wh.outside", "dir/.wh.secret", "dir/.wh.sub", "dir/.wh..wh..opq",
                           "dir/../.wh.outside", ".wh../outside", ".wh..wh./x"}) {
    UnpackContained({Symlink("dir", outside_), File(name, "")});
  }
  NewRoot();
  Result<LayerStats> stats = Unpack({File(".wh..wh..opq", ""), File("gone/.wh.old", ""), Dir("gone"), File(".wh.x", ""), File("x", "new")});
  ASSERT_TRUE(stats) << stats.error().message();
  EXPECT_TRUE(stats->opaque_root);
  EXPECT_EQ(sys::ReadFile(root_path_ + "/x").value(), "new");
  struct stat info;
  ASSERT_EQ(lstat((root_path_ + "/gone/old").c_str(), &info), 0);
  EXPECT_TRUE(S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0));
}

TEST_F(HostileLayerTest, S07_SizesAndCountsAreBounded) {
  UnpackLimits limits;
  limits.bytes_max = 1 << 20;
  limits.entries_max = 100;
  Result<LayerStats> done = Unpack({File("big", std::string((1 << 20) + 1, 'x'))}, limits);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kResourceExhausted);
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += "d/";
  NewRoot();
  done = Unpack({File(deep + "file")}, limits);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), Code::kResourceExhausted);
}

TEST_F(HostileLayerTest, S08_NothingSpeaksToOverlayfsOrTheKernelsIntegrityCode) {
  Item file = File("file"), dir = Dir("dir");
  for (Item* item : {&file, &dir}) {
    for (const char* name : {"trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy", "trusted.x",
                             "user.overlay.opaque", "user.overlay.redirect", "security.ima", "security.evm", "security.selinux"}) {
      item->entry.xattrs.emplace_back(name, "y");
    }
    item->entry.xattrs.emplace_back("user.mine", "kept");
  }
  Result<LayerStats> done = Unpack({file, dir, Make(Type::kCharDevice, "fake-whiteout"), Make(Type::kCharDevice, "dir/fake")});
  ASSERT_TRUE(done) << done.error().message();
  for (const char* name : {"/file", "/dir"}) {
    char names[1024];
    ssize_t size = listxattr((root_path_ + name).c_str(), names, sizeof names);
    ASSERT_GE(size, 0);
    std::string all(names, static_cast<size_t>(size));
    for (const char* bad : {"trusted.", "overlay", "ima", "evm"}) EXPECT_EQ(all.find(bad), std::string::npos) << name << " " << all;
  }
  EXPECT_FALSE(sys::Exists(root_path_ + "/fake-whiteout"));
  EXPECT_FALSE(sys::Exists(root_path_ + "/dir/fake"));
}

}  // namespace
}  // namespace crisp::image
