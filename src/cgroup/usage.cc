#include "cgroup/usage.h"

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace crisp::cgroup {
namespace {

using Number = std::optional<uint64_t>;

// "max" and what is missing or unreadable are absent.
Number ReadNumber(const std::string& path) {
  Result<std::string> text = sys::ReadFile(path);
  return text ? ParseInt<uint64_t>(Trim(*text)) : std::nullopt;
}

// The value after `key` in a file of "key value" lines.
Number ValueOf(std::string_view table, std::string_view key) {
  for (std::string_view line : Split(table, '\n')) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
      return ParseInt<uint64_t>(Trim(line.substr(key.size() + 1)));
    }
  }
  return std::nullopt;
}

Number Difference(Number from, Number what) {
  if (!from || !what) return std::nullopt;
  return *from > *what ? *from - *what : 0;
}

// v1 writes "no limit" as the largest multiple of the page size.
Number LimitOf(Number limit) {
  constexpr uint64_t kNoLimit = uint64_t{1} << 62;
  return limit && *limit < kNoLimit ? limit : std::nullopt;
}

void ReadMemoryV1(const std::string& dir, Usage& usage) {
  std::string stat = sys::ReadFile(dir + "/memory.stat").value_or("");
  usage.memory_bytes = ReadNumber(dir + "/memory.usage_in_bytes");
  usage.working_set_bytes = Difference(usage.memory_bytes, ValueOf(stat, "total_inactive_file"));
  Number limit = LimitOf(ValueOf(stat, "hierarchical_memory_limit"));
  usage.available_bytes = Difference(limit, usage.working_set_bytes);
  usage.rss_bytes = ValueOf(stat, "total_rss");
  usage.page_faults = ValueOf(stat, "total_pgfault");
  usage.major_page_faults = ValueOf(stat, "total_pgmajfault");
  // memsw counts memory and swap together.
  usage.swap_bytes = Difference(ReadNumber(dir + "/memory.memsw.usage_in_bytes"), usage.memory_bytes);
  Number swap_limit = Difference(LimitOf(ValueOf(stat, "hierarchical_memsw_limit")), limit);
  usage.swap_available_bytes = Difference(swap_limit, usage.swap_bytes);
}

void ReadMemoryV2(const std::string& dir, Usage& usage) {
  std::string stat = sys::ReadFile(dir + "/memory.stat").value_or("");
  usage.memory_bytes = ReadNumber(dir + "/memory.current");
  usage.working_set_bytes = Difference(usage.memory_bytes, ValueOf(stat, "inactive_file"));
  usage.available_bytes = Difference(ReadNumber(dir + "/memory.max"), usage.working_set_bytes);
  usage.rss_bytes = ValueOf(stat, "anon");
  usage.page_faults = ValueOf(stat, "pgfault");
  usage.major_page_faults = ValueOf(stat, "pgmajfault");
  usage.swap_bytes = ReadNumber(dir + "/memory.swap.current");
  usage.swap_available_bytes = Difference(ReadNumber(dir + "/memory.swap.max"), usage.swap_bytes);
}

Number ReadCpu(const Hierarchy& hierarchy, const std::string& dir) {
  if (!hierarchy.v2) return ReadNumber(dir + "/cpuacct.usage");
  Number micros = ValueOf(sys::ReadFile(dir + "/cpu.stat").value_or(""), "usage_usec");
  return micros ? Number(*micros * 1000) : std::nullopt;
}

}  // namespace

Result<Usage> ReadUsage(const Layout& layout, const std::string& kernel_path) {
  Usage usage;
  usage.at_unix_nanos = UnixNanosNow();
  // cpu.stat of v2 is there also where the cpu controller is not.
  const Hierarchy* cpu = layout.unified ? &layout.hierarchies.front() : layout.Find("cpuacct");
  if (cpu != nullptr) usage.cpu_nanos = ReadCpu(*cpu, cpu->mountpoint + kernel_path);
  if (const Hierarchy* memory = layout.Find("memory")) {
    std::string dir = memory->mountpoint + kernel_path;
    memory->v2 ? ReadMemoryV2(dir, usage) : ReadMemoryV1(dir, usage);
  }
  if (const Hierarchy* pids = layout.Find("pids"))
    usage.processes = ReadNumber(pids->mountpoint + kernel_path + "/pids.current");
  if (!usage.cpu_nanos && !usage.memory_bytes && !usage.processes) {
    return Error(Code::kNotFound, StrCat("cgroup ", kernel_path, " not found"));
  }
  return usage;
}

}  // namespace crisp::cgroup
