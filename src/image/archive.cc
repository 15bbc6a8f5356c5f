#include "image/archive.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "codec/inflate.h"
#include "codec/tar.h"
#include "image/layer_writer.h"

namespace crisp::image {

namespace {

constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kMembersMax = 100'000;
constexpr int kLinksMax = 8;
constexpr uint64_t kPlainBytesMax = 256ull << 30;  // of an unpacked archive: the disk is the real limit

class FileSink final : public codec::ByteSink {
 public:
  explicit FileSink(sys::BorrowedFd fd) : fd_(fd), buffer_(kReadBytes, '\0') {}
  std::span<char> Room() override { return buffer_; }
  Result<> Filled(size_t bytes) override {
    if (total_ += bytes; total_ > kPlainBytesMax) return Error(Code::kResourceExhausted, "the archive is too large");
    return sys::WriteAll(fd_, std::string_view(buffer_).substr(0, bytes));
  }

 private:
  const sys::BorrowedFd fd_;
  std::string buffer_;
  uint64_t total_ = 0;
};

Result<> ReadFrom(const Ctx& ctx, sys::BorrowedFd fd, uint64_t offset, uint64_t size, const BlobSink& sink) {
  std::string buffer(kReadBytes, '\0');
  while (size > 0) {
    TRY(ctx.Check());
    ssize_t n = pread(fd.get(), buffer.data(), std::min<uint64_t>(buffer.size(), size), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read the archive");
    if (n == 0) break;
    TRY(sink({buffer.data(), static_cast<size_t>(n)}));
    offset += static_cast<uint64_t>(n);
    size -= static_cast<uint64_t>(n);
  }
  return {};
}

}  // namespace

class ArchiveIndexer final : public codec::TarSink {
 public:
  explicit ArchiveIndexer(ArchiveFile& file) : file_(file) {}
  Result<> OnEntry(const codec::TarEntry& entry) override {
    using Type = codec::TarEntry::Type;
    if (entry.is_sparse) return Error(Code::kInvalidArgument, "the archive has a sparse file: " + Quote(entry.path));
    const std::string name = CleanLayerPath(entry.path);
    ArchiveFile::Member member{.offset = position_, .size = entry.size};
    if (entry.type == Type::kHardlink) {
      member.link = CleanLayerPath(entry.link_target);
    } else if (entry.type == Type::kSymlink) {
      size_t slash = name.rfind('/');
      member.link = CleanLayerPath(StrCat(slash == std::string::npos ? "" : name.substr(0, slash), "/", entry.link_target));
    } else if (entry.type != Type::kFile) {
      return {};
    }
    if (file_.members_.size() >= kMembersMax) return Error(Code::kInvalidArgument, "the archive has too many members");
    file_.members_[name] = std::move(member);
    return {};
  }
  Result<> OnData(uint64_t, std::string_view bytes) override { return Pass(bytes); }
  Result<> OnEntryEnd() override { return {}; }
  Result<> OnRaw(std::string_view bytes) override { return Pass(bytes); }

 private:
  Result<> Pass(std::string_view bytes) {
    position_ += bytes.size();
    return {};
  }
  ArchiveFile& file_;
  uint64_t position_ = 0;
};

Result<ArchiveFile> ArchiveFile::Open(const Ctx& ctx, const std::string& path, const std::string& tmp_dir) {
  ArchiveFile file;
  file.fd_ = TRY(sys::Open(path, O_RDONLY | O_NONBLOCK));  // a FIFO would block here
  std::string head(4, '\0');
  if (pread(file.fd_.get(), head.data(), head.size(), 0) < 0) return Errno(errno, "read " + path);
  if (head.starts_with("\x1f\x8b") || head == "\x28\xb5\x2f\xfd") {
    sys::UniqueFd plain = TRY(sys::Open(tmp_dir, O_RDWR | O_TMPFILE, 0600));
    FileSink sink(plain);
    codec::Inflater inflater(sink);
    TRY(ReadFrom(ctx, file.fd_, 0, UINT64_MAX, [&](std::string_view bytes) { return inflater.Push(bytes); }), path);
    TRY(inflater.Finish(), path);
    file.fd_ = std::move(plain);
  }
  ArchiveIndexer indexer(file);
  codec::TarReader reader(indexer);
  TRY(ReadFrom(ctx, file.fd_, 0, UINT64_MAX, [&](std::string_view bytes) { return reader.Push(bytes); }), path);
  TRY(reader.Finish(), path);
  return file;
}

std::optional<ArchiveFile::Member> ArchiveFile::Locate(const std::string& name) const {
  std::string at = CleanLayerPath(name);
  for (int links = 0; links < kLinksMax; ++links) {
    auto found = members_.find(at);
    if (found == members_.end()) return std::nullopt;
    if (found->second.link.empty()) return found->second;
    at = found->second.link;
  }
  return std::nullopt;
}

std::optional<uint64_t> ArchiveFile::SizeOf(const std::string& name) const {
  std::optional<Member> member = Locate(name);
  return member ? std::optional(member->size) : std::nullopt;
}

Result<std::string> ArchiveFile::Read(const std::string& name, uint64_t bytes_max) const {
  std::optional<Member> member = Locate(name);
  if (!member) return Error(Code::kNotFound, StrCat("the archive has no ", Quote(name)));
  if (member->size > bytes_max) return Error(Code::kInvalidArgument, StrCat(Quote(name), " is larger than ", bytes_max, " bytes"));
  std::string bytes;
  TRY(ReadFrom(Ctx(), fd_, member->offset, member->size, [&](std::string_view part) -> Result<> {
    bytes += part;
    return {};
  }));
  return bytes;
}

Result<> ArchiveFile::Stream(const Ctx& ctx, const std::string& name, const BlobSink& sink) const {
  std::optional<Member> member = Locate(name);
  if (!member) return Error(Code::kNotFound, StrCat("the archive has no ", Quote(name)));
  return ReadFrom(ctx, fd_, member->offset, member->size, sink);
}

}  // namespace crisp::image
