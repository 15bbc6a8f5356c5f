#include "native/launch.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>

#include <algorithm>

#include "base/strings.h"
#include "codec/fields.h"

namespace crisp::native {

template <class V>
void Fields(V& v, IdMapping& m) {
  v(m.inside), v(m.outside), v(m.count);
}
template <class V>
void Fields(V& v, JoinNamespace& m) {
  v(m.type), v(m.path);
}
template <class V>
void Fields(V& v, KeyValue& m) {
  v(m.key), v(m.value);
}
template <class V>
void Fields(V& v, Mount& m) {
  v(m.kind), v(m.target), v(m.source), v(m.fstype), v(m.data), v(m.recursive), v(m.source_nofollow), v(m.attr_set),
      v(m.attr_clear), v(m.recursive_set), v(m.recursive_clear), v(m.propagation), v(m.recursive_propagation),
      v(m.uid_map), v(m.gid_map), v(m.idmap), v(m.idmap_recursive), v(m.copy_up), v(m.read_only_at_end), v(m.sb_flags),
      v(m.optional), v(m.source_plain);
}
template <class V>
void Fields(V& v, Device& m) {
  v(m.path), v(m.type), v(m.major), v(m.minor), v(m.mode), v(m.uid), v(m.gid);
}
template <class V>
void Fields(V& v, Symlink& m) {
  v(m.path), v(m.target);
}
template <class V>
void Fields(V& v, Hook& m) {
  v(m.path), v(m.args), v(m.env), v(m.timeout_seconds);
}
template <class V>
void Fields(V& v, Rlimit& m) {
  v(m.resource), v(m.soft), v(m.hard);
}
template <class V>
void Fields(V& v, Scheduler& m) {
  v(m.set), v(m.policy), v(m.flags), v(m.nice), v(m.priority), v(m.runtime_nanos), v(m.deadline_nanos),
      v(m.period_nanos);
}
template <class V>
void Fields(V& v, Seccomp& m) {
  v(m.program), v(m.flags), v(m.listener_path), v(m.listener_metadata);
}
template <class V>
void Fields(V& v, Process& m) {
  v(m.args), v(m.env), v(m.cwd), v(m.terminal), v(m.width), v(m.height), v(m.uid), v(m.gid), v(m.groups), v(m.umask),
      v(m.bounding), v(m.effective), v(m.permitted), v(m.inheritable), v(m.ambient), v(m.no_new_privileges),
      v(m.rlimits), v(m.set_oom_score_adj), v(m.oom_score_adj), v(m.apparmor_profile), v(m.selinux_label), v(m.ioprio),
      v(m.scheduler), v(m.initial_affinity), v(m.final_affinity), v(m.personality), v(m.memory_policy),
      v(m.memory_nodes), v(m.seccomp);
}
template <class V>
void Fields(V& v, CgroupPlace& m) {
  v(m.v1_dirs), v(m.v2_dir), v(m.v1_stopping);
}
template <class V>
void Fields(V& v, Launch& m) {
  v(m.id), v(m.bundle), v(m.oci_version), v(m.annotations), v(m.rootfs), v(m.rootfs_read_only), v(m.rootfs_propagation),
      v(m.no_pivot), v(m.new_namespaces), v(m.join), v(m.uid_map), v(m.gid_map), v(m.time_offsets), v(m.cgroup),
      v(m.hostname), v(m.domainname), v(m.sysctls), v(m.mounts), v(m.devices), v(m.symlinks), v(m.masked_paths),
      v(m.read_only_paths), v(m.prestart), v(m.create_runtime), v(m.create_container), v(m.start_container),
      v(m.poststart), v(m.process), v(m.bare_mounts);
}
template <class V>
void Fields(V& v, Head& m) {
  v(m.clone_flags), v(m.staged), v(m.pid_namespace), v(m.v2_dir), v(m.bare), v(m.may_wait);
}
template <class V>
void Fields(V& v, ExecLaunch& m) {
  v(m.namespaces), v(m.cgroup), v(m.process);
}

namespace {

constexpr uint32_t kLaunchMagic = 0x314c5243, kExecMagic = 0x31455243;  // "CRL1", "CRE1"

template <class T>
Result<std::string> EncodeAs(uint32_t magic, Head head, const T& value) {
  std::string bytes;
  codec::PutInt(bytes, magic);
  codec::FieldWriter writer(bytes);
  writer(head);
  writer(const_cast<T&>(value));  // only read; Fields is shared with the reader
  if (bytes.size() > kLaunchBytesMax) {
    return Error(Code::kResourceExhausted,
                 StrCat("the container's configuration of ", bytes.size(), " bytes is too large"));
  }
  return bytes;
}

Result<> CheckMagic(uint32_t magic, std::string_view bytes) {
  if (bytes.size() >= sizeof magic && bytes.size() <= kLaunchBytesMax && codec::GetInt<uint32_t>(bytes) == magic)
    return {};
  return Error(Code::kInvalidArgument, "not a launch");
}

template <class T>
Result<T> DecodeAs(uint32_t magic, std::string_view bytes) {
  TRY(CheckMagic(magic, bytes));
  Head head;
  T value;
  codec::FieldReader reader(bytes.substr(sizeof magic));
  reader(head);
  reader(value);
  if (reader.failed()) return Error(Code::kInvalidArgument, "malformed launch");
  return value;
}

bool Staged(const Launch& launch) {
  return !launch.prestart.empty() || !launch.create_runtime.empty() || !launch.poststart.empty() ||
         (launch.new_namespaces & CLONE_NEWUSER) != 0 ||
         std::any_of(launch.join.begin(), launch.join.end(),
                     [](const JoinNamespace& join) { return join.type == CLONE_NEWUSER; });
}

Head HeadOf(const Launch& launch) {
  Head head;
  // The cgroup namespace is made once the process is in its cgroup, the time namespace once its offsets are set.
  head.clone_flags = launch.new_namespaces & ~uint64_t{CLONE_NEWCGROUP | CLONE_NEWTIME};
  head.v2_dir = launch.cgroup.v2_dir;
  head.staged = Staged(launch);
  for (const JoinNamespace& join : launch.join) {
    if (join.type == CLONE_NEWPID) head.pid_namespace = join.path;
  }
  head.bare = StartsBare(launch);
  head.may_wait = head.bare && (head.clone_flags & CLONE_NEWPID) != 0 && launch.process.seccomp.listener_path.empty();
  return head;
}

Head HeadOf(const ExecLaunch& launch) {
  Head head;
  if ((launch.namespaces & CLONE_NEWPID) != 0) head.pid_namespace = "the container's";  // by its pidfd
  head.v2_dir = launch.cgroup.v2_dir;
  // Not where it is to be born in a cgroup, which may be frozen, or it is not known which ones may; nor where a time
  // namespace is joined, which the kernel allows to nobody who shares memory (kernel/time/namespace.c).
  const bool may_wait = !head.v2_dir.empty() || launch.cgroup.v1_stopping == 0;
  if (!head.pid_namespace.empty() && !may_wait && (launch.namespaces & CLONE_NEWTIME) == 0) {
    head.clone_flags = CLONE_VM | CLONE_VFORK;
  }
  return head;
}

}  // namespace

bool StartsBare(const Launch& launch) {
  auto shares = [](const Mount& mount) { return mount.propagation != 0 && mount.propagation != MS_PRIVATE; };
  return std::none_of(launch.mounts.begin(), launch.mounts.end(), shares) && !launch.bare_mounts.empty() &&
         (launch.new_namespaces & CLONE_NEWNS) != 0 && !Staged(launch) && launch.create_container.empty() &&
         launch.rootfs_propagation == 0 && !launch.no_pivot;
}

Result<std::string> Encode(const Launch& launch) { return EncodeAs(kLaunchMagic, HeadOf(launch), launch); }
Result<std::string> Encode(const ExecLaunch& launch) { return EncodeAs(kExecMagic, HeadOf(launch), launch); }
Result<Head> DecodeHead(std::string_view bytes) {
  if (!CheckMagic(kLaunchMagic, bytes)) TRY(CheckMagic(kExecMagic, bytes));
  Head head;
  codec::FieldReader reader(bytes.substr(sizeof kLaunchMagic));
  reader(head);
  if (reader.failed()) return Error(Code::kInvalidArgument, "malformed launch");
  return head;
}
Result<Launch> DecodeLaunch(std::string_view bytes) { return DecodeAs<Launch>(kLaunchMagic, bytes); }
Result<ExecLaunch> DecodeExecLaunch(std::string_view bytes) { return DecodeAs<ExecLaunch>(kExecMagic, bytes); }

}  // namespace crisp::native
