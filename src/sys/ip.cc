#include "sys/ip.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "base/strings.h"

namespace crisp::sys {

Result<IpAddress> IpAddress::Parse(std::string_view text) {
  char buffer[INET6_ADDRSTRLEN];
  if (!text.empty() && text.size() < sizeof buffer) {
    buffer[text.copy(buffer, text.size())] = '\0';
    uint8_t bytes[16];
    static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (std::strlen(buffer) != text.size()) return Error(Code::kInvalidArgument, StrCat("no IP address: ", Quote(text)));
    if (inet_pton(AF_INET, buffer, bytes) == 1) return FromBytes(AF_INET, bytes);
    if (inet_pton(AF_INET6, buffer, bytes) == 1) {
      if (std::memcmp(bytes, kMapped, sizeof kMapped) == 0) return FromBytes(AF_INET, bytes + 12);
      return FromBytes(AF_INET6, bytes);
    }
  }
  return Error(Code::kInvalidArgument, StrCat("no IP address: ", Quote(text)));
}

IpAddress IpAddress::Any(int family) {
  IpAddress address;
  address.family_ = family;
  return address;
}

IpAddress IpAddress::FromBytes(int family, const void* bytes) {
  IpAddress address = Any(family);
  std::memcpy(address.bytes_.data(), bytes, address.size());
  return address;
}

std::string IpAddress::Text() const {
  char buffer[INET6_ADDRSTRLEN];
  return inet_ntop(family_, bytes_.data(), buffer, sizeof buffer) != nullptr ? buffer : "";
}

bool IpAddress::unspecified() const { return bytes_ == std::array<uint8_t, 16>{}; }

IpAddress IpAddress::Next() const {
  IpAddress next = *this;
  for (size_t i = size(); i-- > 0;) {
    if (++next.bytes_[i] != 0) break;
  }
  return next;
}

IpAddress IpAddress::Previous() const {
  IpAddress previous = *this;
  for (size_t i = size(); i-- > 0;) {
    if (previous.bytes_[i]-- != 0) break;
  }
  return previous;
}

Result<IpPrefix> IpPrefix::Parse(std::string_view text) {
  size_t slash = text.find('/');
  if (slash == std::string_view::npos) {
    return Error(Code::kInvalidArgument, StrCat("no IP prefix (address/length): ", Quote(text)));
  }
  IpPrefix prefix;
  prefix.address = TRY(IpAddress::Parse(text.substr(0, slash)));
  auto length = ParseInt<unsigned>(text.substr(slash + 1));
  if (!length || *length > prefix.address.size() * 8) {
    return Error(Code::kInvalidArgument, StrCat("no prefix length in ", Quote(text)));
  }
  prefix.length = static_cast<int>(*length);
  return prefix;
}

std::string IpPrefix::Text() const { return StrCat(address.Text(), "/", length); }

namespace {

// `bytes` with the host bits of a prefix of `length` all set to `bit`.
IpAddress FillHostBits(const IpAddress& address, int length, bool bit) {
  uint8_t bytes[16];
  std::memcpy(bytes, address.data(), address.size());
  for (int i = 0; i < static_cast<int>(address.size()); ++i) {
    int kept = std::clamp(length - 8 * i, 0, 8);
    auto host = static_cast<uint8_t>(0xff >> kept);
    bytes[i] = static_cast<uint8_t>(bit ? bytes[i] | host : bytes[i] & ~host);
  }
  return IpAddress::FromBytes(address.family(), bytes);
}

}  // namespace

IpAddress IpPrefix::Network() const { return FillHostBits(address, length, false); }
IpAddress IpPrefix::Last() const { return FillHostBits(address, length, true); }

bool IpPrefix::Contains(const IpAddress& other) const {
  return other.family() == address.family() && Network() <= other && other <= Last();
}

}  // namespace crisp::sys
