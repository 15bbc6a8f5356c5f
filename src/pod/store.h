// Store: all pods and containers in memory, their names, and the writing of their records.
//
// Every change of what is shown makes its events (feed.h, store_events.cc) under the index lock.
//
// Threading: any thread. Two locks: an entry's record (held while its row is written, so that rows are written in order),
// then the index (never held while anything is waited for). Lists and look-ups take the index only.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/synchronized.h"
#include "pod/flight.h"
#include "pod/op_lock.h"
#include "pod/paths.h"
#include "pod/record.h"
#include "pod/start_ahead.h"
#include "state/database.h"

namespace crisp::pod {

struct PodEntry {
  explicit PodEntry(PodRecord r) : id(r.id), record(std::move(r)) {}
  const PodId id;
  OpLock op;
  Synchronized<PodRecord> record;  // changed only through Store
  bool gone = false;               // erased; guarded by the lock of `record`
  bool hooked = false;             // the hooks have been told that it runs; under `op`
  bool hooked_stop = false;        // and that it has stopped; under `op`
  Synchronized<std::vector<CallTiming>> timings;
};

struct ContainerEntry {
  explicit ContainerEntry(ContainerRecord r) : id(r.id), pod(r.pod), record(std::move(r)) {}
  const ContainerId id;
  const PodId pod;
  OpLock op;
  Synchronized<ContainerRecord> record;  // changed only through Store
  bool gone = false;                     // erased; guarded by the lock of `record`, like all below
  std::condition_variable changed;       // of `record` and `stop`, waited for under the lock of `record`

  struct Stop {
    bool running = false;           // a StopContainer waits for the end of its grace
    Clock::time_point kill_at;      // a later stop may only make it earlier
  };
  Stop stop;
  std::shared_ptr<Flight<bool>> start;   // a StartContainer that runs
  bool start_undone = false;             // an earlier start was undone: reports older than the next one are about it
  bool hooked = false;                   // the hooks have been told that it is being made; under `op`
  bool hooked_stop = false;              // and that it has ended; under `op`
  bool start_unconfirmed = false;        // started before we were restarted, see start_container.cc
  std::shared_ptr<StartAhead> start_ahead;  // may be null; under `op`
};

using PodRef = std::shared_ptr<PodEntry>;
using CtrRef = std::shared_ptr<ContainerEntry>;

// What asking for an object by its metadata has come to.
template <class Entry, class Id>
struct Claim {
  enum class Kind { kNew, kJoin, kThere } kind = Kind::kNew;
  std::shared_ptr<Entry> entry;       // kNew: to be made by the caller, who then calls Land; kThere
  std::shared_ptr<Flight<Id>> flight;  // kNew, kJoin
};
using PodClaim = Claim<PodEntry, PodId>;
using ContainerClaim = Claim<ContainerEntry, ContainerId>;

// What is shown of a record, also of one that is not listed yet.
SandboxStatus StatusOf(const PodRecord& record);
ContainerStatus StatusOf(const ContainerRecord& record, const Paths& paths);

class Store {
 public:
  Store(state::Database& db, Paths paths) : db_(db), paths_(std::move(paths)) {}

  // Reads all rows. Rows that do not parse, containers without a pod and objects whose name a newer one has are
  // quarantined, told in the log and otherwise ignored (user pain 22: a start never fails because of a record).
  Result<> Load();

  // kAlreadyExists: the name is taken by something else than what is asked for.
  Result<PodClaim> ClaimPod(const SandboxConfig& config);
  Result<ContainerClaim> ClaimContainer(const PodId& pod, const ContainerConfig& config);
  // The maker of a kNew claim says how it ended: joiners get `result`; after an error the name is free again.
  void Land(const PodClaim& claim, Result<PodId> result);
  void Land(const ContainerClaim& claim, Result<ContainerId> result);

  // Writes the record with `change` made to it, then shows it; on an error nothing has changed. kNotFound: erased.
  Result<> Change(PodEntry& pod, const std::function<void(PodRecord&)>& change);
  Result<> Change(ContainerEntry& container, const std::function<void(ContainerRecord&)>& change);
  // The same for a fact that is true whether or not it can be written (an exit, a dead pod): memory has it in any case;
  // a failed write is logged and made up for by Flush.
  void Note(PodEntry& pod, const std::function<void(PodRecord&)>& change);
  bool Note(ContainerEntry& container, const std::function<void(ContainerRecord&)>& change);  // false: not written yet
  void Flush();

  // Row and entry go, the name is free.
  Result<> Erase(PodEntry& pod);
  Result<> Erase(ContainerEntry& container);

  // By exact id, listed or not; nullptr.
  PodRef Pod(const PodId& id) const;
  CtrRef Container(const ContainerId& id) const;
  // By id or unique prefix among the listed. kNotFound, kInvalidArgument (empty, ambiguous).
  Result<PodRef> FindPod(const std::string& id) const;
  Result<CtrRef> FindContainer(const std::string& id) const;
  std::vector<PodRef> Pods() const;
  std::vector<CtrRef> Containers() const;
  std::vector<CtrRef> ContainersOf(const PodId& pod) const;

  Result<SandboxRef> PodStatus(const std::string& id) const;
  Result<ContainerRef> ContainerStatusOf(const std::string& id) const;
  Result<PodSnapshot> Snapshot(const std::string& id) const;
  SandboxList List(const SandboxFilter& filter) const;
  ContainerList List(const ContainerFilter& filter) const;

  std::shared_ptr<Watcher> Watch(size_t events_max, std::function<void()> wake) {
    return feed_.Watch(events_max, std::move(wake));
  }

 private:
  template <class Entry, class Snapshot>
  struct Slot {
    std::shared_ptr<Entry> entry;
    std::shared_ptr<const Snapshot> shown;  // null: not listed
  };
  template <class Id>
  struct Name {
    Id id;
    size_t config_hash = 0;
    std::shared_ptr<Flight<Id>> flight;  // while it is being made
  };
  struct Index {
    std::map<std::string, Slot<PodEntry, SandboxStatus>, std::less<>> pods;
    std::map<std::string, Slot<ContainerEntry, ContainerStatus>, std::less<>> containers;
    // All that is shown of the two; absent since one of them changed.
    std::optional<SandboxList> listed_pods;
    std::optional<ContainerList> listed_containers;
    std::map<PodId, std::set<ContainerId>> of_pod;
    std::map<std::string, Name<PodId>> pod_names;
    std::map<std::string, Name<ContainerId>> container_names;
    std::set<std::string> unwritten;  // ids whose Note could not be written
    int64_t last_stamp = 0;           // see PodSnapshot::at
  };

  static std::vector<ContainerRef> ShownOf(const Index& index, const PodId& pod);
  static int64_t NextStamp(Index& index);
  Result<> LoadPods();
  Result<> LoadContainers();
  template <class Record, class Snapshot>
  struct Loaded;
  template <class Record, class Snapshot, class Decode, class Snap>
  Result<std::vector<Loaded<Record, Snapshot>>> LoadAll(const char* table, Decode decode, Snap snap);
  void Show(PodEntry& pod, const PodRecord& record);
  void Show(ContainerEntry& container, const ContainerRecord& record);
  Result<> Write(const PodRecord& record);
  Result<> Write(const ContainerRecord& record);
  // Events of a change of what is shown of one object, within the change (the index is locked).
  void Tell(Index& index, const SandboxRef& before, const SandboxRef& after);
  void Tell(Index& index, const ContainerRef& before, const ContainerRef& after);
  void Publish(Index& index, EventType type, const std::string& id, const PodId& pod, SandboxRef sandbox);
  void SetAside(const char* table, const std::string& key, const Error& why);

  state::Database& db_;
  const Paths paths_;
  Synchronized<Index> index_;
  Feed feed_;
};

}  // namespace crisp::pod
