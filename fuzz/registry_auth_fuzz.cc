// What a registry and its token server say about authorization, and docker's config.json.
#include <cstdint>
#include <string>

#include "image/registry_auth.h"
#include "image/registry_credentials.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  crisp::image::UrlParts registry;
  registry.scheme = "https";
  registry.host = "registry.example";
  for (const auto& challenge : crisp::image::ParseChallenges(text)) {
    auto realm = challenge.params.find("realm");
    if (realm == challenge.params.end()) continue;
    auto url = crisp::image::CheckRealm(registry, realm->second, true);
    if (url) (void)crisp::image::TokenRequest(*url, challenge, "repository:a/b:pull", crisp::image::Login{"user", "password", "", ""});
  }
  (void)crisp::image::ParseToken(text);
  (void)crisp::image::ApiErrors(text);
  (void)crisp::image::CredentialStore::Parse(text, "config.json");
  (void)crisp::image::Base64Decode(text);
  return 0;
}
