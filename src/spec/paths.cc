#include "base/strings.h"
#include "spec/parts.h"

namespace crisp::spec {

Result<std::string> CleanPath(std::string_view path, std::string_view what) {
  if (path.empty() || path[0] != '/') return Invalid(StrCat(what, " ", Quote(path), " is not an absolute path"));
  if (path.size() > 4095) return Invalid(StrCat(what, " ", Quote(path, 64), " is longer than 4095 bytes"));
  if (path.find('\0') != std::string_view::npos) return Invalid(StrCat(what, " ", Quote(path), " contains a NUL"));
  if (!IsValidUtf8(path)) return Invalid(StrCat(what, " ", Quote(path), " is not UTF-8"));
  std::vector<std::string_view> kept;
  for (std::string_view part : Split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      kept.push_back(part);
    } else if (!kept.empty()) {
      kept.pop_back();
    }
  }
  std::string out;
  for (std::string_view part : kept) out.append("/").append(part);
  return out.empty() ? std::string("/") : out;
}

bool IsWithin(std::string_view path, std::string_view directory) {
  if (directory == "/") return true;
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace crisp::spec
