// The walk from what a reference names to one platform's image, on documents in memory.
#include "image/registry_image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace crisp::image {
namespace {

using ::testing::HasSubstr;

const oci::Platform kAmd64{"linux", "amd64", "", ""};

std::string D(std::string_view bytes) { return oci::Digest::Of(bytes).str(); }

std::string Entry(std::string_view type, std::string_view bytes, std::string_view platform = "") {
  std::string out = StrCat(R"({"mediaType":")", type, R"(","digest":")", D(bytes), R"(","size":)", bytes.size());
  size_t slash = platform.find('/');
  if (!platform.empty()) {
    out += StrCat(R"(,"platform":{"os":")", platform.substr(0, slash), R"(","architecture":")",
                  platform.substr(slash + 1), "\"}");
  }
  return out + "}";
}

// Documents by digest; counts what is asked for.
class Store : public ManifestSource {
 public:
  std::string Config(std::string_view platform, int diff_ids = 1) {
    size_t slash = platform.find('/');
    std::string ids;
    for (int i = 0; i < diff_ids; ++i) ids += StrCat(i ? "," : "", "\"", D("layer"), "\"");
    return Add(StrCat(R"({"os":")", platform.substr(0, slash), R"(","architecture":")",
                      slash == std::string_view::npos ? "" : platform.substr(slash + 1), R"(","rootfs":{"diff_ids":[)",
                      ids, "]}}"));
  }
  std::string Manifest(const std::string& config, std::string_view config_type = oci::media_type::kOciConfig) {
    return Add(StrCat(R"({"schemaVersion":2,"mediaType":")", oci::media_type::kOciManifest, R"(","config":)",
                      Entry(config_type, config), R"(,"layers":[)",
                      Entry("application/vnd.oci.image.layer.v1.tar", "layer"), "]}"));
  }
  std::string Index(const std::vector<std::string>& entries) {
    return Add(StrCat(R"({"schemaVersion":2,"mediaType":")", oci::media_type::kOciIndex, R"(","manifests":[)",
                      Join(entries, ","), "]}"));
  }
  std::string Add(std::string bytes) {
    documents_[D(bytes)] = bytes;
    return bytes;
  }
  Result<ManifestBytes> Manifest(const Ctx&, const oci::Descriptor& descriptor) override {
    ++asked;
    return ManifestBytes{documents_.at(descriptor.digest.str()),
                         answer_type.empty() ? descriptor.media_type : answer_type, descriptor.digest};
  }
  Result<std::string> SmallBlob(const Ctx&, const oci::Descriptor& descriptor, uint64_t) override {
    ++asked;
    return documents_.at(descriptor.digest.str());
  }
  Result<ResolvedImage> Resolve(const std::string& root, const oci::Platform& platform = kAmd64) {
    return ResolveImage(Ctx(), *this, {root, "", oci::Digest::Of(root)}, platform);
  }
  int asked = 0;
  std::string answer_type;

 private:
  std::map<std::string, std::string> documents_;
};

const std::string_view kManifest = oci::media_type::kOciManifest;
const std::string_view kIndex = oci::media_type::kOciIndex;

TEST(ResolveImage, AManifest) {
  Store store;
  std::string config = store.Config("linux/amd64");
  std::string manifest = store.Manifest(config);
  Result<ResolvedImage> image = store.Resolve(manifest);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(image->root_digest.str(), D(manifest));
  EXPECT_EQ(image->manifest_digest.str(), D(manifest));
  EXPECT_EQ(image->config_bytes, config);
  EXPECT_EQ(image->config.diff_ids.size(), 1u);
}

TEST(ResolveImage, AnIndexByPlatform) {
  Store store;
  std::string arm = store.Manifest(store.Config("linux/arm64"));
  std::string amd = store.Manifest(store.Config("linux/amd64"));
  std::string index = store.Index({Entry(kManifest, arm, "linux/arm64"), Entry(kManifest, amd, "linux/amd64")});
  Result<ResolvedImage> image = store.Resolve(index);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(image->root_digest.str(), D(index));
  EXPECT_EQ(image->manifest_digest.str(), D(amd));
  EXPECT_EQ(store.asked, 2);
  Result<ResolvedImage> none = store.Resolve(index, {"linux", "s390x", "", ""});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Code::kNotFound);
  EXPECT_THAT(none.error().message(), HasSubstr("linux/arm64, linux/amd64"));
}

TEST(ResolveImage, EntriesWithoutPlatformAreJudgedByTheirConfig) {
  Store store;
  std::string arm = store.Manifest(store.Config("linux/arm64"));
  std::string chart = store.Manifest(store.Config("linux/amd64"), "application/vnd.cncf.helm.config.v1+json");
  std::string amd = store.Manifest(store.Config("linux/amd64"));
  Result<ResolvedImage> image =
      store.Resolve(store.Index({Entry(kManifest, arm), Entry(kManifest, chart), Entry(kManifest, amd)}));
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(image->manifest_digest.str(), D(amd));
}

TEST(ResolveImage, TheIndexsWordCountsMoreThanTheConfigs) {
  Store store;
  std::string manifest = store.Manifest(store.Config("linux/s390x"));
  EXPECT_TRUE(store.Resolve(store.Index({Entry(kManifest, manifest, "linux/amd64")})));
  EXPECT_EQ(store.Resolve(manifest).error().code(), Code::kNotFound);
  EXPECT_TRUE(store.Resolve(store.Manifest(store.Config(""))));  // says nothing: a scratch image
}

TEST(ResolveImage, IndexesNestToALimit) {
  Store store;
  std::string document = store.Manifest(store.Config("linux/amd64"));
  std::string_view type = kManifest;
  for (int depth = 1; depth <= oci::kIndexDepthMax; ++depth) {
    document = store.Index({Entry(type, document)});
    type = kIndex;
    EXPECT_TRUE(store.Resolve(document)) << depth;
  }
  Result<ResolvedImage> deep = store.Resolve(store.Index({Entry(kIndex, document)}));
  ASSERT_FALSE(deep);
  EXPECT_EQ(deep.error().code(), Code::kInvalidArgument);
}

// A few hostile bytes must not cause a thousand requests.
TEST(ResolveImage, TheNumberOfRequestsIsBounded) {
  Store store;
  std::vector<std::string> entries;
  for (int i = 0; i < 900; ++i) {
    entries.push_back(Entry(kManifest, store.Manifest(store.Config(StrCat("linux/odd", i)))));
  }
  EXPECT_EQ(store.Resolve(store.Index(entries)).error().code(), Code::kInvalidArgument);
  EXPECT_LE(store.asked, 200);
}

TEST(ResolveImage, Refuses) {
  Store store;
  std::string config = store.Config("linux/amd64");
  std::string manifest = store.Manifest(config);
  EXPECT_EQ(store.Resolve(store.Manifest(config, "application/vnd.cncf.helm.config.v1+json")).error().code(),
            Code::kFailedPrecondition);
  EXPECT_EQ(store.Resolve(store.Manifest(store.Config("linux/amd64", 2))).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(store.Resolve(store.Index({})).error().code(), Code::kNotFound);
  // S10: the entry says one type, the answer another.
  EXPECT_FALSE(store.Resolve(store.Index({Entry(oci::media_type::kDockerManifest, manifest, "linux/amd64")})));
  store.answer_type = oci::media_type::kDockerManifest;
  EXPECT_FALSE(store.Resolve(store.Index({Entry(kManifest, manifest, "linux/amd64")})));
}

}  // namespace
}  // namespace crisp::image
