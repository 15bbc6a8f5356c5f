#include "image/unpack.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/strings.h"
#include "base/thread.h"
#include "codec/inflate.h"
#include "codec/tar.h"
#include "image/block_queue.h"
#include "image/skeleton.h"
#include "sys/fd.h"

namespace crisp::image {

namespace {

constexpr size_t kBlockBytes = 512 << 10;  // small enough to stay in the second cache between inflating and writing
constexpr size_t kBlocks = 8;
// What comes from the network in 16 KiB pieces is inflated in larger ones (see BlockQueue).
constexpr size_t kInputBytes = 256 << 10;

// Files by the writer, everything else to the skeleton.
class Splitter final : public codec::TarSink {
 public:
  Splitter(LayerWriter& files, SkeletonWriter& skeleton) : files_(files), skeleton_(skeleton) {}
  Result<> OnEntry(const codec::TarEntry& entry) override { return files_.OnEntry(entry); }
  Result<> OnData(uint64_t offset, std::string_view bytes) override { return files_.OnData(offset, bytes); }
  Result<> OnEntryEnd() override { return files_.OnEntryEnd(); }
  Result<> OnRaw(std::string_view bytes) override { return skeleton_.Append(bytes); }

 private:
  LayerWriter& files_;
  SkeletonWriter& skeleton_;
};

class Unpacker final : public LayerUnpacker {
 public:
  Unpacker(sys::UniqueFd root, std::unique_ptr<SkeletonWriter> skeleton, const UnpackOptions& options)
      : root_(std::move(root)),
        limits_(options.limits),
        skeleton_(std::move(skeleton)),
        writer_(root_, limits_),
        archive_hasher_(options.diff_id_algorithm),
        queue_(kBlockBytes, kBlocks),
        inflater_(queue_),
        blob_hasher_(options.blob_algorithm) {}
  ~Unpacker() override {
    queue_.Close();
    Join();
  }

  Result<> Push(std::string_view bytes) override;
  Result<UnpackedLayer> Finish() override;
  void Hash(std::string_view bytes) override { blob_hasher_.Update(bytes); }
  oci::Digest BlobDigest() override { return blob_hasher_.Finish(); }
  Result<> StartThread();

 private:
  Result<> Feed(std::string_view bytes);
  Result<> Consume();
  void Join() {
    if (consumer_.joinable()) consumer_.join();
  }
  // The consumer's error, if that is why the queue was closed.
  Error Explain(Error error);

  sys::UniqueFd root_;
  const UnpackLimits limits_;
  // The consumer's until it is joined.
  std::unique_ptr<SkeletonWriter> skeleton_;
  LayerWriter writer_;
  oci::Hasher archive_hasher_;
  uint64_t archive_bytes_ = 0;
  LayerStats stats_;
  Result<> consumed_;

  BlockQueue queue_;
  codec::Inflater inflater_;
  oci::Hasher blob_hasher_;
  uint64_t blob_bytes_ = 0;
  std::string input_;
  std::thread consumer_;
};

Result<> Unpacker::StartThread() {
  consumer_ = TRY(crisp::StartThread([this] {
    consumed_ = Consume();
    if (!consumed_) queue_.Close();
  }));
  return {};
}

Result<> Unpacker::Push(std::string_view bytes) {
  blob_bytes_ += bytes.size();
  if (input_.empty() && bytes.size() >= kInputBytes) return Feed(bytes);
  input_ += bytes;
  if (input_.size() < kInputBytes) return {};
  Result<> fed = Feed(input_);
  input_.clear();
  return fed;
}

Result<> Unpacker::Feed(std::string_view bytes) {
  blob_hasher_.Update(bytes);
  Result<> pushed = inflater_.Push(bytes);
  if (!pushed) return Explain(std::move(pushed).error());
  return {};
}

Error Unpacker::Explain(Error error) {
  if (error.code() != Code::kCancelled) return error;
  Join();
  return consumed_ ? Error(Code::kResourceExhausted, "no memory to unpack a layer") : std::move(consumed_).error();
}

Result<> Unpacker::Consume() {
  Splitter splitter(writer_, *skeleton_);
  codec::TarReader reader(splitter);
  while (true) {
    std::span<const char> block = queue_.Next();
    if (block.empty()) break;
    const std::string_view bytes(block.data(), block.size());
    archive_bytes_ += bytes.size();
    if (archive_bytes_ > limits_.bytes_max) {
      return Error(Code::kResourceExhausted, StrCat("the layer is larger than ", limits_.bytes_max, " bytes"));
    }
    archive_hasher_.Update(bytes);
    TRY(reader.Push(bytes));
  }
  TRY(reader.Finish());
  stats_ = TRY(writer_.Finish());
  return skeleton_->Finish();
}

Result<UnpackedLayer> Unpacker::Finish() {
  TRY(Feed(input_));
  Result<> ended = inflater_.Finish();
  if (!ended) return Explain(std::move(ended).error());
  queue_.End();
  Join();
  TRY(std::move(consumed_));
  UnpackedLayer layer;
  layer.blob_digest = blob_hasher_.Finish();
  layer.diff_id = archive_hasher_.Finish();
  layer.blob_bytes = blob_bytes_;
  layer.archive_bytes = archive_bytes_;
  layer.stats = std::move(stats_);
  layer.stats.disk_bytes += skeleton_->bytes();
  ++layer.stats.inodes;
  return layer;
}

}  // namespace

Result<std::unique_ptr<LayerUnpacker>> LayerUnpacker::Start(const std::string& dir, const UnpackOptions& options) {
  const std::string root = dir + "/fs";
  if (mkdir(root.c_str(), 0755) != 0) return Errno(errno, "mkdir " + root);
  sys::UniqueFd fd = TRY(sys::Open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (fchmod(fd.get(), 0755) != 0) return Errno(errno, "chmod " + root);  // whatever the umask
  std::unique_ptr<SkeletonWriter> skeleton = TRY(SkeletonWriter::Create(dir + "/skeleton.zst"));
  auto unpacker = std::make_unique<Unpacker>(std::move(fd), std::move(skeleton), options);
  TRY(unpacker->StartThread());
  return std::unique_ptr<LayerUnpacker>(std::move(unpacker));
}

}  // namespace crisp::image
