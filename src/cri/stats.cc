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

StatsMaker::StatsMaker(UsageCache& usage, DiskUsage& layers)
    : usage_(usage), layers_(layers), names_([](const pod::ContainerStatus& container) {
        v1::ContainerAttributes attributes;
        FillAttributes(container, attributes);
        return attributes.SerializeAsString();
      }) {}

void StatsMaker::FillUse(const pod::ContainerStatus& container, v1::ContainerStats& out) {
  if (container.state != pod::ContainerState::kRunning) return;
  std::optional<UsageCache::Reading> reading = usage_.Of(container.cgroup_path);
  if (!reading) return;
  FillCpu(*reading, *out.mutable_cpu());
  FillMemory(reading->usage, *out.mutable_memory());
  FillSwap(reading->usage, *out.mutable_swap());
  FillIo(reading->usage, [&] { return out.mutable_io(); });
}

void StatsMaker::Fill(const Ctx& ctx, const pod::ContainerStatus& container, v1::ContainerStats& out) {
  FillAttributes(container, *out.mutable_attributes());
  FillUse(container, out);
  if (Result<DiskUsage::Measured> layer = layers_.Of(ctx, container.id.str())) {
    *out.mutable_writable_layer() = UsageToCri(layer->usage, layer->at_unix_nanos);
  }
}

// ---- many ----

StatsMaker::FactsRef StatsMaker::FactsOf(const Ctx& ctx, const Names& names) {
  constexpr size_t kLong = 256;
  auto facts = std::make_shared<Facts>();
  if (Result<uint64_t> generation = layers_.Generation(ctx)) facts->generation = *generation;
  if (FactsRef last = *facts_.Lock();
      last != nullptr && last->names == names && last->generation == facts->generation) {
    return last;
  }
  std::vector<const std::string*> ids;
  for (const pod::ContainerRef& container : names->refs) {
    ids.push_back(&container->id.str());
    facts->running.push_back(container->state == pod::ContainerState::kRunning);
  }
  facts->names = names;
  facts->layers = layers_.OfMany(ctx, ids);
  // What a caller that went away could not have looked up, others can.
  if (names->refs.size() >= kLong && facts->generation && ctx.Check()) {
    FactsRef kept = facts;
    facts_.Lock()->swap(kept);  // the old one goes after the lock
  }
  return facts;
}

// Filled in advance: a message that is cleared gives its parts back to the heap.
v1::FilesystemUsage StatsMaker::Scratch() const {
  return UsageToCri({.mountpoint = layers_.dir(), .used_bytes = 0, .inodes_used = 0}, 0);
}

// Protobuf takes the parts of a message in any order.
void StatsMaker::AppendOne(const Facts& facts, size_t at, int field, v1::FilesystemUsage& scratch, std::string& out) {
  static_assert(v1::ContainerStats::kAttributesFieldNumber == 1);
  std::string_view attributes = facts.names->pieces[at];  // is field 1
  std::string use;
  if (facts.running[at]) {
    v1::ContainerStats numbers;
    FillUse(*facts.names->refs[at], numbers);
    numbers.SerializeToString(&use);
  }
  const std::optional<DiskUsage::Part>& layer = facts.layers[at];
  size_t layer_bytes = 0;
  if (layer) {
    scratch.set_timestamp(layer->at_unix_nanos);
    scratch.mutable_used_bytes()->set_value(layer->used_bytes);
    scratch.mutable_inodes_used()->set_value(layer->inodes_used);
    layer_bytes = scratch.ByteSizeLong();
    AppendFieldHead(use, v1::ContainerStats::kWritableLayerFieldNumber, layer_bytes);
  }
  AppendFieldHead(out, field, attributes.size() + use.size() + layer_bytes);
  out.append(attributes).append(use);
  if (!layer) return;
  size_t end = out.size();
  out.resize(end + layer_bytes);
  scratch.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out.data() + end));
}

void StatsMaker::Append(const Facts& facts, size_t first, size_t count, int field, std::string& out) {
  v1::FilesystemUsage scratch = Scratch();
  for (size_t i = 0; i < count; ++i) AppendOne(facts, first + i, field, scratch, out);
}

Result<size_t> StatsMaker::Encode(const Ctx& ctx, const Names& names, size_t first, size_t count, size_t bytes_max,
                                  grpc::ByteBuffer& out) {
  constexpr size_t kOfNumbers = 160;  // about what comes to the names
  FactsRef facts = FactsOf(ctx, names);
  v1::FilesystemUsage scratch = Scratch();
  std::string bytes;
  size_t all = count * kOfNumbers;
  for (size_t i = 0; i < count; ++i) all += names->pieces[first + i].size();
  bytes.reserve(std::min(all, bytes_max));
  size_t taken = 0;
  for (; taken < count && bytes.size() < bytes_max; ++taken) {
    if (taken % 64 == 0) TRY(ctx.Check());
    AppendOne(*facts, first + taken, 1, scratch, bytes);
  }
  out = ToByteBuffer(std::move(bytes));
  return taken;
}

}  // namespace crisp::cri
