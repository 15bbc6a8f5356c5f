#include "network/cni_result.h"

#include <algorithm>

#include "base/strings.h"

namespace crisp::network {

namespace {

constexpr size_t kItemsMax = 1024;  // of interfaces, addresses, routes: a plugin that sends more is broken

int Rank(std::string_view version) {
  auto found = std::ranges::find(kCniVersions, version);
  return static_cast<int>(found - std::begin(kCniVersions));
}

// Member `key` of `object` as a list of objects; absent or null: empty.
Result<const Json*> ObjectList(const Json& object, const char* key) {
  static const Json kNone = Json::array();
  if (!object.is_object()) return Error(Code::kInvalidArgument, "not an object");
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return &kNone;
  if (!found->is_array() || found->size() > kItemsMax ||
      !std::ranges::all_of(*found, [](const Json& item) { return item.is_object(); })) {
    return Error(Code::kInvalidArgument, StrCat("member ", Quote(key), " is not a list of objects"));
  }
  return &*found;
}

Result<std::optional<sys::IpAddress>> OptionalAddress(const Json& object, const char* key) {
  std::string text = TRY(JsonGet<std::string>(object, key));
  if (text.empty()) return std::optional<sys::IpAddress>();
  return std::optional(TRY(sys::IpAddress::Parse(text), key));
}

Result<uint32_t> OptionalU32(const Json& object, const char* key) {
  uint64_t value = TRY(JsonGet<uint64_t>(object, key));
  if (value > UINT32_MAX) return Error(Code::kInvalidArgument, StrCat("member ", Quote(key), " is out of range"));
  return static_cast<uint32_t>(value);
}

Result<CniInterface> ParseInterface(const Json& item) {
  CniInterface interface;
  interface.name = TRY(JsonGet<std::string>(item, "name"));
  interface.mac = TRY(JsonGet<std::string>(item, "mac"));
  interface.sandbox = TRY(JsonGet<std::string>(item, "sandbox"));
  interface.socket_path = TRY(JsonGet<std::string>(item, "socketPath"));
  interface.pci_id = TRY(JsonGet<std::string>(item, "pciID"));
  interface.mtu = TRY(JsonGet<int64_t>(item, "mtu"));
  return interface;
}

Result<CniIp> ParseIp(const Json& item, const char* address_key) {
  CniIp ip;
  ip.address = TRY(sys::IpPrefix::Parse(TRY(JsonGet<std::string>(item, address_key))), address_key);
  ip.gateway = TRY(OptionalAddress(item, "gateway"));
  if (item.contains("interface") && !item["interface"].is_null()) ip.interface = TRY(JsonGet<int64_t>(item, "interface"));
  return ip;
}

// "ip4" and "ip6" of versions before 0.3.0.
Result<> ParseOldFamily(const Json& json, const char* key, CniResult& result) {
  auto found = json.find(key);
  if (found == json.end() || found->is_null()) return {};
  if (!found->is_object()) return Error(Code::kInvalidArgument, StrCat("member ", Quote(key), " is not an object"));
  result.ips.push_back(TRY(ParseIp(*found, "ip"), key));
  for (sys::Route& route : TRY(ParseCniRoutes(*found, "routes"), key)) result.routes.push_back(std::move(route));
  return {};
}

Json RouteJson(const sys::Route& route, bool with_details) {
  Json json{{"dst", route.destination.Text()}};
  if (route.gateway) json["gw"] = route.gateway->Text();
  if (!with_details) return json;
  if (route.mtu != 0) json["mtu"] = route.mtu;
  if (route.advmss != 0) json["advmss"] = route.advmss;
  if (route.priority != 0) json["priority"] = route.priority;
  if (route.table != 0) json["table"] = route.table;
  if (route.scope) json["scope"] = *route.scope;
  return json;
}

Json InterfaceJson(const CniInterface& interface, bool with_details) {
  Json json{{"name", interface.name}};
  if (!interface.mac.empty()) json["mac"] = interface.mac;
  if (!interface.sandbox.empty()) json["sandbox"] = interface.sandbox;
  if (!with_details) return json;
  if (interface.mtu != 0) json["mtu"] = interface.mtu;
  if (!interface.socket_path.empty()) json["socketPath"] = interface.socket_path;
  if (!interface.pci_id.empty()) json["pciID"] = interface.pci_id;
  return json;
}

Json DnsJson(const CniDns& dns) {
  Json json = Json::object();
  if (!dns.nameservers.empty()) json["nameservers"] = dns.nameservers;
  if (!dns.domain.empty()) json["domain"] = dns.domain;
  if (!dns.search.empty()) json["search"] = dns.search;
  if (!dns.options.empty()) json["options"] = dns.options;
  return json;
}

void PutOldFamily(const CniResult& result, bool v4, Json& json) {
  auto ip = std::ranges::find_if(result.ips, [&](const CniIp& item) { return item.address.address.v4() == v4; });
  if (ip == result.ips.end()) return;
  Json family{{"ip", ip->address.Text()}};
  if (ip->gateway) family["gateway"] = ip->gateway->Text();
  for (const sys::Route& route : result.routes) {
    if (route.destination.address.v4() == v4) family["routes"].push_back(RouteJson(route, false));
  }
  json[v4 ? "ip4" : "ip6"] = std::move(family);
}

}  // namespace

bool KnownCniVersion(std::string_view version) { return Rank(version) < static_cast<int>(std::size(kCniVersions)); }
bool CniVersionAtLeast(std::string_view version, std::string_view other) { return Rank(version) >= Rank(other); }

Result<std::vector<sys::Route>> ParseCniRoutes(const Json& object, const char* key) {
  std::vector<sys::Route> routes;
  for (const Json& item : *TRY(ObjectList(object, key))) {
    sys::Route route;
    route.destination = TRY(sys::IpPrefix::Parse(TRY(JsonGet<std::string>(item, "dst"))), "route");
    route.gateway = TRY(OptionalAddress(item, "gw"), "route");
    if (route.gateway && route.gateway->family() != route.destination.address.family()) {
      return Error(Code::kInvalidArgument, StrCat("route to ", route.destination.Text(), " by another address family"));
    }
    route.mtu = TRY(OptionalU32(item, "mtu"), "route");
    route.advmss = TRY(OptionalU32(item, "advmss"), "route");
    route.priority = TRY(OptionalU32(item, "priority"), "route");
    if (item.contains("table") && !item["table"].is_null()) route.table = TRY(OptionalU32(item, "table"), "route");
    if (item.contains("scope") && !item["scope"].is_null()) {
      uint32_t scope = TRY(OptionalU32(item, "scope"), "route");
      if (scope > 255) return Error(Code::kInvalidArgument, "route scope is out of range");
      route.scope = static_cast<uint8_t>(scope);
    }
    routes.push_back(std::move(route));
  }
  return routes;
}

Result<CniDns> ParseCniDns(const Json& object) {
  CniDns dns;
  auto found = object.find("dns");
  if (found == object.end() || found->is_null()) return dns;
  dns.nameservers = TRY(JsonGet<std::vector<std::string>>(*found, "nameservers"), "dns");
  dns.domain = TRY(JsonGet<std::string>(*found, "domain"), "dns");
  dns.search = TRY(JsonGet<std::vector<std::string>>(*found, "search"), "dns");
  dns.options = TRY(JsonGet<std::vector<std::string>>(*found, "options"), "dns");
  return dns;
}

Result<CniResult> ParseCniResult(const Json& json) {
  if (!json.is_object()) return Error(Code::kInvalidArgument, "CNI result is not an object");
  std::string version = TRY(JsonGet<std::string>(json, "cniVersion", "0.1.0"), "CNI result");
  if (version.empty()) version = "0.1.0";
  if (!KnownCniVersion(version)) {
    return Error(Code::kInvalidArgument, StrCat("CNI result of unknown version ", Quote(version)));
  }
  CniResult result;
  result.dns = TRY(ParseCniDns(json), "CNI result");
  if (!CniVersionAtLeast(version, "0.3.0")) {
    TRY(ParseOldFamily(json, "ip4", result), "CNI result");
    TRY(ParseOldFamily(json, "ip6", result), "CNI result");
    return result;
  }
  for (const Json& item : *TRY(ObjectList(json, "interfaces"), "CNI result")) {
    result.interfaces.push_back(TRY(ParseInterface(item), "CNI result: interface"));
  }
  for (const Json& item : *TRY(ObjectList(json, "ips"), "CNI result")) {
    result.ips.push_back(TRY(ParseIp(item, "address"), "CNI result: address"));
  }
  result.routes = TRY(ParseCniRoutes(json, "routes"), "CNI result");
  return result;
}

Result<Json> CniResultJson(const CniResult& result, std::string_view version) {
  if (!KnownCniVersion(version)) {
    return Error(Code::kInvalidArgument, StrCat("unknown CNI version ", Quote(version)));
  }
  Json json{{"cniVersion", version}, {"dns", DnsJson(result.dns)}};
  if (!CniVersionAtLeast(version, "0.3.0")) {
    PutOldFamily(result, true, json);
    PutOldFamily(result, false, json);
    return json;
  }
  const bool with_details = CniVersionAtLeast(version, "1.1.0");
  const bool with_family = !CniVersionAtLeast(version, "1.0.0");
  for (const CniInterface& interface : result.interfaces) {
    json["interfaces"].push_back(InterfaceJson(interface, with_details));
  }
  for (const CniIp& ip : result.ips) {
    Json item{{"address", ip.address.Text()}};
    if (with_family) item["version"] = ip.address.address.v4() ? "4" : "6";
    if (ip.gateway) item["gateway"] = ip.gateway->Text();
    if (ip.interface) item["interface"] = *ip.interface;
    json["ips"].push_back(std::move(item));
  }
  for (const sys::Route& route : result.routes) json["routes"].push_back(RouteJson(route, with_details));
  return json;
}

}  // namespace crisp::network
