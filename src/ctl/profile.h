// --profile-cpu and --profile-mem: profiles of crispctl itself in the forms that pprof reads.
// Threading: one CpuProfile at a time; its samples come by signal in whatever thread runs.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace crisp::ctl {

// Samples where the processor's time goes, 100 times a second of it, from Make to Write. gperftools' CPU profile format
// (words: header, then count, depth and addresses of each stack, a trailer; then /proc/self/maps).
class CpuProfile {
 public:
  static Result<CpuProfile> Make(std::string path);
  CpuProfile(CpuProfile&&) = default;
  Result<> Write();

 private:
  explicit CpuProfile(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

// What the allocator holds, as one record of gperftools' heap profile format: we count bytes, not who asked for them.
Result<> WriteHeapProfile(const std::string& path);

}  // namespace crisp::ctl
