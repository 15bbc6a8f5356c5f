// Whether the kernel's OOM killer struck in a container's cgroup: learnt while it happens, since afterwards the cgroup may
// be gone. systemd removes a scope's cgroup as soon as its last process has ended, often before the shim has reaped it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "shim/loop.h"

namespace crisp::shim {

class OomWatch {
 public:
  explicit OomWatch(Loop& loop) : loop_(loop) {}
  OomWatch(const OomWatch&) = delete;
  OomWatch& operator=(const OomWatch&) = delete;
  ~OomWatch();

  // Before Start: what they tell by now was another process's.
  void PassOver(const std::vector<std::string>& files);
  // Holds those of `files` open that are there: memory.events, whose changes the kernel tells (cgroup-v2.rst: "a file
  // modified event"), or v1's memory.oom_control, which is read at the end only. Once.
  void Start(const std::vector<std::string>& files);
  // Looks a last time and closes the files. `killed`: the container's process was ended by SIGKILL.
  bool Finish(bool killed);

 private:
  struct File {
    sys::UniqueFd fd;
    Loop::Id watch = 0;
  };
  void Look(File& file);

  Loop& loop_;
  std::vector<File> files_;
  uint64_t limit_hits_ = 0;  // `oom`: a limit was hit, somebody will be killed
  uint64_t kills_ = 0;       // `oom_kill`: somebody was
  uint64_t kills_before_ = 0;
  std::chrono::steady_clock::time_point hit_at_;
  bool gone_ = false;  // a file was removed while it was watched
};

}  // namespace crisp::shim
