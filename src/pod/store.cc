#include "pod/store.h"

#include <algorithm>
#include <functional>

#include "base/check.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/strings.h"
#include "pod/config_json.h"
#include "pod/state_machine.h"

namespace crisp::pod {

SandboxStatus StatusOf(const PodRecord& r) {
  SandboxStatus s;
  s.id = r.id;
  s.config = r.config;
  s.state = ShownState(r);
  s.created_at = r.created_at;
  s.ips = r.ips;
  s.netns_path = r.netns_path;
  s.network_result = r.network_result;
  s.shim_pid = r.namespaces.shim_pid;
  s.overhead = r.overhead;
  s.resources = r.resources;
  return s;
}

ContainerStatus StatusOf(const ContainerRecord& r, const Paths& paths) {
  ContainerStatus s;
  s.id = r.id;
  s.pod = r.pod;
  s.config = r.config;
  s.state = ShownState(r);
  s.created_at = r.created_at;
  s.started_at = r.started_at;
  s.finished_at = r.finished_at;
  s.exit_code = r.exit_code;
  s.reason = r.reason;
  s.message = r.message;
  s.image_id = r.image_id;
  s.image_digest_ref = r.image_digest_ref;
  s.log_path = r.log_path;
  s.resources = r.resources;
  s.user = r.user;
  s.stop_signal = r.stop_signal;
  s.pid = r.finished_at == 0 ? r.pid : 0;
  s.cgroup_path = r.cgroup_path;
  s.bundle_dir = paths.Bundle(r.id);
  s.rootfs_dir = paths.Rootfs(r.id);
  return s;
}

namespace {

// Length before each part: no choice of names makes two keys equal.
std::string KeyOf(const SandboxMetadata& m) {
  return StrCat(m.name.size(), ":", m.name, m.pod_namespace.size(), ":", m.pod_namespace, m.uid.size(), ":", m.uid,
                m.attempt);
}
std::string KeyOf(const PodId& pod, const ContainerMetadata& m) {
  return StrCat(pod.str(), m.name.size(), ":", m.name, m.attempt);
}

template <class Config>
size_t HashOf(const Config& config) {
  return std::hash<std::string>()(CanonicalText(config));
}

SandboxRef SnapshotOf(const PodRecord& r) {
  return IsListed(r) ? std::make_shared<const SandboxStatus>(StatusOf(r)) : nullptr;
}

ContainerRef SnapshotOf(const ContainerRecord& r, const Paths& paths) {
  return IsListed(r) ? std::make_shared<const ContainerStatus>(StatusOf(r, paths)) : nullptr;
}

bool HasLabels(const StringMap& labels, const StringMap& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& want) {
    auto found = labels.find(want.first);
    return found != labels.end() && found->second == want.second;
  });
}

// The one listed slot whose id is or begins with `id`.
template <class Map>
Result<const typename Map::mapped_type*> FindSlot(const Map& map, const std::string& id, std::string_view kind) {
  if (id.empty()) return Error(Code::kInvalidArgument, StrCat(kind, " id is empty"));
  const typename Map::mapped_type* found = nullptr;
  for (auto it = map.lower_bound(id); it != map.end() && it->first.starts_with(id); ++it) {
    if (it->second.shown == nullptr) continue;
    if (found != nullptr) return Error(Code::kInvalidArgument, StrCat(kind, " id ", Quote(id, 80), " is ambiguous"));
    found = &it->second;
  }
  if (found == nullptr) return Error(Code::kNotFound, StrCat(kind, " ", Quote(id, 80), " not found"));
  return found;
}

constexpr std::string_view kPodKind = "pod sandbox";
constexpr std::string_view kContainerKind = "container";

}  // namespace

Result<PodClaim> Store::ClaimPod(const SandboxConfig& config) {
  std::string key = KeyOf(config.metadata);
  size_t hash = HashOf(config);
  auto index = index_.Lock();
  if (auto taken = index->pod_names.find(key); taken != index->pod_names.end()) {
    const Name<PodId>& name = taken->second;
    Error conflict(Code::kAlreadyExists,
                   StrCat("name ", Quote(config.metadata.name), " of namespace ", Quote(config.metadata.pod_namespace),
                          ", attempt ", config.metadata.attempt, ", is taken by pod ", name.id.str()));
    if (name.config_hash != hash) return conflict;
    if (name.flight != nullptr) return PodClaim{PodClaim::Kind::kJoin, nullptr, name.flight};
    auto slot = index->pods.find(name.id.str());
    bool ready =
        slot != index->pods.end() && slot->second.shown != nullptr && slot->second.shown->state == SandboxState::kReady;
    if (!ready) return Error(Code::kAlreadyExists, conflict.message() + ", which is not ready: remove it first");
    return PodClaim{PodClaim::Kind::kThere, slot->second.entry, nullptr};
  }
  PodRecord record;
  record.id = PodId::Random();
  record.config = config;
  auto entry = std::make_shared<PodEntry>(record);
  auto flight = std::make_shared<Flight<PodId>>();
  index->pods[record.id.str()] = {entry, nullptr};
  index->pod_names[key] = {record.id, hash, flight};
  return PodClaim{PodClaim::Kind::kNew, entry, flight};
}

Result<ContainerClaim> Store::ClaimContainer(const PodId& pod, const ContainerConfig& config) {
  std::string key = KeyOf(pod, config.metadata);
  size_t hash = HashOf(config);
  auto index = index_.Lock();
  if (auto taken = index->container_names.find(key); taken != index->container_names.end()) {
    const Name<ContainerId>& name = taken->second;
    Error conflict(Code::kAlreadyExists,
                   StrCat("name ", Quote(config.metadata.name), ", attempt ", config.metadata.attempt, ", in pod ",
                          pod.str(), " is taken by container ", name.id.str()));
    if (name.config_hash != hash) return conflict;
    if (name.flight != nullptr) return ContainerClaim{ContainerClaim::Kind::kJoin, nullptr, name.flight};
    auto slot = index->containers.find(name.id.str());
    CHECK(slot != index->containers.end());  // names go with their entries
    // A repeated request is one whose answer was lost; one that comes after the container's end wants a new container,
    // and would start the old one in vain. Other runtimes say that the name is reserved.
    if (slot->second.shown != nullptr && slot->second.shown->state == ContainerState::kExited) {
      return Error(Code::kAlreadyExists, conflict.message() + ", which has exited: remove it first");
    }
    return ContainerClaim{ContainerClaim::Kind::kThere, slot->second.entry, nullptr};
  }
  ContainerRecord record;
  record.id = ContainerId::Random();
  record.pod = pod;
  record.config = config;
  auto entry = std::make_shared<ContainerEntry>(record);
  auto flight = std::make_shared<Flight<ContainerId>>();
  index->containers[record.id.str()] = {entry, nullptr};
  index->of_pod[pod].insert(record.id);
  index->container_names[key] = {record.id, hash, flight};
  return ContainerClaim{ContainerClaim::Kind::kNew, entry, flight};
}

// What failed before its intent was recorded is forgotten; what could not be undone is kept for the sweep.
void Store::Land(const PodClaim& claim, Result<PodId> result) {
  {
    auto record = claim.entry->record.Lock();
    auto index = index_.Lock();
    auto slot = index->pods.find(claim.entry->id.str());
    bool there = slot != index->pods.end() && slot->second.shown != nullptr;
    if (slot != index->pods.end() && record->phase == PodPhase::kMaking) {
      claim.entry->gone = true;
      index->pods.erase(slot);
    }
    auto name = index->pod_names.find(KeyOf(record->config.metadata));
    if (name != index->pod_names.end() && name->second.flight == claim.flight) {
      if (there) {
        name->second.flight = nullptr;
      } else {
        index->pod_names.erase(name);
      }
    }
  }
  claim.flight->Land(std::move(result));
}

void Store::Land(const ContainerClaim& claim, Result<ContainerId> result) {
  {
    auto record = claim.entry->record.Lock();
    auto index = index_.Lock();
    auto slot = index->containers.find(claim.entry->id.str());
    bool there = slot != index->containers.end() && slot->second.shown != nullptr;
    if (slot != index->containers.end() && !record->made && !record->removing) {
      claim.entry->gone = true;
      index->containers.erase(slot);
      if (auto of_pod = index->of_pod.find(record->pod); of_pod != index->of_pod.end())
        of_pod->second.erase(record->id);
    }
    auto name = index->container_names.find(KeyOf(record->pod, record->config.metadata));
    if (name != index->container_names.end() && name->second.flight == claim.flight) {
      if (there) {
        name->second.flight = nullptr;
      } else {
        index->container_names.erase(name);
      }
    }
  }
  claim.flight->Land(std::move(result));
}

// ---- records ----

// A record lost by a power cut is a pod that died with it: the orphan sweep takes what is left on disk. So no fsync.
Result<> Store::Write(const PodRecord& record) {
  return db_.Put(kPodTable, record.id.str(), kRecordVersion, EncodeRecord(record), state::Durability::kProcess);
}
Result<> Store::Write(const ContainerRecord& record) {
  return db_.Put(kContainerTable, record.id.str(), kRecordVersion, EncodeRecord(record), state::Durability::kProcess);
}

void Store::Show(PodEntry& pod, const PodRecord& record) {
  SandboxRef shown = SnapshotOf(record);
  auto index = index_.Lock();
  auto slot = index->pods.find(pod.id.str());
  if (slot == index->pods.end()) return;
  SandboxRef before = std::exchange(slot->second.shown, shown);
  index->listed_pods.reset();
  Tell(*index, before, shown);
}

void Store::Show(ContainerEntry& container, const ContainerRecord& record) {
  ContainerRef shown = SnapshotOf(record, paths_);
  {
    auto index = index_.Lock();
    auto slot = index->containers.find(container.id.str());
    if (slot != index->containers.end()) {
      ContainerRef before = std::exchange(slot->second.shown, shown);
      index->listed_containers.reset();
      Tell(*index, before, shown);
    }
  }
  container.changed.notify_all();
}

Result<> Store::Change(PodEntry& pod, const std::function<void(PodRecord&)>& change) {
  auto record = pod.record.Lock();
  if (pod.gone) return Error(Code::kNotFound, StrCat("pod sandbox ", pod.id.str(), " not found"));
  PodRecord next = *record;
  change(next);
  TRY(Write(next), StrCat("pod ", pod.id.str()));
  *record = std::move(next);
  Show(pod, *record);
  return {};
}

Result<> Store::Change(ContainerEntry& container, const std::function<void(ContainerRecord&)>& change) {
  auto record = container.record.Lock();
  if (container.gone) return Error(Code::kNotFound, StrCat("container ", container.id.str(), " not found"));
  ContainerRecord next = *record;
  change(next);
  TRY(Write(next), StrCat("container ", container.id.str()));
  *record = std::move(next);
  Show(container, *record);
  return {};
}

void Store::Note(PodEntry& pod, const std::function<void(PodRecord&)>& change) {
  auto record = pod.record.Lock();
  if (pod.gone) return;
  change(*record);
  Show(pod, *record);
  if (Result<> written = Write(*record); !written) {
    LogWarning("pod record not written, will be tried again", {{"pod", pod.id.str()}, {"error", written.error()}});
    index_.Lock()->unwritten.insert(pod.id.str());
  }
}

bool Store::Note(ContainerEntry& container, const std::function<void(ContainerRecord&)>& change) {
  auto record = container.record.Lock();
  if (container.gone) return true;
  change(*record);
  Show(container, *record);
  Result<> written = Write(*record);
  if (written) return true;
  LogWarning("container record not written, will be tried again",
             {{"container", container.id.str()}, {"error", written.error()}});
  index_.Lock()->unwritten.insert(container.id.str());
  return false;
}

void Store::Flush() {
  std::set<std::string> ids = std::exchange(index_.Lock()->unwritten, {});
  for (const PodRef& pod : Pods()) {
    if (ids.contains(pod->id.str())) Note(*pod, [](PodRecord&) {});
  }
  for (const CtrRef& container : Containers()) {
    if (ids.contains(container->id.str())) Note(*container, [](ContainerRecord&) {});
  }
}

Result<> Store::Erase(PodEntry& pod) {
  auto record = pod.record.Lock();
  TRY(db_.Delete(kPodTable, pod.id.str(), state::Durability::kProcess), StrCat("pod ", pod.id.str()));
  pod.gone = true;
  auto index = index_.Lock();
  if (auto slot = index->pods.find(pod.id.str()); slot != index->pods.end()) {
    SandboxRef before = std::move(slot->second.shown);
    index->pods.erase(slot);
    index->listed_pods.reset();
    Tell(*index, before, nullptr);
  }
  index->of_pod.erase(pod.id);
  auto name = index->pod_names.find(KeyOf(record->config.metadata));
  if (name != index->pod_names.end() && name->second.id == pod.id) index->pod_names.erase(name);
  return {};
}

Result<> Store::Erase(ContainerEntry& container) {
  auto record = container.record.Lock();
  TRY(db_.Delete(kContainerTable, container.id.str(), state::Durability::kProcess),
      StrCat("container ", container.id.str()));
  container.gone = true;
  container.changed.notify_all();
  auto index = index_.Lock();
  if (auto of_pod = index->of_pod.find(container.pod); of_pod != index->of_pod.end())
    of_pod->second.erase(container.id);
  if (auto slot = index->containers.find(container.id.str()); slot != index->containers.end()) {
    ContainerRef before = std::move(slot->second.shown);
    index->containers.erase(slot);
    index->listed_containers.reset();
    Tell(*index, before, nullptr);
  }
  auto name = index->container_names.find(KeyOf(container.pod, record->config.metadata));
  if (name != index->container_names.end() && name->second.id == container.id) index->container_names.erase(name);
  return {};
}

// ---- start ----

void Store::SetAside(const char* table, const std::string& key, const Error& why) {
  LogWarning("record set aside, going on without it", {{"table", table}, {"key", key}, {"error", why}});
  if (Result<> done = db_.Quarantine(table, key, why.message()); !done) {
    LogWarning("record could not be put into quarantine", {{"key", key}, {"error", done.error()}});
  }
}

template <class Record, class Snapshot>
struct Store::Loaded {
  Record record;
  std::shared_ptr<const Snapshot> shown;
  size_t config_hash = 0;
};

// Reading the texts takes most of a start with thousands of records. Those that do not parse are set aside; the rest
// come in the order in which they were made.
template <class Record, class Snapshot, class Decode, class Snap>
Result<std::vector<Store::Loaded<Record, Snapshot>>> Store::LoadAll(const char* table, Decode decode, Snap snap) {
  using Item = Loaded<Record, Snapshot>;
  std::vector<state::Row> rows = TRY(db_.List(table));
  std::vector<std::optional<Result<Item>>> read(rows.size());
  InParallel(rows.size(), [&](size_t i) {
    state::Row& row = rows[i];
    Result<Record> record = decode(row);
    row.value = {};  // the text is as large as what has been made of it
    if (!record) {
      read[i] = std::move(record).error();
      return;
    }
    Item item{.record = *std::move(record), .shown = nullptr, .config_hash = 0};
    item.shown = snap(item.record);
    if (item.record.made) item.config_hash = HashOf(item.record.config);
    read[i] = std::move(item);
  });
  std::vector<size_t> order;  // sorted instead of the items, which are large
  for (size_t i = 0; i < rows.size(); ++i) {
    if (*read[i]) {
      order.push_back(i);
    } else {
      SetAside(table, rows[i].key, read[i]->error());
    }
  }
  std::ranges::stable_sort(order, {}, [&](size_t i) { return (*read[i])->record.created_at; });
  std::vector<Item> items;
  items.reserve(order.size());
  for (size_t i : order) items.push_back(*std::move(*read[i]));
  return items;
}

Result<> Store::LoadPods() {
  auto items = TRY((LoadAll<PodRecord, SandboxStatus>(
      kPodTable, [](const state::Row& row) { return DecodePod(row.key, row.version, row.value); },
      [](const PodRecord& record) { return SnapshotOf(record); })));
  auto index = index_.Lock();
  // Of two with one name the newer gets it; the older stays listed under its id, so that it can be removed.
  for (auto& [record, shown, hash] : items) {
    PodId id = record.id;
    // What was never made is undone by recovery; its name is free for the retry of the caller.
    if (record.made) index->pod_names[KeyOf(record.config.metadata)] = {id, hash, nullptr};
    index->pods[id.str()] = {std::make_shared<PodEntry>(std::move(record)), std::move(shown)};
  }
  return {};
}

Result<> Store::LoadContainers() {
  auto decode = [this](const state::Row& row) -> Result<ContainerRecord> {
    ContainerRecord record = TRY(DecodeContainer(row.key, row.version, row.value));
    if (Pod(record.pod) != nullptr) return record;
    return Error(Code::kInvalidArgument, StrCat("its pod ", record.pod.str(), " has no record"));
  };
  auto items = TRY((LoadAll<ContainerRecord, ContainerStatus>(
      kContainerTable, decode, [this](const ContainerRecord& record) { return SnapshotOf(record, paths_); })));
  auto index = index_.Lock();
  for (auto& [record, shown, hash] : items) {
    ContainerId id = record.id;
    if (record.made) index->container_names[KeyOf(record.pod, record.config.metadata)] = {id, hash, nullptr};
    index->of_pod[record.pod].insert(id);
    index->containers[id.str()] = {std::make_shared<ContainerEntry>(std::move(record)), std::move(shown)};
  }
  return {};
}

Result<> Store::Load() {
  TRY(LoadPods());
  return LoadContainers();
}

// ---- look-ups ----

PodRef Store::Pod(const PodId& id) const {
  auto index = index_.Lock();
  auto found = index->pods.find(id.str());
  return found == index->pods.end() ? nullptr : found->second.entry;
}

CtrRef Store::Container(const ContainerId& id) const {
  auto index = index_.Lock();
  auto found = index->containers.find(id.str());
  return found == index->containers.end() ? nullptr : found->second.entry;
}

Result<PodRef> Store::FindPod(const std::string& id) const {
  auto index = index_.Lock();
  return TRY(FindSlot(index->pods, id, kPodKind))->entry;
}

Result<CtrRef> Store::FindContainer(const std::string& id) const {
  auto index = index_.Lock();
  return TRY(FindSlot(index->containers, id, kContainerKind))->entry;
}

Result<SandboxRef> Store::PodStatus(const std::string& id) const {
  auto index = index_.Lock();
  return TRY(FindSlot(index->pods, id, kPodKind))->shown;
}

Result<ContainerRef> Store::ContainerStatusOf(const std::string& id) const {
  auto index = index_.Lock();
  return TRY(FindSlot(index->containers, id, kContainerKind))->shown;
}

std::vector<PodRef> Store::Pods() const {
  std::vector<PodRef> out;
  auto index = index_.Lock();
  for (const auto& [id, slot] : index->pods) out.push_back(slot.entry);
  return out;
}

std::vector<CtrRef> Store::Containers() const {
  std::vector<CtrRef> out;
  auto index = index_.Lock();
  for (const auto& [id, slot] : index->containers) out.push_back(slot.entry);
  return out;
}

std::vector<CtrRef> Store::ContainersOf(const PodId& pod) const {
  std::vector<CtrRef> out;
  auto index = index_.Lock();
  auto ids = index->of_pod.find(pod);
  if (ids == index->of_pod.end()) return out;
  for (const ContainerId& id : ids->second) {
    if (auto slot = index->containers.find(id.str()); slot != index->containers.end())
      out.push_back(slot->second.entry);
  }
  return out;
}

Result<PodSnapshot> Store::Snapshot(const std::string& id) const {
  auto index = index_.Lock();
  PodSnapshot out;
  out.sandbox = TRY(FindSlot(index->pods, id, kPodKind))->shown;
  out.containers = ShownOf(*index, out.sandbox->id);
  out.at = NextStamp(*index);
  return out;
}

SandboxList Store::List(const SandboxFilter& filter) const {
  std::vector<SandboxRef> out;
  bool complete = filter.id.empty() && !filter.state && filter.labels.empty();
  auto index = index_.Lock();
  if (complete && index->listed_pods) return *index->listed_pods;
  for (auto it = index->pods.lower_bound(filter.id); it != index->pods.end() && it->first.starts_with(filter.id);
       ++it) {
    const SandboxRef& shown = it->second.shown;
    if (shown == nullptr || (filter.state && shown->state != *filter.state)) continue;
    if (HasLabels(shown->config.labels, filter.labels)) out.push_back(shown);
  }
  SandboxList list(std::move(out), complete);
  if (complete) index->listed_pods = list;
  return list;
}

ContainerList Store::List(const ContainerFilter& filter) const {
  std::vector<ContainerRef> out;
  bool complete = filter.id.empty() && filter.pod.empty() && !filter.state && filter.labels.empty();
  auto index = index_.Lock();
  if (complete && index->listed_containers) return *index->listed_containers;
  auto it = index->containers.lower_bound(filter.id);
  for (; it != index->containers.end() && it->first.starts_with(filter.id); ++it) {
    const ContainerRef& shown = it->second.shown;
    if (shown == nullptr || (filter.state && shown->state != *filter.state)) continue;
    if (!shown->pod.str().starts_with(filter.pod)) continue;
    if (HasLabels(shown->config.labels, filter.labels)) out.push_back(shown);
  }
  ContainerList list(std::move(out), complete);
  if (complete) index->listed_containers = list;
  return list;
}

}  // namespace crisp::pod
