#include "cgroup/resources.h"

#include "base/json.h"
#include "base/strings.h"
#include "sys/file.h"

namespace crisp::cgroup {

namespace {

Error Invalid(const std::string& what) { return Error(Code::kInvalidArgument, "linux.resources." + what); }

// Collects the files of one machine: a member is one file on v1 and another one, or none, on v2.
class Reader {
 public:
  Reader(const Json& json, const Layout& layout) : json_(json), layout_(layout) {}

  Result<Resources> Read() {
    TRY(Cpu());
    TRY(Memory());
    TRY(Pids());
    TRY(BlockIo());
    TRY(Hugepages());
    TRY(Network());
    TRY(Rdma());
    TRY(Devices());
    TRY(Unified());
    return std::move(out_);
  }

 private:
  Result<const Json*> Part(const char* name) const {
    static const Json kNone = Json::object();
    auto found = json_.find(name);
    if (found == json_.end() || found->is_null()) return &kNone;
    if (!found->is_object()) return Invalid(StrCat(name, ": is not an object"));
    return &*found;
  }
  bool V2(const char* controller) const {
    const Hierarchy* hierarchy = layout_.Find(controller);
    return hierarchy != nullptr ? hierarchy->v2 : layout_.unified;
  }
  void Put(const char* controller, const char* v1, const char* v2, std::string value) {
    const char* file = V2(controller) ? v2 : v1;
    if (file != nullptr) out_.writes.push_back({controller, file, std::move(value)});
  }
  // A number that is there.
  Result<> Number(const Json& part, const char* member, const char* controller, const char* v1, const char* v2) {
    if (!part.contains(member) || part[member].is_null()) return {};
    int64_t value = TRY(JsonGet<int64_t>(part, member), StrCat("linux.resources.", controller));
    Put(controller, v1, v2, StrCat(value));
    return {};
  }

  Result<> Cpu() {
    const Json& cpu = *TRY(Part("cpu"));
    out_.limits.cpu_shares = TRY(JsonGet<int64_t>(cpu, "shares"), "linux.resources.cpu");
    out_.limits.cpu_quota_micros = TRY(JsonGet<int64_t>(cpu, "quota"), "linux.resources.cpu");
    out_.limits.cpu_period_micros = TRY(JsonGet<int64_t>(cpu, "period"), "linux.resources.cpu");
    TRY(Number(cpu, "burst", "cpu", "cpu.cfs_burst_us", "cpu.max.burst"));
    TRY(Number(cpu, "realtimePeriod", "cpu", "cpu.rt_period_us", nullptr));
    TRY(Number(cpu, "realtimeRuntime", "cpu", "cpu.rt_runtime_us", nullptr));
    TRY(Number(cpu, "idle", "cpu", "cpu.idle", "cpu.idle"));
    for (const auto& [member, file] : {std::pair{"cpus", "cpuset.cpus"}, std::pair{"mems", "cpuset.mems"}}) {
      std::string list = TRY(JsonGet<std::string>(cpu, member), "linux.resources.cpu");
      if (list.find_first_not_of("0123456789,- ") != std::string::npos) return Invalid(StrCat("cpu.", member, " ", Quote(list)));
      if (!list.empty()) Put("cpuset", file, file, std::move(list));
    }
    return {};
  }

  Result<> Memory() {
    const Json& memory = *TRY(Part("memory"));
    out_.limits.memory_bytes = TRY(JsonGet<int64_t>(memory, "limit"), "linux.resources.memory");
    out_.limits.memory_swap_bytes = TRY(JsonGet<int64_t>(memory, "swap"), "linux.resources.memory");
    TRY(Number(memory, "reservation", "memory", "memory.soft_limit_in_bytes", "memory.low"));
    TRY(Number(memory, "kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes", nullptr));
    TRY(Number(memory, "swappiness", "memory", "memory.swappiness", nullptr));
    if (TRY(JsonGet<bool>(memory, "disableOOMKiller"))) Put("memory", "memory.oom_control", nullptr, "1");
    return {};
  }

  Result<> Pids() {
    const Json& pids = *TRY(Part("pids"));
    if (!pids.contains("limit")) return {};
    int64_t limit = TRY(JsonGet<int64_t>(pids, "limit"), "linux.resources.pids");
    Put("pids", "pids.max", "pids.max", limit > 0 ? StrCat(limit) : "max");
    return {};
  }

  Result<> BlockIo() {
    const Json& io = *TRY(Part("blockIO"));
    const char* controller = layout_.unified ? "io" : "blkio";
    if (io.contains("weight")) {
      uint64_t weight = TRY(JsonGet<uint64_t>(io, "weight"), "linux.resources.blockIO");
      if (weight != 0 && (weight < 10 || weight > 1000)) return Invalid(StrCat("blockIO.weight ", weight, " is not 10 … 1000"));
      // v2: 1 … 10000 (as runc maps it).
      uint64_t v2 = weight == 0 ? 0 : 1 + (weight - 10) * 9'999 / 990;
      if (weight != 0) Put(controller, "blkio.bfq.weight", "io.weight", StrCat(layout_.unified ? v2 : weight));
    }
    constexpr struct {
      const char *member, *v1, *v2;
    } kThrottles[] = {{"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"},
                      {"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"},
                      {"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"},
                      {"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"}};
    for (const auto& throttle : kThrottles) {
      auto list = io.find(throttle.member);
      if (list == io.end() || !list->is_array()) continue;
      for (const Json& each : *list) {
        std::string device = StrCat(TRY(JsonGet<int64_t>(each, "major")), ":", TRY(JsonGet<int64_t>(each, "minor")));
        uint64_t rate = TRY(JsonGet<uint64_t>(each, "rate"));
        Put(controller, throttle.v1, "io.max",
            layout_.unified ? StrCat(device, " ", throttle.v2, "=", rate == 0 ? "max" : StrCat(rate)) : StrCat(device, " ", rate));
      }
    }
    return {};
  }

  Result<> Hugepages() {
    auto list = json_.find("hugepageLimits");
    if (list == json_.end() || list->is_null()) return {};
    if (!list->is_array()) return Invalid("hugepageLimits: is not a list");
    for (const Json& each : *list) {
      std::string size = TRY(JsonGet<std::string>(each, "pageSize"), "linux.resources.hugepageLimits");
      if (size.empty() || size.find_first_of("/.") != std::string::npos) return Invalid(StrCat("hugepageLimits: page size ", Quote(size)));
      out_.limits.hugepages.emplace_back(size, TRY(JsonGet<uint64_t>(each, "limit"), "linux.resources.hugepageLimits"));
    }
    return {};
  }

  Result<> Network() {
    const Json& network = *TRY(Part("network"));
    if (layout_.unified) return {};  // v2 has no such controllers
    TRY(Number(network, "classID", "net_cls", "net_cls.classid", nullptr));
    auto list = network.find("priorities");
    if (list == network.end() || !list->is_array()) return {};
    for (const Json& each : *list) {
      Put("net_prio", "net_prio.ifpriomap", nullptr,
          StrCat(TRY(JsonGet<std::string>(each, "name")), " ", TRY(JsonGet<uint64_t>(each, "priority"))));
    }
    return {};
  }

  Result<> Rdma() {
    const Json& rdma = *TRY(Part("rdma"));
    for (const auto& [device, limits] : rdma.items()) {
      if (!limits.is_object()) return Invalid(StrCat("rdma.", device, ": is not an object"));
      auto text = [&](const char* member) -> Result<std::string> {
        if (!limits.contains(member)) return std::string("max");
        return StrCat(TRY(JsonGet<uint64_t>(limits, member)));
      };
      std::string handles = TRY(text("hcaHandles")), objects = TRY(text("hcaObjects"));
      Put("rdma", "rdma.max", "rdma.max", StrCat(device, " hca_handle=", handles, " hca_object=", objects));
    }
    return {};
  }

  Result<DeviceRule> ReadRule(const Json& json) {
    DeviceRule rule;
    rule.allow = TRY(JsonGet<bool>(json, "allow"), "linux.resources.devices");
    std::string type = TRY(JsonGet<std::string>(json, "type", "a"), "linux.resources.devices");
    if (type != "a" && type != "b" && type != "c" && type != "u" && !type.empty()) return Invalid(StrCat("devices: type ", Quote(type)));
    rule.type = type.empty() ? 'a' : type == "u" ? 'c' : type[0];
    rule.major = TRY(JsonGet<int64_t>(json, "major", int64_t{DeviceRule::kAny}), "linux.resources.devices");
    rule.minor = TRY(JsonGet<int64_t>(json, "minor", int64_t{DeviceRule::kAny}), "linux.resources.devices");
    rule.access = TRY(JsonGet<std::string>(json, "access", "rwm"), "linux.resources.devices");
    if (rule.access.empty()) rule.access = "rwm";
    bool known = rule.access.find_first_not_of("rwm") == std::string::npos;
    if (!known || rule.major < -1 || rule.minor < -1 || rule.major > UINT32_MAX || rule.minor > UINT32_MAX) {
      return Invalid(StrCat("devices: ", Quote(RuleText(rule))));
    }
    return rule;
  }

  Result<> Devices() {
    auto list = json_.find("devices");
    if (list == json_.end() || list->is_null()) return {};
    if (!list->is_array()) return Invalid("devices: is not a list");
    out_.devices.emplace();
    for (const Json& each : *list) out_.devices->push_back(TRY(ReadRule(each)));
    return {};
  }

  Result<> Unified() {
    const Json& unified = *TRY(Part("unified"));
    if (!unified.empty() && !layout_.unified) {
      return Error(Code::kFailedPrecondition, "linux.resources.unified: needs cgroup v2");
    }
    for (const auto& [file, value] : unified.items()) {
      size_t dot = file.find('.');
      if (dot == std::string::npos || dot == 0 || file.find('/') != std::string::npos || !value.is_string()) {
        return Invalid(StrCat("unified: ", Quote(file)));
      }
      for (std::string_view line : Split(value.get_ref<const std::string&>(), '\n')) {
        if (!line.empty()) out_.writes.push_back({file.substr(0, dot), file, std::string(line)});
      }
    }
    return {};
  }

  const Json& json_;
  const Layout& layout_;
  Resources out_;
};

Result<> WriteOne(const Layout& layout, const std::string& kernel_path, const FileWrite& write) {
  const Hierarchy* hierarchy = layout.Find(write.controller);
  if (hierarchy == nullptr) {
    return Error(Code::kFailedPrecondition, StrCat(write.file, ": this node has no cgroup controller \"", write.controller, "\""));
  }
  return sys::WriteExisting(StrCat(hierarchy->mountpoint, kernel_path, "/", write.file), write.value);
}

}  // namespace

Result<Resources> ParseResources(std::string_view resources_json, const Layout& layout) {
  Json json = TRY(ParseJson(resources_json, "linux.resources"));
  if (!json.is_object()) return Error(Code::kInvalidArgument, "linux.resources is not an object");
  return Reader(json, layout).Read();
}

Result<> WriteResources(const Layout& layout, const std::string& kernel_path, const Resources& resources) {
  TRY(WriteLimits(layout, kernel_path, resources.limits));
  for (const FileWrite& write : resources.writes) TRY(WriteOne(layout, kernel_path, write));
  if (!resources.devices) return {};
  const Hierarchy* devices = layout.Find("devices");
  if (devices != nullptr) return WriteDeviceRulesV1(devices->mountpoint + kernel_path, *resources.devices);
  for (const Hierarchy& hierarchy : layout.hierarchies) {
    if (hierarchy.v2) return AttachDeviceRulesV2(hierarchy.mountpoint + kernel_path, *resources.devices);
  }
  return Error(Code::kFailedPrecondition, "this node's cgroups cannot restrict devices");
}

}  // namespace crisp::cgroup
