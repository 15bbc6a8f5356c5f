// Signature policies as a pull meets them. Needs root (layers have owners) and gpgv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "image/directory.h"
#include "image/registry_credentials.h"
#include "image/service.h"
#include "image/testing/http_server.h"
#include "image/testing/image_builder.h"
#include "image/testing/openpgp_fixture.h"
#include "image/testing/signer.h"
#include "image/testing/temp_dir.h"
#include "state/database.h"

namespace crisp::image {
namespace {

using testing::BuildImage;
using testing::BuiltImage;
using testing::CosignPayload;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::IsEmpty;
using testing::Publish;
using testing::PublishSignature;
using testing::Request;
using testing::Response;
using testing::Signer;
using ::testing::StartsWith;
using testing::TarBuilder;

constexpr const char* kAcceptAnything = R"({"default":[{"type":"insecureAcceptAnything"}]})";
constexpr const char* kReject = R"({"default":[{"type":"reject"}]})";

class TrustTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.root_dir = dir_.path() + "/root";
    options_.signature_policy = dir_.path() + "/policy.json";
    options_.signature_policy_dir = dir_.path() + "/policies";
    options_.signature_lookaside_dir = dir_.path() + "/registries.d";
    ASSERT_TRUE(sys::MakeDir(options_.root_dir, 0700));
    db_ = *state::Database::Open(options_.root_dir + "/crisp.db");
    service_ = *Service::Open(options_, *db_);
    Publish(registry_, image_, "v1");
  }
  void Policy(std::string_view text) { dir_.Write("policy.json", text); }
  // A policy that wants `requirement` for this test's registry and rejects everything else.
  void Want(std::string_view requirement) {
    Policy(StrCat(R"({"default":[{"type":"reject"}],"transports":{"docker":{")", server_.Host(), "\":[", requirement,
                  "]}}}"));
  }
  std::string Name(const std::string& rest) const { return server_.Host() + "/" + rest; }
  Result<ImageRef> Pull(const std::string& rest, const std::string& pod_namespace = "") {
    return service_->Pull(Ctx().WithTimeout(std::chrono::seconds(60)), Name(rest), {}, {}, pod_namespace);
  }
  void ExpectRefused(const std::string& rest, const char* told, const std::string& pod_namespace = "") {
    auto image = Pull(rest, pod_namespace);
    ASSERT_FALSE(image) << told;
    EXPECT_EQ(image.error().code(), Code::kPermissionDenied) << image.error().message();
    EXPECT_THAT(image.error().message(), StartsWith("SignatureValidationFailed: "));
    EXPECT_THAT(image.error().message(), HasSubstr(told));
  }
  void ExpectPulled(const std::string& rest, const std::string& pod_namespace = "") {
    auto image = Pull(rest, pod_namespace);
    EXPECT_TRUE(image) << image.error().message();
  }
  // "": a container of a pod in that namespace may use the only image, called `reference`.
  std::string Use(const std::string& reference, const std::string& pod_namespace = "") {
    Result<> allowed = service_->CheckAllowed(Ctx(), *service_->List().front(), reference, pod_namespace);
    if (allowed) return "";
    EXPECT_THAT(allowed.error().message(), StartsWith("SignatureValidationFailed: "));
    EXPECT_EQ(allowed.error().code(), Code::kPermissionDenied);
    return allowed.error().message();
  }
  void ExpectNothingLeft() {
    EXPECT_THAT(*ListDirectory(options_.root_dir + "/images/layers"), IsEmpty());
    EXPECT_THAT(*ListDirectory(options_.root_dir + "/images/tmp"), IsEmpty());
    EXPECT_THAT(service_->List(), IsEmpty());
  }
  std::string Index(const std::string& manifest) const {
    return StrCat(
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":)",
        R"("application/vnd.oci.image.manifest.v1+json","digest":")", testing::Digest256(manifest), R"(","size":)",
        manifest.size(), R"(,"platform":{"os":"linux","architecture":")", oci::MachinePlatform().architecture,
        "\"}}]}");
  }

  testing::TempDir dir_;
  testing::FakeRegistry registry_;
  std::function<Response(const Request&)> answer_ = [this](const Request& request) {
    return registry_.Answer(request);
  };
  HttpServer server_{[this](const Request& request) { return answer_(request); }};
  const BuiltImage image_ = BuildImage({TarBuilder().Dir("etc/").File("etc/os", "base").Done()});
  ServiceOptions options_;
  std::unique_ptr<state::Database> db_;
  std::unique_ptr<Service> service_;
};

// Also: the policy is read at each pull, and one that is no good lets nothing in.
TEST_F(TrustTest, PolicyDecidesBeforeAnythingIsFetched) {
  ExpectRefused("app:v1", "policy.json");  // configured, but missing
  Policy("{");
  ExpectRefused("app:v1", "policy.json");
  Policy(R"({"default":[{"type":"insecureAcceptAnything","x":1}]})");
  ExpectRefused("app:v1", "unknown key \"x\"");
  Policy(kReject);
  ExpectRefused("app:v1", "rejected by");
  EXPECT_THAT(server_.Requests(), IsEmpty());
  ExpectNothingLeft();
  Want(R"({"type":"insecureAcceptAnything"})");
  ExpectPulled("app:v1");
  Policy(kReject);
  ExpectRefused("app:v1", "rejected by");  // although it is here
  Want(R"({"type":"insecureAcceptAnything"},{"type":"reject"})");
  ExpectRefused("app:v1", "rejected by");
}

TEST_F(TrustTest, NamespaceHasItsOwnPolicy) {
  Policy(kReject);
  dir_.Write("policies/open.json", kAcceptAnything);
  dir_.Write("policies/broken.json", "{");
  ExpectPulled("app:v1", "open");
  ExpectRefused("app:v1", "rejected", "other");
  ExpectRefused("app:v1", "rejected");
  ExpectRefused("app:v1", "broken.json", "broken");
  ExpectRefused("app:v1", "no namespace", "../policies/open");
  ASSERT_TRUE(sys::RemoveFile(options_.signature_policy));
  ExpectRefused("app:v1", "policy.json", "other");
}

TEST_F(TrustTest, SigstoreSignatureByOneOfTheKeys) {
  const Signer signer, other("ED25519");
  dir_.Write("key.pem", signer.PublicPem());
  dir_.Write("other.pem", other.PublicPem());
  const std::string any = StrCat(R"({"type":"sigstoreSigned","keyPaths":[")", dir_.path(), R"(/other.pem",")",
                                 dir_.path(), R"(/key.pem"],"signedIdentity":{"type":"matchRepository"}})");
  const std::string digest = image_.ManifestDigest();
  Want(any);
  ExpectRefused("app:v1", "no signature found");
  PublishSignature(registry_, Signer(), digest, CosignPayload(digest, Name("app")));
  ExpectRefused("app:v1", "none of the policy's keys");
  PublishSignature(registry_, signer, digest, CosignPayload(testing::Digest256("x"), Name("app")));
  ExpectRefused("app:v1", "another image");
  PublishSignature(registry_, signer, digest, CosignPayload(digest, Name("elsewhere")));
  ExpectRefused("app:v1", "/elsewhere");
  PublishSignature(registry_, signer, digest, "{}");
  ExpectRefused("app:v1", "payload");
  ExpectNothingLeft();
  PublishSignature(registry_, signer, digest, CosignPayload(digest, Name("app")));
  ExpectPulled("app:v1");
  ExpectPulled("app@" + digest);
  ExpectRefused("elsewhere:v1", "/app");

  // Two requirements: one signature by each key.
  const std::string both = StrCat(any, R"(,{"type":"sigstoreSigned","keyPath":")", dir_.path(),
                                  R"(/other.pem","signedIdentity":{"type":"matchRepository"}})");
  Want(both);
  ExpectRefused("app:v1", "none of the policy's keys");
  Want(StrCat(R"({"type":"sigstoreSigned","keyPath":")", dir_.path(), R"(/none.pem"})"));
  ExpectRefused("app:v1", "none.pem");
  Want(StrCat(R"({"type":"sigstoreSigned","keyPath":")", dir_.path(), R"(/policy.json"})"));
  ExpectRefused("app:v1", "no public key");
}

// Cosign signs what a tag names, mostly an index; with --recursive each manifest as well.
TEST_F(TrustTest, SignatureOfTheIndexOrOfThePlatformsManifest) {
  const Signer signer;
  dir_.Write("key.pem", signer.PublicPem());
  Want(StrCat(R"({"type":"sigstoreSigned","keyPath":")", dir_.path(),
              R"(/key.pem","signedIdentity":{"type":"matchRepository"}})"));
  const std::string index = Index(image_.manifest);
  const std::string root = registry_.AddManifest("multi", index, oci::media_type::kOciIndex);
  ExpectRefused("app:multi", "no signature found");
  PublishSignature(registry_, signer, root, CosignPayload(root, Name("app")));
  ExpectPulled("app:multi");
  ExpectRefused("app:v1", "no signature found");  // the index's signature is not the manifest's
  registry_ = testing::FakeRegistry();
  Publish(registry_, image_, "v1");
  registry_.AddManifest("multi", index, oci::media_type::kOciIndex);
  PublishSignature(registry_, signer, image_.ManifestDigest(), CosignPayload(image_.ManifestDigest(), Name("app")));
  ExpectPulled("app:multi");
  ExpectPulled("app:v1");
}

TEST_F(TrustTest, SignaturesThatCannotBeFetchedAreTriedLater) {
  const Signer signer;
  dir_.Write("key.pem", signer.PublicPem());
  Want(StrCat(R"({"type":"sigstoreSigned","keyPath":")", dir_.path(), R"(/key.pem"})"));
  answer_ = [this](const Request& request) {
    if (request.path.ends_with(".sig")) return Response{.status = 403};
    return registry_.Answer(request);
  };
  auto image = Pull("app:v1");
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message(), ::testing::Not(StartsWith("SignatureValidationFailed")));
  ExpectNothingLeft();
}

// A policy that got stricter after the pull counts when a container is to be created.
TEST_F(TrustTest, UseIsJudgedByThePolicyOfNow) {
  const Signer signer, other("ED25519");
  dir_.Write("key.pem", signer.PublicPem());
  dir_.Write("other.pem", other.PublicPem());
  auto signed_by = [&](const char* key) {
    return StrCat(R"({"type":"sigstoreSigned","keyPath":")", dir_.path(), "/", key,
                  R"(","signedIdentity":{"type":"matchRepository"}})");
  };
  const std::string digest = image_.ManifestDigest();
  PublishSignature(registry_, signer, digest, CosignPayload(digest, Name("app")));
  Policy(kAcceptAnything);
  auto image = Pull("app:v1");
  ASSERT_TRUE(image);
  const std::string id = (*image)->id;
  EXPECT_EQ(Use(Name("app:v1")), "");
  EXPECT_EQ(Use(id), "");
  Policy(kReject);
  EXPECT_THAT(Use(Name("app:v1")), HasSubstr("rejected by"));
  dir_.Write("policies/open.json", kAcceptAnything);
  EXPECT_EQ(Use(Name("app:v1"), "open"), "") << "the namespace's own policy";
  Want(signed_by("key.pem"));
  EXPECT_THAT(Use(Name("app:v1")), HasSubstr("pull it again")) << "signed, but nobody has looked at that";
  ExpectPulled("app:v1");
  EXPECT_EQ(Use(Name("app:v1")), "");
  EXPECT_EQ(Use(id), "") << "by its names";
  EXPECT_EQ(Use(id.substr(7)), "");
  EXPECT_EQ(Use(""), "");
  EXPECT_THAT(Use(Name("elsewhere:v1")), HasSubstr("a signature for the name"));
  EXPECT_THAT(Use("busybox"), HasSubstr("rejected by"));
  Want(signed_by("other.pem"));
  EXPECT_THAT(Use(Name("app:v1")), HasSubstr("none of the policy's keys"));
  Policy("{");
  EXPECT_THAT(Use(Name("app:v1")), HasSubstr("policy.json"));
  // What was kept outlives a restart.
  Want(signed_by("key.pem"));
  service_.reset();
  db_ = nullptr;
  db_ = *state::Database::Open(options_.root_dir + "/crisp.db");
  service_ = *Service::Open(options_, *db_);
  EXPECT_EQ(Use(Name("app:v1")), "");
  // An image that came without a pull has no signature.
  const std::string archive = dir_.path() + "/app.tar";
  ASSERT_TRUE(service_->Export(Ctx(), Name("app:v1"), archive));
  ASSERT_TRUE(service_->Remove(Name("app:v1")));
  ASSERT_TRUE(service_->Import(Ctx(), archive, ""));
  EXPECT_THAT(Use(Name("app:v1")), HasSubstr("no signature found"));
  Policy(kAcceptAnything);
  EXPECT_EQ(Use(Name("app:v1")), "");
}

class OpenPgpTrustTest : public TrustTest {
 protected:
  void SetUp() override {
    TrustTest::SetUp();
    registry_.AddManifest("signed", testing::kSignedManifest);
    registry_.AddBlob(testing::kSignedConfig);
    dir_.Write("key.asc", testing::kSignerKey);
    dir_.Write("other.asc", testing::kOtherKey);
    WantKey("key.asc");
  }
  void WantKey(const std::string& key) {
    Want(StrCat(
        R"({"type":"signedBy","keyType":"GPGKeys","keyPath":")", dir_.path(), "/", key,
        R"(","signedIdentity":{"type":"exactReference","dockerReference":"registry.example.org/team/app:v1"}})"));
  }
  void Lookaside(const std::string& base) {
    dir_.Write("registries.d/a.yaml", StrCat("docker:\n  ", server_.Host(), ":\n    lookaside: ", base, "\n"));
  }
  const std::string place_ = StrCat("team/app@sha256=", testing::Digest256(testing::kSignedManifest).substr(7));
};

TEST_F(OpenPgpTrustTest, SignatureFromADirectory) {
  Lookaside(StrCat("file://", dir_.path(), "/sigs"));
  ExpectRefused("team/app:signed", "no signature found");
  dir_.Write(StrCat("sigs/", place_, "/signature-1"), *Base64Decode(testing::kTwoSignaturesBase64));
  ExpectRefused("team/app:signed", "by none");
  ExpectNothingLeft();
  dir_.Write(StrCat("sigs/", place_, "/signature-2"), *Base64Decode(testing::kSignatureBase64));
  ExpectPulled("team/app:signed");
  ExpectRefused("team/app:v1", "no signature found");
  WantKey("other.asc");
  ExpectRefused("team/app:signed", "none of the policy's keys");
  WantKey("policy.json");
  ExpectRefused("team/app:signed", "no OpenPGP public key");
  WantKey("key.asc");
  dir_.Write("registries.d/b.yaml", "docker: [");
  ExpectRefused("team/app:signed", "b.yaml");
}

TEST_F(OpenPgpTrustTest, SignatureFromAServer) {
  int status = 503;
  HttpServer lookaside([&](const Request& request) -> Response {
    if (request.path == "/moved/" + place_ + "/signature-1") return {.body = *Base64Decode(testing::kSignatureBase64)};
    if (request.path == "/sigs/" + place_ + "/signature-1" && status == 302) {
      return {.status = 302, .headers = {{"Location", "/moved/" + place_ + "/signature-1"}}};
    }
    return {.status = status == 302 ? 404 : status};
  });
  Lookaside(lookaside.Url() + "/sigs/");
  auto image = Pull("team/app:signed");
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().code(), Code::kUnavailable);
  EXPECT_THAT(image.error().message(), StartsWith("RegistryUnavailable: "));
  status = 404;
  ExpectRefused("team/app:signed", "no signature found");
  ExpectNothingLeft();
  status = 302;
  ExpectPulled("team/app:signed");
  Lookaside(StrCat("http://user:hunter2@127.0.0.1:", testing::ClosedPort(), "/x"));
  image = Pull("team/app:signed");
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message(), StartsWith("RegistryUnavailable: "));
  EXPECT_THAT(image.error().message(), ::testing::Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace crisp::image
