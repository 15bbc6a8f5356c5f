#include "cri/usage_cache.h"

namespace crisp::cri {
namespace {

// Readings closer together than this say more about the scheduler than about the container.
constexpr int64_t kRateNanosMin = 500'000'000;
constexpr std::chrono::minutes kForgetAfter(10);
constexpr size_t kKnownBeforeForgetting = 1024;

}  // namespace

bool UsageCache::IsYoung(Clock::time_point read_at) const {
  return read_at != Clock::time_point() && Clock::now() - read_at < young_;
}

std::shared_ptr<UsageCache::Entry> UsageCache::Find(const std::string& cgroup_path) {
  Clock::time_point now = Clock::now();
  auto all = all_.Lock();
  if (auto found = all->find(cgroup_path); found != all->end()) {
    found->second.used_at = now;
    return found->second.entry;
  }
  // Only where one is added, so that it costs a long list nothing.
  if (all->size() > kKnownBeforeForgetting) {
    std::erase_if(*all, [&](const auto& known) { return now - known.second.used_at > kForgetAfter; });
  }
  return all->emplace(cgroup_path, Known{std::make_shared<Entry>(), now}).first->second.entry;
}

void UsageCache::Take(Entry& entry, cgroup::Usage usage) {
  int64_t passed = usage.at_unix_nanos - entry.rate_from;
  if (usage.cpu_nanos && (entry.rate_from == 0 || passed < 0 || passed >= kRateNanosMin)) {
    bool comparable = entry.rate_from != 0 && passed > 0 && *usage.cpu_nanos >= entry.rate_from_cpu;
    double used = static_cast<double>(*usage.cpu_nanos - entry.rate_from_cpu);
    entry.nano_cores =
        comparable ? std::optional(static_cast<uint64_t>(used * 1e9 / static_cast<double>(passed))) : std::nullopt;
    entry.rate_from = usage.at_unix_nanos;
    entry.rate_from_cpu = *usage.cpu_nanos;
  }
  entry.last = Reading{.usage = std::move(usage), .nano_cores = entry.nano_cores};
}

std::optional<UsageCache::Reading> UsageCache::Of(const std::string& cgroup_path) {
  std::shared_ptr<Entry> entry = Find(cgroup_path);
  std::unique_lock lock(entry->mutex);
  if (IsYoung(entry->read_at)) return entry->last;
  if (Result<cgroup::Usage> usage = cgroups_.Read(cgroup_path)) {
    Take(*entry, *std::move(usage));
  } else {
    entry->last.reset();
  }
  entry->read_at = Clock::now();
  return entry->last;
}

std::optional<cgroup::Details> UsageCache::DetailsOf(const std::string& cgroup_path) {
  std::shared_ptr<Entry> entry = Find(cgroup_path);
  std::unique_lock lock(entry->mutex);
  if (IsYoung(entry->details_at)) return entry->details;
  if (Result<cgroup::Details> details = cgroups_.ReadDetails(cgroup_path)) {
    entry->details = *std::move(details);
    Take(*entry, entry->details->usage);
    entry->read_at = Clock::now();
  } else {
    entry->details.reset();
  }
  entry->details_at = Clock::now();
  return entry->details;
}

}  // namespace crisp::cri
