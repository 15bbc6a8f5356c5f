#include "pod/record.h"

#include "pod/config_fields.h"
#include "pod/json_fields.h"

namespace crisp::runtime {

template <class V>
void Fields(V& v, PodNamespaces& t) {
  v("shim_pid", t.shim_pid), v("net", t.net), v("ipc", t.ipc), v("uts", t.uts), v("pid", t.pid);
  v("user", t.user);
}

}  // namespace crisp::runtime

namespace crisp::pod {

// Not in an unnamed namespace: argument lookup would not find them there.
template <class V>
void Fields(V& v, PodRecord& t) {
  v("config", t.config), v("phase", t.phase), v("made", t.made), v("restoring", t.restoring);
  v("created_at", t.created_at), v("handler", t.handler);
  v("cgroup_parent", t.cgroup_parent), v("cgroup_path", t.cgroup_path), v("shm_bytes", t.shm_bytes);
  v("files_bytes", t.files_bytes);
  v("host_network", t.host_network), v("netns_path", t.netns_path), v("ips", t.ips);
  v("network_result", t.network_result), v("namespaces", t.namespaces);
  v("overhead", t.overhead), v("resources", t.resources);
}

template <class V>
void Fields(V& v, ContainerRecord& t) {
  v("config", t.config), v("made", t.made), v("removing", t.removing);
  v("created_at", t.created_at), v("start_asked_at", t.start_asked_at), v("started_at", t.started_at);
  v("finished_at", t.finished_at), v("runtime_clean", t.runtime_clean), v("exit_code", t.exit_code);
  v("reason", t.reason), v("message", t.message), v("handler", t.handler);
  v("image_id", t.image_id), v("image_digest_ref", t.image_digest_ref), v("log_path", t.log_path);
  v("cgroup_oci_path", t.cgroup_oci_path), v("cgroup_path", t.cgroup_path), v("resources", t.resources);
  v("user", t.user), v("stop_signal", t.stop_signal), v("pid", t.pid);
  v("restore", t.restore), v("checkpoint_to", t.checkpoint_to);
  v("checkpoint_inode", t.checkpoint_inode), v("checkpoint_dir_ours", t.checkpoint_dir_ours);
}

namespace {

Result<Json> ParseRecord(const std::string& key, int version, const std::string& value) {
  if (version != kRecordVersion) {
    return Error(Code::kInvalidArgument, StrCat("record ", Quote(key, 80), " has version ", version, ", not ", kRecordVersion));
  }
  return ParseJson(value, StrCat("record ", Quote(key, 80)), {.bytes_max = 64u << 20});
}

}  // namespace

std::string EncodeRecord(const PodRecord& record) { return DumpJson(WriteStruct(record)); }

std::string EncodeRecord(const ContainerRecord& record) {
  Json json = WriteStruct(record);
  json["pod"] = record.pod.str();
  return DumpJson(json);
}

Result<PodRecord> DecodePod(const std::string& key, int version, const std::string& value) {
  Json json = TRY(ParseRecord(key, version, value));
  PodRecord record = TRY(StructFromJson<PodRecord>(json));
  record.id = TRY(PodId::Parse(key));
  if (record.phase > PodPhase::kRemoving) return Error(Code::kInvalidArgument, "record member phase is not a known value");
  return record;
}

Result<ContainerRecord> DecodeContainer(const std::string& key, int version, const std::string& value) {
  Json json = TRY(ParseRecord(key, version, value));
  ContainerRecord record = TRY(StructFromJson<ContainerRecord>(json));
  record.id = TRY(ContainerId::Parse(key));
  std::string pod = TRY(JsonGet<std::string>(json, "pod"));
  record.pod = TRY(PodId::Parse(pod));
  return record;
}

}  // namespace crisp::pod
