#include "cri/validate.h"

#include <algorithm>

#include "base/strings.h"

namespace crisp::cri {
namespace {

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool HasControl(std::string_view text) { return std::ranges::any_of(text, IsControl); }

bool HasDotDot(std::string_view path) {
  std::vector<std::string_view> parts = Split(path, '/');
  return std::ranges::find(parts, "..") != parts.end();
}

}  // namespace

Error Invalid(std::string_view field, std::string_view problem) {
  return Error(Code::kInvalidArgument, StrCat(field, ": ", problem));
}

Result<> CheckOptionalName(std::string_view field, std::string_view value) {
  if (value.size() > kNameBytesMax) return Invalid(field, StrCat("longer than ", kNameBytesMax, " bytes"));
  if (HasControl(value)) return Invalid(field, StrCat("control character in ", Quote(value)));
  if (value.find('/') != value.npos) return Invalid(field, StrCat("'/' in ", Quote(value)));
  if (value == "." || value == "..") return Invalid(field, StrCat(Quote(value), " is no name"));
  return {};
}

Result<> CheckName(std::string_view field, std::string_view value) {
  if (value.empty()) return Invalid(field, "missing");
  return CheckOptionalName(field, value);
}

Result<> CheckText(std::string_view field, std::string_view value) {
  if (value.find('\0') != value.npos) return Invalid(field, "NUL byte");
  return {};
}

Result<> CheckWord(std::string_view field, std::string_view value) {
  if (value.empty()) return Invalid(field, "empty");
  if (value.size() > kNameBytesMax) return Invalid(field, StrCat("longer than ", kNameBytesMax, " bytes"));
  if (HasControl(value) || value.find(' ') != value.npos)
    return Invalid(field, StrCat("white space in ", Quote(value)));
  return {};
}

Result<> CheckPath(std::string_view field, std::string_view value) {
  if (value.empty()) return Invalid(field, "missing");
  if (value.size() > kPathBytesMax) return Invalid(field, StrCat("longer than ", kPathBytesMax, " bytes"));
  return CheckText(field, value);
}

Result<> CheckAbsolutePath(std::string_view field, std::string_view value) {
  TRY(CheckPath(field, value));
  if (value[0] != '/') return Invalid(field, StrCat(Quote(value), " is not absolute"));
  if (HasDotDot(value)) return Invalid(field, StrCat("\"..\" in ", Quote(value)));
  return {};
}

Result<> CheckRelativePath(std::string_view field, std::string_view value) {
  TRY(CheckPath(field, value));
  if (value[0] == '/') return Invalid(field, StrCat(Quote(value), " is not relative"));
  if (HasDotDot(value)) return Invalid(field, StrCat("\"..\" in ", Quote(value)));
  return {};
}

Result<> CheckUid(std::string_view field, int64_t value) {
  constexpr int64_t kUidMax = 0xfffffffe;
  if (value < 0 || value > kUidMax) return Invalid(field, StrCat(value, " is no id of a user or group"));
  return {};
}

Result<> CheckId(std::string_view field, std::string_view value) {
  if (value.empty()) return Invalid(field, "missing");
  if (value.size() > kNameBytesMax) return Invalid(field, StrCat("longer than ", kNameBytesMax, " bytes"));
  if (HasControl(value)) return Invalid(field, StrCat("control character in ", Quote(value)));
  return {};
}

Result<> CheckImageName(std::string_view field, std::string_view value) {
  if (value.empty()) return Invalid(field, "missing");
  if (value.size() > kNameBytesMax) return Invalid(field, StrCat("longer than ", kNameBytesMax, " bytes"));
  size_t at = value.find('@');
  bool userinfo = at != value.npos && value.substr(at + 1, 3) != "sha";
  if (userinfo || value.find("://") != value.npos || value.find('?') != value.npos || HasControl(value)) {
    return Invalid(field, "not an image reference (no URL, no user, no query)");
  }
  return {};
}

}  // namespace crisp::cri
