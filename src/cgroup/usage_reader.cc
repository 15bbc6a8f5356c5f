#include "cgroup/usage_reader.h"

#include <unistd.h>

#include <algorithm>

#include "base/strings.h"
#include "base/time.h"
#include "cgroup/tree.h"
#include "cgroup/usage_text.h"

namespace crisp::cgroup {
namespace {

constexpr std::chrono::seconds kUnused(60);

Number Difference(Number from, Number what) {
  if (!from || !what) return std::nullopt;
  return *from > *what ? *from - *what : 0;
}

Number Times(Number value, uint64_t factor) { return value ? Number(*value * factor) : std::nullopt; }

// v1 writes "no limit" as the largest multiple of the page size.
Number LimitOf(Number limit) {
  constexpr uint64_t kNoLimit = uint64_t{1} << 62;
  return limit && *limit < kNoLimit ? limit : std::nullopt;
}

// crun 1.8 under systemd and v2 puts the process into "container" below its scope, and the limits that count with it.
// `name` is "container/FILE".
std::optional<std::string_view> InnerIn(CgroupFiles& files, const Hierarchy* hierarchy, const char* name, Hold hold) {
  constexpr std::string_view kInner = "container/";
  if (files.is_scope()) {
    if (auto text = files.Read(hierarchy, name, hold)) return text;
  }
  return files.Read(hierarchy, name + kInner.size(), hold);
}

Number InnerNumberIn(CgroupFiles& files, const Hierarchy* hierarchy, const char* name, Hold hold) {
  std::optional<std::string_view> text = InnerIn(files, hierarchy, name, hold);
  return text ? NumberOf(*text) : std::nullopt;
}

Number NumberIn(CgroupFiles& files, const Hierarchy* hierarchy, const char* name, Hold hold) {
  std::optional<std::string_view> text = files.Read(hierarchy, name, hold);
  return text ? NumberOf(*text) : std::nullopt;
}

std::optional<Pressure> PressureIn(CgroupFiles& files, const Hierarchy* hierarchy, const char* name) {
  std::optional<std::string_view> text = files.Read(hierarchy, name, Hold::kYes);
  return text ? ParsePressure(*text) : std::nullopt;
}

std::string TextIn(CgroupFiles& files, const Hierarchy* hierarchy, const char* name) {
  return std::string(files.Read(hierarchy, name, Hold::kNo).value_or(""));
}

// Sum of what is there.
Number Sum(std::initializer_list<Number> parts) {
  Number sum;
  for (Number part : parts) {
    if (part) sum = sum.value_or(0) + *part;
  }
  return sum;
}

}  // namespace

UsageReader::UsageReader(const Layout& layout, std::vector<std::string> hugepage_sizes, size_t descriptors_max)
    : layout_(layout),
      hugepage_sizes_(std::move(hugepage_sizes)),
      descriptors_max_(descriptors_max),
      cpu_(layout.unified ? &layout.hierarchies.front() : layout.Find("cpuacct")),
      memory_(layout.Find("memory")),
      pids_(layout.Find("pids")) {}

// ---- which files stay open ----

std::shared_ptr<UsageReader::Entry> UsageReader::Find(const std::string& kernel_path) {
  auto state = state_.Lock();
  Known& known = state->all[kernel_path];
  if (!known.entry) known.entry = std::make_shared<Entry>(layout_, kernel_path);
  known.used_at = Clock::now();
  return known.entry;
}

void UsageReader::Forget(const std::string& kernel_path, const std::shared_ptr<Entry>& entry) {
  auto state = state_.Lock();
  auto found = state->all.find(kernel_path);
  if (found == state->all.end() || found->second.entry != entry) return;
  state->descriptors -= found->second.descriptors;
  state->all.erase(found);
}

void UsageReader::CloseUnused(State& state, size_t keep, Clock::time_point unused_since) {
  std::vector<std::pair<Clock::time_point, std::string>> by_use;
  for (const auto& [path, known] : state.all) by_use.emplace_back(known.used_at, path);
  std::sort(by_use.begin(), by_use.end());
  for (const auto& [used_at, path] : by_use) {
    if (state.descriptors <= keep && used_at >= unused_since) return;
    auto found = state.all.find(path);
    state.descriptors -= found->second.descriptors;
    state.all.erase(found);  // who reads it just now closes it
  }
}

void UsageReader::Count(const std::string& kernel_path, const std::shared_ptr<Entry>& entry, size_t descriptors) {
  auto state = state_.Lock();
  auto found = state->all.find(kernel_path);
  if (found == state->all.end() || found->second.entry != entry) return;
  state->descriptors += descriptors - found->second.descriptors;
  found->second.descriptors = descriptors;
  Clock::time_point now = Clock::now();
  // A quarter at once, so that the search for the oldest is rare.
  if (state->descriptors > descriptors_max_) CloseUnused(*state, descriptors_max_ / 4 * 3, now - kUnused);
  if (now >= state->look_at) {
    CloseUnused(*state, descriptors_max_, now - kUnused);
    state->look_at = now + kUnused;
  }
}

size_t UsageReader::descriptors() const { return state_.Lock()->descriptors; }

template <class T, class F>
Result<T> UsageReader::With(const std::string& kernel_path, F read) {
  // Twice: a cgroup that was removed may have been made again (a pod's own, after a restart of its node).
  for (int attempt = 0; attempt < 2; ++attempt) {
    std::shared_ptr<Entry> entry = Find(kernel_path);
    std::unique_lock lock(entry->mutex);
    std::optional<T> out = read(entry->files);
    if (out && !entry->files.gone()) {
      Count(kernel_path, entry, entry->files.descriptors());
      return *std::move(out);
    }
    Forget(kernel_path, entry);
    if (!entry->files.gone()) break;
  }
  return Error(Code::kNotFound, StrCat("cgroup ", kernel_path, " not found"));
}

Result<Usage> UsageReader::Read(const std::string& kernel_path) {
  return With<Usage>(kernel_path, [&](CgroupFiles& files) -> std::optional<Usage> {
    Usage usage = ReadUsage(files, nullptr);
    if (!usage.cpu_nanos && !usage.memory_bytes && !usage.processes) return std::nullopt;
    return usage;
  });
}

Result<Details> UsageReader::ReadDetails(const std::string& kernel_path) {
  return With<Details>(kernel_path, [&](CgroupFiles& files) -> std::optional<Details> {
    Details out;
    std::string memory_stat;
    out.usage = ReadUsage(files, &memory_stat);
    if (!out.usage.cpu_nanos && !out.usage.memory_bytes && !out.usage.processes) return std::nullopt;
    CpuDetails(files, out);
    MemoryDetails(files, memory_stat, out);
    IoDetails(files, out);
    HugetlbDetails(files, out);
    TaskDetails(files, out);
    return out;
  });
}

// ---- what is in them ----

Usage UsageReader::ReadUsage(CgroupFiles& files, std::string* memory_stat) const {
  Usage usage;
  usage.at_unix_nanos = UnixNanosNow();
  if (cpu_ != nullptr && cpu_->v2) {
    std::optional<std::string_view> stat = files.Read(cpu_, "cpu.stat", Hold::kYes);
    if (stat) usage.cpu_nanos = Times(ValueOf(*stat, "usage_usec"), 1000);
  } else {
    usage.cpu_nanos = NumberIn(files, cpu_, "cpuacct.usage", Hold::kYes);
  }
  if (memory_ != nullptr) {
    memory_->v2 ? ReadMemoryV2(files, usage, memory_stat) : ReadMemoryV1(files, usage, memory_stat);
  }
  usage.processes = NumberIn(files, pids_, "pids.current", Hold::kYes);
  if (layout_.unified) {
    usage.cpu_pressure = PressureIn(files, cpu_, "cpu.pressure");
    usage.memory_pressure = PressureIn(files, cpu_, "memory.pressure");
    usage.io_pressure = PressureIn(files, cpu_, "io.pressure");
  }
  return usage;
}

void UsageReader::ReadMemoryV1(CgroupFiles& files, Usage& usage, std::string* stat_text) const {
  usage.memory_bytes = NumberIn(files, memory_, "memory.usage_in_bytes", Hold::kYes);
  // memsw counts memory and swap together.
  usage.swap_bytes =
      Difference(NumberIn(files, memory_, "memory.memsw.usage_in_bytes", Hold::kYes), usage.memory_bytes);
  std::string_view stat = files.Read(memory_, "memory.stat", Hold::kYes).value_or("");
  usage.working_set_bytes = Difference(usage.memory_bytes, ValueOf(stat, "total_inactive_file"));
  Number limit = LimitOf(ValueOf(stat, "hierarchical_memory_limit"));
  usage.available_bytes = Difference(limit, usage.working_set_bytes);
  usage.rss_bytes = ValueOf(stat, "total_rss");
  usage.page_faults = ValueOf(stat, "total_pgfault");
  usage.major_page_faults = ValueOf(stat, "total_pgmajfault");
  Number swap_limit = Difference(LimitOf(ValueOf(stat, "hierarchical_memsw_limit")), limit);
  usage.swap_available_bytes = Difference(swap_limit, usage.swap_bytes);
  if (stat_text != nullptr) *stat_text = stat;
}

void UsageReader::ReadMemoryV2(CgroupFiles& files, Usage& usage, std::string* stat_text) const {
  usage.memory_bytes = NumberIn(files, memory_, "memory.current", Hold::kYes);
  Number limit = InnerNumberIn(files, memory_, "container/memory.max", Hold::kYes);
  usage.swap_bytes = NumberIn(files, memory_, "memory.swap.current", Hold::kYes);
  usage.swap_available_bytes = Difference(InnerNumberIn(files, memory_, "container/memory.swap.max", Hold::kYes), usage.swap_bytes);
  std::string_view stat = files.Read(memory_, "memory.stat", Hold::kYes).value_or("");
  usage.working_set_bytes = Difference(usage.memory_bytes, ValueOf(stat, "inactive_file"));
  usage.available_bytes = Difference(limit, usage.working_set_bytes);
  usage.rss_bytes = ValueOf(stat, "anon");
  usage.page_faults = ValueOf(stat, "pgfault");
  usage.major_page_faults = ValueOf(stat, "pgmajfault");
  if (stat_text != nullptr) *stat_text = stat;
}

void UsageReader::CpuDetails(CgroupFiles& files, Details& out) const {
  if (cpu_ != nullptr && cpu_->v2) {
    std::string stat = TextIn(files, cpu_, "cpu.stat");
    out.cpu_user_nanos = Times(ValueOf(stat, "user_usec"), 1000);
    out.cpu_system_nanos = Times(ValueOf(stat, "system_usec"), 1000);
    // Of the cgroup's own quota only.
    stat = InnerIn(files, cpu_, "container/cpu.stat", Hold::kNo).value_or("");
    out.cpu_periods = ValueOf(stat, "nr_periods");
    out.cpu_throttled_periods = ValueOf(stat, "nr_throttled");
    out.cpu_throttled_nanos = Times(ValueOf(stat, "throttled_usec"), 1000);
    return;
  }
  // In ticks of USER_HZ (cpuacct.rst); finer than ticks only where it is asked by mode, on newer kernels.
  const auto tick_nanos = static_cast<uint64_t>(1'000'000'000 / std::max(sysconf(_SC_CLK_TCK), 1L));
  out.cpu_user_nanos = NumberIn(files, cpu_, "cpuacct.usage_user", Hold::kNo);
  out.cpu_system_nanos = NumberIn(files, cpu_, "cpuacct.usage_sys", Hold::kNo);
  if (!out.cpu_user_nanos || !out.cpu_system_nanos) {
    std::string stat = TextIn(files, cpu_, "cpuacct.stat");
    out.cpu_user_nanos = Times(ValueOf(stat, "user"), tick_nanos);
    out.cpu_system_nanos = Times(ValueOf(stat, "system"), tick_nanos);
  }
  std::string stat = TextIn(files, layout_.Find("cpu"), "cpu.stat");
  out.cpu_periods = ValueOf(stat, "nr_periods");
  out.cpu_throttled_periods = ValueOf(stat, "nr_throttled");
  out.cpu_throttled_nanos = ValueOf(stat, "throttled_time");
}

void UsageReader::MemoryDetails(CgroupFiles& files, const std::string& stat, Details& out) const {
  if (memory_ == nullptr) return;
  if (memory_->v2) {
    out.cache_bytes = ValueOf(stat, "file");
    out.mapped_file_bytes = ValueOf(stat, "file_mapped");
    out.kernel_bytes = ValueOf(stat, "kernel");  // since Linux 5.18
    if (!out.kernel_bytes) {
      out.kernel_bytes = Sum({ValueOf(stat, "kernel_stack"), ValueOf(stat, "pagetables"), ValueOf(stat, "percpu"),
                              ValueOf(stat, "sock"), ValueOf(stat, "slab")});
    }
    out.memory_max_bytes = NumberIn(files, memory_, "memory.peak", Hold::kNo);  // since Linux 5.19
    out.swapped_bytes = out.usage.swap_bytes;
    std::string events = TextIn(files, memory_, "memory.events");
    out.limit_hits = ValueOf(events, "max");
    out.oom_kills = ValueOf(events, "oom_kill");
    out.own_page_faults = out.usage.page_faults;  // v2 counts the cgroups below in always
    out.own_major_page_faults = out.usage.major_page_faults;
    return;
  }
  out.cache_bytes = ValueOf(stat, "total_cache");
  out.mapped_file_bytes = ValueOf(stat, "total_mapped_file");
  out.swapped_bytes = ValueOf(stat, "total_swap");
  if (!out.swapped_bytes) out.swapped_bytes = out.usage.swap_bytes;
  out.own_page_faults = ValueOf(stat, "pgfault");
  out.own_major_page_faults = ValueOf(stat, "pgmajfault");
  out.kernel_bytes = NumberIn(files, memory_, "memory.kmem.usage_in_bytes", Hold::kNo);
  out.memory_max_bytes = NumberIn(files, memory_, "memory.max_usage_in_bytes", Hold::kNo);
  out.limit_hits = NumberIn(files, memory_, "memory.failcnt", Hold::kNo);
  out.oom_kills = ValueOf(TextIn(files, memory_, "memory.oom_control"), "oom_kill");
}

void UsageReader::IoDetails(CgroupFiles& files, Details& out) const {
  if (const Hierarchy* io = layout_.Find("io")) {
    out.io = ParseIoStat(TextIn(files, io, "io.stat"));
  } else if (const Hierarchy* blkio = layout_.Find("blkio")) {
    out.io = ParseBlkio(TextIn(files, blkio, "blkio.throttle.io_service_bytes_recursive"),
                        TextIn(files, blkio, "blkio.throttle.io_serviced_recursive"));
  }
}

void UsageReader::HugetlbDetails(CgroupFiles& files, Details& out) const {
  const Hierarchy* hugetlb = layout_.Find("hugetlb");
  if (hugetlb == nullptr) return;
  for (const std::string& size : hugepage_sizes_) {
    std::string usage = StrCat("hugetlb.", size, hugetlb->v2 ? ".current" : ".usage_in_bytes");
    Number bytes = NumberIn(files, hugetlb, usage.c_str(), Hold::kNo);
    if (!bytes) continue;
    std::string most = StrCat("hugetlb.", size, ".max_usage_in_bytes");
    out.hugetlb.push_back(
        {.page_size = size,
         .bytes = *bytes,
         .max_bytes = hugetlb->v2 ? std::nullopt : NumberIn(files, hugetlb, most.c_str(), Hold::kNo)});
  }
}

void UsageReader::TaskDetails(CgroupFiles& files, Details& out) const {
  if (std::optional<std::string_view> most = InnerIn(files, pids_, "container/pids.max", Hold::kNo)) {
    out.tasks_max = Trim(*most) == "max" ? Number(0) : NumberOf(*most);
  }
  const Hierarchy* tree = pids_ != nullptr ? pids_ : memory_ != nullptr ? memory_ : cpu_;
  if (tree == nullptr) return;
  if (Result<std::vector<pid_t>> pids = ProcessesBelow(files.DirOf(*tree))) out.pids = *std::move(pids);
}

}  // namespace crisp::cgroup
