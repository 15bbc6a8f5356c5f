#include "cri/info.h"

#include "base/json.h"
#include "sys/file.h"

namespace crisp::cri {
namespace {

Json ParseOrNull(const std::string& text, const char* what) {
  Result<Json> parsed = ParseJson(text, what);
  return parsed ? *std::move(parsed) : Json();
}

Json ResourcesJson(const spec::Resources& r) {
  Json hugepages = Json::object();
  for (const spec::HugepageLimit& limit : r.hugepages) hugepages[limit.page_size] = limit.limit;
  return {{"cpu_period", r.cpu_period},
          {"cpu_quota", r.cpu_quota},
          {"cpu_shares", r.cpu_shares},
          {"memory_limit_in_bytes", r.memory_limit_bytes},
          {"memory_swap_limit_in_bytes", r.memory_swap_limit_bytes},
          {"hugepage_limits", std::move(hugepages)},
          {"unified", r.unified}};
}

Json SandboxConfigJson(const pod::SandboxStatus& sandbox) {
  const spec::SandboxConfig& config = sandbox.config;
  return {{"metadata",
           {{"name", config.metadata.name},
            {"uid", config.metadata.uid},
            {"namespace", config.metadata.pod_namespace},
            {"attempt", config.metadata.attempt}}},
          {"hostname", config.hostname},
          {"log_directory", config.log_directory},
          {"dns_config",
           {{"servers", config.dns_servers}, {"searches", config.dns_searches}, {"options", config.dns_options}}},
          {"labels", config.labels},
          {"annotations", config.annotations},
          {"linux",
           {{"cgroup_parent", config.cgroup_parent},
            {"sysctls", config.sysctls},
            {"overhead", ResourcesJson(sandbox.overhead)},
            {"resources", ResourcesJson(sandbox.resources)}}}};
}

Json ContainerConfigJson(const spec::ContainerConfig& config) {
  Json mounts = Json::array();
  for (const spec::Mount& mount : config.mounts) {
    mounts.push_back(
        {{"container_path", mount.container_path}, {"host_path", mount.host_path}, {"readonly", mount.readonly}});
  }
  return {{"metadata", {{"name", config.metadata.name}, {"attempt", config.metadata.attempt}}},
          {"image", {{"image", config.image}, {"user_specified_image", config.user_specified_image}}},
          {"command", config.command},
          {"args", config.args},
          {"working_dir", config.working_dir},
          {"mounts", std::move(mounts)},
          {"labels", config.labels},
          {"annotations", config.annotations},
          {"log_path", config.log_path},
          {"stdin", config.stdin_open},
          {"stdin_once", config.stdin_once},
          {"tty", config.tty}};
}

// In the form of the image's own config (image-spec config.md).
Json HistoryJson(const std::vector<oci::HistoryEntry>& history) {
  Json list = Json::array();
  for (const oci::HistoryEntry& entry : history) {
    list.push_back({{"created", entry.created},
                    {"created_by", entry.created_by},
                    {"author", entry.author},
                    {"comment", entry.comment},
                    {"empty_layer", entry.empty_layer}});
  }
  return list;
}

}  // namespace

Info SandboxInfo(const pod::SandboxStatus& sandbox) {
  Json info = {{"pid", sandbox.shim_pid},
               {"sandboxID", sandbox.id.str()},
               {"processStatus", sandbox.state == pod::SandboxState::kReady ? "running" : "stopped"},
               {"netNamespace", sandbox.netns_path},
               {"netNamespaceClosed", sandbox.state != pod::SandboxState::kReady},
               {"runtimeHandler", sandbox.config.runtime_handler},
               {"cniResult", ParseOrNull(sandbox.network_result, "CNI result")},
               {"config", SandboxConfigJson(sandbox)}};
  return {{"info", DumpJson(info)}};
}

Info TimingInfo(const std::vector<pod::CallTiming>& timings) {
  Json list = Json::array();
  for (const pod::CallTiming& timing : timings) {
    Json stages = Json::array();
    for (size_t i = 0; i < timing.stages.size(); ++i) {
      int64_t begin = timing.stages[i].begin_nanos;
      int64_t end = i + 1 < timing.stages.size() ? timing.stages[i + 1].begin_nanos : timing.took_nanos;
      stages.push_back(
          {{"name", timing.stages[i].name}, {"begin_us", begin / 1000}, {"took_us", (end - begin) / 1000}});
    }
    list.push_back({{"call", timing.call},
                    {"container", timing.container},
                    {"began_at", timing.began_at},
                    {"took_us", timing.took_nanos / 1000},
                    {"stages", std::move(stages)}});
  }
  return {{"timing", DumpJson({{"calls", std::move(list)}})}};
}

Info ContainerInfo(const pod::ContainerStatus& container) {
  Json info = {{"pid", container.pid},
               {"sandboxID", container.pod.str()},
               {"bundle", container.bundle_dir},
               {"rootfs", container.rootfs_dir},
               {"cgroupPath", container.cgroup_path},
               {"imageDigestRef", container.image_digest_ref},
               {"config", ContainerConfigJson(container.config)},
               {"runtimeSpec", nullptr}};
  if (Result<std::string> spec = sys::ReadFile(container.bundle_dir + "/config.json")) {
    info["runtimeSpec"] = ParseOrNull(*spec, "config.json");
  }
  return {{"info", DumpJson(info)}};
}

Info ImageInfo(const image::Image& image) {
  const image::ImageConfig& config = image.config;
  size_t slash = image.platform.find('/');
  Json spec = {{"architecture", slash == std::string::npos ? "" : image.platform.substr(slash + 1)},
               {"os", image.platform.substr(0, slash)},
               {"config",
                {{"User", config.user},
                 {"Env", config.env},
                 {"Entrypoint", config.entrypoint},
                 {"Cmd", config.cmd},
                 {"WorkingDir", config.working_dir},
                 {"Volumes", config.volumes},
                 {"StopSignal", config.stop_signal},
                 {"Labels", config.labels}}},
               {"rootfs", {{"type", "layers"}, {"diff_ids", image.diff_ids}}},
               {"history", HistoryJson(image.history)}};
  return {{"info", DumpJson({{"imageSpec", std::move(spec)}, {"layers", image.layer_dirs}})}};
}

}  // namespace crisp::cri
