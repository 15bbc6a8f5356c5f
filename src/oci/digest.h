// Content digests (image-spec descriptor.md#digests). A Digest in our hands is well formed, so it may go into a path or
// a URL: sha256 with 64 or sha512 with 128 lower-case hexadecimal digits, nothing else.
// Threading: values. Hasher: one thread at a time.
#pragma once

#include <compare>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace crisp::oci {

enum class DigestAlgorithm { kSha256, kSha512 };

class Digest {
 public:
  Digest() = default;  // the empty digest: names nothing
  // "sha256:<64 hex>" or "sha512:<128 hex>"; anything else is kInvalidArgument.
  static Result<Digest> Parse(std::string_view text);
  static Digest Of(std::string_view bytes, DigestAlgorithm algorithm = DigestAlgorithm::kSha256);

  const std::string& str() const { return text_; }  // "sha256:…"
  std::string_view algorithm_name() const;          // "sha256"
  std::string_view hex() const;                     // after the colon
  DigestAlgorithm algorithm() const { return algorithm_; }
  bool empty() const { return text_.empty(); }
  friend auto operator<=>(const Digest& a, const Digest& b) { return a.text_ <=> b.text_; }
  friend bool operator==(const Digest& a, const Digest& b) { return a.text_ == b.text_; }

 private:
  friend class Hasher;
  Digest(DigestAlgorithm algorithm, std::string text) : algorithm_(algorithm), text_(std::move(text)) {}
  DigestAlgorithm algorithm_ = DigestAlgorithm::kSha256;
  std::string text_;
};

// Hashes bytes as they come. OpenSSL's EVP (SHA-NI where the machine has it).
class Hasher {
 public:
  explicit Hasher(DigestAlgorithm algorithm = DigestAlgorithm::kSha256);
  Hasher(Hasher&&) noexcept = default;
  Hasher& operator=(Hasher&&) noexcept = default;

  void Update(std::string_view bytes);
  // The digest of everything so far. Once; the hasher is used up then.
  Digest Finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  DigestAlgorithm algorithm_;
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace crisp::oci

template <>
struct std::hash<crisp::oci::Digest> {
  size_t operator()(const crisp::oci::Digest& digest) const noexcept { return std::hash<std::string>()(digest.str()); }
};
