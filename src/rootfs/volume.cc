#include "rootfs/volume.h"

#include <dirent.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "base/strings.h"

namespace crisp::rootfs {

namespace {

constexpr int kDepthMax = 1000;

using sys::BorrowedFd;
using sys::UniqueFd;

std::string FdName(BorrowedFd fd) { return StrCat("/proc/self/fd/", fd.get()); }

Result<> CopyRun(const Ctx& ctx, BorrowedFd from, BorrowedFd to, off_t begin, off_t end) {
  if (lseek(to.get(), begin, SEEK_SET) < 0) return Errno(errno, "seek in the volume");
  while (begin < end) {
    TRY(ctx.Check());
    size_t chunk = static_cast<size_t>(std::min<off_t>(end - begin, 16 << 20));
    ssize_t n = sendfile(to.get(), from.get(), &begin, chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "copy into the volume");
    if (n == 0) return {};
  }
  return {};
}

// Holes stay holes: an image of a few bytes can hold a sparse file of terabytes.
Result<> CopyBytes(const Ctx& ctx, BorrowedFd from, BorrowedFd to, off_t bytes) {
  if (ftruncate(to.get(), bytes) != 0) return Errno(errno, "make a file in the volume");
  for (off_t at = 0; at < bytes;) {
    off_t begin = lseek(from.get(), at, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) return {};  // only a hole is left
    if (begin < 0) begin = at;                   // a file system that does not tell
    off_t end = lseek(from.get(), begin, SEEK_HOLE);
    if (end <= begin) end = bytes;
    TRY(CopyRun(ctx, from, to, begin, std::min(end, bytes)));
    at = end;
  }
  return {};
}

// By the name under /proc/self/fd, since fgetxattr refuses O_PATH descriptors. Overlayfs shows no trusted.overlay.* of
// its own layers, so what is listed is the file's.
void CopyXattrs(BorrowedFd from, BorrowedFd to) {
  std::string source = FdName(from), target = FdName(to);
  std::vector<char> names(64 << 10), value(64 << 10);
  ssize_t length = listxattr(source.c_str(), names.data(), names.size());
  for (ssize_t at = 0; at < length;
       at += static_cast<ssize_t>(strnlen(&names[static_cast<size_t>(at)], static_cast<size_t>(length - at))) + 1) {
    const char* name = &names[static_cast<size_t>(at)];
    ssize_t size = getxattr(source.c_str(), name, value.data(), value.size());
    // Attributes that the volume's file system cannot keep are left out, as cp -a does.
    if (size >= 0) (void)setxattr(target.c_str(), name, value.data(), static_cast<size_t>(size), 0);
  }
}

// Owner before mode, because chown clears set-uid.
Result<> CopyAttributes(BorrowedFd from, BorrowedFd to, const struct stat& info) {
  if (fchown(to.get(), info.st_uid, info.st_gid) != 0) return Errno(errno, "chown in the volume");
  if (fchmod(to.get(), info.st_mode & 07777) != 0) return Errno(errno, "chmod in the volume");
  CopyXattrs(from, to);
  timespec times[2] = {info.st_atim, info.st_mtim};
  if (futimens(to.get(), times) != 0) return Errno(errno, "set times in the volume");
  return {};
}

class Copier {
 public:
  Copier(const Ctx& ctx, BorrowedFd target_root) : ctx_(ctx), target_root_(target_root) {}

  Result<> Directory(BorrowedFd from, BorrowedFd to, const std::string& path) {
    TRY(ctx_.Check());
    if (++depth_ > kDepthMax) return Error(Code::kFailedPrecondition, "the volume's directories are nested too deeply");
    std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(TRY(sys::OpenAt(from, ".", O_RDONLY | O_DIRECTORY)).Release()),
                                            closedir);
    if (dir == nullptr) return Errno(errno, "list the volume");
    while (dirent* entry = readdir(dir.get())) {
      std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      std::string child = path.empty() ? name : path + "/" + name;
      TRY(Entry(from, to, name, child));
    }
    struct stat info;
    if (fstat(from.get(), &info) != 0) return Errno(errno, "stat");
    --depth_;
    return CopyAttributes(from, to, info);
  }

 private:
  Result<> Entry(BorrowedFd from, BorrowedFd to, const std::string& name, const std::string& path) {
    UniqueFd source = TRY(sys::OpenAt(from, name, O_PATH | O_NOFOLLOW), path);
    struct stat info;
    if (fstat(source.get(), &info) != 0) return Errno(errno, "stat " + path);
    if (S_ISDIR(info.st_mode)) {
      if (mkdirat(to.get(), name.c_str(), 0700) != 0) return Errno(errno, "mkdir " + path);
      UniqueFd sub_from = TRY(sys::OpenAt(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      UniqueFd sub_to = TRY(sys::OpenAt(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      return Directory(sub_from, sub_to, path);
    }
    if (info.st_nlink > 1) {
      auto [first, fresh] = links_.emplace(info.st_ino, path);
      if (!fresh) {
        if (linkat(target_root_.get(), first->second.c_str(), to.get(), name.c_str(), 0) == 0) return {};
        return Errno(errno, "link " + path);
      }
    }
    TRY(S_ISREG(info.st_mode) ? Regular(source, to, name, info) : Special(source, to, name, info), path);
    return {};
  }

  Result<> Regular(BorrowedFd source, BorrowedFd to, const std::string& name, const struct stat& info) {
    UniqueFd in = TRY(sys::Open(FdName(source), O_RDONLY));
    UniqueFd out = TRY(sys::OpenAt(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    TRY(CopyBytes(ctx_, in, out, info.st_size));
    return CopyAttributes(in, out, info);
  }

  Result<> Special(BorrowedFd source, BorrowedFd to, const std::string& name, const struct stat& info) {
    if (S_ISSOCK(info.st_mode)) return {};  // nobody listens on a copied socket
    if (S_ISLNK(info.st_mode)) {
      char target[4096];
      ssize_t n = readlinkat(source.get(), "", target, sizeof target - 1);
      if (n < 0) return Errno(errno, "readlink");
      target[n] = '\0';
      if (symlinkat(target, to.get(), name.c_str()) != 0) return Errno(errno, "symlink");
    } else {
      if (mknodat(to.get(), name.c_str(), info.st_mode & ~mode_t{07777}, info.st_rdev) != 0)
        return Errno(errno, "mknod");
      if (fchmodat(to.get(), name.c_str(), info.st_mode & 07777, 0) != 0) return Errno(errno, "chmod");
    }
    if (fchownat(to.get(), name.c_str(), info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
      return Errno(errno, "chown");
    timespec times[2] = {info.st_atim, info.st_mtim};
    (void)utimensat(to.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW);
    return {};
  }

  const Ctx& ctx_;
  BorrowedFd target_root_;
  std::map<ino_t, std::string> links_;  // first name of inodes with several
  int depth_ = 0;
};

}  // namespace

Result<> CopyUpVolume(const Ctx& ctx, BorrowedFd root, const std::string& volume_path, const std::string& host_dir) {
  Result<UniqueFd> from = sys::OpenInRoot(root, volume_path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
  if (!from) {
    int err = from.error().os_errno();
    if (err == ENOENT || err == ENOTDIR || err == ELOOP) return {};
    return std::move(from).error();
  }
  UniqueFd to = TRY(sys::Open(host_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  TRY(Copier(ctx, to).Directory(*from, to, ""), "volume " + Quote(volume_path));
  return {};
}

std::string VolumeDirName(const std::string& volume_path) {
  // A readable part and a hash (FNV-1a) that keeps different paths apart.
  uint64_t hash = 1469598103934665603u;
  std::string readable;
  for (unsigned char c : volume_path) {
    hash = (hash ^ c) * 1099511628211u;
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (readable.size() < 64) readable.push_back(plain ? static_cast<char>(c) : '-');
  }
  char hex[20];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(hash));
  return StrCat(readable, "-", hex);
}

}  // namespace crisp::rootfs
