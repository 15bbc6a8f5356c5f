// A container's start as plain orders to the kernel: what is left of config.json (OCI runtime-spec) once everything
// that can be decided beforehand is decided. crispd, or crisp-oci, makes it (compile.h); the pod's shim carries it out
// (launcher.h) without knowing JSON, libseccomp or where cgroups are.
//
// All types are values; Encode and Decode are pure. Maker and shim may differ in age, as with shimapi/message.h: fields
// are only ever appended. Paths are absolute. "Inside" is below the container's root: resolved there by openat2(2) with
// RESOLVE_IN_ROOT, so no symlink of an image or a volume leads out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::native {

inline constexpr size_t kLaunchBytesMax = 16u << 20;

struct IdMapping {
  uint32_t inside = 0, outside = 0, count = 0;
};

struct JoinNamespace {
  uint64_t type = 0;  // CLONE_NEW*
  std::string path;   // a namespace file of the node, e.g. /proc/PID/ns/net
};

struct KeyValue {
  std::string key, value;
};

// Orders of this kind are carried out in their order, before the root is changed.
struct Mount {
  enum Kind : uint8_t {
    kBind = 0,        // `source`: a path of the node
    kFilesystem = 1,  // a new instance: `fstype`, `source` (its name), `data`
    kRemount = 2,     // changes attributes of what is mounted at the target
  };
  uint8_t kind = kBind;
  std::string target;  // inside; made where it is missing (a directory, or a file for a file)
  std::string source, fstype;
  std::string data;              // "size=64k,mode=755": options of the file system
  bool recursive = false;        // kBind: with what is mounted below (rbind)
  bool source_nofollow = false;  // kBind: `source` itself may not be a symlink
  bool source_plain = false;     // kBind: nor may any part of it: it was resolved before (S52)
  // MOUNT_ATTR_* (mount_setattr(2)) of this mount; `recursive_*`: of it and all below it.
  uint64_t attr_set = 0, attr_clear = 0, recursive_set = 0, recursive_clear = 0;
  // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, for all below too with `recursive_propagation`; 0: private.
  uint64_t propagation = 0;
  bool recursive_propagation = false;
  // kBind: the ids of the file system are mapped. Either the maps, or the container's own user namespace.
  std::vector<IdMapping> uid_map, gid_map;
  bool idmap = false, idmap_recursive = false;
  bool copy_up = false;           // kFilesystem: gets what the image has at the target ("tmpcopyup")
  bool read_only_at_end = false;  // made read-only after all mounts, devices and links
  uint64_t sb_flags = 0;  // MS_SYNCHRONOUS, MS_DIRSYNC, MS_MANDLOCK, MS_LAZYTIME, MS_SILENT of a new file system
  bool optional = false;  // a failure (e.g. a file system that the kernel lacks) is passed over
};

struct Device {
  std::string path;   // inside
  uint32_t type = 0;  // S_IFCHR, S_IFBLK or S_IFIFO
  uint32_t major = 0, minor = 0;
  uint32_t mode = 0666;
  uint32_t uid = 0, gid = 0;
};

struct Symlink {
  std::string path, target;  // path inside
};

struct Hook {
  std::string path;
  std::vector<std::string> args, env;
  uint32_t timeout_seconds = 0;  // 0: none of its own; the launcher's bound holds
};

struct Rlimit {
  uint32_t resource = 0;  // RLIMIT_*
  uint64_t soft = 0, hard = 0;
};

// sched_setattr(2).
struct Scheduler {
  bool set = false;
  uint32_t policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime_nanos = 0, deadline_nanos = 0, period_nanos = 0;
};

struct Seccomp {
  std::string program;        // struct sock_filter[], "" = no filter
  uint32_t flags = 0;         // SECCOMP_FILTER_FLAG_*
  std::string listener_path;  // unix socket that gets the notify descriptor; "" = none
  std::string listener_metadata;
};

struct Process {
  std::vector<std::string> args, env;
  std::string cwd = "/";
  bool terminal = false;
  uint16_t width = 0, height = 0;  // of the terminal; 0: unset
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;
  int32_t umask = -1;  // -1: 0022
  // Bit n: capability n.
  uint64_t bounding = 0, effective = 0, permitted = 0, inheritable = 0, ambient = 0;
  bool no_new_privileges = false;
  std::vector<Rlimit> rlimits;
  bool set_oom_score_adj = false;
  int32_t oom_score_adj = 0;
  std::string apparmor_profile, selinux_label;
  int32_t ioprio = -1;  // ioprio_set(2)'s value; -1: inherited
  Scheduler scheduler;
  // CPU masks, bit 0 of byte 0 = CPU 0: while it joins its cgroups, and from exec on. "" = as it is.
  std::string initial_affinity, final_affinity;
  uint64_t personality = ~uint64_t{0};  // ~0: as it is
  int32_t memory_policy = -1;           // MPOL_* with its flags, -1: none
  std::string memory_nodes;             // mask as above
  Seccomp seccomp;
};

// Which cgroup: the process is put there before it is anybody else's, so that nothing it starts escapes.
struct CgroupPlace {
  std::vector<std::string> v1_dirs;  // one for each hierarchy; joined by their file "tasks"
  std::string v2_dir;                // cgroup.procs, or CLONE_INTO_CGROUP
  // So many of v1_dirs, the last ones, may stop or hold up whoever joins (freezer, cpu, memory); 0: not known.
  uint32_t v1_stopping = 0;
};

struct Launch {
  std::string id, bundle;   // for hooks
  std::string oci_version;  // for hooks
  std::string annotations;  // JSON object text, for hooks
  std::string rootfs;       // a directory of the node
  bool rootfs_read_only = false;
  uint64_t rootfs_propagation =
      0;                  // MS_* of "/" before anything is mounted: what flows in from the node. 0: private, recursive
  bool no_pivot = false;  // MS_MOVE and chroot instead of pivot_root
  uint64_t new_namespaces = 0;              // CLONE_NEW*
  std::vector<JoinNamespace> join;          // at most one of each type
  std::vector<IdMapping> uid_map, gid_map;  // with CLONE_NEWUSER
  std::string time_offsets;                 // text for /proc/PID/timens_offsets, with CLONE_NEWTIME
  CgroupPlace cgroup;
  std::string hostname, domainname;  // "" = as they are
  std::vector<KeyValue> sysctls;     // names with '/' or '.', checked to be those of the container's own namespaces
  std::vector<Mount> mounts;
  std::vector<Device> devices;
  std::vector<Symlink> symlinks;
  std::vector<std::string> masked_paths, read_only_paths;  // inside; missing ones are passed over
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart;
  Process process;
  // A file of a mount namespace with nothing in it (sys/mount_namespace.h): the root is built in a copy of that one
  // where it can be (StartsBare). "": in a copy of the launcher's.
  std::string bare_mounts;
};

// Whether the container's process leaves the node's mounts for `bare_mounts`, with what it needs of them opened before:
// not for hooks, which are run beside the node's files, for a root or a mount that gets mounts from the node or gives
// it some, or where a user namespace is another one, which must see the node's /proc to mount its own.
bool StartsBare(const Launch& launch);

// A further process in a running container.
struct ExecLaunch {
  uint64_t namespaces = 0;  // CLONE_NEW* that the container does not share with the launcher
  CgroupPlace cgroup;
  Process process;
};

// What must be known before the process is made; Encode works it out. So whoever makes the process need not decode the
// rest.
struct Head {
  // CLONE_NEW* to be made with the process. Of an exec CLONE_VM | CLONE_VFORK, or 0: whether its entrance may run in
  // the memory of whoever makes it.
  uint64_t clone_flags = 0;
  bool staged = false;        // needs a helper: hooks, or another user namespace
  std::string pid_namespace;  // to be joined before the process is made, "" = none
  std::string v2_dir;
  bool bare = false;  // StartsBare
  // Whether the process may wait long to become the program (LaunchOptions::wait_late): nothing of the node is told of
  // it before, and no other container shares its PID namespace and sees it wait.
  bool may_wait = false;
};

// kResourceExhausted beyond kLaunchBytesMax.
Result<std::string> Encode(const Launch& launch);
Result<std::string> Encode(const ExecLaunch& launch);
// kInvalidArgument for bytes that are none.
Result<Head> DecodeHead(std::string_view bytes);
Result<Launch> DecodeLaunch(std::string_view bytes);
Result<ExecLaunch> DecodeExecLaunch(std::string_view bytes);

}  // namespace crisp::native
