#include "image/trust_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace crisp::image {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

oci::Reference Ref(std::string_view text) { return *oci::Reference::Parse(text); }
const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(ScopesOf, FromTheNameToTheWidestDomain) {
  EXPECT_THAT(ScopesOf(Ref("a.b.example.com:5000/ns/app:v1")),
              ElementsAre("a.b.example.com:5000/ns/app:v1", "a.b.example.com:5000/ns/app", "a.b.example.com:5000/ns",
                          "a.b.example.com:5000", "*.b.example.com", "*.example.com", "*.com"));
  EXPECT_THAT(ScopesOf(Ref("busybox")), ElementsAre("docker.io/library/busybox:latest", "docker.io/library/busybox",
                                                    "docker.io/library", "docker.io", "*.io"));
  EXPECT_THAT(ScopesOf(Ref("localhost/x:1@" + kDigest)),
              ElementsAre("localhost/x@" + kDigest, "localhost/x", "localhost"));
}

TEST(FindScope, TheMostSpecificCounts) {
  auto policy = ParseTrustPolicy(R"({
    "default": [{"type": "reject"}],
    "transports": {
      "docker": {
        "docker.io": [{"type": "insecureAcceptAnything"}],
        "docker.io/library/busybox:1": [{"type": "reject"}],
        "*.example.com": [{"type": "insecureAcceptAnything"}]
      },
      "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}
    }})",
                                 "p.json");
  ASSERT_TRUE(policy) << policy.error().message();
  EXPECT_EQ(FindScope(*policy, Ref("busybox:1")).name, "docker.io/library/busybox:1");
  EXPECT_EQ(FindScope(*policy, Ref("busybox:2")).name, "docker.io");
  EXPECT_EQ(FindScope(*policy, Ref("r.example.com/a")).name, "*.example.com");
  EXPECT_EQ(FindScope(*policy, Ref("example.com/a")).name, "default");
  policy->docker[""] = {{.kind = Requirement::Kind::kAcceptAnything}};
  EXPECT_EQ(FindScope(*policy, Ref("example.com/a")).name, "");
}

TEST(ParseTrustPolicy, AllKindsAndIdentities) {
  auto policy = ParseTrustPolicy(R"({
    "default": [{"type": "insecureAcceptAnything"}],
    "transports": {"docker": {
      "a.io": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"},
               {"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/k", "/l"], "signedIdentity": {"type": "matchExact"}}],
      "b.io": [{"type": "sigstoreSigned", "keyData": "a2V5", "signedIdentity": {"type": "matchRepository"}}],
      "c.io": [{"type": "sigstoreSigned", "keyDatas": ["a2V5", "bGV5"], "signedIdentity":
               {"type": "exactReference", "dockerReference": "busybox:1"}}],
      "d.io": [{"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity":
               {"type": "exactRepository", "dockerRepository": "busybox"}}],
      "e.io": [{"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity":
               {"type": "remapIdentity", "prefix": "e.io/mirror", "signedPrefix": "docker.io"}}]
    }}})",
                                 "p.json");
  ASSERT_TRUE(policy) << policy.error().message();
  EXPECT_EQ(policy->docker["a.io"][0].identity.kind, SignedIdentity::Kind::kMatchRepoDigestOrExact);
  EXPECT_THAT(policy->docker["a.io"][1].key_paths, ElementsAre("/k", "/l"));
  EXPECT_EQ(policy->docker["a.io"][1].identity.kind, SignedIdentity::Kind::kMatchExact);
  EXPECT_THAT(policy->docker["b.io"][0].key_data, ElementsAre("key"));
  EXPECT_THAT(policy->docker["c.io"][0].key_data, ElementsAre("key", "ley"));
  EXPECT_EQ(policy->docker["c.io"][0].identity.reference, "docker.io/library/busybox:1");
  EXPECT_EQ(policy->docker["d.io"][0].identity.reference, "docker.io/library/busybox");
  EXPECT_EQ(policy->docker["e.io"][0].identity.signed_prefix, "docker.io");
}

TEST(ParseTrustPolicy, WhatIsNotUnderstoodIsNamed) {
  struct Case {
    const char* policy;
    const char* told;
  };
  auto with = [](const char* requirement) {
    return StrCat(R"({"default":[{"type":"reject"}],"transports":{"docker":{"x.io":[)", requirement, "]}}}");
  };
  const Case whole[] = {
      {"", "JSON"},
      {"[]", "object"},
      {"{}", "\"default\" is missing"},
      {R"({"default":[]})", "default: a list"},
      {R"({"default":{"type":"reject"}})", "default: a list"},
      {R"({"default":[{"type":"reject"}],"trasports":{}})", "unknown key \"trasports\""},
      {R"({"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]})", "\"default\" a second time"},
      {R"({"default":[{"type":"reject","x":1}]})", "default[0]: unknown key \"x\""},
      {R"({"default":[{"type":"Reject"}]})", "unknown kind of requirement \"Reject\""},
      {R"({"default":[{}]})", "\"type\" is missing"},
      {R"({"default":[{"type":7}]})", "default[0].type: a text"},
      {R"({"default":[{"type":"reject"}],"transports":[]})", "transports: an object"},
      {R"({"default":[{"type":"reject"}],"transports":{"docker":[]}})", "transports.\"docker\": an object"},
      {R"({"default":[{"type":"reject"}],"transports":{"atomic":{"x":[{"type":"y"}]}}})",
       "transports.\"atomic\".\"x\"[0].type"},
  };
  for (const Case& c : whole) {
    auto policy = ParseTrustPolicy(c.policy, "/p.json");
    ASSERT_FALSE(policy) << c.policy;
    EXPECT_THAT(policy.error().message(), StartsWith("/p.json: ")) << c.policy;
    EXPECT_THAT(policy.error().message(), HasSubstr(c.told)) << c.policy;
  }
  const Case one[] = {
      {R"({"type":"signedBy","keyPath":"/k"})", "\"keyType\" is missing"},
      {R"({"type":"signedBy","keyType":"X509Certificates","keyPath":"/k"})", "X509Certificates"},
      {R"({"type":"signedBy","keyType":"GPGKeys"})", "exactly one of"},
      {R"({"type":"signedBy","keyType":"GPGKeys","keyPath":"/k","keyData":"a2V5"})", "exactly one of"},
      {R"({"type":"signedBy","keyType":"GPGKeys","keyPath":"k"})", "absolute"},
      {R"({"type":"signedBy","keyType":"GPGKeys","keyPaths":[]})", "keyPaths: a list"},
      {R"({"type":"signedBy","keyType":"GPGKeys","keyPaths":["/k",1]})", "keyPaths[1]"},
      {R"({"type":"signedBy","keyType":"GPGKeys","keyData":"&"})", "base64"},
      {R"({"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyPath":"/r"})",
       "\"rekorPublicKeyPath\" is not supported"},
      {R"({"type":"sigstoreSigned","fulcio":{}})", "\"fulcio\" is not supported"},
      {R"({"type":"sigstoreSigned","keyPath":"/k","keyType":"GPGKeys"})", "unknown key \"keyType\""},
      {R"({"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"any"}})", "signedIdentity.type: unknown"},
      {R"({"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"matchExact","x":1}})", "unknown key \"x\""},
      {R"({"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"exactReference","dockerReference":"busybox"}})",
       "tag or digest"},
      {R"({"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"exactRepository","dockerRepository":"a:1"}})",
       "without tag"},
      {R"({"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"remapIdentity","prefix":"a.io"}})",
       "\"signedPrefix\" is missing"},
      {R"({"type":"sigstoreSigned","keyPath":"/k","signedIdentity":{"type":"remapIdentity","prefix":"busybox/x","signedPrefix":"b.io"}})",
       "prefix: neither"},
  };
  for (const Case& c : one) {
    auto policy = ParseTrustPolicy(with(c.policy), "/p.json");
    ASSERT_FALSE(policy) << c.policy;
    EXPECT_THAT(policy.error().message(), HasSubstr("transports.\"docker\".\"x.io\"[0]")) << c.policy;
    EXPECT_THAT(policy.error().message(), HasSubstr(c.told)) << c.policy;
  }
}

TEST(IdentityMatches, ByKind) {
  using Kind = SignedIdentity::Kind;
  struct Case {
    SignedIdentity identity;
    std::string pulled;
    std::string signed_as;
    bool matches;
  };
  const SignedIdentity exact{.kind = Kind::kMatchExact}, usual, repository{.kind = Kind::kMatchRepository};
  const SignedIdentity one{.kind = Kind::kExactReference, .reference = "docker.io/library/busybox:1"};
  const SignedIdentity any_tag{.kind = Kind::kExactRepository, .reference = "docker.io/library/busybox"};
  const SignedIdentity remap{.kind = Kind::kRemapIdentity, .prefix = "m.io/cache", .signed_prefix = "docker.io"};
  const std::string by_digest = "a.io/x@" + kDigest;
  const Case cases[] = {
      {exact, "a.io/x:1", "a.io/x:1", true},
      {exact, "a.io/x:1", "a.io/x:2", false},
      {exact, "a.io/x", "a.io/x", false},  // a signature's name without tag stands for no tag
      {exact, by_digest, "a.io/x:1", false},
      {exact, by_digest, by_digest, true},
      {exact, "busybox:1", "busybox:1", true},
      {usual, "a.io/x:1", "a.io/x:1", true},
      {usual, "a.io/x:1", "a.io/x:2", false},
      {usual, "a.io/x:latest", "a.io/x", false},
      {usual, by_digest, "a.io/x:whatever", true},
      {usual, by_digest, "a.io/y:whatever", false},
      {usual, by_digest, "a.io/x", false},
      {usual, "a.io/x:1@" + kDigest, "a.io/x:2", true},  // pulled by digest
      {repository, "a.io/x:1", "a.io/x", true},
      {repository, "a.io/x:1", "a.io/x:7", true},
      {repository, "a.io/x:1", "a.io/xx", false},
      {repository, "localhost:5000/x:1", "localhost:5000/x", true},
      {one, "a.io/x:1", "busybox:1", true},
      {one, "a.io/x:1", "busybox:2", false},
      {any_tag, "a.io/x:1", "busybox:2", true},
      {any_tag, "a.io/x:1", "a.io/x:1", false},
      {remap, "m.io/cache/library/busybox:1", "busybox:1", true},
      {remap, "m.io/cache/library/busybox:1", "m.io/cache/library/busybox:1", false},
      {remap, "m.io/cached/x:1", "docker.io/cached/x:1", false},  // "cached" is not under "cache"
      {remap, "m.io/cached/x:1", "m.io/cached/x:1", true},
      {usual, "a.io/x:1", "", false},
      {usual, "a.io/x:1", "../a.io/x:1", false},
      {repository, "a.io/x:1", "A.io/X", false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(IdentityMatches(c.identity, Ref(c.pulled), c.signed_as), c.matches)
        << static_cast<int>(c.identity.kind) << " " << c.pulled << " " << c.signed_as;
  }
}

}  // namespace
}  // namespace crisp::image
