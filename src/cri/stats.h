// What containers use, in CRI's form. Numbers that the kernel does not give are left out, never sent as zero.
// Threading: any thread. Reads cgroup files and the disk: never on gRPC's own thread.
#pragma once

#include "cri/v1/api.pb.h"

#include <functional>

#include "cri/disk_usage.h"
#include "cri/usage_cache.h"
#include "pod/manager.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

class StatsMaker {
 public:
  // Both outlive it.
  StatsMaker(UsageCache& usage, DiskUsage& layers) : usage_(usage), layers_(layers) {}

  // Never fails: a container that does not run, or ends meanwhile, has attributes and a writable layer only. `out` is
  // empty.
  void Fill(const Ctx& ctx, const pod::ContainerStatus& container, v1::ContainerStats& out);

 private:
  UsageCache& usage_;
  DiskUsage& layers_;
};

// The parts, for pods too. `reading` is somebody's who runs.
void FillCpu(const UsageCache::Reading& reading, v1::CpuUsage& out);
void FillMemory(const cgroup::Usage& usage, v1::MemoryUsage& out);
// Nothing without pressure: CRI's IoUsage has no other number.
void FillIo(const cgroup::Usage& usage, const std::function<v1::IoUsage*()>& out);

}  // namespace crisp::cri
