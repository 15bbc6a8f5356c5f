#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "base/strings.h"
#include "codec/tar.h"

namespace crisp::codec {

namespace {

// Fields of a header block (POSIX.1 "ustar Interchange Format"; GNU: tar manual, "Basic Tar Format").
struct Field {
  size_t offset;
  size_t length;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12},
    kChecksum{148, 8}, kType{156, 1}, kLinkName{157, 100}, kMagic{257, 8}, kDevMajor{329, 8}, kDevMinor{337, 8},
    kPrefix{345, 155}, kStarPrefix{345, 131}, kStarTrailer{508, 4};
// Old GNU sparse header: four pairs, then "is extended", then the real size. An extension block: 21 pairs and the flag.
constexpr Field kGnuSparse{386, 96}, kGnuExtended{482, 1}, kGnuRealSize{483, 12};
constexpr size_t kSparsePairBytes = 24, kExtensionPairs = 21, kExtensionFlag = 504;

std::string_view Bytes(std::string_view block, Field field) { return block.substr(field.offset, field.length); }
std::string_view Text(std::string_view block, Field field) {
  std::string_view bytes = Bytes(block, field);
  return bytes.substr(0, bytes.find('\0'));
}

Error Damaged(std::string_view what) { return Error(Code::kDataLoss, StrCat("tar: ", what)); }
Error Refused(std::string what) { return Error(Code::kInvalidArgument, StrCat("tar: ", what)); }

// Big-endian two's complement with the first bit as the mark, as GNU tar writes what octal cannot hold.
std::optional<int64_t> ParseBase256(std::string_view field) {
  const bool is_negative = (static_cast<uint8_t>(field[0]) & 0x40) != 0;
  const uint8_t fill = is_negative ? 0xff : 0;
  uint64_t value = is_negative ? ~uint64_t{0} : 0;
  for (size_t i = 0; i < field.size(); ++i) {
    uint8_t byte = static_cast<uint8_t>(field[i]);
    if (i == 0) byte = static_cast<uint8_t>(is_negative ? byte | 0x80 : byte & 0x7f);
    // A byte shifted out at the top must be sign only, and so must the top bit that stays.
    if (field.size() - i > 8 && byte != fill) return std::nullopt;
    value = value << 8 | byte;
  }
  if ((value >> 63 != 0) != is_negative) return std::nullopt;
  return static_cast<int64_t>(value);
}

// Octal between blanks and NULs; empty is 0.
std::optional<int64_t> ParseNumber(std::string_view field) {
  if ((static_cast<uint8_t>(field[0]) & 0x80) != 0) return ParseBase256(field);
  auto is_filler = [](char c) { return c == ' ' || c == '\0'; };
  while (!field.empty() && is_filler(field.front())) field.remove_prefix(1);
  field = field.substr(0, field.find('\0'));
  while (!field.empty() && is_filler(field.back())) field.remove_suffix(1);
  if (field.empty()) return 0;
  int64_t value = 0;
  for (char c : field) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value << 3 | (c - '0');  // at most 12 digits: no overflow
  }
  return value;
}

Result<int64_t> Number(std::string_view block, Field field, std::string_view name) {
  std::optional<int64_t> value = ParseNumber(Bytes(block, field));
  if (!value) return Damaged(StrCat("bad ", name, " field in a header"));
  return *value;
}

Result<uint64_t> Size(std::string_view block, Field field, std::string_view name) {
  int64_t value = TRY(Number(block, field, name));
  if (value < 0) return Refused(StrCat("negative ", name));
  return static_cast<uint64_t>(value);
}

bool ChecksumHolds(std::string_view block) {
  int64_t as_unsigned = 0, as_signed = 0;
  for (size_t i = 0; i < block.size(); ++i) {
    bool in_checksum = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.length;
    char c = in_checksum ? ' ' : block[i];
    as_unsigned += static_cast<uint8_t>(c);
    as_signed += static_cast<int8_t>(c);  // some old programs summed signed chars
  }
  std::optional<int64_t> stated = ParseNumber(Bytes(block, kChecksum));
  return stated && (*stated == as_unsigned || *stated == as_signed);
}

bool IsZero(std::string_view block) {
  return block.find_first_not_of('\0') == std::string_view::npos;
}

// An id that chown(2) takes: 2^32-1 means "leave it alone" there.
Result<uint32_t> OwnerId(int64_t value, std::string_view name) {
  if (value < 0 || value >= 0xffff'ffff) return Refused(StrCat(name, " ", value, " is out of range"));
  return static_cast<uint32_t>(value);
}

// "seconds[.fraction]" with sign, as PAX writes times.
bool ParsePaxTime(std::string_view text, int64_t& seconds, int32_t& nanos) {
  std::string_view whole = text.substr(0, text.find('.'));
  const bool is_negative = whole.starts_with('-');
  std::optional<int64_t> value = ParseInt<int64_t>(whole);
  if (!value) return false;
  std::array<char, 9> digits;
  digits.fill('0');
  if (whole.size() < text.size()) {
    std::string_view fraction = text.substr(whole.size() + 1);
    if (fraction.find_first_not_of("0123456789") != std::string_view::npos) return false;
    std::copy_n(fraction.begin(), std::min(fraction.size(), digits.size()), digits.begin());
  }
  nanos = *ParseInt<int32_t>(std::string_view(digits.data(), digits.size()));
  seconds = *value;
  if (is_negative && nanos != 0) {
    if (seconds == INT64_MIN) return false;
    --seconds;
    nanos = 1'000'000'000 - nanos;
  }
  return true;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string UrlDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 && HexDigit(text[i + 2]) >= 0) {
      out.push_back(static_cast<char>(HexDigit(text[i + 1]) << 4 | HexDigit(text[i + 2])));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::optional<std::string> Base64Decode(std::string_view text) {
  static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (char c : text) {
    size_t digit = kAlphabet.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (count += 6; count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count));
    }
  }
  return out;
}

// "<length> <key>=<value>\n", one after the other; the length counts itself.
Result<std::vector<std::pair<std::string, std::string>>> ParsePaxRecords(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> records;
  while (!text.empty()) {
    size_t blank = text.substr(0, 20).find(' ');
    std::optional<size_t> length;
    if (blank != std::string_view::npos) length = ParseInt<size_t>(text.substr(0, blank));
    if (!length || *length < blank + 3 || *length > text.size() || text[*length - 1] != '\n') {
      return Damaged("bad record in a PAX header");
    }
    std::string_view record = text.substr(blank + 1, *length - blank - 2);
    text.remove_prefix(*length);
    size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return Damaged("bad record in a PAX header");
    records.emplace_back(record.substr(0, equals), record.substr(equals + 1));
  }
  return records;
}

bool HasContent(char type) { return type == '0' || type == '\0' || type == '7' || type == 'S'; }

Result<TarEntry::Type> TypeOf(char type) {
  using enum TarEntry::Type;
  switch (type) {
    case '0':
    case '\0':
    case '7':
    case 'S': return kFile;
    case '1': return kHardlink;
    case '2': return kSymlink;
    case '3': return kCharDevice;
    case '4': return kBlockDevice;
    case '5': return kDirectory;
    case '6': return kFifo;
    default: return Refused(StrCat("entries of type ", Quote(std::string_view(&type, 1)), " are not supported"));
  }
}

// Name of the entry as its header alone has it: the prefix field exists in ustar only (GNU keeps other things there).
std::string HeaderName(std::string_view block) {
  std::string_view name = Text(block, kName);
  if (Bytes(block, kMagic).substr(0, 6) != std::string_view("ustar\0", 6)) return std::string(name);
  bool is_star = Bytes(block, kStarTrailer) == std::string_view("tar\0", 4);
  std::string_view prefix = Text(block, is_star ? kStarPrefix : kPrefix);
  return prefix.empty() ? std::string(name) : StrCat(prefix, "/", name);
}

uint64_t PaddingBytes(uint64_t size) { return (kTarBlock - size % kTarBlock) % kTarBlock; }

}  // namespace

Result<> TarReader::Push(std::string_view bytes) {
  while (!bytes.empty()) TRY(Step(bytes));
  return {};
}

Result<> TarReader::Finish() {
  if (state_ == State::kEnd) return {};
  if (state_ != State::kHeader || !block_.empty()) return Damaged("the archive ends in the middle of an entry");
  if (pending_.has_pax || !pending_.long_name.empty() || !pending_.long_link.empty()) {
    return Damaged("the archive ends after an extended header");
  }
  return {};
}

Result<> TarReader::Step(std::string_view& bytes) {
  switch (state_) {
    case State::kHeader:
    case State::kSparseExtension:
    case State::kSparseMap: {
      std::string_view block;
      if (!TRY(TakeBlock(bytes, block))) return {};
      Result<> done = state_ == State::kHeader      ? OnBlock(block)
                      : state_ == State::kSparseMap ? OnSparseMapBlock(block)
                                                    : OnSparseExtension(block);
      block_.clear();
      return done;
    }
    case State::kMeta: {
      std::string_view part = bytes.substr(0, std::min<uint64_t>(bytes.size(), meta_left_));
      bytes.remove_prefix(part.size());
      meta_left_ -= part.size();
      meta_.append(part);
      TRY(sink_.OnRaw(part));
      return meta_left_ == 0 ? OnMetaDone() : Result<>();
    }
    case State::kData: return OnDataBytes(bytes);
    case State::kPadding: {
      std::string_view part = bytes.substr(0, std::min<uint64_t>(bytes.size(), padding_left_));
      bytes.remove_prefix(part.size());
      padding_left_ -= part.size();
      if (padding_left_ == 0) state_ = State::kHeader;
      return sink_.OnRaw(part);
    }
    case State::kEnd: {
      // Programs pad their archives to a record of 10 KiB and more.
      std::string_view rest = std::exchange(bytes, {});
      return sink_.OnRaw(rest);
    }
  }
  return {};
}

// False: the block is not complete yet. A block that lies whole in `bytes` is not copied.
Result<bool> TarReader::TakeBlock(std::string_view& bytes, std::string_view& block) {
  if (block_.empty() && bytes.size() >= kTarBlock) {
    block = bytes.substr(0, kTarBlock);
    bytes.remove_prefix(kTarBlock);
  } else {
    std::string_view part = bytes.substr(0, kTarBlock - block_.size());
    block_.append(part);
    bytes.remove_prefix(part.size());
    if (block_.size() < kTarBlock) return false;
    block = block_;
  }
  TRY(sink_.OnRaw(block));
  return true;
}

Result<> TarReader::OnBlock(std::string_view block) {
  if (IsZero(block)) {
    if (zero_block_seen_) state_ = State::kEnd;
    zero_block_seen_ = true;
    return {};
  }
  if (zero_block_seen_) return Damaged("a header follows a zero block");
  if (!ChecksumHolds(block)) return Damaged("a header's checksum does not match");
  switch (block[kType.offset]) {
    case 'x': return OnMetaHeader(block, Meta::kPax);
    case 'g': return OnMetaHeader(block, Meta::kPaxGlobal);
    case 'L': return OnMetaHeader(block, Meta::kLongName);
    case 'K': return OnMetaHeader(block, Meta::kLongLink);
    default: return OnEntryHeader(block);
  }
}

Result<> TarReader::OnMetaHeader(std::string_view block, Meta meta) {
  // The size of a meta header is its own field, never a PAX record's: readers that mixed these up could be made to see
  // other entries than the next reader does.
  uint64_t size = TRY(Size(block, kSize, "size"));
  if (size > limits_.meta_bytes_max) {
    return Refused(StrCat("an extended header of ", size, " bytes is over the limit of ", limits_.meta_bytes_max));
  }
  meta_kind_ = meta;
  meta_.clear();
  meta_left_ = size;
  padding_left_ = PaddingBytes(size);
  state_ = State::kMeta;
  return size == 0 ? OnMetaDone() : Result<>();
}

Result<> TarReader::OnMetaDone() {
  state_ = padding_left_ > 0 ? State::kPadding : State::kHeader;
  std::string text = std::exchange(meta_, {});
  switch (meta_kind_) {
    case Meta::kPax:
      pending_.pax = TRY(ParsePaxRecords(text));
      pending_.has_pax = true;
      return {};
    case Meta::kPaxGlobal: TRY(ParsePaxRecords(text)); return {};  // git's commit id and the like: not about any file
    case Meta::kLongName: pending_.long_name = text.substr(0, text.find('\0')); return {};
    case Meta::kLongLink: pending_.long_link = text.substr(0, text.find('\0')); return {};
  }
  return {};
}

Result<> TarReader::OnEntryHeader(std::string_view block) {
  entry_ = TarEntry();
  sparse_ = Sparse();
  const char type = block[kType.offset];
  entry_.type = TRY(TypeOf(type));
  entry_.path = HeaderName(block);
  entry_.link_target = Text(block, kLinkName);
  entry_.mode = static_cast<uint32_t>(TRY(Number(block, kMode, "mode"))) & 07777;
  int64_t uid = TRY(Number(block, kUid, "uid"));
  int64_t gid = TRY(Number(block, kGid, "gid"));
  entry_.mtime_seconds = TRY(Number(block, kMtime, "mtime"));
  stored_bytes_ = TRY(Size(block, kSize, "size"));
  if (entry_.type == TarEntry::Type::kCharDevice || entry_.type == TarEntry::Type::kBlockDevice) {
    uint64_t device_major = TRY(Size(block, kDevMajor, "device number"));
    uint64_t device_minor = TRY(Size(block, kDevMinor, "device number"));
    // The kernel's 12 and 20 bits (include/linux/kdev_t.h).
    if (device_major > 0xfff || device_minor > 0xfffff) return Refused("device number out of range");
    entry_.device_major = static_cast<uint32_t>(device_major);
    entry_.device_minor = static_cast<uint32_t>(device_minor);
  }
  const bool has_pax_uid = std::any_of(pending_.pax.begin(), pending_.pax.end(), [](auto& r) { return r.first == "uid"; });
  const bool has_pax_gid = std::any_of(pending_.pax.begin(), pending_.pax.end(), [](auto& r) { return r.first == "gid"; });
  if (!has_pax_uid) entry_.uid = TRY(OwnerId(uid, "uid"));
  if (!has_pax_gid) entry_.gid = TRY(OwnerId(gid, "gid"));
  if (type == 'S') TRY(BeginOldSparse(block));
  TRY(ApplyPax());
  if (!pending_.long_name.empty()) entry_.path = std::move(pending_.long_name);
  if (!pending_.long_link.empty()) entry_.link_target = std::move(pending_.long_link);
  pending_ = Pending();
  if (entry_.type == TarEntry::Type::kFile && !entry_.is_sparse && entry_.path.ends_with('/')) {
    entry_.type = TarEntry::Type::kDirectory;  // V7 had no type for directories
    if (stored_bytes_ != 0) return Damaged("a directory with content");
  }
  // Hard links and the like may state a size, but no content follows (pax(1): "no data blocks").
  if (!HasContent(type)) stored_bytes_ = 0;
  entry_.size = stored_bytes_;
  left_ = stored_bytes_;
  padding_left_ = PaddingBytes(stored_bytes_);
  if (state_ == State::kSparseExtension) return {};  // the map goes on in the next block
  if (sparse_.map_in_data) {
    state_ = State::kSparseMap;
    return {};
  }
  return DeliverEntry();
}

Result<> TarReader::ApplyPax() {
  for (const auto& [key, value] : pending_.pax) TRY(ApplyPaxRecord(key, value));
  if (!sparse_.is_pax) return {};
  if (entry_.type != TarEntry::Type::kFile) return Refused("a sparse entry that is no file");
  entry_.is_sparse = true;
  if (!sparse_.name.empty()) entry_.path = sparse_.name;
  if (sparse_.major == 1 && sparse_.minor == 0) {
    sparse_.map_in_data = true;
  } else if (sparse_.major != 0 || sparse_.minor > 1) {
    return Refused(StrCat("sparse format ", sparse_.major, ".", sparse_.minor, " is not supported"));
  }
  return {};
}

Result<> TarReader::ApplyPaxRecord(const std::string& key, const std::string& value) {
  constexpr std::string_view kSchily = "SCHILY.xattr.", kLibarchive = "LIBARCHIVE.xattr.", kSparsePrefix = "GNU.sparse.";
  auto number = [&]() -> Result<uint64_t> {
    std::optional<int64_t> parsed = ParseInt<int64_t>(value);
    if (!parsed) return Damaged(StrCat("PAX record ", Quote(key), " is no number"));
    if (*parsed < 0) return Refused(StrCat("PAX record ", Quote(key), " is negative"));
    return static_cast<uint64_t>(*parsed);
  };
  if (key.starts_with(kSchily)) return AddXattr(key.substr(kSchily.size()), value, true);
  if (key.starts_with(kLibarchive)) {
    std::optional<std::string> bytes = Base64Decode(value);
    if (!bytes) return Damaged(StrCat("PAX record ", Quote(key), " is not base64"));
    return AddXattr(UrlDecode(std::string_view(key).substr(kLibarchive.size())), *std::move(bytes), false);
  }
  if (value.empty()) return {};  // POSIX: an empty value takes the record back
  if (key == "path" || key == "linkpath" || key == "GNU.sparse.name") {
    if (value.find('\0') != std::string::npos) return Refused("a name with a NUL byte");
    (key == "path" ? entry_.path : key == "linkpath" ? entry_.link_target : sparse_.name) = value;
  } else if (key == "size") {
    stored_bytes_ = TRY(number());
  } else if (key == "uid") {
    const uint64_t id = TRY(number());
    entry_.uid = TRY(OwnerId(static_cast<int64_t>(id), "uid"));
  } else if (key == "gid") {
    const uint64_t id = TRY(number());
    entry_.gid = TRY(OwnerId(static_cast<int64_t>(id), "gid"));
  } else if (key == "mtime") {
    if (!ParsePaxTime(value, entry_.mtime_seconds, entry_.mtime_nanos)) return Damaged("bad mtime in a PAX header");
  } else if (key.starts_with(kSparsePrefix)) {
    std::string_view sparse_key = std::string_view(key).substr(kSparsePrefix.size());
    sparse_.is_pax = true;
    if (sparse_key == "major" || sparse_key == "minor") {
      uint64_t version = TRY(number());
      (sparse_key == "major" ? sparse_.major : sparse_.minor) = version > 99 ? 99 : static_cast<int>(version);
    } else if (sparse_key == "size" || sparse_key == "realsize") {
      sparse_.real_size = TRY(number());
      sparse_.has_real_size = true;
    } else if (sparse_key == "offset") {  // 0.0: pairs of records
      sparse_.offset = TRY(number());
    } else if (sparse_key == "numbytes") {
      if (entry_.chunks.size() >= limits_.sparse_chunks_max) return Refused("too many sparse chunks");
      entry_.chunks.push_back({sparse_.offset, TRY(number())});
    } else if (sparse_key == "map") {  // 0.1: "offset,length,offset,length…"
      entry_.chunks.clear();
      if (static_cast<size_t>(std::count(value.begin(), value.end(), ',')) / 2 >= limits_.sparse_chunks_max) {
        return Refused("too many sparse chunks");
      }
      std::vector<std::string_view> numbers = Split(value, ',');
      for (size_t i = 0; i + 1 < numbers.size(); i += 2) {
        std::optional<uint64_t> offset = ParseInt<uint64_t>(numbers[i]), length = ParseInt<uint64_t>(numbers[i + 1]);
        if (!offset || !length) return Damaged("bad sparse map");
        entry_.chunks.push_back({*offset, *length});
      }
      if (numbers.size() % 2 != 0) return Damaged("bad sparse map");
    }
  }
  return {};
}

// bsdtar writes each attribute in both notations; SCHILY's bytes need no decoding and win.
Result<> TarReader::AddXattr(std::string name, std::string value, bool replaces) {
  if (name.empty() || name.find('\0') != std::string::npos) return Refused("bad name of an extended attribute");
  for (auto& [known, bytes] : entry_.xattrs) {
    if (known != name) continue;
    if (replaces) bytes = std::move(value);
    return {};
  }
  if (entry_.xattrs.size() >= limits_.xattrs_max) return Refused("too many extended attributes");
  entry_.xattrs.emplace_back(std::move(name), std::move(value));
  return {};
}

static Result<> AddOldPairs(std::string_view pairs, size_t chunks_max, std::vector<TarEntry::Chunk>& chunks) {
  for (size_t at = 0; at + kSparsePairBytes <= pairs.size(); at += kSparsePairBytes) {
    if (pairs[at] == '\0' && pairs[at + 12] == '\0') break;  // an unused pair ends the list
    uint64_t offset = TRY(Size(pairs, {at, 12}, "sparse offset"));
    uint64_t length = TRY(Size(pairs, {at + 12, 12}, "sparse length"));
    if (chunks.size() >= chunks_max) return Refused("too many sparse chunks");
    chunks.push_back({offset, length});
  }
  return {};
}

Result<> TarReader::BeginOldSparse(std::string_view block) {
  entry_.is_sparse = true;
  sparse_.real_size = TRY(Size(block, kGnuRealSize, "size"));
  sparse_.has_real_size = true;
  TRY(AddOldPairs(Bytes(block, kGnuSparse), limits_.sparse_chunks_max, entry_.chunks));
  if (block[kGnuExtended.offset] != '\0') state_ = State::kSparseExtension;
  return {};
}

Result<> TarReader::OnSparseExtension(std::string_view block) {
  TRY(AddOldPairs(block.substr(0, kExtensionPairs * kSparsePairBytes), limits_.sparse_chunks_max, entry_.chunks));
  // Extension blocks that add nothing would go on for ever without reaching the chunk limit.
  sparse_.map.push_back('x');
  if (sparse_.map.size() > limits_.sparse_chunks_max) return Refused("too many sparse headers");
  if (block[kExtensionFlag] != '\0') return {};
  return DeliverEntry();
}

// Format 1.0: the content begins with the map: decimal lines "count, offset, length, offset, length…", filled up to a block.
Result<> TarReader::OnSparseMapBlock(std::string_view block) {
  if (left_ < kTarBlock) return Damaged("a sparse map longer than its file");
  left_ -= kTarBlock;
  if (sparse_.map.size() + block.size() > limits_.meta_bytes_max) return Refused("sparse map over the limit");
  sparse_.map.append(block);
  // Parsed only when the block holds a line's end that could be the last: at most once for each block, and the
  // map is small.
  if (!TRY(ParseSparseMap(sparse_.map))) return {};
  stored_bytes_ = left_;
  padding_left_ = PaddingBytes(left_);
  sparse_.map.clear();
  return DeliverEntry();
}

// False: more to come.
Result<bool> TarReader::ParseSparseMap(std::string_view text) {
  auto next = [&]() -> Result<std::optional<uint64_t>> {
    size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      if (text.size() > 20) return Damaged("bad sparse map");
      return std::optional<uint64_t>();
    }
    std::optional<uint64_t> value = ParseInt<uint64_t>(text.substr(0, end));
    if (!value) return Damaged("bad sparse map");
    text.remove_prefix(end + 1);
    return value;
  };
  std::optional<uint64_t> count = TRY(next());
  if (!count) return false;
  if (*count > limits_.sparse_chunks_max) return Refused("too many sparse chunks");
  // Each number takes two bytes or more: nothing to parse before so many are there.
  if (text.size() < *count * 4) return false;
  entry_.chunks.clear();
  for (uint64_t i = 0; i < *count; ++i) {
    std::optional<uint64_t> offset = TRY(next());
    if (!offset) return false;
    std::optional<uint64_t> length = TRY(next());
    if (!length) return false;
    entry_.chunks.push_back({*offset, *length});
  }
  return true;
}

Result<> TarReader::CheckSparse() {
  if (!sparse_.has_real_size) return Damaged("a sparse file without its size");
  entry_.size = sparse_.real_size;
  uint64_t end = 0, sum = 0;
  for (const TarEntry::Chunk& chunk : entry_.chunks) {
    if (chunk.offset < end || chunk.length > entry_.size || chunk.offset > entry_.size - chunk.length) {
      return Damaged("bad sparse map");
    }
    end = chunk.offset + chunk.length;
    sum += chunk.length;  // no overflow: the chunks lie apart in entry_.size
  }
  if (sum != stored_bytes_) return Damaged("a sparse map that does not fit its content");
  std::erase_if(entry_.chunks, [](const TarEntry::Chunk& chunk) { return chunk.length == 0; });
  return {};
}

Result<> TarReader::CheckEntry() {
  if (entry_.is_sparse) TRY(CheckSparse());
  if (entry_.size > limits_.size_max) {
    return Refused(StrCat("file of ", entry_.size, " bytes is over the limit of ", limits_.size_max));
  }
  if (entry_.path.empty()) return Damaged("an entry without a name");
  if (entry_.path.size() > limits_.path_bytes_max || entry_.link_target.size() > limits_.path_bytes_max) {
    return Refused(StrCat("name of ", std::max(entry_.path.size(), entry_.link_target.size()), " bytes: ",
                          Quote(entry_.path, 64)));
  }
  const bool is_link = entry_.type == TarEntry::Type::kHardlink || entry_.type == TarEntry::Type::kSymlink;
  if (!is_link) entry_.link_target.clear();
  if (is_link && entry_.link_target.empty()) return Damaged(StrCat("link ", Quote(entry_.path), " has no target"));
  return {};
}

Result<> TarReader::DeliverEntry() {
  TRY(CheckEntry());
  chunk_ = 0;
  chunk_done_ = 0;
  left_ = stored_bytes_;
  TRY(sink_.OnEntry(entry_));
  if (left_ == 0 || contents_ == TarContents::kWithoutContents) return EndData();
  state_ = State::kData;
  return {};
}

Result<> TarReader::OnDataBytes(std::string_view& bytes) {
  std::string_view part = bytes.substr(0, std::min<uint64_t>(bytes.size(), left_));
  uint64_t offset = stored_bytes_ - left_;
  if (entry_.is_sparse) {
    const TarEntry::Chunk& chunk = entry_.chunks[chunk_];
    part = part.substr(0, std::min<uint64_t>(part.size(), chunk.length - chunk_done_));
    offset = chunk.offset + chunk_done_;
    chunk_done_ += part.size();
    if (chunk_done_ == chunk.length) {
      ++chunk_;
      chunk_done_ = 0;
    }
  }
  bytes.remove_prefix(part.size());
  left_ -= part.size();
  TRY(sink_.OnData(offset, part));
  return left_ == 0 ? EndData() : Result<>();
}

Result<> TarReader::EndData() {
  state_ = padding_left_ > 0 ? State::kPadding : State::kHeader;
  return sink_.OnEntryEnd();
}

}  // namespace crisp::codec
