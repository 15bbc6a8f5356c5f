#include "image/skeleton.h"

#include <fcntl.h>
#include <zstd.h>

#include "base/strings.h"

namespace crisp::image {

namespace {
constexpr int kLevel = 1;                     // headers repeat: even the fastest makes a fiftieth of them
constexpr size_t kPendingBytes = 128 << 10;   // headers come in blocks of 512
}  // namespace

void SkeletonWriter::Free::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }

SkeletonWriter::SkeletonWriter(sys::UniqueFd fd) : fd_(std::move(fd)), context_(ZSTD_createCCtx()), out_(ZSTD_CStreamOutSize(), '\0') {}

Result<std::unique_ptr<SkeletonWriter>> SkeletonWriter::Create(const std::string& path) {
  sys::UniqueFd fd = TRY(sys::Open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  std::unique_ptr<SkeletonWriter> writer(new SkeletonWriter(std::move(fd)));
  if (writer->context_ == nullptr) return Error(Code::kResourceExhausted, "zstd: no memory");
  ZSTD_CCtx_setParameter(writer->context_.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(writer->context_.get(), ZSTD_c_checksumFlag, 1);
  return writer;
}

Result<> SkeletonWriter::Append(std::string_view bytes) {
  if (pending_.size() + bytes.size() > kPendingBytes) {
    TRY(Compress(pending_, false));
    pending_.clear();
    if (bytes.size() > kPendingBytes) return Compress(bytes, false);
  }
  pending_ += bytes;
  return {};
}

Result<> SkeletonWriter::Finish() {
  TRY(Compress(pending_, true));
  pending_.clear();
  return {};
}

Result<> SkeletonWriter::Compress(std::string_view bytes, bool is_last) {
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  size_t left = 0;
  do {
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    left = ZSTD_compressStream2(context_.get(), &out, &in, is_last ? ZSTD_e_end : ZSTD_e_continue);
    if (ZSTD_isError(left)) return Error(Code::kInternal, StrCat("zstd: ", ZSTD_getErrorName(left)));
    TRY(sys::WriteAll(fd_, {out_.data(), out.pos}), "write the layer's skeleton");
    bytes_ += out.pos;
  } while (in.pos < in.size || (is_last && left != 0));
  return {};
}

}  // namespace crisp::image
