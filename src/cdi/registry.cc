#include "cdi/registry.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/log.h"
#include "base/strings.h"
#include "sys/file.h"

namespace crisp::cdi {

namespace {

constexpr size_t kFilesMax = 1024;  // of one directory

std::string StampOf(const struct stat& info) {
  return StrCat(info.st_dev, ":", info.st_ino, ":", info.st_size, ":", info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec,
                ":", info.st_ctim.tv_sec, ".", info.st_ctim.tv_nsec);
}

// Paths of the specification files of `dir`, sorted; a directory that is not there has none.
std::vector<std::string> SpecFiles(const std::string& dir) {
  std::vector<std::string> out;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(dir.c_str()), closedir);
  if (stream == nullptr) {
    if (errno != ENOENT) LogWarning("CDI directory cannot be read, ignoring it", {{"error", Errno(errno, dir)}});
    return out;
  }
  while (const dirent* entry = readdir(stream.get())) {
    std::string_view name = entry->d_name;
    if (name.starts_with(".") || !(name.ends_with(".json") || name.ends_with(".yaml"))) continue;
    if (out.size() == kFilesMax) {
      LogWarning("too many files in a CDI directory, ignoring the rest", {{"directory", dir}});
      break;
    }
    out.push_back(StrCat(dir, "/", name));
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<Spec> ReadSpec(const std::string& path) {
  std::string text = TRY(sys::ReadFile(path));
  return ParseSpec(text, path.ends_with(".json") ? Syntax::kJson : Syntax::kYaml, path);
}

Result<> LookAt(DeviceNode& node) {
  bool numbered = node.type == "p" || (node.major && node.minor);
  if (!node.type.empty() && numbered && node.mode) return {};
  struct stat info;
  if (stat(node.host_path.c_str(), &info) != 0) {
    if (!node.type.empty() && numbered) return {};  // the file knows all that matters
    return Error(Code::kFailedPrecondition,
                 StrCat("device node ", node.host_path, ": ", Errno(errno, "stat").message()));
  }
  std::string type = S_ISBLK(info.st_mode) ? "b" : S_ISCHR(info.st_mode) ? "c" : S_ISFIFO(info.st_mode) ? "p" : "";
  if (type.empty()) return Error(Code::kFailedPrecondition, StrCat(node.host_path, " is no device"));
  if (node.type.empty()) node.type = type;
  if (type != (node.type == "u" ? "c" : node.type)) {
    return Error(Code::kFailedPrecondition, StrCat("device node ", node.host_path, " is not of type ", node.type));
  }
  if (type != "p" && !node.major) node.major = major(info.st_rdev);
  if (type != "p" && !node.minor) node.minor = minor(info.st_rdev);
  if (!node.mode) node.mode = info.st_mode & 0777;
  return {};
}

}  // namespace

void Registry::Refresh(Files& files) const {
  Files seen;
  for (const std::string& dir : dirs_) {
    for (const std::string& path : SpecFiles(dir)) {
      struct stat info;
      if (stat(path.c_str(), &info) != 0) continue;  // gone since it was listed, or a symlink to nowhere
      std::string stamp = StampOf(info);
      if (auto known = files.find(path); known != files.end() && known->second.stamp == stamp) {
        seen.insert(files.extract(known));
        continue;
      }
      File file{.stamp = stamp, .spec = nullptr, .problem = {}};
      Result<Spec> spec =
          S_ISREG(info.st_mode) ? ReadSpec(path) : Error(Code::kInvalidArgument, path + ": not a regular file");
      if (spec) {
        file.spec = std::make_shared<const Spec>(std::move(*spec));
      } else {
        file.problem = spec.error().message();
        LogWarning("CDI file is not valid, ignoring it", {{"error", spec.error()}});
      }
      seen.emplace(path, std::move(file));
    }
  }
  files = std::move(seen);
}

Result<std::vector<Edits>> Registry::Resolve(const std::vector<std::string>& names) {
  auto files = files_.Lock();
  Refresh(*files);
  std::vector<Edits> out;
  std::set<std::string> done;
  std::set<const Spec*> opened;
  for (const std::string& qualified : names) {
    if (!done.insert(qualified).second) continue;
    DeviceName wanted = TRY(ParseDeviceName(qualified));
    const Spec* found = nullptr;
    for (auto dir = dirs_.rbegin(); dir != dirs_.rend() && found == nullptr; ++dir) {
      std::string found_in;
      for (const auto& [path, file] : *files) {
        if (file.spec == nullptr || path.substr(0, path.rfind('/')) != *dir) continue;
        if (file.spec->kind != wanted.kind || !file.spec->devices.contains(wanted.name)) continue;
        if (found != nullptr) {
          return Error(Code::kFailedPrecondition,
                       StrCat("CDI device ", Quote(qualified), " is in two files: ", found_in, " and ", path));
        }
        found = file.spec.get();
        found_in = path;
      }
    }
    if (found == nullptr) {
      std::string message = StrCat("CDI device ", Quote(qualified), " not found in ", Join(dirs_, ", "));
      for (const auto& [path, file] : *files) {
        if (!file.problem.empty()) message += StrCat("; ", file.problem);
        if (message.size() > 1024) break;
      }
      return Error(Code::kNotFound, std::move(message));
    }
    if (opened.insert(found).second) out.push_back(found->edits);
    out.push_back(found->devices.at(wanted.name));
  }
  for (Edits& edits : out) {
    for (DeviceNode& node : edits.device_nodes) TRY(LookAt(node), "CDI");
  }
  return out;
}

}  // namespace crisp::cdi
