// Inflater: a stream that may be gzip, zstd or neither → its plain bytes. Told apart by the first bytes, never by a media
// type, because registries are wrong about those.
//
// gzip by ISA-L with checksum, any number of members; zstd by libzstd, any number of frames, window at most 128 MiB
// (RFC 8878 recommends decoders to support 8 MiB; `zstd --long=27` is what images use at most).
// Threading: an object belongs to one thread at a time. Memory: constant (gzip ~100 KiB; zstd its window).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"

namespace crisp::codec {

// Where plain bytes go. The inflater writes straight into the sink's memory: no copy in between.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  // At least one byte of room. Asked for again after each Filled. Empty: the sink is closed, reading ends with kCancelled.
  virtual std::span<char> Room() = 0;
  virtual Result<> Filled(size_t bytes) = 0;
};

enum class Compression { kUnknown, kNone, kGzip, kZstd };

class Inflater {
 public:
  explicit Inflater(ByteSink& sink);
  ~Inflater();

  // kDataLoss: the stream is damaged. kInvalidArgument: over a limit.
  Result<> Push(std::string_view bytes);
  // kDataLoss: the stream is cut off.
  Result<> Finish();
  Compression compression() const { return compression_; }

 private:
  struct Gzip;
  struct Zstd;
  Result<> Begin();
  Result<> Copy(std::string_view bytes);
  Result<> PushGzip(std::string_view bytes);
  Result<> PushZstd(std::string_view bytes);
  Result<> Dispatch(std::string_view bytes);

  ByteSink& sink_;
  Compression compression_ = Compression::kUnknown;
  char magic_[4];
  size_t magic_bytes_ = 0;
  std::unique_ptr<Gzip> gzip_;
  std::unique_ptr<Zstd> zstd_;
};

}  // namespace crisp::codec
