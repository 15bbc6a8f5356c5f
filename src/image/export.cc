#include "image/export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <set>

#include "base/ids.h"
#include "base/json.h"
#include "base/rollback.h"
#include "base/strings.h"
#include "codec/inflate.h"
#include "codec/tar.h"
#include "image/layer_writer.h"
#include "oci/manifest.h"
#include "sys/file.h"

namespace crisp::image {

namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr std::string_view kLayerType = "application/vnd.oci.image.layer.v1.tar";

// A skeleton's entries, with the contents read from the layer's files.
class Recreator final : public codec::TarSink {
 public:
  Recreator(const Ctx& ctx, sys::BorrowedFd root, const ArchiveSink& out) : ctx_(ctx), root_(root), out_(out) {}
  Result<> OnRaw(std::string_view bytes) override { return out_(bytes); }
  Result<> OnData(uint64_t, std::string_view) override { return {}; }
  Result<> OnEntryEnd() override { return {}; }
  Result<> OnEntry(const codec::TarEntry& entry) override {
    if (entry.type != codec::TarEntry::Type::kFile || entry.size == 0) return {};
    TRY(ctx_.Check());
    // Not a FIFO's or device's open, whatever became of the path.
    sys::UniqueFd fd = TRY(sys::OpenInRoot(root_, CleanLayerPath(entry.path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    struct stat info;
    if (fstat(fd.get(), &info) != 0) return Errno(errno, "stat " + entry.path);
    if (!S_ISREG(info.st_mode) || static_cast<uint64_t>(info.st_size) != entry.size) {
      return Error(Code::kFailedPrecondition, StrCat(Quote(entry.path), " is not the file that the archive had"));
    }
    if (!entry.is_sparse) return Copy(fd, 0, entry.size, entry.path);
    for (const codec::TarEntry::Chunk& chunk : entry.chunks) TRY(Copy(fd, chunk.offset, chunk.length, entry.path));
    return {};
  }

 private:
  Result<> Copy(sys::BorrowedFd fd, uint64_t offset, uint64_t length, const std::string& path) {
    while (length > 0) {
      ssize_t n = pread(fd.get(), buffer_.data(), std::min<uint64_t>(buffer_.size(), length), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Errno(errno, "read " + path);
      if (n == 0) return Error(Code::kDataLoss, path + " became shorter");
      TRY(out_({buffer_.data(), static_cast<size_t>(n)}));
      offset += static_cast<uint64_t>(n);
      length -= static_cast<uint64_t>(n);
    }
    return {};
  }
  const Ctx& ctx_;
  const sys::BorrowedFd root_;
  const ArchiveSink& out_;
  std::string buffer_ = std::string(kBufferBytes, '\0');
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

class ArchiveWriter {
 public:
  explicit ArchiveWriter(sys::UniqueFd fd) : fd_(std::move(fd)) {}
  Result<> Directory(const std::string& path) { return Header({.type = codec::TarEntry::Type::kDirectory, .path = path, .mode = 0755}); }
  Result<> File(const std::string& path, std::string_view bytes) {
    TRY(Begin(path, bytes.size()));
    TRY(Write(bytes));
    return End(bytes.size());
  }
  Result<> Begin(const std::string& path, uint64_t size) { return Header({.path = path, .mode = 0644, .size = size}); }
  Result<> Write(std::string_view bytes) { return sys::WriteAll(fd_, bytes); }
  Result<> End(uint64_t size) { return Write(codec::TarPadding(size)); }
  Result<> Finish() {
    TRY(Write(codec::TarTrailer()));
    if (fsync(fd_.get()) != 0) return Errno(errno, "fsync the archive");
    return {};
  }

 private:
  Result<> Header(const codec::TarEntry& entry) {
    const std::string header = TRY(codec::TarHeader(entry));
    return Write(header);
  }
  sys::UniqueFd fd_;
};

std::string BlobName(const oci::Digest& digest) { return StrCat("blobs/", digest.algorithm_name(), "/", digest.hex()); }

Json Descriptor(std::string_view media_type, const oci::Digest& digest, uint64_t size) {
  return {{"mediaType", media_type}, {"digest", digest.str()}, {"size", size}};
}

Result<> WriteLayer(const Ctx& ctx, const Store& store, const LayerRecord& layer, ArchiveWriter& archive) {
  oci::Hasher hasher(layer.diff_id.algorithm());
  uint64_t bytes_done = 0;
  TRY(archive.Begin(BlobName(layer.diff_id), layer.archive_bytes));
  TRY(RecreateLayer(ctx, store.LayerDir(layer.id), [&](std::string_view bytes) -> Result<> {
        bytes_done += bytes.size();
        if (bytes_done > layer.archive_bytes) return Error(Code::kDataLoss, "more bytes than the archive had");
        hasher.Update(bytes);
        return archive.Write(bytes);
      }),
      "layer " + layer.diff_id.str());
  if (bytes_done != layer.archive_bytes || hasher.Finish() != layer.diff_id) {
    return Error(Code::kDataLoss, StrCat("layer ", layer.diff_id.str(), " was changed on disk: other bytes than when it was unpacked"));
  }
  return archive.End(layer.archive_bytes);
}

Result<> WriteImage(const Ctx& ctx, const Store& store, const ImageRecord& image, const std::vector<LayerRecord>& layers,
                    ArchiveWriter& archive) {
  const oci::Digest config_digest = TRY(oci::Digest::Parse(image.id));
  Json manifest{{"schemaVersion", 2},
                {"mediaType", oci::media_type::kOciManifest},
                {"config", Descriptor(oci::media_type::kOciConfig, config_digest, image.config.size())},
                {"layers", Json::array()}};
  Json docker{{"Config", BlobName(config_digest)}, {"RepoTags", image.tags}, {"Layers", Json::array()}};
  for (const LayerRecord& layer : layers) {
    manifest["layers"].push_back(Descriptor(kLayerType, layer.diff_id, layer.archive_bytes));
    docker["Layers"].push_back(BlobName(layer.diff_id));
  }
  const std::string manifest_bytes = DumpJson(manifest);
  const oci::Digest manifest_digest = oci::Digest::Of(manifest_bytes);
  Json index{{"schemaVersion", 2}, {"mediaType", oci::media_type::kOciIndex}, {"manifests", Json::array()}};
  for (const std::string& tag : image.tags) {
    Json entry = Descriptor(oci::media_type::kOciManifest, manifest_digest, manifest_bytes.size());
    entry["annotations"] = {{"io.containerd.image.name", tag}, {"org.opencontainers.image.ref.name", tag.substr(tag.rfind(':') + 1)}};
    index["manifests"].push_back(std::move(entry));
  }
  if (image.tags.empty()) {
    index["manifests"].push_back(Descriptor(oci::media_type::kOciManifest, manifest_digest, manifest_bytes.size()));
  }

  // What readers look for first comes first, so that a reader of a stream can use it too.
  TRY(archive.File("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  TRY(archive.File("index.json", DumpJson(index)));
  TRY(archive.File("manifest.json", DumpJson(Json::array({docker}))));
  TRY(archive.Directory("blobs/"));
  TRY(archive.Directory("blobs/sha256/"));
  TRY(archive.File(BlobName(manifest_digest), manifest_bytes));
  TRY(archive.File(BlobName(config_digest), image.config));
  std::set<oci::Digest> written;
  for (const LayerRecord& layer : layers) {
    if (written.insert(layer.diff_id).second) TRY(WriteLayer(ctx, store, layer, archive));
  }
  return archive.Finish();
}

}  // namespace

Result<> RecreateLayer(const Ctx& ctx, const std::string& layer_dir, const ArchiveSink& sink) {
  sys::UniqueFd root = TRY(sys::Open(layer_dir + "/fs", O_RDONLY | O_DIRECTORY));
  sys::UniqueFd skeleton = TRY(sys::Open(layer_dir + "/skeleton.zst", O_RDONLY | O_NOFOLLOW));
  Recreator recreator(ctx, root, sink);
  codec::TarReader reader(recreator, {}, codec::TarContents::kWithoutContents);
  ReaderSink plain(reader);
  codec::Inflater inflater(plain);
  std::string buffer(kBufferBytes, '\0');
  while (true) {
    ssize_t n = read(skeleton.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Errno(errno, "read the skeleton");
    if (n == 0) break;
    TRY(inflater.Push({buffer.data(), static_cast<size_t>(n)}));
  }
  TRY(inflater.Finish());
  return reader.Finish();
}

Result<> ExportImage(const Ctx& ctx, const Store& store, const ImageRecord& image, const std::string& path) {
  const std::vector<LayerRecord> layers = store.LayersOf(image);
  if (layers.size() != image.layers.size()) return Error(Code::kNotFound, "image " + image.id + " was removed");
  for (const LayerRecord& layer : layers) {
    if (layer.is_exact) continue;
    return Error(Code::kFailedPrecondition,
                 StrCat("layer ", layer.diff_id.str(), " holds a file twice or one in a marker's name: its archive cannot be "
                        "made again with the same digest"));
  }
  const std::string temporary = StrCat(path, ".tmp-", RandomHex(6));
  Rollback rollback;
  sys::UniqueFd fd = TRY(sys::Open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  rollback.Add("remove " + temporary, [temporary] { return sys::RemoveFile(temporary); });
  ArchiveWriter archive(std::move(fd));
  ctx.Stage("write archive");
  TRY(WriteImage(ctx, store, image, layers, archive), path);
  if (rename(temporary.c_str(), path.c_str()) != 0) return Errno(errno, StrCat("rename ", temporary, " to ", path));
  rollback.Dismiss();
  return {};
}

}  // namespace crisp::image
