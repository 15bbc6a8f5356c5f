#include "native/copy_up.h"

#include <dirent.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "base/strings.h"

namespace crisp::native {

namespace {

constexpr int kDepthMax = 64;

Result<> CopyFile(sys::BorrowedFd from, const char* name, sys::BorrowedFd to, mode_t mode) {
  // Another container may swap it for a fifo meanwhile, where it lies on a volume.
  sys::UniqueFd in = TRY(sys::OpenAt(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat st{};
  if (fstat(in.get(), &st) != 0 || !S_ISREG(st.st_mode)) return Error(Code::kFailedPrecondition, StrCat(name, " is no file any more"));
  sys::UniqueFd out = TRY(sys::OpenAt(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode & 07777));
  while (true) {
    ssize_t n = sendfile(out.get(), in.get(), nullptr, 1u << 30);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, StrCat("copy ", name));
    if (n == 0) return {};
  }
}

Result<> CopyEntry(sys::BorrowedFd from, const char* name, sys::BorrowedFd to, int depth) {
  struct stat st{};
  if (fstatat(from.get(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) return Errno(errno, StrCat("stat ", name));
  if (S_ISDIR(st.st_mode)) {
    if (mkdirat(to.get(), name, 0700) != 0) return Errno(errno, StrCat("make ", name));
    sys::UniqueFd source = TRY(sys::OpenAt(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    sys::UniqueFd copy = TRY(sys::OpenAt(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    TRY(CopyUp(source, copy, depth + 1));
  } else if (S_ISREG(st.st_mode)) {
    TRY(CopyFile(from, name, to, st.st_mode));
  } else if (S_ISLNK(st.st_mode)) {
    char target[4096];
    ssize_t n = readlinkat(from.get(), name, target, sizeof target - 1);
    if (n < 0) return Errno(errno, StrCat("read link ", name));
    target[n] = '\0';
    if (symlinkat(target, to.get(), name) != 0) return Errno(errno, StrCat("link ", name));
  } else if (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) {
    if (mknodat(to.get(), name, st.st_mode, 0) != 0) return Errno(errno, StrCat("make ", name));
  } else {
    return {};
  }
  if (fchownat(to.get(), name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) != 0) return Errno(errno, StrCat("chown ", name));
  if (!S_ISLNK(st.st_mode) && fchmodat(to.get(), name, st.st_mode & 07777, 0) != 0) return Errno(errno, StrCat("chmod ", name));
  return {};
}

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

}  // namespace

Result<> CopyUp(sys::BorrowedFd from, sys::BorrowedFd to, int depth) {
  if (depth > kDepthMax) return Error(Code::kResourceExhausted, "directories too deep to be copied");
  sys::UniqueFd listing = TRY(sys::OpenAt(from, ".", O_RDONLY | O_DIRECTORY));
  std::unique_ptr<DIR, CloseDir> dir(fdopendir(listing.get()));
  if (dir == nullptr) return Errno(errno, "list a directory");
  (void)listing.Release();
  while (true) {
    errno = 0;
    dirent* entry = readdir(dir.get());
    if (entry == nullptr) return errno == 0 ? Result<>() : Result<>(Errno(errno, "list a directory"));
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") TRY(CopyEntry(from, entry->d_name, to, depth));
  }
}

}  // namespace crisp::native
