// File descriptors with an owner. Everything is close-on-exec from birth; what a child shall inherit is said at spawn.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace crisp::sys {

// Somebody else's descriptor, valid while the owner lives. AT_FDCWD is allowed where a directory is wanted.
class BorrowedFd {
 public:
  constexpr explicit BorrowedFd(int fd) : fd_(fd) {}
  constexpr int get() const { return fd_; }

 private:
  int fd_;
};

// Owns one descriptor. Closing is never retried on EINTR (on Linux the descriptor is gone by then) and keeps errno.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(); }

  bool ok() const { return fd_ >= 0; }
  bool operator!() const = delete;  // catches `if (!fd)`, which would look right and be wrong
  int get() const { return fd_; }
  BorrowedFd borrow() const { return BorrowedFd(fd_); }
  operator BorrowedFd() const { return BorrowedFd(fd_); }
  [[nodiscard]] int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1);

 private:
  int fd_ = -1;
};

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

// open(2) with O_CLOEXEC added, EINTR retried. Errors name the path.
Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode = 0);
Result<UniqueFd> OpenAt(BorrowedFd dir, const std::string& path, int flags, mode_t mode = 0);
// openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS): `path` as a process chrooted into `root` would see it; no symlink
// leads out. (linux/openat2.h; retried on EAGAIN, which a rename in the tree causes.)
Result<UniqueFd> OpenInRoot(BorrowedFd root, const std::string& path, int flags, mode_t mode = 0);
Result<Pipe> MakePipe();
Result<UniqueFd> Dup(BorrowedFd fd);

// Whole buffers, EINTR retried. ReadAll stops at end of file and errors with kResourceExhausted past `bytes_max`.
Result<> WriteAll(BorrowedFd fd, std::string_view bytes);
Result<std::string> ReadAll(BorrowedFd fd, size_t bytes_max);

}  // namespace crisp::sys
