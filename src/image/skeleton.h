// The skeleton of a layer: its archive without the files' contents, zstd-compressed (docs/formats/image-store.md).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

struct ZSTD_CCtx_s;

namespace crisp::image {

// One thread at a time.
class SkeletonWriter {
 public:
  static Result<std::unique_ptr<SkeletonWriter>> Create(const std::string& path);
  Result<> Append(std::string_view bytes);
  Result<> Finish();
  uint64_t bytes() const { return bytes_; }

 private:
  explicit SkeletonWriter(sys::UniqueFd fd);
  Result<> Compress(std::string_view bytes, bool is_last);
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  sys::UniqueFd fd_;
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
  std::string pending_;
  std::string out_;
  uint64_t bytes_ = 0;
};

}  // namespace crisp::image
