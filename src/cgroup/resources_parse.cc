#include "base/json.h"
#include "base/strings.h"
#include "cgroup/resources.h"

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
  void Put(const char* controller, const char* v1, const char* v2, std::string value, const char* other_file = "") {
    const char* file = V2(controller) ? v2 : v1;
    if (file != nullptr) out_.writes.push_back({controller, file, std::move(value), other_file});
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
    // Never more than the quota: before it when that shrinks, and again after it when it has grown.
    TRY(Number(cpu, "burst", "cpu", "cpu.cfs_burst_us", "cpu.max.burst"));
    TRY(Number(cpu, "realtimePeriod", "cpu", "cpu.rt_period_us", nullptr));
    TRY(Number(cpu, "realtimeRuntime", "cpu", "cpu.rt_runtime_us", nullptr));
    TRY(Number(cpu, "idle", "cpu", "cpu.idle", "cpu.idle"));
    // An idle group takes no shares, and loses them when it becomes idle.
    for (FileWrite& write : out_.writes) write.before_limits = write.file != "cpu.idle" || write.value == "0";
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
    if (!out_.writes.empty() && out_.writes.back().file == "memory.low" && out_.writes.back().value == "-1") {
      out_.writes.back().value = "max";
    }
    out_.check_memory = TRY(JsonGet<bool>(memory, "checkBeforeUpdate"), "linux.resources.memory");
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
    const char* controller = layout_.Find("io") != nullptr || layout_.unified ? "io" : "blkio";
    TRY(IoWeight(io, "weight", controller, "", "blkio.weight", "blkio.bfq.weight"));
    TRY(IoWeight(io, "leafWeight", controller, "", "blkio.leaf_weight", ""));
    for (const Json& each : TRY(List(io, "weightDevice", "blockIO"))) {
      std::string device = TRY(DeviceNumber(each));
      TRY(IoWeight(each, "weight", controller, device, "blkio.weight_device", "blkio.bfq.weight_device"));
      TRY(IoWeight(each, "leafWeight", controller, device, "blkio.leaf_weight_device", ""));
    }
    constexpr struct {
      const char *member, *v1, *v2;
    } kThrottles[] = {{"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"},
                      {"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"},
                      {"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"},
                      {"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"}};
    for (const auto& throttle : kThrottles) {
      for (const Json& each : TRY(List(io, throttle.member, "blockIO"))) {
        std::string device = TRY(DeviceNumber(each));
        uint64_t rate = TRY(JsonGet<uint64_t>(each, "rate"), StrCat("linux.resources.blockIO.", throttle.member));
        // 0: no limit.
        Put(controller, throttle.v1, "io.max",
            V2(controller) ? StrCat(device, " ", throttle.v2, "=", rate == 0 ? "max" : StrCat(rate)) : StrCat(device, " ", rate));
      }
    }
    return {};
  }

  // Two schedulers, two sets of files: CFQ had the plain names, BFQ has its own. v2's numbers go from 1 to 10000, BFQ's
  // from 1 to 1000. `device`: for one only.
  Result<> IoWeight(const Json& io, const char* member, const char* controller, const std::string& device, const char* v1,
                    const char* v1_bfq) {
    uint64_t weight = TRY(JsonGet<uint64_t>(io, member), "linux.resources.blockIO");
    if (weight == 0) return {};
    if (weight < 10 || weight > 1000) return Invalid(StrCat("blockIO.", member, ": ", weight, " is not 10 … 1000"));
    std::string prefix = device.empty() ? "" : device + " ";
    if (!V2(controller)) {
      Put(controller, v1, nullptr, StrCat(prefix, weight), v1_bfq);
    } else if (std::string_view(member) == "weight") {
      Put(controller, nullptr, "io.bfq.weight", StrCat(prefix, weight), "io.weight");
      out_.writes.back().other_value = StrCat(prefix, 1 + (weight - 10) * 9'999 / 990);
    }
    return {};
  }

  Result<std::string> DeviceNumber(const Json& json) const {
    if (!json.is_object()) return Invalid("blockIO: a device is not an object");
    return StrCat(TRY(JsonGet<uint64_t>(json, "major"), "linux.resources.blockIO"), ":",
                  TRY(JsonGet<uint64_t>(json, "minor"), "linux.resources.blockIO"));
  }

  Result<Json> List(const Json& part, const char* member, const char* where) const {
    auto list = part.find(member);
    if (list == part.end() || list->is_null()) return Json::array();
    if (!list->is_array()) return Invalid(StrCat(where, ".", member, ": is not a list"));
    return *list;
  }

  Result<> Hugepages() {
    auto list = json_.find("hugepageLimits");
    if (list == json_.end() || list->is_null()) return {};
    if (!list->is_array()) return Invalid("hugepageLimits: is not a list");
    for (const Json& each : *list) {
      if (!each.is_object()) return Invalid("hugepageLimits: an element is not an object");
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
    for (const Json& each : TRY(List(network, "priorities", "network"))) {
      if (!each.is_object()) return Invalid("network.priorities: an element is not an object");
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
    if (!json.is_object()) return Invalid("devices: a rule is not an object");
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
        if (!line.empty()) out_.writes.push_back({.controller = file.substr(0, dot), .file = file, .value = std::string(line)});
      }
    }
    return {};
  }

  const Json& json_;
  const Layout& layout_;
  Resources out_;
};

}  // namespace

Result<Resources> ParseResources(std::string_view resources_json, const Layout& layout) {
  Json json = TRY(ParseJson(resources_json, "linux.resources"));
  if (!json.is_object()) return Error(Code::kInvalidArgument, "linux.resources is not an object");
  return Reader(json, layout).Read();
}

}  // namespace crisp::cgroup
