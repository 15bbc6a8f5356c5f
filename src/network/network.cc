#include "network/network.h"

#include <dirent.h>
#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <shared_mutex>

#include "base/failpoint.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/strings.h"
#include "base/synchronized.h"
#include "network/bridge.h"
#include "network/capability_args.h"
#include "network/chain.h"
#include "network/janitor.h"
#include "network/netns_pool.h"
#include "state/database.h"
#include "sys/file.h"

namespace crisp::network {

namespace {

constexpr const char* kInterface = "eth0";
constexpr uint32_t kDoomedGroup = 0x63727370;  // "crsp": links to be deleted together
constexpr std::chrono::seconds kStatusAge{10};
constexpr std::chrono::seconds kGcTimeout{10};  // pods wait for it

// Tells instances on one host apart: in names of namespaces, the packet table and bridges' aliases.
std::string InstanceOf(const std::string& state_dir) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (char c : state_dir) hash = (hash ^ static_cast<uint8_t>(c)) * 1099511628211u;
  std::string text;
  for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[(hash >> shift) & 15];
  return text;
}

bool OnTmpfs(std::string path) {
  struct statfs status {};
  while (statfs(path.c_str(), &status) != 0) {
    size_t slash = path.rfind('/');
    if (slash == std::string::npos || slash == 0) return false;
    path.resize(slash);
  }
  return status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC;
}

// The host-local configuration of a plugin that is built in, or nothing.
std::optional<HostLocalConf> BuiltinIpam(const Record& record, size_t plugin) {
  if (record.by_program[plugin] || record.conf->plugins[plugin].type != "bridge") return std::nullopt;
  PluginCall call{.network = *record.conf, .plugin = record.conf->plugins[plugin], .attachment = &record.attachment};
  Result<Json> conf = PluginStdin(call);
  if (!conf || !conf->contains("ipam") || !(*conf)["ipam"].is_object() || (*conf)["ipam"].value("type", "") != "host-local" ||
      !HostLocalSupports((*conf)["ipam"])) {
    return std::nullopt;
  }
  Result<HostLocalConf> ipam = ParseHostLocalConf(*conf, record.attachment.args);
  return ipam ? std::optional(*std::move(ipam)) : std::nullopt;
}

// An intent must be as durable as what it guards. Namespaces, links and rules die with the boot; addresses in files on
// a disk do not, nor what a foreign plugin keeps.
state::Durability DurabilityOf(const Record& record) {
  for (size_t i = 0; i < record.conf->plugins.size(); ++i) {
    if (record.by_program[i]) return state::Durability::kSynced;
    if (record.conf->plugins[i].type != "bridge") continue;
    std::optional<HostLocalConf> ipam = BuiltinIpam(record, i);
    if (!ipam || !OnTmpfs(ipam->dir)) return state::Durability::kSynced;
  }
  return state::Durability::kProcess;
}

// The pair that an attachment by the built-in bridge plugin needs.
std::optional<PairSpec> PairOf(const Record& record, const std::optional<HostLocalConf>& ipam) {
  if (!ipam) return std::nullopt;
  Result<BridgeConf> conf = ParseBridgeConf(record.conf->plugins[0].conf);
  if (!conf) return std::nullopt;  // ADD will say why
  return PairSpec{record.attachment.ifname, conf->mtu};
}

// Defaults for the interfaces of a namespace that the built-in bridge plugin will furnish: no routes by advertisement
// (CVE-2020-10749), and no IPv6 at all where the network has none.
Sysctls NetnsSysctls(const std::optional<HostLocalConf>& ipam) {
  if (!ipam) return {};
  bool ipv6 = std::ranges::any_of(ipam->sets, [](const IpRangeSet& set) { return !set[0].subnet.address.v4(); });
  return {{"net/ipv6/conf/default/accept_ra", "0"},
          ipv6 ? std::pair("net/ipv6/conf/default/accept_dad", "0") : std::pair("net/ipv6/conf/default/disable_ipv6", "1")};
}

PodNetwork Describe(const Record& record) {
  PodNetwork network{.netns_path = record.attachment.netns, .primary_interface = record.attachment.ifname};
  for (const CniIp& ip : record.result->ips) {
    if (ip.interface && *ip.interface >= 0 && *ip.interface < static_cast<int64_t>(record.result->interfaces.size())) {
      const CniInterface& interface = record.result->interfaces[static_cast<size_t>(*ip.interface)];
      if (interface.name != record.attachment.ifname || interface.sandbox.empty()) continue;
    }
    network.ips.push_back(ip.address.address.Text());
  }
  Result<Json> json = CniResultJson(*record.result, record.conf->cni_version);
  if (json) network.result_json = DumpJson(*json);
  return network;
}

// The fallback network with other subnets.
Result<std::string> WithSubnets(const std::string& conflist, const std::string& cidrs) {
  Json json = TRY(ParseJson(conflist, "built-in network"));
  Json ranges = Json::array(), routes = Json::array();
  for (std::string_view cidr : Split(cidrs, ',')) {
    sys::IpPrefix prefix = TRY(sys::IpPrefix::Parse(Trim(cidr)), "pod CIDR");
    ranges.push_back(Json::array({Json{{"subnet", StrCat(prefix.Network().Text(), "/", prefix.length)}}}));
    routes.push_back(Json{{"dst", sys::IpPrefix::Default(prefix.address.family()).Text()}});
  }
  for (Json& plugin : json["plugins"]) {
    if (!plugin.contains("ipam") || !plugin["ipam"].is_object()) continue;
    plugin["ipam"].erase("subnet");
    plugin["ipam"]["ranges"] = ranges;
    plugin["ipam"]["routes"] = routes;
    plugin["forceAddress"] = true;  // the bridge may still have the gateway of the subnet before
  }
  return DumpJson(json);
}

class NetworkImpl : public Network {
 public:
  NetworkImpl(const NetworkOptions& options, state::Database& db)
      : options_(options),
        db_(db),
        instance_(InstanceOf(options.state_dir)),
        exec_({options.bin_dirs, options.plugin_timeout}),
        rules_("crisp_" + instance_),
        builtin_(rules_, exec_),
        chain_(exec_, builtin_, options.builtin_plugins, Alias(), options.plugin_timeout),
        confs_(options.conf_dir, options.fallback_conflist),
        janitor_({.remove_links = [this](const std::vector<std::string>& links) { RemoveLinks(links); },
                  .remove_unused = [this] { RemoveUnused(); },
                  .leave = [this] { DrainSpare(); }}) {}

  Result<> Load();

  Result<PodNetwork> Setup(const Ctx& ctx, const PodNetworkRequest& request) override;
  Result<PodNetwork> Get(const PodId& pod) const override;
  Result<> Teardown(const Ctx& ctx, const PodId& pod) override;
  Result<int> KeepOnly(const Ctx& ctx, const std::function<bool(const PodId&)>& alive) override;
  Result<> AfterReboot(const Ctx& ctx) override;
  NetworkStatus Status() const override;
  Result<> SetPodCidr(const std::string& cidr) override;

 private:
  struct State {
    std::map<PodId, Record> records;
    std::set<PodId> busy;  // a Setup or Teardown runs
    std::string pod_cidrs;
  };
  struct PluginStatus {
    std::string conflist;  // whose plugins were asked
    Clock::time_point asked{};
    bool pending = false;
    std::string problem;
  };
  // Marks a pod as being worked on, so that the sweep leaves it alone.
  class Busy {
   public:
    Busy(Synchronized<State>& state, const PodId& pod) : state_(state), pod_(pod) { state_.Lock()->busy.insert(pod_); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    ~Busy() { state_.Lock()->busy.erase(pod_); }

   private:
    Synchronized<State>& state_;
    const PodId pod_;
  };

  std::string Alias() const { return "crisp " + instance_; }
  std::string NetnsPrefix() const { return StrCat("crisp-", instance_, "-"); }
  std::string NetnsPath(const PodId& pod) const {
    return StrCat(options_.netns_dir, "/", NetnsPrefix(), pod.str().substr(0, 24));
  }
  std::string CachePath(const Record& record) const { return StrCat(options_.state_dir, "/cni/", CacheFileName(record)); }

  std::vector<std::string> OpenBridges(const std::map<PodId, Record>& records) const;
  std::optional<Record> Find(const PodId& pod) const;
  Result<Record> Plan(const PodNetworkRequest& request) const;
  Result<> Save(const Record& record, state::Durability durability);
  Result<> Attach(const Ctx& ctx, Record& record, const PodNetworkRequest& request);
  Result<> Detach(const Ctx& ctx, const Record& record);
  Result<> TeardownRecord(const Ctx& ctx, const PodId& pod);
  std::vector<PodId> Pods() const;
  Result<> SweepPins();
  Result<> SweepLinks();
  void CollectGarbage(const Ctx& ctx);
  void RemoveLinks(const std::vector<std::string>& links);
  void RemoveUnused();
  void DrainSpare();
  void RefillSpare();

  const NetworkOptions options_;
  state::Database& db_;
  const std::string instance_;
  PluginExec exec_;
  mutable NftRules rules_;
  Builtin builtin_;
  mutable Chain chain_;
  ConfDir confs_;
  NetnsPool spare_;
  std::atomic<bool> refill_queued_ = false;
  // Locked in this order, for moments only: state_, then nothing; plugin_status_, then nothing.
  mutable Synchronized<State> state_;
  mutable Synchronized<PluginStatus> plugin_status_;
  // Shared while plugins make something, exclusive while the janitor removes what nobody uses.
  std::shared_mutex in_use_;
  mutable Janitor janitor_;  // last: its thread uses all of the above
};

struct LoadedRecord {
  Result<Record> record = Error(Code::kInternal, "not read");
  std::map<std::string, PodRules> rules;  // by their owners
};

LoadedRecord LoadRecord(const state::Row& row, SharedConfs& confs) {
  LoadedRecord loaded;
  if (row.version != kRecordVersion) {
    loaded.record = Error(Code::kInvalidArgument, StrCat("network record of version ", row.version));
    return loaded;
  }
  loaded.record = DecodeRecord(row.key, row.value, confs);
  if (!loaded.record || !loaded.record->result || !sys::OpenNetns(loaded.record->attachment.netns)) return loaded;
  const Record& record = *loaded.record;
  for (size_t i = 0; i < record.conf->plugins.size(); ++i) {
    if (record.by_program[i]) continue;
    PluginCall call{.network = *record.conf, .plugin = record.conf->plugins[i], .attachment = &record.attachment};
    Result<PodRules> wanted = Builtin::RulesOf(call, *record.result);
    if (wanted && !wanted->empty()) loaded.rules.emplace(Builtin::RuleOwner(call), *std::move(wanted));
  }
  return loaded;
}

Result<> NetworkImpl::Load() {
  TRY(sys::MakeDirs(options_.netns_dir, 0755));
  TRY(sys::MakeDirs(options_.state_dir + "/cni", 0700));
  std::vector<state::Row> rows = TRY(db_.List(kTable));
  std::vector<LoadedRecord> loaded(rows.size());
  SharedConfs confs;
  InParallel(rows.size(), [&](size_t i) {
    loaded[i] = LoadRecord(rows[i], confs);
    rows[i].value = {};  // the text is as large as what has been made of it
  });
  std::map<std::string, PodRules> rules;
  auto state = state_.Lock();
  for (size_t i = 0; i < rows.size(); ++i) {
    auto& [record, rules_of_record] = loaded[i];
    if (!record) {
      LogWarning("bad network record, put into quarantine", {{"key", rows[i].key}, {"error", record.error()}});
      TRY(db_.Quarantine(kTable, rows[i].key, record.error().message()));
      continue;
    }
    rules.merge(std::move(rules_of_record));
    state->records.emplace(record->pod, *std::move(record));
  }
  if (PodRules guards{.guarded_links = OpenBridges(state->records)}; !guards.empty()) rules.emplace("guards", std::move(guards));
  if (state->records.empty()) janitor_.BecameIdle();  // an earlier process may have left a bridge
  Result<> rebuilt = rules_.Rebuild(rules);
  // A kernel without nftables does for networks that need no rules.
  if (!rebuilt) LogWarning("cannot set packet rules, host ports and masquerading may not work", {{"error", rebuilt.error()}});
  return {};
}

// Our bridges with route_localnet on, which an earlier pod's host port may have asked for: they need the guard still.
std::vector<std::string> NetworkImpl::OpenBridges(const std::map<PodId, Record>& records) const {
  std::set<std::string> ours;
  for (const auto& [pod, record] : records) {
    if (!record.result) continue;
    for (const CniInterface& interface : record.result->interfaces) ours.insert(interface.name);
  }
  std::vector<std::string> open;
  Result<sys::RouteSocket> host = sys::RouteSocket::Open();
  Result<std::vector<sys::Link>> links = host ? host->Links("bridge") : std::vector<sys::Link>();
  if (!links) return open;
  for (const sys::Link& link : *links) {
    if (!(link.alias == Alias() || ours.contains(link.name))) continue;
    Result<std::string> value = sys::ReadFile(StrCat("/proc/sys/net/ipv4/conf/", link.name, "/route_localnet"), 16);
    if (value && Trim(*value) == "1") open.push_back(link.name);
  }
  return open;
}

std::optional<Record> NetworkImpl::Find(const PodId& pod) const {
  auto state = state_.Lock();
  auto found = state->records.find(pod);
  return found == state->records.end() ? std::nullopt : std::optional(found->second);
}

Result<> NetworkImpl::Save(const Record& record, state::Durability durability) {
  TRY(db_.Put(kTable, record.pod.str(), kRecordVersion, EncodeRecord(record), durability));
  state_.Lock()->records.insert_or_assign(record.pod, record);
  return {};
}

// Decides everything about the attachment; makes nothing.
Result<Record> NetworkImpl::Plan(const PodNetworkRequest& request) const {
  auto loaded = confs_.Current();
  if (!loaded->conf) return Error(Code::kUnavailable, "network is not ready: " + loaded->problem);
  // A missing program is found before anything is made, so that it needs no undoing by that same program.
  TRY(chain_.FindPrograms(*loaded->conf));
  Record record{.pod = request.pod, .conf = std::shared_ptr<const NetworkConf>(loaded, &*loaded->conf)};
  record.attachment = {.container_id = request.pod.str(),
                       .netns = NetnsPath(request.pod),
                       .ifname = kInterface,
                       .args = TRY(CniArgs(request)),
                       .capability_args = TRY(CapabilityArgs(request, state_.Lock()->pod_cidrs))};
  record.by_program = chain_.ByProgram(*record.conf);
  return record;
}

Result<> NetworkImpl::Attach(const Ctx& ctx, Record& record, const PodNetworkRequest& request) {
  ctx.Stage("make the network namespace");
  const std::optional<HostLocalConf> ipam = BuiltinIpam(record, 0);
  Sysctls sysctls = NetnsSysctls(ipam);
  sysctls.insert(sysctls.end(), request.sysctls.begin(), request.sysctls.end());
  sys::UniqueFd given;
  if (request.netns.get() >= 0) given = TRY(sys::Dup(request.netns));
  // Before the intent, which names the link: as yet it all is only ours, and would go with us.
  NetnsPool::Taken taken = given.ok() ? NetnsPool::Taken{TRY(spare_.Furnish(std::move(given), sysctls)), ""}
                                      : TRY(spare_.Take({sysctls, PairOf(record, ipam)}));
  sys::NewNetns& netns = taken.netns;
  record.attachment.host_link = std::move(taken.host_link);
  if (record.attachment.host_link.empty()) janitor_.Spare(HostLinkName(record.attachment));
  TRY(Save(record, DurabilityOf(record)));
  FAILPOINT("network.after_intent");
  TRY(sys::PinNetns(netns.fd, record.attachment.netns));
  FAILPOINT("network.after_netns");
  if (request.on_netns) request.on_netns(record.attachment.netns);
  ctx.Stage("run the network plugins");
  {
    std::shared_lock making(in_use_);
    record.result = TRY(chain_.Add(ctx, record, &netns));
  }
  FAILPOINT("network.before_record");
  ctx.Stage("record the network");
  // Lost, it would only mean that the attachment is undone: the intent is there.
  TRY(Save(record, state::Durability::kProcess));
  return sys::WriteFileAtomic(CachePath(record), CacheFileText(record), 0600, sys::Durability::kNone);
}

Result<PodNetwork> NetworkImpl::Setup(const Ctx& ctx, const PodNetworkRequest& request) {
  TRY(ctx.Check());
  Busy busy(state_, request.pod);
  if (std::optional<Record> known = Find(request.pod)) {
    if (known->result && sys::OpenNetns(known->attachment.netns)) return Describe(*known);
    TRY(TeardownRecord(ctx, request.pod), "undo an earlier attempt");
  }
  Record record = TRY(Plan(request));
  Result<> attached = Attach(ctx, record, request);
  RefillSpare();
  if (!attached) {
    Result<> undone = TeardownRecord(ctx, request.pod);
    std::string what = "set up network of pod " + request.pod.str();
    if (!undone) what += StrCat(" (and undoing it failed, it will be tried again: ", undone.error().message(), ")");
    return std::move(attached).error().Context(what);
  }
  return Describe(record);
}

Result<PodNetwork> NetworkImpl::Get(const PodId& pod) const {
  std::optional<Record> record = Find(pod);
  if (!record || !record->result) return Error(Code::kNotFound, "no network of pod " + pod.str());
  return Describe(*record);
}

// Unmakes all outside effects. Each step is idempotent, so that it can begin anew after a crash or failure anywhere.
Result<> NetworkImpl::Detach(const Ctx& ctx, const Record& record) {
  FAILPOINT("network.teardown_begin");
  TRY(chain_.Del(ctx, record));
  FAILPOINT("network.after_del");
  if (!record.attachment.netns.empty()) TRY(sys::UnpinNetns(record.attachment.netns));
  FAILPOINT("network.after_unpin");
  return sys::RemoveFile(CachePath(record));
}

Result<> NetworkImpl::TeardownRecord(const Ctx& ctx, const PodId& pod) {
  std::optional<Record> record = Find(pod);
  if (!record) return sys::UnpinNetns(NetnsPath(pod));
  TRY(Detach(ctx, *record));
  // Lost, it would be torn down once more, which does no harm.
  TRY(db_.Delete(kTable, pod.str(), state::Durability::kProcess));
  FAILPOINT("network.after_forget");
  bool last = false;
  {
    auto state = state_.Lock();
    state->records.erase(pod);
    last = state->records.empty();
  }
  janitor_.Doom(HostLinkName(record->attachment));
  if (last) janitor_.BecameIdle();
  return {};
}

Result<> NetworkImpl::Teardown(const Ctx& ctx, const PodId& pod) {
  Busy busy(state_, pod);
  TRY(TeardownRecord(ctx, pod), "tear down network of pod " + pod.str());
  return {};
}

// Namespaces of ours that no record names: left by a crash between the record's end and the pin's, or of a row that
// went into quarantine.
Result<> NetworkImpl::SweepPins() {
  DIR* stream = opendir(options_.netns_dir.c_str());
  if (stream == nullptr) return Errno(errno, "open directory " + options_.netns_dir);
  std::vector<std::string> strays;
  while (const dirent* entry = readdir(stream)) {
    if (std::string_view(entry->d_name).starts_with(NetnsPrefix())) strays.push_back(StrCat(options_.netns_dir, "/", entry->d_name));
  }
  closedir(stream);
  // Only now: whatever was there then has its pod among these, or had it.
  std::set<std::string> wanted;
  for (const PodId& pod : Pods()) wanted.insert(NetnsPath(pod));
  std::erase_if(strays, [&](const std::string& path) { return wanted.contains(path); });
  for (const std::string& path : strays) TRY(sys::UnpinNetns(path));
  return {};
}

// Links of ours whose pod is gone: as when we died between a teardown and the kernel's taking the link away.
Result<> NetworkImpl::SweepLinks() {
  const std::vector<sys::Link> links = TRY(TRY(sys::RouteSocket::Open()).Links());
  std::set<std::string> wanted;
  {
    auto state = state_.Lock();
    for (const PodId& pod : state->busy) wanted.insert(HostLinkName({.container_id = pod.str(), .ifname = kInterface}));
    for (const auto& [pod, record] : state->records) wanted.insert(HostLinkName(record.attachment));
  }
  std::vector<std::string> strays;
  for (const sys::Link& link : links) {
    const bool ours = link.alias == Alias() || link.alias == AliasOfPairMadeAhead(Alias());
    if (link.kind == "veth" && ours && !wanted.contains(link.name)) strays.push_back(link.name);
  }
  if (!strays.empty()) RemoveLinks(strays);
  return {};
}

// All that have a record or are being worked on.
std::vector<PodId> NetworkImpl::Pods() const {
  auto state = state_.Lock();
  std::vector<PodId> pods(state->busy.begin(), state->busy.end());
  for (const auto& [pod, record] : state->records) pods.push_back(pod);
  return pods;
}

Result<int> NetworkImpl::KeepOnly(const Ctx& ctx, const std::function<bool(const PodId&)>& alive) {
  std::vector<PodId> dead;
  {
    auto state = state_.Lock();
    for (const auto& [pod, record] : state->records) {
      if (!state->busy.contains(pod)) dead.push_back(pod);
    }
  }
  std::erase_if(dead, alive);  // without our lock: it takes others
  int remaining = 0;
  for (const PodId& pod : dead) {
    Result<> gone = Teardown(ctx, pod);
    if (gone) continue;
    ++remaining;
    LogWarning("network of a removed pod is still there, will be tried again", {{"pod", pod.str()}, {"error", gone.error()}});
  }
  TRY(SweepPins());
  TRY(SweepLinks());
  TRY(rules_.Verify());
  if (remaining == 0) CollectGarbage(ctx);
  return remaining;
}

// What plugins hold for attachments that we know nothing of.
void NetworkImpl::CollectGarbage(const Ctx& ctx) {
  auto loaded = confs_.Current();
  if (!loaded->conf) return;
  // No ADD meanwhile: each pod either is on the list, since its record comes first, or has not begun.
  std::unique_lock alone(in_use_);
  std::vector<Attachment> valid;
  {
    auto state = state_.Lock();
    for (const auto& [pod, record] : state->records) valid.push_back(record.attachment);
  }
  Result<> collected = chain_.Gc(ctx.WithTimeout(kGcTimeout), *loaded->conf, valid);
  if (!collected) LogWarning("network plugins' garbage collection failed, ignoring", {{"error", collected.error()}});
}

Result<> NetworkImpl::AfterReboot(const Ctx& ctx) {
  std::vector<Record> records;
  {
    auto state = state_.Lock();
    for (auto& [pod, record] : state->records) {
      record.attachment.netns.clear();  // no namespace outlives a boot
      records.push_back(record);
    }
  }
  std::vector<std::string> failures;
  for (const Record& record : records) {
    TRY(Save(record, state::Durability::kProcess));
    Result<> gone = Teardown(ctx, record.pod);
    if (!gone) failures.push_back(gone.error().message());
  }
  TRY(SweepPins());
  if (!failures.empty()) return Error(Code::kUnavailable, Join(failures, "; "));
  return {};
}

NetworkStatus NetworkImpl::Status() const {
  // Asked for every few seconds: a good time to see whether somebody flushed our packet rules.
  janitor_.Run([this](const Ctx&) {
    if (Result<> verified = rules_.Verify(); !verified) LogWarning("cannot restore packet rules", {{"error", verified.error()}});
  });
  NetworkStatus status{.reason = "NetworkPluginNotReady"};
  auto loaded = confs_.Current();
  if (!loaded->conf) {
    status.message = "no network is configured: " + loaded->problem;
    return status;
  }
  const NetworkConf& conf = *loaded->conf;
  status.conflist_name = conf.name;
  status.conflist_file = conf.file;
  status.conflist_json = conf.text;
  if (Result<> found = chain_.FindPrograms(conf); !found) {
    status.message = found.error().message();
    return status;
  }
  if (CniVersionAtLeast(conf.cni_version, "1.1.0")) {
    // Plugins may take long to answer: this is what they said last, and they are asked again in the background.
    auto plugins = plugin_status_.Lock();
    const bool known = plugins->conflist == conf.text;
    if (!plugins->pending && (!known || Clock::now() - plugins->asked > kStatusAge)) {
      plugins->pending = true;
      janitor_.Run([this, loaded](const Ctx& ctx) {
        Result<> answer = chain_.Status(ctx.WithTimeout(kStatusAge), *loaded->conf);
        *plugin_status_.Lock() = {loaded->conf->text, Clock::now(), false, answer ? "" : answer.error().message()};
      });
    }
    if (!known) {
      status.message = "waiting for the network plugins' STATUS";
      return status;
    }
    status.message = plugins->problem;
    if (!plugins->problem.empty()) return status;
  }
  status.ready = true;
  status.reason = "";
  return status;
}

Result<> NetworkImpl::SetPodCidr(const std::string& cidrs) {
  if (cidrs.empty()) return {};
  for (std::string_view cidr : Split(cidrs, ',')) TRY(sys::IpPrefix::Parse(Trim(cidr)), "pod CIDR");
  state_.Lock()->pod_cidrs = cidrs;
  if (options_.fallback_conflist.empty()) return {};
  confs_.SetFallback(TRY(WithSubnets(options_.fallback_conflist, cidrs)));
  return {};
}

void NetworkImpl::RemoveLinks(const std::vector<std::string>& links) {
  auto remove = [&]() -> Result<> {
    sys::RouteSocket host = TRY(sys::RouteSocket::Open());
    sys::NetlinkBatch batch;
    for (const std::string& name : links) {
      if (host.FindLink(name)) sys::SetLinkGroup(batch, name, kDoomedGroup);
    }
    if (batch.empty()) return {};
    sys::DeleteLinkGroup(batch, kDoomedGroup);
    return host.Send(batch);
  };
  if (Result<> removed = remove(); !removed) LogWarning("cannot remove links of ended pods", {{"error", removed.error()}});
}

// Links first: the kernel would have the same ones to take away.
void NetworkImpl::DrainSpare() {
  const std::vector<NetnsPool::Taken> unwanted = spare_.Drain();
  std::vector<std::string> links;
  for (const NetnsPool::Taken& each : unwanted) {
    if (!each.host_link.empty()) links.push_back(each.host_link);
  }
  if (!links.empty()) RemoveLinks(links);
}

// Soon, but unless it is urgent not now: it takes a processor for most of a millisecond, while the rest of the pod is made.
void NetworkImpl::RefillSpare() {
  if (spare_.RunsOut()) {  // else they are made when needed
    janitor_.Run([this](const Ctx& ctx) { [[maybe_unused]] Result<bool> filled = spare_.Refill(ctx, [] { return false; }); });
  }
  if (refill_queued_.exchange(true)) return;
  auto refill = [this](const Ctx& ctx) {
    refill_queued_ = false;
    {
      auto state = state_.Lock();
      if (state->records.empty() && state->busy.empty()) return;  // and nobody would drain it
    }
    Result<bool> filled = spare_.Refill(ctx, [this] { return state_.Lock()->busy.empty(); });
    if (filled && !*filled) RefillSpare();
  };
  constexpr std::chrono::milliseconds kDelay{25};
  janitor_.Run(refill, kDelay);
}

// The packet table, and the bridges that we made and that have no port.
void NetworkImpl::RemoveUnused() {
  std::unique_lock alone(in_use_, std::try_to_lock);
  if (!alone.owns_lock()) return janitor_.BecameIdle();
  if (!state_.Lock()->records.empty()) return;
  auto remove = [&]() -> Result<> {
    TRY(rules_.DropIfUnused([](const std::string& link) {
      // Missing: the link is gone.
      [[maybe_unused]] Result<> closed = sys::WriteExisting(StrCat("/proc/sys/net/ipv4/conf/", link, "/route_localnet"), "0");
    }));
    TRY(SweepLinks());
    sys::RouteSocket host = TRY(sys::RouteSocket::Open());
    const std::vector<sys::Link> links = TRY(host.Links());
    sys::NetlinkBatch batch;
    for (const sys::Link& bridge : links) {
      if (bridge.kind != "bridge" || bridge.alias != Alias()) continue;
      if (std::ranges::any_of(links, [&](const sys::Link& link) { return link.master == bridge.index; })) continue;
      sys::DeleteLink(batch, bridge.name);
    }
    if (batch.empty()) return {};
    return host.Send(batch);
  };
  if (Result<> removed = remove(); !removed) LogWarning("cannot remove an unused network", {{"error", removed.error()}});
  alone.unlock();
  DrainSpare();
}

}  // namespace

Result<std::unique_ptr<Network>> Network::Open(const NetworkOptions& options, state::Database& db) {
  auto network = std::make_unique<NetworkImpl>(options, db);
  TRY(network->Load());
  return std::unique_ptr<Network>(std::move(network));
}

}  // namespace crisp::network
