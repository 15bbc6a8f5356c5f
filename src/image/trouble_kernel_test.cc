// Pulls when something around them fails: a full disk, a registry that goes away in the middle, a staged layer that
// vanishes. Needs root.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <thread>

#include "base/strings.h"
#include "image/directory.h"
#include "image/service.h"
#include "image/testing/http_server.h"
#include "image/testing/image_builder.h"
#include "image/testing/temp_dir.h"
#include "state/database.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::image {
namespace {

using testing::BuildImage;
using testing::BuiltImage;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Packing;
using testing::Publish;
using testing::Request;
using testing::Response;
using ::testing::SizeIs;
using ::testing::StartsWith;
using testing::TarBuilder;

class TroubleTest : public ::testing::Test {
 protected:
  void Open(int layers_parallel_max = 4) {
    options_.root_dir = dir_.path() + "/root";
    options_.layers_parallel_max = layers_parallel_max;
    ASSERT_TRUE(sys::MakeDir(options_.root_dir, 0700));
    db_ = *state::Database::Open(options_.root_dir + "/crisp.db");
    service_ = *Service::Open(options_, *db_);
  }
  void Close() {
    service_.reset();
    db_.reset();
  }
  std::string Name(const std::string& rest) const { return server_.Host() + "/" + rest; }
  Result<ImageRef> Pull(const std::string& rest, const Credentials& credentials = {}) {
    return service_->Pull(Ctx().WithTimeout(std::chrono::seconds(60)), Name(rest), credentials);
  }
  std::vector<std::string> Layers() const { return *ListDirectory(options_.root_dir + "/images/layers"); }
  std::vector<std::string> Temporaries() const { return *ListDirectory(options_.root_dir + "/images/tmp"); }

  testing::TempDir dir_;
  testing::FakeRegistry registry_;
  std::function<Response(const Request&)> answer_ = [this](const Request& request) {
    return registry_.Answer(request);
  };
  HttpServer server_{[this](const Request& request) { return answer_(request); }};
  ServiceOptions options_;
  std::unique_ptr<state::Database> db_;
  std::unique_ptr<Service> service_;
};

TarBuilder Files(char letter, size_t bytes) {
  return TarBuilder().File(std::string(1, letter), std::string(bytes, letter));
}

// Writes until nothing fits any more.
void Fill(const std::string& path) {
  sys::UniqueFd file = *sys::Open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  for (size_t size : {size_t{64} << 10, size_t{4} << 10, size_t{1}}) {
    while (sys::WriteAll(file, std::string(size, 'x'))) {
    }
  }
}

TEST_F(TroubleTest, FullDiskFailsPullsAndStillRemoves) {
  Publish(registry_, BuildImage({Files('a', 1 << 20).Done()}, Packing::kNone), "first");
  Publish(registry_, BuildImage({Files('b', 100).Done(), Files('c', 2 << 20).Done()}, Packing::kNone), "second");
  const std::string root = dir_.path() + "/root";
  ASSERT_TRUE(sys::MakeDir(root, 0700));
  std::thread([&] {
    ASSERT_EQ(unshare(CLONE_NEWNS | CLONE_FS), 0);
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(mount("tmpfs", root.c_str(), "tmpfs", 0, "size=12m"), 0);
    Open();
    auto first = Pull("app:first");
    ASSERT_TRUE(first) << first.error().message();
    Fill(root + "/filler");
    for (int round = 0; round < 2; ++round) {
      auto second = Pull("app:second");
      ASSERT_FALSE(second);
      EXPECT_EQ(second.error().code(), Code::kResourceExhausted) << second.error().message();
      EXPECT_THAT(Temporaries(), IsEmpty());
      EXPECT_THAT(Layers(), SizeIs(1));
      EXPECT_THAT(service_->List(), SizeIs(1));
    }
    EXPECT_EQ((*service_->Find(Name("app:first")))->id, (*first)->id);
    Result<> removed = service_->Remove((*first)->id);
    EXPECT_TRUE(removed) << removed.error().message();
    EXPECT_THAT(service_->List(), IsEmpty());
    EXPECT_THAT(Layers(), IsEmpty());
    ASSERT_TRUE(sys::RemoveFile(root + "/filler"));
    EXPECT_TRUE(Pull("app:second"));
    // What is there after a restart is what was told.
    Close();
    Open();
    EXPECT_THAT(service_->List(), SizeIs(1));
    EXPECT_THAT(Layers(), SizeIs(2));
    Close();
    EXPECT_EQ(umount2(root.c_str(), MNT_DETACH), 0);
  }).join();
}

// Another pull of the same layer may have committed it, and its image been removed, before this one's commit.
TEST_F(TroubleTest, StagedLayerThatVanishedIsFetchedAgain) {
  Open(1);
  BuiltImage built = BuildImage({Files('a', 100'000).Done(), Files('b', 100).Done()}, Packing::kNone);
  Publish(registry_, built, "v1");
  int times = 0;
  answer_ = [&](const Request& request) {
    // One layer after the other, the large one first.
    if (request.path.find(testing::Digest256(built.blobs[1])) != std::string::npos && times++ == 0) {
      for (const std::string& name : Temporaries()) {
        const std::string staged = StrCat(options_.root_dir, "/images/tmp/", name);
        if (!sys::Exists(staged + "/fs/a")) continue;
        EXPECT_TRUE(sys::RemoveTree(staged));
      }
    }
    return registry_.Answer(request);
  };
  auto image = Pull("app:v1");
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(sys::ReadFile((*image)->layer_dirs[0] + "/a")->size(), 100'000u);
  EXPECT_EQ(server_.Count("/blobs/" + testing::Digest256(built.blobs[0])), 2u);
  EXPECT_THAT(Temporaries(), IsEmpty());
}

// At whichever request the registry begins to fail, the kubelet's word comes first and no secret comes at all.
TEST_F(TroubleTest, RegistryThatGoesAwayIsToldInTheKubeletsWord) {
  Open();
  BuiltImage built = BuildImage({Files('a', 100).Done()});
  Publish(registry_, built, "v1");
  const Credentials credentials{.username = "u", .password = "p"};
  bool is_over = false;
  for (int healthy = 0; !is_over; ++healthy) {
    ASSERT_LT(healthy, 20);
    int n = 0;
    answer_ = [&](const Request& request) -> Response {
      if (n++ < healthy) return registry_.WithBearer(request, server_.Url() + "/token", "u:p");
      // Longer than anybody waits, so that the pull gives up at once.
      return {.status = 503,
              .headers = {{"Retry-After", "3600"}},
              .body = StrCat("not now, ", request.Header("authorization"), " u:p dTpw token-")};
    };
    auto image = Pull("app:v1", credentials);
    is_over = image.has_value();
    if (is_over) break;
    SCOPED_TRACE(StrCat(healthy, ": ", image.error().message()));
    EXPECT_EQ(image.error().code(), Code::kUnavailable);
    EXPECT_THAT(image.error().message(), StartsWith("RegistryUnavailable: "));
    for (const char* secret : {"dTpw", "u:p", "token-1"}) EXPECT_THAT(image.error().message(), Not(HasSubstr(secret)));
    EXPECT_THAT(Layers(), IsEmpty());
    EXPECT_THAT(Temporaries(), IsEmpty());
    registry_.ExpireTokens();
  }
}

}  // namespace
}  // namespace crisp::image
