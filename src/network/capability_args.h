// What a pod's request becomes in CNI terms: CNI_ARGS and the arguments of capabilities
// (https://www.cni.dev/docs/conventions). Pure.
#pragma once

#include <string>

#include "base/json.h"
#include "network/network.h"

namespace crisp::network {

// "IgnoreUnknown=1;K8S_POD_NAMESPACE=…". kInvalidArgument when a value would forge another argument.
Result<std::string> CniArgs(const PodNetworkRequest& request);

// By capability: portMappings, bandwidth (annotations kubernetes.io/{in,e}gress-bandwidth), dns, cgroupPath, ipRanges
// (`pod_cidrs`, separated by commas), ips and mac (annotations crisp.dev/cni-ips, crisp.dev/cni-mac), and
// io.kubernetes.cri.pod-annotations. A plugin gets only those that it declares.
Result<Json> CapabilityArgs(const PodNetworkRequest& request, const std::string& pod_cidrs);

// A Kubernetes quantity ("10M", "1.5Gi", "2e6") as a whole number of at least 1000 and at most 10^15, as the kubelet
// wants bandwidths.
Result<int64_t> ParseBandwidth(std::string_view text);

}  // namespace crisp::network
