// IP addresses and prefixes as values, both families. No locale, no resolver.
#pragma once

#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crisp::sys {

class IpAddress {
 public:
  IpAddress() = default;  // 0.0.0.0
  // Dotted IPv4 or IPv6 text; an IPv4-mapped IPv6 address becomes the IPv4 address. No zone, no port, no spaces.
  static Result<IpAddress> Parse(std::string_view text);
  static IpAddress Any(int family);                                   // 0.0.0.0 or ::
  static IpAddress FromBytes(int family, const void* bytes);          // 4 or 16 bytes, network order

  int family() const { return family_; }
  bool v4() const { return family_ == AF_INET; }
  size_t size() const { return v4() ? 4 : 16; }
  const uint8_t* data() const { return bytes_.data(); }
  std::string_view bytes() const { return {reinterpret_cast<const char*>(bytes_.data()), size()}; }
  std::string Text() const;

  bool unspecified() const;
  IpAddress Next() const;      // + 1, wraps around
  IpAddress Previous() const;  // - 1, wraps around
  // Order within one family is numerical; IPv4 sorts before IPv6.
  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  int family_ = AF_INET;
  std::array<uint8_t, 16> bytes_{};  // IPv4 in the first four, the rest zero
};

// An address with a prefix length: "10.88.0.2/16". Keeps the host bits; Network() clears them.
struct IpPrefix {
  IpAddress address;
  int length = 0;

  static Result<IpPrefix> Parse(std::string_view text);
  static IpPrefix Default(int family) { return {IpAddress::Any(family), 0}; }
  std::string Text() const;
  IpAddress Network() const;    // host bits zero
  IpAddress Last() const;       // host bits one: the broadcast address of an IPv4 network
  bool Contains(const IpAddress& other) const;
  friend bool operator==(const IpPrefix&, const IpPrefix&) = default;
};

}  // namespace crisp::sys
