#include "oci/reference.h"

#include "base/strings.h"

namespace crisp::oci {

namespace {

constexpr std::string_view kDefaultDomain = "docker.io";
constexpr std::string_view kLegacyDefaultDomain = "index.docker.io";
constexpr std::string_view kOfficialPrefix = "library/";
constexpr size_t kNameMax = 255;
constexpr size_t kTagMax = 128;
// The longest text that can be a reference: name, tag, sha512 digest and the separators.
constexpr size_t kTextMax = kNameMax + 1 + kTagMax + 1 + 7 + 128;

bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlnum(char c) { return IsLower(c) || IsUpper(c) || IsDigit(c); }

Error Bad(std::string_view text, std::string_view why) {
  return Error(Code::kInvalidArgument, StrCat("image reference ", Quote(text, kTextMax), ": ", why));
}

// [a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?
bool IsDomainLabel(std::string_view label) {
  if (label.empty() || !IsAlnum(label.front()) || !IsAlnum(label.back())) return false;
  for (char c : label) {
    if (!IsAlnum(c) && c != '-') return false;
  }
  return true;
}

bool IsPort(std::string_view text) {
  std::optional<uint32_t> port = ParseInt<uint32_t>(text);
  return port && *port > 0 && *port <= 65535 && text.size() <= 5;
}

bool IsDomain(std::string_view domain) {
  std::string_view host = domain;
  if (!domain.empty() && domain.front() == '[') {  // an IPv6 address; the grammar asks for no more than this
    size_t end = domain.find(']');
    if (end == std::string_view::npos || end < 2) return false;
    if (domain.substr(1, end - 1).find_first_not_of("0123456789abcdefABCDEF:") != std::string_view::npos) return false;
    std::string_view rest = domain.substr(end + 1);
    return rest.empty() || (rest.front() == ':' && IsPort(rest.substr(1)));
  }
  if (size_t colon = domain.find(':'); colon != std::string_view::npos) {
    host = domain.substr(0, colon);
    if (!IsPort(domain.substr(colon + 1))) return false;
  }
  for (std::string_view label : Split(host, '.')) {
    if (!IsDomainLabel(label)) return false;
  }
  return true;
}

// [a-z0-9]+(([_.]|__|-+)[a-z0-9]+)*
bool IsPathComponent(std::string_view text) {
  auto plain = [](char c) { return IsLower(c) || IsDigit(c); };
  if (text.empty() || !plain(text.front()) || !plain(text.back())) return false;
  for (size_t i = 0; i < text.size();) {
    if (plain(text[i])) {
      ++i;
      continue;
    }
    size_t end = i;
    while (end < text.size() && !plain(text[end])) ++end;
    std::string_view separator = text.substr(i, end - i);
    bool dashes = separator.find_first_not_of('-') == std::string_view::npos;
    if (!dashes && separator != "." && separator != "_" && separator != "__") return false;
    i = end;
  }
  return true;
}

bool IsPath(std::string_view path) {
  for (std::string_view component : Split(path, '/')) {
    if (!IsPathComponent(component)) return false;
  }
  return true;
}

// [a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}
bool IsTag(std::string_view tag) {
  auto word = [](char c) { return IsAlnum(c) || c == '_'; };
  if (tag.empty() || tag.size() > kTagMax || !word(tag.front())) return false;
  for (char c : tag) {
    if (!word(c) && c != '.' && c != '-') return false;
  }
  return true;
}

bool HasUpper(std::string_view text) {
  for (char c : text) {
    if (IsUpper(c)) return true;
  }
  return false;
}

bool IsImageId(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

struct DomainAndPath {
  std::string domain;
  std::string path;
};

// Which part of "a/b/c" is the host: docker's rule, see the header.
DomainAndPath SplitDomain(std::string_view name) {
  size_t slash = name.find('/');
  std::string_view first = name.substr(0, slash);
  bool host = slash != std::string_view::npos &&
              (first.find_first_of(".:") != std::string_view::npos || first == "localhost" || HasUpper(first));
  DomainAndPath out;
  out.domain = host ? first : kDefaultDomain;
  out.path = host ? name.substr(slash + 1) : name;
  if (out.domain == kLegacyDefaultDomain) out.domain = kDefaultDomain;
  if (out.domain == kDefaultDomain && out.path.find('/') == std::string::npos) out.path.insert(0, kOfficialPrefix);
  return out;
}

}  // namespace

Result<Reference> Reference::Parse(std::string_view text) {
  if (text.empty()) return Bad(text, "empty");
  if (text.size() > kTextMax) return Bad(text, "too long");
  if (IsImageId(text)) return Bad(text, "64 hexadecimal digits are an image id, not a name");

  Reference out;
  std::string_view rest = text;
  if (size_t at = rest.find('@'); at != std::string_view::npos) {
    out.digest_ = TRY(Digest::Parse(rest.substr(at + 1)), StrCat("image reference ", Quote(text, kTextMax)));
    rest = rest.substr(0, at);
  }
  size_t slash = rest.rfind('/');
  size_t colon = rest.find(':', slash == std::string_view::npos ? 0 : slash);
  if (colon != std::string_view::npos) {
    std::string_view tag = rest.substr(colon + 1);
    if (!IsTag(tag)) return Bad(text, "the tag is not [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}");
    out.tag_ = tag;
    rest = rest.substr(0, colon);
  }
  DomainAndPath name = SplitDomain(rest);
  if (HasUpper(name.path)) return Bad(text, "the repository name must be in lower case");
  if (!IsDomain(name.domain)) return Bad(text, "no valid host");
  if (!IsPath(name.path)) return Bad(text, "no valid repository name");
  if (name.domain.size() + 1 + name.path.size() > kNameMax) return Bad(text, "the name is longer than 255 characters");
  out.domain_ = std::move(name.domain);
  out.path_ = std::move(name.path);
  if (out.tag_.empty() && out.digest_.empty()) out.tag_ = "latest";
  return out;
}

std::string Reference::Name() const { return StrCat(domain_, "/", path_); }

std::string Reference::str() const {
  std::string out = Name();
  if (!tag_.empty()) out += StrCat(":", tag_);
  if (has_digest()) out += StrCat("@", digest_.str());
  return out;
}

std::string Reference::Familiar() const {
  std::string full = str();
  if (domain_ != kDefaultDomain) return full;
  std::string_view rest = std::string_view(full).substr(kDefaultDomain.size() + 1);
  std::string_view path = path_;
  if (path.starts_with(kOfficialPrefix) && path.find('/', kOfficialPrefix.size()) == std::string_view::npos) {
    rest.remove_prefix(kOfficialPrefix.size());
  }
  // "docker.io/localhost/x" must not become "localhost/x", which is another image.
  Result<Reference> again = Parse(rest);
  return again && *again == *this ? std::string(rest) : full;
}

std::string Reference::RepoTag() const { return has_digest() ? std::string() : StrCat(Name(), ":", tag_); }

std::string Reference::RepoDigest(const Digest& of_root) const { return StrCat(Name(), "@", of_root.str()); }

Reference Reference::WithDigest(Digest digest) const {
  Reference out = *this;
  out.digest_ = std::move(digest);
  return out;
}

}  // namespace crisp::oci
