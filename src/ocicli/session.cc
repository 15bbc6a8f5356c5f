#include "ocicli/session.h"

#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "cgroup/place.h"
#include "native/hooks.h"
#include "sys/file.h"

namespace crisp::ocicli {

Result<std::unique_ptr<cgroup::Cgroups>> OpenCgroups(bool systemd) {
  cgroup::Cgroups::Options options;
  options.driver = systemd ? cgroup::Driver::kSystemd : cgroup::Driver::kCgroupfs;
  options.only_ours = false;
  return cgroup::Cgroups::Detect(options);
}

Result<std::string> KernelPath(const std::string& cgroups_path, const std::string& id, bool systemd) {
  std::string path;
  if (systemd) {
    std::vector<std::string_view> parts = Split(cgroups_path, ':');
    if (cgroups_path.empty()) parts = {"system.slice", "crisp-oci", id};
    if (parts.size() != 3 || parts[1].find('/') != std::string_view::npos || parts[2].find('/') != std::string_view::npos) {
      return Error(Code::kInvalidArgument, StrCat("linux.cgroupsPath ", Quote(cgroups_path), " is not \"slice:prefix:name\""));
    }
    std::string slice = TRY(cgroup::ExpandSlice(parts[0].empty() ? "system.slice" : std::string(parts[0])));
    path = StrCat(slice == "/" ? "" : slice, "/", parts[1].empty() ? "" : StrCat(parts[1], "-"), parts[2], ".scope");
  } else {
    path = cgroups_path.empty() ? StrCat("/crisp-oci/", id) : cgroups_path;
    if (!path.starts_with('/')) path = "/" + path;
    while (path.ends_with('/')) path.pop_back();
  }
  TRY(cgroup::CheckClean(path), "linux.cgroupsPath");
  return path;
}

native::CgroupPlace PlaceOf(const cgroup::Cgroups& cgroups, const std::string& kernel_path) {
  cgroup::Cgroups::Directories dirs = cgroups.DirectoriesOf(kernel_path);
  return {std::move(dirs.v1), std::move(dirs.v2)};
}

native::Host HostOf(const cgroup::Layout& layout) {
  native::Host host;
  host.unified = layout.unified;
  for (const cgroup::Hierarchy& hierarchy : layout.hierarchies) {
    std::string controllers = hierarchy.name.empty() ? "" : "name=" + hierarchy.name;
    if (!hierarchy.v2) {
      for (const std::string& each : hierarchy.controllers) controllers += StrCat(controllers.empty() ? "" : ",", each);
    }
    host.hierarchies.push_back({std::move(controllers), hierarchy.mountpoint});
  }
  return host;
}

bool IsFrozen(const cgroup::Layout& layout, const std::string& kernel_path) {
  if (const cgroup::Hierarchy* freezer = layout.Find("freezer")) {
    std::string state = sys::ReadFile(StrCat(freezer->mountpoint, kernel_path, "/freezer.state")).value_or("");
    return Trim(state) != "THAWED" && !state.empty();
  }
  for (const cgroup::Hierarchy& hierarchy : layout.hierarchies) {
    if (!hierarchy.v2) continue;
    return Trim(sys::ReadFile(StrCat(hierarchy.mountpoint, kernel_path, "/cgroup.freeze")).value_or("")) == "1";
  }
  return false;
}

std::string StatusOf(const Session& session, const Record& record) {
  std::string status = session.store.StatusOf(record);
  if (status != "running" || record.cgroup_path.empty()) return status;
  Result<std::unique_ptr<cgroup::Cgroups>> cgroups = OpenCgroups(record.systemd);
  return cgroups && IsFrozen((*cgroups)->layout(), record.cgroup_path) ? "paused" : status;
}

Result<std::vector<native::Hook>> HooksOf(const std::string& config_json, const char* kind) {
  Json config = TRY(ParseJson(config_json, "config.json"));
  auto hooks = config.find("hooks");
  if (hooks == config.end() || !hooks->is_object() || !hooks->contains(kind)) return std::vector<native::Hook>();
  // The parser of one kind reads them all: they have the same form.
  Json only;
  only["hooks"]["poststop"] = (*hooks)[kind];
  return native::PoststopHooks(DumpJson(only));
}

void RunHooksAndLog(const Session& session, const Record& record, const char* kind, const char* status) {
  Result<std::string> config = sys::ReadFile(session.store.File(record.id, "config.json"));
  if (!config) return;
  Result<std::vector<native::Hook>> hooks = HooksOf(*config, kind);
  if (!hooks) return LogWarning("hooks cannot be read", {{"kind", kind}, {"error", hooks.error()}});
  native::Launch about;
  about.id = record.id;
  about.bundle = record.bundle;
  about.oci_version = record.oci_version;
  about.annotations = record.annotations;
  for (const native::Hook& hook : *hooks) {
    Result<> ran = native::RunHooks({hook}, kind, native::StateJson(about, status, record.pid));
    if (!ran) LogWarning("hook failed", {{"kind", kind}, {"error", ran.error()}});
  }
}

}  // namespace crisp::ocicli
