#include "nri/convert.h"

#include "base/json.h"
#include "base/strings.h"

namespace crisp::nri {

namespace {

// Members of config.json as we need them; those of another type count as absent (a plugin's hand may have been there).
std::string Text(const Json& object, const char* key) {
  return JsonGet<std::string>(object, key).value_or(std::string());
}
const Json& Member(const Json& object, const char* key) {
  static const Json kNothing = Json::object();
  auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : kNothing;
}
const Json& Items(const Json& object, const char* key) {
  static const Json kNothing = Json::array();
  const Json& found = Member(object, key);
  return found.is_array() ? found : kNothing;
}

template <class Message, class Optional>
void SetNumber(const Json& object, const char* key, Message& into, Optional* (Message::*make)()) {
  const Json& value = Member(object, key);
  if (value.is_number_integer()) (into.*make)()->set_value(value.get<decltype(std::declval<Optional>().value())>());
}

void AddHooks(const Json& hooks, const char* key, google::protobuf::RepeatedPtrField<v1::Hook>* out) {
  for (const Json& each : Items(hooks, key)) {
    v1::Hook* hook = out->Add();
    hook->set_path(Text(each, "path"));
    for (const std::string& arg :
         JsonGet<std::vector<std::string>>(each, "args").value_or(std::vector<std::string>())) {
      hook->add_args(arg);
    }
    for (const std::string& env : JsonGet<std::vector<std::string>>(each, "env").value_or(std::vector<std::string>())) {
      hook->add_env(env);
    }
    SetNumber(each, "timeout", *hook, &v1::Hook::mutable_timeout);
  }
}

void FillProcess(const Json& process, v1::Container& out) {
  for (const Json& arg : Items(process, "args")) out.add_args(arg.is_string() ? arg.get<std::string>() : "");
  for (const Json& env : Items(process, "env")) out.add_env(env.is_string() ? env.get<std::string>() : "");
  for (const Json& each : Items(process, "rlimits")) {
    v1::POSIXRlimit* limit = out.add_rlimits();
    limit->set_type(Text(each, "type"));
    limit->set_hard(JsonGet<uint64_t>(each, "hard").value_or(0));
    limit->set_soft(JsonGet<uint64_t>(each, "soft").value_or(0));
  }
  const Json& user = Member(process, "user");
  out.mutable_user()->set_uid(static_cast<uint32_t>(JsonGet<uint64_t>(user, "uid").value_or(0)));
  out.mutable_user()->set_gid(static_cast<uint32_t>(JsonGet<uint64_t>(user, "gid").value_or(0)));
  for (const Json& gid : Items(user, "additionalGids")) {
    if (gid.is_number_unsigned()) out.mutable_user()->add_additional_gids(gid.get<uint32_t>());
  }
  SetNumber(process, "oomScoreAdj", *out.mutable_linux(), &v1::LinuxContainer::mutable_oom_score_adj);
}

void FillLinux(const Json& in, v1::LinuxContainer& out) {
  for (const Json& each : Items(in, "namespaces")) {
    v1::LinuxNamespace* name = out.add_namespaces();
    name->set_type(Text(each, "type"));
    name->set_path(Text(each, "path"));
  }
  for (const Json& each : Items(in, "devices")) {
    v1::LinuxDevice* device = out.add_devices();
    device->set_path(Text(each, "path"));
    device->set_type(Text(each, "type"));
    device->set_major(JsonGet<int64_t>(each, "major").value_or(0));
    device->set_minor(JsonGet<int64_t>(each, "minor").value_or(0));
    SetNumber(each, "fileMode", *device, &v1::LinuxDevice::mutable_file_mode);
    SetNumber(each, "uid", *device, &v1::LinuxDevice::mutable_uid);
    SetNumber(each, "gid", *device, &v1::LinuxDevice::mutable_gid);
  }
  *out.mutable_resources() = ResourcesToNri(Member(in, "resources"));
  out.set_cgroups_path(Text(in, "cgroupsPath"));
  for (const auto& [key, value] : Member(in, "sysctl").items()) {
    if (value.is_string()) (*out.mutable_sysctl())[key] = value.get<std::string>();
  }
}

v1::ContainerState ToNri(pod::ContainerState state) {
  switch (state) {
    case pod::ContainerState::kCreated: return v1::CONTAINER_CREATED;
    case pod::ContainerState::kRunning: return v1::CONTAINER_RUNNING;
    case pod::ContainerState::kExited: return v1::CONTAINER_STOPPED;
    case pod::ContainerState::kUnknown: break;
  }
  return v1::CONTAINER_UNKNOWN;
}

void SetProfile(const spec::ContainerSecurity& security, v1::LinuxContainer& out) {
  if (!security.seccomp) return;
  v1::SecurityProfile* profile = out.mutable_seccomp_profile();
  switch (security.seccomp->type) {
    case spec::ProfileType::kRuntimeDefault: profile->set_profile_type(v1::SecurityProfile::RUNTIME_DEFAULT); break;
    case spec::ProfileType::kUnconfined: profile->set_profile_type(v1::SecurityProfile::UNCONFINED); break;
    case spec::ProfileType::kLocalhost: profile->set_profile_type(v1::SecurityProfile::LOCALHOST); break;
  }
  profile->set_localhost_ref(security.seccomp->localhost_ref);
}

}  // namespace

v1::PodSandbox ToNri(const pod::SandboxStatus& pod) {
  v1::PodSandbox out;
  const spec::SandboxConfig& config = pod.config;
  out.set_id(pod.id.str());
  out.set_name(config.metadata.name);
  out.set_uid(config.metadata.uid);
  out.set_namespace_(config.metadata.pod_namespace);
  out.mutable_labels()->insert(config.labels.begin(), config.labels.end());
  out.mutable_annotations()->insert(config.annotations.begin(), config.annotations.end());
  out.set_runtime_handler(config.runtime_handler);
  out.set_pid(static_cast<uint32_t>(pod.shim_pid));
  for (const std::string& ip : pod.ips) out.add_ips(ip);
  v1::LinuxPodSandbox* platform = out.mutable_linux();
  *platform->mutable_pod_overhead() = ToNri(config.overhead);
  *platform->mutable_pod_resources() = ToNri(config.resources);
  platform->set_cgroup_parent(config.cgroup_parent);
  if (!pod.netns_path.empty()) {
    v1::LinuxNamespace* network = platform->add_namespaces();
    network->set_type("network");
    network->set_path(pod.netns_path);
  }
  return out;
}

v1::Container ToNri(const pod::ContainerStatus& container, const std::string& config_json) {
  v1::Container out;
  const spec::ContainerConfig& config = container.config;
  out.set_id(container.id.str());
  out.set_pod_sandbox_id(container.pod.str());
  out.set_name(config.metadata.name);
  out.set_state(ToNri(container.state));
  out.mutable_labels()->insert(config.labels.begin(), config.labels.end());
  out.mutable_annotations()->insert(config.annotations.begin(), config.annotations.end());
  out.set_pid(static_cast<uint32_t>(container.pid));
  out.set_created_at(container.created_at);
  out.set_started_at(container.started_at);
  out.set_finished_at(container.finished_at);
  out.set_exit_code(container.exit_code);
  out.set_status_reason(container.reason);
  out.set_status_message(container.message);
  for (const std::string& name : config.cdi_devices) out.add_cdi_devices()->set_name(name);
  out.mutable_image()->set_name(config.image);
  out.mutable_image()->set_digest(container.image_digest_ref);
  SetProfile(config.security, *out.mutable_linux());
  Result<Json> spec = config_json.empty() ? Result<Json>(Json::object()) : ParseJson(config_json, "config.json");
  if (!spec || !spec->is_object()) spec = Json::object();
  FillProcess(Member(*spec, "process"), out);
  FillLinux(Member(*spec, "linux"), *out.mutable_linux());
  for (const Json& each : Items(*spec, "mounts")) {
    v1::Mount* mount = out.add_mounts();
    mount->set_destination(Text(each, "destination"));
    mount->set_type(Text(each, "type"));
    mount->set_source(Text(each, "source"));
    for (const Json& option : Items(each, "options"))
      mount->add_options(option.is_string() ? option.get<std::string>() : "");
  }
  for (const auto& [key, value] : Member(*spec, "annotations").items()) {
    if (value.is_string()) (*out.mutable_annotations())[key] = value.get<std::string>();
  }
  const Json& hooks = Member(*spec, "hooks");
  AddHooks(hooks, "prestart", out.mutable_hooks()->mutable_prestart());
  AddHooks(hooks, "createRuntime", out.mutable_hooks()->mutable_create_runtime());
  AddHooks(hooks, "createContainer", out.mutable_hooks()->mutable_create_container());
  AddHooks(hooks, "startContainer", out.mutable_hooks()->mutable_start_container());
  AddHooks(hooks, "poststart", out.mutable_hooks()->mutable_poststart());
  AddHooks(hooks, "poststop", out.mutable_hooks()->mutable_poststop());
  return out;
}

v1::LinuxResources ToNri(const spec::Resources& in) {
  v1::LinuxResources out;
  v1::LinuxCPU* cpu = out.mutable_cpu();
  if (in.cpu_shares != 0) cpu->mutable_shares()->set_value(static_cast<uint64_t>(in.cpu_shares));
  if (in.cpu_quota != 0) cpu->mutable_quota()->set_value(in.cpu_quota);
  if (in.cpu_period != 0) cpu->mutable_period()->set_value(static_cast<uint64_t>(in.cpu_period));
  cpu->set_cpus(in.cpuset_cpus);
  cpu->set_mems(in.cpuset_mems);
  if (in.memory_limit_bytes != 0) out.mutable_memory()->mutable_limit()->set_value(in.memory_limit_bytes);
  if (in.memory_swap_limit_bytes != 0) out.mutable_memory()->mutable_swap()->set_value(in.memory_swap_limit_bytes);
  for (const spec::HugepageLimit& each : in.hugepages) {
    v1::HugepageLimit* limit = out.add_hugepage_limits();
    limit->set_page_size(each.page_size);
    limit->set_limit(each.limit);
  }
  out.mutable_unified()->insert(in.unified.begin(), in.unified.end());
  return out;
}

v1::LinuxResources ResourcesToNri(const Json& in) {
  v1::LinuxResources out;
  const Json& cpu = Member(in, "cpu");
  v1::LinuxCPU& to_cpu = *out.mutable_cpu();
  SetNumber(cpu, "shares", to_cpu, &v1::LinuxCPU::mutable_shares);
  SetNumber(cpu, "quota", to_cpu, &v1::LinuxCPU::mutable_quota);
  SetNumber(cpu, "period", to_cpu, &v1::LinuxCPU::mutable_period);
  SetNumber(cpu, "realtimeRuntime", to_cpu, &v1::LinuxCPU::mutable_realtime_runtime);
  SetNumber(cpu, "realtimePeriod", to_cpu, &v1::LinuxCPU::mutable_realtime_period);
  to_cpu.set_cpus(Text(cpu, "cpus"));
  to_cpu.set_mems(Text(cpu, "mems"));
  const Json& memory = Member(in, "memory");
  v1::LinuxMemory& to_memory = *out.mutable_memory();
  SetNumber(memory, "limit", to_memory, &v1::LinuxMemory::mutable_limit);
  SetNumber(memory, "reservation", to_memory, &v1::LinuxMemory::mutable_reservation);
  SetNumber(memory, "swap", to_memory, &v1::LinuxMemory::mutable_swap);
  SetNumber(memory, "kernel", to_memory, &v1::LinuxMemory::mutable_kernel);
  SetNumber(memory, "kernelTCP", to_memory, &v1::LinuxMemory::mutable_kernel_tcp);
  SetNumber(memory, "swappiness", to_memory, &v1::LinuxMemory::mutable_swappiness);
  if (Member(memory, "disableOOMKiller").is_boolean()) {
    to_memory.mutable_disable_oom_killer()->set_value(memory["disableOOMKiller"].get<bool>());
  }
  if (Member(memory, "useHierarchy").is_boolean()) {
    to_memory.mutable_use_hierarchy()->set_value(memory["useHierarchy"].get<bool>());
  }
  for (const Json& each : Items(in, "hugepageLimits")) {
    v1::HugepageLimit* limit = out.add_hugepage_limits();
    limit->set_page_size(Text(each, "pageSize"));
    limit->set_limit(JsonGet<uint64_t>(each, "limit").value_or(0));
  }
  for (const auto& [key, value] : Member(in, "unified").items()) {
    if (value.is_string()) (*out.mutable_unified())[key] = value.get<std::string>();
  }
  if (Result<int64_t> pids = JsonGet<int64_t>(Member(in, "pids"), "limit", 0); pids && *pids != 0) {
    out.mutable_pids()->set_limit(*pids);
  }
  for (const Json& each : Items(in, "devices")) {
    v1::LinuxDeviceCgroup* rule = out.add_devices();
    rule->set_allow(JsonGet<bool>(each, "allow").value_or(false));
    rule->set_type(Text(each, "type"));
    rule->set_access(Text(each, "access"));
    SetNumber(each, "major", *rule, &v1::LinuxDeviceCgroup::mutable_major);
    SetNumber(each, "minor", *rule, &v1::LinuxDeviceCgroup::mutable_minor);
  }
  return out;
}

Result<Json> ResourcesToOci(const v1::LinuxResources& in) {
  if (in.blockio_class().value() != "") {
    return Error(Code::kUnimplemented,
                 StrCat("block I/O class ", Quote(in.blockio_class().value()), ": there are none here"));
  }
  if (in.rdt_class().value() != "") {
    return Error(Code::kUnimplemented, StrCat("RDT class ", Quote(in.rdt_class().value()), ": there are none here"));
  }
  Json cpu = Json::object(), memory = Json::object();
  const v1::LinuxCPU& c = in.cpu();
  if (c.has_shares()) cpu["shares"] = c.shares().value();
  if (c.has_quota()) cpu["quota"] = c.quota().value();
  if (c.has_period()) cpu["period"] = c.period().value();
  if (c.has_realtime_runtime()) cpu["realtimeRuntime"] = c.realtime_runtime().value();
  if (c.has_realtime_period()) cpu["realtimePeriod"] = c.realtime_period().value();
  if (!c.cpus().empty()) cpu["cpus"] = c.cpus();
  if (!c.mems().empty()) cpu["mems"] = c.mems();
  const v1::LinuxMemory& m = in.memory();
  if (m.has_limit()) memory["limit"] = m.limit().value();
  if (m.has_reservation()) memory["reservation"] = m.reservation().value();
  if (m.has_swap()) memory["swap"] = m.swap().value();
  if (m.has_kernel()) memory["kernel"] = m.kernel().value();
  if (m.has_kernel_tcp()) memory["kernelTCP"] = m.kernel_tcp().value();
  if (m.has_swappiness()) memory["swappiness"] = m.swappiness().value();
  if (m.has_disable_oom_killer()) memory["disableOOMKiller"] = m.disable_oom_killer().value();
  if (m.has_use_hierarchy()) memory["useHierarchy"] = m.use_hierarchy().value();
  Json out = Json::object();
  if (!cpu.empty()) out["cpu"] = std::move(cpu);
  if (!memory.empty()) out["memory"] = std::move(memory);
  for (const v1::HugepageLimit& each : in.hugepage_limits()) {
    out["hugepageLimits"].push_back({{"pageSize", each.page_size()}, {"limit", each.limit()}});
  }
  for (const auto& [key, value] : in.unified()) out["unified"][key] = value;
  if (in.has_pids()) out["pids"] = {{"limit", in.pids().limit()}};
  return out;
}

}  // namespace crisp::nri
