#include "sys/fd.h"

#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"

namespace crisp::sys {

void UniqueFd::Reset(int fd) {
  if (fd_ >= 0) {
    int saved = errno;
    close(fd_);
    errno = saved;
  }
  fd_ = fd;
}

Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode) {
  return OpenAt(BorrowedFd(AT_FDCWD), path, flags, mode);
}

Result<UniqueFd> OpenAt(BorrowedFd dir, const std::string& path, int flags, mode_t mode) {
  int fd;
  do {
    fd = openat(dir.get(), path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return Errno(errno, "open " + path);
  return UniqueFd(fd);
}

Result<UniqueFd> OpenInRoot(BorrowedFd root, const std::string& path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  long fd;
  int again = 0;
  do {
    fd = syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how);
  } while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++again < 128)));
  if (fd < 0) return Errno(errno, StrCat("open ", path, " in root"));
  return UniqueFd(static_cast<int>(fd));
}

Result<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Errno(errno, "pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<UniqueFd> Dup(BorrowedFd fd) {
  int copy = fcntl(fd.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return Errno(errno, "dup");
  return UniqueFd(copy);
}

Result<> WriteAll(BorrowedFd fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = write(fd.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

Result<std::string> ReadAll(BorrowedFd fd, size_t bytes_max) {
  std::string all;
  char buffer[16384];
  while (true) {
    ssize_t n = read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read");
    if (n == 0) return all;
    if (all.size() + static_cast<size_t>(n) > bytes_max) {
      return Error(Code::kResourceExhausted, StrCat("more than ", bytes_max, " bytes to read"));
    }
    all.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace crisp::sys
