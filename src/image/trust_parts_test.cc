// Payloads, keys and signatures, lookaside configuration. Needs gpgv, no root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "image/registry_credentials.h"
#include "image/testing/image_builder.h"
#include "image/testing/openpgp_fixture.h"
#include "image/testing/signer.h"
#include "image/testing/temp_dir.h"
#include "image/trust_lookaside.h"
#include "image/trust_openpgp.h"
#include "image/trust_payload.h"
#include "image/trust_sigstore.h"

namespace crisp::image {
namespace {

using ::testing::HasSubstr;
using testing::Signer;

const std::string kSignedDigest = "sha256:" + std::string(64, 'b');

TEST(ParseSignedClaim, TakesBothKindsAndNothingElse) {
  auto payload = [](const char* type, const std::string& digest, const char* optional, const char* more = "") {
    return StrCat(R"({"critical":{"type":")", type, R"(","image":{"docker-manifest-digest":")", digest,
                  R"("},"identity":{"docker-reference":"a.io/x:1"})", more, R"(},"optional":)", optional, "}");
  };
  const char *gpg = "atomic container signature", *cosign = "cosign container image signature";
  auto claim = ParseSignedClaim(payload(gpg, kSignedDigest, R"({"creator":"c","x":{"y":1}})"), SignatureKind::kOpenPgp);
  ASSERT_TRUE(claim) << claim.error().message();
  EXPECT_EQ(claim->manifest_digest.str(), kSignedDigest);
  EXPECT_EQ(claim->reference, "a.io/x:1");
  EXPECT_TRUE(ParseSignedClaim(payload(cosign, kSignedDigest, "null"), SignatureKind::kSigstore));
  EXPECT_FALSE(ParseSignedClaim(payload(gpg, kSignedDigest, "null"), SignatureKind::kOpenPgp));
  EXPECT_FALSE(ParseSignedClaim(payload(gpg, kSignedDigest, "{}"), SignatureKind::kSigstore))
      << "a signature of the other kind";
  EXPECT_FALSE(ParseSignedClaim(payload(cosign, kSignedDigest, "{}"), SignatureKind::kOpenPgp));
  EXPECT_FALSE(ParseSignedClaim(payload(gpg, kSignedDigest, "{}", R"(,"only-on":"monday")"), SignatureKind::kOpenPgp));
  EXPECT_FALSE(ParseSignedClaim(payload(gpg, kSignedDigest, "{}", R"(,"type":"x")"), SignatureKind::kOpenPgp)) << "twice";
  EXPECT_FALSE(ParseSignedClaim(payload(gpg, "sha256:b", "{}"), SignatureKind::kOpenPgp));
  EXPECT_FALSE(ParseSignedClaim("{}", SignatureKind::kOpenPgp));
  EXPECT_FALSE(ParseSignedClaim("", SignatureKind::kSigstore));
}

TEST(PublicKey, VerifiesWhatItsOwnerSigned) {
  for (const char* kind : {"P-256", "P-384", "ED25519", "RSA"}) {
    Signer signer(kind), other(kind);
    auto key = PublicKey::Parse(signer.PublicPem());
    ASSERT_TRUE(key) << kind << key.error().message();
    const std::string signature = signer.Sign("text");
    EXPECT_TRUE(key->Verifies("text", signature)) << kind;
    EXPECT_FALSE(key->Verifies("texT", signature)) << kind;
    EXPECT_FALSE(key->Verifies("text", other.Sign("text"))) << kind;
    EXPECT_FALSE(key->Verifies("text", "")) << kind;
    EXPECT_FALSE(key->Verifies("text", signature.substr(1))) << kind;
  }
}

TEST(PublicKey, WeakAndForeignKeysAreRefused) {
  for (const char* kind : {"RSA-1024", "secp256k1", "X25519"}) {
    EXPECT_FALSE(PublicKey::Parse(Signer(kind).PublicPem())) << kind;
  }
  EXPECT_FALSE(PublicKey::Parse(""));
  EXPECT_FALSE(PublicKey::Parse("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"));
  EXPECT_FALSE(PublicKey::Parse(std::string(100'000, 'A')));
}

class OpenPgp : public ::testing::Test {
 protected:
  static Result<std::string> Verify(std::vector<const char*> armored, const std::string& message) {
    std::vector<std::string> keys;
    for (const char* key : armored) keys.push_back(*DearmorKeys(key));
    return OpenPgpKeys(std::move(keys)).Verify({}, message);
  }
  const std::string message_ = *Base64Decode(testing::kSignatureBase64);
};

TEST_F(OpenPgp, AcceptsOneSignatureByOneOfTheKeys) {
  auto payload = Verify({testing::kOtherKey, testing::kSignerKey}, message_);
  ASSERT_TRUE(payload) << payload.error().message();
  EXPECT_EQ(*payload, testing::kSignedPayload);
  // Both keys in one file.
  std::string file = StrCat(testing::kOtherKey, testing::kSignerKey);
  EXPECT_TRUE(Verify({file.c_str()}, message_));
}

TEST_F(OpenPgp, RefusesEverythingElse) {
  struct Case {
    std::vector<const char*> keys;
    std::string message;
    const char* told;
  };
  std::string changed = message_;
  changed[changed.find("team/app")] = 'T';
  const std::string expired = *Base64Decode(testing::kExpiredSignatureBase64);
  const std::string two = *Base64Decode(testing::kTwoSignaturesBase64);
  const Case cases[] = {
      {{testing::kOtherKey}, message_, "none of the policy's keys"},
      {{testing::kSignerKey}, changed, "does not fit"},
      {{testing::kExpiredKey}, expired, "expired"},
      {{testing::kSignerKey, testing::kOtherKey}, two, "not exactly one"},
      {{testing::kSignerKey}, message_ + message_, ""},
      {{testing::kSignerKey}, message_.substr(0, message_.size() - 10), ""},
      {{testing::kSignerKey}, testing::kSignedPayload, ""},
      {{testing::kSignerKey}, "", ""},
  };
  for (const Case& c : cases) {
    auto payload = Verify(c.keys, c.message);
    ASSERT_FALSE(payload) << c.told;
    EXPECT_EQ(payload.error().code(), Code::kPermissionDenied) << payload.error().message();
    EXPECT_THAT(payload.error().message(), HasSubstr(c.told));
  }
}

// 64 MiB of text in a few KiB: the text is cut off, whatever gpgv makes of it.
TEST_F(OpenPgp, CompressedTextIsBounded) {
  const uint32_t size = 64u << 20;
  std::string literal = {'\xcb', '\xff'};
  for (int shift : {24, 16, 8, 0}) literal += static_cast<char>((size + 6) >> shift);
  literal += std::string("b\0\0\0\0\0", 6) + std::string(size, 'x');
  std::string gzip = testing::Gzip(literal);
  std::string bomb = std::string("\xa3\x01", 2) + gzip.substr(10, gzip.size() - 18);
  ASSERT_LT(bomb.size(), 1u << 20);
  auto payload = Verify({testing::kSignerKey}, bomb);
  ASSERT_FALSE(payload);
}

TEST(DearmorKeys, TakesBinaryAndArmor) {
  std::string binary = *DearmorKeys(testing::kSignerKey);
  EXPECT_EQ(*DearmorKeys(binary), binary);
  std::string with_header(testing::kSignerKey);
  with_header.insert(with_header.find("\n\n") + 1, "Comment: a key\r\n");
  EXPECT_EQ(*DearmorKeys(with_header), binary);
  EXPECT_FALSE(DearmorKeys(""));
  EXPECT_FALSE(DearmorKeys("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n????\n-----END PGP PUBLIC KEY BLOCK-----"));
  EXPECT_FALSE(DearmorKeys("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"));
  EXPECT_FALSE(DearmorKeys(*Base64Decode(testing::kSignatureBase64))) << "a signature is no key";
}

TEST(JudgeGpgStatus, OneGoodSignatureOverOneText) {
  const std::string good =
      "[GNUPG:] PLAINTEXT 62 1 p\n[GNUPG:] NEWSIG x\n[GNUPG:] GOODSIG 1 someone\n[GNUPG:] VALIDSIG 1 2024-01-01\n";
  EXPECT_TRUE(JudgeGpgStatus(good));
  EXPECT_FALSE(JudgeGpgStatus(""));
  EXPECT_FALSE(JudgeGpgStatus(good + good));
  EXPECT_FALSE(JudgeGpgStatus(good + "[GNUPG:] PLAINTEXT 62 1 q\n"));
  for (const char* bad :
       {"BADSIG 1 x", "EXPSIG 1 x", "EXPKEYSIG 1 x", "REVKEYSIG 1 x", "ERRSIG 1", "NO_PUBKEY 1", "NODATA 1"}) {
    EXPECT_FALSE(JudgeGpgStatus(StrCat(good, "[GNUPG:] ", bad, "\n"))) << bad;
  }
  EXPECT_FALSE(JudgeGpgStatus("gpgv: [GNUPG:] GOODSIG 1\n"));
}

TEST(Lookaside, MostSpecificScopeThatNamesABase) {
  LookasideConfig config;
  auto base = [&](const char* name) { return LookasideBase(config, *oci::Reference::Parse(name)); };
  EXPECT_EQ(base("a.io/x"), "file:///var/lib/containers/sigstore");
  ASSERT_TRUE(AddRegistriesFile(config, R"(
default-docker:
  lookaside: https://fallback.example.org/sigs/
  lookaside-staging: file:///var/tmp
docker:
  a.io:
    lookaside: file:///srv/a
  a.io/team:
    sigstore: http://b.example.org
  a.io/team/open:
    use-sigstore-attachments: true
)",
                                "1.yaml"));
  EXPECT_EQ(base("a.io/x"), "file:///srv/a");
  EXPECT_EQ(base("a.io/team/x:1"), "http://b.example.org");
  EXPECT_EQ(base("a.io/team/open:1"), "http://b.example.org");
  EXPECT_EQ(base("c.io/x"), "https://fallback.example.org/sigs");
  EXPECT_TRUE(AddRegistriesFile(config, "# nothing\n", "2.yaml"));
  EXPECT_TRUE(AddRegistriesFile(config, "docker:\n", "2.yaml"));
  for (const char* bad : {"docker: {a.io: {lookaside: 'file:///x'}}", "default-docker: {lookaside: 'file:///x'}", "[]",
                          "docker: []", "docker: {n.io: {lookaside: 7}}", "docker: {n.io: {lookaside: 'ftp://x/'}}",
                          "docker: {n.io: {lookaside: 'file://x'}}", "docker: {"}) {
    auto added = AddRegistriesFile(config, bad, "3.yaml");
    ASSERT_FALSE(added) << bad;
    EXPECT_THAT(added.error().message(), HasSubstr("3.yaml")) << bad;
  }
}

TEST(Lookaside, AllFilesOfTheDirectory) {
  testing::TempDir dir;
  EXPECT_TRUE(LoadLookaside(dir.path() + "/none")->scopes.empty());
  dir.Write("a.yaml", "docker: {a.io: {lookaside: 'file:///a'}}");
  dir.Write("b.yaml", "docker: {b.io: {lookaside: 'file:///b'}}");
  dir.Write("c.yaml.old", "{");
  auto config = LoadLookaside(dir.path());
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->scopes.size(), 2u);
  dir.Write("d.yaml", "{");
  EXPECT_FALSE(LoadLookaside(dir.path()));
}

}  // namespace
}  // namespace crisp::image
