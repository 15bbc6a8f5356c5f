#include "shim/log_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "base/time.h"

namespace crisp::shim {

namespace {

constexpr size_t kReadBytes = 16 * 1024;
static_assert(kScratchBytes - kReadBytes >= codec::kCriLogRecordMax);

Result<sys::UniqueFd> OpenLog(const std::string& path) {
  // O_NONBLOCK: a FIFO at this place must not hang us; it is refused just below.
  sys::UniqueFd fd = TRY(sys::Open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0640));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return Errno(errno, "stat " + path);
  if (!S_ISREG(info.st_mode)) return Error(Code::kFailedPrecondition, "log " + path + " is not a regular file");
  return fd;
}

}  // namespace

Result<LogFile> LogFile::Open(const std::string& path) {
  LogFile file;
  file.path_ = path;
  if (!path.empty()) file.fd_ = TRY(OpenLog(path));
  return file;
}

Result<> LogFile::Reopen() {
  if (path_.empty()) return {};
  fd_ = TRY(OpenLog(path_));
  return {};
}

void LogFile::Write(std::string_view records) {
  if (!fd_.ok()) return;
  size_t written = 0;
  while (written < records.size()) {
    ssize_t n = write(fd_.get(), records.data() + written, records.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return GiveUp(written, records, n < 0 ? errno : EIO);
    written += static_cast<size_t>(n);
  }
  if (failing_) LogInfo("log can be written again", {{"path", path_}, {"bytes_lost", bytes_lost_}});
  failing_ = false;
}

void LogFile::GiveUp(size_t written, std::string_view batch, int err) {
  // A record that got in only by half is taken out again, so that the file holds whole records only. We are the only
  // writer, so the end of the file is where our write ended.
  size_t whole = batch.substr(0, written).rfind('\n');
  whole = whole == std::string_view::npos ? 0 : whole + 1;
  struct stat info;
  if (written > whole && fstat(fd_.get(), &info) == 0 && info.st_size >= static_cast<off_t>(written - whole)) {
    [[maybe_unused]] int ignored = ftruncate(fd_.get(), info.st_size - static_cast<off_t>(written - whole));
  }
  bytes_lost_ += batch.size() - whole;
  if (!failing_) {
    LogWarning("log cannot be written, throwing output away", {{"path", path_}, {"error", Errno(err, "write")}});
  }
  failing_ = true;
}

Result<> LogPump::Start(sys::UniqueFd fd, std::function<void()> on_end) {
  watch_ = TRY(loop_.Watch(fd, EPOLLIN, [this](uint32_t) {
    if (held_ == 0 && ReadOnce() == Read::kEnd) End();
  }));
  fd_ = std::move(fd);
  on_end_ = std::move(on_end);
  return {};
}

void LogPump::Hold() {
  // One-shot and not zero: the end of the stream, which epoll tells unasked, would wake us again and again.
  if (++held_ == 1) loop_.Change(watch_, EPOLLONESHOT);
}

void LogPump::Release() {
  if (held_ > 0 && --held_ == 0) loop_.Change(watch_, EPOLLIN);
}

void LogPump::ReleaseAll() {
  if (std::exchange(held_, 0) > 0) loop_.Change(watch_, EPOLLIN);
}

LogPump::Read LogPump::ReadOnce() {
  char* buffer = Scratch();
  ssize_t n;
  do {
    n = read(fd_.get(), buffer, kReadBytes);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno == EAGAIN) return Read::kEmpty;
  if (n <= 0) return Read::kEnd;  // a pty master says EIO when the last slave is closed
  const std::string_view all(buffer, static_cast<size_t>(n));
  std::string_view bytes = all;
  const int64_t now = UnixNanosNow();
  while (!bytes.empty()) {
    size_t filled = framer_.Push(bytes, now, buffer + kReadBytes, kScratchBytes - kReadBytes);
    if (filled > 0) file_.Write({buffer + kReadBytes, filled});
  }
  if (copy_) copy_(all);
  return Read::kMore;
}

void LogPump::Drain() {
  for (int i = 0; fd_.ok() && i < 64; ++i) {
    switch (ReadOnce()) {
      case Read::kMore: continue;
      case Read::kEmpty: return;
      case Read::kEnd: return End();
    }
  }
}

void LogPump::End() {
  char* buffer = Scratch();
  size_t filled = framer_.Finish(UnixNanosNow(), buffer, kScratchBytes);
  if (filled > 0) file_.Write({buffer, filled});
  loop_.Unwatch(watch_);
  watch_ = 0;
  fd_.Reset();
  std::function<void()> on_end = std::move(on_end_);
  on_end_ = nullptr;
  if (on_end) on_end();
}

}  // namespace crisp::shim
