#include "image/registry_auth.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::image {

namespace {

constexpr size_t kHeaderMax = 16 << 10;
constexpr size_t kChallengesMax = 16;
constexpr size_t kParamsMax = 32;
constexpr size_t kTokenMax = 64 << 10;

bool IsTokenChar(char c) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kMarks.find(c) != std::string_view::npos;
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// Reads a header from left to right.
struct Reader {
  std::string_view rest;
  void Skip(std::string_view any) { rest.remove_prefix(std::min(rest.find_first_not_of(any), rest.size())); }
  std::string_view Token() {
    size_t end = 0;
    while (end < rest.size() && IsTokenChar(rest[end])) ++end;
    std::string_view token = rest.substr(0, end);
    rest.remove_prefix(end);
    return token;
  }
  // A quoted string or a token; nothing when a quote never ends.
  std::optional<std::string> Value() {
    if (!rest.starts_with('"')) return std::string(Token());
    std::string out;
    for (size_t i = 1; i < rest.size(); ++i) {
      if (rest[i] == '"') {
        rest.remove_prefix(i + 1);
        return out;
      }
      if (rest[i] == '\\' && i + 1 < rest.size()) ++i;
      out += rest[i];
    }
    return std::nullopt;
  }
  // A token follows that has '=' after it: one more parameter, not the next scheme.
  bool AtParam() const {
    Reader ahead = *this;
    if (ahead.Token().empty()) return false;
    ahead.Skip(" \t");
    return ahead.rest.starts_with('=') && !ahead.rest.starts_with("==");
  }
};

// The parameters after a scheme, up to the next scheme. False: the rest of the header cannot be understood.
bool ReadParams(Reader& in, Challenge& challenge) {
  bool after_comma = false;
  while (in.AtParam() && challenge.params.size() < kParamsMax) {
    std::string name = Lower(in.Token());
    in.Skip(" \t");
    in.rest.remove_prefix(1);
    in.Skip(" \t");
    std::optional<std::string> value = in.Value();
    if (!value) return false;
    challenge.params.emplace(std::move(name), std::move(*value));  // the first of a name counts
    in.Skip(" \t");
    after_comma = in.rest.starts_with(',');
    if (!after_comma) break;
    in.Skip(" \t,");
  }
  // Else a token68 ("Negotiate abc==") or junk.
  if (!after_comma) in.rest.remove_prefix(std::min(in.rest.find(','), in.rest.size()));
  return true;
}

bool Printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string Param(const Challenge& challenge, const std::string& name) {
  auto found = challenge.params.find(name);
  return found == challenge.params.end() ? std::string() : found->second;
}

}  // namespace

std::vector<Challenge> ParseChallenges(std::string_view header) {
  std::vector<Challenge> out;
  if (header.size() > kHeaderMax) return out;
  Reader in{header};
  while (out.size() < kChallengesMax) {
    in.Skip(" \t,");
    Challenge challenge{.scheme = Lower(in.Token())};
    if (challenge.scheme.empty()) break;
    in.Skip(" \t");
    if (!ReadParams(in, challenge)) break;
    out.push_back(std::move(challenge));
  }
  return out;
}

Result<UrlParts> CheckRealm(const UrlParts& registry, std::string_view realm, bool with_login) {
  Result<UrlParts> url = ParseUrl(realm);
  if (!url) return Error(Code::kUnauthenticated, StrCat(registry.Origin(), " names a token server that is no URL"));
  if (url->scheme == "http") {
    if (registry.scheme == "https") {
      return Error(Code::kUnauthenticated, StrCat(registry.Origin(), " names the token server ", url->Origin(),
                                                  ", which is not protected by TLS"));
    }
    bool same_machine = url->host == registry.host || (IsLoopback(url->host) && IsLoopback(registry.host));
    if (with_login && !same_machine) {
      return Error(Code::kUnauthenticated, StrCat(registry.Origin(), " names the token server ", url->Origin(),
                                                  ": credentials do not go to another host without TLS"));
    }
  }
  return url;
}

HttpRequest TokenRequest(const UrlParts& realm, const Challenge& challenge, const std::string& scope_wanted,
                         const std::optional<Login>& login) {
  std::string service = Param(challenge, "service");
  std::string scope = Param(challenge, "scope");
  if (scope.empty()) scope = scope_wanted;
  std::string query;
  auto add = [&](std::string_view name, std::string_view value) {
    if (!value.empty()) query += StrCat(query.empty() ? "" : "&", name, "=", PercentEncode(value));
  };
  HttpRequest request;
  request.url = UrlText(realm);
  if (login && !login->identity_token.empty()) {
    request.method = "POST";
    add("grant_type", "refresh_token");
    add("service", service);
    add("client_id", "crisp");
    add("scope", scope);
    add("refresh_token", login->identity_token);
    request.headers.push_back("Content-Type: application/x-www-form-urlencoded");
    request.body = std::move(query);
    return request;
  }
  add("service", service);
  for (std::string_view one : Split(scope, ' ')) add("scope", one);
  if (login && !login->username.empty()) {
    add("account", login->username);
    request.headers.push_back(BasicHeader(*login));
  }
  if (!query.empty()) request.url += StrCat(realm.path.find('?') == std::string::npos ? "?" : "&", query);
  return request;
}

Result<std::string> ParseToken(std::string_view body) {
  Error none(Code::kUnauthenticated, "the token server's answer holds no usable token");
  Result<Json> document = ParseJson(body, "token", {.bytes_max = 1 << 20, .depth_max = 16});
  if (!document) return none;
  for (const char* key : {"token", "access_token"}) {
    Result<std::string> token = JsonGet<std::string>(*document, key);
    if (!token) return none;
    if (token->empty()) continue;
    if (token->size() > kTokenMax || !Printable(*token)) return none;
    return token;
  }
  return none;
}

std::string BasicHeader(const Login& login) {
  return StrCat("Authorization: Basic ", Base64Encode(StrCat(login.username, ":", login.password)));
}

std::string ApiErrors(std::string_view body) {
  constexpr size_t kErrorsMax = 3;
  std::string out;
  Result<Json> document = ParseJson(body, "error", {.bytes_max = 64 << 10, .depth_max = 16});
  if (!document || !document->is_object()) return out;
  auto errors = document->find("errors");
  if (errors == document->end() || !errors->is_array()) return out;
  size_t count = 0;
  for (const Json& error : *errors) {
    Result<std::string> code = JsonGet<std::string>(error, "code");
    Result<std::string> message = JsonGet<std::string>(error, "message");
    if (!code || !message || ++count > kErrorsMax) break;
    bool plain = code->find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == std::string::npos && code->size() <= 64;
    out += StrCat(out.empty() ? "" : ", ", plain ? *code : Quote(*code, 64), " ", Quote(*message, 200));
  }
  return out;
}

void Secrets::Add(std::string_view secret) {
  if (secret.size() < 4) return;
  auto secrets = secrets_.Lock();
  if (std::find(secrets->begin(), secrets->end(), secret) != secrets->end()) return;
  secrets->emplace_back(secret);
  std::sort(secrets->begin(), secrets->end(),
            [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
}

void Secrets::Add(const Login& login) {
  for (const std::string& text : {login.password, login.identity_token, login.registry_token}) {
    Add(text);
    Add(PercentEncode(text));
    Add(Base64Encode(text));
  }
  if (!login.username.empty()) Add(Base64Encode(StrCat(login.username, ":", login.password)));
}

std::string Secrets::Scrub(std::string text) const {
  auto secrets = secrets_.Lock();
  for (const std::string& secret : *secrets) {
    for (size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 1)) {
      text.replace(at, secret.size(), "*");
    }
  }
  return text;
}

Error Secrets::Scrub(Error error) const {
  std::string clean = Scrub(error.message());
  if (clean == error.message()) return error;
  return Error(error.code(), std::move(clean));
}

}  // namespace crisp::image
