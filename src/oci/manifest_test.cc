#include "oci/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace crisp::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string D(char c) { return "sha256:" + std::string(64, c); }

std::string Entry(std::string_view type, char digest, std::string_view more = "") {
  return StrCat(R"({"mediaType":")", type, R"(","digest":")", D(digest), R"(","size":7)", more, "}");
}

std::string Platformed(char digest, std::string_view os, std::string_view arch, std::string_view variant = "") {
  return Entry(media_type::kOciManifest, digest,
               StrCat(R"(,"platform":{"os":")", os, R"(","architecture":")", arch, R"(","variant":")", variant, "\"}"));
}

std::string ManifestJson(std::string_view media_type, std::string_view layers = "") {
  std::string type = media_type.empty() ? "" : StrCat(R"("mediaType":")", media_type, "\",");
  return StrCat(R"({"schemaVersion":2,)", type, R"("config":)", Entry(media_type::kOciConfig, 'c'), R"(,"layers":[)",
                layers, "]}");
}

std::string IndexJson(std::string_view entries, std::string_view type = media_type::kOciIndex) {
  return StrCat(R"({"schemaVersion":2,"mediaType":")", type, R"(","manifests":[)", entries, "]}");
}

Index ParsedIndex(std::string_view entries) {
  auto parsed = ParseManifest(IndexJson(entries), media_type::kOciIndex);
  EXPECT_TRUE(parsed) << parsed.error().message();
  return std::get<Index>(*parsed);
}

std::vector<char> Chosen(const Index& index, const Platform& wanted) {
  std::vector<char> out;
  for (const Descriptor* d : ChoosePlatform(index, wanted)) out.push_back(d->digest.hex().front());
  return out;
}

TEST(ParseManifest, Oci) {
  std::string layer = "application/vnd.oci.image.layer.v1.tar+gzip";
  auto parsed = ParseManifest(ManifestJson(media_type::kOciManifest, Entry(layer, 'a') + "," + Entry(layer, 'b')),
                              "application/vnd.oci.image.manifest.v1+json; charset=utf-8");
  ASSERT_TRUE(parsed) << parsed.error().message();
  const Manifest& manifest = std::get<Manifest>(*parsed);
  EXPECT_TRUE(manifest.IsContainerImage());
  ASSERT_EQ(manifest.layers.size(), 2u);
  EXPECT_EQ(manifest.layers[1].digest.str(), D('b'));
  EXPECT_EQ(manifest.layers[1].size, 7u);
  EXPECT_EQ(*CompressionOf(manifest.layers[0]), LayerCompression::kGzip);
}

TEST(ParseManifest, MediaTypeComesFromEitherSide) {
  for (std::string_view content_type : {std::string_view(media_type::kOciManifest), std::string_view()}) {
    auto parsed = ParseManifest(ManifestJson(""), content_type);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(std::get<Manifest>(*parsed).media_type, media_type::kOciManifest);
  }
  auto docker = ParseManifest(ManifestJson(media_type::kDockerManifest), "application/json");
  ASSERT_TRUE(docker);
  EXPECT_EQ(std::get<Manifest>(*docker).media_type, media_type::kDockerManifest);
}

TEST(ParseManifest, Refuses) {
  const std::string oci(media_type::kOciManifest);
  const std::string index(media_type::kOciIndex);
  std::string config = Entry(media_type::kOciConfig, 'c');
  std::string many;
  for (size_t i = 0; i <= kEntriesMax; ++i) many += (i ? "," : "") + Entry(oci, 'a');
  struct Case {
    std::string bytes, content_type, why;
  };
  const Case cases[] = {
      {"", oci, "JSON"},
      {"[]", oci, "object"},
      {"null", oci, "object"},
      {"{", oci, "JSON"},
      {R"({"schemaVersion":1e999})", oci, "out of range"},
      {R"({"schemaVersion":"2"})", oci, "schemaVersion"},
      {R"({"schemaVersion":3})", oci, "schemaVersion"},
      {R"({})", oci, "schemaVersion"},
      {R"({"schemaVersion":2})", oci, "config"},
      {R"({"schemaVersion":2,"config":[]})", oci, "config"},
      {R"({"schemaVersion":2,"manifests":{}})", index, "list"},
      // S10: one document, two readings.
      {StrCat(R"({"schemaVersion":2,"manifests":[],"layers":[]})"), index, "both"},
      {StrCat(R"({"schemaVersion":2,"manifests":[],"config":)", config, "}"), index, "both"},
      {ManifestJson(oci), index, "came as"},
      {ManifestJson(oci), std::string(media_type::kDockerManifest), "came as"},
      {ManifestJson(""), index, "media type"},
      {ManifestJson(index), index, "media type"},
      {ManifestJson("text/html"), "", "media type"},
      {ManifestJson(""), "text/html", "media type"},
      {IndexJson("", media_type::kOciManifest), oci, "media type"},
      {IndexJson(many), index, "at most"},
      {ManifestJson(oci, many), oci, "at most"},
      {ManifestJson(oci, R"({"digest":"sha256:../../x","size":1})"), oci, "digest"},
      {ManifestJson(oci, StrCat(R"({"digest":")", D('a'), R"("})")), oci, "size"},
      {ManifestJson(oci, StrCat(R"({"digest":")", D('a'), R"(","size":-1})")), oci, "size"},
      {ManifestJson(oci, StrCat(R"({"digest":")", D('a'), R"(","size":1.5})")), oci, "size"},
      {ManifestJson(oci, StrCat(R"({"digest":")", D('a'), R"(","size":18446744073709551615})")), oci, "size"},
      {ManifestJson(oci, "7"), oci, "layers[0]"},
      {ManifestJson(oci, "null"), oci, "layers[0]"},
      {std::string(1'000'000, '['), oci, "deeper"},
      {StrCat(R"({"schemaVersion":2,"x":")", std::string(kManifestBytesMax, 'a'), "\"}"), oci, "at most"},
  };
  for (const Case& c : cases) {
    auto parsed = ParseManifest(c.bytes, c.content_type);
    ASSERT_FALSE(parsed) << c.bytes.substr(0, 200);
    EXPECT_EQ(parsed.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(parsed.error().message(), HasSubstr(c.why));
  }
}

TEST(ParseManifest, Schema1IsNamedAsSuch) {
  for (std::string_view bytes : {R"({"schemaVersion":1,"fsLayers":[]})", R"({"schemaVersion":2,"fsLayers":[]})"}) {
    auto parsed = ParseManifest(bytes, "application/vnd.docker.distribution.manifest.v1+prettyjws");
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().code(), Code::kFailedPrecondition);
    EXPECT_THAT(parsed.error().message(), HasSubstr("schema 1"));
  }
}

// Each prefix and each single changed byte of a good document either parses or is an error.
TEST(ParseManifest, MutationsNeverCrash) {
  std::string good = IndexJson(Platformed('a', "linux", "arm", "v7"));
  int accepted = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (char c : {'\0', '"', '{', '}', '[', ',', '9', '-', '\xff'}) {
      std::string changed = good;
      changed[i] = c;
      accepted += ParseManifest(changed, "").has_value();
    }
    EXPECT_FALSE(ParseManifest(std::string_view(good).substr(0, i), ""));
  }
  EXPECT_GT(accepted, 0);
}

TEST(ChoosePlatform, TakesTheBestVariantTheMachineRuns) {
  Index index = ParsedIndex(StrCat(Platformed('1', "linux", "arm", "v5"), ",", Platformed('2', "linux", "arm", "v7"),
                                   ",", Platformed('3', "linux", "arm64", "v8"), ",", Platformed('4', "linux", "amd64"),
                                   ",", Platformed('5', "linux", "amd64", "v3"), ",", Platformed('6', "linux", "386"),
                                   ",", Platformed('7', "windows", "amd64"), ",", Platformed('8', "linux", "arm", "v6"),
                                   ",", Platformed('9', "linux", "arm", "v8")));
  EXPECT_THAT(Chosen(index, {"linux", "amd64", "", ""}), ElementsAre('4', '6'));
  EXPECT_THAT(Chosen(index, {"linux", "amd64", "v3", ""}), ElementsAre('5', '4', '6'));
  EXPECT_THAT(Chosen(index, {"linux", "amd64", "v2", ""}), ElementsAre('4', '6'));
  EXPECT_THAT(Chosen(index, {"linux", "x86_64", "", ""}), ElementsAre('4', '6'));
  EXPECT_THAT(Chosen(index, {"linux", "arm", "v7", ""}), ElementsAre('2', '8', '1'));
  EXPECT_THAT(Chosen(index, {"linux", "arm", "v6", ""}), ElementsAre('8', '1'));
  EXPECT_THAT(Chosen(index, {"linux", "armhf", "", ""}), ElementsAre('2', '8', '1'));
  EXPECT_THAT(Chosen(index, {"linux", "arm64", "", ""}), ElementsAre('3', '9', '2', '8', '1'));
  EXPECT_THAT(Chosen(index, {"linux", "riscv64", "", ""}), ElementsAre());
}

TEST(ChoosePlatform, EntriesWithoutPlatformComeLastAndAttestationsNever) {
  std::string attestation =
      Entry(media_type::kOciManifest, 'e', R"(,"annotations":{"vnd.docker.reference.type":"attestation-manifest"})");
  Index index = ParsedIndex(StrCat(Entry(media_type::kOciManifest, '1'), ",", Platformed('2', "unknown", "unknown"),
                                   ",", attestation, ",", Platformed('3', "linux", "amd64"), ",",
                                   Entry("text/plain", '4'), ",", Entry(media_type::kDockerList, '5')));
  EXPECT_THAT(Chosen(index, {"linux", "amd64", "", ""}), ElementsAre('3', '1', '5'));
}

TEST(Platform, MachineRunsItself) {
  Platform machine = MachinePlatform();
  EXPECT_EQ(machine.os, "linux");
  EXPECT_TRUE(Matches(machine, machine));
  EXPECT_FALSE(Matches({"windows", machine.architecture, "", ""}, machine));
#if defined(__x86_64__)
  EXPECT_EQ(machine.architecture, "amd64");
  EXPECT_TRUE(Matches({"linux", "amd64", "", ""}, machine));
#endif
}

TEST(CompressionOf, ByMediaType) {
  struct Case {
    const char* type;
    LayerCompression want;
  };
  const Case cases[] = {
      {"application/vnd.oci.image.layer.v1.tar", LayerCompression::kNone},
      {"application/vnd.oci.image.layer.v1.tar+zstd", LayerCompression::kZstd},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", LayerCompression::kGzip},
      {"application/vnd.docker.image.rootfs.diff.tar", LayerCompression::kNone},
      {"application/vnd.docker.image.rootfs.diff.tar.gzip", LayerCompression::kGzip},
      {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", LayerCompression::kGzip},
  };
  for (const Case& c : cases) EXPECT_EQ(*CompressionOf({.media_type = c.type}), c.want) << c.type;
  for (const char* type : {"", "application/vnd.oci.image.layer.v1.tar+encrypted", "application/vnd.erofs.layer",
                           "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}) {
    ASSERT_FALSE(CompressionOf({.media_type = type})) << type;
    EXPECT_EQ(CompressionOf({.media_type = type}).error().code(), Code::kUnimplemented);
  }
}

TEST(ParseImageConfig, Reads) {
  auto config = ParseImageConfig(StrCat(R"({
    "created":"2024-02-29T12:00:00.5+01:00","architecture":"amd64","os":"linux","author":"me",
    "config":{"User":"1000:100","Env":["PATH=/bin","A="],"Entrypoint":["/e"],"Cmd":["a","b"],"WorkingDir":"/w",
      "Volumes":{"/v2":{},"/v1":{}},"ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT","Labels":{"k":"v"}},
    "rootfs":{"type":"layers","diff_ids":[")",
                                        D('1'), "\",\"", D('2'), R"("]},
    "history":[{"created_by":"RUN x"},{"empty_layer":true}]})"));
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->platform.Text(), "linux/amd64");
  EXPECT_EQ(config->created_unix_nanos, 1709204400500000000);
  EXPECT_EQ(config->user, "1000:100");
  EXPECT_THAT(config->env, ElementsAre("PATH=/bin", "A="));
  EXPECT_THAT(config->entrypoint, ElementsAre("/e"));
  EXPECT_THAT(config->cmd, ElementsAre("a", "b"));
  EXPECT_EQ(config->working_dir, "/w");
  EXPECT_THAT(config->volumes, ElementsAre("/v1", "/v2"));
  EXPECT_THAT(config->exposed_ports, ElementsAre("80/tcp"));
  EXPECT_EQ(config->stop_signal, "SIGQUIT");
  EXPECT_EQ(config->labels.at("k"), "v");
  ASSERT_EQ(config->diff_ids.size(), 2u);
  ASSERT_EQ(config->history.size(), 2u);
  EXPECT_TRUE(config->history[1].empty_layer);
  Manifest manifest;
  manifest.layers.resize(2);
  EXPECT_TRUE(CheckLayers(manifest, *config));
  manifest.layers.resize(3);
  EXPECT_FALSE(CheckLayers(manifest, *config));
}

TEST(ParseImageConfig, NullMeansAbsent) {
  auto config = ParseImageConfig(
      R"({"config":{"Env":null,"Cmd":null,"Labels":null,"Volumes":null},"rootfs":null,"history":null})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_TRUE(config->diff_ids.empty());
  EXPECT_TRUE(ParseImageConfig(R"({"config":null})"));
}

TEST(ParseImageConfig, UnreadableTimesAreNoError) {
  for (const char* time : {"", "yesterday", "0001-01-01T00:00:00Z", "2024-01-01T00:00:00", "9999-12-31T00:00:00Z",
                           "2024-01-01T00:00:00+x"}) {
    auto config = ParseImageConfig(StrCat(R"({"created":")", time, "\"}"));
    ASSERT_TRUE(config);
    EXPECT_EQ(config->created_unix_nanos, 0) << time;
  }
}

TEST(ParseImageConfig, Refuses) {
  const std::string bad[] = {
      "",
      "7",
      R"({"config":[]})",
      R"({"config":{"Env":"A=b"}})",
      R"({"config":{"Env":[1]}})",
      R"({"config":{"Env":["A=b\u0000c"]}})",
      R"({"config":{"User":"root\u0000x"}})",
      R"({"config":{"Entrypoint":["/bin/x\u0000"]}})",
      R"({"config":{"Volumes":["/v"]}})",
      R"({"config":{"Labels":{"a":1}}})",
      R"({"rootfs":{"type":"squashfs"}})",
      R"({"rootfs":{"diff_ids":["sha256:zz"]}})",
      R"({"rootfs":{"diff_ids":"x"}})",
      R"({"history":{}})",
      R"({"history":["x"]})",
      R"({"history":[{"empty_layer":"yes"}]})",
      R"({"os":1})",
      StrCat(R"({"x":")", std::string(kConfigBytesMax, 'a'), "\"}"),
  };
  for (const std::string& bytes : bad) {
    auto config = ParseImageConfig(bytes);
    ASSERT_FALSE(config) << bytes.substr(0, 100);
    EXPECT_EQ(config.error().code(), Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace crisp::oci
