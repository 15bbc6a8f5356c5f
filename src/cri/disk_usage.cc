#include "cri/disk_usage.h"

#include <dirent.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <set>

#include "base/strings.h"
#include "base/time.h"
#include "sys/fd.h"
#include "sys/mountinfo.h"

namespace crisp::cri {
namespace {

// A container's directory also holds, for a while, what is not its doing: a checkpoint of its memory that is being
// written or restored (pod/paths.h), and, where the kernel needs that, a mount of the image store (rootfs/rootfs.cc),
// which is on the same device.
bool IsOurs(std::string_view name) { return name == "dump" || name == "checkpoint" || name == "layers"; }

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
      if (name == "." || name == ".." || (depth == 0 && IsOurs(name))) continue;
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

DiskUsage::~DiskUsage() { stopping_.request_stop(); }

std::string DiskUsage::Device() {
  {
    auto state = state_.Lock();
    if (state->device) return *state->device;
  }
  std::string device;
  if (Result<std::vector<sys::MountInfo>> mounts = sys::ReadMountInfo()) {
    if (const sys::MountInfo* mount = sys::FindMount(*mounts, dir_)) device = mount->source;
  }
  state_.Lock()->device = device;
  return device;
}

Result<DiskUsage::Part> DiskUsage::MeasurePart(const Ctx& ctx, const std::string& name) const {
  image::FsUsage usage = TRY(MeasureTree(ctx, dir_ + "/" + name));
  return Part{.used_bytes = usage.used_bytes, .inodes_used = usage.inodes_used, .at_unix_nanos = UnixNanosNow()};
}

Result<> DiskUsage::MeasureAll(const Ctx& ctx) {
  Clock::time_point began = Clock::now();
  std::unordered_map<std::string, Part> parts;
  Measured total{.usage = {.mountpoint = dir_}, .at_unix_nanos = UnixNanosNow()};
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir_, error)) {
    std::string name = entry.path().filename().string();
    Part part = TRY(MeasurePart(ctx, name));
    total.usage.used_bytes += part.used_bytes;
    total.usage.inodes_used += part.inodes_used + 1;
    parts.emplace(std::move(name), part);
  }
  if (!removed_.empty()) {
    image::FsUsage going = TRY(MeasureTree(ctx, removed_));
    total.usage.used_bytes += going.used_bytes;
    total.usage.inodes_used += going.inodes_used;
  }
  constexpr std::chrono::seconds kYoung(5), kOld(30);
  Clock::time_point now = Clock::now();
  auto state = state_.Lock();
  state->again_at = now + std::max<Clock::duration>(kYoung, 20 * (now - began));
  state->old_at = std::max(state->again_at, now + kOld);
  state->total = std::move(total);
  state->parts.swap(parts);
  ++state->generation;
  return {};
}

Result<> DiskUsage::Refresh(const Ctx& ctx) {
  bool in_background = false;
  {
    auto state = state_.Lock();
    Clock::time_point now = Clock::now();
    bool have = state->total.at_unix_nanos != 0;
    if (have && (state->measuring || now < state->again_at)) return {};
    state->measuring = true;
    in_background = have && now < state->old_at;
  }
  auto measure = [this](const Ctx& measure_ctx) {
    Result<> done = MeasureAll(measure_ctx);
    state_.Lock()->measuring = false;
    return done;
  };
  Ctx background(Clock::time_point::max(), stopping_.get_token(), "disk usage");
  // An error of a measurement in the background is the next caller's to find.
  if (!in_background || !background_.Submit([=] { (void)measure(background); })) TRY(measure(ctx));
  return {};
}

Result<DiskUsage::Measured> DiskUsage::Total(const Ctx& ctx) {
  TRY(Refresh(ctx));
  return state_.Lock()->total;
}

Result<DiskUsage::Measured> DiskUsage::Of(const Ctx& ctx, const std::string& name) {
  const std::string* names[] = {&name};
  std::optional<Part> part = OfMany(ctx, names)[0];
  if (!part) return Error(Code::kUnavailable, StrCat(dir_, "/", name, " cannot be measured"));
  return Measured{.usage = {.mountpoint = dir_, .used_bytes = part->used_bytes, .inodes_used = part->inodes_used},
                  .at_unix_nanos = part->at_unix_nanos};
}

Result<uint64_t> DiskUsage::Generation(const Ctx& ctx) {
  TRY(Refresh(ctx));
  return state_.Lock()->generation;
}

std::vector<std::optional<DiskUsage::Part>> DiskUsage::OfMany(const Ctx& ctx,
                                                              std::span<const std::string* const> names) {
  std::vector<std::optional<Part>> out(names.size());
  if (!Refresh(ctx)) return out;
  std::vector<size_t> unknown;
  {
    auto state = state_.Lock();
    for (size_t i = 0; i < names.size(); ++i) {
      if (auto found = state->parts.find(*names[i]); found != state->parts.end()) {
        out[i] = found->second;
      } else {
        unknown.push_back(i);
      }
    }
  }
  for (size_t i : unknown) {
    if (Result<Part> part = MeasurePart(ctx, *names[i])) out[i] = *part;
  }
  auto state = state_.Lock();
  for (size_t i : unknown) {
    if (out[i]) state->parts.emplace(*names[i], *out[i]);
  }
  return out;
}

}  // namespace crisp::cri
