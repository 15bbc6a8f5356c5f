#include "cgroup/limits.h"

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace crisp::cgroup {
namespace {

constexpr int64_t kPeriodDefaultMicros = 100'000;

Result<std::string> DirOf(const Layout& layout, const char* controller, const std::string& kernel_path) {
  const Hierarchy* hierarchy = layout.Find(controller);
  if (hierarchy == nullptr) {
    return Error(Code::kFailedPrecondition, StrCat("this node has no cgroup controller \"", controller, "\""));
  }
  std::string dir = hierarchy->mountpoint + kernel_path;
  if (!sys::Exists(dir)) return Error(Code::kNotFound, StrCat("cgroup ", dir, " not found"));
  return dir;
}

std::string MaxOr(int64_t value) { return value < 0 ? "max" : StrCat(value); }

Result<> WriteCpuV1(const std::string& dir, const Limits& limits) {
  if (limits.cpu_shares != 0) TRY(sys::WriteExisting(dir + "/cpu.shares", StrCat(limits.cpu_shares)));
  auto write_period = [&]() -> Result<> {
    if (limits.cpu_period_micros == 0) return {};
    return sys::WriteExisting(dir + "/cpu.cfs_period_us", StrCat(limits.cpu_period_micros));
  };
  // The kernel checks the ratio at each write: one of the two orders may go through a ratio that the parent forbids.
  Result<> period = write_period();
  if (!period && (period.error().os_errno() != EINVAL || limits.cpu_quota_micros == 0)) return period;
  if (limits.cpu_quota_micros != 0) {
    TRY(sys::WriteExisting(dir + "/cpu.cfs_quota_us", StrCat(std::max<int64_t>(limits.cpu_quota_micros, -1))));
  }
  return period ? Result<>() : write_period();
}

Result<> WriteCpuV2(const std::string& dir, const Limits& limits) {
  if (limits.cpu_shares != 0) TRY(sys::WriteExisting(dir + "/cpu.weight", StrCat(WeightOfShares(limits.cpu_shares))));
  if (limits.cpu_quota_micros == 0 && limits.cpu_period_micros == 0) return {};
  // One file holds both: what is not to change is read.
  std::string now = TRY(sys::ReadFile(dir + "/cpu.max"));
  std::vector<std::string_view> words = SplitWords(now);
  std::string quota = words.empty() ? "max" : std::string(words[0]);
  std::string period = words.size() < 2 ? StrCat(kPeriodDefaultMicros) : std::string(words[1]);
  if (limits.cpu_quota_micros != 0) quota = MaxOr(limits.cpu_quota_micros);
  if (limits.cpu_period_micros != 0) period = StrCat(limits.cpu_period_micros);
  return sys::WriteExisting(dir + "/cpu.max", StrCat(quota, " ", period));
}

// v1 keeps memory <= memory+swap at every moment: growing begins with the sum, shrinking with the memory.
Result<> WriteMemoryV1(const std::string& dir, const Limits& limits) {
  const std::string memory = dir + "/memory.limit_in_bytes", sum = dir + "/memory.memsw.limit_in_bytes";
  auto write = [](const std::string& file, int64_t value) -> Result<> {
    return value == 0 ? Result<>() : sys::WriteExisting(file, StrCat(std::max<int64_t>(value, -1)));
  };
  int64_t wanted = limits.memory_swap_bytes;
  // No limit for memory: the sum could not stay as it is.
  if (limits.memory_bytes < 0 && wanted == 0 && sys::Exists(sum)) wanted = -1;
  bool grows = wanted < 0;
  if (wanted > 0) {
    auto now = ParseInt<uint64_t>(Trim(TRY(sys::ReadFile(sum))));
    grows = now && static_cast<uint64_t>(wanted) > *now;
  }
  if (grows) TRY(write(sum, wanted));
  TRY(write(memory, limits.memory_bytes));
  return grows ? Result<>() : write(sum, wanted);
}

// v2 limits swap by itself.
Result<> WriteMemoryV2(const std::string& dir, const Limits& limits) {
  if (limits.memory_swap_bytes > 0 && limits.memory_bytes <= 0) {
    return Error(Code::kInvalidArgument, "a limit of memory and swap needs a limit of memory");
  }
  if (limits.memory_swap_bytes != 0) {
    int64_t swap = limits.memory_swap_bytes < 0 ? -1 : limits.memory_swap_bytes - limits.memory_bytes;
    TRY(sys::WriteExisting(dir + "/memory.swap.max", MaxOr(swap)));
  }
  if (limits.memory_bytes == 0) return {};
  return sys::WriteExisting(dir + "/memory.max", MaxOr(limits.memory_bytes));
}

Result<> WriteHugepages(const std::string& dir, bool v2, const Limits& limits) {
  for (const auto& [size, bytes] : limits.hugepages) {
    const char* end = v2 ? "max" : "limit_in_bytes";
    TRY(sys::WriteExisting(StrCat(dir, "/hugetlb.", size, ".", end), StrCat(bytes)));
    // Reservations (mmap without touching) are accounted by themselves since Linux 5.7.
    std::string reserved = StrCat(dir, "/hugetlb.", size, ".rsvd.", end);
    if (sys::Exists(reserved)) TRY(sys::WriteExisting(reserved, StrCat(bytes)));
  }
  return {};
}

Result<> Check(const Limits& limits) {
  auto invalid = [](const char* what) { return Error(Code::kInvalidArgument, what); };
  if (limits.cpu_shares < 0 || limits.cpu_period_micros < 0) return invalid("negative cpu shares or period");
  if (limits.memory_swap_bytes > 0 && limits.memory_bytes < 0) return invalid("memory without limit, but one with swap");
  if (limits.memory_swap_bytes > 0 && limits.memory_swap_bytes < limits.memory_bytes) {
    return invalid("the limit of memory and swap is less than that of memory alone");
  }
  return {};
}

}  // namespace

uint64_t WeightOfShares(int64_t shares) {
  uint64_t bounded = static_cast<uint64_t>(std::clamp<int64_t>(shares, 2, 262'144));
  return 1 + (bounded - 2) * 9'999 / 262'142;
}

Result<> WriteLimits(const Layout& layout, const std::string& kernel_path, const Limits& limits) {
  TRY(Check(limits));
  if (limits.cpu_shares != 0 || limits.cpu_quota_micros != 0 || limits.cpu_period_micros != 0) {
    std::string dir = TRY(DirOf(layout, "cpu", kernel_path));
    TRY(layout.Find("cpu")->v2 ? WriteCpuV2(dir, limits) : WriteCpuV1(dir, limits), "cpu limits");
  }
  if (limits.memory_bytes != 0 || limits.memory_swap_bytes != 0) {
    std::string dir = TRY(DirOf(layout, "memory", kernel_path));
    TRY(layout.Find("memory")->v2 ? WriteMemoryV2(dir, limits) : WriteMemoryV1(dir, limits), "memory limits");
  }
  if (!limits.hugepages.empty()) {
    std::string dir = TRY(DirOf(layout, "hugetlb", kernel_path));
    TRY(WriteHugepages(dir, layout.Find("hugetlb")->v2, limits), "huge page limits");
  }
  return {};
}

}  // namespace crisp::cgroup
