// Which pods, containers and images a command means: list filters, and ids given as prefixes or names.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ctl/client.h"

namespace crisp::ctl {

struct ListFilter {
  std::string id;                   // prefix
  std::string pod;                  // pod id prefix (containers)
  std::string name;                 // regular expression
  std::string pod_namespace;        // regular expression
  std::string image;                // substring (containers)
  std::string state;                // "ready"/"notready"; "created"/"running"/"exited"/"unknown"; any beginning of it
  std::vector<std::string> labels;  // "key=value"
  bool all = false;                 // containers: not only the running ones
  bool latest = false;
  int last = 0;  // 0: all
};

// Label names by which the kubelet tells what a container belongs to.
inline constexpr const char* kPodNameLabel = "io.kubernetes.pod.name";
inline constexpr const char* kPodNamespaceLabel = "io.kubernetes.pod.namespace";

// The filter's part that the runtime applies itself. kInvalidArgument: unknown state, label without '='.
Result<cri::PodSandboxFilter> ToPodFilter(const ListFilter& filter);
Result<cri::ContainerFilter> ToContainerFilter(const ListFilter& filter);

// The rest: newest first, then by name, namespace, last n. kInvalidArgument: no regular expression.
Result<std::vector<cri::PodSandbox>> SelectPods(const cri::ListPodSandboxResponse& list, const ListFilter& filter);
// `namespaces`: pod id → pod namespace.
Result<std::vector<cri::Container>> SelectContainers(const cri::ListContainersResponse& list, const ListFilter& filter,
                                                     const std::map<std::string, std::string>& namespaces);

Result<std::vector<cri::PodSandbox>> ListPods(Client& client, const ListFilter& filter);
Result<std::vector<cri::Container>> ListContainers(Client& client, const ListFilter& filter);

// A full id, the beginning of one id only, or the name of exactly one pod or container. A full id is believed.
Result<std::string> FindPod(Client& client, const std::string& text);
Result<std::string> FindContainer(Client& client, const std::string& text);

}  // namespace crisp::ctl
