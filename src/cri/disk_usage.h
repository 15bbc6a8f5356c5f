// How much disk a directory tree takes, measured in the background: the kubelet asks every ten seconds and a tree of
// many containers takes long to walk. Threading: any thread.
#pragma once

#include <map>
#include <string>

#include "base/context.h"
#include "base/synchronized.h"
#include "image/types.h"

namespace crisp::cri {

// Counts allocated blocks and inodes below `dir`, hard links once, without crossing into other mounts. What vanishes
// meanwhile is not counted; a missing `dir` is empty.
Result<image::FsUsage> MeasureTree(const Ctx& ctx, const std::string& dir);

class DiskUsage {
 public:
  // `dir` has one directory for each container. It is also the mount point that is reported: the kubelet looks up its
  // file system.
  explicit DiskUsage(std::string dir) : dir_(std::move(dir)) {}

  struct Measured {
    image::FsUsage usage;
    int64_t at_unix_nanos = 0;
  };
  // The last measurement if it is young enough, else a new one. "Young" grows with what measuring costs, so that no
  // more than about a twentieth of a thread's time goes there. A caller that comes while another measures gets the last
  // value.
  Result<Measured> Total(const Ctx& ctx);
  // The same of the directory `name` in it. One that came after the last measurement is measured by itself.
  Result<Measured> Of(const Ctx& ctx, const std::string& name);

 private:
  struct State {
    Measured total;
    std::map<std::string, Measured> parts;
    Clock::time_point again_at = Clock::time_point::min();
    bool measuring = false;
  };
  Result<Measured> MeasurePart(const Ctx& ctx, const std::string& name) const;
  Result<> MeasureAll(const Ctx& ctx);

  const std::string dir_;
  Synchronized<State> state_;
};

}  // namespace crisp::cri
