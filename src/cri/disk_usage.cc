#include "cri/disk_usage.h"

#include <dirent.h>
#include <sys/stat.h>

#include <cerrno>
#include <set>

#include "base/time.h"
#include "sys/fd.h"

namespace crisp::cri {
namespace {

class Walk {
 public:
  explicit Walk(const Ctx& ctx) : ctx_(ctx) {}

  // Takes the directory apart by descriptors: paths of a container's files may be longer than PATH_MAX.
  Result<> Enter(sys::UniqueFd fd, int depth) {
    constexpr int kDepthMax = 512;
    if (depth > kDepthMax) return {};
    TRY(ctx_.Check());
    int raw = fd.Release();
    DIR* dir = fdopendir(raw);
    if (dir == nullptr) {
      int error = errno;
      sys::UniqueFd closer(raw);
      return Errno(error, "fdopendir");
    }
    Result<> done = Entries(dir, depth);
    closedir(dir);
    return done;
  }

  image::FsUsage usage;
  dev_t device = 0;

 private:
  Result<> Entries(DIR* dir, int depth) {
    while (const dirent* entry = readdir(dir)) {
      std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      struct stat st;
      if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;  // gone meanwhile
      if (st.st_dev != device) continue;
      if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && !linked_.insert(st.st_ino).second) continue;
      usage.used_bytes += static_cast<uint64_t>(st.st_blocks) * 512;
      ++usage.inodes_used;
      if (!S_ISDIR(st.st_mode)) continue;
      Result<sys::UniqueFd> child =
          sys::OpenAt(sys::BorrowedFd(dirfd(dir)), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (child) TRY(Enter(*std::move(child), depth + 1));
    }
    return {};
  }

  const Ctx& ctx_;
  std::set<ino_t> linked_;
};

}  // namespace

Result<image::FsUsage> MeasureTree(const Ctx& ctx, const std::string& dir) {
  Walk walk(ctx);
  walk.usage.mountpoint = dir;
  Result<sys::UniqueFd> fd = sys::Open(dir, O_RDONLY | O_DIRECTORY);
  if (!fd) {
    if (fd.error().code() == Code::kNotFound) return walk.usage;
    return std::move(fd).error();
  }
  struct stat st;
  if (fstat(fd->get(), &st) != 0) return Errno(errno, "stat " + dir);
  walk.device = st.st_dev;
  TRY(walk.Enter(*std::move(fd), 0));
  return std::move(walk.usage);
}

Result<DiskUsage::Measured> DiskUsage::Get(const Ctx& ctx) {
  {
    auto state = state_.Lock();
    bool have = state->last.at_unix_nanos != 0;
    if (have && (state->measuring || Clock::now() < state->again_at)) return state->last;
    state->measuring = true;
  }
  Clock::time_point began = Clock::now();
  Result<image::FsUsage> usage = MeasureTree(ctx, dir_);
  auto state = state_.Lock();
  state->measuring = false;
  if (!usage) return std::move(usage).error();
  constexpr std::chrono::seconds kYoung(5);
  state->again_at = Clock::now() + std::max<Clock::duration>(kYoung, 20 * (Clock::now() - began));
  state->last = {.usage = *std::move(usage), .at_unix_nanos = UnixNanosNow()};
  return state->last;
}

}  // namespace crisp::cri
