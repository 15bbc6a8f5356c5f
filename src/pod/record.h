// What is kept of a pod and of a container: tables `pods` and `containers` (docs/formats/records.md). Values.
//
// A record says what has been begun and what is known to be done; nothing else is needed to undo or finish it after a
// crash. The state that CRI shows is computed from it (state_machine.h), never stored.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pod/manager.h"
#include "runtime/runtime.h"

namespace crisp::pod {

inline constexpr char kPodTable[] = "pods";
inline constexpr char kContainerTable[] = "containers";
inline constexpr char kMetaTable[] = "pod-meta";  // "boot_id"
inline constexpr int kRecordVersion = 1;

inline constexpr char kReasonStartError[] = "StartError";  // it never ran

enum class PodPhase {
  kMaking,    // intent recorded; what exists of it is unknown: undone by recovery
  kReady,
  kDown,      // not ready; something of it may still stand (network, shim, mounts): StopPodSandbox is owed
  kStopped,   // nothing of it runs, its network is gone
  kRemoving,  // being removed; finished by recovery
};

struct PodRecord {
  PodId id;
  SandboxConfig config;
  PodPhase phase = PodPhase::kMaking;
  bool made = false;          // was ready once, so that clients know its id; never listed before
  bool restoring = false;     // RestorePod has not ended: recovery removes it with all that is there already
  int64_t created_at = 0;     // unix nanoseconds, like all *_at
  std::string handler;        // resolved from config.runtime_handler
  std::string cgroup_parent;  // where its containers go, as Cgroups::Place wants it
  std::string cgroup_path;    // pod-level cgroup of ours; "": the kubelet's, or none
  int64_t shm_bytes = 0;      // size of its /dev/shm; 0: none mounted
  int64_t files_bytes = 0;    // size of the file system of its files (paths.h); 0: they are in its directory
  bool host_network = false;
  std::string netns_path;
  std::vector<std::string> ips;
  std::string network_result;
  runtime::PodNamespaces namespaces;
  Resources overhead, resources;  // as last updated; config keeps what was asked for first
};

struct ContainerRecord {
  ContainerId id;
  PodId pod;
  ContainerConfig config;
  bool made = false;        // false: intent only, undone by recovery, never listed
  bool removing = false;
  int64_t created_at = 0;
  int64_t start_asked_at = 0;  // intent of StartContainer; from then on the runtime may know the container
  int64_t started_at = 0;
  int64_t finished_at = 0;
  bool runtime_clean = false;  // the runtime's own state of an ended container has been deleted
  int exit_code = 0;
  std::string reason, message;
  std::string handler;
  std::string image_id, image_digest_ref;
  std::string log_path;  // absolute; "": none
  std::string cgroup_oci_path, cgroup_path;
  Resources resources;
  std::optional<ContainerUser> user;
  int stop_signal = 15;
  int pid = 0;
  bool restore = false;       // StartContainer restores it from a checkpoint
  std::string checkpoint_to;  // while a checkpoint is made: the archive's path; it may be frozen
  // Of a pod's checkpoint, which is none before its pod.dump is there: the file that was about to get that name, and
  // whether the directory is ours.
  uint64_t checkpoint_inode = 0;
  bool checkpoint_dir_ours = false;
};

std::string EncodeRecord(const PodRecord& record);
std::string EncodeRecord(const ContainerRecord& record);
// kInvalidArgument: not a record of version 1, or one that contradicts itself; to be quarantined.
Result<PodRecord> DecodePod(const std::string& key, int version, const std::string& value);
Result<ContainerRecord> DecodeContainer(const std::string& key, int version, const std::string& value);

}  // namespace crisp::pod
