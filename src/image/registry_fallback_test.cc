// Mirrors, fallback and TLS: the state machine of README.md, "Hosts and fallback".
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "image/registry.h"
#include "image/testing/fake_registry.h"
#include "image/testing/http_server.h"
#include "image/testing/temp_dir.h"

namespace crisp::image {
namespace {

using testing::BlobOf;
using testing::Digest256;
using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::Not;
using testing::QuickOptions;
using testing::Request;
using testing::Response;
using ::testing::StartsWith;
using testing::TempDir;

class FallbackTest : public ::testing::Test {
 protected:
  FallbackTest() {
    fake_.AddManifest("v1", "{}");
    options_.certs_dir = dir_.path();
  }
  // A client of r.example/app:v1, whose hosts.toml is `text`.
  Repository& Open(const std::string& text, const Credentials& credentials = {}) {
    dir_.Write("r.example/hosts.toml", text);
    auto repository = Registry(options_).Open(*oci::Reference::Parse("r.example/app:v1"), credentials);
    EXPECT_TRUE(repository) << repository.error().message();
    repository_ = std::move(*repository);
    return *repository_;
  }
  static std::string Hosts(const std::string& server, std::initializer_list<std::string> mirrors) {
    std::string text = StrCat("server = \"", server, "\"\n");
    for (const std::string& mirror : mirrors) text += StrCat("[host.\"", mirror, "\"]\n");
    return text;
  }
  TempDir dir_;
  FakeRegistry fake_;
  RegistryOptions options_ = QuickOptions();
  std::unique_ptr<Repository> repository_;
};

Response Broken(const Request&) { return {.headers = {{"Content-Length", "100"}}, .body = "{", .cut = 1}; }
Response Lying(const Request&) { return {.headers = {{"Docker-Content-Digest", Digest256("else")}}, .body = "{}"}; }
HttpServer::Handler Status(int status) {
  return [status](const Request&) { return Response{.status = status, .headers = {{"WWW-Authenticate", "Basic"}}}; };
}

// Whatever a mirror does, the registry is asked next and the pull succeeds.
TEST_F(FallbackTest, EachFailureOfAMirrorLeadsToTheRegistry) {
  HttpServer registry([&](const Request& r) { return fake_.Answer(r); });
  struct Case {
    const char* name;
    HttpServer::Handler mirror;
    size_t asked;  // how often the mirror is asked in two pulls' steps
  };
  const Case cases[] = {
      {"400", Status(400), 2},
      {"401", Status(401), 2},
      {"403", Status(403), 2},
      {"404", Status(404), 2},
      {"429", Status(429), 2},
      {"500", Status(500), 2},
      {"503", Status(503), 2},
      {"broken", Broken, 2},
      {"lying", Lying, 2},
      {"redirect", [](const Request&) { return Response{.status = 302, .headers = {{"Location", "ftp://x"}}}; }, 1},
  };
  for (const Case& c : cases) {
    HttpServer mirror(c.mirror);
    Repository& repository = Open(Hosts(registry.Url(), {mirror.Url()}));
    for (int i = 0; i < 2; ++i) {
      Result<ManifestBytes> manifest = repository.Resolve(Ctx());
      ASSERT_TRUE(manifest) << c.name << ": " << manifest.error().message();
    }
    EXPECT_EQ(mirror.Requests().size(), c.asked) << c.name;
    EXPECT_EQ(mirror.Requests()[0].query, "ns=r.example");
  }
}

TEST_F(FallbackTest, AMirrorThatCannotBeReachedIsAskedOnceInAPull) {
  HttpServer registry([&](const Request& r) { return fake_.Answer(r); });
  HttpServer untrusted(Status(404), HttpServer::Tls::kSelfSigned);
  for (const std::string& mirror : {StrCat("http://127.0.0.1:", testing::ClosedPort()), untrusted.Url()}) {
    Repository& repository = Open(Hosts(registry.Url(), {mirror}));
    EXPECT_TRUE(repository.Resolve(Ctx())) << mirror;
    EXPECT_TRUE(repository.Resolve(Ctx())) << mirror;
  }
  EXPECT_TRUE(untrusted.Requests().empty());
}

// What is told when nobody helps: the registry's own answer first, the mirrors' after it.
TEST_F(FallbackTest, TheRegistryHasTheLastWord) {
  struct Case {
    int registry;
    Code code;
    size_t asked;  // how often the registry is asked
  };
  const Case cases[] = {{404, Code::kNotFound, 1},         {401, Code::kUnauthenticated, 1},
                        {403, Code::kPermissionDenied, 1}, {400, Code::kFailedPrecondition, 1},
                        {429, Code::kUnavailable, 4},      {500, Code::kUnavailable, 4}};
  HttpServer mirror(Status(500));
  for (const Case& c : cases) {
    HttpServer registry(Status(c.registry));
    Result<ManifestBytes> manifest = Open(Hosts(registry.Url(), {mirror.Url()})).Resolve(Ctx());
    ASSERT_FALSE(manifest);
    EXPECT_EQ(manifest.error().code(), c.code) << c.registry;
    EXPECT_THAT(manifest.error().message(), HasSubstr(StrCat("before that GET ", mirror.Url())));
    EXPECT_EQ(registry.Requests().size(), c.asked) << c.registry;
    EXPECT_EQ(c.code == Code::kUnavailable, manifest.error().message().starts_with("RegistryUnavailable: "));
  }
  Result<ManifestBytes> gone = Open(Hosts(StrCat("http://127.0.0.1:", testing::ClosedPort()), {})).Resolve(Ctx());
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), Code::kUnavailable);
  EXPECT_THAT(gone.error().message(), StartsWith("RegistryUnavailable: "));
}

TEST_F(FallbackTest, WithoutFallbackTheRegistryIsNotAsked) {
  HttpServer registry([&](const Request& r) { return fake_.Answer(r); });
  HttpServer mirror(Status(404));
  EXPECT_EQ(Open(StrCat("fallback = false\n", Hosts(registry.Url(), {mirror.Url()}))).Resolve(Ctx()).error().code(),
            Code::kNotFound);
  EXPECT_TRUE(registry.Requests().empty());
}

TEST_F(FallbackTest, MirrorsAreTriedInOrderAndByCapability) {
  HttpServer registry([&](const Request& r) { return fake_.Answer(r); });
  HttpServer blobs_only([&](const Request& r) { return fake_.Answer(r); });
  fake_.AddBlob("blob");
  Repository& repository =
      Open(StrCat("server = \"", registry.Url(), "\"\n[host.\"", blobs_only.Url(), "\"]\ncapabilities = [\"pull\"]\n"));
  EXPECT_TRUE(repository.Resolve(Ctx()));
  EXPECT_TRUE(blobs_only.Requests().empty());
  EXPECT_TRUE(repository.FetchSmallBlob(Ctx(), BlobOf("blob"), 10));
  EXPECT_EQ(blobs_only.Requests().size(), 1u);
  EXPECT_EQ(registry.Requests().size(), 1u);
}

TEST_F(FallbackTest, NoHostWithTheCapabilityIsSaidSo) {
  Result<ManifestBytes> manifest = Open("capabilities = [\"push\"]\n").Resolve(Ctx());
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(manifest.error().message(), HasSubstr("hosts.toml"));
}

TEST_F(FallbackTest, ABlobBegunAtAMirrorIsEndedByTheRegistry) {
  std::string blob(100'000, 'b');
  fake_.AddBlob(blob);
  HttpServer registry([&](const Request& r) { return fake_.Answer(r); });
  HttpServer mirror([&](const Request& r) {
    Response response = fake_.Answer(r);
    response.cut = 40'000;
    return response;
  });
  EXPECT_EQ(*Open(Hosts(registry.Url(), {mirror.Url()})).FetchSmallBlob(Ctx(), BlobOf(blob), blob.size()), blob);
  ASSERT_EQ(registry.Requests().size(), 1u);
  EXPECT_EQ(registry.Requests()[0].Header("range"), "bytes=40000-");
}

TEST_F(FallbackTest, WrongBytesOfAMirrorAreFetchedFromTheRegistry) {
  std::string blob(1000, 'b');
  fake_.AddBlob(blob);
  HttpServer registry([&](const Request& r) { return fake_.Answer(r); });
  HttpServer mirror([&](const Request&) { return Response{.body = std::string(1000, 'x')}; });
  Repository& repository = Open(Hosts(registry.Url(), {mirror.Url()}));
  EXPECT_EQ(*repository.FetchSmallBlob(Ctx(), BlobOf(blob), 1000), blob);
  EXPECT_EQ(mirror.Requests().size(), 1u);
  EXPECT_FALSE(repository.RejectBlob(BlobOf(blob)));  // now nobody is left
}

// User-pains row 11 and S13: the registry's password is not the mirror's.
TEST_F(FallbackTest, CredentialsGoToTheRegistryAndNotToItsMirrors) {
  auto wants_password = [&](const Request& r) {
    if (r.Header("authorization") != "Basic dTpw")
      return Response{.status = 401, .headers = {{"WWW-Authenticate", "Basic"}}};
    return fake_.Answer(r);
  };
  HttpServer registry(wants_password);
  HttpServer mirror(wants_password);
  EXPECT_TRUE(Open(Hosts(registry.Url(), {mirror.Url()}), {.username = "u", .password = "p"}).Resolve(Ctx()));
  ASSERT_EQ(mirror.Requests().size(), 1u);
  EXPECT_EQ(mirror.Requests()[0].Header("authorization"), "");
  // The mirror's own, from docker's configuration, do.
  dir_.Write("config.json", StrCat(R"({"auths":{")", mirror.Host(), R"(":{"username":"u","password":"p"}}})"));
  options_.docker_config = dir_.path() + "/config.json";
  EXPECT_TRUE(Open(Hosts(registry.Url(), {mirror.Url()})).Resolve(Ctx()));
  EXPECT_EQ(mirror.Requests().back().Header("authorization"), "Basic dTpw");
}

TEST_F(FallbackTest, HeadersOfHostsTomlGoToThatHostOnly) {
  HttpServer storage([&](const Request&) { return Response{.body = "blob"}; });
  HttpServer registry(Status(404));
  HttpServer mirror(
      [&](const Request&) { return Response{.status = 307, .headers = {{"Location", storage.Url() + "/b"}}}; });
  Repository& repository = Open(StrCat(Hosts(registry.Url(), {mirror.Url()}), "[host.\"", mirror.Url(),
                                       "\".header]\nauthorization = \"Bearer canary-token\"\n"));
  EXPECT_TRUE(repository.FetchSmallBlob(Ctx(), BlobOf("blob"), 10));
  EXPECT_EQ(mirror.Requests()[0].Header("authorization"), "Bearer canary-token");
  EXPECT_EQ(storage.Requests()[0].Header("authorization"), "");
}

TEST_F(FallbackTest, RetryAfterThatIsTooLongIsNotWaitedFor) {
  options_.backoff_max = std::chrono::milliseconds(10);
  HttpServer registry([](const Request&) { return Response{.status = 429, .headers = {{"Retry-After", "3600"}}}; });
  Result<ManifestBytes> manifest = Open(Hosts(registry.Url(), {})).Resolve(Ctx());
  ASSERT_FALSE(manifest);
  EXPECT_THAT(manifest.error().message(), HasSubstr("too many requests"));
  EXPECT_EQ(registry.Requests().size(), 1u);
}

TEST_F(FallbackTest, ABrokenHostsTomlIsNamed) {
  dir_.Write("r.example/hosts.toml", "server = 7");
  auto repository = Registry(options_).Open(*oci::Reference::Parse("r.example/app:v1"), {});
  ASSERT_FALSE(repository);
  EXPECT_EQ(repository.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(repository.error().message(), HasSubstr("r.example/hosts.toml:1"));
}

// ---- TLS ----

class TlsTest : public FallbackTest {
 protected:
  // hosts.toml for `server`, whose certificate is trusted.
  std::string Trusting(const HttpServer& server) {
    dir_.Write("r.example/ca.pem", server.Certificate());
    return StrCat("server = \"", server.Url(), "\"\nca = \"ca.pem\"\n");
  }
};

TEST_F(TlsTest, PeersAreVerified) {
  HttpServer server([&](const Request& r) { return fake_.Answer(r); }, HttpServer::Tls::kSelfSigned);
  Result<ManifestBytes> unknown = Open(Hosts(server.Url(), {})).Resolve(Ctx());
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), Code::kUnavailable);
  EXPECT_TRUE(server.Requests().empty());
  EXPECT_TRUE(Open(Hosts(server.Url(), {}) + "skip_verify = true\n").Resolve(Ctx()));
  Result<ManifestBytes> trusted = Open(Trusting(server)).Resolve(Ctx());
  EXPECT_TRUE(trusted) << trusted.error().message();
}

TEST_F(TlsTest, AMissingCaFileIsNamed) {
  HttpServer server([&](const Request& r) { return fake_.Answer(r); }, HttpServer::Tls::kSelfSigned);
  Result<ManifestBytes> manifest = Open(Hosts(server.Url(), {}) + "ca = \"gone.pem\"\n").Resolve(Ctx());
  ASSERT_FALSE(manifest);
  EXPECT_THAT(manifest.error().message(), HasSubstr("gone.pem"));
}

TEST_F(TlsTest, ARedirectToPlainHttpIsRefused) {
  fake_.AddBlob("blob");
  HttpServer storage([&](const Request&) { return Response{.body = "blob"}; });
  HttpServer server(
      [&](const Request&) { return Response{.status = 307, .headers = {{"Location", storage.Url() + "/b"}}}; },
      HttpServer::Tls::kSelfSigned);
  Result<std::string> blob = Open(Trusting(server)).FetchSmallBlob(Ctx(), BlobOf("blob"), 10);
  ASSERT_FALSE(blob);
  EXPECT_THAT(blob.error().message(), HasSubstr("from https to http"));
  EXPECT_TRUE(storage.Requests().empty());
}

TEST_F(TlsTest, ATokenServerWithoutTlsIsRefused) {
  HttpServer plain([&](const Request&) { return Response{.body = R"({"token":"t"})"}; });
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, plain.Url() + "/token", ""); },
                    HttpServer::Tls::kSelfSigned);
  Result<ManifestBytes> manifest = Open(Trusting(server), {.username = "u", .password = "p"}).Resolve(Ctx());
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code(), Code::kUnauthenticated);
  EXPECT_TRUE(plain.Requests().empty());
}

// CVE-2019-10214: skip_verify of the registry does not cover its token server.
TEST_F(TlsTest, TheTokenServerIsVerifiedToo) {
  HttpServer token([&](const Request&) { return Response{.body = R"({"token":"t"})"}; }, HttpServer::Tls::kSelfSigned);
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, token.Url() + "/token", ""); },
                    HttpServer::Tls::kSelfSigned);
  Result<ManifestBytes> manifest =
      Open(Hosts(server.Url(), {}) + "skip_verify = true\n", {.username = "u", .password = "p"}).Resolve(Ctx());
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code(), Code::kUnauthenticated);
  EXPECT_FALSE(server.Requests().empty());
  EXPECT_TRUE(token.Requests().empty());
}

}  // namespace
}  // namespace crisp::image
