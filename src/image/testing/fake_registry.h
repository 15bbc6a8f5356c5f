// A small registry for HttpServer: manifests and blobs in memory, ranges, Bearer tokens.
#pragma once

#include <map>
#include <set>
#include <string>

#include "image/registry.h"
#include "image/testing/http_server.h"

namespace crisp::image::testing {

std::string Digest256(std::string_view bytes);
oci::Descriptor BlobOf(const std::string& bytes);  // without a type
std::string Pattern(size_t size);                  // bytes for a blob, no two neighbours the same
// Options that fail quickly: back-off of a millisecond.
RegistryOptions QuickOptions();

class FakeRegistry {
 public:
  // The digest. The tag and the digest name it in every repository.
  std::string AddManifest(const std::string& tag, const std::string& bytes,
                          std::string_view type = oci::media_type::kOciManifest);
  std::string AddBlob(const std::string& bytes);
  void ReplaceBlob(const std::string& digest, const std::string& bytes) { blobs_[digest] = bytes; }  // a lie

  Response Answer(const Request& request) const;
  // The same behind a token server at `realm` (whose path is /token, on this server) that wants `login`: "" for
  // anonymous, "user:password", or "refresh:TOKEN".
  Response WithBearer(const Request& request, const std::string& realm, const std::string& login);
  std::string IssueToken();
  void ExpireTokens() { tokens_.clear(); }

 private:
  struct Document {
    std::string bytes;
    std::string type;
  };
  std::map<std::string, Document> manifests_;  // by tag and digest
  std::map<std::string, std::string> blobs_;
  std::set<std::string> tokens_;
  int issued_ = 0;
};

}  // namespace crisp::image::testing
