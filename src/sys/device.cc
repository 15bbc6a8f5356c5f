#include "sys/device.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/strings.h"
#include "sys/fd.h"

namespace crisp::sys {

namespace {

constexpr int kDepthMax = 16;

bool IsDevice(const struct stat& info) { return S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode); }

DeviceInfo FromStat(std::string path, const struct stat& info) {
  return {.path = std::move(path),
          .type = S_ISBLK(info.st_mode) ? 'b' : 'c',
          .major = major(info.st_rdev),
          .minor = minor(info.st_rdev),
          .mode = info.st_mode & 07777,
          .uid = info.st_uid,
          .gid = info.st_gid};
}

// A container has its own of these, whatever it is given.
bool IsPerContainer(std::string_view name) {
  return name == "pts" || name == "shm" || name == "mqueue" || name == "fd" || name == "console" || name == "ptmx" ||
         name == ".lxc" || name == ".lxd-mounts" || name == ".udev";
}

Result<> Walk(BorrowedFd parent, const std::string& name, const std::string& path, int depth,
              std::vector<DeviceInfo>& out) {
  UniqueFd fd = TRY(OpenAt(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(fd.get()), closedir);
  if (dir == nullptr) return Errno(errno, "list " + path);
  BorrowedFd here(fd.Release());
  while (dirent* entry = readdir(dir.get())) {
    std::string_view child = entry->d_name;
    if (child == "." || child == ".." || IsPerContainer(child)) continue;
    struct stat info;
    if (fstatat(here.get(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;  // gone meanwhile
    std::string full = StrCat(path == "/" ? "" : path, "/", child);
    if (S_ISDIR(info.st_mode) && depth < kDepthMax) {
      if (Result<> done = Walk(here, std::string(child), full, depth + 1, out);
          !done && done.error().code() != Code::kNotFound) {
        return done;
      }
    }
    if (IsDevice(info)) out.push_back(FromStat(std::move(full), info));
  }
  return {};
}

}  // namespace

Result<std::vector<DeviceInfo>> ListDevices(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return Errno(errno, "stat " + path);
  std::vector<DeviceInfo> out;
  if (IsDevice(info)) {
    out.push_back(FromStat(path, info));
    return out;
  }
  if (!S_ISDIR(info.st_mode)) return Error(Code::kInvalidArgument, path + " is neither a device nor a directory");
  TRY(Walk(BorrowedFd(AT_FDCWD), path, path, 0, out));
  std::sort(out.begin(), out.end(), [](const DeviceInfo& a, const DeviceInfo& b) { return a.path < b.path; });
  return out;
}

}  // namespace crisp::sys
