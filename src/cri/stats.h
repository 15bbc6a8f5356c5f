// What containers use, in CRI's form. Numbers that the kernel does not give are left out, never sent as zero.
// Threading: any thread. Reads cgroup files and the disk: never on gRPC's own thread.
#pragma once

#include "cri/v1/api.pb.h"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/synchronized.h"
#include "cri/disk_usage.h"
#include "cri/encoded_lists.h"
#include "cri/usage_cache.h"
#include "pod/manager.h"

namespace crisp::cri {

namespace v1 = ::runtime::v1;

class StatsMaker {
 public:
  // Both outlive it.
  StatsMaker(UsageCache& usage, DiskUsage& layers);

  // Never fails: a container that does not run, or ends meanwhile, has attributes and a writable layer only. `out` is
  // empty.
  void Fill(const Ctx& ctx, const pod::ContainerStatus& container, v1::ContainerStats& out);

  // The same of many, as bytes: only numbers are made anew, what names a container is encoded once. First the names,
  // which also hold the snapshots …
  using Names = EncodedList<pod::ContainerStatus>::EncodedRef;
  Names NamesOf(std::span<const pod::ContainerRef> containers, bool complete) {
    return names_.Of(containers, complete);
  }
  // … then `out` becomes a message with those from `first` on in its field 1: `count` of them, or fewer that make
  // `bytes_max` full. Returns how many; an error is the end of `ctx`.
  Result<size_t> Encode(const Ctx& ctx, const Names& names, size_t first, size_t count, size_t bytes_max,
                        grpc::ByteBuffer& out);
  // What the names' snapshots and their layers say: to look at ten thousand takes longer than to send them.
  struct Facts {
    Names names;
    std::optional<uint64_t> generation;  // of the layers' measurement
    std::vector<bool> running;
    std::vector<std::optional<DiskUsage::Part>> layers;
  };
  using FactsRef = std::shared_ptr<const Facts>;
  FactsRef FactsOf(const Ctx& ctx, const Names& names);
  // Appends these of the names, as elements of the message's field `field`.
  void Append(const Facts& facts, size_t first, size_t count, int field, std::string& out);

 private:
  void FillUse(const pod::ContainerStatus& container, v1::ContainerStats& out);
  void AppendOne(const Facts& facts, size_t at, int field, v1::FilesystemUsage& scratch, std::string& out);
  v1::FilesystemUsage Scratch() const;

  UsageCache& usage_;
  DiskUsage& layers_;
  EncodedList<pod::ContainerStatus> names_;
  Synchronized<FactsRef> facts_;  // of the last long list
};

// The parts, for pods too. `reading` is somebody's who runs.
void FillCpu(const UsageCache::Reading& reading, v1::CpuUsage& out);
void FillMemory(const cgroup::Usage& usage, v1::MemoryUsage& out);
// Nothing without pressure: CRI's IoUsage has no other number.
void FillIo(const cgroup::Usage& usage, const std::function<v1::IoUsage*()>& out);

}  // namespace crisp::cri
