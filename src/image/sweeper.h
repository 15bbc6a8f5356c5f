// Sweeper: removes directory trees on a thread of its own, so that no caller waits for it. A tree is first renamed into the
// trash (a directory of the same file system); what is there when the program dies is removed at the next start.
// Threading: any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.h"

namespace crisp::image {

class Sweeper {
 public:
  // Removes whatever lies in `trash_dir` (existing) from an earlier life, in the background.
  explicit Sweeper(std::string trash_dir);
  // Ends after the tree that is being removed now; the rest stays for the next start.
  ~Sweeper();

  // `path` is gone from its place when this returns. Missing is success.
  Result<> Trash(const std::string& path);
  void Drain();  // until the trash is empty

 private:
  void Loop();

  const std::string trash_dir_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> queue_;
  bool busy_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace crisp::image
