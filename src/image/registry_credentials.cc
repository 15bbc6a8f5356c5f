#include "image/registry_credentials.h"

#include <openssl/evp.h>

#include "base/json.h"
#include "base/strings.h"
#include "sys/file.h"
#include "sys/spawn.h"

namespace crisp::image {

namespace {

constexpr size_t kFileBytesMax = 4 << 20;
constexpr size_t kSecretMax = 64 << 10;
constexpr std::chrono::seconds kHelperTimeout{10};

// Anything but control characters: a secret becomes part of a header.
bool Clean(std::string_view text) {
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return text.size() <= kSecretMax;
}

bool IsHelperName(std::string_view name) {
  for (char c : name) {
    bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!alnum && c != '-' && c != '_' && c != '.') return false;
  }
  return !name.empty();
}

Result<std::optional<Login>> Checked(Login login) {
  if (!Clean(login.username) || !Clean(login.password) || !Clean(login.identity_token) ||
      !Clean(login.registry_token)) {
    return Error(Code::kInvalidArgument, "the registry credentials hold control characters");
  }
  if (login.username.empty() && login.identity_token.empty() && login.registry_token.empty()) {
    return std::optional<Login>();
  }
  return std::optional<Login>(std::move(login));
}

Result<> SplitAuth(std::string_view auth, Login& login) {
  Result<std::string> decoded = Base64Decode(Trim(auth));
  size_t colon = decoded ? decoded->find(':') : std::string::npos;
  if (colon == std::string::npos) {
    return Error(Code::kInvalidArgument, "the registry credentials' auth is not base64 of user:password");
  }
  login.username = decoded->substr(0, colon);
  login.password = decoded->substr(colon + 1);
  while (login.password.ends_with('\0')) login.password.pop_back();  // docker pads with zeros and cuts them off, too
  return {};
}

Result<std::optional<Login>> LoginFromJson(const Json& entry) {
  Login login;
  std::string auth = TRY(JsonGet<std::string>(entry, "auth"));
  login.username = TRY(JsonGet<std::string>(entry, "username"));
  login.password = TRY(JsonGet<std::string>(entry, "password"));
  login.identity_token = TRY(JsonGet<std::string>(entry, "identitytoken"));
  login.registry_token = TRY(JsonGet<std::string>(entry, "registrytoken"));
  if (!auth.empty()) TRY(SplitAuth(auth, login));
  return Checked(std::move(login));
}

std::string StripScheme(std::string_view text) {
  size_t scheme = text.find("://");
  if (scheme != std::string_view::npos) text.remove_prefix(scheme + 3);
  if (size_t at = text.substr(0, text.find('/')).rfind('@'); at != std::string_view::npos) text.remove_prefix(at + 1);
  return std::string(text);
}

// A key of auths: host, or host/prefix as podman and the kubelet write them. API roots are no prefixes.
std::string CanonicalKey(std::string_view key) {
  std::string text = StripScheme(key);
  while (text.ends_with('/')) text.pop_back();
  for (std::string_view root : {"/v1", "/v2"}) {
    if (text.ends_with(root) && text.find('/') == text.size() - root.size()) text.resize(text.size() - root.size());
  }
  size_t slash = text.find('/');
  std::string prefix = slash == std::string::npos ? "" : text.substr(slash);
  return CanonicalHost(text.substr(0, slash)) + prefix;
}

// Runs docker-credential-NAME get. The protocol: github.com/docker/docker-credential-helpers, README "Development".
Result<std::optional<Login>> AskHelper(const Ctx& ctx, const std::string& name, const std::string& host) {
  sys::Command command{.program = StrCat("docker-credential-", name), .args = {"get"}};
  std::string server = host == "docker.io" ? "https://index.docker.io/v1/" : host;
  Result<sys::RunResult> run = sys::Run(ctx, command, {.input = server, .timeout = kHelperTimeout});
  auto context = [&] { return StrCat("credential helper ", name, " for ", host); };
  if (!run) return std::move(run).error().Context(context());
  if (run->status.code != 0) {
    if (run->out.find("credentials not found") != std::string::npos) return std::optional<Login>();
    return Error(Code::kUnauthenticated, StrCat(context(), ": exit code ", run->status.code));
  }
  Result<Json> answer = ParseJson(run->out, "answer");
  if (!answer) return std::move(answer).error().As(Code::kUnauthenticated).Context(context());
  Login login;
  login.username = TRY(JsonGet<std::string>(*answer, "Username"), context());
  std::string secret = TRY(JsonGet<std::string>(*answer, "Secret"), context());
  if (login.username == "<token>") {
    login.username.clear();
    login.identity_token = std::move(secret);
  } else {
    login.password = std::move(secret);
  }
  return Checked(std::move(login));
}

}  // namespace

std::string CanonicalHost(std::string_view server_address) {
  std::string text = StripScheme(server_address);
  text.resize(std::min(text.find('/'), text.size()));
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (text.ends_with(":443")) text.resize(text.size() - 4);
  if (text == "index.docker.io" || text == "registry-1.docker.io") return "docker.io";
  return text;
}

Result<std::optional<Login>> LoginFrom(const Credentials& credentials) {
  Login login{.username = credentials.username,
              .password = credentials.password,
              .identity_token = credentials.identity_token,
              .registry_token = credentials.registry_token};
  if (login.username.empty() && !credentials.auth.empty()) TRY(SplitAuth(credentials.auth, login));
  return Checked(std::move(login));
}

Result<CredentialStore> CredentialStore::Load(const std::string& path) {
  if (path.empty() || !sys::Exists(path)) return CredentialStore();
  std::string text = TRY(sys::ReadFile(path, kFileBytesMax));
  return Parse(text, path);
}

Result<CredentialStore> CredentialStore::Parse(std::string_view text, const std::string& path) {
  Json document = TRY(ParseJson(text, path));
  if (!document.is_object()) return Error(Code::kInvalidArgument, StrCat(path, ": no JSON object"));
  CredentialStore out;
  out.default_helper_ = TRY(JsonGet<std::string>(document, "credsStore"), path);
  auto helpers = TRY((JsonGet<std::map<std::string, std::string>>(document, "credHelpers")), path);
  for (const auto& [host, name] : helpers) {
    out.helpers_[CanonicalHost(host)] = name;
  }
  for (const auto& [host, name] : out.helpers_) {
    if (!IsHelperName(name)) return Error(Code::kInvalidArgument, StrCat(path, ": no helper's name: ", Quote(name)));
  }
  if (!out.default_helper_.empty() && !IsHelperName(out.default_helper_)) {
    return Error(Code::kInvalidArgument, StrCat(path, ": no helper's name: ", Quote(out.default_helper_)));
  }
  auto auths = document.find("auths");
  if (auths == document.end() || auths->is_null()) return out;
  if (!auths->is_object()) return Error(Code::kInvalidArgument, StrCat(path, ": auths is not an object"));
  for (const auto& [key, entry] : auths->items()) {
    // Keys are not quoted: people have been seen to write user:password@host there.
    std::optional<Login> login = TRY(LoginFromJson(entry), StrCat(path, ": auths"));
    if (login) out.auths_[CanonicalKey(key)] = std::move(*login);
  }
  return out;
}

Result<std::optional<Login>> CredentialStore::Find(const Ctx& ctx, const std::string& host,
                                                   const std::string& path) const {
  std::string canonical = CanonicalHost(host);
  auto helper = helpers_.find(canonical);
  std::string name = helper != helpers_.end() ? helper->second : default_helper_;
  if (!name.empty()) {
    std::optional<Login> login = TRY(AskHelper(ctx, name, canonical));
    if (login) return login;
  }
  std::string key = StrCat(canonical, "/", path);
  while (true) {
    auto found = auths_.find(key);
    if (found != auths_.end()) return std::optional<Login>(found->second);
    size_t slash = key.rfind('/');
    if (slash == std::string::npos) return std::optional<Login>();
    key.resize(slash);
  }
}

Result<std::string> Base64Decode(std::string_view text, size_t text_max) {
  Error bad(Code::kInvalidArgument, "not base64");
  if (text.size() > text_max) return bad;
  while (text.ends_with('=')) text.remove_suffix(1);
  if (text.find_first_of("= \t\r\n") != std::string_view::npos) return bad;
  std::string padded(text);
  size_t padding = (4 - padded.size() % 4) % 4;
  if (padding == 3) return bad;
  padded.append(padding, '=');
  std::string out(padded.size() / 4 * 3, '\0');
  int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                             reinterpret_cast<const unsigned char*>(padded.data()), static_cast<int>(padded.size()));
  if (size < 0) return bad;
  out.resize(static_cast<size_t>(size) - padding);
  return out;
}

std::string Base64Encode(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                             reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

}  // namespace crisp::image
