// SPDY/3.1's frames and header blocks (the SPDY draft 3.1: chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1),
// bytes ⇄ values. What a stream or a window is, is codec/spdy.h's business.
//
// Header blocks of one direction share one zlib stream with the protocol's dictionary: a reader must inflate every
// block that it gets, also of streams that it refuses. Hostile input (CVE-2026-35469's class: counts and lengths of
// 2^32-1, zlib bombs) costs at most the limits below; what cannot be gone on after is kInvalidArgument and ends the
// connection. Threading: values; a reader and a writer belong to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace crisp::codec {

enum class SpdyType : uint16_t {
  kData = 0,
  kSynStream = 1,
  kSynReply = 2,
  kRstStream = 3,
  kSettings = 4,
  kPing = 6,
  kGoAway = 7,
  kHeaders = 8,
  kWindowUpdate = 9,
};

enum class SpdyStatus : uint32_t {  // of RST_STREAM
  kProtocolError = 1,
  kInvalidStream = 2,
  kRefusedStream = 3,
  kUnsupportedVersion = 4,
  kCancel = 5,
  kInternalError = 6,
  kFlowControlError = 7,
  kStreamInUse = 8,
  kStreamAlreadyClosed = 9,
};

inline constexpr uint8_t kSpdyFin = 0x01;
inline constexpr uint8_t kSpdyUnidirectional = 0x02;
inline constexpr uint32_t kSpdyInitialWindowSetting = 7;
inline constexpr size_t kSpdyDataMax = (1u << 24) - 1;

// Names are lower case on the wire. Several values of one name are one text with NULs in between.
using SpdyHeaders = std::vector<std::pair<std::string, std::string>>;
// The first value of `name` (lower case), or "".
std::string_view FindSpdyHeader(const SpdyHeaders& headers, std::string_view name);

struct SpdyFrame {
  SpdyType type = SpdyType::kData;
  uint8_t flags = 0;         // of a piece of DATA: kSpdyFin only with the frame's last piece
  uint32_t stream = 0;       // GOAWAY: the last good stream
  uint32_t value = 0;        // RST_STREAM, GOAWAY: status; WINDOW_UPDATE: delta; PING: id
  bool bad_headers = false;  // the block could be inflated but is not to be used: the stream is to be reset
  SpdyHeaders headers;
  std::vector<std::pair<uint32_t, uint32_t>> settings;
  std::string_view data;  // a piece of DATA, into the input
};

class SpdyFrameReader {
 public:
  struct Limits {
    size_t control_bytes_max = 32 << 10;  // payload of one control frame on the wire
    size_t header_bytes_max = 64 << 10;   // of one header block, inflated
    size_t headers_max = 128;
    size_t settings_max = 64;
  };
  explicit SpdyFrameReader(const Limits& limits);
  ~SpdyFrameReader();

  // Takes bytes from the front of `input` until there is a frame, or all are taken: nothing. DATA comes in pieces as it
  // arrives, everything else whole. After an error the reader is not to be used again.
  Result<std::optional<SpdyFrame>> Next(std::string_view& input);

 private:
  struct Zlib;
  std::optional<SpdyFrame> NextData(std::string_view& input);
  Result<> BeginFrame();
  Result<SpdyFrame> ParseControl();
  Result<> ParseHeaderBlock(std::string_view block, SpdyFrame& frame);
  Result<> ParseSettings(SpdyFrame& frame);
  Result<std::string> Inflate(std::string_view block);

  const Limits limits_;
  std::unique_ptr<Zlib> zlib_;  // made with the first header block
  std::string header_;          // the frame's eight bytes, then a control frame's payload
  bool in_data_ = false, skipping_ = false;
  SpdyFrame data_;        // the DATA frame whose pieces are passing
  size_t remaining_ = 0;  // of its payload, or of a payload that is skipped
};

class SpdyFrameWriter {
 public:
  SpdyFrameWriter();
  ~SpdyFrameWriter();

  // Each appends one frame to `out`.
  void SynStream(std::string& out, uint32_t stream, const SpdyHeaders& headers, uint8_t flags);
  void SynReply(std::string& out, uint32_t stream, const SpdyHeaders& headers, uint8_t flags);
  static void Data(std::string& out, uint32_t stream, std::string_view bytes, uint8_t flags);  // at most kSpdyDataMax
  static void RstStream(std::string& out, uint32_t stream, SpdyStatus status);
  static void Settings(std::string& out, const std::vector<std::pair<uint32_t, uint32_t>>& settings);
  static void Ping(std::string& out, uint32_t id);
  static void GoAway(std::string& out, uint32_t last_good_stream, uint32_t status);
  static void WindowUpdate(std::string& out, uint32_t stream, uint32_t delta);

 private:
  struct Zlib;
  std::string Deflate(const SpdyHeaders& headers);
  std::unique_ptr<Zlib> zlib_;
};

}  // namespace crisp::codec
