#include "image/trust_policy.h"

#include <algorithm>
#include <optional>

#include "base/json.h"
#include "base/strings.h"
#include "image/registry_credentials.h"

namespace crisp::image {

namespace {

using Kind = SignedIdentity::Kind;

constexpr size_t kPolicyBytesMax = 1u << 20;
constexpr size_t kKeysMax = 64;
constexpr size_t kKeyBytesMax = 256u << 10;

// Where in the document we are, for messages: "/etc/policy.json: transports.docker."x"[0]".
class At {
 public:
  explicit At(std::string_view path) : text_(path) {}
  At Member(std::string_view name) const { return At(StrCat(text_, is_root_ ? ": " : ".", name), false); }
  At Item(size_t i) const { return At(StrCat(text_, "[", i, "]"), false); }
  Error Wrong(std::string_view what) const { return Error(Code::kInvalidArgument, StrCat(text_, ": ", what)); }

 private:
  At(std::string text, bool is_root) : text_(std::move(text)), is_root_(is_root) {}
  std::string text_;
  bool is_root_ = true;
};

Result<> OnlyMembers(const Json& object, const At& at, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) return at.Wrong("an object is wanted");
  for (const auto& [name, value] : object.items()) {
    if (std::ranges::find(known, name) == known.end()) return at.Wrong(StrCat("unknown key ", Quote(name)));
  }
  return {};
}

// A text member; nothing when it is absent.
Result<std::optional<std::string>> Text(const Json& object, const At& at, const char* name) {
  auto found = object.find(name);
  if (found == object.end()) return std::optional<std::string>();
  if (!found->is_string()) return at.Member(name).Wrong("a text is wanted");
  std::string text = found->get<std::string>();
  if (text.empty() || text.find('\0') != std::string::npos) return at.Member(name).Wrong("an empty text, or NUL in it");
  return std::optional<std::string>(std::move(text));
}

Result<std::string> NeededText(const Json& object, const At& at, const char* name) {
  std::optional<std::string> text = TRY(Text(object, at, name));
  if (!text) return at.Wrong(StrCat("key ", Quote(name), " is missing"));
  return *std::move(text);
}

// A list of texts; nothing when it is absent.
Result<std::vector<std::string>> Texts(const Json& object, const At& at, const char* name) {
  std::vector<std::string> out;
  auto found = object.find(name);
  if (found == object.end()) return out;
  const At here = at.Member(name);
  if (!found->is_array() || found->empty() || found->size() > kKeysMax) {
    return here.Wrong(StrCat("a list of 1 to ", kKeysMax, " texts is wanted"));
  }
  for (size_t i = 0; i < found->size(); ++i) {
    const Json& item = (*found)[i];
    if (!item.is_string() || item.get_ref<const std::string&>().empty()) return here.Item(i).Wrong("a text is wanted");
    out.push_back(item.get<std::string>());
  }
  return out;
}

// What names a signed image: tag or digest behind a repository, or neither. Unlike an image to pull, a name without tag
// stands for no tag here, not for "latest".
struct SignedName {
  oci::Reference reference;
  bool is_name_only = false;
};
std::optional<SignedName> ParseSignedName(std::string_view text) {
  Result<oci::Reference> reference = oci::Reference::Parse(text);
  if (!reference) return std::nullopt;
  const size_t slash = text.rfind('/');
  const std::string_view last = slash == std::string_view::npos ? text : text.substr(slash + 1);
  return SignedName{*std::move(reference),
                    text.find('@') == std::string_view::npos && last.find(':') == std::string_view::npos};
}

// "host[:port]" or "host[:port]/namespaces", as references have them behind their normalisation.
bool IsPrefix(const std::string& text) {
  Result<oci::Reference> whole = oci::Reference::Parse(text.find('/') == std::string::npos ? text + "/x" : text);
  if (!whole) return false;
  return text.find('/') == std::string::npos ? whole->domain() == text : whole->Name() == text;
}

Result<SignedIdentity> ParseIdentity(const Json& object, const At& at) {
  if (!object.is_object()) return at.Wrong("an object is wanted");
  const std::string type = TRY(NeededText(object, at, "type"));
  SignedIdentity out;
  if (type == "matchExact" || type == "matchRepoDigestOrExact" || type == "matchRepository") {
    TRY(OnlyMembers(object, at, {"type"}));
    out.kind = type == "matchExact"
                   ? Kind::kMatchExact
                   : (type == "matchRepository" ? Kind::kMatchRepository : Kind::kMatchRepoDigestOrExact);
  } else if (type == "exactReference") {
    TRY(OnlyMembers(object, at, {"type", "dockerReference"}));
    const std::string text = TRY(NeededText(object, at, "dockerReference"));
    std::optional<SignedName> name = ParseSignedName(text);
    if (!name || name->is_name_only) return at.Member("dockerReference").Wrong("a name with tag or digest is wanted");
    out = {.kind = Kind::kExactReference, .reference = name->reference.str()};
  } else if (type == "exactRepository") {
    TRY(OnlyMembers(object, at, {"type", "dockerRepository"}));
    const std::string text = TRY(NeededText(object, at, "dockerRepository"));
    std::optional<SignedName> name = ParseSignedName(text);
    if (!name || !name->is_name_only)
      return at.Member("dockerRepository").Wrong("a name without tag and digest is wanted");
    out = {.kind = Kind::kExactRepository, .reference = name->reference.Name()};
  } else if (type == "remapIdentity") {
    TRY(OnlyMembers(object, at, {"type", "prefix", "signedPrefix"}));
    out.kind = Kind::kRemapIdentity;
    out.prefix = TRY(NeededText(object, at, "prefix"));
    out.signed_prefix = TRY(NeededText(object, at, "signedPrefix"));
    if (!IsPrefix(out.prefix)) return at.Member("prefix").Wrong("neither a host nor a full repository name");
    if (!IsPrefix(out.signed_prefix))
      return at.Member("signedPrefix").Wrong("neither a host nor a full repository name");
  } else {
    return at.Member("type").Wrong(StrCat("unknown kind of identity ", Quote(type)));
  }
  return out;
}

Result<> AddKeyData(Requirement& out, const std::string& text, const At& at) {
  Result<std::string> bytes = Base64Decode(text, 2 * kKeyBytesMax);
  if (!bytes || bytes->empty() || bytes->size() > kKeyBytesMax) return at.Wrong("no key in base64");
  out.key_data.push_back(*std::move(bytes));
  return {};
}

// The keys of `object`, which has exactly one of keyPath, keyPaths, keyData, keyDatas.
Result<> ParseKeys(const Json& object, const At& at, Requirement& out) {
  int sources = 0;
  for (const char* name : {"keyPath", "keyPaths", "keyData", "keyDatas"}) sources += object.contains(name) ? 1 : 0;
  if (sources != 1) return at.Wrong("exactly one of keyPath, keyPaths, keyData and keyDatas is wanted");
  if (std::optional<std::string> path = TRY(Text(object, at, "keyPath"))) out.key_paths.push_back(*std::move(path));
  for (std::string& path : TRY(Texts(object, at, "keyPaths"))) out.key_paths.push_back(std::move(path));
  for (const std::string& path : out.key_paths) {
    if (path[0] != '/' || path.find('\0') != std::string::npos)
      return at.Wrong(StrCat("key ", Quote(path), " is no absolute path"));
  }
  if (std::optional<std::string> data = TRY(Text(object, at, "keyData")))
    TRY(AddKeyData(out, *data, at.Member("keyData")));
  const std::vector<std::string> datas = TRY(Texts(object, at, "keyDatas"));
  for (const std::string& data : datas) TRY(AddKeyData(out, data, at.Member("keyDatas")));
  return {};
}

Result<Requirement> ParseRequirement(const Json& object, const At& at) {
  if (!object.is_object()) return at.Wrong("an object is wanted");
  const std::string type = TRY(NeededText(object, at, "type"));
  Requirement out;
  if (type == "insecureAcceptAnything" || type == "reject") {
    TRY(OnlyMembers(object, at, {"type"}));
    out.kind = type == "reject" ? Requirement::Kind::kReject : Requirement::Kind::kAcceptAnything;
    return out;
  }
  if (type == "signedBy") {
    TRY(OnlyMembers(object, at, {"type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"}));
    const std::string key_type = TRY(NeededText(object, at, "keyType"));
    if (key_type != "GPGKeys") return at.Member("keyType").Wrong(StrCat("not supported: ", Quote(key_type)));
    out.kind = Requirement::Kind::kSignedBy;
  } else if (type == "sigstoreSigned") {
    for (const auto& [name, value] : object.items()) {
      if (name == "fulcio" || name == "pki" || name.starts_with("rekor")) {
        return at.Wrong(StrCat("key ", Quote(name), " is not supported: only signatures by keys are"));
      }
    }
    TRY(OnlyMembers(object, at, {"type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"}));
    out.kind = Requirement::Kind::kSigstoreSigned;
  } else {
    return at.Member("type").Wrong(StrCat("unknown kind of requirement ", Quote(type)));
  }
  TRY(ParseKeys(object, at, out));
  auto identity = object.find("signedIdentity");
  if (identity != object.end()) out.identity = TRY(ParseIdentity(*identity, at.Member("signedIdentity")));
  return out;
}

Result<Requirements> ParseRequirements(const Json& list, const At& at) {
  if (!list.is_array() || list.empty()) return at.Wrong("a list of requirements is wanted, at least one");
  Requirements out;
  for (size_t i = 0; i < list.size(); ++i) out.push_back(TRY(ParseRequirement(list[i], at.Item(i))));
  return out;
}

// "registry.example.com:5000" → "*.example.com", "*.com".
void AddWildcards(std::string_view host, std::vector<std::string>& out) {
  host = host.substr(0, host.find(':'));
  for (size_t dot = host.find('.'); dot != std::string_view::npos; dot = host.find('.')) {
    host.remove_prefix(dot + 1);
    out.push_back(StrCat("*.", host));
  }
}

bool IsUnder(const std::string& name, const std::string& prefix) {
  return name == prefix || (name.starts_with(prefix) && name[prefix.size()] == '/');
}

// `name` as it is pulled: with its digest only, if it has one.
std::string PulledName(const oci::Reference& pulled) {
  return pulled.has_digest() ? pulled.RepoDigest(pulled.digest()) : pulled.RepoTag();
}

bool RepoDigestOrExact(const std::string& pulled_repository, const oci::Reference& pulled, const SignedName& name) {
  if (name.is_name_only) return false;
  if (pulled.has_digest()) return name.reference.Name() == pulled_repository;
  return name.reference.str() == StrCat(pulled_repository, ":", pulled.tag());
}

}  // namespace

Result<TrustPolicy> ParseTrustPolicy(std::string_view text, std::string_view path) {
  const At at(path);
  const Json document =
      TRY(ParseJson(text, path, {.bytes_max = kPolicyBytesMax, .depth_max = 16, .unique_members = true}));
  TRY(OnlyMembers(document, at, {"default", "transports"}));
  TrustPolicy out;
  auto fallback = document.find("default");
  if (fallback == document.end()) return at.Wrong("key \"default\" is missing");
  out.fallback = TRY(ParseRequirements(*fallback, at.Member("default")));
  auto transports = document.find("transports");
  if (transports == document.end()) return out;
  if (!transports->is_object()) return at.Member("transports").Wrong("an object is wanted");
  for (const auto& [transport, scopes] : transports->items()) {
    const At here = at.Member(StrCat("transports.", Quote(transport)));
    if (!scopes.is_object()) return here.Wrong("an object is wanted");
    for (const auto& [scope, list] : scopes.items()) {
      // Other transports' requirements are checked as well: who writes them relies on them.
      Requirements requirements = TRY(ParseRequirements(list, here.Member(Quote(scope))));
      if (transport == "docker") out.docker[scope] = std::move(requirements);
    }
  }
  return out;
}

std::vector<std::string> ScopesOf(const oci::Reference& reference) {
  std::vector<std::string> out = {PulledName(reference)};
  std::string name = reference.Name();
  while (true) {
    out.push_back(name);
    const size_t slash = name.rfind('/');
    if (slash == std::string::npos) break;
    name.resize(slash);
  }
  AddWildcards(name, out);
  return out;
}

Scope FindScope(const TrustPolicy& policy, const oci::Reference& reference) {
  for (const std::string& name : ScopesOf(reference)) {
    if (auto found = policy.docker.find(name); found != policy.docker.end()) return {name, found->second};
  }
  if (auto found = policy.docker.find(""); found != policy.docker.end()) return {"", found->second};
  return {"default", policy.fallback};
}

bool IdentityMatches(const SignedIdentity& identity, const oci::Reference& pulled, std::string_view signed_reference) {
  const std::optional<SignedName> name = ParseSignedName(signed_reference);
  if (!name) return false;
  switch (identity.kind) {
    case Kind::kMatchExact: return !name->is_name_only && name->reference.str() == PulledName(pulled);
    case Kind::kMatchRepoDigestOrExact: return RepoDigestOrExact(pulled.Name(), pulled, *name);
    case Kind::kMatchRepository: return name->reference.Name() == pulled.Name();
    case Kind::kExactReference: return !name->is_name_only && name->reference.str() == identity.reference;
    case Kind::kExactRepository: return name->reference.Name() == identity.reference;
    case Kind::kRemapIdentity: {
      std::string repository = pulled.Name();
      if (IsUnder(repository, identity.prefix)) repository.replace(0, identity.prefix.size(), identity.signed_prefix);
      return RepoDigestOrExact(repository, pulled, *name);
    }
  }
  return false;
}

}  // namespace crisp::image
