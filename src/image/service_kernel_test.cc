// The image service against a scripted registry. Needs root: layers have owners, devices and trusted attributes.
#include "image/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/strings.h"
#include "image/directory.h"
#include "image/testing/http_server.h"
#include "image/testing/image_builder.h"
#include "image/testing/temp_dir.h"
#include "state/database.h"
#include "sys/file.h"

namespace crisp::image {
namespace {

using testing::BuildImage;
using testing::BuiltImage;
using testing::HttpServer;
using testing::Packing;
using testing::Publish;
using testing::Request;
using testing::Response;
using testing::TarBuilder;
using testing::TreeText;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

std::string BaseLayer() {
  return TarBuilder().Dir("etc/").File("etc/os", "base").Dir("tmp/", 01777).Dir("old/").File("old/gone", "x").Done();
}
std::string AppLayer() { return TarBuilder().File("etc/.wh.os", "").File("app", "run", 04755).Done(); }

class ServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.root_dir = dir_.path();
    Reopen();
  }
  void TearDown() override {
    service_.reset();
    db_.reset();
  }
  void Reopen() {
    service_.reset();
    db_.reset();
    auto db = state::Database::Open(dir_.path() + "/crisp.db");
    ASSERT_TRUE(db) << db.error().message();
    db_ = *std::move(db);
    auto service = Service::Open(options_, *db_);
    ASSERT_TRUE(service) << service.error().message();
    service_ = *std::move(service);
  }
  std::string Name(const std::string& rest) const { return server_.Host() + "/" + rest; }
  Result<ImageRef> Pull(const std::string& rest, const Ctx& ctx = {}) { return service_->Pull(ctx, Name(rest), {}); }
  ImageRef MustPull(const std::string& rest) {
    auto image = Pull(rest);
    EXPECT_TRUE(image) << image.error().message();
    return image ? *image : nullptr;
  }
  std::vector<std::string> Layers() const { return *ListDirectory(dir_.path() + "/images/layers"); }
  std::vector<std::string> Temporaries() const { return *ListDirectory(dir_.path() + "/images/tmp"); }
  void ExpectNothingLeft() {
    EXPECT_THAT(Layers(), IsEmpty());
    EXPECT_THAT(Temporaries(), IsEmpty());
    EXPECT_TRUE(db_->List("layers")->empty());
    EXPECT_TRUE(db_->List("images")->empty());
  }

  testing::TempDir dir_;
  testing::FakeRegistry registry_;
  std::function<Response(const Request&)> answer_ = [this](const Request& request) { return registry_.Answer(request); };
  HttpServer server_{[this](const Request& request) { return answer_(request); }};
  ServiceOptions options_;
  std::unique_ptr<state::Database> db_;
  std::unique_ptr<Service> service_;
};

TEST_F(ServiceTest, PulledImageIsThereAlsoAfterAReopen) {
  for (Packing packing : {Packing::kNone, Packing::kGzip, Packing::kZstd}) {
    BuiltImage built = BuildImage({BaseLayer(), AppLayer()}, packing);
    Publish(registry_, built, "v1");
    ImageRef image = MustPull("team/app:v1");
    ASSERT_NE(image, nullptr);
    EXPECT_EQ(image->id, built.Id());
    EXPECT_THAT(image->repo_tags, ElementsAre(Name("team/app:v1")));
    EXPECT_THAT(image->repo_digests, ::testing::Contains(Name("team/app@" + built.ManifestDigest())));
    EXPECT_THAT(image->config.cmd, ElementsAre("/bin/sh"));
    ASSERT_THAT(image->layer_dirs, SizeIs(2));
    EXPECT_EQ(*sys::ReadFile(image->layer_dirs[0] + "/etc/os"), "base");
    struct stat info;
    ASSERT_EQ(lstat((image->layer_dirs[1] + "/etc/os").c_str(), &info), 0);
    EXPECT_TRUE(S_ISCHR(info.st_mode) && info.st_rdev == 0);
  }
  std::string id = service_->List().at(0)->id;
  Reopen();
  ASSERT_THAT(service_->List(), SizeIs(1));
  for (const std::string& reference : {Name("team/app:v1"), id, id.substr(7), Name("team/app@" + testing::Digest256("x"))}) {
    auto found = service_->Find(reference);
    ASSERT_TRUE(found) << reference;
    EXPECT_EQ(*found != nullptr, reference.find("@sha") == std::string::npos) << reference;
  }
  EXPECT_NE(*service_->Find(id.substr(7, 13)), nullptr) << "as lists show it";
  EXPECT_NE(*service_->Find(id.substr(0, 7 + 13)), nullptr);
  EXPECT_EQ(*service_->Find(id.substr(7, 6)), nullptr) << "may be a name";
  EXPECT_EQ(*service_->Find(id.substr(7, 12) + (id[19] == '0' ? "1" : "0")), nullptr);
  EXPECT_FALSE(service_->Find("a//b"));
  EXPECT_THAT(Temporaries(), IsEmpty());
}

TEST_F(ServiceTest, SecondPullAsksForTheNameOnly) {
  Publish(registry_, BuildImage({BaseLayer()}), "v1");
  MustPull("app:v1");
  size_t blobs = server_.Count("/blobs/");
  MustPull("app:v1");
  EXPECT_EQ(server_.Count("/blobs/"), blobs);
  ImageRef other = MustPull("elsewhere:v1");  // the same manifest in another repository
  EXPECT_EQ(server_.Count("/blobs/"), blobs);
  EXPECT_THAT(other->repo_tags, UnorderedElementsAre(Name("app:v1"), Name("elsewhere:v1")));
}

TEST_F(ServiceTest, MovedTagLeavesTheOldImageWithItsDigest) {
  BuiltImage first = BuildImage({BaseLayer()}, Packing::kGzip, "1"), second = BuildImage({BaseLayer()}, Packing::kGzip, "2");
  Publish(registry_, first, "v1");
  MustPull("app:v1");
  Publish(registry_, second, "v1");
  EXPECT_EQ(MustPull("app:v1")->id, second.Id());
  ImageRef old = *service_->Find(first.Id());
  ASSERT_NE(old, nullptr);
  EXPECT_THAT(old->repo_tags, IsEmpty());
  EXPECT_THAT(old->repo_digests, ElementsAre(Name("app@" + first.ManifestDigest())));
  Reopen();
  EXPECT_EQ((*service_->Find(Name("app:v1")))->id, second.Id());
  EXPECT_THAT((*service_->Find(first.Id()))->repo_tags, IsEmpty());
  EXPECT_THAT(Layers(), SizeIs(1));
}

TEST_F(ServiceTest, PullByDigestGivesNoTag) {
  BuiltImage built = BuildImage({BaseLayer()});
  Publish(registry_, built, "v1");
  ImageRef image = MustPull("app@" + built.ManifestDigest());
  EXPECT_THAT(image->repo_tags, IsEmpty());
  EXPECT_THAT(image->repo_digests, ElementsAre(Name("app@" + built.ManifestDigest())));
  EXPECT_EQ((*service_->Find(Name("app@" + built.ManifestDigest())))->id, built.Id());
}

TEST_F(ServiceTest, TenPullsOfOneImageAreOneFetch) {
  BuiltImage built = BuildImage({BaseLayer(), AppLayer()});
  Publish(registry_, built, "v1");
  std::vector<std::future<bool>> pulls;
  for (int i = 0; i < 10; ++i) {
    pulls.push_back(std::async(std::launch::async, [&] { return Pull("app:v1").has_value(); }));
  }
  for (auto& pull : pulls) EXPECT_TRUE(pull.get());
  for (const std::string& blob : built.blobs) EXPECT_EQ(server_.Count("/blobs/" + testing::Digest256(blob)), 1u);
}

TEST_F(ServiceTest, ImagesThatShareALayerFetchItOnce) {
  std::vector<std::string> names;
  BuiltImage last;
  for (int i = 0; i < 6; ++i) {
    // Under the shared layer each image has one of its own: other chains, the same diffID.
    last = BuildImage({TarBuilder().Dir("d/").File("d/own", StrCat(i)).Done(), BaseLayer()});
    Publish(registry_, last, StrCat("v", i));
  }
  std::vector<std::future<bool>> pulls;
  for (int i = 0; i < 6; ++i) {
    pulls.push_back(std::async(std::launch::async, [&, i] { return Pull(StrCat("app:v", i)).has_value(); }));
  }
  for (auto& pull : pulls) EXPECT_TRUE(pull.get());
  EXPECT_EQ(server_.Count("/blobs/" + testing::Digest256(last.blobs[1])), 1u);
  EXPECT_THAT(Layers(), SizeIs(7));
}

TEST_F(ServiceTest, RemoveTakesTheImageWithAllNamesAndItsLayers) {
  Publish(registry_, BuildImage({BaseLayer(), AppLayer()}), "v1");
  Publish(registry_, BuildImage({BaseLayer()}), "base");
  MustPull("app:v1");
  MustPull("other:v1");
  ImageRef base = MustPull("app:base");
  ASSERT_TRUE(service_->Remove(Name("other:v1")));
  EXPECT_EQ(*service_->Find(Name("app:v1")), nullptr);
  EXPECT_THAT(Layers(), SizeIs(1));  // the base image's
  EXPECT_EQ(*sys::ReadFile(base->layer_dirs[0] + "/etc/os"), "base");
  EXPECT_TRUE(service_->Remove(Name("other:v1")));
  EXPECT_TRUE(service_->Remove(base->id));
  ExpectNothingLeft();
  EXPECT_EQ(service_->Usage()->used_bytes, 0u);
}

TEST_F(ServiceTest, UntagKeepsTheImageUntilItsLastTag) {
  Publish(registry_, BuildImage({BaseLayer()}), "v1");
  MustPull("a:v1");
  MustPull("b:v1");
  ASSERT_TRUE(service_->Untag(Name("a:v1")));
  EXPECT_EQ(*service_->Find(Name("a:v1")), nullptr);
  EXPECT_NE(*service_->Find(Name("b:v1")), nullptr);
  ASSERT_TRUE(service_->Untag(Name("b:v1")));
  ExpectNothingLeft();
}

TEST_F(ServiceTest, LeaseKeepsLayersOfARemovedImage) {
  Publish(registry_, BuildImage({BaseLayer()}), "v1");
  ImageRef image = MustPull("app:v1");
  ASSERT_TRUE(service_->Lease(image->id, "container-1"));
  ASSERT_TRUE(service_->Lease(image->id, "container-2"));
  EXPECT_EQ(service_->Lease("sha256:none", "c").error().code(), Code::kNotFound);
  ASSERT_TRUE(service_->Remove(image->id));
  EXPECT_THAT(service_->List(), IsEmpty());
  Reopen();
  EXPECT_EQ(*sys::ReadFile(image->layer_dirs[0] + "/etc/os"), "base");
  ASSERT_TRUE(service_->Release("container-1"));
  ASSERT_TRUE(service_->Release("container-1"));
  EXPECT_THAT(Layers(), SizeIs(1));
  ASSERT_TRUE(service_->KeepOnly([](const std::string&) { return false; }));
  ExpectNothingLeft();
}

TEST_F(ServiceTest, RegistryThatLiesLeavesNothing) {
  struct Lie {
    const char* what;
    std::function<void(BuiltImage&, testing::FakeRegistry&)> tell;
    Code code;
  };
  const std::vector<Lie> lies = {
      {"another layer's bytes under the digest",
       [](BuiltImage& image, testing::FakeRegistry& registry) {
         Publish(registry, image, "v1");
         std::string other = testing::Gzip(TarBuilder().File("evil", "x").Done());
         other.resize(image.blobs[1].size(), '\0');
         registry.ReplaceBlob(testing::Digest256(image.blobs[1]), other);
       },
       Code::kDataLoss},
      {"a layer that is not the config's",
       [](BuiltImage& image, testing::FakeRegistry& registry) {
         BuiltImage other = BuildImage({BaseLayer(), TarBuilder().File("evil", "x").Done()});
         std::string config = image.config;
         image = other;
         size_t at = image.manifest.find(testing::Digest256(other.config));
         image.manifest.replace(at, 71, testing::Digest256(config));
         image.config = config;
         Publish(registry, image, "v1");
       },
       Code::kDataLoss},
      {"a size that is not the blob's",
       [](BuiltImage& image, testing::FakeRegistry& registry) {
         size_t at = image.manifest.rfind("\"size\":") + 7;
         image.manifest.insert(at, "1");
         Publish(registry, image, "v1");
       },
       Code::kDataLoss},
      {"a layer cut off",
       [](BuiltImage& image, testing::FakeRegistry& registry) {
         std::string cut = image.blobs[0].substr(0, image.blobs[0].size() / 2);
         BuiltImage shorter = image;
         shorter.blobs[0] = cut;
         auto replace = [&](const std::string& from, const std::string& to) {
           shorter.manifest.replace(shorter.manifest.find(from), from.size(), to);
         };
         replace(testing::Digest256(image.blobs[0]), testing::Digest256(cut));
         replace(StrCat("\"size\":", image.blobs[0].size()), StrCat("\"size\":", cut.size()));
         Publish(registry, shorter, "v1");
       },
       Code::kDataLoss},
  };
  for (const Lie& lie : lies) {
    registry_ = testing::FakeRegistry();
    BuiltImage image = BuildImage({BaseLayer(), AppLayer()});
    lie.tell(image, registry_);
    auto pulled = Pull("app:v1");
    ASSERT_FALSE(pulled) << lie.what;
    EXPECT_EQ(pulled.error().code(), lie.code) << lie.what << ": " << pulled.error().message();
    ExpectNothingLeft();
  }
}

TEST_F(ServiceTest, UnreachableAndMissingAreToldApart) {
  Publish(registry_, BuildImage({BaseLayer()}), "v1");
  EXPECT_EQ(Pull("app:none").error().code(), Code::kNotFound);
  EXPECT_EQ(Pull("UPPER").error().code(), Code::kInvalidArgument);
  auto unreachable = service_->Pull(Ctx().WithTimeout(std::chrono::seconds(20)), StrCat("127.0.0.1:", testing::ClosedPort(), "/x:y"), {});
  ASSERT_FALSE(unreachable);
  EXPECT_THAT(unreachable.error().message(), ::testing::StartsWith("RegistryUnavailable: "));
  ExpectNothingLeft();
}

TEST_F(ServiceTest, CancelledPullEndsAndLeavesNothing) {
  BuiltImage built = BuildImage({BaseLayer(), AppLayer()});
  Publish(registry_, built, "v1");
  std::promise<void> reached;
  std::atomic<bool> told = false;
  answer_ = [&](const Request& request) {
    Response response = registry_.Answer(request);
    if (request.path.find(testing::Digest256(built.blobs[0])) != std::string::npos) {
      response.cut = response.body.size() / 2;
      response.hang = true;
      if (!told.exchange(true)) reached.set_value();
    }
    return response;
  };
  std::stop_source stop;
  auto pull = std::async(std::launch::async, [&] {
    return service_->Pull(Ctx(Clock::time_point::max(), stop.get_token(), "r"), Name("app:v1"), {});
  });
  reached.get_future().wait();
  stop.request_stop();
  auto pulled = pull.get();
  ASSERT_FALSE(pulled);
  EXPECT_EQ(pulled.error().code(), Code::kCancelled);
  ExpectNothingLeft();
}

// Whoever waits for a pull whose caller goes away takes it over.
TEST_F(ServiceTest, PullGoesOnForTheOthersWhenItsCallerGoesAway) {
  BuiltImage built = BuildImage({BaseLayer()});
  Publish(registry_, built, "v1");
  std::promise<void> reached;
  std::atomic<int> asked = 0;
  answer_ = [&](const Request& request) {
    Response response = registry_.Answer(request);
    if (request.path.find("/blobs/" + testing::Digest256(built.blobs[0])) != std::string::npos && asked++ == 0) {
      response.cut = 10;
      response.hang = true;
      reached.set_value();
    }
    return response;
  };
  std::stop_source stop;
  auto first = std::async(std::launch::async, [&] {
    return service_->Pull(Ctx(Clock::time_point::max(), stop.get_token(), "r"), Name("app:v1"), {});
  });
  reached.get_future().wait();
  auto second = std::async(std::launch::async, [&] { return Pull("app:v1"); });
  stop.request_stop();
  EXPECT_FALSE(first.get());
  auto image = second.get();
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ((*image)->id, built.Id());
}

TEST_F(ServiceTest, ProgressGrowsToTheEnd) {
  BuiltImage built = BuildImage({BaseLayer(), AppLayer()});
  Publish(registry_, built, "v1");
  std::vector<PullProgress> last;
  auto image = service_->Pull({}, Name("app:v1"), {}, [&](const std::vector<PullProgress>& progress) {
    for (size_t i = 0; i < last.size(); ++i) EXPECT_GE(progress[i].bytes_done, last[i].bytes_done);
    last = progress;
  });
  ASSERT_TRUE(image);
  ASSERT_THAT(last, SizeIs(2));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(last[i].bytes_done, built.blobs[i].size());
    EXPECT_EQ(last[i].phase, PullProgress::Phase::kDone);
  }
}

// An archive that names only "tmp/x": the container must still see the base's 1777.
TEST_F(ServiceTest, DirectoriesWithoutAnEntryTakeTheirAttributesFromBelow) {
  std::string base = TarBuilder().Dir("tmp/", 01777).Dir("home/", 0700).Dir("gone/", 0700).Done();
  std::string top = TarBuilder().File("tmp/x", "1").File("home/u/f", "2").File(".wh.gone", "").File("gone/f", "3").Done();
  Publish(registry_, BuildImage({base, top}), "v1");
  Publish(registry_, BuildImage({TarBuilder().Dir("home/", 0711).Done(), top}), "v2");
  auto mode_of = [](const ImageRef& image, const std::string& path) {
    struct stat info {};
    EXPECT_EQ(lstat((image->layer_dirs[1] + path).c_str(), &info), 0) << path;
    return info.st_mode & 07777;
  };
  ImageRef first = MustPull("app:v1"), second = MustPull("app:v2");
  EXPECT_EQ(mode_of(first, "/tmp"), 01777u);
  EXPECT_EQ(mode_of(first, "/home"), 0700u);
  EXPECT_EQ(mode_of(first, "/home/u"), 0755u);
  EXPECT_EQ(mode_of(first, "/gone"), 0755u);  // new: what was below is hidden
  EXPECT_EQ(mode_of(second, "/home"), 0711u);
  EXPECT_EQ(mode_of(second, "/tmp"), 0755u);
  Reopen();
  EXPECT_EQ(mode_of(*service_->Find(Name("app:v2")), "/home"), 0711u);
}

TEST_F(ServiceTest, LayerListsFitForOverlay) {
  std::string empty = TarBuilder().Done(), a = TarBuilder().File("a", "1").Done(), b = TarBuilder().File("b", "1").Done();
  std::string fresh = TarBuilder().File(".wh..wh..opq", "").File("c", "1").Done();
  Publish(registry_, BuildImage({a, empty, b, a, empty}), "twice");
  ImageRef image = MustPull("app:twice");
  ASSERT_THAT(image->layer_dirs, SizeIs(2));  // the empty one is left out, the doubled one stays on top
  EXPECT_TRUE(sys::Exists(image->layer_dirs[1] + "/a"));
  EXPECT_THAT(image->diff_ids, SizeIs(5));
  Publish(registry_, BuildImage({a, fresh, b}), "opaque");
  image = MustPull("app:opaque");
  ASSERT_THAT(image->layer_dirs, SizeIs(2));  // overlayfs knows no opaque root
  EXPECT_TRUE(sys::Exists(image->layer_dirs[0] + "/c"));
  Publish(registry_, BuildImage({}), "scratch");
  EXPECT_THAT(MustPull("app:scratch")->layer_dirs, IsEmpty());
}

TEST_F(ServiceTest, StartSurvivesWhateverLiesInTheStore) {
  Publish(registry_, BuildImage({BaseLayer()}), "keep");
  Publish(registry_, BuildImage({BaseLayer(), AppLayer()}), "lost");
  ImageRef keep = MustPull("app:keep"), lost = MustPull("app:lost");
  const std::string images = dir_.path() + "/images";
  ASSERT_TRUE(db_->Put("images", "sha256:bad", 1, "{", state::Durability::kSynced));
  ASSERT_TRUE(db_->Put("images", keep->id + "0", 1, "{}", state::Durability::kSynced));
  ASSERT_TRUE(db_->Put("layers", "../../etc", 1, R"({"diff_id":"x"})", state::Durability::kSynced));
  ASSERT_TRUE(db_->Put("layers", std::string(64, 'a'), 99, "{}", state::Durability::kSynced));
  ASSERT_TRUE(db_->Put("image_leases", "c", 1, "[]", state::Durability::kSynced));
  ASSERT_TRUE(sys::MakeDirs(images + "/layers/orphan/fs", 0700));
  ASSERT_TRUE(sys::MakeDirs(images + "/tmp/half/fs", 0700));
  ASSERT_TRUE(sys::RemoveTree(lost->layer_dirs[1].substr(0, lost->layer_dirs[1].size() - 3)));
  Reopen();
  ASSERT_THAT(service_->List(), SizeIs(1));
  EXPECT_EQ(service_->List()[0]->id, keep->id);
  EXPECT_THAT(Layers(), SizeIs(1));
  EXPECT_THAT(Temporaries(), IsEmpty());
  EXPECT_EQ(MustPull("app:lost")->id, lost->id);
}

TEST_F(ServiceTest, PinnedByAnyOfItsNames) {
  Publish(registry_, BuildImage({BaseLayer()}), "v1");
  EXPECT_FALSE(MustPull("app:v1")->pinned);
  options_.pinned = {Name("app:v1")};
  Reopen();
  EXPECT_TRUE((*service_->Find(Name("app:v1")))->pinned);
}

TEST_F(ServiceTest, UsageCountsWhatLayersTake) {
  Publish(registry_, BuildImage({TarBuilder().File("f", std::string(100'000, 'x')).Done()}), "v1");
  MustPull("app:v1");
  auto usage = service_->Usage();
  EXPECT_GE(usage->used_bytes, 100'000u);
  EXPECT_LT(usage->used_bytes, 200'000u);
  EXPECT_EQ(usage->inodes_used, 2u);  // the file and the skeleton
  EXPECT_EQ(usage->mountpoint, dir_.path() + "/images");
}

}  // namespace
}  // namespace crisp::image
