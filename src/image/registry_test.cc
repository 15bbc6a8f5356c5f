// The registry client against a scripted server: authorization, redirects, blobs that lie, break, stall.
#include "image/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "base/strings.h"
#include "image/testing/fake_registry.h"
#include "image/testing/http_server.h"

namespace crisp::image {
namespace {

using testing::BlobOf;
using testing::Digest256;
using testing::FakeRegistry;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::Not;
using testing::Pattern;
using testing::QuickOptions;
using testing::Request;
using testing::Response;
using ::testing::StartsWith;

oci::Reference Ref(const HttpServer& server, const std::string& rest = "/team/app:v1") {
  return *oci::Reference::Parse(server.Host() + rest);
}

// Fetches a blob; what the sink got is in *got.
Result<> Fetch(Repository& repository, const oci::Descriptor& blob, std::string* got) {
  return repository.FetchBlob(Ctx(), blob, 0, [&](std::string_view bytes) {
    *got += bytes;
    return Result<>();
  });
}

class RegistryTest : public ::testing::Test {
 protected:
  // Opens `reference` of `server` and keeps the client for the test.
  Repository& Open(const HttpServer& server, const Credentials& credentials = {},
                   const std::string& rest = "/team/app:v1") {
    auto repository = Registry(options_).Open(Ref(server, rest), credentials);
    EXPECT_TRUE(repository) << repository.error().message();
    repository_ = std::move(*repository);
    return *repository_;
  }
  RegistryOptions options_ = QuickOptions();
  std::unique_ptr<Repository> repository_;
  FakeRegistry fake_;
};

TEST_F(RegistryTest, ResolvesATagAndADigest) {
  std::string manifest = fake_.AddManifest("v1", "{}");
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  Result<ManifestBytes> by_tag = Open(server).Resolve(Ctx());
  ASSERT_TRUE(by_tag) << by_tag.error().message();
  EXPECT_EQ(by_tag->bytes, "{}");
  EXPECT_EQ(by_tag->digest.str(), manifest);
  EXPECT_EQ(by_tag->content_type, oci::media_type::kOciManifest);
  EXPECT_TRUE(Open(server, {}, "/team/app@" + manifest).Resolve(Ctx()));
  EXPECT_THAT(server.Requests()[0].Header("accept"), HasSubstr(oci::media_type::kDockerList));
  EXPECT_EQ(server.Requests()[0].target, "/v2/team/app/manifests/v1");
}

TEST_F(RegistryTest, HeadAsksWithoutPulling) {
  std::string manifest = fake_.AddManifest("v1", "{}");
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  Result<oci::Descriptor> head = Open(server).Head(Ctx());
  ASSERT_TRUE(head) << head.error().message();
  EXPECT_EQ(head->digest.str(), manifest);
  EXPECT_EQ(server.Requests().size(), 1u);
}

TEST_F(RegistryTest, HeadFallsBackToGet) {
  std::string manifest = fake_.AddManifest("v1", "{}");
  HttpServer server([&](const Request& r) { return r.method == "HEAD" ? Response{.status = 405} : fake_.Answer(r); });
  Result<oci::Descriptor> head = Open(server).Head(Ctx());
  ASSERT_TRUE(head) << head.error().message();
  EXPECT_EQ(head->digest.str(), manifest);
}

TEST_F(RegistryTest, ManifestsThatLieAreRefused) {
  std::string digest = Digest256("{}");
  std::string other = Digest256("other");
  HttpServer server([&](const Request&) {
    return Response{
        .headers = {{"Docker-Content-Digest", other}, {"Content-Type", std::string(oci::media_type::kOciManifest)}},
        .body = "{}"};
  });
  EXPECT_EQ(Open(server).Resolve(Ctx()).error().code(), Code::kDataLoss);
  EXPECT_EQ(Open(server, {}, "/team/app@" + other).Resolve(Ctx()).error().code(), Code::kDataLoss);
  // By digest the header does not matter.
  EXPECT_TRUE(Open(server, {}, "/team/app@" + digest).Resolve(Ctx()));
  oci::Descriptor wrong_size{.digest = *oci::Digest::Parse(digest), .size = 3};
  EXPECT_EQ(Open(server).FetchManifest(Ctx(), wrong_size).error().code(), Code::kDataLoss);
}

TEST_F(RegistryTest, ManifestWithoutEndIsCutOff) {
  HttpServer server([&](const Request&) { return Response{.body = std::string(6 << 20, 'x'), .chunked = true}; });
  Result<ManifestBytes> manifest = Open(server).Resolve(Ctx());
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code(), Code::kInvalidArgument);
  oci::Descriptor huge{.digest = *oci::Digest::Parse(Digest256("x")), .size = 5 << 20};
  EXPECT_EQ(Open(server).FetchManifest(Ctx(), huge).error().code(), Code::kInvalidArgument);
}

// ---- authorization ----

TEST_F(RegistryTest, BasicIsSentOnlyWhenAskedFor) {
  fake_.AddManifest("v1", "{}");
  HttpServer server([&](const Request& r) {
    if (r.Header("authorization") != "Basic dTpw")
      return Response{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"x\""}}};
    return fake_.Answer(r);
  });
  EXPECT_TRUE(Open(server, {.username = "u", .password = "p"}).Resolve(Ctx()));
  EXPECT_EQ(server.Requests()[0].Header("authorization"), "");
  EXPECT_EQ(Open(server, {.username = "u", .password = "wrong"}).Resolve(Ctx()).error().code(), Code::kUnauthenticated);
  EXPECT_EQ(Open(server).Resolve(Ctx()).error().code(), Code::kUnauthenticated);
}

TEST_F(RegistryTest, BearerTokenIsFetchedOncePerPull) {
  std::string blob = Pattern(1000);
  fake_.AddManifest("v1", "{}");
  fake_.AddBlob(blob);
  HttpServer* self = nullptr;
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, self->Url() + "/token", "u:p"); });
  self = &server;
  Repository& repository = Open(server, {.auth = "dTpw"});
  ASSERT_TRUE(repository.Resolve(Ctx()));
  std::string got;
  ASSERT_TRUE(Fetch(repository, BlobOf(blob), &got));
  EXPECT_EQ(got, blob);
  EXPECT_EQ(server.Count("/token"), 1u);
  EXPECT_EQ(server.Count("scope=repository%3Ateam%2Fapp%3Apull"), 1u);
  EXPECT_EQ(server.Count("service=fake"), 1u);
}

TEST_F(RegistryTest, AnExpiredTokenIsRenewed) {
  fake_.AddManifest("v1", "{}");
  HttpServer* self = nullptr;
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, self->Url() + "/token", ""); });
  self = &server;
  Repository& repository = Open(server);
  ASSERT_TRUE(repository.Resolve(Ctx()));
  fake_.ExpireTokens();
  EXPECT_TRUE(repository.Resolve(Ctx()));
  EXPECT_EQ(server.Count("/token"), 2u);
}

TEST_F(RegistryTest, LayersInParallelShareTheToken) {
  std::string blob = Pattern(200'000);
  fake_.AddManifest("v1", "{}");
  fake_.AddBlob(blob);
  HttpServer* self = nullptr;
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, self->Url() + "/token", ""); });
  self = &server;
  Repository& repository = Open(server);
  ASSERT_TRUE(repository.Resolve(Ctx()));
  std::vector<std::future<std::string>> layers;
  for (int i = 0; i < 8; ++i) {
    layers.push_back(
        std::async(std::launch::async, [&] { return *repository.FetchSmallBlob(Ctx(), BlobOf(blob), 1 << 20); }));
  }
  for (auto& layer : layers) EXPECT_EQ(layer.get(), blob);
  EXPECT_EQ(server.Count("/token"), 1u);
}

TEST_F(RegistryTest, IdentityTokenIsPostedAndRegistryTokenUsedAsItIs) {
  fake_.AddManifest("v1", "{}");
  HttpServer* self = nullptr;
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, self->Url() + "/token", "refresh:r/t"); });
  self = &server;
  EXPECT_TRUE(Open(server, {.identity_token = "r/t"}).Resolve(Ctx()));
  EXPECT_EQ(server.Count("/token"), 1u);
  EXPECT_EQ(server.Count("r%2Ft"), 0u);  // in the body, not in the URL, which proxies log
  EXPECT_TRUE(Open(server, {.registry_token = fake_.IssueToken()}).Resolve(Ctx()));
  EXPECT_EQ(server.Count("/token"), 1u);
}

TEST_F(RegistryTest, WrongPasswordIsUnauthenticated) {
  fake_.AddManifest("v1", "{}");
  HttpServer* self = nullptr;
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, self->Url() + "/token", "u:p"); });
  self = &server;
  Result<ManifestBytes> denied = Open(server, {.username = "u", .password = "wrong-canary"}).Resolve(Ctx());
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().code(), Code::kUnauthenticated);
  EXPECT_THAT(denied.error().message(), HasSubstr("credentials are not accepted"));
  EXPECT_EQ(server.Requests().size(), 2u);  // no second try: accounts get locked
}

// S13: a password for a registry goes nowhere else.
TEST_F(RegistryTest, CredentialsForAnotherServerStayHome) {
  HttpServer server(
      [&](const Request&) { return Response{.status = 401, .headers = {{"WWW-Authenticate", "Basic"}}}; });
  Credentials credentials{.username = "u", .password = "p", .server_address = "https://elsewhere.io"};
  EXPECT_EQ(Open(server, credentials).Resolve(Ctx()).error().code(), Code::kUnauthenticated);
  for (const Request& request : server.Requests()) EXPECT_EQ(request.Header("authorization"), "");
  credentials.server_address = server.Url();
  EXPECT_FALSE(Open(server, credentials).Resolve(Ctx()));
  EXPECT_EQ(server.Requests().back().Header("authorization"), "Basic dTpw");
}

TEST_F(RegistryTest, TokenServerOnAnotherHostWithoutTlsGetsNoPassword) {
  fake_.AddManifest("v1", "{}");
  HttpServer server([&](const Request& r) { return fake_.WithBearer(r, "http://192.0.2.1:1/token", "u:p"); });
  Result<ManifestBytes> denied = Open(server, {.username = "u", .password = "p"}).Resolve(Ctx());
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().code(), Code::kUnauthenticated);
  EXPECT_THAT(denied.error().message(), HasSubstr("192.0.2.1"));
}

// S58: whatever a host says, no secret gets into an error.
TEST_F(RegistryTest, SecretsEchoedByTheServerAreNotInErrors) {
  HttpServer server([&](const Request& r) {
    if (r.Header("authorization").empty()) return Response{.status = 401, .headers = {{"WWW-Authenticate", "Basic"}}};
    return Response{
        .status = 403,
        .body = StrCat(R"({"errors":[{"code":"DENIED","message":"canary-secret )", r.Header("authorization"), "\"}]}")};
  });
  Result<ManifestBytes> denied = Open(server, {.username = "u", .password = "canary-secret"}).Resolve(Ctx());
  ASSERT_FALSE(denied);
  EXPECT_EQ(denied.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(denied.error().message(), HasSubstr("DENIED"));
  EXPECT_THAT(denied.error().message(), Not(HasSubstr("canary-secret")));
  EXPECT_THAT(denied.error().message(), Not(HasSubstr("dTpjYW5")));
}

// ---- redirects ----

TEST_F(RegistryTest, RedirectToAnotherHostCarriesNoAuthorization) {
  std::string blob = Pattern(5000);
  HttpServer storage([&](const Request&) { return Response{.body = blob}; });
  HttpServer server([&](const Request& r) {
    if (r.Header("authorization").empty()) return Response{.status = 401, .headers = {{"WWW-Authenticate", "Basic"}}};
    return Response{.status = 307, .headers = {{"Location", storage.Url() + "/data?signature=s"}}};
  });
  std::string got;
  ASSERT_TRUE(Fetch(Open(server, {.username = "u", .password = "p"}), BlobOf(blob), &got));
  EXPECT_EQ(got, blob);
  ASSERT_EQ(storage.Requests().size(), 1u);
  EXPECT_EQ(storage.Requests()[0].target, "/data?signature=s");
  EXPECT_EQ(storage.Requests()[0].Header("authorization"), "");
}

TEST_F(RegistryTest, RedirectOnTheSameHostKeepsAuthorization) {
  std::string blob = Pattern(10);
  HttpServer server([&](const Request& r) {
    if (r.Header("authorization").empty()) return Response{.status = 401, .headers = {{"WWW-Authenticate", "Basic"}}};
    if (r.path != "/moved") return Response{.status = 302, .headers = {{"Location", "/moved"}}};
    return Response{.body = blob};
  });
  std::string got;
  ASSERT_TRUE(Fetch(Open(server, {.username = "u", .password = "p"}), BlobOf(blob), &got));
  EXPECT_EQ(server.Requests().back().Header("authorization"), "Basic dTpw");
}

// CVE-2020-15157: the target of a redirect asks for a password.
TEST_F(RegistryTest, ChallengeOfARedirectsTargetIsNotAnswered) {
  HttpServer evil([&](const Request& r) {
    return Response{.status = 401,
                    .headers = {{"WWW-Authenticate", StrCat("Bearer realm=\"http://", r.Header("host"), "/token\"")}}};
  });
  HttpServer server(
      [&](const Request&) { return Response{.status = 307, .headers = {{"Location", evil.Url() + "/x"}}}; });
  std::string got;
  Result<> fetched = Fetch(Open(server, {.username = "u", .password = "p"}), BlobOf("x"), &got);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code(), Code::kUnauthenticated);
  EXPECT_EQ(evil.Requests().size(), 1u);
  EXPECT_EQ(evil.Requests()[0].Header("authorization"), "");
}

TEST_F(RegistryTest, BadRedirectsEnd) {
  for (const char* location : {"", "file:///etc/passwd", "ftp://x/", "/v2/loop"}) {
    HttpServer server([&](const Request&) { return Response{.status = 307, .headers = {{"Location", location}}}; });
    std::string got;
    Result<> fetched = Fetch(Open(server), BlobOf("x"), &got);
    ASSERT_FALSE(fetched) << location;
    EXPECT_EQ(fetched.error().code(), Code::kFailedPrecondition) << location;
    EXPECT_LE(server.Requests().size(), 6u);
  }
}

// ---- blobs ----

TEST_F(RegistryTest, BlobInPiecesAndFromAnOffset) {
  std::string blob = Pattern(3 << 20);
  fake_.AddBlob(blob);
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  Repository& repository = Open(server);
  std::string got;
  ASSERT_TRUE(Fetch(repository, BlobOf(blob), &got));
  EXPECT_EQ(got, blob);
  got.clear();
  auto append = [&](std::string_view bytes) { return got += bytes, Result<>(); };
  ASSERT_TRUE(repository.FetchBlob(Ctx(), BlobOf(blob), 1'000'000, append));
  EXPECT_EQ(got, blob.substr(1'000'000));
  EXPECT_TRUE(repository.FetchBlob(Ctx(), BlobOf(blob), blob.size(), append));
  EXPECT_EQ(*repository.FetchSmallBlob(Ctx(), BlobOf(blob), 4 << 20), blob);
  EXPECT_EQ(repository.FetchSmallBlob(Ctx(), BlobOf(blob), 100).error().code(), Code::kInvalidArgument);
}

TEST_F(RegistryTest, EmptyBlob) {
  fake_.AddBlob("");
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  EXPECT_EQ(*Open(server).FetchSmallBlob(Ctx(), BlobOf(""), 10), "");
}

TEST_F(RegistryTest, LyingSizesAreRefusedBeforeABytePasses) {
  std::string blob = Pattern(1000);
  fake_.AddBlob(blob);
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  for (uint64_t size : {999u, 1001u}) {
    oci::Descriptor lie = BlobOf(blob);
    lie.size = size;
    std::string got;
    Result<> fetched = Fetch(Open(server), lie, &got);
    ASSERT_FALSE(fetched);
    EXPECT_EQ(fetched.error().code(), Code::kDataLoss);
    EXPECT_EQ(got, "");
  }
}

TEST_F(RegistryTest, ChunkedBodyLongerThanTheSizeIsCutOff) {
  std::string blob = Pattern(1 << 20);
  HttpServer server([&](const Request&) { return Response{.body = blob, .chunked = true}; });
  oci::Descriptor lie = BlobOf(blob);
  lie.size = 1000;
  std::string got;
  Result<> fetched = Fetch(Open(server), lie, &got);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code(), Code::kDataLoss);
  EXPECT_LE(got.size(), 1000u);
}

TEST_F(RegistryTest, WrongBytesAreFoundBySmallBlobs) {
  std::string blob = Pattern(1000);
  HttpServer server([&](const Request&) { return Response{.body = std::string(1000, 'x')}; });
  EXPECT_EQ(Open(server).FetchSmallBlob(Ctx(), BlobOf(blob), 2000).error().code(), Code::kDataLoss);
}

TEST_F(RegistryTest, ABrokenTransferGoesOnWhereItBroke) {
  std::string blob = Pattern(1 << 20);
  fake_.AddBlob(blob);
  int left = 3;
  HttpServer server([&](const Request& r) {
    Response response = fake_.Answer(r);
    if (left-- > 0) response.cut = 200'000;
    return response;
  });
  std::string got;
  ASSERT_TRUE(Fetch(Open(server), BlobOf(blob), &got));
  EXPECT_EQ(got, blob);
  ASSERT_EQ(server.Requests().size(), 4u);
  EXPECT_EQ(server.Requests()[3].Header("range"), "bytes=600000-");
}

TEST_F(RegistryTest, AServerWithoutRangesStartsAgainAndNoByteComesTwice) {
  std::string blob = Pattern(300'000);
  bool broken = true;
  HttpServer server([&](const Request&) {
    Response response{.body = blob};
    if (std::exchange(broken, false)) response.cut = 100'000;
    return response;
  });
  std::string got;
  ASSERT_TRUE(Fetch(Open(server), BlobOf(blob), &got));
  EXPECT_EQ(got, blob);
}

TEST_F(RegistryTest, AnotherRangeThanAskedForIsALie) {
  std::string blob = Pattern(300'000);
  bool first = true;
  HttpServer server([&](const Request&) {
    if (std::exchange(first, false)) return Response{.body = blob, .cut = 100'000};
    return Response{
        .status = 206, .headers = {{"Content-Range", "bytes 0-199999/300000"}}, .body = blob.substr(0, 200'000)};
  });
  std::string got;
  Result<> fetched = Fetch(Open(server), BlobOf(blob), &got);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code(), Code::kDataLoss);
}

TEST_F(RegistryTest, TruncationWithoutProgressEnds) {
  std::string blob = Pattern(1000);
  HttpServer server(
      [&](const Request&) { return Response{.headers = {{"Content-Length", "1000"}}, .body = blob, .cut = 10}; });
  std::string got;
  Result<> fetched = Fetch(Open(server), BlobOf(blob), &got);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code(), Code::kUnavailable);
  EXPECT_THAT(fetched.error().message(), StartsWith("RegistryUnavailable: "));
  EXPECT_EQ(server.Requests().size(), static_cast<size_t>(options_.attempts_max));
}

TEST_F(RegistryTest, AStalledTransferIsGivenUpAndResumed) {
  std::string blob = Pattern(100'000);
  fake_.AddBlob(blob);
  options_.stall_window = std::chrono::milliseconds(200);
  bool stalls = true;
  HttpServer server([&](const Request& r) {
    Response response = fake_.Answer(r);
    if (std::exchange(stalls, false)) response.cut = 50'000, response.hang = true;
    return response;
  });
  std::string got;
  ASSERT_TRUE(Fetch(Open(server), BlobOf(blob), &got));
  EXPECT_EQ(got, blob);
  EXPECT_EQ(server.Requests()[1].Header("range"), "bytes=50000-");
}

// User-pains row 5: some bytes now and then are no progress.
TEST_F(RegistryTest, AStallThatLastsIsUnavailable) {
  options_.stall_window = std::chrono::milliseconds(100);
  options_.attempts_max = 2;
  HttpServer server([&](const Request&) { return Response{.headers = {{"Content-Length", "100"}}, .hang = true}; });
  std::string got;
  Result<> fetched = Fetch(Open(server), BlobOf(Pattern(100)), &got);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code(), Code::kUnavailable);
  EXPECT_THAT(fetched.error().message(), HasSubstr("stalled"));
}

TEST_F(RegistryTest, TheSinksErrorComesBackAsItIs) {
  std::string blob = Pattern(1 << 20);
  fake_.AddBlob(blob);
  HttpServer server([&](const Request& r) { return fake_.Answer(r); });
  Result<> fetched = Open(server).FetchBlob(Ctx(), BlobOf(blob), 0, [](std::string_view) -> Result<> {
    return Error(Code::kResourceExhausted, "disk full");
  });
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code(), Code::kResourceExhausted);
  EXPECT_EQ(fetched.error().message(), "disk full");
  EXPECT_EQ(server.Requests().size(), 1u);
}

TEST_F(RegistryTest, CancellationEndsAHangingTransfer) {
  std::promise<void> reached;
  HttpServer server([&](const Request&) {
    reached.set_value();
    return Response{.headers = {{"Content-Length", "100"}}, .hang = true};
  });
  Repository& repository = Open(server);
  std::stop_source stop;
  Ctx ctx(Clock::time_point::max(), stop.get_token(), "");
  auto fetched = std::async(std::launch::async, [&] {
    return repository.FetchBlob(ctx, BlobOf(Pattern(100)), 0, [](std::string_view) { return Result<>(); });
  });
  reached.get_future().wait();
  stop.request_stop();
  EXPECT_EQ(fetched.get().error().code(), Code::kCancelled);  // without it this would take a stall window
}

TEST_F(RegistryTest, DeadlineEndsBackoff) {
  options_.backoff_first = options_.backoff_max = std::chrono::hours(1);
  HttpServer server([&](const Request&) { return Response{.status = 503}; });
  Repository& repository = Open(server);
  EXPECT_EQ(repository.Resolve(Ctx().WithTimeout(std::chrono::milliseconds(50))).error().code(),
            Code::kDeadlineExceeded);
}

TEST_F(RegistryTest, HeadersWithoutEndAreCutOff) {
  HttpServer server([&](const Request&) {
    Response response;
    for (int i = 0; i < 2000; ++i) response.headers.emplace_back("X-Filler", std::string(200, 'x'));
    return response;
  });
  EXPECT_EQ(Open(server).Resolve(Ctx()).error().code(), Code::kUnavailable);
}

// ---- TLS ----

TEST_F(RegistryTest, LoopbackMaySpeakTls) {
  fake_.AddManifest("v1", "{}");
  HttpServer server([&](const Request& r) { return fake_.Answer(r); }, HttpServer::Tls::kSelfSigned);
  Result<ManifestBytes> manifest = Open(server).Resolve(Ctx());
  ASSERT_TRUE(manifest) << manifest.error().message();
}

}  // namespace
}  // namespace crisp::image
