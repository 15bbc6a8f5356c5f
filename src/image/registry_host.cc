#include "image/registry_host.h"

#include <strings.h>

#include <algorithm>

#include "base/strings.h"

namespace crisp::image {

namespace {

constexpr int kRedirectsMax = 5;
constexpr size_t kTokenAnswerMax = 1 << 20;

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

HttpResult Failed(HttpEnd end, Error error) {
  HttpResult out;
  out.end = end;
  out.error = std::move(error);
  return out;
}

bool IsAuthorization(const std::string& header) { return strncasecmp(header.c_str(), "authorization:", 14) == 0; }

bool Contains(const std::vector<std::string>& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

// "https://h:443/v2/x?sig=…" → "https://h:443/v2/x": a query may hold signatures.
std::string WithoutQuery(const std::string& url) { return url.substr(0, url.find('?')); }

}  // namespace

HostClient::HostClient(HostConfig config, RepositoryContext& repository)
    : config_(std::move(config)), repository_(repository), use_tls_(config_.scheme == "https") {
  for (const std::string& header : config_.headers) {
    size_t value = header.find(": ") + 2;
    repository_.secrets.Add(header.substr(value));
    // "Bearer TOKEN": the token alone, too.
    repository_.secrets.Add(header.substr(header.rfind(' ') + 1));
  }
}

std::string HostClient::Origin() const { return StrCat(*use_tls_.Lock() ? "https://" : "http://", config_.host); }

std::string HostClient::Url(const HostRequest& request) const {
  const oci::Reference& reference = repository_.reference;
  std::string url = StrCat(Origin(), config_.path, "/", reference.path(), request.path);
  // Mirrors of several registries tell them apart by this parameter, as containerd sends it.
  bool docker_hub = reference.domain() == "docker.io" && config_.host == "registry-1.docker.io";
  if (config_.host != reference.domain() && !docker_hub) url += StrCat("?ns=", PercentEncode(reference.domain()));
  return url;
}

// `own`: the request goes to this host; else to a stranger that a redirect named, who gets nothing of ours but the
// roots.
HttpRequest HostClient::Prepare(const std::string& url, const HostRequest& request, const std::string& auth_header,
                                bool own) const {
  HttpRequest out;
  out.method = request.method;
  out.url = url;
  out.headers = request.headers;
  out.headers.push_back(StrCat("User-Agent: ", repository_.options.user_agent));
  out.connect_timeout = config_.dial_timeout.value_or(repository_.options.connect_timeout);
  out.tls.ca_files = config_.tls.ca_files;
  if (!own) return out;
  out.tls = config_.tls;
  // docker and containerd do not verify loopback either: what answers there has root's leave to listen.
  if (config_.guess_tls) out.tls.skip_verify = true;
  for (const std::string& header : config_.headers) {
    if (auth_header.empty() || !IsAuthorization(header)) out.headers.push_back(header);
  }
  if (!auth_header.empty()) out.headers.push_back(auth_header);
  return out;
}

// The request with redirects followed by our own rules: not from https to http, secrets only while we are on the
// host itself, and never again once we left it.
HttpResult HostClient::Follow(const Ctx& ctx, const HostRequest& request, const std::string& auth_header,
                              bool& left_host) {
  std::string url = Url(request);
  Result<UrlParts> home = ParseUrl(url);
  if (!home) return Failed(HttpEnd::kTls, std::move(home).error());
  left_host = false;
  for (int hop = 0; hop <= kRedirectsMax; ++hop) {
    HttpResult result = repository_.pool.Do(ctx, Prepare(url, request, auth_header, !left_host), request.handler);
    if (result.end != HttpEnd::kAnswered || !IsRedirect(result.head.status)) return result;
    auto bad = [&](std::string_view why) {
      return Failed(HttpEnd::kTls, Error(Code::kFailedPrecondition, StrCat(Origin(), ": ", why)));
    };
    Result<UrlParts> before = ParseUrl(url);
    Result<std::string> target = ResolveUrl(url, result.head.Get("location"));
    if (!before || !target) return bad("a redirect to what is no http or https URL");
    Result<UrlParts> after = ParseUrl(*target);
    if (!after) return bad("a redirect to what is no http or https URL");
    if (before->scheme == "https" && after->scheme == "http") return bad("a redirect from https to http, refused");
    left_host = left_host || after->Origin() != home->Origin();
    url = std::move(*target);
  }
  return Failed(HttpEnd::kTls, Error(Code::kFailedPrecondition, StrCat(Origin(), ": too many redirects")));
}

// The login for this host: that of the CRI call if it is meant for it, else from docker's configuration. Looked up
// once.
Result<std::optional<Login>> HostClient::FindLogin(const Ctx& ctx) {
  if (std::optional<std::optional<Login>> known = *login_.Lock()) return *known;
  std::string host = CanonicalHost(config_.host);
  std::string domain = CanonicalHost(repository_.reference.domain());
  std::optional<Login> login;
  bool meant = repository_.login_host == host || (config_.own && repository_.login_host == domain);
  if (repository_.login && meant) {
    login = repository_.login;
  } else {
    // No lock is held meanwhile: a helper is another program. Two threads may both ask, and get the same.
    std::string key = config_.own ? domain : host;
    login = TRY(repository_.store.Find(ctx, key, repository_.reference.path()));
  }
  if (login) repository_.secrets.Add(*login);
  *login_.Lock() = login;
  return login;
}

Result<std::string> HostClient::FetchToken(const Ctx& ctx, const Challenge& challenge,
                                           const std::optional<Login>& login) {
  UrlParts registry = TRY(ParseUrl(Origin()));
  auto realm_param = challenge.params.find("realm");
  std::string_view realm_text = realm_param == challenge.params.end() ? "" : std::string_view(realm_param->second);
  UrlParts realm = TRY(CheckRealm(registry, realm_text, login.has_value()));
  std::string scope = StrCat("repository:", repository_.reference.path(), ":pull");
  HttpRequest request = TokenRequest(realm, challenge, scope, login);
  bool own = realm.Origin() == registry.Origin();
  HttpRequest prepared = Prepare(request.url, {.method = request.method, .headers = request.headers}, "", own);
  prepared.body = std::move(request.body);
  // hosts.toml's own Authorization must not stand beside the login's.
  if (login)
    std::erase_if(prepared.headers,
                  [&](const std::string& h) { return IsAuthorization(h) && !Contains(request.headers, h); });
  std::string answer;
  HttpHandler handler;
  handler.on_body = [&](std::string_view bytes) -> Result<> {
    if (answer.size() + bytes.size() > kTokenAnswerMax) return Error(Code::kUnauthenticated, "a token without end");
    answer += bytes;
    return {};
  };
  HttpResult result = repository_.pool.Do(ctx, prepared, handler);
  std::string context = StrCat("token server ", realm.Origin());
  if (result.error && result.end == HttpEnd::kTls) result.error = std::move(*result.error).As(Code::kUnauthenticated);
  if (result.error) return std::move(*result.error).Context(context);
  int status = result.head.status;
  if (status == 429 || status >= 500) return Error(Code::kUnavailable, StrCat(context, ": status ", status));
  if (!result.head.Success()) {
    Code code = status == 403 ? Code::kPermissionDenied : Code::kUnauthenticated;
    return Error(code, StrCat(context, ": status ", status, login ? ", the credentials are not accepted" : ""));
  }
  std::string token = TRY(ParseToken(answer), context);
  repository_.secrets.Add(token);
  return StrCat("Authorization: Bearer ", token);
}

// The header that answers the challenges of a 401.
Result<std::string> HostClient::NewHeader(const Ctx& ctx, const HttpHead& head) {
  std::vector<Challenge> challenges;
  auto [begin, end] = head.headers.equal_range("www-authenticate");
  for (auto it = begin; it != end; ++it) {
    for (Challenge& challenge : ParseChallenges(it->second)) challenges.push_back(std::move(challenge));
  }
  auto offered = [&](std::string_view scheme) {
    return std::find_if(challenges.begin(), challenges.end(), [&](const Challenge& c) { return c.scheme == scheme; });
  };
  std::optional<Login> login = TRY(FindLogin(ctx));
  if (login && !login->registry_token.empty()) return StrCat("Authorization: Bearer ", login->registry_token);
  if (auto bearer = offered("bearer"); bearer != challenges.end()) return FetchToken(ctx, *bearer, login);
  bool password = login && !login->username.empty();
  if (offered("basic") != challenges.end() && password) return BasicHeader(*login);
  std::string why = offered("basic") == challenges.end() ? "asks for a kind of authorization that is not known here"
                                                         : "asks for a user name and password, and none is configured";
  return Error(Code::kUnauthenticated, StrCat(Origin(), " ", why));
}

// A new header after a 401, unless another thread has just got one.
Result<std::string> HostClient::Authorize(const Ctx& ctx, const HttpHead& head, uint64_t seen_generation) {
  if (auto auth = auth_.Lock(); auth->generation != seen_generation) return auth->header;
  std::string header = TRY(NewHeader(ctx, head));
  auto auth = auth_.Lock();
  auth->header = header;
  ++auth->generation;
  return header;
}

Attempt HostClient::Judge(const HostRequest& request, HttpResult result, bool left_host) const {
  Attempt out;
  out.head = std::move(result.head);
  out.handler_failed = result.end == HttpEnd::kHandler;
  std::string what = StrCat(request.method, " ", WithoutQuery(Url(request)));
  auto end = [&](Verdict verdict, Code code, std::string_view why) {
    out.verdict = verdict;
    out.error = repository_.secrets.Scrub(Error(code, StrCat(what, ": ", why)));
    return std::move(out);
  };
  if (result.error) {
    out.unreachable = result.end == HttpEnd::kUnreachable || result.end == HttpEnd::kTls;
    Verdict verdict = result.end == HttpEnd::kContext                                  ? Verdict::kFinal
                      : result.end == HttpEnd::kTls || result.end == HttpEnd::kHandler ? Verdict::kNextHost
                                                                                       : Verdict::kRetry;
    if (result.end == HttpEnd::kHandler) {  // as it is: it may be the sink's
      out.verdict = verdict;
      out.error = std::move(result.error);
      return out;
    }
    return end(verdict, result.error->code(), result.error->message());
  }
  int status = out.head.status;
  if (out.head.Success()) return out;
  std::string said = left_host ? "" : ApiErrors(result.body);
  std::string why =
      StrCat("status ", status, said.empty() ? "" : ": ", said, left_host ? " from a redirect's target" : "");
  if (status == 404) return end(Verdict::kNextHost, Code::kNotFound, StrCat("not found", said.empty() ? "" : ": ", said, left_host ? ", says a redirect's target" : ""));
  if (status == 401) {
    return end(Verdict::kNextHost, Code::kUnauthenticated,
               why + ", the repository does not exist or may require authorization");
  }
  if (status == 403) return end(Verdict::kNextHost, Code::kPermissionDenied, why);
  if (status == 429) return end(Verdict::kRetry, Code::kUnavailable, why + ", too many requests");
  if (status == 408 || status >= 500) return end(Verdict::kRetry, Code::kUnavailable, why);
  return end(Verdict::kNextHost, Code::kFailedPrecondition, why);
}

Attempt HostClient::Do(const Ctx& ctx, const HostRequest& request) {
  Auth auth = *auth_.Lock();
  bool left_host = false;
  HttpResult result = Follow(ctx, request, auth.header, left_host);
  if (config_.guess_tls && !*use_tls_.Lock() && result.end == HttpEnd::kAnswered && result.head.status == 400) {
    *use_tls_.Lock() = true;  // Go's servers answer 400 to plain http on a TLS port
    result = Follow(ctx, request, auth.header, left_host);
  }
  // Only the host itself may ask for authorization, not whoever it redirected to (CVE-2020-15157).
  if (result.end == HttpEnd::kAnswered && result.head.status == 401 && !left_host) {
    Result<std::string> header = Authorize(ctx, result.head, auth.generation);
    if (!header) {
      bool ended = !ctx.Check();
      Attempt out;
      out.verdict = ended                                         ? Verdict::kFinal
                    : header.error().code() == Code::kUnavailable ? Verdict::kRetry
                                                                  : Verdict::kNextHost;
      Code code = header.error().code();
      if (!ended && out.verdict == Verdict::kNextHost && code != Code::kPermissionDenied) code = Code::kUnauthenticated;
      out.error = repository_.secrets.Scrub(std::move(header).error().As(code));
      return out;
    }
    result = Follow(ctx, request, *header, left_host);
  }
  return Judge(request, std::move(result), left_host);
}

}  // namespace crisp::image
