// How much disk a directory tree takes. The kubelet asks every ten seconds and a tree of many containers takes long to
// walk, so it is measured in the background, on one thread. Threading: any thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/context.h"
#include "base/pool.h"
#include "base/synchronized.h"
#include "image/types.h"

namespace crisp::cri {

// Counts allocated blocks and inodes below `dir`, hard links once, without crossing into other mounts. What vanishes
// meanwhile is not counted; a missing `dir` is empty.
Result<image::FsUsage> MeasureTree(const Ctx& ctx, const std::string& dir);

class DiskUsage {
 public:
  // `dir` has one directory for each container. It is also the mount point that is reported: the kubelet looks up its
  // file system. `removed`, if any, has what is being deleted of removed ones: part of the total.
  explicit DiskUsage(std::string dir, std::string removed = {}) : dir_(std::move(dir)), removed_(std::move(removed)) {}
  ~DiskUsage();

  const std::string& dir() const { return dir_; }
  // What is mounted where `dir` lies ("/dev/vda1"), looked up once.
  std::string Device();

  struct Measured {
    image::FsUsage usage;
    int64_t at_unix_nanos = 0;
  };
  // The last measurement. Where it is not young any more a new one begins in the background; where it is old (half a
  // minute), or there is none, the caller measures and gets the new one. "Young" grows with what measuring costs, so
  // that no more than about a twentieth of a thread's time goes there. A caller that comes while another measures gets
  // the last value.
  Result<Measured> Total(const Ctx& ctx);
  // The same of the directory `name` in it. One that came after the last measurement is measured by itself.
  Result<Measured> Of(const Ctx& ctx, const std::string& name);
  // Of many at once. Without what cannot be measured; all without, when there is no measurement.
  struct Part {
    uint64_t used_bytes = 0, inodes_used = 0;
    int64_t at_unix_nanos = 0;
  };
  // Grows by each measurement of all, which is begun here where it is owed.
  Result<uint64_t> Generation(const Ctx& ctx);
  std::vector<std::optional<Part>> OfMany(const Ctx& ctx, std::span<const std::string* const> names);

 private:
  struct State {
    Measured total;
    std::unordered_map<std::string, Part> parts;
    uint64_t generation = 0;
    Clock::time_point again_at = Clock::time_point::min();
    Clock::time_point old_at = Clock::time_point::min();
    bool measuring = false;
    std::optional<std::string> device;
  };
  // Makes a measurement where one is owed.
  Result<> Refresh(const Ctx& ctx);
  Result<Part> MeasurePart(const Ctx& ctx, const std::string& name) const;
  Result<> MeasureAll(const Ctx& ctx);

  const std::string dir_, removed_;
  Synchronized<State> state_;
  std::stop_source stopping_;
  Pool background_{{.name = "cri-disk", .threads_max = 1, .queue_max = 1}};
};

}  // namespace crisp::cri
