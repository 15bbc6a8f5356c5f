#include "cgroup/place.h"

#include <algorithm>

#include "base/ids.h"
#include "base/strings.h"

namespace crisp::cgroup {

namespace {

constexpr std::string_view kSlice = ".slice";
constexpr std::string_view kScopePrefix = "crisp";
constexpr size_t kPartBytesMax = 255;  // NAME_MAX: a cgroup is a directory

Error Bad(const std::string& parent, std::string_view why) {
  return Error(Code::kInvalidArgument, StrCat("cgroup parent ", Quote(parent), " ", why));
}

// Every part of an absolute path: no "", ".", "..", no NUL, line break or colon (which /proc/PID/cgroup and the OCI
// form "slice:prefix:name" could not carry).
bool CleanParts(std::string_view path) {
  if (!path.starts_with('/')) return false;
  for (std::string_view part : Split(path.substr(1), '/')) {
    if (part.empty() || part == "." || part == ".." || part.size() > kPartBytesMax) return false;
    if (part.find_first_of(std::string_view("\0\n:", 3)) != std::string_view::npos) return false;
  }
  return true;
}

std::string_view LastPart(std::string_view path) { return path.substr(path.rfind('/') + 1); }

Result<Location> PlaceCgroupfs(const std::string& parent, const std::string& name) {
  if (LastPart(parent).ends_with(kSlice)) {
    return Bad(parent, "is a systemd slice, but the cgroup driver is cgroupfs");
  }
  std::string base = parent.empty() ? "/crisp" : parent;
  if (!base.starts_with('/')) base = "/" + base;
  while (base.size() > 1 && base.back() == '/') base.pop_back();
  std::string path = base == "/" ? "/" + name : base + "/" + name;
  if (!CleanParts(path)) return Bad(parent, "is not a clean absolute path");
  return Location{path, path};
}

Result<Location> PlaceSystemd(const std::string& parent, const std::string& name) {
  // The kubelet gives the slice's name, other callers its whole path: the name says it all.
  std::string slice = parent.empty() ? "system.slice" : std::string(LastPart(parent));
  if (!parent.empty() && parent.starts_with('/') && !CleanParts(parent)) return Bad(parent, "is not a clean absolute path");
  if (!slice.ends_with(kSlice)) return Bad(parent, "is not a systemd slice, but the cgroup driver is systemd");
  std::string expanded = TRY(ExpandSlice(slice));
  std::string scope = StrCat(kScopePrefix, "-", name, ".scope");
  return Location{StrCat(slice, ":", kScopePrefix, ":", name), StrCat(expanded == "/" ? "" : expanded, "/", scope)};
}

}  // namespace

Result<Location> PlaceFor(Driver driver, const std::string& parent, const std::string& name) {
  if (name.find('/') != std::string::npos || !CleanParts("/" + name)) {
    return Error(Code::kInvalidArgument, StrCat("cgroup name ", Quote(name), " is not one clean path part"));
  }
  return driver == Driver::kSystemd ? PlaceSystemd(parent, name) : PlaceCgroupfs(parent, name);
}

PodPlace PlaceForPod(Driver driver, const PodId& id) {
  if (driver == Driver::kCgroupfs) return {.parent = StrCat("/crisp/", id.str()), .kernel_path = StrCat("/crisp/", id.str())};
  std::string slice = StrCat(kScopePrefix, "-", id.str(), kSlice);
  return {.parent = slice, .kernel_path = StrCat("/", kScopePrefix, kSlice, "/", slice)};
}

Result<std::string> ExpandSlice(const std::string& slice) {
  if (slice == "-.slice") return std::string("/");
  std::string_view stem = slice;
  if (!stem.ends_with(kSlice)) return Bad(slice, "is not a systemd slice");
  stem.remove_suffix(kSlice.size());
  std::string out, prefix;
  for (std::string_view part : Split(stem, '-')) {
    if (part.empty()) return Bad(slice, "is not a valid slice name");
    prefix += prefix.empty() ? std::string(part) : StrCat("-", part);
    out += StrCat("/", prefix, kSlice);
  }
  if (!CleanParts(out)) return Bad(slice, "is not a valid slice name");
  return out;
}

Result<> CheckOurs(const std::string& kernel_path) {
  if (CleanParts(kernel_path)) {
    std::string_view last = LastPart(kernel_path);
    std::string prefix = StrCat(kScopePrefix, "-");
    for (std::string_view kind : {std::string_view(".scope"), kSlice}) {
      if (!last.ends_with(kind) || !last.starts_with(prefix)) continue;
      last.remove_suffix(kind.size());
      last.remove_prefix(prefix.size());
    }
    if (ContainerId::Parse(last)) return {};
  }
  return Error(Code::kInvalidArgument, StrCat("cgroup ", Quote(kernel_path), " is not one of ours"));
}

Result<> CheckClean(const std::string& kernel_path) {
  if (CleanParts(kernel_path)) return {};
  return Error(Code::kInvalidArgument, StrCat("cgroup ", Quote(kernel_path), " is not a clean absolute path"));
}

}  // namespace crisp::cgroup
