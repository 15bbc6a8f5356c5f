#include "shim/oom_watch.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::shim {

namespace {

constexpr size_t kFileBytesMax = 4096;  // ten short lines
// Between the limit that was hit and the end of the process that is killed for it.
constexpr std::chrono::seconds kDeathTime{2};

uint64_t ValueOf(std::string_view text, std::string_view key) {
  for (std::string_view line : Split(text, '\n')) {
    if (line.starts_with(key)) return ParseInt<uint64_t>(line.substr(key.size())).value_or(0);
  }
  return 0;
}

}  // namespace

OomWatch::~OomWatch() {
  for (File& file : files_) loop_.Unwatch(file.watch);
}

void OomWatch::PassOver(const std::vector<std::string>& files) {
  for (const std::string& path : files) {
    Result<std::string> text = sys::ReadFile(path, kFileBytesMax);
    if (!text) continue;
    kills_before_ = std::max(kills_before_, ValueOf(*text, "oom_kill "));
    limit_hits_ = std::max(limit_hits_, ValueOf(*text, "oom "));
  }
}

void OomWatch::Start(const std::vector<std::string>& files) {
  files_.reserve(files.size());  // callbacks hold on to the elements
  for (const std::string& path : files) {
    Result<sys::UniqueFd> fd = sys::Open(path, O_RDONLY);
    if (!fd) continue;  // of the other cgroup version, or gone already
    File& file = files_.emplace_back(File{std::move(*fd), 0});
    // Without a watch it is read at the end all the same.
    Result<Loop::Id> watch = loop_.Watch(file.fd, EPOLLPRI, [this, &file](uint32_t) { Look(file); });
    if (watch) file.watch = *watch;
    Look(file);
  }
}

// The read also arms the file for the next change (kernfs). A file that was removed is ready for ever and unreadable.
void OomWatch::Look(File& file) {
  char buffer[kFileBytesMax];
  ssize_t n = pread(file.fd.get(), buffer, sizeof buffer, 0);
  if (n < 0) {
    gone_ = true;
    loop_.Unwatch(std::exchange(file.watch, 0));
    return;
  }
  std::string_view text(buffer, static_cast<size_t>(n));
  kills_ = std::max(kills_, ValueOf(text, "oom_kill "));
  uint64_t hits = ValueOf(text, "oom ");
  if (hits > limit_hits_) hit_at_ = std::chrono::steady_clock::now();
  limit_hits_ = std::max(limit_hits_, hits);
}

bool OomWatch::Finish(bool killed) {
  for (File& file : files_) {
    Look(file);
    loop_.Unwatch(file.watch);
  }
  files_.clear();
  if (kills_ > kills_before_) return true;
  // The kernel tells at most one change in 10 ms. So it may be that a limit was hit came through, and that somebody was
  // killed for it did not before the file was gone.
  return gone_ && killed && limit_hits_ > 0 && std::chrono::steady_clock::now() - hit_at_ < kDeathTime;
}

}  // namespace crisp::shim
