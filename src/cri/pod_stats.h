// What pods use, in CRI's form: their cgroup where they have one of their own, else the sum of their containers; their
// network interfaces, read inside their network namespaces.
// Threading: any thread. Reads files and starts a short thread: never on gRPC's own thread.
#pragma once

#include "cri/v1/api.pb.h"

#include <map>
#include <span>
#include <vector>

#include "base/synchronized.h"
#include "cgroup/cgroup.h"
#include "cri/stats.h"
#include "pod/manager.h"
#include "sys/net_dev.h"

namespace crisp::cri {

// A pod that is ready and its containers, whatever their state.
struct PodAndContainers {
  pod::SandboxRef pod;
  std::vector<pod::ContainerRef> containers;
};
// Of a label or id filter, in one pass over the lists. A pod that is not ready uses nothing and is not among them.
std::vector<PodAndContainers> ReadyPods(const pod::Manager& pods, pod::SandboxFilter filter);

// The pods' interfaces, read at most once in a second.
class PodLinks {
 public:
  struct Reading {
    std::vector<sys::LinkCounters> links;
    int64_t at_unix_nanos = 0;
  };
  // One thread reads all that are not young; what follows finds them here.
  void Prepare(std::span<const PodAndContainers> pods);
  // Absent: on the host's network, or its namespace is gone.
  std::optional<Reading> Of(const pod::SandboxStatus& pod);

 private:
  struct Known {
    std::optional<Reading> reading;
    Clock::time_point read_at;
  };
  void Read(const std::vector<std::string>& netns_paths);

  Synchronized<std::map<std::string, Known>> all_;  // by the namespace's path
};

class PodStatsMaker {
 public:
  // All outlive it.
  PodStatsMaker(const cgroup::Cgroups& cgroups, UsageCache& usage, StatsMaker& containers, PodLinks& links)
      : cgroups_(cgroups), usage_(usage), containers_(containers), links_(links) {}

  // Never fails. `linux` is always set: the kubelet takes it without looking. `out` is empty.
  void Fill(const Ctx& ctx, const PodAndContainers& pod, v1::PodSandboxStats& out);

 private:
  std::optional<UsageCache::Reading> ReadPod(const PodAndContainers& pod);

  const cgroup::Cgroups& cgroups_;
  UsageCache& usage_;
  StatsMaker& containers_;
  PodLinks& links_;
};

// The path of the cgroup that holds this pod and nothing else: one of ours, or the kubelet's, which carries the pod's
// uid in its name. "": none is known, the parent may be everybody's.
std::string PodCgroup(const cgroup::Cgroups& cgroups, const pod::SandboxStatus& pod);

}  // namespace crisp::cri
