// Whose password goes where: the credentials of a CRI call, and docker's config.json with credential helpers.
// The one rule: a secret is found for a host and a repository, and goes to that host alone.
// Threading: CredentialStore is immutable after Load; Find runs helper programs and blocks up to 10 s each.
// No text of ours holds a secret; helpers' output is never quoted, since helpers print secrets.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/context.h"
#include "image/types.h"

namespace crisp::image {

// What is presented to one host. Either username and password, or a refresh token, or a ready bearer token.
struct Login {
  std::string username;
  std::string password;
  std::string identity_token;
  std::string registry_token;
};

// From CRI's AuthConfig; nothing when it is empty. kInvalidArgument: `auth` is not base64 of user:password, or control
// characters.
Result<std::optional<Login>> LoginFrom(const Credentials& credentials);

// "https://index.docker.io/v1/", "docker.io", "registry-1.docker.io" → "docker.io"; "https://h:5000/v2/" → "h:5000".
std::string CanonicalHost(std::string_view server_address);

class CredentialStore {
 public:
  CredentialStore() = default;
  // Missing file or empty path: an empty store. kInvalidArgument: not a docker config.json.
  static Result<CredentialStore> Load(const std::string& path);
  static Result<CredentialStore> Parse(std::string_view text, const std::string& path);
  // For repository `path` on `host`: its helper (credHelpers, then credsStore), else the longest entry of auths that is
  // the host or a prefix of host/path.
  Result<std::optional<Login>> Find(const Ctx& ctx, const std::string& host, const std::string& path) const;

 private:
  std::map<std::string, Login> auths_;          // by canonical host, or host/prefix
  std::map<std::string, std::string> helpers_;  // canonical host → helper's name
  std::string default_helper_;
};

// Without white space; padding may be missing. kInvalidArgument: not base64, or more than `text_max` characters.
Result<std::string> Base64Decode(std::string_view text, size_t text_max = 256u << 10);
std::string Base64Encode(std::string_view bytes);

}  // namespace crisp::image
