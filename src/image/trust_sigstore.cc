#include "image/trust_sigstore.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

namespace crisp::image {

namespace {

constexpr int kRsaBitsMin = 2048;
constexpr int kRsaBitsMax = 16384;  // a larger one would only burn time

bool IsUsable(EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_ED25519: return true;
    case EVP_PKEY_RSA: return EVP_PKEY_get_bits(key) >= kRsaBitsMin && EVP_PKEY_get_bits(key) <= kRsaBitsMax;
    case EVP_PKEY_EC: {
      char group[64];
      size_t size = 0;
      if (EVP_PKEY_get_group_name(key, group, sizeof group, &size) != 1) return false;
      const std::string_view name(group, size);
      return name == "prime256v1" || name == "secp384r1" || name == "secp521r1";
    }
    default: return false;
  }
}

const unsigned char* Bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

}  // namespace

void PublicKey::Free::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

Result<PublicKey> PublicKey::Parse(std::string_view pem) {
  constexpr size_t kPemBytesMax = 64u << 10;
  if (pem.size() > kPemBytesMax) return Error(Code::kInvalidArgument, "a public key of more than 64 KiB");
  std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  // No passphrase is ever asked for on a terminal.
  auto no_passphrase = [](char*, int, int, void*) { return -1; };
  PublicKey key(PEM_read_bio_PUBKEY(bio.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (key.key_ == nullptr) return Error(Code::kInvalidArgument, "no public key in PEM");
  if (!IsUsable(key.key_.get())) {
    return Error(Code::kInvalidArgument,
                 "a public key that is not ECDSA on P-256, P-384 or P-521, RSA of 2048 bits or more, or Ed25519");
  }
  return key;
}

bool PublicKey::Verifies(std::string_view payload, std::string_view signature) const {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  // Ed25519 hashes by itself.
  const EVP_MD* hash = EVP_PKEY_get_base_id(key_.get()) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
  const bool valid =
      EVP_DigestVerifyInit(context.get(), nullptr, hash, nullptr, key_.get()) == 1 &&
      EVP_DigestVerify(context.get(), Bytes(signature), signature.size(), Bytes(payload), payload.size()) == 1;
  ERR_clear_error();
  return valid;
}

}  // namespace crisp::image
