// Import and export. Needs root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/strings.h"
#include "image/directory.h"
#include "image/export.h"
#include "image/service.h"
#include "image/testing/image_builder.h"
#include "image/testing/temp_dir.h"
#include "image/unpack.h"
#include "state/database.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::image {
namespace {

using testing::BuildImage;
using testing::BuiltImage;
using testing::Digest256;
using testing::Packing;
using testing::TarBuilder;
using testing::TreeText;
using Type = codec::TarEntry::Type;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// One store on one directory.
class Node {
 public:
  explicit Node(const std::string& dir) : dir_(dir) {
    EXPECT_TRUE(sys::MakeDir(dir, 0700));
    db_ = *state::Database::Open(dir + "/crisp.db");
    service_ = *Service::Open({.root_dir = dir}, *db_);
  }
  Service* operator->() { return service_.get(); }
  void ExpectEmpty() {
    EXPECT_THAT(service_->List(), IsEmpty());
    EXPECT_THAT(*ListDirectory(dir_ + "/images/layers"), IsEmpty());
    EXPECT_THAT(*ListDirectory(dir_ + "/images/tmp"), IsEmpty());
  }

 private:
  std::string dir_;
  std::unique_ptr<state::Database> db_;
  std::unique_ptr<Service> service_;
};

class ArchiveTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return StrCat(dir_.path(), "/", name); }
  std::string Write(const std::string& name, const std::string& bytes) {
    EXPECT_TRUE(sys::WriteFileAtomic(Path(name), bytes, 0600, sys::Durability::kNone));
    return Path(name);
  }
  static std::vector<std::string> Layers() {
    return {TarBuilder().Dir("etc/").File("etc/os", "base").Node(Type::kCharDevice, "null", 1, 3).Done(),
            TarBuilder().Dir("etc/").File("etc/.wh.os", "").File("bin/app", std::string(200'000, 'q'), 04755).Hardlink("bin/b", "bin/app").Done()};
  }
  // As docker save writes it, newer and older.
  static std::string DockerArchive(const BuiltImage& image, const std::string& tags, bool with_links = false) {
    TarBuilder archive;
    std::string layers;
    for (size_t i = 0; i < image.archives.size(); ++i) {
      const std::string name = StrCat("l", i, "/layer.tar");
      layers += StrCat(i > 0 ? "," : "", "\"", name, "\"");
      if (with_links) {
        archive.File(StrCat("blobs/", i), image.blobs[i]).Symlink(name, StrCat("../blobs/", i));
      } else {
        archive.File(name, image.blobs[i]);
      }
    }
    archive.File(image.Id().substr(7) + ".json", image.config);
    archive.File("manifest.json", StrCat(R"([{"Config":")", image.Id().substr(7), R"(.json","RepoTags":)", tags, R"(,"Layers":[)", layers, "]}]"));
    return archive.Done();
  }
  static std::string LayoutArchive(const BuiltImage& image, const std::string& annotations) {
    TarBuilder archive;
    archive.File("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
    archive.File("index.json", StrCat(R"({"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")",
                                      image.ManifestDigest(), R"(","size":)", image.manifest.size(), R"(,"annotations":{)", annotations, "}}]}"));
    for (const std::string* blob : {&image.manifest, &image.config}) archive.File("blobs/sha256/" + Digest256(*blob).substr(7), *blob);
    for (const std::string& blob : image.blobs) archive.File("blobs/sha256/" + Digest256(blob).substr(7), blob);
    return archive.Done();
  }
  testing::TempDir dir_;
};

TEST_F(ArchiveTest, DockerArchivesOfAllKinds) {
  int n = 0;
  for (Packing packing : {Packing::kNone, Packing::kGzip, Packing::kZstd}) {
    for (bool with_links : {false, true}) {
      BuiltImage built = BuildImage(Layers(), packing);
      std::string archive = DockerArchive(built, R"(["busybox:1","x/y:2"])", with_links);
      for (const std::string& bytes : {archive, testing::Gzip(archive), testing::Zstd(archive)}) {
        Node node(Path(StrCat("node", n++)));
        auto images = node->Import({}, Write("a.tar", bytes), "");
        ASSERT_TRUE(images) << images.error().message();
        ASSERT_THAT(*images, SizeIs(1));
        EXPECT_EQ((*images)[0]->id, built.Id());
        EXPECT_THAT((*images)[0]->repo_tags, ElementsAre("docker.io/library/busybox:1", "docker.io/x/y:2"));
        EXPECT_EQ(*sys::ReadFile((*images)[0]->layer_dirs[0] + "/etc/os"), "base");
      }
    }
  }
}

TEST_F(ArchiveTest, LayoutNames) {
  BuiltImage built = BuildImage(Layers());
  struct Case {
    std::string annotations, reference;
    std::vector<std::string> tags;
  };
  const std::vector<Case> cases = {
      {R"("io.containerd.image.name":"docker.io/library/a:1","org.opencontainers.image.ref.name":"1")", "", {"docker.io/library/a:1"}},
      {R"("org.opencontainers.image.ref.name":"quay.io/a/b:1")", "", {"quay.io/a/b:1"}},
      {R"("org.opencontainers.image.ref.name":"latest")", "", {}},
      {R"("org.opencontainers.image.ref.name":"latest")", "mine", {"docker.io/library/mine:latest"}},
      {R"("io.containerd.image.name":"NOT a name")", "", {}},
  };
  int n = 0;
  for (const Case& one : cases) {
    Node node(Path(StrCat("node", n++)));
    auto images = node->Import({}, Write("a.tar", LayoutArchive(built, one.annotations)), one.reference);
    ASSERT_TRUE(images) << images.error().message();
    EXPECT_EQ((*images)[0]->repo_tags, one.tags);
    EXPECT_EQ((*images)[0]->size_bytes, built.config.size() + built.blobs[0].size() + built.blobs[1].size());
  }
}

TEST_F(ArchiveTest, S15ArchiveNeverTakesAnotherImagesName) {
  Node node(Path("node"));
  BuiltImage good = BuildImage(Layers(), Packing::kGzip, "good"), evil = BuildImage(Layers(), Packing::kGzip, "evil");
  ASSERT_TRUE(node->Import({}, Write("good.tar", DockerArchive(good, R"(["app:1"])")), ""));
  for (const std::string& archive : {DockerArchive(evil, R"(["free:1","docker.io/library/app:1"])"),
                                     LayoutArchive(evil, R"("io.containerd.image.name":"docker.io/library/app:1")")}) {
    auto imported = node->Import({}, Write("evil.tar", archive), "");
    ASSERT_FALSE(imported);
    EXPECT_EQ(imported.error().code(), Code::kAlreadyExists);
    EXPECT_EQ((*node->Find("app:1"))->id, good.Id());
    EXPECT_EQ(*node->Find("free:1"), nullptr);
    EXPECT_THAT(node->List(), SizeIs(1));
  }
  ASSERT_TRUE(node->Import({}, Write("good.tar", DockerArchive(good, R"(["app:1"])")), ""));  // confirming is no taking
  auto moved = node->Import({}, Write("evil.tar", DockerArchive(evil, R"(["other:1"])")), "app:1");
  ASSERT_TRUE(moved) << moved.error().message();
  EXPECT_EQ((*node->Find("app:1"))->id, evil.Id());
  EXPECT_EQ(*node->Find("other:1"), nullptr);
}

TEST_F(ArchiveTest, BadArchivesLeaveNothing) {
  BuiltImage built = BuildImage(Layers());
  BuiltImage lying = built;
  lying.archives[1] = lying.blobs[1] = TarBuilder().File("evil", "x").Done();
  std::string layout = LayoutArchive(built, "");
  std::string cut = layout.substr(0, layout.size() / 2 / 512 * 512);
  struct Case {
    std::string what, bytes;
    Code code;
  };
  const std::vector<Case> cases = {
      {"not an archive", "hello, this is no tar archive", Code::kDataLoss},
      {"empty", "", Code::kInvalidArgument},
      {"an archive of something else", TarBuilder().File("x", "y").Done(), Code::kInvalidArgument},
      {"a layer of other bytes", DockerArchive(lying, "[]"), Code::kDataLoss},
      {"cut off", cut, Code::kDataLoss},
      {"cut off, packed", testing::Gzip(layout).substr(0, 900), Code::kDataLoss},
      {"config missing", TarBuilder().File("manifest.json", R"([{"Config":"x.json","RepoTags":[],"Layers":[]}])").Done(), Code::kNotFound},
      {"config outside", TarBuilder().File("manifest.json", R"([{"Config":"../../../etc/passwd","Layers":[]}])").Done(), Code::kNotFound},
      {"garbage", TarBuilder().File("manifest.json", "[{]").Done(), Code::kInvalidArgument},
      {"wrong types", TarBuilder().File("manifest.json", R"([{"Config":1}])").Done(), Code::kInvalidArgument},
      {"a link to itself", TarBuilder().Symlink("manifest.json", "manifest.json").Done(), Code::kInvalidArgument},
      {"a member that is a link out", TarBuilder().Symlink("manifest.json", "/etc/passwd").Done(), Code::kInvalidArgument},
  };
  Node node(Path("node"));
  for (const Case& one : cases) {
    auto imported = node->Import({}, Write("bad.tar", one.bytes), "");
    ASSERT_FALSE(imported) << one.what;
    EXPECT_EQ(imported.error().code(), one.code) << one.what << ": " << imported.error().message();
  }
  EXPECT_EQ(node->Import({}, Path("missing"), "").error().code(), Code::kNotFound);
  node.ExpectEmpty();
}

TEST_F(ArchiveTest, ImageForAnotherPlatformIsNotFound) {
  BuiltImage built = BuildImage(Layers());
  const std::string arch = oci::MachinePlatform().architecture;
  built.config.replace(built.config.find(arch), arch.size(), "pdp11");
  Node node(Path("node"));
  EXPECT_EQ(node->Import({}, Write("a.tar", DockerArchive(built, "[]")), "").error().code(), Code::kNotFound);
}

TEST_F(ArchiveTest, ExportedImageIsTheSameImage) {
  std::vector<std::string> layers = Layers();
  layers.push_back(TarBuilder().File("no/parents/named", "x").Done() + std::string(10'240, '\0'));  // odd trailer
  BuiltImage built = BuildImage(layers, Packing::kGzip);
  Node node(Path("a"));
  auto original = node->Import({}, Write("in.tar", DockerArchive(built, R"(["app:1","app:2"])")), "");
  ASSERT_TRUE(original) << original.error().message();
  Result<> exported = node->Export({}, built.Id(), Path("out.tar"));
  ASSERT_TRUE(exported) << exported.error().message();
  EXPECT_EQ(node->Export({}, "none:1", Path("x.tar")).error().code(), Code::kNotFound);
  EXPECT_FALSE(sys::Exists(Path("x.tar")));

  Node other(Path("b"));
  auto again = other->Import({}, Path("out.tar"), "");
  ASSERT_TRUE(again) << again.error().message();
  ASSERT_THAT(other->List(), SizeIs(1));
  ImageRef copy = other->List()[0];
  EXPECT_EQ(copy->id, built.Id());
  EXPECT_EQ(copy->diff_ids, (*original)[0]->diff_ids);
  EXPECT_THAT(copy->repo_tags, UnorderedElementsAre("docker.io/library/app:1", "docker.io/library/app:2"));
  for (size_t i = 0; i < layers.size(); ++i) {
    // Up to the time: a directory that no layer names is made when it is unpacked.
    EXPECT_EQ(TreeText(copy->layer_dirs[i]).substr(0, 14), TreeText((*original)[0]->layer_dirs[i]).substr(0, 14));
  }
  // The same archive is good for docker load.
  const std::string docker_only = Path("docker");
  ASSERT_TRUE(sys::MakeDir(docker_only, 0700));
  auto run = sys::Run({}, {.program = "tar", .args = {"-C", docker_only, "-xf", Path("out.tar")}});
  ASSERT_TRUE(run && run->status.code == 0) << run->err;
  Json manifest = *ParseJson(*sys::ReadFile(docker_only + "/manifest.json"), "manifest.json");
  EXPECT_EQ("sha256:" + Digest256(*sys::ReadFile(StrCat(docker_only, "/", manifest[0]["Config"].get<std::string>()))).substr(7), built.Id());
  for (size_t i = 0; i < layers.size(); ++i) {
    EXPECT_EQ(Digest256(*sys::ReadFile(StrCat(docker_only, "/", manifest[0]["Layers"][i].get<std::string>()))), Digest256(layers[i]));
  }
}

TEST_F(ArchiveTest, ExportByTagNamesThatTagOnly) {
  BuiltImage built = BuildImage(Layers());
  Node node(Path("a")), other(Path("b"));
  ASSERT_TRUE(node->Import({}, Write("in.tar", DockerArchive(built, R"(["app:1","app:2"])")), ""));
  ASSERT_TRUE(node->Export({}, "app:2", Path("out.tar")));
  ASSERT_TRUE(other->Import({}, Path("out.tar"), ""));
  ASSERT_THAT(other->List(), SizeIs(1));
  EXPECT_THAT(other->List()[0]->repo_tags, ElementsAre("docker.io/library/app:2"));
  ImageRef image = node->Find("app:1").value();
  EXPECT_THAT(image->repo_tags, SizeIs(2)) << "the store keeps both";
}

TEST_F(ArchiveTest, LayerThatCannotBeMadeAgainIsRefusedWithAReason) {
  BuiltImage built = BuildImage({TarBuilder().File("twice", "first").File("twice", "second").Done()});
  Node node(Path("node"));
  ASSERT_TRUE(node->Import({}, Write("in.tar", DockerArchive(built, R"(["app:1"])")), ""));
  Result<> exported = node->Export({}, "app:1", Path("out.tar"));
  ASSERT_FALSE(exported);
  EXPECT_EQ(exported.error().code(), Code::kFailedPrecondition);
  EXPECT_FALSE(sys::Exists(Path("out.tar")));
}

TEST_F(ArchiveTest, ChangedLayerIsNoticedAtExport) {
  BuiltImage built = BuildImage(Layers());
  Node node(Path("node"));
  auto images = node->Import({}, Write("in.tar", DockerArchive(built, R"(["app:1"])")), "");
  ASSERT_TRUE(images);
  sys::UniqueFd fd = *sys::Open((*images)[0]->layer_dirs[0] + "/etc/os", O_WRONLY);
  ASSERT_TRUE(sys::WriteAll(fd, "BASE"));
  Result<> exported = node->Export({}, "app:1", Path("out.tar"));
  ASSERT_FALSE(exported);
  EXPECT_EQ(exported.error().code(), Code::kDataLoss);
  EXPECT_THAT(*ListDirectory(dir_.path()), UnorderedElementsAre("node", "in.tar"));
}

// Archives of GNU tar with everything that it knows, made again from their skeletons.
TEST_F(ArchiveTest, SkeletonsOfGnuArchives) {
  const std::string source = Path("source");
  ASSERT_TRUE(sys::MakeDirs(source + "/d/" + std::string(150, 'l'), 0755));
  ASSERT_TRUE(sys::WriteFileAtomic(StrCat(source, "/d/", std::string(150, 'l'), "/f"), std::string(10'000, 'x'), 0644, sys::Durability::kNone));
  sys::UniqueFd fd = *sys::Open(source + "/sparse", O_WRONLY | O_CREAT, 0600);
  for (int i = 0; i < 40; ++i) ASSERT_EQ(pwrite(fd.get(), "data", 4, i * 50'000 + 9), 4);
  ASSERT_EQ(ftruncate(fd.get(), 3'000'000), 0);
  ASSERT_EQ(link((source + "/sparse").c_str(), (source + "/hard").c_str()), 0);
  const std::vector<std::vector<std::string>> formats = {
      {"--format=gnu"}, {"--format=ustar"}, {"--format=pax"}, {"--format=gnu", "-S"}, {"--format=pax", "-S", "--sparse-version=0.0"},
      {"--format=pax", "-S", "--sparse-version=0.1"}, {"--format=pax", "-S", "--sparse-version=1.0"}};
  int n = 0;
  for (std::vector<std::string> args : formats) {
    SCOPED_TRACE(Join(args, " "));
    args.insert(args.end(), {"-C", source, "-cf", Path("a.tar"), "."});
    auto run = sys::Run({}, {.program = "tar", .args = args});
    ASSERT_TRUE(run) << run.error().message();
    const std::string archive = *sys::ReadFile(Path("a.tar"), 64u << 20);
    const std::string layer = Path(StrCat("layer", n++));
    ASSERT_TRUE(sys::MakeDir(layer, 0700));
    auto unpacker = *LayerUnpacker::Start(layer);
    ASSERT_TRUE(unpacker->Push(archive));
    auto unpacked = unpacker->Finish();
    ASSERT_TRUE(unpacked) << unpacked.error().message();
    std::string again;
    Result<> recreated = RecreateLayer({}, layer, [&](std::string_view bytes) {
      again += bytes;
      return Result<>();
    });
    ASSERT_TRUE(recreated) << recreated.error().message();
    EXPECT_TRUE(again == archive);
  }
}

}  // namespace
}  // namespace crisp::image
