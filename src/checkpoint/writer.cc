#include "checkpoint/writer.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/strings.h"
#include "base/time.h"
#include "codec/tar.h"
#include "sys/file.h"

namespace crisp::checkpoint {

namespace {

constexpr size_t kBufferBytes = 1 << 20;

struct Target {
  std::string dir, name;
};

Result<Target> TargetOf(const std::string& path) {
  size_t slash = path.rfind('/');
  if (!path.starts_with('/') || slash + 1 == path.size()) {
    return Error(Code::kInvalidArgument, StrCat(Quote(path), " is no absolute path of a file"));
  }
  Target place{path.substr(0, std::max<size_t>(slash, 1)), path.substr(slash + 1)};
  if (place.name == "." || place.name == "..")
    return Error(Code::kInvalidArgument, StrCat(Quote(path), " names no file"));
  return place;
}

std::string TemporaryName(const std::string& tag) { return StrCat(".crisp-checkpoint-", tag); }

using Listing = std::unique_ptr<DIR, int (*)(DIR*)>;

}  // namespace

Result<size_t> CountArchives(const std::string& path) {
  Target place = TRY(TargetOf(path));
  Listing listing(opendir(place.dir.c_str()), closedir);
  if (listing == nullptr) return Errno(errno, "list " + place.dir);
  size_t count = 0;
  while (const dirent* entry = readdir(listing.get())) count += std::string_view(entry->d_name).ends_with(".tar");
  return count;
}

Result<ArchiveWriter> ArchiveWriter::Create(const std::string& path, const std::string& tag, uint64_t bytes_max) {
  Target place = TRY(TargetOf(path));
  sys::UniqueFd dir = TRY(sys::Open(place.dir, O_RDONLY | O_DIRECTORY), "directory of the checkpoint");
  struct stat info;
  // Early, not only: Commit asks again.
  if (fstatat(dir.get(), place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    return Error(Code::kAlreadyExists, StrCat(Quote(path), " exists, a checkpoint does not replace it"));
  }
  std::string temporary = TemporaryName(tag);
  sys::UniqueFd file = TRY(sys::OpenAt(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600), place.dir);
  return ArchiveWriter(std::move(dir), std::move(place.name), std::move(temporary), std::move(file), bytes_max);
}

Result<> ArchiveWriter::Discard(const std::string& path, const std::string& tag) {
  Target place = TRY(TargetOf(path));
  return sys::RemoveFile(StrCat(place.dir, "/", TemporaryName(tag)));
}

ArchiveWriter::ArchiveWriter(ArchiveWriter&& other) noexcept
    : dir_(std::move(other.dir_)),
      name_(std::move(other.name_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::move(other.file_)),
      left_(other.left_) {}

ArchiveWriter::~ArchiveWriter() {
  if (!temporary_.empty()) unlinkat(dir_.get(), temporary_.c_str(), 0);
}

Result<> ArchiveWriter::Write(std::string_view bytes) {
  if (bytes.size() > left_)
    return Error(Code::kResourceExhausted, "the checkpoint is larger than checkpoint.bytes_max");
  left_ -= bytes.size();
  return sys::WriteAll(file_, bytes);
}

Result<> ArchiveWriter::Header(const std::string& name, uint64_t size, bool is_directory) {
  using Type = codec::TarEntry::Type;
  codec::TarEntry entry;
  entry.type = is_directory ? Type::kDirectory : Type::kFile;
  entry.path = name;
  entry.mode = is_directory ? 0700 : 0600;
  entry.size = size;
  entry.mtime_seconds = UnixNanosNow() / 1'000'000'000;
  std::string header = TRY(codec::TarHeader(entry));
  return Write(header);
}

Result<> ArchiveWriter::AddText(const std::string& name, std::string_view text) {
  TRY(Header(name, text.size(), false));
  TRY(Write(text));
  return Write(codec::TarPadding(text.size()));
}

Result<> ArchiveWriter::AddFile(const Ctx& ctx, const std::string& name, const std::string& path) {
  // O_NONBLOCK: a log directory is its pod's user's in some set-ups, and a FIFO there must not hold us.
  Result<sys::UniqueFd> from = sys::Open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!from && from.error().os_errno() == ENOENT) return {};
  if (!from) return std::move(from).error();
  struct stat info;
  if (fstat(from->get(), &info) != 0) return Errno(errno, "stat " + path);
  if (!S_ISREG(info.st_mode)) return Error(Code::kFailedPrecondition, path + " is no regular file");
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  TRY(Header(name, size, false));
  std::string buffer(std::min<uint64_t>(kBufferBytes, size), '\0');
  for (uint64_t left = size; left > 0;) {
    TRY(ctx.Check());
    ssize_t n = read(from->get(), buffer.data(), std::min<uint64_t>(buffer.size(), left));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read " + path);
    if (n == 0) return Error(Code::kAborted, path + " became shorter while it was read");
    TRY(Write({buffer.data(), static_cast<size_t>(n)}));
    left -= static_cast<uint64_t>(n);
  }
  return Write(codec::TarPadding(size));
}

Result<> ArchiveWriter::AddDirectory(const Ctx& ctx, const std::string& name, const std::string& dir) {
  std::vector<std::string> names;
  {
    Listing listing(opendir(dir.c_str()), closedir);
    if (listing == nullptr) return Errno(errno, "list " + dir);
    while (const dirent* entry = readdir(listing.get())) {
      if (entry->d_type == DT_REG) names.emplace_back(entry->d_name);
    }
  }
  std::sort(names.begin(), names.end());
  TRY(Header(name + "/", 0, true));
  for (const std::string& each : names) TRY(AddFile(ctx, StrCat(name, "/", each), StrCat(dir, "/", each)));
  return {};
}

Result<uint64_t> ArchiveWriter::Inode() const {
  struct stat info;
  if (fstat(file_.get(), &info) != 0) return Errno(errno, "stat the checkpoint");
  return info.st_ino;
}

Result<> ArchiveWriter::Withdraw(const std::string& path, uint64_t inode) {
  struct stat info;
  if (lstat(path.c_str(), &info) == 0) return info.st_ino == inode ? sys::RemoveFile(path) : Result<>();
  return errno == ENOENT || errno == ENOTDIR ? Result<>() : Errno(errno, "stat " + path);
}

Result<> ArchiveWriter::Commit() {
  TRY(Write(codec::TarTrailer()));
  return Place();
}

Result<> CommitText(const std::string& path, const std::string& tag, std::string_view text) {
  ArchiveWriter writer = TRY(ArchiveWriter::Create(path, tag, text.size()));
  TRY(writer.Write(text));
  return writer.Place();
}

Result<> ArchiveWriter::Place() {
  if (fsync(file_.get()) != 0) return Errno(errno, "sync the checkpoint");
  if (renameat2(dir_.get(), temporary_.c_str(), dir_.get(), name_.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno == EEXIST)
      return Error(Code::kAlreadyExists, StrCat(Quote(name_), " exists, a checkpoint does not replace it"));
    return Errno(errno, StrCat("name the checkpoint ", name_));
  }
  temporary_.clear();
  if (fsync(dir_.get()) != 0) return Errno(errno, "sync the checkpoint's directory");
  return {};
}

}  // namespace crisp::checkpoint
