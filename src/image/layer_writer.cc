#include "image/layer_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

using Type = codec::TarEntry::Type;

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kWhiteoutMetaPrefix = ".wh..wh.";  // of AUFS; but for the next one without meaning here
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";
constexpr const char* kOpaqueAttribute = "trusted.overlay.opaque";
constexpr std::string_view kDefaultAcl = "system.posix_acl_default";
constexpr uint64_t kBlockBytes = 4096;

uint64_t Blocks(uint64_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes; }

// A closed list: what is not here could steer overlayfs, IMA, EVM or an LSM of the host.
bool IsWantedXattr(std::string_view name) {
  if (name == "security.capability" || name == "system.posix_acl_access" || name == kDefaultAcl) return true;
  return name.starts_with("user.") && name != "user.overlay" && !name.starts_with("user.overlay.");
}

// Inside a directory that is itself a marker, as AUFS kept its hard links in `.wh..wh.plnk/`.
bool IsBelowMarker(std::string_view path) {
  size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return false;
  path = path.substr(0, slash);
  return path.starts_with(kWhiteoutPrefix) || path.find("/.wh.") != std::string_view::npos;
}

Error Refused(const std::string& path, std::string_view why) {
  return Error(Code::kInvalidArgument, StrCat("layer entry ", Quote(path), ": ", why));
}

}  // namespace

std::string CleanLayerPath(std::string_view path) {
  std::string clean;
  clean.reserve(path.size());
  size_t at = 0;
  while (at < path.size()) {
    size_t end = std::min(path.find('/', at), path.size());
    std::string_view part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      size_t slash = clean.rfind('/');
      clean.resize(slash == std::string::npos ? 0 : slash);
      continue;
    }
    if (!clean.empty()) clean += '/';
    clean += part;
  }
  return clean;
}

Result<> LayerWriter::OnEntry(const codec::TarEntry& entry) {
  entry_ = entry;
  TRY(Count(1, entry.size));
  const std::string path = CleanLayerPath(entry.path);
  if (path.empty()) return ApplyRoot();
  if (IsBelowMarker(path)) return {};
  Place place = TRY(Locate(path), StrCat("layer entry ", Quote(entry.path)));
  if (place.name.starts_with(kWhiteoutPrefix)) return ApplyWhiteout(place);
  switch (entry.type) {
    case Type::kFile: return BeginFile(place);
    case Type::kDirectory: return ApplyDirectory(place, path);
    case Type::kHardlink: return ApplyHardlink(place);
    case Type::kSymlink: return ApplySymlink(place);
    case Type::kCharDevice:
    case Type::kBlockDevice:
    case Type::kFifo: return ApplyNode(place);
  }
  return {};
}

Result<> LayerWriter::Count(uint64_t entries, uint64_t bytes) {
  entries_ += entries;
  bytes_ += bytes;  // no overflow: one entry is at most 1 TiB, and the sum is checked after each
  if (entries_ > limits_.entries_max) {
    return Error(Code::kResourceExhausted, StrCat("the layer has more than ", limits_.entries_max, " entries"));
  }
  if (bytes_ > limits_.bytes_max) {
    return Error(Code::kResourceExhausted, StrCat("the layer is larger than ", limits_.bytes_max, " bytes"));
  }
  return {};
}

Result<> LayerWriter::CountPath(const std::string& path) {
  path_bytes_ += path.size() + sizeof(Directory);
  if (path_bytes_ > limits_.directory_path_bytes_max) {
    return Error(Code::kResourceExhausted, "the layer has too many directories");
  }
  return {};
}

Result<> LayerWriter::Remember(Directory directory) {
  TRY(CountPath(directory.path));
  directories_.push_back(std::move(directory));
  return {};
}

// ---- where an entry goes

Result<LayerWriter::Place> LayerWriter::Locate(const std::string& clean_path) {
  Place place;
  size_t slash = clean_path.rfind('/');
  if (slash == std::string::npos) {
    place.name = clean_path;
  } else {
    place.parent = clean_path.substr(0, slash);
    place.name = clean_path.substr(slash + 1);
  }
  place.dir = TRY(ParentFd(place.parent));
  return place;
}

Result<int> LayerWriter::ParentFd(const std::string& parent) {
  if (parent.empty()) return root_.get();
  if (cached_fd_.ok() && !cache_is_stale_ && cached_parent_ == parent) return cached_fd_.get();
  cached_fd_.Reset();
  cache_is_stale_ = false;
  Result<sys::UniqueFd> fd = sys::OpenInRoot(root_, parent, O_PATH | O_DIRECTORY);
  if (!fd && (fd.error().os_errno() == ENOENT || fd.error().os_errno() == ENOTDIR)) fd = MakeParents(parent);
  cached_fd_ = TRY(std::move(fd));
  cached_parent_ = parent;
  return cached_fd_.get();
}

// Makes what is missing of `parent`: an archive need not name the directories above its files.
Result<sys::UniqueFd> LayerWriter::MakeParents(const std::string& parent) {
  sys::UniqueFd dir;
  size_t end = parent.size();
  while (!dir.ok()) {  // up to the deepest that is there
    end = parent.rfind('/', end - 1);
    if (end == std::string::npos) {
      dir = TRY(sys::Dup(root_));
      break;
    }
    Result<sys::UniqueFd> above = sys::OpenInRoot(root_, parent.substr(0, end), O_PATH | O_DIRECTORY);
    if (above) {
      dir = *std::move(above);
    } else if (above.error().os_errno() != ENOENT && above.error().os_errno() != ENOTDIR) {
      return std::move(above).error();
    }
  }
  size_t begin = end == std::string::npos ? 0 : end + 1;
  while (begin < parent.size()) {  // and down again: from the first that we make on, nothing is a symlink
    size_t next = std::min(parent.find('/', begin), parent.size());
    dir = TRY(MakeParent(dir, parent.substr(begin, next - begin), parent.substr(0, next)));
    begin = next + 1;
  }
  return dir;
}

Result<sys::UniqueFd> LayerWriter::MakeParent(sys::BorrowedFd dir, const std::string& name, const std::string& path) {
  TRY(Count(1, 0));
  bool hides_below = false;
  if (mkdirat(dir.get(), name.c_str(), 0755) != 0) {
    if (errno != EEXIST) return Errno(errno, "mkdir " + path);
    Place place{.parent = {}, .name = name, .dir = dir.get()};
    // A dangling symlink or a file where a directory should be: no meaning could be given to that.
    if (TRY(Look(place)) != Existing::kWhiteout) return Refused(path, "a parent is no directory");
    TRY(RemoveExisting(place));
    if (mkdirat(dir.get(), name.c_str(), 0755) != 0) return Errno(errno, "mkdir " + path);
    hides_below = true;
  }
  sys::UniqueFd made = TRY(sys::OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (fchmod(made.get(), 0755) != 0) return Errno(errno, "chmod " + path);  // whatever the umask
  if (hides_below) TRY(SetOpaque(made, path));
  TRY(CountPath(path));
  implicit_dirs_.insert(path);
  stats_.disk_bytes += kBlockBytes;
  ++stats_.inodes;
  return made;
}

Result<LayerWriter::Existing> LayerWriter::Look(const Place& place) const {
  struct stat info;
  if (fstatat(place.dir, place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return Existing::kNothing;
    return Errno(errno, "stat " + place.name);
  }
  if (S_ISDIR(info.st_mode)) return Existing::kDirectory;
  if (S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0)) return Existing::kWhiteout;
  return Existing::kOther;
}

// A later entry replaces an earlier one of its name. The parent's descriptor stays good for this entry, but the next one
// must resolve its path anew: what was removed may have been a part of it.
Result<> LayerWriter::RemoveExisting(const Place& place) {
  cache_is_stale_ = true;
  if (TRY(Look(place)) != Existing::kWhiteout) stats_.is_exact = false;  // may have been, or have held, a file with content
  return sys::RemoveTreeAt(sys::BorrowedFd(place.dir), place.name);
}

// ---- the kinds of entries

Result<> LayerWriter::ApplyRoot() {
  if (entry_.type != Type::kDirectory) return Refused(entry_.path, "the root of a layer must be a directory");
  if (fchown(root_.get(), entry_.uid, entry_.gid) != 0) return Errno(errno, "chown the layer's root");
  Directory directory{{}, entry_.mode, entry_.mtime_seconds, entry_.mtime_nanos, {}};
  TRY(SetXattrs(root_, &directory.default_acl));
  return Remember(std::move(directory));
}

Result<> LayerWriter::ApplyDirectory(const Place& place, const std::string& path) {
  bool hides_below = false, is_new = true;
  // Closed until Finish: a setgid directory or one with a default ACL would pass these on to what is made inside.
  if (mkdirat(place.dir, place.name.c_str(), 0700) != 0) {
    if (errno != EEXIST) return Errno(errno, "mkdir " + path);
    const Existing existing = TRY(Look(place));
    is_new = existing != Existing::kDirectory;
    hides_below = existing == Existing::kWhiteout;
    if (is_new) {
      TRY(RemoveExisting(place), path);
      if (mkdirat(place.dir, place.name.c_str(), 0700) != 0) return Errno(errno, "mkdir " + path);
    }
  }
  sys::UniqueFd made = TRY(sys::OpenAt(sys::BorrowedFd(place.dir), place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (fchown(made.get(), entry_.uid, entry_.gid) != 0) return Errno(errno, "chown " + path);
  if (hides_below) TRY(SetOpaque(made, path));
  Directory directory{path, entry_.mode, entry_.mtime_seconds, entry_.mtime_nanos, {}};
  TRY(SetXattrs(made, &directory.default_acl));
  implicit_dirs_.erase(path);
  if (is_new) {
    stats_.disk_bytes += kBlockBytes;
    ++stats_.inodes;
  }
  return Remember(std::move(directory));
}

Result<> LayerWriter::BeginFile(const Place& place) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(place.dir, place.name.c_str(), kFlags, 0600);
  if (fd < 0 && errno == EEXIST) {
    TRY(RemoveExisting(place), entry_.path);
    fd = openat(place.dir, place.name.c_str(), kFlags, 0600);
  }
  if (fd < 0) return Errno(errno, "create " + entry_.path);
  file_.Reset(fd);
  ++stats_.inodes;
  if (!entry_.is_sparse) stats_.disk_bytes += Blocks(entry_.size);
  for (const codec::TarEntry::Chunk& chunk : entry_.chunks) stats_.disk_bytes += Blocks(chunk.length);
  return {};
}

Result<> LayerWriter::OnData(uint64_t offset, std::string_view bytes) {
  if (!file_.ok()) {  // of a whiteout or the like
    stats_.is_exact = false;
    return {};
  }
  while (!bytes.empty()) {
    ssize_t n = pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "write " + entry_.path);
    bytes.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

// Metadata last, and in this order: writing clears a file's capabilities, chown clears these and setuid.
Result<> LayerWriter::OnEntryEnd() {
  if (!file_.ok()) return {};
  const int fd = file_.get();
  if (entry_.is_sparse && ftruncate(fd, static_cast<off_t>(entry_.size)) != 0) {
    return Errno(errno, "truncate " + entry_.path);
  }
  if ((entry_.uid != 0 || entry_.gid != 0) && fchown(fd, entry_.uid, entry_.gid) != 0) {
    return Errno(errno, "chown " + entry_.path);
  }
  if (fchmod(fd, entry_.mode) != 0) return Errno(errno, "chmod " + entry_.path);
  TRY(SetXattrs(file_, nullptr));
  const timespec times[2] = {{entry_.mtime_seconds, entry_.mtime_nanos}, {entry_.mtime_seconds, entry_.mtime_nanos}};
  if (futimens(fd, times) != 0) return Errno(errno, "set the times of " + entry_.path);
  file_.Reset();
  return {};
}

Result<> LayerWriter::ApplyHardlink(const Place& place) {
  const std::string target = CleanLayerPath(entry_.link_target);
  size_t slash = target.rfind('/');
  std::string parent = slash == std::string::npos ? std::string() : target.substr(0, slash);
  const std::string name = slash == std::string::npos ? target : target.substr(slash + 1);
  sys::UniqueFd opened;
  int dir = parent.empty() ? root_.get() : place.dir;
  if (!parent.empty() && parent != place.parent) {
    Result<sys::UniqueFd> found = sys::OpenInRoot(root_, parent, O_PATH | O_DIRECTORY);
    if (found) opened = *std::move(found);
    dir = opened.get();
  }
  // The last component is not followed: a link to a symlink is a second name of the symlink.
  struct stat from, to;
  if (dir < 0 || name.empty() || fstatat(dir, name.c_str(), &from, AT_SYMLINK_NOFOLLOW) != 0) {
    return Refused(entry_.path, StrCat("its hard link's target ", Quote(entry_.link_target), " is not in the layer"));
  }
  if (S_ISDIR(from.st_mode) || (S_ISCHR(from.st_mode) && from.st_rdev == makedev(0, 0))) {
    return Refused(entry_.path, "a hard link to a directory or a whiteout");
  }
  if (fstatat(place.dir, place.name.c_str(), &to, AT_SYMLINK_NOFOLLOW) == 0) {
    if (from.st_dev == to.st_dev && from.st_ino == to.st_ino) return {};  // to itself, or for the second time
    TRY(RemoveExisting(place), entry_.path);
  }
  if (linkat(dir, name.c_str(), place.dir, place.name.c_str(), 0) != 0) {
    return Errno(errno, StrCat("link ", entry_.path, " to ", entry_.link_target));
  }
  return {};
}

Result<> LayerWriter::ApplySymlink(const Place& place) {
  const char* target = entry_.link_target.c_str();
  if (symlinkat(target, place.dir, place.name.c_str()) != 0) {
    if (errno != EEXIST) return Errno(errno, "symlink " + entry_.path);
    TRY(RemoveExisting(place), entry_.path);
    if (symlinkat(target, place.dir, place.name.c_str()) != 0) return Errno(errno, "symlink " + entry_.path);
  }
  ++stats_.inodes;
  return SetMetadata(place, Chmod::kNo);
}

Result<> LayerWriter::ApplyNode(const Place& place) {
  const dev_t device = makedev(entry_.device_major, entry_.device_minor);
  mode_t kind = entry_.type == Type::kFifo ? S_IFIFO : entry_.type == Type::kCharDevice ? S_IFCHR : S_IFBLK;
  // To overlayfs that is a whiteout, which images write as `.wh.` files only.
  if (kind == S_IFCHR && device == makedev(0, 0)) return {};
  if (mknodat(place.dir, place.name.c_str(), kind | 0600, device) != 0) {
    if (errno != EEXIST) return Errno(errno, "mknod " + entry_.path);
    TRY(RemoveExisting(place), entry_.path);
    if (mknodat(place.dir, place.name.c_str(), kind | 0600, device) != 0) return Errno(errno, "mknod " + entry_.path);
  }
  ++stats_.inodes;
  return SetMetadata(place, Chmod::kYes);
}

// Of what has no descriptor. glibc's fchmodat without following opens with O_PATH|O_NOFOLLOW and looks before it changes.
Result<> LayerWriter::SetMetadata(const Place& place, Chmod chmod) {
  const char* name = place.name.c_str();
  if (fchownat(place.dir, name, entry_.uid, entry_.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return Errno(errno, "chown " + entry_.path);
  }
  if (chmod == Chmod::kYes && fchmodat(place.dir, name, entry_.mode, AT_SYMLINK_NOFOLLOW) != 0) {
    return Errno(errno, "chmod " + entry_.path);
  }
  const timespec times[2] = {{entry_.mtime_seconds, entry_.mtime_nanos}, {entry_.mtime_seconds, entry_.mtime_nanos}};
  if (utimensat(place.dir, name, times, AT_SYMLINK_NOFOLLOW) != 0) return Errno(errno, "set the times of " + entry_.path);
  return {};
}

Result<> LayerWriter::ApplyWhiteout(const Place& place) {
  if (place.name == kOpaqueMarker) {
    if (place.parent.empty()) {
      stats_.opaque_root = true;
      return {};
    }
    sys::UniqueFd dir = TRY(sys::OpenAt(sys::BorrowedFd(place.dir), ".", O_RDONLY | O_DIRECTORY));
    return SetOpaque(dir, entry_.path);
  }
  if (place.name.starts_with(kWhiteoutMetaPrefix)) return {};
  Place hidden{place.parent, place.name.substr(kWhiteoutPrefix.size()), place.dir};
  if (hidden.name.empty() || hidden.name == "." || hidden.name == "..") return Refused(entry_.path, "not a whiteout");
  switch (TRY(Look(hidden))) {
    case Existing::kNothing: {
      if (mknodat(hidden.dir, hidden.name.c_str(), S_IFCHR, makedev(0, 0)) != 0) return Errno(errno, "mknod " + entry_.path);
      ++stats_.inodes;
      return {};
    }
    case Existing::kDirectory: {
      // The layer has the directory itself: only what lies below in other layers shall go.
      sys::UniqueFd dir = TRY(sys::OpenAt(sys::BorrowedFd(hidden.dir), hidden.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      return SetOpaque(dir, entry_.path);
    }
    case Existing::kWhiteout:
    case Existing::kOther: return {};  // a file of this layer hides the lower ones by itself
  }
  return {};
}

Result<> LayerWriter::SetXattrs(sys::BorrowedFd fd, std::string* default_acl) {
  for (const auto& [name, value] : entry_.xattrs) {
    if (!IsWantedXattr(name)) continue;
    if (name == kDefaultAcl) {
      if (default_acl != nullptr) *default_acl = value;
      continue;
    }
    if (fsetxattr(fd.get(), name.c_str(), value.data(), value.size(), 0) == 0) continue;
    if (errno == ENOTSUP) continue;  // the file system has none of this kind; containerd goes on too
    int error = errno;
    return Errno(error, StrCat("set ", name, " of ", entry_.path));
  }
  return {};
}

Result<> LayerWriter::SetOpaque(sys::BorrowedFd dir, const std::string& name) {
  if (fsetxattr(dir.get(), kOpaqueAttribute, "y", 1, 0) != 0) return Errno(errno, "set opaque " + name);
  return {};
}

Result<LayerStats> LayerWriter::Finish() {
  cached_fd_.Reset();
  for (const Directory& directory : directories_) {
    // By path again, contained as before. It may be something else by now: then it is none of ours.
    const std::string path = directory.path.empty() ? "." : directory.path;
    Result<sys::UniqueFd> fd = sys::OpenInRoot(root_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!fd) {
      int error = fd.error().os_errno();
      if (error == ENOENT || error == ENOTDIR || error == ELOOP) continue;
      return std::move(fd).error();
    }
    if (fchmod(fd->get(), directory.mode) != 0) return Errno(errno, "chmod " + path);
    if (const std::string& acl = directory.default_acl; !acl.empty()) {
      if (fsetxattr(fd->get(), std::string(kDefaultAcl).c_str(), acl.data(), acl.size(), 0) != 0 && errno != ENOTSUP) {
        return Errno(errno, "set the default ACL of " + path);
      }
    }
    const timespec time{directory.mtime_seconds, directory.mtime_nanos}, times[2] = {time, time};
    if (futimens(fd->get(), times) != 0) return Errno(errno, "set the times of " + path);
  }
  stats_.is_empty = entries_ == 0;
  stats_.implicit_dirs.assign(implicit_dirs_.begin(), implicit_dirs_.end());
  return std::move(stats_);
}

}  // namespace crisp::image
