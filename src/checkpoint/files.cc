#include "checkpoint/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/strings.h"
#include "codec/inflate.h"
#include "codec/tar.h"
#include "sys/file.h"

namespace crisp::checkpoint {

namespace {

constexpr size_t kBufferBytes = 1 << 20;

// Makes the files of a checkpoint in a directory, and counts.
class Target {
 public:
  Target(std::string dir, const Limits& limits) : dir_(std::move(dir)), limits_(limits) {}

  Result<sys::UniqueFd> Create(const std::string& name) {
    if (++files_ > limits_.images_max) return Error(Code::kResourceExhausted, "the checkpoint has too many files");
    if (name.starts_with(kImagesDir)) TRY(sys::MakeDir(StrCat(dir_, "/", kImagesDir), 0700));
    // O_EXCL: a second member of the same name is somebody's trick.
    Result<sys::UniqueFd> fd = sys::Open(StrCat(dir_, "/", name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (!fd && fd.error().os_errno() == EEXIST)
      return Error(Code::kInvalidArgument, StrCat("the checkpoint has ", Quote(name), " twice"));
    return fd;
  }
  Result<> Write(sys::BorrowedFd fd, std::string_view bytes) {
    if (bytes_ += bytes.size(); bytes_ > limits_.bytes_max) {
      return Error(Code::kResourceExhausted, StrCat("the checkpoint is larger than ", limits_.bytes_max, " bytes"));
    }
    return sys::WriteAll(fd, bytes);
  }

 private:
  const std::string dir_;
  const Limits limits_;
  size_t files_ = 0;
  uint64_t bytes_ = 0;
};

class Unpacker final : public codec::TarSink {
 public:
  Unpacker(const Ctx& ctx, Target& target) : ctx_(ctx), target_(target) {}

  Result<> OnEntry(const codec::TarEntry& entry) override {
    TRY(ctx_.Check());
    file_.Reset();
    std::optional<std::string> name = MemberName(entry.path);
    if (!name || entry.type == codec::TarEntry::Type::kDirectory) return {};
    if (entry.type != codec::TarEntry::Type::kFile) {
      return Error(Code::kInvalidArgument, StrCat("the checkpoint's ", Quote(*name), " is no regular file"));
    }
    file_ = TRY(target_.Create(*name));
    // Sparse files: what lies between the chunks are holes here as well.
    if (ftruncate(file_.get(), static_cast<off_t>(entry.size)) != 0) return Errno(errno, StrCat("size of ", *name));
    return {};
  }
  Result<> OnData(uint64_t offset, std::string_view bytes) override {
    if (!file_.ok()) return {};
    if (lseek(file_.get(), static_cast<off_t>(offset), SEEK_SET) < 0) return Errno(errno, "seek");
    return target_.Write(file_, bytes);
  }
  Result<> OnEntryEnd() override { return {}; }

 private:
  const Ctx& ctx_;
  Target& target_;
  sys::UniqueFd file_;
};

class ReaderSink final : public codec::ByteSink {
 public:
  explicit ReaderSink(codec::TarReader& reader) : reader_(reader), buffer_(kBufferBytes, '\0') {}
  std::span<char> Room() override { return buffer_; }
  Result<> Filled(size_t bytes) override { return reader_.Push(std::string_view(buffer_).substr(0, bytes)); }

 private:
  codec::TarReader& reader_;
  std::string buffer_;
};

Result<> CopyFile(const Ctx& ctx, sys::BorrowedFd root, const std::string& name, Target& target) {
  // Not a FIFO's or a device's open, and no symlink.
  Result<sys::UniqueFd> from = sys::OpenInRoot(root, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!from && from.error().os_errno() == ENOENT) return {};
  if (!from) return std::move(from).error().As(Code::kInvalidArgument);
  struct stat info;
  if (fstat(from->get(), &info) != 0) return Errno(errno, "stat " + name);
  if (!S_ISREG(info.st_mode))
    return Error(Code::kInvalidArgument, StrCat("the checkpoint's ", Quote(name), " is no regular file"));
  sys::UniqueFd to = TRY(target.Create(name));
  std::string buffer(kBufferBytes, '\0');
  while (true) {
    TRY(ctx.Check());
    ssize_t n = read(from->get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read " + name);
    if (n == 0) return {};
    TRY(target.Write(to, {buffer.data(), static_cast<size_t>(n)}));
  }
}

}  // namespace

Result<> UnpackArchive(const Ctx& ctx, sys::BorrowedFd archive, const std::string& dir, const Limits& limits) {
  Target target(dir, limits);
  Unpacker unpacker(ctx, target);
  codec::TarReader reader(unpacker, {.size_max = limits.bytes_max});
  ReaderSink sink(reader);
  codec::Inflater inflater(sink);
  std::string buffer(kBufferBytes, '\0');
  while (true) {
    TRY(ctx.Check());
    ssize_t n = read(archive.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read the checkpoint");
    if (n == 0) break;
    TRY(inflater.Push({buffer.data(), static_cast<size_t>(n)}));
  }
  TRY(inflater.Finish());
  return reader.Finish();
}

Result<> CopyLayer(const Ctx& ctx, const std::string& layer_dir, const std::string& dir, const Limits& limits) {
  Target target(dir, limits);
  sys::UniqueFd root = TRY(sys::Open(layer_dir, O_RDONLY | O_DIRECTORY));
  for (const char* name : {kConfigDump, kSpecDump, kStatusDump, kDiffTar, kDeletedFiles})
    TRY(CopyFile(ctx, root, name, target));
  Result<sys::UniqueFd> images = sys::OpenInRoot(root, kImagesDir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!images) return std::move(images).error().As(Code::kInvalidArgument).Context("the image holds no checkpoint");
  std::unique_ptr<DIR, int (*)(DIR*)> listing(fdopendir(images->Release()), closedir);
  if (listing == nullptr) return Errno(errno, "list the checkpoint's images");
  while (const dirent* entry = readdir(listing.get())) {
    if (std::optional<std::string> name = MemberName(StrCat(kImagesDir, "/", entry->d_name))) {
      TRY(CopyFile(ctx, root, *name, target));
    }
  }
  return {};
}

Result<std::string> ReadMember(const std::string& dir, const char* name, const Limits& limits) {
  sys::UniqueFd root = TRY(sys::Open(dir, O_RDONLY | O_DIRECTORY));
  // `dir` may be an image's layer: no symlink's target, and no FIFO that lets us wait for a writer.
  Result<sys::UniqueFd> file = sys::OpenInRoot(root, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file && file.error().os_errno() == ENOENT)
    return Error(Code::kInvalidArgument, StrCat("the checkpoint has no ", name));
  if (!file) return std::move(file).error().As(Code::kInvalidArgument);
  struct stat info;
  if (fstat(file->get(), &info) != 0) return Errno(errno, StrCat("stat ", name));
  if (!S_ISREG(info.st_mode))
    return Error(Code::kInvalidArgument, StrCat("the checkpoint's ", Quote(name), " is no regular file"));
  return TRY(sys::ReadAll(*file, limits.json_bytes_max), name);
}

Result<> SetHostname(const std::string& dir, std::string_view hostname) {
  const std::string images = StrCat(dir, "/", kImagesDir);
  std::vector<std::string> found;
  std::error_code error;
  std::filesystem::directory_iterator it(images, error), end;
  for (; !error && it != end; it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name.starts_with("utsns-") && name.ends_with(".img")) found.push_back(std::move(name));
  }
  if (error) return Errno(error.value(), StrCat("list ", images));
  if (found.empty()) return {};
  const std::string image = TRY(UtsImage(hostname));
  for (const std::string& name : found) {
    TRY(sys::WriteFileAtomic(StrCat(images, "/", name), image, 0600, sys::Durability::kNone));
  }
  return {};
}

}  // namespace crisp::checkpoint
