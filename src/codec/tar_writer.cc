#include <array>
#include <cstring>

#include "base/strings.h"
#include "codec/tar.h"

namespace crisp::codec {

namespace {

constexpr std::array<char, 2 * kTarBlock> kZeros{};
constexpr size_t kNameBytes = 100;
constexpr uint64_t kOctal7Max = 07'777'777, kOctal11Max = 077'777'777'777;

char TypeFlag(TarEntry::Type type) {
  using enum TarEntry::Type;
  switch (type) {
    case kFile: return '0';
    case kHardlink: return '1';
    case kSymlink: return '2';
    case kCharDevice: return '3';
    case kBlockDevice: return '4';
    case kDirectory: return '5';
    case kFifo: return '6';
  }
  return '0';
}

// `digits` octal digits and a NUL.
void PutOctal(char* field, size_t digits, uint64_t value) {
  for (size_t i = digits; i-- > 0; value >>= 3) field[i] = static_cast<char>('0' + (value & 7));
}

std::string Block(std::string_view name, char type, uint32_t mode, uint64_t uid, uint64_t gid, uint64_t size,
                  uint64_t mtime, std::string_view link, uint32_t device_major, uint32_t device_minor) {
  std::string block(kTarBlock, '\0');
  char* at = block.data();
  name.substr(0, kNameBytes).copy(at, kNameBytes);
  PutOctal(at + 100, 7, mode);
  PutOctal(at + 108, 7, uid);
  PutOctal(at + 116, 7, gid);
  PutOctal(at + 124, 11, size);
  PutOctal(at + 136, 11, mtime);
  at[156] = type;
  link.substr(0, kNameBytes).copy(at + 157, kNameBytes);
  std::memcpy(at + 257, "ustar\0" "00", 8);
  PutOctal(at + 329, 7, device_major);
  PutOctal(at + 337, 7, device_minor);
  std::memset(at + 148, ' ', 8);
  uint64_t sum = 0;
  for (char c : block) sum += static_cast<uint8_t>(c);
  PutOctal(at + 148, 6, sum);
  at[154] = '\0';
  return block;
}

void AppendPax(std::string& out, std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;  // blank, '=', newline
  size_t length = rest + 1;
  while (StrCat(length).size() + rest != length) length = StrCat(length).size() + rest;
  out += StrCat(length, " ", key, "=", value, "\n");
}

std::string PaxTime(int64_t seconds, int32_t nanos) {
  // PAX has sign and magnitude, we have a floor and a positive rest.
  const bool is_negative = seconds < 0;
  if (is_negative && nanos != 0) {
    ++seconds;
    nanos = 1'000'000'000 - nanos;
  }
  std::string text = StrCat(is_negative && seconds == 0 ? "-" : "", seconds);
  if (nanos == 0) return text;
  std::string digits = StrCat(nanos);
  return StrCat(text, ".", std::string(9 - digits.size(), '0'), digits);
}

}  // namespace

Result<std::string> TarHeader(const TarEntry& entry) {
  auto is_bad = [](const std::string& name) { return name.size() > 4095 || name.find('\0') != std::string::npos; };
  if (entry.path.empty() || is_bad(entry.path) || is_bad(entry.link_target)) {
    return Error(Code::kInvalidArgument, StrCat("tar: bad name ", Quote(entry.path)));
  }
  if (entry.is_sparse) return Error(Code::kInvalidArgument, "tar: sparse entries are not written");
  std::string pax;
  if (entry.path.size() > kNameBytes) AppendPax(pax, "path", entry.path);
  if (entry.link_target.size() > kNameBytes) AppendPax(pax, "linkpath", entry.link_target);
  if (entry.size > kOctal11Max) AppendPax(pax, "size", StrCat(entry.size));
  if (entry.uid > kOctal7Max) AppendPax(pax, "uid", StrCat(entry.uid));
  if (entry.gid > kOctal7Max) AppendPax(pax, "gid", StrCat(entry.gid));
  const bool mtime_fits = entry.mtime_seconds >= 0 && static_cast<uint64_t>(entry.mtime_seconds) <= kOctal11Max;
  if (!mtime_fits || entry.mtime_nanos != 0) AppendPax(pax, "mtime", PaxTime(entry.mtime_seconds, entry.mtime_nanos));
  for (const auto& [name, value] : entry.xattrs) AppendPax(pax, "SCHILY.xattr." + name, value);
  std::string out;
  if (!pax.empty()) {
    out = Block("PaxHeaders/entry", 'x', 0644, 0, 0, pax.size(), 0, {}, 0, 0) + pax;
    out += TarPadding(pax.size());
  }
  out += Block(entry.path, TypeFlag(entry.type), entry.mode & 07777, entry.uid > kOctal7Max ? 0 : entry.uid,
               entry.gid > kOctal7Max ? 0 : entry.gid, entry.size > kOctal11Max ? 0 : entry.size,
               mtime_fits ? static_cast<uint64_t>(entry.mtime_seconds) : 0, entry.link_target, entry.device_major,
               entry.device_minor);
  return out;
}

std::string_view TarPadding(uint64_t size) {
  return std::string_view(kZeros.data(), (kTarBlock - size % kTarBlock) % kTarBlock);
}

std::string_view TarTrailer() { return std::string_view(kZeros.data(), kZeros.size()); }

}  // namespace crisp::codec
