#include "image/implicit_dirs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "base/strings.h"
#include "sys/fd.h"

namespace crisp::image {

namespace {

constexpr size_t kXattrBytesMax = 64 << 10;  // the kernel's own limit (XATTR_SIZE_MAX)

enum class Search { kGoOn, kHidden };

bool IsOpaque(int dir) {
  char value = 0;
  return fgetxattr(dir, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y';
}

// `path` in one layer. Not there: whether layers below still count.
Result<std::optional<sys::UniqueFd>> Descend(int root, const std::string& path, Search& search) {
  sys::UniqueFd dir = TRY(sys::Dup(sys::BorrowedFd(root)));
  for (std::string_view part : Split(path, '/')) {
    int next = openat(dir.get(), std::string(part).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) {
      if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) return Errno(errno, "open " + path);
      // A whiteout, a file, a symlink or an opaque parent ends the search: nothing below shows through these.
      search = errno == ENOENT && !IsOpaque(dir.get()) ? Search::kGoOn : Search::kHidden;
      return std::optional<sys::UniqueFd>();
    }
    dir.Reset(next);
  }
  return std::optional<sys::UniqueFd>(std::move(dir));
}

Result<> CopyXattrs(int from, int to, const std::string& path) {
  std::string names(kXattrBytesMax, '\0'), value(kXattrBytesMax, '\0');
  ssize_t names_bytes = flistxattr(from, names.data(), names.size());
  if (names_bytes < 0) return errno == ENOTSUP ? Result<>() : Result<>(Errno(errno, "list attributes of " + path));
  names.resize(static_cast<size_t>(names_bytes));
  for (std::string_view name_view : Split(names, '\0')) {
    const std::string name(name_view);
    if (name.empty() || name.starts_with("trusted.overlay.")) continue;  // opacity is the layer's own matter
    ssize_t bytes = fgetxattr(from, name.c_str(), value.data(), value.size());
    if (bytes >= 0 && fsetxattr(to, name.c_str(), value.data(), static_cast<size_t>(bytes), 0) != 0 && errno != ENOTSUP) {
      return Errno(errno, StrCat("set ", name, " of ", path));
    }
  }
  return {};
}

Result<> CopyAttributes(int from, int to, const std::string& path) {
  struct stat info;
  if (fstat(from, &info) != 0) return Errno(errno, "stat " + path);
  if (fchown(to, info.st_uid, info.st_gid) != 0) return Errno(errno, "chown " + path);
  if (fchmod(to, info.st_mode & 07777) != 0) return Errno(errno, "chmod " + path);
  TRY(CopyXattrs(from, to, path));
  const timespec times[2] = {info.st_atim, info.st_mtim};
  if (futimens(to, times) != 0) return Errno(errno, "set the times of " + path);
  return {};
}

}  // namespace

Result<> InheritAttributes(const Ctx& ctx, const std::string& layer_root, const std::vector<std::string>& dirs,
                           const std::vector<std::string>& below) {
  sys::UniqueFd root = TRY(sys::Open(layer_root, O_RDONLY | O_DIRECTORY));
  for (const std::string& path : dirs) {
    Search search = Search::kGoOn;
    std::optional<sys::UniqueFd> own = TRY(Descend(root.get(), path, search));
    // Replaced by a later entry, or reached through a symlink: then its path is another one, and that is in the list.
    if (!own || IsOpaque(own->get())) continue;
    TRY(ctx.Check());
    for (size_t i = below.size(); i-- > 0;) {  // top first
      sys::UniqueFd layer = TRY(sys::Open(below[i], O_RDONLY | O_DIRECTORY));
      search = Search::kGoOn;
      std::optional<sys::UniqueFd> found = TRY(Descend(layer.get(), path, search));
      if (found) TRY(CopyAttributes(found->get(), own->get(), path));
      if (found || search == Search::kHidden) break;
    }
  }
  return {};
}

}  // namespace crisp::image
