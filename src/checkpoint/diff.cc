#include "checkpoint/diff.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <set>

#include "base/strings.h"
#include "codec/tar.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::checkpoint {

namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr int kDepthMax = 256;  // each costs a descriptor
constexpr size_t kXattrBytesMax = 64 * 1024;

using Listing = std::unique_ptr<DIR, int (*)(DIR*)>;

Result<std::vector<std::string>> List(sys::BorrowedFd dir) {
  sys::UniqueFd own = TRY(sys::OpenAt(dir, ".", O_RDONLY | O_DIRECTORY));
  Listing listing(fdopendir(own.Release()), closedir);
  if (listing == nullptr) return Errno(errno, "list a directory");
  std::vector<std::string> names;
  while (const dirent* entry = readdir(listing.get())) {
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// overlayfs's own marks (fs/overlayfs): a character device 0/0 stands for a deleted name, this attribute for a
// directory that hides all below it.
bool IsWhiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0); }
bool IsOpaque(sys::BorrowedFd dir) {
  char value[2] = {};
  return fgetxattr(dir.get(), "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

bool IsKeptXattr(std::string_view name) {
  return name == "security.capability" || name == "system.posix_acl_access" || name == "system.posix_acl_default" ||
         name.starts_with("user.");
}

class DiffWriter {
 public:
  DiffWriter(const Ctx& ctx, const std::vector<std::string>& layer_dirs, sys::UniqueFd out, uint64_t bytes_max)
      : ctx_(ctx), layer_dirs_(layer_dirs), out_(std::move(out)), left_(bytes_max) {}

  Result<> Walk(sys::BorrowedFd dir, const std::string& path, int depth);
  Result<> Finish() { return Write(codec::TarTrailer()); }
  std::vector<std::string> TakeDeleted() { return {deleted_.begin(), deleted_.end()}; }

 private:
  Result<> Add(sys::BorrowedFd dir, const std::string& name, const std::string& path, int depth);
  Result<> AddContent(sys::BorrowedFd file, uint64_t size, const std::string& path);
  Result<> AddXattrs(const std::string& proc_path, codec::TarEntry& entry);
  Result<> NoteHidden(const std::string& path, const std::vector<std::string>& kept);
  Result<> Write(std::string_view bytes) {
    if (bytes.size() > left_)
      return Error(Code::kResourceExhausted, "the changed files are larger than checkpoint.bytes_max");
    left_ -= bytes.size();
    return sys::WriteAll(out_, bytes);
  }

  const Ctx& ctx_;
  const std::vector<std::string>& layer_dirs_;
  sys::UniqueFd out_;
  uint64_t left_;
  dev_t device_ = 0;
  std::set<std::string> deleted_;
  std::map<ino_t, std::string> linked_;  // first name of files that have several
  std::string buffer_ = std::string(kBufferBytes, '\0');
};

Result<> DiffWriter::Walk(sys::BorrowedFd dir, const std::string& path, int depth) {
  if (depth > kDepthMax) return Error(Code::kResourceExhausted, "directories of the container are nested too deeply");
  std::vector<std::string> names = TRY(List(dir));
  if (IsOpaque(dir)) TRY(NoteHidden(path, names));
  for (const std::string& name : names) {
    TRY(ctx_.Check());
    TRY(Add(dir, name, path.empty() ? name : StrCat(path, "/", name), depth));
  }
  return {};
}

// Names of the layers that the directory `path`, which the container made anew, does not show any more.
Result<> DiffWriter::NoteHidden(const std::string& path, const std::vector<std::string>& kept) {
  for (const std::string& layer : layer_dirs_) {
    sys::UniqueFd root = TRY(sys::Open(layer, O_PATH | O_DIRECTORY));
    Result<sys::UniqueFd> dir = sys::OpenInRoot(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!dir) continue;
    for (const std::string& name : TRY(List(*dir))) {
      if (!std::binary_search(kept.begin(), kept.end(), name)) deleted_.insert(StrCat(path, "/", name));
    }
  }
  return {};
}

Result<> DiffWriter::AddXattrs(const std::string& proc_path, codec::TarEntry& entry) {
  std::string names(kXattrBytesMax, '\0'), value(kXattrBytesMax, '\0');
  ssize_t n = listxattr(proc_path.c_str(), names.data(), names.size());
  if (n < 0) return {};  // a file system without
  names.resize(static_cast<size_t>(n));
  for (std::string_view name : Split(names, '\0')) {
    if (name.empty() || !IsKeptXattr(name)) continue;
    ssize_t size = getxattr(proc_path.c_str(), std::string(name).c_str(), value.data(), value.size());
    if (size >= 0) entry.xattrs.emplace_back(name, value.substr(0, static_cast<size_t>(size)));
  }
  return {};
}

Result<> DiffWriter::Add(sys::BorrowedFd dir, const std::string& name, const std::string& path, int depth) {
  using Type = codec::TarEntry::Type;
  struct stat info;
  if (fstatat(dir.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return Errno(errno, "stat " + path);
  }
  if (device_ == 0) device_ = info.st_dev;
  if (info.st_dev != device_ || S_ISSOCK(info.st_mode)) return {};
  if (IsWhiteout(info)) {
    deleted_.insert(path);
    return {};
  }
  codec::TarEntry entry;
  entry.path = path;
  entry.mode = info.st_mode & 07777;
  entry.uid = info.st_uid;
  entry.gid = info.st_gid;
  entry.mtime_seconds = info.st_mtim.tv_sec;
  entry.mtime_nanos = static_cast<int32_t>(info.st_mtim.tv_nsec);
  if (!S_ISDIR(info.st_mode) && info.st_nlink > 1) {
    auto [first, is_new] = linked_.try_emplace(info.st_ino, path);
    if (!is_new) {
      entry.type = Type::kHardlink;
      entry.link_target = first->second;
      std::string header = TRY(codec::TarHeader(entry));
      return Write(header);
    }
  }
  if (S_ISLNK(info.st_mode)) {
    std::string target(4096, '\0');
    ssize_t n = readlinkat(dir.get(), name.c_str(), target.data(), target.size());
    if (n < 0) return Errno(errno, "read the link " + path);
    entry.type = Type::kSymlink;
    entry.link_target = target.substr(0, static_cast<size_t>(n));
    std::string header = TRY(codec::TarHeader(entry));
    return Write(header);
  }
  if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode)) {
    entry.type = S_ISFIFO(info.st_mode) ? Type::kFifo : S_ISCHR(info.st_mode) ? Type::kCharDevice : Type::kBlockDevice;
    if (!S_ISFIFO(info.st_mode)) entry.device_major = major(info.st_rdev), entry.device_minor = minor(info.st_rdev);
    std::string header = TRY(codec::TarHeader(entry));
    return Write(header);
  }
  const bool is_dir = S_ISDIR(info.st_mode);
  sys::UniqueFd fd = TRY(sys::OpenAt(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | (is_dir ? O_DIRECTORY : 0)), path);
  entry.type = is_dir ? Type::kDirectory : Type::kFile;
  if (is_dir) entry.path += '/';
  entry.size = is_dir ? 0 : static_cast<uint64_t>(info.st_size);
  TRY(AddXattrs(StrCat("/proc/self/fd/", fd.get()), entry));
  std::string header = TRY(codec::TarHeader(entry));
  TRY(Write(header));
  return is_dir ? Walk(fd, path, depth + 1) : AddContent(fd, entry.size, path);
}

Result<> DiffWriter::AddContent(sys::BorrowedFd file, uint64_t size, const std::string& path) {
  for (uint64_t left = size; left > 0;) {
    TRY(ctx_.Check());
    ssize_t n = read(file.get(), buffer_.data(), std::min<uint64_t>(buffer_.size(), left));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read " + path);
    if (n == 0) return Error(Code::kAborted, StrCat(Quote(path), " became shorter while it was read"));
    TRY(Write({buffer_.data(), static_cast<size_t>(n)}));
    left -= static_cast<uint64_t>(n);
  }
  return Write(codec::TarPadding(size));
}

}  // namespace

Result<Diff> WriteDiff(const Ctx& ctx, const std::string& upper_dir, const std::vector<std::string>& layer_dirs,
                       const std::string& tar_path, uint64_t bytes_max) {
  sys::UniqueFd upper = TRY(sys::Open(upper_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  sys::UniqueFd out = TRY(sys::Open(tar_path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  DiffWriter writer(ctx, layer_dirs, std::move(out), bytes_max);
  TRY(writer.Walk(upper, "", 0));
  TRY(writer.Finish());
  return Diff{writer.TakeDeleted()};
}

Result<> ApplyDeleted(const Ctx& ctx, const std::string& rootfs, const std::vector<std::string>& paths) {
  sys::UniqueFd root = TRY(sys::Open(rootfs, O_RDONLY | O_DIRECTORY));
  for (const std::string& path : paths) {
    TRY(ctx.Check());
    size_t slash = path.rfind('/');
    std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
    Result<sys::UniqueFd> dir = sys::OpenInRoot(root, parent, O_RDONLY | O_DIRECTORY);
    if (!dir) continue;  // went with its parent
    TRY(sys::RemoveTreeAt(*dir, slash == std::string::npos ? path : path.substr(slash + 1)),
        StrCat("deleted file ", Quote(path)));
  }
  return {};
}

}  // namespace crisp::checkpoint
