#include "nri/adjust.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/json.h"
#include "base/strings.h"
#include "nri/convert.h"

namespace crisp::nri {

namespace {

Error Invalid(std::string message) { return Error(Code::kInvalidArgument, std::move(message)); }

Json& ListOf(Json& object, const char* key) {
  Json& list = object[key];
  if (!list.is_array()) list = Json::array();
  return list;
}
Json& ObjectOf(Json& object, const char* key) {
  Json& member = object[key];
  if (!member.is_object()) member = Json::object();
  return member;
}

void EraseWhere(Json& list, const char* key, const std::string& value) {
  auto same = [&](const Json& each) { return each.is_object() && each.contains(key) && each[key] == value; };
  list.erase(std::remove_if(list.begin(), list.end(), same), list.end());
}

// A map whose keys may be marked for removal.
template <class Map>
void ApplyMap(Json& object, const Map& wanted) {
  for (const auto& [key, value] : wanted) {
    if (IsRemoval(key)) object.erase(WithoutMark(key));
  }
  for (const auto& [key, value] : wanted) {
    if (!IsRemoval(key)) object[key] = value;
  }
}

void ApplyEnv(Json& process, const v1::ContainerAdjustment& wanted) {
  Json& env = ListOf(process, "env");
  for (const v1::KeyValue& variable : wanted.env()) {
    std::string start = WithoutMark(variable.key()) + "=";
    auto same = [&](const Json& each) {
      return each.is_string() && each.get_ref<const std::string&>().starts_with(start);
    };
    auto found = std::find_if(env.begin(), env.end(), same);
    if (IsRemoval(variable.key())) {
      if (found != env.end()) env.erase(found);
    } else if (found != env.end()) {
      *found = start + variable.value();
    } else {
      env.push_back(start + variable.value());
    }
  }
}

Result<> ApplyMounts(Json& config, const v1::ContainerAdjustment& wanted) {
  Json& mounts = ListOf(config, "mounts");
  for (const v1::Mount& mount : wanted.mounts()) {
    std::string target = WithoutMark(mount.destination());
    if (!target.starts_with("/")) return Invalid(StrCat("mount target ", Quote(target), " is not absolute"));
    EraseWhere(mounts, "destination", target);
    if (IsRemoval(mount.destination())) continue;
    Json options = Json::array();
    for (const std::string& option : mount.options()) options.push_back(option);
    // A shared or slave mount needs the container's root to be so, too (runtime-spec, rootfsPropagation).
    auto has = [&](const char* option) { return std::find(options.begin(), options.end(), option) != options.end(); };
    if (has("rshared")) config["linux"]["rootfsPropagation"] = "rshared";
    if (has("rslave") && config["linux"].value("rootfsPropagation", "") != "rshared") {
      config["linux"]["rootfsPropagation"] = "rslave";
    }
    Json entry = {{"destination", target}, {"source", mount.source()}, {"options", std::move(options)}};
    if (!mount.type().empty()) entry["type"] = mount.type();
    // Before those that lie below it, else it would hide them.
    std::string below = target == "/" ? target : target + "/";
    auto place = std::find_if(mounts.begin(), mounts.end(), [&](const Json& each) {
      return each.is_object() && each.value("destination", "").starts_with(below);
    });
    mounts.insert(place, std::move(entry));
  }
  return {};
}

Result<> AddHooks(Json& config, const char* name, const google::protobuf::RepeatedPtrField<v1::Hook>& hooks) {
  for (const v1::Hook& hook : hooks) {
    if (!hook.path().starts_with("/")) return Invalid(StrCat("hook ", Quote(hook.path()), " is not an absolute path"));
    Json entry = {{"path", hook.path()}};
    for (const std::string& arg : hook.args()) entry["args"].push_back(arg);
    for (const std::string& env : hook.env()) entry["env"].push_back(env);
    if (hook.has_timeout()) entry["timeout"] = hook.timeout().value();
    ListOf(ObjectOf(config, "hooks"), name).push_back(std::move(entry));
  }
  return {};
}

Result<> ApplyHooks(Json& config, const v1::Hooks& hooks) {
  TRY(AddHooks(config, "prestart", hooks.prestart()));
  TRY(AddHooks(config, "createRuntime", hooks.create_runtime()));
  TRY(AddHooks(config, "createContainer", hooks.create_container()));
  TRY(AddHooks(config, "startContainer", hooks.start_container()));
  TRY(AddHooks(config, "poststart", hooks.poststart()));
  return AddHooks(config, "poststop", hooks.poststop());
}

Result<> ApplyDevices(Json& platform, const v1::LinuxContainerAdjustment& wanted) {
  Json& devices = ListOf(platform, "devices");
  for (const v1::LinuxDevice& device : wanted.devices()) {
    std::string path = WithoutMark(device.path());
    EraseWhere(devices, "path", path);
    if (IsRemoval(device.path())) continue;
    if (!path.starts_with("/")) return Invalid(StrCat("device ", Quote(path), " is not an absolute path"));
    const std::string& type = device.type();
    if (type != "b" && type != "c" && type != "u" && type != "p") {
      return Invalid(StrCat("device ", path, ": no such type: ", Quote(type)));
    }
    Json entry = {{"path", path}, {"type", type}, {"major", device.major()}, {"minor", device.minor()}};
    if (device.has_file_mode()) entry["fileMode"] = device.file_mode().value();
    if (device.has_uid()) entry["uid"] = device.uid().value();
    if (device.has_gid()) entry["gid"] = device.gid().value();
    devices.push_back(std::move(entry));
    if (type == "p") continue;
    // The protocol has no field for what may be done with it; its implementations take the file mode for that.
    uint32_t mode = device.file_mode().value();
    std::string access = !device.has_file_mode() ? "rwm" : StrCat(mode & 0444 ? "r" : "", mode & 0222 ? "w" : "");
    if (access.empty()) access = "r";
    ListOf(ObjectOf(platform, "resources"), "devices")
        .push_back({{"allow", true},
                    {"type", type == "b" ? "b" : "c"},
                    {"major", device.major()},
                    {"minor", device.minor()},
                    {"access", access}});
  }
  return {};
}

Result<> ApplyNamespaces(Json& platform, const v1::LinuxContainerAdjustment& wanted) {
  static constexpr std::array<std::string_view, 8> kTypes = {"pid", "network", "ipc",    "mount",
                                                             "uts", "user",    "cgroup", "time"};
  Json& namespaces = ListOf(platform, "namespaces");
  for (const v1::LinuxNamespace& each : wanted.namespaces()) {
    std::string type = WithoutMark(each.type());
    if (std::find(kTypes.begin(), kTypes.end(), type) == kTypes.end()) {
      return Invalid(StrCat("no such namespace: ", Quote(type)));
    }
    EraseWhere(namespaces, "type", type);
    if (IsRemoval(each.type())) continue;
    Json entry = {{"type", type}};
    if (!each.path().empty()) entry["path"] = each.path();
    namespaces.push_back(std::move(entry));
  }
  return {};
}

// Policies and flags are named as the kernel's headers name them.
Json Scheduler(const v1::LinuxScheduler& in) {
  static constexpr std::string_view kOurs = "SCHEDULER_", kTheirs = "SCHED_";
  auto name = [](std::string text) {
    return text.starts_with(kOurs) ? StrCat(kTheirs, text.substr(kOurs.size())) : text;
  };
  Json out = {{"policy", name(v1::LinuxSchedulerPolicy_Name(in.policy()))}};
  if (in.nice() != 0) out["nice"] = in.nice();
  if (in.priority() != 0) out["priority"] = in.priority();
  for (int flag : in.flags()) {
    out["flags"].push_back(name(v1::LinuxSchedulerFlag_Name(static_cast<v1::LinuxSchedulerFlag>(flag))));
  }
  if (in.runtime() != 0) out["runtime"] = in.runtime();
  if (in.deadline() != 0) out["deadline"] = in.deadline();
  if (in.period() != 0) out["period"] = in.period();
  return out;
}

Json Seccomp(const v1::LinuxSeccomp& in) {
  Json out = {{"defaultAction", in.default_action()}};
  if (in.has_default_errno()) out["defaultErrnoRet"] = in.default_errno().value();
  for (const std::string& arch : in.architectures()) out["architectures"].push_back(arch);
  for (const std::string& flag : in.flags()) out["flags"].push_back(flag);
  if (!in.listener_path().empty()) out["listenerPath"] = in.listener_path();
  if (!in.listener_metadata().empty()) out["listenerMetadata"] = in.listener_metadata();
  for (const v1::LinuxSyscall& call : in.syscalls()) {
    Json entry = {{"names", Json::array()}, {"action", call.action()}};
    for (const std::string& name : call.names()) entry["names"].push_back(name);
    if (call.has_errno_ret()) entry["errnoRet"] = call.errno_ret().value();
    for (const v1::LinuxSeccompArg& arg : call.args()) {
      entry["args"].push_back(
          {{"index", arg.index()}, {"value", arg.value()}, {"valueTwo", arg.value_two()}, {"op", arg.op()}});
    }
    out["syscalls"].push_back(std::move(entry));
  }
  return out;
}

void ApplyRdt(Json& platform, const v1::LinuxRdt& wanted) {
  if (wanted.remove()) platform.erase("intelRdt");
  if (wanted.has_clos_id()) ObjectOf(platform, "intelRdt")["closID"] = wanted.clos_id().value();
  if (wanted.has_schemata()) {
    Json& list = ObjectOf(platform, "intelRdt")["schemata"] = Json::array();
    for (const std::string& line : wanted.schemata().value()) list.push_back(line);
  }
  if (wanted.has_enable_monitoring()) {
    ObjectOf(platform, "intelRdt")["enableMonitoring"] = wanted.enable_monitoring().value();
  }
}

Result<> ApplyResources(Json& resources, const v1::LinuxResources& wanted) {
  Json change = TRY(ResourcesToOci(wanted));
  if (auto pages = change.find("hugepageLimits"); pages != change.end()) {
    Json& list = ListOf(resources, "hugepageLimits");
    for (Json& each : *pages) {
      EraseWhere(list, "pageSize", each["pageSize"].get<std::string>());
      list.push_back(each);
    }
    change.erase("hugepageLimits");
  }
  // A limit of memory with an older, smaller one of memory and swap would be refused by the kernel.
  const v1::LinuxMemory& memory = wanted.memory();
  if (memory.has_limit() && !memory.has_swap() && ObjectOf(resources, "memory").contains("swap")) {
    change["memory"]["swap"] = memory.limit().value();
  }
  resources.merge_patch(change);
  if (resources.contains("memory") && resources["memory"].empty()) resources.erase("memory");
  return {};
}

Result<> ApplyLinux(Json& config, const v1::LinuxContainerAdjustment& wanted) {
  Json& platform = config["linux"];
  Json& process = config["process"];
  if (!wanted.net_devices().empty()) {
    return Error(Code::kUnimplemented, StrCat("network device ", Quote(wanted.net_devices().begin()->first),
                                              ": moving network devices into a container is not supported"));
  }
  if (wanted.has_memory_policy()) return Error(Code::kUnimplemented, "memory policies are not supported");
  if (!wanted.devices().empty()) TRY(ApplyDevices(platform, wanted));
  TRY(ApplyResources(ObjectOf(platform, "resources"), wanted.resources()));
  if (!wanted.cgroups_path().empty()) platform["cgroupsPath"] = wanted.cgroups_path();
  if (wanted.has_oom_score_adj())
    process["oomScoreAdj"] = std::clamp<int64_t>(wanted.oom_score_adj().value(), -1000, 1000);
  if (wanted.has_io_priority()) {
    process["ioPriority"] = {{"class", v1::IOPrioClass_Name(wanted.io_priority().class_())},
                             {"priority", wanted.io_priority().priority()}};
  }
  if (wanted.has_scheduler()) process["scheduler"] = Scheduler(wanted.scheduler());
  if (wanted.has_seccomp_policy()) platform["seccomp"] = Seccomp(wanted.seccomp_policy());
  TRY(ApplyNamespaces(platform, wanted));
  if (!wanted.sysctl().empty()) ApplyMap(ObjectOf(platform, "sysctl"), wanted.sysctl());
  if (wanted.has_rdt()) ApplyRdt(platform, wanted.rdt());
  return {};
}

}  // namespace

Result<std::string> ApplyAdjustment(const std::string& config_json, const v1::ContainerAdjustment& wanted) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  if (!config.is_object() || !config["process"].is_object() || !config["linux"].is_object()) {
    return Error(Code::kInternal, "config.json lacks its objects");
  }
  if (!wanted.annotations().empty()) ApplyMap(ObjectOf(config, "annotations"), wanted.annotations());
  TRY(ApplyMounts(config, wanted));
  Json& process = config["process"];
  ApplyEnv(process, wanted);
  if (!wanted.args().empty()) process["args"] = std::vector<std::string>(wanted.args().begin(), wanted.args().end());
  TRY(ApplyHooks(config, wanted.hooks()));
  for (const v1::POSIXRlimit& limit : wanted.rlimits()) {
    if (!limit.type().starts_with("RLIMIT_")) return Invalid(StrCat("no such limit: ", Quote(limit.type())));
    EraseWhere(ListOf(process, "rlimits"), "type", limit.type());
    process["rlimits"].push_back({{"type", limit.type()}, {"hard", limit.hard()}, {"soft", limit.soft()}});
  }
  if (wanted.has_linux()) TRY(ApplyLinux(config, wanted.linux()));
  return DumpJson(config);
}

}  // namespace crisp::nri
