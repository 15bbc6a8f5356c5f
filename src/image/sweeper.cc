#include "image/sweeper.h"

#include <cerrno>
#include <cstdio>

#include "base/ids.h"
#include "base/log.h"
#include "base/strings.h"
#include "image/directory.h"
#include "sys/file.h"

namespace crisp::image {

Sweeper::Sweeper(std::string trash_dir) : trash_dir_(std::move(trash_dir)) {
  Result<std::vector<std::string>> names = ListDirectory(trash_dir_);
  if (names) {
    for (const std::string& name : *names) queue_.push_back(StrCat(trash_dir_, "/", name));
  }
  thread_ = std::thread([this] { Loop(); });
}

Sweeper::~Sweeper() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<> Sweeper::Trash(const std::string& path) {
  std::string place = StrCat(trash_dir_, "/", RandomHex(8));
  if (rename(path.c_str(), place.c_str()) != 0) {
    if (errno == ENOENT) return {};
    return Errno(errno, StrCat("rename ", path, " to ", place));
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(place));
  }
  changed_.notify_all();
  return {};
}

void Sweeper::Drain() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty() && !busy_; });
}

void Sweeper::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    std::string path = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    if (Result<> removed = sys::RemoveTree(path); !removed) {
      // Library code that has nobody to return to. It is tried again at the next start.
      LogWarning("trash was not removed, the next start will try again", {{"path", path}, {"error", removed.error()}});
    }
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace crisp::image
