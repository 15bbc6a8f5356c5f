// What containers use, in CRI's form. Numbers that the kernel does not give are left out, never sent as zero.
// Threading: any thread. Reads cgroup files and the disk: never on gRPC's own thread.
#pragma once

#include "cri/v1/api.pb.h"

#include <map>

#include "base/synchronized.h"
#include "cgroup/cgroup.h"
#include "cri/disk_usage.h"
#include "pod/manager.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

class StatsMaker {
 public:
  StatsMaker(cgroup::Cgroups& cgroups, DiskUsage& layers) : cgroups_(cgroups), layers_(layers) {}

  // Never fails: a container that does not run, or ends meanwhile, has attributes and a writable layer only.
  v1::ContainerStats Make(const Ctx& ctx, const pod::ContainerStatus& container);

 private:
  // The rate needs two readings: the one before is kept for each container.
  struct Reading {
    int64_t at_unix_nanos = 0;
    uint64_t cpu_nanos = 0;
    std::optional<uint64_t> rate;  // nanoseconds of processor time in a second
  };
  std::optional<uint64_t> RateOf(const std::string& id, const cgroup::Usage& usage);

  cgroup::Cgroups& cgroups_;
  DiskUsage& layers_;
  Synchronized<std::map<std::string, Reading>> readings_;
};

}  // namespace crisp::cri
