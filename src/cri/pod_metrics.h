// The metrics of ListPodSandboxMetrics: those that the kubelet shows on /metrics/cadvisor when it takes them from the
// runtime, with cAdvisor's names, meanings and labels, so that dashboards go on. Whole seconds where cAdvisor has
// fractions: CRI's values are integers.
// Threading: any thread. Reads many files: never on gRPC's own thread.
#pragma once

#include "cri/v1/api.pb.h"

#include <map>
#include <span>
#include <string>

#include "base/synchronized.h"
#include "cgroup/cgroup.h"
#include "cri/disk_usage.h"
#include "cri/pod_stats.h"
#include "cri/usage_cache.h"

namespace crisp::cri {

// All there can be, whether or not this machine's kernel gives the number (pressure needs cgroup v2).
v1::ListMetricDescriptorsResponse MetricDescriptors();

class MetricsMaker {
 public:
  // All outlive it.
  MetricsMaker(const cgroup::Cgroups& cgroups, UsageCache& usage, DiskUsage& layers, PodLinks& links)
      : cgroups_(cgroups), usage_(usage), layers_(layers), links_(links) {}

  // Never fails: of a container that does not run there is nothing. `out` is empty.
  void Fill(const Ctx& ctx, const PodAndContainers& pod, v1::PodSandboxMetrics& out);

 private:
  class Series;
  void FillContainer(const Ctx& ctx, const pod::SandboxStatus& pod, const pod::ContainerStatus& container,
                     v1::ContainerMetrics& out);
  void Cpu(const cgroup::Details& details, const spec::Resources& resources, Series& series) const;
  void Memory(const cgroup::Details& details, Series& series) const;
  void DiskIo(const cgroup::Details& details, Series& series);
  void FileSystem(const Ctx& ctx, const std::string& container_id, Series& series);
  void Tasks(const cgroup::Details& details, int main_pid, Series& series) const;
  void Limits(const pod::ContainerStatus& container, Series& series) const;
  void Network(const sys::LinkCounters& link, Series& series) const;
  // "/dev/vda" of a device number; "" where it has no node.
  std::string DeviceName(uint32_t major, uint32_t minor);

  const cgroup::Cgroups& cgroups_;
  UsageCache& usage_;
  DiskUsage& layers_;
  PodLinks& links_;
  Synchronized<std::map<uint64_t, std::string>> device_names_;  // by major and minor
};

}  // namespace crisp::cri
