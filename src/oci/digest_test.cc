#include "oci/digest.h"

#include <gtest/gtest.h>

#include "base/strings.h"

namespace crisp::oci {
namespace {

const std::string kHex64(64, 'a');
const std::string kHex128(128, '0');

TEST(Digest, AcceptsTheTwoAlgorithms) {
  Result<Digest> a = Digest::Parse("sha256:" + kHex64);
  ASSERT_TRUE(a);
  EXPECT_EQ(a->hex(), kHex64);
  EXPECT_EQ(a->algorithm_name(), "sha256");
  EXPECT_EQ(a->algorithm(), DigestAlgorithm::kSha256);
  Result<Digest> b = Digest::Parse("sha512:" + kHex128);
  ASSERT_TRUE(b);
  EXPECT_EQ(b->algorithm(), DigestAlgorithm::kSha512);
}

// S09: nothing that could leave a directory or change a URL becomes a Digest.
TEST(Digest, RefusesEverythingElse) {
  const std::string bad[] = {
      "",
      ":",
      "sha256",
      "sha256:",
      kHex64,
      "sha256:" + kHex64 + "a",
      "sha256:" + kHex64.substr(1),
      "sha256:" + kHex128,
      "sha512:" + kHex64,
      "SHA256:" + kHex64,
      "sha256:" + std::string(64, 'A'),
      "sha256:" + std::string(64, 'g'),
      "sha256:../../../etc/passwd" + std::string(45, 'a'),
      "sha256:../../x",
      "sha256:" + kHex64.substr(1) + "\n",
      "sha256:" + kHex64.substr(1) + std::string(1, '\0'),
      " sha256:" + kHex64,
      "sha384:" + std::string(96, 'a'),
      "md5:" + std::string(32, 'a'),
      "sha256+b64:" + kHex64,
      "sha256::" + kHex64.substr(1),
  };
  for (const std::string& text : bad) {
    Result<Digest> digest = Digest::Parse(text);
    ASSERT_FALSE(digest) << text;
    EXPECT_EQ(digest.error().code(), Code::kInvalidArgument);
  }
}

// NIST's test vectors (FIPS 180-2, appendix B.1 and C.1).
TEST(Hasher, KnownAnswers) {
  EXPECT_EQ(Digest::Of("abc").str(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Digest::Of("abc", DigestAlgorithm::kSha512).str(),
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
            "454d4423643ce80e2a9ac94fa54ca49f");
  EXPECT_TRUE(Digest::Parse(Digest::Of("").str()));
}

TEST(Hasher, PiecesGiveTheSameAsTheWhole) {
  Hasher hasher;
  for (const char* piece : {"a", "", "bc"}) hasher.Update(piece);
  EXPECT_EQ(hasher.Finish(), Digest::Of("abc"));
}

}  // namespace
}  // namespace crisp::oci
