#include "network/capability_args.h"

#include <algorithm>

#include "base/strings.h"
#include "sys/ip.h"
#include "sys/netlink_route.h"

namespace crisp::network {

namespace {

const char* ProtocolName(PortMapping::Protocol protocol) {
  switch (protocol) {
    case PortMapping::Protocol::kTcp: return "tcp";
    case PortMapping::Protocol::kUdp: return "udp";
    case PortMapping::Protocol::kSctp: return "sctp";
  }
  return "tcp";
}

Result<Json> PortMappingsJson(const std::vector<PortMapping>& mappings) {
  Json out = Json::array();
  for (const PortMapping& mapping : mappings) {
    if (mapping.host_port <= 0) continue;  // a container port without a host port needs no rule
    if (mapping.host_port > 65535 || mapping.container_port <= 0 || mapping.container_port > 65535) {
      return Error(Code::kInvalidArgument, StrCat("port mapping ", mapping.host_port, " to ", mapping.container_port, " is out of range"));
    }
    Json item{{"hostPort", mapping.host_port}, {"containerPort", mapping.container_port}, {"protocol", ProtocolName(mapping.protocol)}};
    if (!mapping.host_ip.empty()) {
      item["hostIP"] = TRY(sys::IpAddress::Parse(mapping.host_ip), "host ip of port mapping").Text();
    }
    out.push_back(std::move(item));
  }
  return out;
}

std::string Annotation(const PodNetworkRequest& request, const char* key) {
  auto found = request.annotations.find(key);
  return found == request.annotations.end() ? "" : found->second;
}

Result<Json> BandwidthJson(const PodNetworkRequest& request) {
  Json out = Json::object();
  const std::pair<const char*, const char*> directions[] = {{"kubernetes.io/ingress-bandwidth", "ingress"},
                                                            {"kubernetes.io/egress-bandwidth", "egress"}};
  for (const auto& [annotation, direction] : directions) {
    std::string text = Annotation(request, annotation);
    if (text.empty()) continue;
    out[StrCat(direction, "Rate")] = TRY(ParseBandwidth(text), annotation);
    out[StrCat(direction, "Burst")] = INT32_MAX;  // bits; the kubelet's and containerd's value
  }
  return out;
}

}  // namespace

Result<int64_t> ParseBandwidth(std::string_view text) {
  static constexpr struct {
    std::string_view suffix;
    double factor;
  } kSuffixes[] = {{"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0}, {"Ti", 1099511627776.0}, {"Pi", 1125899906842624.0},
                   {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15}};
  std::string_view digits = text;
  double factor = 1;
  for (const auto& [suffix, value] : kSuffixes) {
    if (digits.ends_with(suffix)) {
      digits.remove_suffix(suffix.size());
      factor = value;
      break;
    }
  }
  double number = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size()) {
    return Error(Code::kInvalidArgument, StrCat(Quote(text, 64), " is no quantity"));
  }
  number *= factor;
  if (!(number >= 1e3 && number <= 1e15)) return Error(Code::kInvalidArgument, StrCat(Quote(text, 64), " is not between 1k and 1P"));
  return static_cast<int64_t>(number);
}

Result<std::string> CniArgs(const PodNetworkRequest& request) {
  std::string args = "IgnoreUnknown=1";
  const std::pair<const char*, const std::string&> values[] = {{"K8S_POD_NAMESPACE", request.pod_namespace},
                                                               {"K8S_POD_NAME", request.name},
                                                               {"K8S_POD_INFRA_CONTAINER_ID", request.pod.str()},
                                                               {"K8S_POD_UID", request.uid}};
  for (const auto& [name, value] : values) {
    bool harmless = std::ranges::none_of(value, [](char c) { return c == ';' || c == '=' || static_cast<unsigned char>(c) < ' '; });
    if (!harmless) return Error(Code::kInvalidArgument, StrCat(name, " ", Quote(value, 64), " cannot be a CNI argument"));
    args += StrCat(";", name, "=", value);
  }
  return args;
}

Result<Json> CapabilityArgs(const PodNetworkRequest& request, const std::string& pod_cidrs) {
  Json args = Json::object();
  Json ports = TRY(PortMappingsJson(request.port_mappings));
  if (!ports.empty()) args["portMappings"] = std::move(ports);
  Json bandwidth = TRY(BandwidthJson(request));
  if (!bandwidth.empty()) args["bandwidth"] = std::move(bandwidth);
  if (!request.dns_servers.empty() || !request.dns_searches.empty() || !request.dns_options.empty()) {
    args["dns"] = {{"servers", request.dns_servers}, {"searches", request.dns_searches}, {"options", request.dns_options}};
  }
  if (!request.cgroup_path.empty()) args["cgroupPath"] = request.cgroup_path;
  if (!request.annotations.empty()) args["io.kubernetes.cri.pod-annotations"] = request.annotations;
  for (std::string_view cidr : Split(pod_cidrs, ',')) {
    if (!Trim(cidr).empty()) args["ipRanges"].push_back(Json::array({Json{{"subnet", Trim(cidr)}}}));
  }
  if (std::string ips = Annotation(request, "crisp.dev/cni-ips"); !ips.empty()) {
    for (std::string_view ip : Split(ips, ',')) args["ips"].push_back(TRY(sys::IpAddress::Parse(Trim(ip)), "crisp.dev/cni-ips").Text());
  }
  if (std::string mac = Annotation(request, "crisp.dev/cni-mac"); !mac.empty()) {
    args["mac"] = sys::MacText(TRY(sys::ParseMac(mac), "crisp.dev/cni-mac"));
  }
  return args;
}

}  // namespace crisp::network
