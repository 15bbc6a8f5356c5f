// The registry client's parsers: challenges, tokens, credentials, hosts.toml, URLs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include "base/strings.h"
#include "image/registry_auth.h"
#include "image/registry_credentials.h"
#include "image/registry_hosts.h"
#include "image/registry_http.h"
#include "image/testing/temp_dir.h"

namespace crisp::image {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempDir;

TEST(ParseChallenges, Reads) {
  auto all = ParseChallenges(R"(Bearer realm="https://auth.x/token",service="reg, \"x\"",scope="repository:a/b:pull")");
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].scheme, "bearer");
  EXPECT_EQ(all[0].params.at("realm"), "https://auth.x/token");
  EXPECT_EQ(all[0].params.at("service"), "reg, \"x\"");
  EXPECT_EQ(all[0].params.at("scope"), "repository:a/b:pull");
}

TEST(ParseChallenges, SeveralInOneHeader) {
  auto all = ParseChallenges("Negotiate abc==, Basic realm=x , BEARER Realm = \"y\" , error=insufficient_scope,Digest");
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0].scheme, "negotiate");
  EXPECT_EQ(all[1].params.at("realm"), "x");
  EXPECT_EQ(all[2].scheme, "bearer");
  EXPECT_EQ(all[2].params.at("error"), "insufficient_scope");
  EXPECT_EQ(all[3].scheme, "digest");
}

TEST(ParseChallenges, HostileInputIsBounded) {
  EXPECT_TRUE(ParseChallenges("").empty());
  EXPECT_TRUE(ParseChallenges(",,, ,").empty());
  EXPECT_TRUE(ParseChallenges("Bearer realm=\"never ends").empty());
  EXPECT_TRUE(ParseChallenges(std::string(100'000, 'a')).empty());
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "Basic a=b, ";
  EXPECT_LE(ParseChallenges(many).size(), 16u);
  ParseChallenges("Bearer realm=\"a\\");
  ParseChallenges("\x01\x02=");
  ParseChallenges("a =,=b c=\"\" \"x\", d");
}

TEST(CheckRealm, WhoMayBeAskedAndGivenASecret) {
  enum { kYes, kNo };
  struct Case {
    const char* registry;
    const char* realm;
    int anonymous, with_login;
  };
  const Case cases[] = {
      {"https://r.io", "https://r.io/token", kYes, kYes},
      {"https://r.io", "https://auth.r.io/token", kYes, kYes},
      {"https://r.io", "http://r.io/token", kNo, kNo},  // downgrade
      {"https://r.io", "http://127.0.0.1/token", kNo, kNo},
      {"http://r.io:5000", "http://r.io:5001/token", kYes, kYes},
      {"http://r.io:5000", "http://evil.io/token", kYes, kNo},
      {"http://r.io:5000", "https://auth.io/token", kYes, kYes},
      {"http://localhost:5000", "http://127.0.0.1:5001/token", kYes, kYes},
      {"https://r.io", "", kNo, kNo},
      {"https://r.io", "/token", kNo, kNo},
      {"https://r.io", "ftp://r.io/token", kNo, kNo},
      {"https://r.io", "file:///etc/passwd", kNo, kNo},
      {"https://r.io", "https://r.io/a\r\nX: y", kNo, kNo},
      {"https://r.io", "https://", kNo, kNo},
  };
  for (const Case& c : cases) {
    UrlParts registry = *ParseUrl(c.registry);
    EXPECT_EQ(CheckRealm(registry, c.realm, false).has_value(), c.anonymous == kYes) << c.registry << " " << c.realm;
    EXPECT_EQ(CheckRealm(registry, c.realm, true).has_value(), c.with_login == kYes) << c.registry << " " << c.realm;
  }
}

TEST(TokenRequest, PasswordGoesByGetAndRefreshTokenByPost) {
  Challenge challenge{.scheme = "bearer",
                      .params = {{"service", "s&x"}, {"scope", "repository:a:pull repository:b:pull"}}};
  UrlParts realm = *ParseUrl("https://auth.io/token?x=1");
  HttpRequest get = TokenRequest(realm, challenge, "unused", Login{.username = "u", .password = "p"});
  EXPECT_EQ(get.method, "GET");
  EXPECT_EQ(
      get.url,
      "https://auth.io:443/token?x=1&service=s%26x&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull&account=u");
  EXPECT_THAT(get.headers, ElementsAre("Authorization: Basic dTpw"));
  HttpRequest post = TokenRequest(realm, {}, "repository:w:pull", Login{.identity_token = "refresh/it"});
  EXPECT_EQ(post.method, "POST");
  EXPECT_THAT(post.body, HasSubstr("grant_type=refresh_token"));
  EXPECT_THAT(post.body, HasSubstr("refresh_token=refresh%2Fit"));
  EXPECT_THAT(post.body, HasSubstr("scope=repository%3Aw%3Apull"));
  EXPECT_THAT(post.url, Not(HasSubstr("refresh")));
  HttpRequest anonymous = TokenRequest(realm, {}, "s", std::nullopt);
  EXPECT_TRUE(anonymous.headers.empty());
}

TEST(ParseToken, TakesOnlyWhatCanBeAHeader) {
  EXPECT_EQ(*ParseToken(R"({"token":"abc.def","expires_in":60})"), "abc.def");
  EXPECT_EQ(*ParseToken(R"({"access_token":"x"})"), "x");
  EXPECT_EQ(*ParseToken(R"({"token":"","access_token":"x"})"), "x");
  for (const char* bad : {"", "[]", "{}", R"({"token":7})", R"({"token":"a b"})", R"({"token":"a\r\nX: y"})",
                          R"({"token":"ü"})", R"({"token":"a\u0000"})"}) {
    Result<std::string> token = ParseToken(bad);
    ASSERT_FALSE(token) << bad;
    EXPECT_EQ(token.error().code(), Code::kUnauthenticated);
  }
}

TEST(ApiErrors, QuotesWhatServersSay) {
  EXPECT_EQ(ApiErrors(R"({"errors":[{"code":"DENIED","message":"no\nentry"}]})"), "DENIED \"no\\x0aentry\"");
  EXPECT_EQ(ApiErrors("<html>"), "");
  EXPECT_EQ(ApiErrors(R"({"errors":"x"})"), "");
  EXPECT_EQ(ApiErrors(R"({"errors":[7]})"), "");
}

TEST(Secrets, AreScrubbedInAllTheirForms) {
  Secrets secrets;
  secrets.Add(Login{.username = "user", .password = "canary/secret"});
  secrets.Add("abc");  // too short to be told from ordinary text
  std::string text = StrCat("canary/secret canary%2Fsecret ", Base64Encode("user:canary/secret"), " ",
                            Base64Encode("canary/secret"), " abc");
  EXPECT_EQ(secrets.Scrub(text), "* * * * abc");
  EXPECT_EQ(secrets.Scrub(Error(Code::kInternal, "x canary/secret")).message(), "x *");
}

TEST(Base64, BothWays) {
  for (const char* text : {"", "a", "ab", "abc", "user:pass"}) EXPECT_EQ(*Base64Decode(Base64Encode(text)), text);
  EXPECT_EQ(*Base64Decode("dTpw"), "u:p");
  EXPECT_EQ(*Base64Decode("dTpwcA"), "u:pp");  // padding left out
  for (const char* bad : {"a", "dTp*", "====x", "d=pw"}) EXPECT_FALSE(Base64Decode(bad)) << bad;
}

TEST(LoginFrom, CriCredentials) {
  EXPECT_FALSE(LoginFrom({})->has_value());
  auto login = LoginFrom({.auth = Base64Encode("u:p:q")});
  ASSERT_TRUE(login && *login);
  EXPECT_EQ((*login)->username, "u");
  EXPECT_EQ((*login)->password, "p:q");
  EXPECT_FALSE(LoginFrom({.auth = Base64Encode("no colon")}));
  EXPECT_FALSE(LoginFrom({.auth = "***"}));
  Result<std::optional<Login>> injected = LoginFrom({.username = "u", .password = "canary\r\nX: y"});
  ASSERT_FALSE(injected);
  EXPECT_THAT(injected.error().message(), Not(HasSubstr("canary")));
}

TEST(CanonicalHost, Table) {
  const std::pair<const char*, const char*> cases[] = {
      {"docker.io", "docker.io"},
      {"https://index.docker.io/v1/", "docker.io"},
      {"registry-1.docker.io", "docker.io"},
      {"https://r.io:5000/v2/", "r.io:5000"},
      {"R.io", "r.io"},
      {"https://r.io:443", "r.io"},
      {"http://user:pw@r.io/x", "r.io"},
  };
  for (auto [text, want] : cases) EXPECT_EQ(CanonicalHost(text), want);
}

TEST(CredentialStore, LongestPrefixWins) {
  auto store = CredentialStore::Parse(StrCat(R"({"auths":{
      "https://index.docker.io/v1/":{"auth":")",
                                             Base64Encode("hub:pw"), R"("},
      "quay.io":{"username":"all","password":"p"},
      "quay.io/org":{"username":"org","password":"p"},
      "quay.io/org/app":{"username":"app","password":"p"},
      "r.io:5000/v2/":{"identitytoken":"it"},
      "empty.io":{}
    }})"),
                                      "config.json");
  ASSERT_TRUE(store) << store.error().message();
  auto user = [&](const char* host, const char* path) -> std::string {
    auto login = store->Find(Ctx(), host, path);
    return *login ? (*login)->username + (*login)->identity_token : "none";
  };
  EXPECT_EQ(user("docker.io", "library/x"), "hub");
  EXPECT_EQ(user("registry-1.docker.io", "library/x"), "hub");
  EXPECT_EQ(user("quay.io", "x"), "all");
  EXPECT_EQ(user("quay.io", "org/y"), "org");
  EXPECT_EQ(user("quay.io", "organic/y"), "all");
  EXPECT_EQ(user("quay.io", "org/app"), "app");
  EXPECT_EQ(user("quay.io", "org/app/z"), "app");
  EXPECT_EQ(user("r.io:5000", "x"), "it");
  EXPECT_EQ(user("r.io", "x"), "none");
  EXPECT_EQ(user("empty.io", "x"), "none");
  EXPECT_EQ(user("evilquay.io", "x"), "none");
}

TEST(CredentialStore, RefusesMalformedWithoutTellingSecrets) {
  for (const char* bad : {"[]", "canary", R"({"auths":[]})", R"({"auths":{"r.io":{"auth":"canary!"}}})",
                          R"({"auths":{"u:canary@r.io":{"auth":7}}})", R"({"credsStore":"../canary/x"})",
                          R"({"credHelpers":{"r.io":"a b"}})"}) {
    auto store = CredentialStore::Parse(bad, "c.json");
    ASSERT_FALSE(store) << bad;
    EXPECT_THAT(store.error().message(), HasSubstr("c.json"));
    if (std::string_view(bad).find("auths") != std::string_view::npos) {
      EXPECT_THAT(store.error().message(), Not(HasSubstr("canary")));
    }
  }
}

// Helpers are other programs: found in PATH, the host on stdin, JSON on stdout.
TEST(CredentialStore, AsksHelpers) {
  signal(SIGPIPE, SIG_IGN);  // as each program that uses sys::Run: not all helpers read what they are given
  TempDir dir;
  dir.Write("docker-credential-good",
            "#!/bin/sh\nread host\necho \"{\\\"Username\\\":\\\"for $host\\\",\\\"Secret\\\":\\\"s\\\"}\"\n", 0755);
  dir.Write("docker-credential-token", "#!/bin/sh\necho '{\"Username\":\"<token>\",\"Secret\":\"refresh\"}'\n", 0755);
  dir.Write("docker-credential-none", "#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n", 0755);
  dir.Write("docker-credential-bad", "#!/bin/sh\necho canary\nexit 3\n", 0755);
  dir.Write("docker-credential-junk", "#!/bin/sh\necho canary\n", 0755);
  std::string old_path = getenv("PATH");
  setenv("PATH", StrCat(dir.path(), ":", old_path).c_str(), 1);
  auto store = CredentialStore::Parse(R"({"credsStore":"none","auths":{"fall.io":{"username":"back","password":"p"}},
    "credHelpers":{"good.io":"good","token.io":"token","bad.io":"bad","junk.io":"junk","gone.io":"not-installed",
                   "docker.io":"good"}})",
                                      "c.json");
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_EQ((*store->Find(Ctx(), "good.io", "x"))->username, "for good.io");
  EXPECT_EQ((*store->Find(Ctx(), "docker.io", "x"))->username, "for https://index.docker.io/v1/");
  EXPECT_EQ((*store->Find(Ctx(), "token.io", "x"))->identity_token, "refresh");
  EXPECT_EQ((*store->Find(Ctx(), "fall.io", "x"))->username, "back");
  EXPECT_FALSE(store->Find(Ctx(), "other.io", "x")->has_value());
  for (const char* host : {"bad.io", "junk.io", "gone.io"}) {
    auto login = store->Find(Ctx(), host, "x");
    ASSERT_FALSE(login) << host;
    EXPECT_THAT(login.error().message(), HasSubstr(host));
    EXPECT_THAT(login.error().message(), Not(HasSubstr("canary")));
  }
  setenv("PATH", old_path.c_str(), 1);
}

std::vector<std::string> Bases(const std::vector<HostConfig>& hosts) {
  std::vector<std::string> out;
  for (const HostConfig& host : hosts) out.push_back(host.Base());
  return out;
}

TEST(HostsToml, OrderOfTheFileThenServer) {
  auto hosts = ParseHostsToml(R"(
server = "https://registry-1.docker.io"
[host."https://zebra.io"]
  capabilities = ["pull", "Resolve"]
[host."http://alpha.io:8080/prefix"]
  capabilities = "pull"
  skip_verify = true
  dial_timeout = "1m1.5s"
  [host."http://alpha.io:8080/prefix".header]
    x-one = "1"
    x-two = ["a", "b"]
[host."https://m.io/v2/proxy"]
  override_path = true
  ca = ["a.pem", "/abs/b.pem"]
  client = [["c.cert", "c.key"]]
[host."bare.io/v2/"]
  ca = "x.pem"
  client = "pair.pem"
)",
                              "/etc/certs.d/docker.io/hosts.toml", "docker.io", false);
  ASSERT_TRUE(hosts) << hosts.error().message();
  EXPECT_THAT(Bases(*hosts),
              ElementsAre("https://zebra.io/v2", "http://alpha.io:8080/prefix/v2", "https://m.io/v2/proxy",
                          "https://bare.io/v2", "https://registry-1.docker.io/v2"));
  EXPECT_TRUE((*hosts)[0].resolve);
  const HostConfig& alpha = (*hosts)[1];
  EXPECT_TRUE(alpha.pull && !alpha.resolve && alpha.tls.skip_verify && !alpha.own);
  EXPECT_EQ(alpha.dial_timeout, std::chrono::milliseconds(61'500));
  EXPECT_THAT(alpha.headers, ElementsAre("x-one: 1", "x-two: a", "x-two: b"));
  const HostConfig& m = (*hosts)[2];
  EXPECT_THAT(m.tls.ca_files, ElementsAre("/etc/certs.d/docker.io/a.pem", "/abs/b.pem"));
  EXPECT_EQ(m.tls.cert_file, "/etc/certs.d/docker.io/c.cert");
  EXPECT_EQ(m.tls.key_file, "/etc/certs.d/docker.io/c.key");
  EXPECT_EQ((*hosts)[3].tls.cert_file, "/etc/certs.d/docker.io/pair.pem");
  EXPECT_TRUE((*hosts)[4].own);
}

TEST(HostsToml, ServerAndFallback) {
  auto bases = [](std::string_view text, bool for_all = false) {
    auto hosts = ParseHostsToml(text, "h.toml", "r.io", for_all);
    EXPECT_TRUE(hosts) << hosts.error().message();
    return Bases(*hosts);
  };
  EXPECT_THAT(bases(""), ElementsAre("https://r.io/v2"));
  EXPECT_THAT(bases("server = \"http://s:5000\""), ElementsAre("http://s:5000/v2"));
  EXPECT_THAT(bases("[host.\"m.io\"]"), ElementsAre("https://m.io/v2", "https://r.io/v2"));
  EXPECT_THAT(bases("fallback = false\n[host.\"m.io\"]"), ElementsAre("https://m.io/v2"));
  EXPECT_THAT(bases("fallback = false"), ElementsAre("https://r.io/v2"));
  // The server of _default is not the registry's own: its credentials stay away.
  EXPECT_TRUE(ParseHostsToml("server=\"https://s\"", "h", "r.io", false)->at(0).own);
  EXPECT_FALSE(ParseHostsToml("server=\"https://s\"", "h", "r.io", true)->at(0).own);
  EXPECT_TRUE(ParseHostsToml("server=\"https://r.io\"", "h", "r.io", true)->at(0).own);
}

TEST(HostsToml, ErrorsNameFileAndLine) {
  const char* bad[] = {
      "server = 7",
      "server = \"ftp://x\"\n[host",
      "\nserver = \"https://u:p@x\"",
      "host = 1",
      "[host]\n\"https://x\" = 1",
      "[host.\"https://x?y=1\"]",
      "[host.\"\"]",
      "[host.\"https://x\"]\ncapabilities = [\"fly\"]",
      "[host.\"https://x\"]\ncapabilities = 3",
      "[host.\"https://x\"]\nskip_verify = \"yes\"",
      "[host.\"https://x\"]\ndial_timeout = \"soon\"",
      "[host.\"https://x\"]\ndial_timeout = 3",
      "[host.\"https://x\"]\nca = [1]",
      "[host.\"https://x\"]\nclient = [[\"a\",\"b\",\"c\"]]",
      "[host.\"https://x\"]\nclient = \"\"",
      "[host.\"https://x\".header]\n\"a b\" = \"c\"",
      "[host.\"https://x\".header]\na = \"b\\r\\nX: y\"",
      "[host.\"https://x\".header]\na = 1",
      "\x01\xff",
      "a = ",
  };
  for (const char* text : bad) {
    auto hosts = ParseHostsToml(text, "h.toml", "r.io", false);
    ASSERT_FALSE(hosts) << text;
    EXPECT_EQ(hosts.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(hosts.error().message(), HasSubstr("h.toml:"));
  }
}

TEST(LoadHosts, FindsTheDirectory) {
  TempDir dir;
  auto bases = [&](const std::string& domain) { return Bases(*LoadHosts(dir.path(), domain)); };
  EXPECT_THAT(bases("r.io:5000"), ElementsAre("https://r.io:5000/v2"));
  dir.Write("_default/hosts.toml", "server = \"https://all\"");
  EXPECT_THAT(bases("r.io:5000"), ElementsAre("https://all/v2"));
  dir.Write("r.io:5000/hosts.toml", "server = \"https://colon\"");
  EXPECT_THAT(bases("r.io:5000"), ElementsAre("https://colon/v2"));
  dir.Write("r.io_5000_/hosts.toml", "server = \"https://underscore\"");
  EXPECT_THAT(bases("r.io:5000"), ElementsAre("https://underscore/v2"));
  EXPECT_THAT(bases("r.io"), ElementsAre("https://all/v2"));
  dir.Write("docker.io/ca.crt", "x");
  dir.Write("docker.io/me.cert", "x");
  EXPECT_FALSE(LoadHosts(dir.path(), "docker.io"));  // no key
  dir.Write("docker.io/me.key", "x");
  auto hosts = LoadHosts(dir.path(), "docker.io");
  ASSERT_TRUE(hosts);
  EXPECT_THAT(Bases(*hosts), ElementsAre("https://registry-1.docker.io/v2"));
  EXPECT_THAT(hosts->at(0).tls.ca_files, ElementsAre(dir.path() + "/docker.io/ca.crt"));
  EXPECT_EQ(hosts->at(0).tls.key_file, dir.path() + "/docker.io/me.key");
}

TEST(DefaultHost, LoopbackIsPlainHttp) {
  EXPECT_EQ(DefaultHost("docker.io").Base(), "https://registry-1.docker.io/v2");
  EXPECT_EQ(DefaultHost("localhost").Base(), "http://localhost/v2");
  EXPECT_EQ(DefaultHost("127.0.0.1:5077").Base(), "http://127.0.0.1:5077/v2");
  EXPECT_EQ(DefaultHost("[::1]:5000").Base(), "http://[::1]:5000/v2");
  EXPECT_EQ(DefaultHost("localhost:443").Base(), "https://localhost:443/v2");
  EXPECT_EQ(DefaultHost("localhost.evil.io").Base(), "https://localhost.evil.io/v2");
  EXPECT_EQ(DefaultHost("128.0.0.1:5000").Base(), "https://128.0.0.1:5000/v2");
}

TEST(Url, ResolvesLocations) {
  const std::string base = "https://r.io/v2/a/blobs/x?ns=y";
  EXPECT_EQ(*ResolveUrl(base, "/other?sig=1"), "https://r.io:443/other?sig=1");
  EXPECT_EQ(*ResolveUrl(base, "https://cdn.io/b"), "https://cdn.io:443/b");
  EXPECT_EQ(*ResolveUrl(base, "//cdn.io:8/b"), "https://cdn.io:8/b");
  EXPECT_EQ(*ResolveUrl(base, "https://u:p@cdn.io/b#frag"), "https://cdn.io:443/b");
  for (const char* bad :
       {"", "ftp://x/y", "file:///etc/passwd", "https://", "https://x/\r\nY: z", "gopher://x", "https://a b/"}) {
    EXPECT_FALSE(ResolveUrl(base, bad)) << bad;
  }
}

}  // namespace
}  // namespace crisp::image
