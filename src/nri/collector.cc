#include "nri/collector.h"

#include <set>

#include "base/strings.h"

namespace crisp::nri {

namespace {

template <class T, class Keep>
void KeepOnly(google::protobuf::RepeatedPtrField<T>& list, Keep keep) {
  google::protobuf::RepeatedPtrField<T> kept;
  for (T& each : list) {
    if (keep(each)) *kept.Add() = std::move(each);
  }
  list.Swap(&kept);
}

// The keys of a list of wishes: those to be removed, and those to be set.
struct Keys {
  std::set<std::string> removed, set;
};
template <class List, class KeyOf>
Keys KeysOf(const List& wishes, KeyOf key_of) {
  Keys keys;
  for (const auto& wish : wishes) {
    const std::string& key = key_of(wish);
    (IsRemoval(key) ? keys.removed : keys.set).insert(WithoutMark(key));
  }
  return keys;
}

std::string EnvName(const std::string& variable) { return variable.substr(0, variable.find('=')); }

}  // namespace

Collector Collector::ForCreate(v1::Container& container) {
  Collector collector;
  collector.id_ = container.id();
  collector.container_ = &container;
  return collector;
}

Collector Collector::ForUpdate(std::string container_id, v1::LinuxResources& resources) {
  Collector collector;
  collector.id_ = std::move(container_id);
  collector.resources_ = &resources;
  return collector;
}

Result<> Collector::Claim(const std::string& id, v1::Field field, const std::string& key, const std::string& plugin) {
  auto [owner, claimed] = owners_.try_emplace({id, field, key}, plugin);
  if (claimed) return {};
  return Error(Code::kInvalidArgument,
               StrCat("plugins ", Quote(owner->second), " and ", Quote(plugin), " both set field ",
                      v1::Field_Name(field), key.empty() ? "" : StrCat(" ", Quote(key)), " of container ", id));
}

Result<> Collector::AdjustMap(v1::Field field, const Strings& wanted, Strings& collected, Strings& shown,
                              const std::string& plugin) {
  Keys keys = KeysOf(wanted, [](const auto& entry) -> const std::string& { return entry.first; });
  for (const std::string& key : keys.removed) {
    Disown(field, key);
    collected.erase(key);
    shown.erase(key);
    collected["-" + key] = "";
  }
  for (const std::string& key : keys.set) {
    TRY(Claim(field, key, plugin));
    collected[key] = shown[key] = wanted.at(key);
  }
  return {};
}

Result<> Collector::AdjustMounts(const v1::ContainerAdjustment& wanted, const std::string& plugin) {
  Keys keys = KeysOf(wanted.mounts(), [](const v1::Mount& m) -> const std::string& { return m.destination(); });
  for (const std::string& key : keys.removed) Disown(v1::FIELD_MOUNTS, key);
  KeepOnly(*adjustment_.mutable_mounts(), [&](const v1::Mount& m) { return !keys.removed.contains(m.destination()); });
  KeepOnly(*container_->mutable_mounts(), [&](const v1::Mount& m) {
    return !keys.removed.contains(m.destination()) && !keys.set.contains(m.destination());
  });
  for (const v1::Mount& mount : wanted.mounts()) {
    if (IsRemoval(mount.destination())) {
      if (!keys.set.contains(WithoutMark(mount.destination()))) *adjustment_.add_mounts() = mount;
      continue;
    }
    TRY(Claim(v1::FIELD_MOUNTS, mount.destination(), plugin));
    *adjustment_.add_mounts() = mount;
    *container_->add_mounts() = mount;
  }
  return {};
}

Result<> Collector::AdjustEnv(const v1::ContainerAdjustment& wanted, const std::string& plugin) {
  Keys keys = KeysOf(wanted.env(), [](const v1::KeyValue& e) -> const std::string& { return e.key(); });
  for (const std::string& key : keys.removed) Disown(v1::FIELD_ENV, key);
  KeepOnly(*adjustment_.mutable_env(), [&](const v1::KeyValue& e) { return !keys.removed.contains(e.key()); });
  KeepOnly(*container_->mutable_env(),
           [&](const std::string& e) { return !keys.removed.contains(EnvName(e)) && !keys.set.contains(EnvName(e)); });
  for (const v1::KeyValue& variable : wanted.env()) {
    if (IsRemoval(variable.key())) {
      if (!keys.set.contains(WithoutMark(variable.key()))) *adjustment_.add_env() = variable;
      continue;
    }
    TRY(Claim(v1::FIELD_ENV, variable.key(), plugin));
    *adjustment_.add_env() = variable;
    container_->add_env(StrCat(variable.key(), "=", variable.value()));
  }
  return {};
}

Result<> Collector::AdjustArgs(const v1::ContainerAdjustment& wanted, const std::string& plugin) {
  if (wanted.args().empty()) return {};
  bool takes_over = wanted.args(0).empty();
  if (takes_over) Disown(v1::FIELD_ARGS, "");
  TRY(Claim(v1::FIELD_ARGS, "", plugin));
  adjustment_.mutable_args()->Clear();
  for (int i = takes_over ? 1 : 0; i < wanted.args_size(); ++i) adjustment_.add_args(wanted.args(i));
  *container_->mutable_args() = adjustment_.args();
  return {};
}

void Collector::AdjustHooks(const v1::Hooks& wanted, const std::string& plugin) {
  if (wanted.ByteSizeLong() == 0) return;
  adjustment_.mutable_hooks()->MergeFrom(wanted);
  container_->mutable_hooks()->MergeFrom(wanted);
  std::string& owner = owners_[{id_, v1::FIELD_OCI_HOOKS, ""}];
  owner = owner.empty() ? plugin : StrCat(owner, ",", plugin);
}

Result<> Collector::AdjustDevices(const v1::LinuxContainerAdjustment& wanted, const std::string& plugin) {
  auto path = [](const v1::LinuxDevice& d) -> const std::string& { return d.path(); };
  Keys keys = KeysOf(wanted.devices(), path);
  v1::LinuxContainerAdjustment& collected = *adjustment_.mutable_linux();
  for (const std::string& key : keys.removed) Disown(v1::FIELD_DEVICES, key);
  KeepOnly(*collected.mutable_devices(), [&](const v1::LinuxDevice& d) { return !keys.removed.contains(d.path()); });
  KeepOnly(*container_->mutable_linux()->mutable_devices(),
           [&](const v1::LinuxDevice& d) { return !keys.removed.contains(d.path()) && !keys.set.contains(d.path()); });
  for (const v1::LinuxDevice& device : wanted.devices()) {
    if (IsRemoval(device.path())) {
      if (!keys.set.contains(WithoutMark(device.path()))) *collected.add_devices() = device;
      continue;
    }
    TRY(Claim(v1::FIELD_DEVICES, device.path(), plugin));
    *collected.add_devices() = device;
    *container_->mutable_linux()->add_devices() = device;
  }
  return {};
}

Result<> Collector::AdjustNamespaces(const v1::LinuxContainerAdjustment& wanted, const std::string& plugin) {
  for (const v1::LinuxNamespace& each : wanted.namespaces()) {
    std::string type = WithoutMark(each.type());
    TRY(Claim(v1::FIELD_NAMESPACE, type, plugin));
    *adjustment_.mutable_linux()->add_namespaces() = each;
    auto& shown = *container_->mutable_linux()->mutable_namespaces();
    KeepOnly(shown, [&](const v1::LinuxNamespace& n) { return n.type() != type; });
    if (!IsRemoval(each.type())) *shown.Add() = each;
  }
  return {};
}

Result<> Collector::AdjustRdt(const v1::LinuxRdt& wanted, const std::string& plugin) {
  v1::LinuxRdt& collected = *adjustment_.mutable_linux()->mutable_rdt();
  v1::LinuxRdt& shown = *container_->mutable_linux()->mutable_rdt();
  if (wanted.remove()) {
    for (v1::Field field : {v1::FIELD_RDT_CLOS_ID, v1::FIELD_RDT_SCHEMATA, v1::FIELD_RDT_ENABLE_MONITORING}) {
      Disown(field, "");
    }
    collected.Clear();
    shown.Clear();
    collected.set_remove(true);
  }
  if (wanted.has_clos_id()) TRY(Claim(v1::FIELD_RDT_CLOS_ID, "", plugin));
  if (wanted.has_schemata()) TRY(Claim(v1::FIELD_RDT_SCHEMATA, "", plugin));
  if (wanted.has_enable_monitoring()) TRY(Claim(v1::FIELD_RDT_ENABLE_MONITORING, "", plugin));
  collected.MergeFrom(wanted);
  shown.MergeFrom(wanted);
  shown.set_remove(false);
  return {};
}

Result<> Collector::AdjustLinux(const v1::LinuxContainerAdjustment& wanted, const std::string& plugin) {
  v1::LinuxContainerAdjustment& collected = *adjustment_.mutable_linux();
  v1::LinuxContainer& shown = *container_->mutable_linux();
  TRY(AdjustDevices(wanted, plugin));
  TRY(TakeResources(id_, wanted.resources(), *collected.mutable_resources(), plugin));
  v1::LinuxResources change = wanted.resources();
  for (const v1::HugepageLimit& limit : change.hugepage_limits()) {
    KeepOnly(*shown.mutable_resources()->mutable_hugepage_limits(),
             [&](const v1::HugepageLimit& l) { return l.page_size() != limit.page_size(); });
  }
  shown.mutable_resources()->MergeFrom(change);
  if (!wanted.cgroups_path().empty()) {
    TRY(Claim(v1::FIELD_CGROUPS_PATH, "", plugin));
    collected.set_cgroups_path(wanted.cgroups_path());
    shown.set_cgroups_path(wanted.cgroups_path());
  }
  if (wanted.has_oom_score_adj()) {
    TRY(Claim(v1::FIELD_OOM_SCORE_ADJ, "", plugin));
    *collected.mutable_oom_score_adj() = *shown.mutable_oom_score_adj() = wanted.oom_score_adj();
  }
  if (wanted.has_io_priority()) {
    TRY(Claim(v1::FIELD_IO_PRIORITY, "", plugin));
    *collected.mutable_io_priority() = *shown.mutable_io_priority() = wanted.io_priority();
  }
  if (wanted.has_seccomp_policy()) {
    TRY(Claim(v1::FIELD_SECCOMP_POLICY, "", plugin));
    *collected.mutable_seccomp_policy() = *shown.mutable_seccomp_policy() = wanted.seccomp_policy();
  }
  if (wanted.has_scheduler()) {
    TRY(Claim(v1::FIELD_LINUX_SCHED, "", plugin));
    *collected.mutable_scheduler() = *shown.mutable_scheduler() = wanted.scheduler();
  }
  if (wanted.has_memory_policy()) {
    TRY(Claim(v1::FIELD_MEMORY_POLICY, "", plugin));
    *collected.mutable_memory_policy() = wanted.memory_policy();
  }
  TRY(AdjustNamespaces(wanted, plugin));
  TRY(AdjustMap(v1::FIELD_SYSCTL, wanted.sysctl(), *collected.mutable_sysctl(), *shown.mutable_sysctl(), plugin));
  for (const auto& [host_name, device] : wanted.net_devices()) {
    TRY(Claim(v1::FIELD_LINUX_NET_DEVICES, WithoutMark(host_name), plugin));
    (*collected.mutable_net_devices())[host_name] = device;
    if (!IsRemoval(host_name)) (*shown.mutable_net_devices())[host_name] = device;
  }
  return wanted.has_rdt() ? AdjustRdt(wanted.rdt(), plugin) : Result<>();
}

Result<> Collector::Adjust(const v1::ContainerAdjustment& wanted, const std::string& plugin) {
  TRY(AdjustMap(v1::FIELD_ANNOTATIONS, wanted.annotations(), *adjustment_.mutable_annotations(),
                *container_->mutable_annotations(), plugin));
  TRY(AdjustMounts(wanted, plugin));
  TRY(AdjustEnv(wanted, plugin));
  TRY(AdjustArgs(wanted, plugin));
  AdjustHooks(wanted.hooks(), plugin);
  if (wanted.has_linux()) TRY(AdjustLinux(wanted.linux(), plugin));
  for (const v1::POSIXRlimit& limit : wanted.rlimits()) {
    TRY(Claim(v1::FIELD_RLIMITS, limit.type(), plugin));
    *adjustment_.add_rlimits() = limit;
    *container_->add_rlimits() = limit;
  }
  for (const v1::CDIDevice& device : wanted.cdi_devices()) {
    TRY(Claim(v1::FIELD_CDI_DEVICES, device.name(), plugin));
    *adjustment_.add_cdi_devices() = device;
    *container_->add_cdi_devices() = device;
  }
  return {};
}

Result<> Collector::TakeResources(const std::string& id, const v1::LinuxResources& from, v1::LinuxResources& into,
                                  const std::string& plugin) {
  auto take = [&](v1::Field field, const auto& a, auto& b, auto has, auto get, auto make) -> Result<> {
    if (!(a.*has)()) return {};
    TRY(Claim(id, field, "", plugin));
    *(b.*make)() = (a.*get)();
    return {};
  };
  using M = v1::LinuxMemory;
  const M& memory = from.memory();
  M& m = *into.mutable_memory();
  TRY(take(v1::FIELD_MEM_LIMIT, memory, m, &M::has_limit, &M::limit, &M::mutable_limit));
  TRY(take(v1::FIELD_MEM_RESERVATION, memory, m, &M::has_reservation, &M::reservation, &M::mutable_reservation));
  TRY(take(v1::FIELD_MEM_SWAP_LIMIT, memory, m, &M::has_swap, &M::swap, &M::mutable_swap));
  TRY(take(v1::FIELD_MEM_KERNEL_LIMIT, memory, m, &M::has_kernel, &M::kernel, &M::mutable_kernel));
  TRY(take(v1::FIELD_MEM_TCP_LIMIT, memory, m, &M::has_kernel_tcp, &M::kernel_tcp, &M::mutable_kernel_tcp));
  TRY(take(v1::FIELD_MEM_SWAPPINESS, memory, m, &M::has_swappiness, &M::swappiness, &M::mutable_swappiness));
  TRY(take(v1::FIELD_MEM_DISABLE_OOM_KILLER, memory, m, &M::has_disable_oom_killer, &M::disable_oom_killer,
           &M::mutable_disable_oom_killer));
  TRY(take(v1::FIELD_MEM_USE_HIERARCHY, memory, m, &M::has_use_hierarchy, &M::use_hierarchy,
           &M::mutable_use_hierarchy));
  using C = v1::LinuxCPU;
  const C& cpu = from.cpu();
  C& c = *into.mutable_cpu();
  TRY(take(v1::FIELD_CPU_SHARES, cpu, c, &C::has_shares, &C::shares, &C::mutable_shares));
  TRY(take(v1::FIELD_CPU_QUOTA, cpu, c, &C::has_quota, &C::quota, &C::mutable_quota));
  TRY(take(v1::FIELD_CPU_PERIOD, cpu, c, &C::has_period, &C::period, &C::mutable_period));
  TRY(take(v1::FIELD_CPU_REALTIME_RUNTIME, cpu, c, &C::has_realtime_runtime, &C::realtime_runtime,
           &C::mutable_realtime_runtime));
  TRY(take(v1::FIELD_CPU_REALTIME_PERIOD, cpu, c, &C::has_realtime_period, &C::realtime_period,
           &C::mutable_realtime_period));
  if (!cpu.cpus().empty()) {
    TRY(Claim(id, v1::FIELD_CPUSET_CPUS, "", plugin));
    c.set_cpus(cpu.cpus());
  }
  if (!cpu.mems().empty()) {
    TRY(Claim(id, v1::FIELD_CPUSET_MEMS, "", plugin));
    c.set_mems(cpu.mems());
  }
  for (const v1::HugepageLimit& limit : from.hugepage_limits()) {
    TRY(Claim(id, v1::FIELD_HUGEPAGE_LIMITS, limit.page_size(), plugin));
    KeepOnly(*into.mutable_hugepage_limits(),
             [&](const v1::HugepageLimit& l) { return l.page_size() != limit.page_size(); });
    *into.add_hugepage_limits() = limit;
  }
  for (const auto& [key, value] : from.unified()) {
    TRY(Claim(id, v1::FIELD_CGROUPS_UNIFIED, key, plugin));
    (*into.mutable_unified())[key] = value;
  }
  using R = v1::LinuxResources;
  TRY(take(v1::FIELD_PIDS_LIMIT, from, into, &R::has_pids, &R::pids, &R::mutable_pids));
  TRY(take(v1::FIELD_BLOCKIO_CLASS, from, into, &R::has_blockio_class, &R::blockio_class, &R::mutable_blockio_class));
  return take(v1::FIELD_RDT_CLASS, from, into, &R::has_rdt_class, &R::rdt_class, &R::mutable_rdt_class);
}

Result<> Collector::Update(const google::protobuf::RepeatedPtrField<v1::ContainerUpdate>& updates,
                           const std::string& plugin) {
  for (const v1::ContainerUpdate& update : updates) {
    const std::string& id = update.container_id();
    if (container_ != nullptr && id == id_) {
      return Error(Code::kInvalidArgument, StrCat("plugin ", Quote(plugin), " wants to update container ", id,
                                                  ", which is just being created"));
    }
    bool of_request = resources_ != nullptr && id == id_;
    v1::ContainerUpdate* known = nullptr;
    if (!of_request) {
      auto [entry, added] = updates_.try_emplace(id);
      known = &entry->second;
      known->set_container_id(id);
      known->set_ignore_failure((added || known->ignore_failure()) && update.ignore_failure());
    }
    v1::LinuxResources& into = of_request ? *resources_ : *known->mutable_linux()->mutable_resources();
    v1::LinuxResources copy = into;
    std::map<Key, std::string> owners = owners_;
    if (Result<> taken = TakeResources(id, update.linux().resources(), copy, plugin); taken) {
      into = std::move(copy);
    } else {
      owners_ = std::move(owners);
      if (!update.ignore_failure()) return taken;
    }
  }
  return {};
}

std::vector<v1::ContainerUpdate> Collector::updates() const {
  std::vector<v1::ContainerUpdate> out;
  for (const auto& [id, update] : updates_) out.push_back(update);
  return out;
}

v1::OwningPlugins Collector::owners() const {
  v1::OwningPlugins out;
  for (const auto& [where, plugin] : owners_) {
    const auto& [id, field, key] = where;
    v1::FieldOwners& fields = (*out.mutable_owners())[id];
    if (key.empty()) {
      (*fields.mutable_simple())[field] = plugin;
    } else {
      (*(*fields.mutable_compound())[field].mutable_owners())[key] = plugin;
    }
  }
  return out;
}

}  // namespace crisp::nri
