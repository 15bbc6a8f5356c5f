#include "image/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string_view>

#include "sys/fd.h"

namespace crisp::image {

Result<std::vector<std::string>> ListDirectory(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> listing(opendir(path.c_str()), closedir);
  if (listing == nullptr) return Errno(errno, "list " + path);
  std::vector<std::string> names;
  while (dirent* entry = readdir(listing.get())) {
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

Result<> SyncDirectory(const std::string& path) {
  sys::UniqueFd fd = TRY(sys::Open(path, O_RDONLY | O_DIRECTORY));
  if (fsync(fd.get()) != 0) return Errno(errno, "fsync " + path);
  return {};
}

Result<> SyncFileSystem(const std::string& path) {
  sys::UniqueFd fd = TRY(sys::Open(path, O_RDONLY | O_DIRECTORY));
  if (syncfs(fd.get()) != 0) return Errno(errno, "syncfs " + path);
  return {};
}

}  // namespace crisp::image
