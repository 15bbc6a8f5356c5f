// A container's log file, in the kubelet's format, and the pipes that feed it.
//
// Back-pressure, not loss: a pipe is read only as fast as the file takes it. The one exception is a file that cannot be
// written (disk full, I/O error): then records are thrown away and counted, because stopping the container's output
// would stop the container, and a full log disk must not do that.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "codec/cri_log.h"
#include "shim/loop.h"

namespace crisp::shim {

class LogFile {
 public:
  // "" = everything is thrown away. The file is created (0640) or appended to; it must be a regular file and its last
  // component no symlink (the path lies in a directory that other programs write to).
  static Result<LogFile> Open(const std::string& path);

  // Opens the path anew and goes on there: after the kubelet has renamed the file. On an error the old file stays in use.
  Result<> Reopen();
  // Whole records. Never fails: see above.
  void Write(std::string_view records);
  void Close() { fd_.Reset(); }
  uint64_t bytes_lost() const { return bytes_lost_; }

 private:
  void GiveUp(size_t written_of_batch, std::string_view batch, int err);
  std::string path_;
  sys::UniqueFd fd_;
  uint64_t bytes_lost_ = 0;
  bool failing_ = false;
};

// Pumps one pipe (or pty master) into a LogFile. Owned by the container; unwatches itself at the end of the stream.
class LogPump {
 public:
  LogPump(codec::LogStream stream, Loop& loop, LogFile& file) : framer_(stream), loop_(loop), file_(file) {}
  LogPump(const LogPump&) = delete;
  LogPump& operator=(const LogPump&) = delete;
  ~LogPump() { loop_.Unwatch(watch_); }

  // `fd` is non-blocking. `on_end` is called once, at the end of the stream.
  Result<> Start(sys::UniqueFd fd, std::function<void()> on_end);
  // Who gets the raw bytes, once they are in the log.
  void CopyTo(std::function<void(std::string_view)> copy) { copy_ = std::move(copy); }
  // Nothing is read, but by Drain, until there was a Release for each Hold, or one ReleaseAll.
  void Hold();
  void Release();
  void ReleaseAll();
  bool open() const { return fd_.ok(); }
  // Reads what is there now, a megabyte at most.
  void Drain();

 private:
  enum class Read { kMore, kEmpty, kEnd };
  Read ReadOnce();
  void End();

  codec::CriLogFramer framer_;
  Loop& loop_;
  LogFile& file_;
  sys::UniqueFd fd_;
  Loop::Id watch_ = 0;
  std::function<void()> on_end_;
  std::function<void(std::string_view)> copy_;
  int held_ = 0;
};

}  // namespace crisp::shim
