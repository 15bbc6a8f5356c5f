#include "sys/file.h"

#include <dirent.h>
#include <sys/stat.h>
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
  UniqueFd fd = TRY(Open(path, O_WRONLY));
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

Result<> MakeDirs(const std::string& path, mode_t mode) {
  Result<> made = MakeDir(path, mode);
  if (made || made.error().os_errno() != ENOENT) return made;
  TRY(MakeDirs(DirName(path), mode));
  return MakeDir(path, mode);
}

static Result<> RemoveAt(int dir, const char* name, dev_t device, const std::string& path) {
  if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return Errno(errno, "unlink " + path);
  int raw = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (raw < 0) return errno == ENOENT ? Result<>() : Result<>(Errno(errno, "open " + path));
  std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(raw), closedir);
  if (listing == nullptr) {
    close(raw);
    return Errno(errno, "list " + path);
  }
  struct stat info;
  if (fstat(raw, &info) != 0) return Errno(errno, "stat " + path);
  if (info.st_dev != device) return Error(Code::kFailedPrecondition, path + " is a mount point, not removed");
  while (dirent* entry = readdir(listing.get())) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    TRY(RemoveAt(raw, entry->d_name, device, StrCat(path, "/", entry->d_name)));
  }
  if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT) return Errno(errno, "rmdir " + path);
  return {};
}

Result<> RemoveTree(const std::string& path) {
  struct stat parent;
  if (stat(DirName(path).c_str(), &parent) != 0) {
    return errno == ENOENT ? Result<>() : Result<>(Errno(errno, "stat " + DirName(path)));
  }
  return RemoveAt(AT_FDCWD, path.c_str(), parent.st_dev, path);
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
