// What pods use, in CRI's form: their cgroup where they have one of their own, else the sum of their containers; their
// network interfaces, read inside their network namespaces.
// Threading: any thread. Reads files and starts short threads: never on gRPC's own thread.
#pragma once

#include "cri/v1/api.pb.h"

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/beside.h"
#include "base/synchronized.h"
#include "cgroup/cgroup.h"
#include "cri/stats.h"
#include "pod/manager.h"
#include "sys/net_dev.h"

namespace crisp::cri {

// A pod that is ready and its running containers.
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
  // The same while the caller does something else; done when what is returned has been destroyed. The thread goes on with
  // `then`. Not valid(): there was nothing to do, or no thread to do it beside.
  GoingOn<void> BeginPrepare(std::span<const PodAndContainers> pods, std::function<void()> then);
  // Absent: on the host's network, or its namespace is gone.
  std::optional<Reading> Of(const pod::SandboxStatus& pod);

 private:
  struct Known {
    std::optional<Reading> reading;
    Clock::time_point read_at;
  };
  void Read(const std::vector<std::string>& netns_paths);

  Synchronized<std::map<std::string, Known>> all_;  // by the namespace's path
  Pool pool_{{.name = "cri-stats", .threads_max = 8, .never_waits = true, .elsewhere = true}};
};

class PodStatsMaker {
 public:
  // All outlive it.
  PodStatsMaker(const cgroup::Cgroups& cgroups, UsageCache& usage, StatsMaker& containers, PodLinks& links);

  // Never fails. `linux` is always set: the kubelet takes it without looking. `out` is empty.
  void Fill(const Ctx& ctx, const PodAndContainers& pod, v1::PodSandboxStats& out);

  // The same of many, as bytes (see StatsMaker): first the list, then `out` becomes a message with those from `first`
  // on in its field 1.
  struct List {
    std::vector<PodAndContainers> pods;
    EncodedList<pod::SandboxStatus>::EncodedRef names;
    StatsMaker::Names containers;         // of all pods, one after the other
    std::vector<size_t> first_container;  // of each pod, and the end
  };
  List ListOf(std::vector<PodAndContainers> pods);
  Result<size_t> Encode(const Ctx& ctx, const List& list, size_t first, size_t count, size_t bytes_max,
                        grpc::ByteBuffer& out);

 private:
  void FillUse(const PodAndContainers& pod, v1::LinuxPodSandboxStats& out);
  void FillNetworkOf(const PodAndContainers& pod, v1::LinuxPodSandboxStats& out);
  std::optional<UsageCache::Reading> ReadPod(const PodAndContainers& pod);
  void ReadAhead(const PodAndContainers& pod);  // so that all of it is young

  const cgroup::Cgroups& cgroups_;
  UsageCache& usage_;
  StatsMaker& containers_;
  PodLinks& links_;
  EncodedList<pod::SandboxStatus> names_;
};

// The path of the cgroup that holds this pod and nothing else: one of ours, or the kubelet's, which carries the pod's
// uid in its name. "": none is known, the parent may be everybody's.
std::string PodCgroup(const cgroup::Cgroups& cgroups, const pod::SandboxStatus& pod);

}  // namespace crisp::cri
