#include "oci/digest.h"

#include <openssl/evp.h>

#include "base/check.h"
#include "base/strings.h"

namespace crisp::oci {

namespace {

constexpr std::string_view kSha256 = "sha256";
constexpr std::string_view kSha512 = "sha512";

const EVP_MD* Method(DigestAlgorithm algorithm) {
  return algorithm == DigestAlgorithm::kSha256 ? EVP_sha256() : EVP_sha512();
}

bool IsLowerHex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

}  // namespace

Result<Digest> Digest::Parse(std::string_view text) {
  size_t colon = text.find(':');
  std::string_view name = text.substr(0, colon);
  std::string_view hex = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  size_t digits = name == kSha256 ? 64 : name == kSha512 ? 128 : 0;
  if (digits == 0 || hex.size() != digits || !IsLowerHex(hex)) {
    return Error(Code::kInvalidArgument,
                 StrCat("digest ", Quote(text, 160),
                        " is neither sha256: with 64 nor sha512: with 128 lower-case hexadecimal digits"));
  }
  return Digest(digits == 64 ? DigestAlgorithm::kSha256 : DigestAlgorithm::kSha512, std::string(text));
}

Digest Digest::Of(std::string_view bytes, DigestAlgorithm algorithm) {
  Hasher hasher(algorithm);
  hasher.Update(bytes);
  return hasher.Finish();
}

std::string_view Digest::algorithm_name() const { return std::string_view(text_).substr(0, text_.find(':')); }

std::string_view Digest::hex() const {
  return text_.empty() ? std::string_view() : std::string_view(text_).substr(text_.find(':') + 1);
}

void Hasher::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Hasher::Hasher(DigestAlgorithm algorithm) : algorithm_(algorithm), context_(EVP_MD_CTX_new()) {
  CHECK(context_ != nullptr);
  CHECK(EVP_DigestInit_ex(context_.get(), Method(algorithm), nullptr) == 1);
}

void Hasher::Update(std::string_view bytes) {
  CHECK(context_ != nullptr);
  CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

Digest Hasher::Finish() {
  CHECK(context_ != nullptr);
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CHECK(EVP_DigestFinal_ex(context_.get(), raw, &size) == 1);
  context_.reset();
  std::string hex = HexEncode(std::string_view(reinterpret_cast<char*>(raw), size));
  std::string_view name = algorithm_ == DigestAlgorithm::kSha256 ? kSha256 : kSha512;
  return Digest(algorithm_, StrCat(name, ":", hex));
}

}  // namespace crisp::oci
