#include "cri/stats.h"

#include "cri/to_cri.h"

namespace crisp::cri {
namespace {

// Readings closer together than this say more about the scheduler than about the container.
constexpr int64_t kRateNanosMin = 500'000'000;
constexpr int64_t kForgetAfterNanos = 600'000'000'000;
constexpr size_t kReadingsBeforeForgetting = 1024;

void Set(const std::optional<uint64_t>& from, auto set) {
  if (from) set()->set_value(*from);
}

void Memory(const cgroup::Usage& usage, v1::MemoryUsage& out) {
  out.set_timestamp(usage.at_unix_nanos);
  Set(usage.working_set_bytes, [&] { return out.mutable_working_set_bytes(); });
  Set(usage.available_bytes, [&] { return out.mutable_available_bytes(); });
  Set(usage.memory_bytes, [&] { return out.mutable_usage_bytes(); });
  Set(usage.rss_bytes, [&] { return out.mutable_rss_bytes(); });
  Set(usage.page_faults, [&] { return out.mutable_page_faults(); });
  Set(usage.major_page_faults, [&] { return out.mutable_major_page_faults(); });
}

void Swap(const cgroup::Usage& usage, v1::SwapUsage& out) {
  out.set_timestamp(usage.at_unix_nanos);
  Set(usage.swap_bytes, [&] { return out.mutable_swap_usage_bytes(); });
  Set(usage.swap_available_bytes, [&] { return out.mutable_swap_available_bytes(); });
}

}  // namespace

std::optional<uint64_t> StatsMaker::RateOf(const std::string& id, const cgroup::Usage& usage) {
  auto readings = readings_.Lock();
  if (readings->size() > kReadingsBeforeForgetting) {
    std::erase_if(*readings,
                  [&](const auto& r) { return usage.at_unix_nanos - r.second.at_unix_nanos > kForgetAfterNanos; });
  }
  Reading& last = (*readings)[id];
  int64_t passed = usage.at_unix_nanos - last.at_unix_nanos;
  if (last.at_unix_nanos != 0 && passed >= 0 && passed < kRateNanosMin) return last.rate;
  bool comparable = last.at_unix_nanos != 0 && passed > 0 && *usage.cpu_nanos >= last.cpu_nanos;
  double rate =
      comparable ? static_cast<double>(*usage.cpu_nanos - last.cpu_nanos) * 1e9 / static_cast<double>(passed) : 0;
  last = {.at_unix_nanos = usage.at_unix_nanos,
          .cpu_nanos = *usage.cpu_nanos,
          .rate = comparable ? std::optional(static_cast<uint64_t>(rate)) : std::nullopt};
  return last.rate;
}

v1::ContainerStats StatsMaker::Make(const Ctx& ctx, const pod::ContainerStatus& container) {
  v1::ContainerStats out;
  v1::Container listed = ContainerToCri(container);
  out.mutable_attributes()->set_id(listed.id());
  *out.mutable_attributes()->mutable_metadata() = listed.metadata();
  *out.mutable_attributes()->mutable_labels() = listed.labels();
  *out.mutable_attributes()->mutable_annotations() = listed.annotations();
  if (container.state == pod::ContainerState::kRunning) {
    if (Result<cgroup::Usage> usage = cgroups_.Read(container.cgroup_path)) {
      out.mutable_cpu()->set_timestamp(usage->at_unix_nanos);
      Set(usage->cpu_nanos, [&] { return out.mutable_cpu()->mutable_usage_core_nano_seconds(); });
      if (usage->cpu_nanos)
        Set(RateOf(listed.id(), *usage), [&] { return out.mutable_cpu()->mutable_usage_nano_cores(); });
      Memory(*usage, *out.mutable_memory());
      Swap(*usage, *out.mutable_swap());
    }
  }
  if (Result<DiskUsage::Measured> layer = layers_.Of(ctx, listed.id())) {
    *out.mutable_writable_layer() = UsageToCri(layer->usage, layer->at_unix_nanos);
  }
  return out;
}

}  // namespace crisp::cri
