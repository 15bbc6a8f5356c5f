#include "image/testing/fake_registry.h"

#include <algorithm>

#include "base/strings.h"

namespace crisp::image::testing {

std::string Digest256(std::string_view bytes) { return oci::Digest::Of(bytes).str(); }

oci::Descriptor BlobOf(const std::string& bytes) {
  return {.digest = *oci::Digest::Parse(Digest256(bytes)), .size = bytes.size()};
}

std::string Pattern(size_t size) {
  std::string out(size, ' ');
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>('a' + i * 7 % 26);
  return out;
}

RegistryOptions QuickOptions() {
  RegistryOptions options;
  options.backoff_first = std::chrono::milliseconds(1);
  options.attempts_max = 4;
  return options;
}

std::string FakeRegistry::AddManifest(const std::string& tag, const std::string& bytes, std::string_view type) {
  std::string digest = Digest256(bytes);
  Document document{bytes, std::string(type)};
  if (!tag.empty()) manifests_[tag] = document;
  manifests_[digest] = document;
  return digest;
}

std::string FakeRegistry::AddBlob(const std::string& bytes) {
  std::string digest = Digest256(bytes);
  blobs_[digest] = bytes;
  return digest;
}

Response FakeRegistry::Answer(const Request& request) const {
  std::string name = request.path.substr(request.path.rfind('/') + 1);
  if (request.path.find("/manifests/") != std::string::npos) {
    auto found = manifests_.find(name);
    if (found == manifests_.end()) {
      return {.status = 404, .body = R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})"};
    }
    return {
        .headers = {{"Content-Type", found->second.type}, {"Docker-Content-Digest", Digest256(found->second.bytes)}},
        .body = found->second.bytes};
  }
  auto found = blobs_.find(name);
  if (found == blobs_.end()) return {.status = 404};
  const std::string& bytes = found->second;
  std::string range = request.Header("range");
  if (!range.starts_with("bytes=")) return {.body = bytes};
  size_t dash = range.find('-');
  size_t from = ParseInt<size_t>(range.substr(6, dash - 6)).value_or(0);
  size_t last = ParseInt<size_t>(range.substr(dash + 1)).value_or(bytes.size() - 1);
  if (from >= bytes.size() || last < from) return {.status = 416};
  last = std::min(last, bytes.size() - 1);
  return {.status = 206,
          .headers = {{"Content-Range", StrCat("bytes ", from, "-", last, "/", bytes.size())}},
          .body = bytes.substr(from, last - from + 1)};
}

std::string FakeRegistry::IssueToken() { return *tokens_.insert(StrCat("token-", ++issued_)).first; }

Response FakeRegistry::WithBearer(const Request& request, const std::string& realm, const std::string& login) {
  if (request.path == "/token") {
    bool refresh = request.method == "POST";
    std::string want = login.empty() ? "" : StrCat("Basic ", login == "u:p" ? "dTpw" : "?");
    bool ok = refresh ? login == "refresh:r/t" && request.body.find("refresh_token=r%2Ft") != std::string::npos
                      : request.Header("authorization") == want;
    if (!ok) return {.status = 401};
    return {.body = StrCat(R"({"token":")", IssueToken(), "\"}")};
  }
  std::string auth = request.Header("authorization");
  if (auth.starts_with("Bearer ") && tokens_.contains(auth.substr(7))) return Answer(request);
  std::string scope = request.path.substr(4, request.path.find("/manifests/") - 4);
  scope = scope.substr(0, scope.find("/blobs/"));
  return {.status = 401,
          .headers = {{"WWW-Authenticate",
                       StrCat("Bearer realm=\"", realm, "\",service=\"fake\",scope=\"repository:", scope, ":pull\"")}}};
}

}  // namespace crisp::image::testing
