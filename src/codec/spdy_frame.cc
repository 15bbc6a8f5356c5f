#include "codec/spdy_frame.h"

#include <zlib.h>

#include <algorithm>
#include <cctype>

#include "base/check.h"
#include "base/strings.h"

namespace crisp::codec {
namespace {

constexpr size_t kFrameHeaderBytes = 8;
constexpr uint16_t kVersion = 3;
constexpr uint32_t kStreamMask = 0x7fffffff;
// Small tables: blocks are a few hundred bytes, and each connection keeps its own.
constexpr int kDeflateWindowBits = 11;  // more than the dictionary
constexpr int kDeflateMemLevel = 2;

uint32_t Get32(std::string_view bytes, size_t at) {
  auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + i])); };
  return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

void Put32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift & 0xff));
}

void PutControlHeader(std::string& out, SpdyType type, uint8_t flags, size_t length) {
  Put32(out, 0x80000000u | uint32_t{kVersion} << 16 | static_cast<uint32_t>(type));
  Put32(out, uint32_t{flags} << 24 | static_cast<uint32_t>(length));
}

// The draft's dictionary: names with their lengths as in a header block, then texts that are frequent in values.
std::string MakeDictionary() {
  constexpr std::string_view kNames[] = {"options",
                                         "head",
                                         "post",
                                         "put",
                                         "delete",
                                         "trace",
                                         "accept",
                                         "accept-charset",
                                         "accept-encoding",
                                         "accept-language",
                                         "accept-ranges",
                                         "age",
                                         "allow",
                                         "authorization",
                                         "cache-control",
                                         "connection",
                                         "content-base",
                                         "content-encoding",
                                         "content-language",
                                         "content-length",
                                         "content-location",
                                         "content-md5",
                                         "content-range",
                                         "content-type",
                                         "date",
                                         "etag",
                                         "expect",
                                         "expires",
                                         "from",
                                         "host",
                                         "if-match",
                                         "if-modified-since",
                                         "if-none-match",
                                         "if-range",
                                         "if-unmodified-since",
                                         "last-modified",
                                         "location",
                                         "max-forwards",
                                         "pragma",
                                         "proxy-authenticate",
                                         "proxy-authorization",
                                         "range",
                                         "referer",
                                         "retry-after",
                                         "server",
                                         "te",
                                         "trailer",
                                         "transfer-encoding",
                                         "upgrade",
                                         "user-agent",
                                         "vary",
                                         "via",
                                         "warning",
                                         "www-authenticate",
                                         "method",
                                         "get",
                                         "status",
                                         "200 OK",
                                         "version",
                                         "HTTP/1.1",
                                         "url",
                                         "public",
                                         "set-cookie",
                                         "keep-alive",
                                         "origin"};
  std::string out;
  for (std::string_view name : kNames) {
    Put32(out, static_cast<uint32_t>(name.size()));
    out += name;
  }
  out +=
      "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
      "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
      "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
      "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
      "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
      "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
  return out;
}

const std::string& Dictionary() {
  static const std::string dictionary = MakeDictionary();
  return dictionary;
}

const Bytef* AsBytes(const std::string& text) { return reinterpret_cast<const Bytef*>(text.data()); }

Error Bad(std::string_view what) { return Error(Code::kInvalidArgument, StrCat("spdy: ", what)); }

bool HasUpperCase(std::string_view name) {
  return std::ranges::any_of(name, [](unsigned char c) { return c >= 'A' && c <= 'Z'; });
}

// The inflated block as headers; false when it is not to be used.
bool SplitHeaders(std::string_view plain, size_t headers_max, SpdyHeaders& out) {
  if (plain.size() < 4) return false;
  uint32_t count = Get32(plain, 0);
  if (count > headers_max) return false;
  size_t at = 4;
  auto text = [&](std::string_view& value) {
    if (plain.size() - at < 4) return false;
    uint32_t size = Get32(plain, at);
    at += 4;
    if (size > plain.size() - at) return false;
    value = plain.substr(at, size);
    at += size;
    return true;
  };
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view name, value;
    if (!text(name) || !text(value) || name.empty() || HasUpperCase(name)) return false;
    if (std::ranges::any_of(out, [&](const auto& header) { return header.first == name; })) return false;
    out.emplace_back(name, value);
  }
  return at == plain.size();
}

}  // namespace

std::string_view FindSpdyHeader(const SpdyHeaders& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key == name) return std::string_view(value).substr(0, value.find('\0'));
  }
  return {};
}

// ---- reader

struct SpdyFrameReader::Zlib {
  Zlib() { CHECK(inflateInit(&stream) == Z_OK); }
  ~Zlib() { inflateEnd(&stream); }
  Zlib(const Zlib&) = delete;
  Zlib& operator=(const Zlib&) = delete;
  z_stream stream{};
};

SpdyFrameReader::SpdyFrameReader(const Limits& limits) : limits_(limits) {}
SpdyFrameReader::~SpdyFrameReader() = default;

Result<std::optional<SpdyFrame>> SpdyFrameReader::Next(std::string_view& input) {
  while (true) {
    if (in_data_) return NextData(input);
    if (skipping_) {
      size_t taken = std::min(remaining_, input.size());
      input.remove_prefix(taken);
      remaining_ -= taken;
      if (remaining_ > 0) return std::optional<SpdyFrame>();
      skipping_ = false;
    }
    if (header_.size() < kFrameHeaderBytes) {
      size_t taken = std::min(kFrameHeaderBytes - header_.size(), input.size());
      header_.append(input.substr(0, taken));
      input.remove_prefix(taken);
      if (header_.size() < kFrameHeaderBytes) return std::optional<SpdyFrame>();
      TRY(BeginFrame());
      if (in_data_ || skipping_) continue;
    }
    size_t taken = std::min(remaining_, input.size());
    header_.append(input.substr(0, taken));
    input.remove_prefix(taken);
    remaining_ -= taken;
    if (remaining_ > 0) return std::optional<SpdyFrame>();
    SpdyFrame frame = TRY(ParseControl());
    header_.clear();
    return std::optional<SpdyFrame>(std::move(frame));
  }
}

std::optional<SpdyFrame> SpdyFrameReader::NextData(std::string_view& input) {
  if (input.empty() && remaining_ > 0) return std::nullopt;
  SpdyFrame piece;
  piece.stream = data_.stream;
  piece.data = input.substr(0, std::min(remaining_, input.size()));
  input.remove_prefix(piece.data.size());
  remaining_ -= piece.data.size();
  if (remaining_ == 0) {
    piece.flags = data_.flags;
    in_data_ = false;
  }
  return piece;
}

// The eight bytes are there: what kind of payload follows, and is it one that we take?
Result<> SpdyFrameReader::BeginFrame() {
  uint32_t first = Get32(header_, 0), second = Get32(header_, 4);
  uint8_t flags = static_cast<uint8_t>(second >> 24);
  remaining_ = second & kSpdyDataMax;
  if ((first & 0x80000000u) == 0) {
    data_ = {.type = SpdyType::kData, .flags = flags, .stream = first};
    in_data_ = true;
    header_.clear();
    return {};
  }
  if ((first >> 16 & 0x7fff) != kVersion) return Bad(StrCat("version ", first >> 16 & 0x7fff));
  switch (static_cast<SpdyType>(first & 0xffff)) {
    case SpdyType::kSynStream:
    case SpdyType::kSynReply:
    case SpdyType::kRstStream:
    case SpdyType::kSettings:
    case SpdyType::kPing:
    case SpdyType::kGoAway:
    case SpdyType::kHeaders:
    case SpdyType::kWindowUpdate:
      // It must be inflated to go on, so a block that is too long cannot be skipped.
      if (remaining_ > limits_.control_bytes_max) return Bad(StrCat("control frame of ", remaining_, " bytes"));
      return {};
    default:  // the draft: frames of unknown types are ignored
      skipping_ = true;
      header_.clear();
      return {};
  }
}

Result<SpdyFrame> SpdyFrameReader::ParseControl() {
  SpdyFrame frame;
  frame.type = static_cast<SpdyType>(Get32(header_, 0) & 0xffff);
  frame.flags = static_cast<uint8_t>(header_[4]);
  std::string_view payload = std::string_view(header_).substr(kFrameHeaderBytes);
  auto wants = [&](size_t bytes) -> Result<> {
    if (payload.size() == bytes) return {};
    return Bad(StrCat("frame of type ", static_cast<int>(frame.type), " with ", payload.size(), " bytes"));
  };
  switch (frame.type) {
    case SpdyType::kSynStream:
      if (payload.size() < 10) return Bad("short SYN_STREAM");
      frame.stream = Get32(payload, 0) & kStreamMask;
      TRY(ParseHeaderBlock(payload.substr(10), frame));
      return frame;
    case SpdyType::kSynReply:
    case SpdyType::kHeaders:
      if (payload.size() < 4) return Bad("short SYN_REPLY or HEADERS");
      frame.stream = Get32(payload, 0) & kStreamMask;
      TRY(ParseHeaderBlock(payload.substr(4), frame));
      return frame;
    case SpdyType::kSettings: TRY(ParseSettings(frame)); return frame;
    case SpdyType::kPing:
      TRY(wants(4));
      frame.value = Get32(payload, 0);
      return frame;
    default:  // RST_STREAM, GOAWAY, WINDOW_UPDATE: two numbers
      TRY(wants(8));
      frame.stream = Get32(payload, 0) & kStreamMask;
      frame.value = Get32(payload, 4);
      if (frame.type == SpdyType::kWindowUpdate) frame.value &= kStreamMask;
      return frame;
  }
}

Result<> SpdyFrameReader::ParseHeaderBlock(std::string_view block, SpdyFrame& frame) {
  std::string plain = TRY(Inflate(block));
  frame.bad_headers = !SplitHeaders(plain, limits_.headers_max, frame.headers);
  if (frame.bad_headers) frame.headers.clear();
  return {};
}

Result<> SpdyFrameReader::ParseSettings(SpdyFrame& frame) {
  std::string_view payload = std::string_view(header_).substr(kFrameHeaderBytes);
  if (payload.size() < 4) return Bad("short SETTINGS");
  uint32_t count = Get32(payload, 0);
  if (count > limits_.settings_max || payload.size() - 4 != size_t{count} * 8) {
    return Bad(StrCat("SETTINGS with ", count, " entries in ", payload.size(), " bytes"));
  }
  for (size_t at = 4; at < payload.size(); at += 8) {
    frame.settings.emplace_back(Get32(payload, at) & 0xffffff, Get32(payload, at + 4));
  }
  return {};
}

Result<std::string> SpdyFrameReader::Inflate(std::string_view block) {
  if (!zlib_) zlib_ = std::make_unique<Zlib>();
  z_stream& stream = zlib_->stream;
  std::string plain;
  std::string input(block);  // zlib wants it writable
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  char buffer[4096];
  while (true) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    int answer = inflate(&stream, Z_SYNC_FLUSH);
    if (answer == Z_NEED_DICT) {
      if (inflateSetDictionary(&stream, AsBytes(Dictionary()), static_cast<uInt>(Dictionary().size())) != Z_OK) {
        return Bad("a header block with another dictionary");
      }
      continue;
    }
    size_t got = sizeof buffer - stream.avail_out;
    if (plain.size() + got > limits_.header_bytes_max) return Bad("a header block without end");
    plain.append(buffer, got);
    if (answer == Z_BUF_ERROR || (answer == Z_OK && stream.avail_in == 0 && stream.avail_out > 0)) break;
    if (answer != Z_OK) return Bad("a damaged header block");  // also Z_STREAM_END: the stream lasts as the connection
  }
  if (stream.avail_in != 0) return Bad("a damaged header block");
  return plain;
}

// ---- writer

struct SpdyFrameWriter::Zlib {
  Zlib() {
    CHECK(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kDeflateWindowBits, kDeflateMemLevel,
                       Z_DEFAULT_STRATEGY) == Z_OK);
    CHECK(deflateSetDictionary(&stream, AsBytes(Dictionary()), static_cast<uInt>(Dictionary().size())) == Z_OK);
  }
  ~Zlib() { deflateEnd(&stream); }
  Zlib(const Zlib&) = delete;
  Zlib& operator=(const Zlib&) = delete;
  z_stream stream{};
};

SpdyFrameWriter::SpdyFrameWriter() = default;
SpdyFrameWriter::~SpdyFrameWriter() = default;

std::string SpdyFrameWriter::Deflate(const SpdyHeaders& headers) {
  if (!zlib_) zlib_ = std::make_unique<Zlib>();
  std::string plain;
  Put32(plain, static_cast<uint32_t>(headers.size()));
  for (const auto& [name, value] : headers) {
    for (const std::string* text : {&name, &value}) {
      Put32(plain, static_cast<uint32_t>(text->size()));
      plain += *text;
    }
  }
  z_stream& stream = zlib_->stream;
  stream.next_in = reinterpret_cast<Bytef*>(plain.data());
  stream.avail_in = static_cast<uInt>(plain.size());
  std::string out;
  char buffer[1024];
  do {
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    int answer = deflate(&stream, Z_SYNC_FLUSH);
    CHECK(answer == Z_OK || answer == Z_BUF_ERROR);
    out.append(buffer, sizeof buffer - stream.avail_out);
  } while (stream.avail_out == 0);
  return out;
}

void SpdyFrameWriter::SynStream(std::string& out, uint32_t stream, const SpdyHeaders& headers, uint8_t flags) {
  std::string block = Deflate(headers);
  PutControlHeader(out, SpdyType::kSynStream, flags, 10 + block.size());
  Put32(out, stream);
  Put32(out, 0);        // no associated stream
  out.append(2, '\0');  // highest priority, no credential
  out += block;
}

void SpdyFrameWriter::SynReply(std::string& out, uint32_t stream, const SpdyHeaders& headers, uint8_t flags) {
  std::string block = Deflate(headers);
  PutControlHeader(out, SpdyType::kSynReply, flags, 4 + block.size());
  Put32(out, stream);
  out += block;
}

void SpdyFrameWriter::Data(std::string& out, uint32_t stream, std::string_view bytes, uint8_t flags) {
  CHECK(bytes.size() <= kSpdyDataMax);
  Put32(out, stream);
  Put32(out, uint32_t{flags} << 24 | static_cast<uint32_t>(bytes.size()));
  out += bytes;
}

void SpdyFrameWriter::RstStream(std::string& out, uint32_t stream, SpdyStatus status) {
  PutControlHeader(out, SpdyType::kRstStream, 0, 8);
  Put32(out, stream);
  Put32(out, static_cast<uint32_t>(status));
}

void SpdyFrameWriter::Settings(std::string& out, const std::vector<std::pair<uint32_t, uint32_t>>& settings) {
  PutControlHeader(out, SpdyType::kSettings, 0, 4 + settings.size() * 8);
  Put32(out, static_cast<uint32_t>(settings.size()));
  for (const auto& [id, value] : settings) {
    Put32(out, id);
    Put32(out, value);
  }
}

void SpdyFrameWriter::Ping(std::string& out, uint32_t id) {
  PutControlHeader(out, SpdyType::kPing, 0, 4);
  Put32(out, id);
}

void SpdyFrameWriter::GoAway(std::string& out, uint32_t last_good_stream, uint32_t status) {
  PutControlHeader(out, SpdyType::kGoAway, 0, 8);
  Put32(out, last_good_stream);
  Put32(out, status);
}

void SpdyFrameWriter::WindowUpdate(std::string& out, uint32_t stream, uint32_t delta) {
  PutControlHeader(out, SpdyType::kWindowUpdate, 0, 8);
  Put32(out, stream);
  Put32(out, delta);
}

}  // namespace crisp::codec
