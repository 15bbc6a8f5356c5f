// The pure part of authorization: WWW-Authenticate (RFC 9110 section 11), token requests and answers (distribution's
// docs/spec/auth/{token,oauth}.md), and who may be given a secret at all. No I/O; every input is hostile.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/synchronized.h"
#include "image/registry_credentials.h"
#include "image/registry_http.h"

namespace crisp::image {

struct Challenge {
  std::string scheme;                         // lower case: "bearer", "basic"
  std::map<std::string, std::string> params;  // names in lower case
};
// Of one header; what does not parse is left out. At most 16.
std::vector<Challenge> ParseChallenges(std::string_view header);

// Whether a token server named by a challenge may be asked, and given `with_login` the secret. The registry was asked
// at `registry`; the answer is the URL to be used. Rules (README, "Who gets a secret"): never http when the registry is
// https; http with a secret only on the registry's own host name; otherwise any https host that proves who it is.
Result<UrlParts> CheckRealm(const UrlParts& registry, std::string_view realm, bool with_login);

// The request for a token: GET with Basic for a password or none, POST oauth2 for a refresh token.
HttpRequest TokenRequest(const UrlParts& realm, const Challenge& challenge, const std::string& scope_wanted,
                         const std::optional<Login>& login);
// The token in the answer; kUnauthenticated when there is none that can be a header's part.
Result<std::string> ParseToken(std::string_view body);

std::string BasicHeader(const Login& login);  // "Authorization: Basic …"

// The errors of a distribution API answer as "CODE: message, …"; empty when the body is none.
std::string ApiErrors(std::string_view body);

// All that must not be seen in an error. A host may say anything in its answers, also what we had sent to it.
class Secrets {
 public:
  void Add(std::string_view secret);  // shorter than 4: ignored, it would cut up every text
  void Add(const Login& login);
  std::string Scrub(std::string text) const;
  Error Scrub(Error error) const;

 private:
  Synchronized<std::vector<std::string>> secrets_;  // longest first
};

}  // namespace crisp::image
