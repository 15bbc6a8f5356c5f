// Layers → directories, honest and hostile. Rows S01–S08 of the security matrix by name. Needs root.
#include "image/unpack.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <regex>
#include <thread>

#include "base/strings.h"
#include "image/directory.h"
#include "image/testing/image_builder.h"
#include "image/testing/temp_dir.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::image {
namespace {

using testing::Digest256;
using testing::Gzip;
using testing::TarBuilder;
using testing::TreeText;
using testing::Zstd;
using Type = codec::TarEntry::Type;
using ::testing::HasSubstr;
using ::testing::Not;

class UnpackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_.Write("outside/file", "untouched", 0640);
    ASSERT_EQ(setxattr(Outside("file").c_str(), "user.mark", "m", 1, 0), 0);
    before_ = TreeText(dir_.path() + "/outside");
  }
  // Whatever the layer was: nothing outside of it has changed.
  void TearDown() override {
    EXPECT_EQ(TreeText(dir_.path() + "/outside"), before_);
    char names[64];
    EXPECT_EQ(listxattr(Outside("file").c_str(), names, sizeof names), 10);
  }
  std::string Outside(const std::string& name) const { return StrCat(dir_.path(), "/outside/", name); }
  std::string Root() const { return StrCat(dir_.path(), "/layer-", layers_, "/fs"); }

  Result<UnpackedLayer> Unpack(const std::string& blob, const UnpackLimits& limits = {}, size_t step = 100'000) {
    const std::string layer = StrCat(dir_.path(), "/layer-", ++layers_);
    TRY(sys::MakeDir(layer, 0700));
    auto unpacker = TRY(LayerUnpacker::Start(layer, {.limits = limits}));
    for (size_t at = 0; at < blob.size(); at += step) TRY(unpacker->Push(std::string_view(blob).substr(at, step)));
    return unpacker->Finish();
  }
  Result<UnpackedLayer> Unpack(const TarBuilder& archive) { return Unpack(archive.Done()); }
  UnpackedLayer MustUnpack(const TarBuilder& archive) {
    auto layer = Unpack(archive);
    EXPECT_TRUE(layer) << layer.error().message();
    return layer ? *layer : UnpackedLayer();
  }
  std::string Content(const std::string& path) const {
    auto content = sys::ReadFile(StrCat(Root(), "/", path));
    return content ? *content : "(none)";
  }
  struct stat Stat(const std::string& path) const {
    struct stat info {};
    EXPECT_EQ(lstat(StrCat(Root(), "/", path).c_str(), &info), 0) << path;
    return info;
  }
  bool IsWhiteout(const std::string& path) const {
    struct stat info {};
    return lstat(StrCat(Root(), "/", path).c_str(), &info) == 0 && S_ISCHR(info.st_mode) && info.st_rdev == 0;
  }
  bool IsOpaque(const std::string& path) const {
    char value = 0;
    return lgetxattr(StrCat(Root(), "/", path).c_str(), "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
  }

  testing::TempDir dir_;
  std::string before_;
  int layers_ = 0;
};

TEST_F(UnpackTest, KeepsWhatALayerSaysAboutItsFiles) {
  TarBuilder archive;
  archive.Add({.type = Type::kDirectory, .path = "./", .mode = 0751, .mtime_seconds = 77});
  archive.Add({.type = Type::kDirectory, .path = "d/", .mode = 03775, .uid = 5, .gid = 6, .mtime_seconds = 1234, .mtime_nanos = 5});
  archive.Add({.path = "d/suid", .mode = 06755, .uid = 1000, .gid = 2000, .mtime_seconds = -5}, "content");
  archive.Add({.path = "d/root-owned", .mode = 0600}, "x");
  archive.Hardlink("d/hard", "d/suid").Symlink("d/soft", "/etc/passwd").Node(Type::kFifo, "d/pipe", 0, 0);
  archive.Node(Type::kCharDevice, "d/null", 1, 3).Node(Type::kBlockDevice, "d/disk", 8, 1);
  const std::string caps("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  archive.Add({.path = "d/ping", .mode = 0755, .xattrs = {{"security.capability", caps}, {"user.note", "n"}}}, std::string(300'000, 'p'));
  for (const std::string& blob : {archive.Done(), Gzip(archive.Done()), Zstd(archive.Done())}) {
    auto layer = Unpack(blob);
    ASSERT_TRUE(layer) << layer.error().message();
    EXPECT_EQ(layer->diff_id.str(), Digest256(archive.Done()));
    EXPECT_EQ(layer->blob_digest.str(), Digest256(blob));
    EXPECT_EQ(layer->blob_bytes, blob.size());
    EXPECT_EQ(layer->stats.inodes, 9u);  // eight, and the skeleton
    EXPECT_TRUE(layer->stats.is_exact);
    EXPECT_EQ(Stat("").st_mode & 07777, 0751u);
    EXPECT_EQ(Stat("").st_mtime, 77);
    EXPECT_EQ(Stat("d").st_mode & 07777, 03775u);
    EXPECT_EQ(Stat("d").st_uid, 5u);
    EXPECT_EQ(Stat("d").st_mtim.tv_nsec, 5);
    EXPECT_EQ(Stat("d").st_mtime, 1234);
    EXPECT_EQ(Stat("d/suid").st_mode & 07777, 06755u);
    EXPECT_EQ(Stat("d/suid").st_gid, 2000u);
    EXPECT_EQ(Stat("d/suid").st_mtime, -5);
    EXPECT_EQ(Stat("d/root-owned").st_gid, 0u);  // not inherited from the setgid directory
    EXPECT_EQ(Stat("d/hard").st_ino, Stat("d/suid").st_ino);
    EXPECT_TRUE(S_ISFIFO(Stat("d/pipe").st_mode));
    EXPECT_EQ(Stat("d/null").st_rdev, makedev(1, 3));
    EXPECT_TRUE(S_ISBLK(Stat("d/disk").st_mode));
    char value[64];
    EXPECT_EQ(getxattr((Root() + "/d/ping").c_str(), "security.capability", value, sizeof value), 20);
    EXPECT_EQ(getxattr((Root() + "/d/ping").c_str(), "user.note", value, sizeof value), 1);
  }
}

// GNU tar makes the archive and unpacks it; so do we. Sparse files, long names, hard links, odd modes.
TEST_F(UnpackTest, AgreesWithGnuTar) {
  const std::string source = dir_.path() + "/source";
  std::mt19937 random(5);
  std::vector<std::string> dirs = {source};
  ASSERT_TRUE(sys::MakeDir(source, 0755));
  for (int i = 0; i < 200; ++i) {
    const std::string parent = dirs[random() % dirs.size()];
    std::string name = StrCat(parent, "/", std::string(1 + random() % 120, static_cast<char>('a' + i % 26)), i);
    switch (random() % 6) {
      case 0:
        ASSERT_TRUE(sys::MakeDir(name, 0755));
        dirs.push_back(name);
        break;
      case 1: ASSERT_EQ(symlink(name.c_str(), name.c_str()), 0); break;
      case 2: {
        sys::UniqueFd fd = *sys::Open(name, O_WRONLY | O_CREAT, 0600);
        for (int hole = 0; hole < 30; ++hole) ASSERT_EQ(pwrite(fd.get(), "data", 4, hole * 100'000 + 7), 4);
        ASSERT_EQ(ftruncate(fd.get(), 4'000'000), 0);
        break;
      }
      default: ASSERT_TRUE(sys::WriteFileAtomic(name, std::string(random() % 20'000, 'x'), random() & 07777, sys::Durability::kNone));
    }
    struct stat info;
    if (lstat(name.c_str(), &info) == 0 && S_ISREG(info.st_mode) && random() % 3 == 0) {
      ASSERT_EQ(link(name.c_str(), (name + "-hard").c_str()), 0);
    }
    ASSERT_EQ(lchown(name.c_str(), random() % 70'000, random() % 70'000), 0);
  }
  for (const char* format : {"gnu", "pax", "posix"}) {
    const std::string tar = dir_.path() + "/a.tar";
    for (std::vector<std::string> args : {std::vector<std::string>{"-C", source, "-S", StrCat("--format=", format), "-cf", tar, "."},
                                          {"-C", dir_.path() + "/ref", "--xattrs", "--xattrs-include=*", "-p", "--numeric-owner", "-xf", tar}}) {
      ASSERT_TRUE(sys::MakeDir(dir_.path() + "/ref", 0755));
      auto run = sys::Run({}, {.program = "tar", .args = args});
      ASSERT_TRUE(run && run->status.code == 0) << run->err;
    }
    auto layer = Unpack(*sys::ReadFile(tar, 1u << 30));
    ASSERT_TRUE(layer) << layer.error().message();
    EXPECT_EQ(TreeText(Root()), TreeText(dir_.path() + "/ref"));
    EXPECT_LT(layer->stats.disk_bytes, 12u << 20);  // holes are not counted
    ASSERT_TRUE(sys::RemoveTree(dir_.path() + "/ref"));
  }
}

TEST_F(UnpackTest, LaterEntriesReplaceEarlierOnes) {
  auto layer = MustUnpack(TarBuilder()
                              .Dir("a/").File("a/f", "old").File("b", "old")
                              .File("a", "file now").Dir("b/").File("b/f", "new")
                              .File("twice", "long old content").File("twice", "new").Dir("dir/", 0700).File("dir/keep", "k").Dir("dir/", 0711));
  EXPECT_EQ(Content("a"), "file now");
  EXPECT_EQ(Content("b/f"), "new");
  EXPECT_EQ(Content("twice"), "new");
  EXPECT_EQ(Content("dir/keep"), "k");
  EXPECT_EQ(Stat("dir").st_mode & 0777, 0711u);
  EXPECT_FALSE(layer.stats.is_exact);
}

TEST_F(UnpackTest, MissingParentsAreMadeAndTold) {
  auto layer = MustUnpack(TarBuilder().File("x/y/z/file", "f").Dir("x/"));
  EXPECT_EQ(Stat("x/y/z").st_mode & 07777, 0755u);
  EXPECT_THAT(layer.stats.implicit_dirs, ::testing::ElementsAre("x/y", "x/y/z"));
  EXPECT_EQ(Unpack(TarBuilder().File("f", "x").File("f/below", "y")).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Unpack(TarBuilder().Symlink("s", "nowhere").File("s/below", "y")).error().code(), Code::kInvalidArgument);
}

TEST_F(UnpackTest, S01DirectoryTurnedSymlinkBetweenEntries) {
  for (const std::string& target : {dir_.path() + "/outside", std::string("../outside"), std::string("../../outside")}) {
    (void)Unpack(TarBuilder().Dir("d/").File("d/a", "1").Symlink("d", target).File("d/pwned", "x").Dir("d/sub/")).has_value();
    (void)Unpack(TarBuilder().Dir("d/e/").File("d/e/a", "1").Symlink("d", target).File("d/e/pwned", "x").File("d/file", "x", 04777)).has_value();
    (void)Unpack(TarBuilder().Dir("d/").Dir("d/e/").Symlink("d/e", target).File("d/e/file", "x").Dir("d/e/")).has_value();
  }
  // A symlink within the layer is followed within the layer.
  MustUnpack(TarBuilder().Dir("real/").Symlink("link", "/real").File("link/file", "in"));
  EXPECT_EQ(Content("real/file"), "in");
  // The cached parent is dropped when something below changes: the second file must not go into the removed directory.
  MustUnpack(TarBuilder().Dir("other/").Dir("d/").File("d/one", "1").Symlink("d", "other").File("d/two", "2"));
  EXPECT_EQ(Content("other/two"), "2");
}

TEST_F(UnpackTest, S01DirectorySwappedBySecondThread) {
  TarBuilder archive;
  // Inside the layer the symlink's target exists, so that a swap does not end the unpacking.
  archive.Dir("d/").Dir(dir_.path() + "/outside/").Symlink("s", dir_.path() + "/outside");
  archive.File("d/base", "b").File(dir_.path() + "/outside/base", "b");
  for (int i = 0; i < 300; ++i) {
    archive.File(StrCat("d/f", i), "x", 04777).File(StrCat("d/sub/f", i), "y").Dir("d/sub/", 0777).Hardlink(StrCat("h", i), "d/base");
  }
  const std::string blob = archive.Done();
  size_t made = 0;
  // A busy machine may end a round before much is made.
  for (int round = 0; round < 5 || (made <= 300 && round < 200); ++round) {
    std::atomic<bool> stop = false;
    const std::string root = StrCat(dir_.path(), "/layer-", layers_ + 1, "/fs");
    std::thread swapper([&] {
      while (!stop) renameat2(AT_FDCWD, (root + "/d").c_str(), AT_FDCWD, (root + "/s").c_str(), RENAME_EXCHANGE);
    });
    (void)Unpack(blob, {}, 3000).has_value();  // may fail; must stay inside
    stop = true;
    swapper.join();
    auto names = ListDirectory(Root());
    made += names ? names->size() : 0;
  }
  EXPECT_GT(made, 300u);  // it was raced, not just refused at once
}

TEST_F(UnpackTest, S02MetadataNeverGoesThroughLinks) {
  const std::string target = Outside("file");
  TarBuilder archive;
  archive.Symlink("s", target).Hardlink("h", "s");
  archive.Add({.type = Type::kSymlink, .path = "t", .link_target = target, .mode = 0777, .uid = 77, .gid = 77, .mtime_seconds = 5,
               .xattrs = {{"user.evil", "x"}, {"security.capability", "x"}}});
  archive.Add({.type = Type::kHardlink, .path = "u", .link_target = "t", .mode = 06777, .uid = 78, .mtime_seconds = 6, .xattrs = {{"user.evil", "x"}}});
  MustUnpack(archive);
  EXPECT_TRUE(S_ISLNK(Stat("h").st_mode));
  EXPECT_EQ(Stat("t").st_uid, 77u);
  // The symlink's name comes again as every other kind: replaced, not written through.
  MustUnpack(TarBuilder().Symlink("s", target).File("s", "mine", 04777));
  EXPECT_EQ(Content("s"), "mine");
  MustUnpack(TarBuilder().Symlink("s", dir_.path() + "/outside").Dir("s/", 0777));
  EXPECT_TRUE(S_ISDIR(Stat("s").st_mode));
  MustUnpack(TarBuilder().Symlink("s", target).Node(Type::kFifo, "s", 0, 0));
  // A directory whose times are to be set at the end is a symlink by then.
  (void)Unpack(TarBuilder().Dir("s/", 0777).Symlink("s", dir_.path() + "/outside")).has_value();
}

TEST_F(UnpackTest, S03NamesStayInside) {
  MustUnpack(TarBuilder().File("../up", "1").File("/abs", "2").File("a/../../twice", "3").File("./././dot", "4").File("x//y", "5"));
  EXPECT_EQ(Content("up"), "1");
  EXPECT_EQ(Content("abs"), "2");
  EXPECT_EQ(Content("twice"), "3");
  EXPECT_EQ(Content("dot"), "4");
  EXPECT_EQ(Content("x/y"), "5");
  for (const char* root : {".", "./", "/", "..", "a/.."}) {
    EXPECT_EQ(Unpack(TarBuilder().Symlink(root, "/etc")).error().code(), Code::kInvalidArgument) << root;
    EXPECT_EQ(Unpack(TarBuilder().Hardlink(root, "x")).error().code(), Code::kInvalidArgument) << root;
    EXPECT_EQ(Unpack(TarBuilder().Node(Type::kFifo, root, 0, 0)).error().code(), Code::kInvalidArgument) << root;
  }
  EXPECT_FALSE(Unpack(TarBuilder().File(std::string(256, 'n'), "x")));
  std::string deep;
  for (int i = 0; i < 500; ++i) deep += "d/";
  EXPECT_TRUE(Unpack(TarBuilder().File(deep + "f", "x")));
  EXPECT_TRUE(sys::RemoveTree(StrCat(dir_.path(), "/layer-", layers_)));
}

TEST_F(UnpackTest, S04HardLinksStayInside) {
  for (const std::string& target : std::vector<std::string>{Outside("file"), "../outside/file", "../../outside/file", "missing", "later", "self", "dir", ".", "/"}) {
    auto unpacked = Unpack(TarBuilder().Dir("dir/").Hardlink("self", target).File("later", "x"));
    ASSERT_FALSE(unpacked) << target;
    EXPECT_EQ(unpacked.error().code(), Code::kInvalidArgument) << target;
  }
  // Through a symlinked directory that leads out, and to a symlink that does.
  (void)Unpack(TarBuilder().Symlink("s", dir_.path() + "/outside").Hardlink("h", "s/file")).has_value();
  MustUnpack(TarBuilder().Symlink("s", Outside("file")).Hardlink("h", "s"));
  EXPECT_TRUE(S_ISLNK(Stat("h").st_mode));
  MustUnpack(TarBuilder().File("f", "x").Hardlink("f", "f").Hardlink("g", "/f").Hardlink("g", "../f"));
  EXPECT_EQ(Content("g"), "x");
  EXPECT_EQ(Stat("f").st_nlink, 2u);
  struct stat outside;
  ASSERT_EQ(stat(Outside("file").c_str(), &outside), 0);
  EXPECT_EQ(outside.st_nlink, 1u);
}

TEST_F(UnpackTest, S05WhiteoutsHideOnlyWhatIsBelow) {
  for (const char* bad : {".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."}) {
    EXPECT_EQ(Unpack(TarBuilder().Dir("d/").File(bad, "")).error().code(), Code::kInvalidArgument) << bad;
  }
  auto layer = MustUnpack(TarBuilder().Dir("d/").File("d/.wh.gone", "").File(".wh.top", "").File("d/.wh..wh..opq", "").File(".wh..wh.plnk/1.2", "x"));
  EXPECT_TRUE(IsWhiteout("d/gone"));
  EXPECT_TRUE(IsWhiteout("top"));
  EXPECT_TRUE(IsOpaque("d"));
  EXPECT_FALSE(layer.stats.opaque_root);
  EXPECT_FALSE(sys::Exists(Root() + "/.wh..wh.plnk"));
  EXPECT_TRUE(MustUnpack(TarBuilder().File(".wh..wh..opq", "")).stats.opaque_root);
  // Files of the layer itself are never hidden, in whichever order.
  MustUnpack(TarBuilder().File("a", "mine").File(".wh.a", "").File(".wh.b", "").File("b", "mine"));
  EXPECT_EQ(Content("a") + Content("b"), "minemine");
  MustUnpack(TarBuilder().Dir("a/").File("a/f", "mine").File(".wh.a", "").File(".wh.b", "").Dir("b/").File("b/f", "mine").File(".wh.c", "").File("c/f", "mine"));
  EXPECT_EQ(Content("a/f") + Content("b/f") + Content("c/f"), "mineminemine");
  EXPECT_TRUE(IsOpaque("a") && IsOpaque("b") && IsOpaque("c"));
  // Through a symlinked directory: inside, or nowhere.
  MustUnpack(TarBuilder().Dir("real/").Symlink("link", "real").File("link/.wh.x", ""));
  EXPECT_TRUE(IsWhiteout("real/x"));
  (void)Unpack(TarBuilder().Symlink("s", dir_.path() + "/outside").File("s/.wh.file", "").File("s/.wh..wh..opq", "")).has_value();
}

// The root of two layers as overlayfs shows it, mounted in a namespace of its own.
std::string Merged(const std::string& lower, const std::string& upper, const std::string& at) {
  std::string text;
  std::thread([&] {
    ASSERT_EQ(unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("overlay", at.c_str(), "overlay", MS_RDONLY, StrCat("lowerdir=", upper, ":", lower).c_str()), 0) << errno;
    text = TreeText(at);
    ASSERT_EQ(umount2(at.c_str(), MNT_DETACH), 0);
  }).join();
  return text;
}

// Names and contents only: overlayfs and a plain directory differ in link counts and directories' times.
std::string Plain(const std::string& tree) {
  static const std::regex kNoise(" [0-9]+:[0-9]+ [0-9]+( [0-9]+ file)?| dir [0-9]+| opaque");
  return std::regex_replace(tree, kNoise, " ");
}

TEST_F(UnpackTest, S05AgreesWithReferenceOnRandomLayers) {
  std::mt19937 random(11);
  for (int round = 0; round < 15; ++round) {
    SCOPED_TRACE(round);
    const std::string at = StrCat(dir_.path(), "/merged-", round), reference = StrCat(dir_.path(), "/reference-", round);
    ASSERT_TRUE(sys::MakeDir(at, 0755));
    ASSERT_TRUE(sys::MakeDir(reference, 0755));
    TarBuilder lower, upper;
    lower.Dir("./");
    upper.Dir("./");
    for (const char* dir : {"a", "b", "a/c"}) {
      lower.Dir(StrCat(dir, "/"));
      ASSERT_TRUE(sys::MakeDirs(StrCat(reference, "/", dir), 0755));
      for (int i = 0; i < 4; ++i) {
        lower.File(StrCat(dir, "/f", i), "lower");
        ASSERT_TRUE(sys::WriteFileAtomic(StrCat(reference, "/", dir, "/f", i), "lower", 0644, sys::Durability::kNone));
      }
    }
    // Reference: what the layer hides goes first, then its own files come.
    std::vector<std::string> files;
    for (int i = 0; i < 12; ++i) {
      const std::string dir = std::vector<std::string>{"a", "b", "a/c"}[random() % 3];
      const std::string name = StrCat("f", random() % 5);
      switch (random() % 4) {
        case 0:
          upper.File(StrCat(dir, "/.wh.", name), "");
          ASSERT_TRUE(sys::RemoveTree(StrCat(reference, "/", dir, "/", name)));
          break;
        case 1:
          if (random() % 3 != 0) break;
          upper.File(StrCat(dir, "/.wh..wh..opq"), "");
          ASSERT_TRUE(sys::RemoveTree(StrCat(reference, "/", dir)));
          ASSERT_TRUE(sys::MakeDirs(StrCat(reference, "/", dir), 0755));
          break;
        case 2:
          if (random() % 3 != 0) break;
          upper.File(".wh.b", "");
          ASSERT_TRUE(sys::RemoveTree(reference + "/b"));
          break;
        default:
          upper.File(StrCat(dir, "/", name), "upper");
          files.push_back(StrCat(dir, "/", name));
      }
    }
    // A marker makes its directory: the image-spec's own examples name a whiteout's parents as entries.
    for (const std::string& file : files) {
      ASSERT_TRUE(sys::MakeDirs(StrCat(reference, "/", file.substr(0, file.rfind('/'))), 0755));
      ASSERT_TRUE(sys::WriteFileAtomic(StrCat(reference, "/", file), "upper", 0644, sys::Durability::kNone));
    }
    MustUnpack(lower);
    const std::string lower_root = Root();
    MustUnpack(upper);
    std::string merged = Plain(Merged(lower_root, Root(), at)), expected = Plain(TreeText(reference));
    // A directory that exists for its markers' sake alone may be there or not.
    for (std::string* text : {&merged, &expected}) *text = std::regex_replace(*text, std::regex("(^|\n)(a|b|a/c)  0755 (?=\n|$)"), "");
    EXPECT_EQ(merged, expected);
  }
}

TEST_F(UnpackTest, S06HostileNumbersCostNoMemory) {
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  auto pax = [](const std::string& record) {
    std::string header = *codec::TarHeader({.path = "x", .size = record.size()});
    header[156] = 'x';
    std::fill_n(header.begin() + 148, 8, ' ');
    unsigned sum = 0;
    for (char c : header) sum += static_cast<uint8_t>(c);
    char digits[8];
    std::snprintf(digits, sizeof digits, "%06o", sum);
    header.replace(148, 7, std::string(digits, 7));
    return header + record + std::string(codec::TarPadding(record.size()));
  };
  std::string sparse = pax("22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n34 GNU.sparse.realsize=9999999999\n") +
                       TarBuilder().File("s", "2147483648\n" + std::string(501, '\0')).Done();
  EXPECT_EQ(Unpack(sparse).error().code(), Code::kInvalidArgument);
  std::string huge = *codec::TarHeader({.path = "x", .size = 4ull << 30});
  huge[156] = 'x';
  EXPECT_FALSE(Unpack(huge));
  EXPECT_EQ(Unpack(pax("23 size=-9223372036854775\n") + TarBuilder().File("s", "").Done()).error().code(), Code::kDataLoss);
  EXPECT_EQ(Unpack(pax("24 size=9223372036854775\n") + TarBuilder().File("s", "").Done()).error().code(), Code::kDataLoss);
  EXPECT_EQ(Unpack(pax("15 size=-922337\n") + TarBuilder().File("s", "").Done()).error().code(), Code::kDataLoss);
  EXPECT_EQ(Unpack(pax("11 size=-9\n") + TarBuilder().File("s", "").Done()).error().code(), Code::kInvalidArgument);
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 << 10);  // KiB
}

TEST_F(UnpackTest, S07BombsStopAtTheLimit) {
  const std::string bomb = TarBuilder().File("zeros", std::string(100u << 20, '\0')).Done();
  UnpackLimits limits{.bytes_max = 10u << 20};
  for (const std::string& blob : {Gzip(bomb), Zstd(bomb), bomb}) {
    EXPECT_EQ(Unpack(blob, limits).error().code(), Code::kResourceExhausted);
    struct stat info {};
    if (lstat((Root() + "/zeros").c_str(), &info) == 0) {
      EXPECT_LE(info.st_size, 10 << 20);
    }
  }
  std::string members;
  for (int i = 0; i < 3000; ++i) members += Gzip("");
  EXPECT_FALSE(Unpack(members + Gzip(std::string(2'000'000, 'x'))));
  // A size that is only said, and trailing bytes without end.
  EXPECT_EQ(Unpack(*codec::TarHeader({.path = "big", .size = 1ull << 39})).error().code(), Code::kResourceExhausted);
  EXPECT_EQ(Unpack(Gzip(TarBuilder().Done() + std::string(20u << 20, '\0')), limits).error().code(), Code::kResourceExhausted);
  TarBuilder many;
  for (int i = 0; i < 200; ++i) many.File(StrCat("d", i, "/f"), "");
  EXPECT_EQ(Unpack(many.Done(), {.entries_max = 300}).error().code(), Code::kResourceExhausted);
  EXPECT_EQ(Unpack(many.Done(), {.directory_path_bytes_max = 1000}).error().code(), Code::kResourceExhausted);
}

TEST_F(UnpackTest, S07TruncatedOrDamagedAnywhereIsAnError) {
  std::mt19937 random(2);
  std::string noise(120'000, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  const std::string archive = TarBuilder().File("a", noise).File("b", noise).Done();
  for (const std::string& blob : {Gzip(archive), Zstd(archive)}) {
    for (size_t size = 4096; size < blob.size(); size += 4096) {
      auto unpacked = Unpack(blob.substr(0, size));
      ASSERT_FALSE(unpacked) << size;
      EXPECT_EQ(unpacked.error().code(), Code::kDataLoss);
      std::string damaged = blob;
      damaged[size] = static_cast<char>(~damaged[size]);
      auto layer = Unpack(damaged);
      EXPECT_TRUE(!layer || layer->diff_id.str() != Digest256(archive)) << size;
    }
  }
}

TEST_F(UnpackTest, S08NothingInALayerSpeaksToOverlayfs) {
  TarBuilder archive;
  const std::vector<std::pair<std::string, std::string>> evil = {
      {"trusted.overlay.opaque", "y"}, {"trusted.overlay.redirect", "/etc"}, {"trusted.overlay.metacopy", ""},
      {"trusted.overlay.overlay.opaque", "y"}, {"user.overlay.opaque", "y"}, {"user.overlay.whiteout", ""}, {"trusted.other", "x"},
      {"security.ima", "x"}, {"security.evm", "x"}, {"security.selinux", "x"}, {"user.fine", "kept"}};
  archive.Add({.type = Type::kDirectory, .path = "d/", .mode = 0755, .xattrs = evil});
  archive.Add({.path = "d/f", .mode = 0644, .xattrs = evil}, "x");
  archive.Node(Type::kCharDevice, "d/hidden", 0, 0).Node(Type::kCharDevice, "d/null", 1, 3);
  MustUnpack(archive);
  for (const char* path : {"/d", "/d/f"}) {
    char names[4096];
    ssize_t n = llistxattr((Root() + path).c_str(), names, sizeof names);
    EXPECT_EQ(std::string_view(names, static_cast<size_t>(n)), std::string_view("user.fine\0", 10)) << path;
  }
  EXPECT_FALSE(sys::Exists(Root() + "/d/hidden"));
  EXPECT_TRUE(sys::Exists(Root() + "/d/null"));
  // Nor by giving our own whiteout a second name.
  EXPECT_FALSE(Unpack(TarBuilder().File(".wh.x", "").Hardlink("y", "x")));
}

TEST_F(UnpackTest, FullDiskIsToldAsSuch) {
  const std::string mount_point = dir_.path() + "/small";
  ASSERT_TRUE(sys::MakeDir(mount_point, 0700));
  std::thread([&] {
    ASSERT_EQ(unshare(CLONE_NEWNS | CLONE_FS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=1m"), 0);
    // The unpacker's own thread has this one's mounts.
    ASSERT_TRUE(sys::MakeDir(mount_point + "/layer", 0700));
    auto unpacker = LayerUnpacker::Start(mount_point + "/layer");
    ASSERT_TRUE(unpacker);
    const std::string archive = TarBuilder().File("f", std::string(8u << 20, 'x')).Done();
    Result<> pushed = (*unpacker)->Push(archive);
    Code code = pushed ? (*unpacker)->Finish().error().code() : pushed.error().code();
    EXPECT_EQ(code, Code::kResourceExhausted);
    unpacker->reset();
    ASSERT_EQ(umount2(mount_point.c_str(), MNT_DETACH), 0);
  }).join();
}

}  // namespace
}  // namespace crisp::image
