// A CNI result as a value, and its JSON forms of specification versions 0.1.0 to 1.1.0
// (https://www.cni.dev/docs/spec/#success; the old forms: "CNI specification 0.2.0" and "0.4.0").
// Parsing is pure, bounded and rejects what does not have the specified type.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "sys/netlink_route.h"

namespace crisp::network {

// The versions of the specification that we speak, oldest first.
constexpr std::string_view kCniVersions[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
bool KnownCniVersion(std::string_view version);
bool CniVersionAtLeast(std::string_view version, std::string_view other);  // both known

struct CniInterface {
  std::string name, mac, sandbox, socket_path, pci_id;
  int64_t mtu = 0;
  friend bool operator==(const CniInterface&, const CniInterface&) = default;
};

struct CniIp {
  sys::IpPrefix address;
  std::optional<sys::IpAddress> gateway;
  std::optional<int64_t> interface;  // index into interfaces
  friend bool operator==(const CniIp&, const CniIp&) = default;
};

struct CniDns {
  std::vector<std::string> nameservers, search, options;
  std::string domain;
  bool empty() const { return nameservers.empty() && search.empty() && options.empty() && domain.empty(); }
  friend bool operator==(const CniDns&, const CniDns&) = default;
};

struct CniResult {
  std::vector<CniInterface> interfaces;
  std::vector<CniIp> ips;
  std::vector<sys::Route> routes;
  CniDns dns;
};

// In the form that its own "cniVersion" names; 0.1.0 when it names none.
Result<CniResult> ParseCniResult(const Json& json);
// kInvalidArgument for an unknown version. Versions before 0.3.0 have no interfaces and one address per family.
Result<Json> CniResultJson(const CniResult& result, std::string_view version);

Result<std::vector<sys::Route>> ParseCniRoutes(const Json& object, const char* key);
Result<CniDns> ParseCniDns(const Json& object);  // its member "dns"

}  // namespace crisp::network
