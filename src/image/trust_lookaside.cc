#include "image/trust_lookaside.h"

#include <algorithm>

#include "base/json.h"
#include "base/strings.h"
#include "codec/yaml.h"
#include "image/directory.h"
#include "image/trust_payload.h"
#include "image/trust_policy.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

constexpr const char* kDefaultBase = "file:///var/lib/containers/sigstore";
constexpr std::string_view kFileScheme = "file://";
constexpr int kSignaturesMax = 128;  // of one image
constexpr int kRedirectsMax = 5;

Error Unavailable(std::string_view what) {
  return Error(Code::kUnavailable, StrCat("RegistryUnavailable: signatures: ", what));
}

bool IsBase(const std::string& url) {
  if (url.starts_with(kFileScheme)) return url.size() > kFileScheme.size() && url[kFileScheme.size()] == '/';
  return ParseUrl(url).has_value();
}

// The base that one table of the file names; empty: none. "sigstore" is the member's old name.
Result<std::string> BaseOf(const Json& table, const std::string& at) {
  if (table.is_null()) return std::string();
  if (!table.is_object()) return Error(Code::kInvalidArgument, at + ": a mapping is wanted");
  for (const char* name : {"lookaside", "sigstore"}) {
    std::string base = TRY(JsonGet<std::string>(table, name), at);
    if (base.empty()) continue;
    while (base.ends_with('/')) base.pop_back();
    if (!IsBase(base)) return Error(Code::kInvalidArgument, StrCat(at, ".", name, ": no file, http or https URL"));
    return base;
  }
  return std::string();
}

}  // namespace

Result<> AddRegistriesFile(LookasideConfig& config, std::string_view text, std::string_view path) {
  const Json document = TRY(codec::ParseYaml(text, path));
  if (document.is_null()) return {};
  if (!document.is_object()) return Error(Code::kInvalidArgument, StrCat(path, ": a mapping is wanted"));
  if (auto fallback = document.find("default-docker"); fallback != document.end()) {
    std::string base = TRY(BaseOf(*fallback, StrCat(path, ": default-docker")));
    if (!base.empty() && !config.fallback.empty()) {
      return Error(Code::kInvalidArgument, StrCat(path, ": default-docker is in another file, too"));
    }
    if (!base.empty()) config.fallback = std::move(base);
  }
  auto docker = document.find("docker");
  if (docker == document.end() || docker->is_null()) return {};
  if (!docker->is_object()) return Error(Code::kInvalidArgument, StrCat(path, ": docker: a mapping is wanted"));
  for (const auto& [scope, table] : docker->items()) {
    std::string base = TRY(BaseOf(table, StrCat(path, ": docker.", Quote(scope))));
    if (!config.scopes.emplace(scope, std::move(base)).second) {
      return Error(Code::kInvalidArgument, StrCat(path, ": docker.", Quote(scope), " is in another file, too"));
    }
  }
  return {};
}

Result<LookasideConfig> LoadLookaside(const std::string& dir) {
  LookasideConfig config;
  if (dir.empty() || !sys::Exists(dir)) return config;
  std::vector<std::string> names = TRY(ListDirectory(dir));
  std::ranges::sort(names);
  for (const std::string& name : names) {
    if (!name.ends_with(".yaml")) continue;
    const std::string path = StrCat(dir, "/", name);
    const std::string text = TRY(sys::ReadFile(path));
    TRY(AddRegistriesFile(config, text, path));
  }
  return config;
}

std::string LookasideBase(const LookasideConfig& config, const oci::Reference& reference) {
  for (const std::string& scope : ScopesOf(reference)) {
    if (auto found = config.scopes.find(scope); found != config.scopes.end() && !found->second.empty())
      return found->second;
  }
  return config.fallback.empty() ? kDefaultBase : config.fallback;
}

// kNotFound: there is no such signature.
Result<std::string> LookasideClient::FetchOne(const Ctx& ctx, std::string url) {
  if (url.starts_with(kFileScheme)) return sys::ReadFile(url.substr(kFileScheme.size()), kSignatureBytesMax);
  for (int redirects = 0; redirects <= kRedirectsMax; ++redirects) {
    std::string body;
    HttpHandler handler{.on_head = {}, .on_body = [&body](std::string_view bytes) -> Result<> {
                          if (bytes.size() > kSignatureBytesMax - body.size()) {
                            return Error(Code::kInvalidArgument, "a signature of more than 4 MiB");
                          }
                          body += bytes;
                          return {};
                        }};
    const HttpResult result = pool_.Do(ctx, {.url = url}, handler);
    if (result.end == HttpEnd::kContext || result.end == HttpEnd::kHandler) return *result.error;
    if (result.end != HttpEnd::kAnswered) return Unavailable(result.error->message());
    const int status = result.head.status;
    const UrlParts here = TRY(ParseUrl(url));
    if (result.head.Success()) return body;
    if (status == 404 || status == 410) return Error(Code::kNotFound, "no such signature");
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) {
      url = TRY(ResolveUrl(url, result.head.Get("location")), StrCat("redirect of ", here.Origin()));
      if (here.scheme == "https" && TRY(ParseUrl(url)).scheme != "https") {
        return Error(Code::kFailedPrecondition, StrCat("signatures: ", here.Origin(), " leads from https to http"));
      }
      continue;
    }
    if (status >= 500 || status == 408 || status == 429) return Unavailable(StrCat(here.Origin(), " answers ", status));
    return Error(Code::kFailedPrecondition, StrCat("signatures: ", here.Origin(), " answers ", status));
  }
  return Error(Code::kFailedPrecondition, "signatures: too many redirects");
}

Result<std::vector<std::string>> LookasideClient::Fetch(const Ctx& ctx, const std::string& base,
                                                        const oci::Reference& reference, const oci::Digest& manifest) {
  const std::string dir =
      StrCat(base, "/", reference.path(), "@", manifest.algorithm_name(), "=", manifest.hex(), "/signature-");
  std::vector<std::string> out;
  for (int n = 1; n <= kSignaturesMax; ++n) {
    TRY(ctx.Check());
    Result<std::string> one = FetchOne(ctx, StrCat(dir, n));
    if (!one && one.error().code() == Code::kNotFound) return out;
    out.push_back(TRY(std::move(one)));
  }
  return Error(Code::kFailedPrecondition, StrCat("more than ", kSignaturesMax, " signatures of one image"));
}

}  // namespace crisp::image
