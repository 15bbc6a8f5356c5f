#include "cri/stats.h"

#include "cri/to_cri.h"

namespace crisp::cri {
namespace {

void Set(const std::optional<uint64_t>& from, auto set) {
  if (from) set()->set_value(*from);
}

void FillSwap(const cgroup::Usage& usage, v1::SwapUsage& out) {
  out.set_timestamp(usage.at_unix_nanos);
  Set(usage.swap_bytes, [&] { return out.mutable_swap_usage_bytes(); });
  Set(usage.swap_available_bytes, [&] { return out.mutable_swap_available_bytes(); });
}

void FillPressureLine(const cgroup::Pressure::Line& line, v1::PsiData& out) {
  constexpr uint64_t kNanosPerMicro = 1000;  // CRI's Total is in nanoseconds
  out.set_total(line.total_micros * kNanosPerMicro);
  out.set_avg10(line.avg10);
  out.set_avg60(line.avg60);
  out.set_avg300(line.avg300);
}

// Both parts always: the kubelet takes them without looking.
void FillPressure(const cgroup::Pressure& pressure, v1::PsiStats& out) {
  FillPressureLine(pressure.full, *out.mutable_full());
  FillPressureLine(pressure.some, *out.mutable_some());
}

void FillAttributes(const pod::ContainerStatus& container, v1::ContainerAttributes& out) {
  out.set_id(container.id.str());
  out.mutable_metadata()->set_name(container.config.metadata.name);
  out.mutable_metadata()->set_attempt(container.config.metadata.attempt);
  out.mutable_labels()->insert(container.config.labels.begin(), container.config.labels.end());
  out.mutable_annotations()->insert(container.config.annotations.begin(), container.config.annotations.end());
}

}  // namespace

void FillCpu(const UsageCache::Reading& reading, v1::CpuUsage& out) {
  out.set_timestamp(reading.usage.at_unix_nanos);
  Set(reading.usage.cpu_nanos, [&] { return out.mutable_usage_core_nano_seconds(); });
  Set(reading.nano_cores, [&] { return out.mutable_usage_nano_cores(); });
  if (reading.usage.cpu_pressure) FillPressure(*reading.usage.cpu_pressure, *out.mutable_psi());
}

void FillMemory(const cgroup::Usage& usage, v1::MemoryUsage& out) {
  out.set_timestamp(usage.at_unix_nanos);
  Set(usage.working_set_bytes, [&] { return out.mutable_working_set_bytes(); });
  Set(usage.available_bytes, [&] { return out.mutable_available_bytes(); });
  Set(usage.memory_bytes, [&] { return out.mutable_usage_bytes(); });
  Set(usage.rss_bytes, [&] { return out.mutable_rss_bytes(); });
  Set(usage.page_faults, [&] { return out.mutable_page_faults(); });
  Set(usage.major_page_faults, [&] { return out.mutable_major_page_faults(); });
  if (usage.memory_pressure) FillPressure(*usage.memory_pressure, *out.mutable_psi());
}

void FillIo(const cgroup::Usage& usage, const std::function<v1::IoUsage*()>& out) {
  if (!usage.io_pressure) return;
  v1::IoUsage* io = out();
  io->set_timestamp(usage.at_unix_nanos);
  FillPressure(*usage.io_pressure, *io->mutable_psi());
}

void StatsMaker::Fill(const Ctx& ctx, const pod::ContainerStatus& container, v1::ContainerStats& out) {
  FillAttributes(container, *out.mutable_attributes());
  if (container.state == pod::ContainerState::kRunning) {
    if (std::optional<UsageCache::Reading> reading = usage_.Of(container.cgroup_path)) {
      FillCpu(*reading, *out.mutable_cpu());
      FillMemory(reading->usage, *out.mutable_memory());
      FillSwap(reading->usage, *out.mutable_swap());
      FillIo(reading->usage, [&] { return out.mutable_io(); });
    }
  }
  if (Result<DiskUsage::Measured> layer = layers_.Of(ctx, container.id.str())) {
    *out.mutable_writable_layer() = UsageToCri(layer->usage, layer->at_unix_nanos);
  }
}

}  // namespace crisp::cri
