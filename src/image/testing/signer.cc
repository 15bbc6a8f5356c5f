#include "image/testing/signer.h"

#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/strings.h"
#include "image/registry_credentials.h"

namespace crisp::image::testing {

Signer::Signer(std::string_view kind) {
  EVP_PKEY* key = nullptr;
  if (kind.starts_with("RSA")) {
    key = EVP_RSA_gen(kind == "RSA" ? 2048u : 1024u);
  } else if (kind.ends_with("25519")) {
    key = EVP_PKEY_Q_keygen(nullptr, nullptr, std::string(kind).c_str());
  } else {
    key = EVP_EC_gen(std::string(kind).c_str());
  }
  EXPECT_NE(key, nullptr) << kind;
  key_.reset(key, &EVP_PKEY_free);
}

std::string Signer::PublicPem() const {
  std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), &BIO_free);
  EXPECT_EQ(PEM_write_bio_PUBKEY(bio.get(), key_.get()), 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

std::string Signer::Sign(std::string_view text) const {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const EVP_MD* hash = EVP_PKEY_get_base_id(key_.get()) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
  EXPECT_EQ(EVP_DigestSignInit(context.get(), nullptr, hash, nullptr, key_.get()), 1);
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t size = 0;
  EXPECT_EQ(EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()), 1);
  std::string out(size, '\0');
  EXPECT_EQ(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, bytes, text.size()), 1);
  out.resize(size);
  return out;
}

std::string CosignPayload(std::string_view manifest_digest, std::string_view name) {
  return StrCat(R"({"critical":{"identity":{"docker-reference":")", name, R"("},"image":{"docker-manifest-digest":")",
                manifest_digest, R"("},"type":"cosign container image signature"},"optional":null})");
}

void PublishSignature(FakeRegistry& registry, const Signer& signer, const std::string& manifest_digest,
                      const std::string& payload) {
  const std::string config = registry.AddBlob("{}");
  const std::string blob = registry.AddBlob(payload);
  std::string tag = manifest_digest + ".sig";
  tag[tag.find(':')] = '-';
  registry.AddManifest(
      tag,
      StrCat(
          R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":)",
          R"("application/vnd.oci.image.config.v1+json","digest":")", config, R"(","size":2},"layers":[{"mediaType":)",
          R"("application/vnd.dev.cosign.simplesigning.v1+json","digest":")", blob, R"(","size":)", payload.size(),
          R"(,"annotations":{"dev.cosignproject.cosign/signature":")", Base64Encode(signer.Sign(payload)), "\"}}]}"));
}

}  // namespace crisp::image::testing
