// Pulling, naming, listing and removing images.
#include <algorithm>
#include <set>
#include <thread>

#include "base/strings.h"
#include "conformance/registry.h"
#include "conformance/spec.h"

namespace crisp::conformance {
namespace {

class Images : public Spec {
 protected:
  Json ImageStatus(const std::string& reference) {
    Json reply = Call("ImageStatus", {{"image", {{"image", reference}}}});
    return reply.contains("image") ? reply["image"] : Json();
  }
  void RemoveImage(const std::string& reference) { Call("RemoveImage", {{"image", {{"image", reference}}}}); }
  void NeedsImageIds(const Json& status) {
    if (status.at("image_id") == "" && context().fault.empty())
      throw Unsupported("the runtime does not say the image_id of containers");
  }
  bool Listed(const std::string& id) {
    Json reply = Call("ListImages");
    return std::any_of(reply["images"].begin(), reply["images"].end(),
                       [&](const Json& image) { return image.at("id") == id; });
  }
  std::string Pull(const std::string& reference) {
    RemoveImageAtEnd(reference);
    return Call("PullImage", {{"image", {{"image", reference}}}})["image_ref"];
  }
  void PulledAndRemoved(const std::string& reference) {
    std::string ref = Pull(reference);
    ASSERT_NE(ref, "");
    Json status = ImageStatus(reference);
    ASSERT_FALSE(status.is_null()) << "no status of " << reference;
    EXPECT_GT(status.at("size"), 0);
    EXPECT_TRUE(Listed(status.at("id")));
    RemoveImage(reference);
    EXPECT_TRUE(ImageStatus(reference).is_null());
    EXPECT_FALSE(Listed(status.at("id")));
  }
};

#define PULL_SPEC(group_, name_, ...)                                                     \
  class group_##_##name_ : public Images {                                                \
   protected:                                                                             \
    void Body() override;                                                                 \
  };                                                                                      \
  static const bool registered_##group_##_##name_ =                                       \
      internal::Register({#group_, #name_, __FILE__, __LINE__, SpecOptions{__VA_ARGS__}}, \
                         new testing::internal::TestFactoryImpl<group_##_##name_>);       \
  void group_##_##name_::Body()
// Who removes images is alone, as with critest: CRI-O was seen to lose the layers that another pull shares with an
// image that is just being removed. That is what SharedLayersSurviveRemovals asks, and no other spec is to fail of it.
#define IMAGE_SPEC(group_, name_, ...) PULL_SPEC(group_, name_, __VA_ARGS__, .serial = true)

IMAGE_SPEC(ImageManager, PullByTagAndRemove, .like = {48},
           .faults = {"RemoveImage:noop", "PullImage:noop", "ListImages:-images", "ImageStatus:image.size=0"}) {
  PulledAndRemoved(ImageName("small/" + Unique(), "v1"));
}
IMAGE_SPEC(ImageManager, PullWithoutTagAndRemove, .like = {50}, .faults = {"PullImage:noop"}) {
  std::string reference = ImageName("small/" + Unique(), "");
  Pull(reference);
  EXPECT_FALSE(ImageStatus(reference + ":latest").is_null()) << "no tag means latest";
  PulledAndRemoved(reference);
}
IMAGE_SPEC(ImageManager, PullByDigestAndRemove, .like = {51}, .faults = {"PullImage:noop"}) {
  // The registry learns the digest of a small image when its tag is asked for.
  std::string repository = ImageName("small/" + Unique(), "");
  Pull(repository + ":first");
  Json status = ImageStatus(repository + ":first");
  ASSERT_EQ(status.at("repo_digests").size(), 1u);
  std::string by_digest = status.at("repo_digests").at(0);
  RemoveImage(repository + ":first");
  PulledAndRemoved(by_digest);
}
PULL_SPEC(ImageManager, PullEndsWithItsDeadline, .like = {49}, .faults = {"PullImage:noop"}) {
  auto begin = std::chrono::steady_clock::now();
  auto reply =
      cri().Call("PullImage", {{"image", {{"image", ImageName("hang/" + Unique())}}}}, std::chrono::seconds(1));
  ASSERT_FALSE(reply) << "a registry that does not answer gives an image";
  EXPECT_EQ(static_cast<int>(reply.error().code()), static_cast<int>(Code::kDeadlineExceeded));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}
IMAGE_SPEC(ImageManager, StatusByEveryKindOfReference, .like = {52},
           .faults = {"ImageStatus:-image", "ImageStatus:image.id=other"}) {
  std::string reference = ImageName("small/" + Unique(), "v1");
  Pull(reference);
  Json status = ImageStatus(reference);
  ASSERT_FALSE(status.is_null());
  std::string id = status.at("id");
  std::vector<std::string> names = {id, reference};
  if (id.starts_with("sha256:")) names.push_back(id.substr(7));
  for (const Json& digest : status.at("repo_digests")) names.push_back(digest);
  for (const std::string& name : names) {
    Json again = ImageStatus(name);
    ASSERT_FALSE(again.is_null()) << "no status by " << name;
    EXPECT_EQ(again["id"], status.at("id")) << name;
    EXPECT_NE(again["id"], "other");
    EXPECT_EQ(again["repo_tags"], Json::array({reference})) << name;
  }
}
IMAGE_SPEC(ImageManager, StatusHasUidOrUserName, .like = {53},
           .faults = {"ImageStatus:-image.uid; ImageStatus:-image.username", "ImageStatus:image.username=root"}) {
  struct Case {
    const char* image;
    std::optional<int64_t> uid;
    const char* username;
  };
  for (const Case& one : {Case{"user-uid", 1002, ""},
                          {"user-name", std::nullopt, "www-data"},
                          {"user-uid-group", 1003, ""},
                          {"user-name-group", std::nullopt, "www-data"}}) {
    std::string reference = ImageName(one.image + ("/" + Unique()));
    Pull(reference);
    Json status = ImageStatus(reference);
    ASSERT_FALSE(status.is_null());
    EXPECT_EQ(status.contains("uid"), one.uid.has_value()) << one.image;
    if (one.uid && status.contains("uid")) {
      EXPECT_EQ(status.at("uid").at("value"), *one.uid) << one.image;
    }
    EXPECT_EQ(status.at("username"), one.username) << one.image;
  }
}
IMAGE_SPEC(ImageManager, ListHasEachImageOnce, .like = {54}, .faults = {"ListImages:-images"}) {
  std::multiset<std::string> wanted, seen;
  for (int i = 0; i < 3; ++i) wanted.insert(ImageName("small/" + Unique(), "v1"));
  for (const std::string& reference : wanted) Pull(reference);
  Json reply = Call("ListImages");
  for (const Json& image : reply["images"]) {
    for (const Json& tag : image.at("repo_tags")) {
      if (wanted.contains(tag)) seen.insert(tag.get<std::string>());
    }
  }
  EXPECT_EQ(seen, wanted);
  for (const std::string& reference : wanted) RemoveImage(reference);
}
IMAGE_SPEC(ImageManager, ListHasAllTagsOfAnImage, .like = {55},
           .faults = {"ListImages:images.*.repo_tags=[]", "ListImages:-images.*.repo_tags.0"}) {
  std::string repository = Unique();
  std::set<std::string> tags;
  for (const char* tag : {"1", "2", "3"}) tags.insert(ImageName("tags/" + repository, tag));
  for (const std::string& tag : tags) Pull(tag);
  Json reply = Call("ListImages");
  int images = 0;
  for (const Json& image : reply["images"]) {
    std::set<std::string> seen;
    for (const Json& tag : image.at("repo_tags")) {
      if (tag.get<std::string>().find(repository) != std::string::npos) seen.insert(tag.get<std::string>());
    }
    if (seen.empty()) continue;
    ++images;
    EXPECT_EQ(seen, tags);
  }
  EXPECT_EQ(images, 1) << "three tags of one image";
}
IMAGE_SPEC(ImageManager, ListFilterNamesAnImage, .faults = {"ListImages<-filter", "ListImages:-images"}) {
  std::string one = ImageName("small/" + Unique(), "v1"), two = ImageName("small/" + Unique(), "v1");
  Pull(one);
  Pull(two);
  Json reply = Call("ListImages", {{"filter", {{"image", {{"image", one}}}}}});
  ASSERT_EQ(reply["images"].size(), 1u);
  EXPECT_EQ(reply["images"][0]["repo_tags"], Json::array({one}));
}

IMAGE_SPEC(ImageManager, RemoveByOneTagRemovesAll, .like = {56}, .faults = {"RemoveImage:noop"}) {
  std::string repository = Unique();
  std::vector<std::string> tags;
  for (const char* tag : {"1", "2", "3"}) tags.push_back(ImageName("tags/" + repository, tag));
  for (const std::string& tag : tags) Pull(tag);
  RemoveImage(
      ImageStatus(tags[0]).at("id"));  // by id, as a kubelet does: by a name, some runtimes only take the name away
  for (const std::string& tag : tags) EXPECT_TRUE(ImageStatus(tag).is_null()) << tag;
}
IMAGE_SPEC(ImageManager, RemoveRemovesTagsOfOtherRegistries, .like = {57}, .faults = {"RemoveImage:noop"}) {
  std::string reference = ImageName("tags/" + Unique(), "v1");
  std::string other = "localhost" + reference.substr(reference.find(':'));
  Pull(reference);
  Pull(other);
  std::string id = ImageStatus(reference)["id"];
  ASSERT_EQ(id, ImageStatus(other)["id"]);
  RemoveImage(id);
  EXPECT_TRUE(ImageStatus(reference).is_null());
  EXPECT_TRUE(ImageStatus(other).is_null());
}

// ---- errors and credentials

PULL_SPEC(ImageManager, PullOfAMissingImageFails, .faults = {"PullImage:swallow"}) {
  MustFail("PullImage", {{"image", {{"image", ImageName("missing", Unique())}}}});
}
PULL_SPEC(ImageManager, PullOfDamagedBytesFails, .faults = {"PullImage:swallow"}) {
  std::string reference = ImageName("broken", Unique());
  MustFail("PullImage", {{"image", {{"image", reference}}}});
  EXPECT_TRUE(ImageStatus(reference).is_null());
}
PULL_SPEC(ImageManager, PullOfAnInvalidReferenceFails, .faults = {"PullImage:swallow"}) {
  MustFail("PullImage", {{"image", {{"image", "UPPER/Case:not:valid"}}}});
}
PULL_SPEC(ImageManager, UnavailableRegistryIsNamed, .faults = {"PullImage:swallow"}) {
  auto reply = Try("PullImage", {{"image", {{"image", ImageName("unavailable", Unique())}}}});
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().message(), "");
}
IMAGE_SPEC(ImageManager, PullNeedsCredentials, .faults = {"PullImage<-auth", "PullImage:swallow"}) {
  std::string reference = ImageName("private/" + Unique(), "v1");
  MustFail("PullImage", {{"image", {{"image", reference}}}});
  MustFail("PullImage",
           {{"image", {{"image", reference}}}, {"auth", {{"username", Registry::kUser}, {"password", "wrong"}}}});
  EXPECT_TRUE(ImageStatus(reference).is_null());
  Json reply = Call("PullImage", {{"image", {{"image", reference}}},
                                  {"auth", {{"username", Registry::kUser}, {"password", Registry::kPassword}}}});
  RemoveImageAtEnd(reference);
  EXPECT_FALSE(ImageStatus(reference).is_null());
  RemoveImage(reference);
}
IMAGE_SPEC(ImageManager, SharedLayersSurviveRemovals, .faults = {"PullImage:fail", "RemoveImage:fail"}) {
  constexpr int kThreads = 4, kImages = 6;  // all with the same layer
  std::vector<std::string> failures(kThreads);
  std::vector<std::thread> threads;
  for (std::string& failure : failures) {
    threads.emplace_back([this, &failure] {
      for (int i = 0; i < kImages && failure.empty(); ++i) {
        Json image = {{"image", {{"image", ImageName("small/" + Unique(), "v1")}}}};
        auto pulled = Try("PullImage", image);
        auto removed = pulled ? Try("RemoveImage", image) : Json();
        if (!pulled) failure = StrCat("PullImage: ", pulled.error().message());
        if (!removed) failure = StrCat("RemoveImage: ", removed.error().message());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& failure : failures) EXPECT_EQ(failure, "");
}
IMAGE_SPEC(ImageManager, PullsOfOneImageAtOnce, .faults = {"PullImage:fail", "PullImage:image_ref="}) {
  std::string reference = ImageName("small/" + Unique(), "v1");
  std::vector<std::string> refs(6);
  std::vector<std::thread> threads;
  for (std::string& ref : refs) {
    threads.emplace_back([this, &ref, &reference] {
      auto reply = Try("PullImage", {{"image", {{"image", reference}}}});
      if (reply) ref = (*reply)["image_ref"];
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& ref : refs) {
    EXPECT_NE(ref, "");
    EXPECT_EQ(ref, refs[0]);
  }
  RemoveImage(reference);
}
PULL_SPEC(ImageManager, FileSystemInfo,
          .faults = {"ImageFsInfo:-image_filesystems", "ImageFsInfo:image_filesystems.*.used_bytes.value=0",
                     "ImageFsInfo:image_filesystems.*.timestamp=0"}) {
  Image("busybox");
  Json reply;
  Eventually("the file system's use is counted", [&] {  // some runtimes count now and then
    reply = Call("ImageFsInfo");
    return !reply["image_filesystems"].empty() && reply["image_filesystems"][0].at("used_bytes").at("value") > 0;
  });
  const Json& fs = reply["image_filesystems"][0];
  EXPECT_GT(fs.at("timestamp"), 0);
  EXPECT_NE(fs.at("fs_id").at("mountpoint"), "");
  EXPECT_GT(fs.at("inodes_used").at("value"), 0);
}

// ---- consistency

IMAGE_SPEC(ImageConsistency, GoneAtOnceAfterRemoval, .like = {124}, .faults = {"RemoveImage:noop"}) {
  for (int i = 0; i < 5; ++i) {
    std::string reference = ImageName("small/" + Unique(), "v1");
    Pull(reference);
    std::string id = ImageStatus(reference)["id"];
    RemoveImage(reference);
    EXPECT_TRUE(ImageStatus(reference).is_null());
    EXPECT_FALSE(Listed(id));
  }
}
IMAGE_SPEC(ImageConsistency, ThereAtOnceAfterPull, .like = {125},
           .faults = {"PullImage:noop", "ListImages:-images", "ImageStatus:-image"}) {
  for (int i = 0; i < 5; ++i) {
    std::string reference = ImageName("small/" + Unique(), "v1");
    Pull(reference);
    Json status = ImageStatus(reference);
    ASSERT_FALSE(status.is_null());
    EXPECT_TRUE(Listed(status.at("id")));
    RemoveImage(reference);
  }
}
IMAGE_SPEC(ImageConsistency, RemovalsAtOnceSucceed, .like = {126}, .faults = {"RemoveImage:fail"}) {
  std::string reference = ImageName("small/" + Unique(), "v1");
  Pull(reference);
  std::vector<std::string> errors(5);
  std::vector<std::thread> threads;
  for (std::string& error : errors) {
    threads.emplace_back([this, &error, &reference] {
      auto reply = Try("RemoveImage", {{"image", {{"image", reference}}}});
      if (!reply) error = reply.error().message();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& error : errors) EXPECT_EQ(error, "");
  EXPECT_TRUE(ImageStatus(reference).is_null());
}

IMAGE_SPEC(ImageIdentifierConsistency, OneIdEverywhere, .like = {127},
           .faults = {"PullImage:image_ref=other", "ContainerStatus:status.image_id=other",
                      "ListContainers:containers.*.image_id=other", "ListImages:images.*.id=other"}) {
  std::string reference = ImageName("environment/" + Unique());
  std::string ref = Pull(reference);
  Json image = ImageStatus(reference);
  ASSERT_FALSE(image.is_null());
  EXPECT_EQ(ref, image.at("id"));
  EXPECT_TRUE(Listed(ref));
  Pod pod = RunPod();
  std::string id = Run(pod, {{"image", {{"image", ref}, {"user_specified_image", reference}}}});
  Json status = Status(id), list = Call("ListContainers", {{"filter", {{"id", id}}}});
  NeedsImageIds(status);
  ASSERT_EQ(list["containers"].size(), 1u);
  EXPECT_EQ(status.at("image_id"), ref);
  EXPECT_EQ(list["containers"][0]["image_id"], ref);
}
IMAGE_SPEC(ImageIdentifierConsistency, OneIdFromTwoRegistries, .like = {128},
           .faults = {"PullImage:image_ref=other", "ImageStatus:image.id=other"}) {
  std::string reference = ImageName("tags/" + Unique(), "v1");
  std::string other = "localhost" + reference.substr(reference.find(':'));
  std::string one = Pull(reference), two = Pull(other);
  EXPECT_EQ(one, two);
  EXPECT_EQ(one, ImageStatus(reference)["id"].get<std::string>());
  EXPECT_EQ(one, ImageStatus(other)["id"].get<std::string>());
  Pod pod = RunPod();
  std::string id = Create(pod, {{"image", {{"image", one}, {"user_specified_image", other}}}, {"command", {"/hello"}}});
  Json status = Status(id);
  NeedsImageIds(status);
  EXPECT_EQ(status.at("image_id"), one);
}

}  // namespace
}  // namespace crisp::conformance
