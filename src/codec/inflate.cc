#include "codec/inflate.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstring>

#include "base/strings.h"

namespace crisp::codec {

namespace {

constexpr int kZstdWindowLogMax = 27;                   // 128 MiB
constexpr size_t kGzipInputMax = 1u << 30;              // ISA-L counts in 32 bits
constexpr std::string_view kGzipMagic("\x1f\x8b", 2);
constexpr std::string_view kZstdMagic("\x28\xb5\x2f\xfd", 4);
constexpr std::string_view kZstdSkippableMagic("\x2a\x4d\x18", 3);  // after a byte 0x50…0x5f (RFC 8878 3.1.2)

Error Damaged(std::string_view what) { return Error(Code::kDataLoss, std::string(what)); }

std::string_view IsalError(int rc) {
  switch (rc) {
    case ISAL_INVALID_BLOCK: return "gzip: bad block";
    case ISAL_INVALID_SYMBOL: return "gzip: bad symbol";
    case ISAL_INVALID_LOOKBACK: return "gzip: bad distance";
    case ISAL_INVALID_WRAPPER: return "gzip: bad header";
    case ISAL_UNSUPPORTED_METHOD: return "gzip: unknown method";
    case ISAL_INCORRECT_CHECKSUM: return "gzip: checksum does not match";
    default: return "gzip: damaged";
  }
}

// Enough bytes to decide: kUnknown asks for more.
Compression Guess(std::string_view head, size_t whole) {
  auto begins = [&](std::string_view magic) { return head == magic.substr(0, head.size()) || head.starts_with(magic); };
  const bool is_skippable = !head.empty() && (static_cast<uint8_t>(head[0]) & 0xf0) == 0x50 &&
                            head.substr(1) == kZstdSkippableMagic.substr(0, head.size() - 1);
  if (head.starts_with(kGzipMagic)) return Compression::kGzip;
  if (head.size() < whole && (begins(kGzipMagic) || begins(kZstdMagic) || is_skippable)) return Compression::kUnknown;
  if (head.starts_with(kZstdMagic) || (head.size() == whole && is_skippable)) return Compression::kZstd;
  return Compression::kNone;
}

}  // namespace

struct Inflater::Gzip {
  inflate_state state;
};
struct Inflater::Zstd {
  Zstd() : stream(ZSTD_createDStream()) {}
  ~Zstd() { ZSTD_freeDStream(stream); }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;
  ZSTD_DStream* stream;
  bool in_frame = false;
};

Inflater::Inflater(ByteSink& sink) : sink_(sink) {}
Inflater::~Inflater() = default;

Result<> Inflater::Push(std::string_view bytes) {
  if (compression_ != Compression::kUnknown) return Dispatch(bytes);
  while (compression_ == Compression::kUnknown && !bytes.empty()) {
    magic_[magic_bytes_++] = bytes.front();
    bytes.remove_prefix(1);
    compression_ = Guess({magic_, magic_bytes_}, sizeof magic_);
  }
  if (compression_ == Compression::kUnknown) return {};
  TRY(Begin());
  return Dispatch(bytes);
}

// The kind is known: start its decoder with the bytes that told it.
Result<> Inflater::Begin() {
  if (compression_ == Compression::kGzip) {
    gzip_ = std::make_unique<Gzip>();
    isal_inflate_init(&gzip_->state);
    gzip_->state.crc_flag = ISAL_GZIP;
  } else if (compression_ == Compression::kZstd) {
    zstd_ = std::make_unique<Zstd>();
    if (zstd_->stream == nullptr) return Error(Code::kResourceExhausted, "zstd: no memory");
    ZSTD_initDStream(zstd_->stream);
    ZSTD_DCtx_setParameter(zstd_->stream, ZSTD_d_windowLogMax, kZstdWindowLogMax);
  }
  return Dispatch({magic_, magic_bytes_});
}

Result<> Inflater::Dispatch(std::string_view bytes) {
  switch (compression_) {
    case Compression::kGzip: return PushGzip(bytes);
    case Compression::kZstd: return PushZstd(bytes);
    default: return Copy(bytes);
  }
}

Result<> Inflater::Finish() {
  if (compression_ == Compression::kUnknown) {  // too short for any magic
    compression_ = Compression::kNone;
    return Copy({magic_, magic_bytes_});
  }
  if (compression_ == Compression::kGzip && gzip_->state.block_state != ISAL_BLOCK_FINISH) {
    return Damaged("gzip: the stream is cut off");
  }
  if (compression_ == Compression::kZstd && zstd_->in_frame) return Damaged("zstd: the stream is cut off");
  return {};
}

static Error Closed() { return Error(Code::kCancelled, "the reader of the plain bytes is gone"); }

Result<> Inflater::Copy(std::string_view bytes) {
  while (!bytes.empty()) {
    std::span<char> room = sink_.Room();
    if (room.empty()) return Closed();
    size_t n = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), n);
    bytes.remove_prefix(n);
    TRY(sink_.Filled(n));
  }
  return {};
}

Result<> Inflater::PushGzip(std::string_view bytes) {
  inflate_state& state = gzip_->state;
  while (!bytes.empty()) {
    if (state.block_state == ISAL_BLOCK_FINISH) {  // another member
      isal_inflate_reset(&state);
      state.crc_flag = ISAL_GZIP;
    }
    std::string_view slice = bytes.substr(0, kGzipInputMax);
    state.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(slice.data()));  // ISA-L only reads it
    state.avail_in = static_cast<uint32_t>(slice.size());
    bool out_was_full = false;
    do {
      std::span<char> room = sink_.Room();
      if (room.empty()) return Closed();
      const size_t room_bytes = std::min<size_t>(room.size(), kGzipInputMax);
      state.next_out = reinterpret_cast<uint8_t*>(room.data());
      state.avail_out = static_cast<uint32_t>(room_bytes);
      int rc = isal_inflate(&state);
      if (rc != ISAL_DECOMP_OK && rc != ISAL_END_INPUT && rc != ISAL_OUT_OVERFLOW) return Damaged(IsalError(rc));
      out_was_full = state.avail_out == 0;
      if (size_t filled = room_bytes - state.avail_out; filled > 0) TRY(sink_.Filled(filled));
      // Plain bytes may be waiting inside even when all input is taken, as long as the output came full.
    } while (state.block_state != ISAL_BLOCK_FINISH && (state.avail_in > 0 || out_was_full));
    bytes.remove_prefix(slice.size() - state.avail_in);
  }
  return {};
}

Result<> Inflater::PushZstd(std::string_view bytes) {
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  bool out_was_full = false;
  while (in.pos < in.size || out_was_full) {
    std::span<char> room = sink_.Room();
    if (room.empty()) return Closed();
    ZSTD_outBuffer out{room.data(), room.size(), 0};
    size_t left = ZSTD_decompressStream(zstd_->stream, &out, &in);
    if (ZSTD_isError(left)) {
      ZSTD_ErrorCode code = ZSTD_getErrorCode(left);
      std::string message = StrCat("zstd: ", ZSTD_getErrorName(left));
      if (code == ZSTD_error_frameParameter_windowTooLarge) return Error(Code::kInvalidArgument, std::move(message));
      return Damaged(message);
    }
    zstd_->in_frame = left != 0;
    out_was_full = out.pos == out.size && left != 0;
    if (out.pos > 0) TRY(sink_.Filled(out.pos));
  }
  return {};
}

}  // namespace crisp::codec
