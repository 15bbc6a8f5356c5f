#include "ctl/log_follow.h"

#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdint>

#include "base/strings.h"

namespace crisp::ctl {

namespace {

constexpr int kAskAgainMs = 1000;
constexpr off_t kTailBlock = 64 << 10;

// Offset of the last `lines` lines of a file: reads backwards, block by block.
Result<off_t> FindTail(sys::BorrowedFd fd, size_t lines) {
  struct stat st{};
  if (fstat(fd.get(), &st) != 0) return Errno(errno, "stat the log");
  std::string bytes;
  off_t begin = st.st_size;
  while (true) {
    // The byte before the wanted first line is a newline: with it in view the answer is final.
    size_t offset = TailOffset(bytes, lines);
    if (begin == 0 || offset > 0) return begin + static_cast<off_t>(offset);
    off_t step = std::min(begin, std::max<off_t>(kTailBlock, static_cast<off_t>(bytes.size())));
    std::string block(static_cast<size_t>(step), '\0');
    ssize_t got = pread(fd.get(), block.data(), block.size(), begin - step);
    if (got < 0) return Errno(errno, "read the log");
    block.resize(static_cast<size_t>(got));
    bytes.insert(0, block);
    begin -= step;
  }
}

bool SameFile(sys::BorrowedFd fd, const std::string& path) {
  struct stat ours{}, named{};
  if (fstat(fd.get(), &ours) != 0) return false;
  if (stat(path.c_str(), &named) != 0) return errno == ENOENT;  // between rename and reopen: the old one is still it
  return ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

}  // namespace

Result<LogFile> LogFile::Open(const std::string& path, std::optional<size_t> tail_lines) {
  sys::UniqueFd file = TRY(sys::Open(path, O_RDONLY | O_NOCTTY));
  if (tail_lines) {
    off_t offset = TRY(FindTail(file, *tail_lines));
    if (lseek(file.get(), offset, SEEK_SET) < 0) return Errno(errno, StrCat("seek in ", path));
  }
  return LogFile(path, std::move(file));
}

Result<bool> LogFile::Read(LogSelector& selector, size_t bytes_max) {
  std::array<char, 64 << 10> buffer;
  size_t taken = 0;
  while (!selector.done() && taken < bytes_max) {
    ssize_t got = read(file_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Errno(errno, "read the log");
    if (got == 0) return false;
    taken += static_cast<size_t>(got);
    selector.Feed(std::string_view(buffer.data(), static_cast<size_t>(got)));
  }
  return !selector.done();
}

Result<bool> LogFile::FollowRotation(LogSelector& selector) {
  if (SameFile(file_, path_)) return false;
  while (TRY(Read(selector, SIZE_MAX))) {  // what came between our last read and the rename
  }
  auto next = sys::Open(path_, O_RDONLY | O_NOCTTY);
  if (next) {
    file_ = *std::move(next);
  } else if (next.error().code() != Code::kNotFound) {
    return std::move(next).error();
  }  // else renamed once more meanwhile: the next round looks again
  return true;
}

Result<LogWatch> LogWatch::Make() {
  sys::UniqueFd fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.ok()) return Errno(errno, "inotify_init");
  return LogWatch(std::move(fd));
}

Result<> LogWatch::AddDirectoryOf(const std::string& path) {
  std::string dir = path.substr(0, path.rfind('/'));
  if (inotify_add_watch(fd_.get(), dir.c_str(), IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0) {
    return Errno(errno, StrCat("watch ", dir));
  }
  return {};
}

bool LogWatch::Wait() const {
  pollfd wanted{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  if (poll(&wanted, 1, kAskAgainMs) <= 0) return false;
  std::array<char, 4096> events;
  while (read(fd_.get(), events.data(), events.size()) > 0) {
  }
  return true;
}

Result<> ReadLog(const LogReading& reading, LogSelector& selector) {
  LogFile file = TRY(LogFile::Open(reading.path, reading.tail_lines));
  while (TRY(file.Read(selector, SIZE_MAX))) {
  }
  if (!reading.follow) {
    selector.Finish();
    return {};
  }
  LogWatch watch = TRY(LogWatch::Make());
  TRY(watch.AddDirectoryOf(reading.path));
  bool last_round = false;
  while (!selector.done()) {
    while (TRY(file.Read(selector, SIZE_MAX))) {
    }
    if (TRY(file.FollowRotation(selector))) continue;
    if (last_round) break;
    // The writer ends before it tells so: one more round reads all of it.
    if (!watch.Wait()) last_round = !reading.still_written();
  }
  selector.Finish();
  return {};
}

}  // namespace crisp::ctl
