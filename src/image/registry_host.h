// Requests to one host of a registry: authorization, redirects, and what an answer means for the next step. Falling
// back to other hosts, retries and the verification of content are the repository's (registry.cc).
// Threading: any thread; each call blocks its own.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "base/synchronized.h"
#include "image/registry.h"
#include "image/registry_auth.h"
#include "image/registry_credentials.h"
#include "image/registry_hosts.h"
#include "image/registry_http.h"

namespace crisp::image {

struct HostRequest {
  std::string method = "GET";
  std::string path;                  // behind the base and the repository's name: "/manifests/latest"
  std::vector<std::string> headers;  // Accept, Range
  HttpHandler handler;
};

// What one request to one host led to.
enum class Verdict {
  kOk,
  kRetry,     // may pass: transport, 5xx, 429
  kNextHost,  // will not get better here: 404, 401, 403, TLS, lies
  kFinal,     // nobody else is to be asked: ctx ended, or the consumer failed
};
struct Attempt {
  Verdict verdict = Verdict::kOk;
  HttpHead head;
  std::optional<Error> error;  // unless kOk; scrubbed
  bool unreachable = false;    // no connection or no trust: not worth another try in this pull if there are others
  bool handler_failed = false;
};

// What all hosts of a repository share. Outlives the clients.
struct RepositoryContext {
  const RegistryOptions& options;
  oci::Reference reference;
  std::optional<Login> login;  // of the CRI call
  std::string login_host;      // canonical host that `login` is for
  CredentialStore store;
  HttpPool pool;
  Secrets secrets;
};

class HostClient {
 public:
  HostClient(HostConfig config, RepositoryContext& repository);
  const HostConfig& config() const { return config_; }
  Attempt Do(const Ctx& ctx, const HostRequest& request);

 private:
  struct Auth {
    std::string header;       // "Authorization: …", or empty
    uint64_t generation = 0;  // counts changes, so that parallel requests don't each get a token
  };
  std::string Url(const HostRequest& request) const;
  HttpRequest Prepare(const std::string& url, const HostRequest& request, const std::string& auth_header,
                      bool own) const;
  HttpResult Follow(const Ctx& ctx, const HostRequest& request, const std::string& auth_header, bool& left_host);
  Result<std::string> Authorize(const Ctx& ctx, const HttpHead& head, uint64_t seen_generation);
  Result<std::string> NewHeader(const Ctx& ctx, const HttpHead& head);
  Result<std::optional<Login>> FindLogin(const Ctx& ctx);
  Result<std::string> FetchToken(const Ctx& ctx, const Challenge& challenge, const std::optional<Login>& login);
  Attempt Judge(const HostRequest& request, HttpResult result, bool left_host) const;
  std::string Origin() const;

  const HostConfig config_;
  RepositoryContext& repository_;
  Synchronized<bool> use_tls_;  // a guessed host turned out to speak TLS
  Synchronized<Auth> auth_;
  Synchronized<std::optional<std::optional<Login>>> login_;  // once found
};

}  // namespace crisp::image
