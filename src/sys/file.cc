#include "sys/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/ids.h"
#include "base/strings.h"

namespace crisp::sys {

Result<std::string> ReadFile(const std::string& path, size_t bytes_max) {
  UniqueFd fd = TRY(Open(path, O_RDONLY));
  return TRY(ReadAll(fd, bytes_max), path);
}

Result<> WriteExisting(const std::string& path, std::string_view value) {
  return WriteExistingAt(BorrowedFd(AT_FDCWD), path, value);
}

Result<> WriteExistingAt(BorrowedFd dir, const std::string& path, std::string_view value) {
  UniqueFd fd = TRY(OpenAt(dir, path, O_WRONLY));
  ssize_t n;
  do {
    n = write(fd.get(), value.data(), value.size());
  } while (n < 0 && errno == EINTR);
  if (n < 0) return Errno(errno, StrCat("write ", Quote(value), " to ", path));
  if (static_cast<size_t>(n) != value.size()) {
    return Error(Code::kInternal, StrCat("write ", Quote(value), " to ", path, ": only ", n, " bytes were taken"));
  }
  return {};
}

static std::string DirName(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<> WriteFileAtomic(const std::string& path, std::string_view content, mode_t mode, Durability durability) {
  std::string temporary = StrCat(path, ".tmp-", RandomHex(6));
  auto write_it = [&]() -> Result<> {
    UniqueFd fd = TRY(Open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
    TRY(WriteAll(fd, content), temporary);
    if (durability == Durability::kSynced && fsync(fd.get()) != 0) return Errno(errno, "fsync " + temporary);
    if (rename(temporary.c_str(), path.c_str()) != 0) return Errno(errno, StrCat("rename ", temporary, " to ", path));
    return {};
  };
  if (Result<> written = write_it(); !written) {
    unlink(temporary.c_str());
    return written;
  }
  if (durability == Durability::kSynced) {
    UniqueFd dir = TRY(Open(DirName(path), O_RDONLY | O_DIRECTORY));
    if (fsync(dir.get()) != 0) return Errno(errno, "fsync " + DirName(path));
  }
  return {};
}

Result<> MakeDir(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0) return {};
  if (errno == EEXIST) {
    struct stat info;
    if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return {};
    return Error(Code::kFailedPrecondition, path + " exists and is not a directory");
  }
  return Errno(errno, "mkdir " + path);
}

void SpreadSubdirectories(const std::string& dir) {
  Result<UniqueFd> fd = Open(dir, O_RDONLY | O_DIRECTORY);
  int flags = 0;  // the kernel takes an int, whatever the number of the call says
  if (!fd || ioctl(fd->get(), FS_IOC_GETFLAGS, &flags) != 0 || (flags & FS_TOPDIR_FL) != 0) return;
  flags |= FS_TOPDIR_FL;
  (void)ioctl(fd->get(), FS_IOC_SETFLAGS, &flags);
}

Result<> MakeDirs(const std::string& path, mode_t mode) {
  Result<> made = MakeDir(path, mode);
  if (made || made.error().os_errno() != ENOENT) return made;
  TRY(MakeDirs(DirName(path), mode));
  return MakeDir(path, mode);
}

namespace {

using Listing = std::unique_ptr<DIR, int (*)(DIR*)>;

// Opens directory `name` for listing. No symlink, no mount point: EXDEV says that it is one.
Result<Listing> List(int dir, const char* name, const std::string& path) {
  open_how how{};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
  int raw = static_cast<int>(syscall(SYS_openat2, dir, name, &how, sizeof how));
  if (raw < 0 && errno == EXDEV) return Error(Code::kFailedPrecondition, path + " is a mount point, not removed");
  if (raw < 0) return Errno(errno, "open " + path);
  DIR* listing = fdopendir(raw);
  if (listing == nullptr) {
    int error = errno;
    close(raw);
    return Errno(error, "list " + path);
  }
  return Listing(listing, closedir);
}

bool IsDots(const char* name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

// unlink, also of an empty directory. False: a directory that is not empty.
Result<bool> RemoveOne(int dir, const char* name, const std::string& path) {
  if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return true;
  if (errno != EISDIR && errno != EPERM) return Errno(errno, "unlink " + path);
  if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
  if (errno == ENOTEMPTY || errno == EEXIST) return false;
  if (errno == EBUSY) return Error(Code::kFailedPrecondition, path + " is a mount point, not removed");
  return Errno(errno, "rmdir " + path);
}

Result<> NotStopped(const std::stop_token& stop, const std::string& path) {
  if (!stop.stop_requested()) return {};
  return Error(Code::kCancelled, "stopped, the rest of " + path + " is left");
}

// Empties directory `name` of `top`: what is not empty itself moves up into `top`, under a free name.
Result<> Flatten(int top, const char* name, const std::string& path, const std::stop_token& stop, uint64_t& next_name) {
  Listing listing = TRY(List(top, name, path));
  const int dir = dirfd(listing.get());
  while (dirent* entry = readdir(listing.get())) {
    if (IsDots(entry->d_name)) continue;
    TRY(NotStopped(stop, path));
    if (TRY(RemoveOne(dir, entry->d_name, StrCat(path, "/", entry->d_name)))) continue;
    std::string up;
    do {
      up = StrCat(".remove-", next_name++);
    } while (renameat2(dir, entry->d_name, top, up.c_str(), RENAME_NOREPLACE) != 0 && errno == EEXIST);
    if (faccessat(top, up.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0) {
      return Error(Code::kFailedPrecondition, StrCat(path, "/", entry->d_name, " cannot be moved: a mount point?"));
    }
  }
  return {};
}

Result<> RemoveDirectory(int dir, const char* name, const std::string& path, const std::stop_token& stop) {
  Listing listing = TRY(List(dir, name, path));
  const int top = dirfd(listing.get());
  uint64_t next_name = 0;
  bool is_empty = false;
  while (!is_empty) {
    is_empty = true;
    rewinddir(listing.get());
    while (dirent* entry = readdir(listing.get())) {
      if (IsDots(entry->d_name)) continue;
      is_empty = false;
      TRY(NotStopped(stop, path));
      const std::string child = StrCat(path, "/", entry->d_name);
      if (TRY(RemoveOne(top, entry->d_name, child))) continue;
      TRY(Flatten(top, entry->d_name, child, stop, next_name));
      TRY(RemoveOne(top, entry->d_name, child));  // not empty again if somebody still writes: the next round
    }
  }
  if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT) return Errno(errno, "rmdir " + path);
  return {};
}

Result<> RemoveTreeFrom(int dir, const std::string& name, const std::stop_token& stop) {
  if (TRY(RemoveOne(dir, name.c_str(), name))) return {};
  return RemoveDirectory(dir, name.c_str(), name, stop);
}

}  // namespace

Result<> RemoveTreeAt(BorrowedFd dir, const std::string& name) { return RemoveTreeFrom(dir.get(), name, {}); }

Result<> RemoveTree(const std::string& path, const std::stop_token& stop) {
  // The path itself may lead over symlinks and mounts of the host; below its last component nothing does.
  std::string parent = DirName(path), name = path.substr(path.rfind('/') + 1);
  if (name.empty()) return Error(Code::kInvalidArgument, "remove tree " + Quote(path));
  Result<UniqueFd> dir = Open(parent, O_PATH | O_DIRECTORY);
  if (!dir) return dir.error().os_errno() == ENOENT ? Result<>() : Result<>(std::move(dir).error());
  TRY(RemoveTreeFrom(dir->get(), name, stop), "in " + parent);
  return {};
}

Result<> RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return Errno(errno, "unlink " + path);
}

bool Exists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

}  // namespace crisp::sys
