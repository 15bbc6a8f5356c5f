// What a container's checkpoint archive is made of, as values: docs/formats/checkpoint.md. The names and the JSON are
// those of checkpointctl's library, which containerd, CRI-O and Podman write and read.
//
// Everything that is read here was written by a stranger (security row S55). Nothing of it decides what a restored
// container may do: the policy comes from the live request alone; of the archive we take the processes' memory, the
// changed files, and facts to find the right image or to refuse with a good message.
// Threading: pure functions without I/O. Errors: kInvalidArgument.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::checkpoint {

inline constexpr char kConfigDump[] = "config.dump";      // ContainerDump
inline constexpr char kSpecDump[] = "spec.dump";          // the OCI config.json it ran with
inline constexpr char kStatusDump[] = "status.dump";      // CRI's ContainerStatus
inline constexpr char kDiffTar[] = "rootfs-diff.tar";     // what it has changed in its root file system
inline constexpr char kDeletedFiles[] = "deleted.files";  // JSON list of paths that it has deleted
inline constexpr char kImagesDir[] = "checkpoint";        // CRIU's images
inline constexpr char kLogFile[] = "container.log";
inline constexpr char kDumpLog[] = "dump.log";  // CRIU's log of the dump
inline constexpr char kStats[] = "stats-dump";  // CRIU's statistics of the dump
inline constexpr char kPodDump[] = "pod.dump";  // of a pod's checkpoint: PodDump

struct Limits {
  uint64_t json_bytes_max = 4u << 20;  // each of the JSON files
  size_t images_max = 100'000;         // files of CRIU
  size_t deleted_max = 1'000'000;
  uint64_t bytes_max = 64ull << 30;  // of all files together
};

// config.dump
struct ContainerDump {
  std::string id, name;
  std::string image;                            // as the user named it
  std::string image_ref;                        // id or repo digest
  std::string runtime;                          // handler
  int64_t created_at = 0, checkpointed_at = 0;  // unix nanoseconds
};
std::string EncodeContainerDump(const ContainerDump& dump);
// Times are not read back. References longer than a name, or with control characters, are refused.
Result<ContainerDump> ParseContainerDump(std::string_view json);

// deleted.files: paths without leading slash. Those that are not plain ("..", NUL, the root itself) are refused.
std::string EncodeDeletedFiles(const std::vector<std::string>& paths);
Result<std::vector<std::string>> ParseDeletedFiles(std::string_view json, const Limits& limits = {});

// Where spec.dump has bind mounts, sorted: CRIU wants each of them again.
Result<std::vector<std::string>> ParseBindTargets(std::string_view spec_json);

// pod.dump: which archive of the directory belongs to which container.
struct PodDump {
  std::string id, name, uid, pod_namespace;
  struct Member {
    std::string container;  // its name in the pod
    std::string archive;    // file name in the same directory
  };
  std::vector<Member> members;
};
std::string EncodePodDump(const PodDump& dump);
Result<PodDump> ParsePodDump(std::string_view json);

// Which file of ours the archive's member `path` becomes: one of the names above or "checkpoint/<name>", with "./" and
// the like taken away; nullopt for what we have no use for. Never anything with another slash or "..".
std::optional<std::string> MemberName(std::string_view path);

// The last line of CRIU's log that says what went wrong, for messages; "" when there is none.
std::string LastErrorOfCriuLog(std::string_view log);

// CRIU's image of a UTS namespace (images/utsns.proto of CRIU, version 1.1 of its format) with this host name.
// kInvalidArgument: longer than the kernel takes.
Result<std::string> UtsImage(std::string_view hostname);

}  // namespace crisp::checkpoint
