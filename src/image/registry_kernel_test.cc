// The registry client against a real registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "base/strings.h"
#include "image/registry_image.h"
#include "image/testing/fake_registry.h"
#include "image/testing/real_registry.h"

namespace crisp::image {
namespace {

using testing::Digest256;
using ::testing::HasSubstr;
using testing::QuickOptions;
using testing::RealRegistry;

constexpr char kRepository[] = "deep/er/app";

std::string Layer(char fill) { return std::string(3'000'000, fill); }

std::string Descriptor(std::string_view type, std::string_view bytes, std::string_view more = "") {
  return StrCat(R"({"mediaType":")", type, R"(","digest":")", Digest256(bytes), R"(","size":)", bytes.size(), more,
                "}");
}

// An index with an image for linux/amd64 of two layers, and one for an architecture that nobody has. Returns its
// digest.
std::string PushIndex(RealRegistry& registry) {
  std::string config =
      StrCat(R"({"os":"linux","architecture":"amd64","config":{"Cmd":["/x"]},"rootfs":{"type":"layers","diff_ids":[")",
             Digest256(Layer('a')), "\",\"", Digest256(Layer('b')), "\"]}}");
  registry.PushBlob(kRepository, config);
  for (char fill : {'a', 'b'}) registry.PushBlob(kRepository, Layer(fill));
  std::string_view layer = "application/vnd.oci.image.layer.v1.tar";
  std::string manifest = StrCat(R"({"schemaVersion":2,"mediaType":")", oci::media_type::kOciManifest, R"(","config":)",
                                Descriptor(oci::media_type::kOciConfig, config), R"(,"layers":[)",
                                Descriptor(layer, Layer('a')), ",", Descriptor(layer, Layer('b')), "]}");
  registry.PushManifest(kRepository, Digest256(manifest), manifest, oci::media_type::kOciManifest);
  auto entry = [&](std::string_view arch) {
    return Descriptor(oci::media_type::kOciManifest, manifest,
                      StrCat(R"(,"platform":{"os":"linux","architecture":")", arch, "\"}"));
  };
  std::string index = StrCat(R"({"schemaVersion":2,"mediaType":")", oci::media_type::kOciIndex, R"(","manifests":[)",
                             entry("pdp11"), ",", entry("amd64"), "]}");
  return registry.PushManifest(kRepository, "v1", index, oci::media_type::kOciIndex);
}

std::unique_ptr<Repository> Open(const RealRegistry& registry, const std::string& name,
                                 const Credentials& credentials = {}) {
  auto repository =
      Registry(QuickOptions()).Open(*oci::Reference::Parse(StrCat(registry.Host(), "/", name)), credentials);
  EXPECT_TRUE(repository) << repository.error().message();
  return std::move(*repository);
}

TEST(RealRegistry, WholeImageWithLayersInParallel) {
  auto registry = RealRegistry::Start(RealRegistry::Access::kEverybody);
  if (registry == nullptr) GTEST_SKIP() << "docker-registry is not installed";
  std::string index = PushIndex(*registry);
  auto repository = Open(*registry, StrCat(kRepository, ":v1"));
  Result<oci::Descriptor> head = repository->Head(Ctx());
  ASSERT_TRUE(head) << head.error().message();
  EXPECT_EQ(head->digest.str(), index);
  EXPECT_EQ(head->media_type, oci::media_type::kOciIndex);
  Result<ResolvedImage> image = ResolveImage(Ctx(), *repository, {"linux", "amd64", "", ""});
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_EQ(image->root_digest.str(), index);
  EXPECT_EQ(image->config.cmd, std::vector<std::string>{"/x"});
  ASSERT_EQ(image->manifest.layers.size(), 2u);
  std::vector<std::future<std::string>> layers;
  for (int i = 0; i < 8; ++i) {
    layers.push_back(std::async(std::launch::async, [&, i] {
      std::string got;
      Result<> fetched = repository->FetchBlob(Ctx(), image->manifest.layers[static_cast<size_t>(i) % 2], 0,
                                               [&](std::string_view bytes) {
                                                 got += bytes;
                                                 return Result<>();
                                               });
      return fetched ? got : fetched.error().message();
    }));
  }
  for (size_t i = 0; i < layers.size(); ++i) EXPECT_TRUE(layers[i].get() == Layer(i % 2 ? 'b' : 'a')) << i;
  // The rest of a blob, by a range.
  std::string rest;
  ASSERT_TRUE(repository->FetchBlob(Ctx(), image->manifest.layers[0], 2'999'990, [&](std::string_view bytes) {
    rest += bytes;
    return Result<>();
  }));
  EXPECT_EQ(rest, "aaaaaaaaaa");
  EXPECT_TRUE(Open(*registry, StrCat(kRepository, "@", index))->Resolve(Ctx()));
}

TEST(RealRegistry, WhatIsNotThereIsNotFound) {
  auto registry = RealRegistry::Start(RealRegistry::Access::kEverybody);
  if (registry == nullptr) GTEST_SKIP() << "docker-registry is not installed";
  PushIndex(*registry);
  for (std::string name :
       {StrCat(kRepository, ":v2"), std::string("nobody/here:v1"), StrCat(kRepository, "@", Digest256("x"))}) {
    auto repository = Open(*registry, name);
    Result<ManifestBytes> manifest = repository->Resolve(Ctx());
    ASSERT_FALSE(manifest) << name;
    EXPECT_EQ(manifest.error().code(), Code::kNotFound);
    EXPECT_EQ(repository->Head(Ctx()).error().code(), Code::kNotFound);
    EXPECT_THAT(manifest.error().message(), HasSubstr("UNKNOWN"));
  }
}

TEST(RealRegistry, Password) {
  auto registry = RealRegistry::Start(RealRegistry::Access::kPassword);
  if (registry == nullptr) GTEST_SKIP() << "docker-registry is not installed";
  PushIndex(*registry);
  std::string name = StrCat(kRepository, ":v1");
  EXPECT_TRUE(Open(*registry, name, {.username = "user", .password = "p4ssword"})->Resolve(Ctx()));
  EXPECT_EQ(Open(*registry, name, {.username = "user", .password = "wrong"})->Resolve(Ctx()).error().code(),
            Code::kUnauthenticated);
  EXPECT_EQ(Open(*registry, name)->Resolve(Ctx()).error().code(), Code::kUnauthenticated);
}

}  // namespace
}  // namespace crisp::image
