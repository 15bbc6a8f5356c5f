#include "runtime/native_handler.h"

#include <linux/sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/log.h"
#include "base/strings.h"
#include "native/compile.h"
#include "native/hooks.h"
#include "sys/file.h"

namespace crisp::runtime {

namespace {

// All of them: whoever waits for the container's end waits for them.
constexpr std::chrono::seconds kPoststopTime{10};

std::string ExecFile(const std::string& bundle) { return bundle + "/exec"; }
std::string PoststopFile(const std::string& bundle) { return bundle + "/poststop"; }

Result<sys::UniqueFd> ToFile(const std::string& bytes) {
  sys::UniqueFd file(memfd_create("launch", MFD_CLOEXEC));
  if (!file.ok()) return Errno(errno, "memfd_create");
  TRY(sys::WriteAll(file, bytes));
  return file;
}

native::Host ToHost(const NativeCgroup& cgroup) {
  native::Host host;
  host.unified = cgroup.unified;
  for (const NativeCgroup::Hierarchy& each : cgroup.hierarchies) host.hierarchies.push_back({each.controllers, each.mount_point});
  return host;
}

Result<> KeepPoststop(const ContainerSpec& spec, const native::Launch& launch) {
  std::vector<native::Hook> hooks = TRY(native::PoststopHooks(spec.config_json));
  if (hooks.empty()) return {};
  native::Launch kept;
  kept.id = launch.id;
  kept.bundle = launch.bundle;
  kept.oci_version = launch.oci_version;
  kept.annotations = launch.annotations;
  kept.poststart = std::move(hooks);
  std::string bytes = TRY(native::Encode(kept));
  return sys::WriteFileAtomic(PoststopFile(spec.bundle_dir), bytes, 0600, sys::Durability::kNone);
}

}  // namespace

Result<sys::UniqueFd> PrepareNativeStart(const ContainerSpec& spec) {
  native::CompileInput input;
  input.config_json = spec.config_json;
  input.id = spec.id.str();
  input.bundle = spec.bundle_dir;
  input.host = ToHost(spec.cgroup);
  input.cgroup = {spec.cgroup.v1_dirs, spec.cgroup.v2_dir};
  native::Launch launch = TRY(native::Compile(input));
  std::string exec = TRY(native::Encode(native::ExecTemplate(launch)));
  TRY(sys::WriteFileAtomic(ExecFile(spec.bundle_dir), exec, 0600, sys::Durability::kNone));
  TRY(KeepPoststop(spec, launch));
  std::string bytes = TRY(native::Encode(launch));
  return ToFile(bytes);
}

Result<NativeExec> PrepareNativeExec(const ExecSpec& spec, const std::string& name) {
  std::string bytes = TRY(sys::ReadFile(ExecFile(spec.bundle_dir), native::kLaunchBytesMax), "native container");
  NativeExec out;
  native::ExecInput input;
  input.process_json = spec.process_json;
  input.container = TRY(native::DecodeExecLaunch(bytes));
  input.cgroup = {spec.cgroup.v1_dirs, spec.cgroup.v2_dir};
  if (spec.cgroup.unified) {
    out.cgroup_dir = StrCat(spec.cgroup.v2_dir, "/", name);
    input.cgroup.v2_dir = out.cgroup_dir;
  } else {
    for (const NativeCgroup::Hierarchy& each : spec.cgroup.hierarchies) {
      std::vector<std::string_view> controllers = Split(each.controllers, ',');
      if (std::find(controllers.begin(), controllers.end(), "freezer") == controllers.end()) continue;
      for (std::string& dir : input.cgroup.v1_dirs) {
        if (!dir.starts_with(each.mount_point + "/")) continue;
        dir += StrCat("/", name);
        out.cgroup_dir = dir;
      }
    }
  }
  native::ExecLaunch launch = TRY(native::CompileExec(input));
  std::string encoded = TRY(native::Encode(launch));
  out.launch = TRY(ToFile(encoded));
  return out;
}

Result<> RunPoststopHooks(const Ctx& ctx, const ContainerId& id, const std::string& bundle_dir) {
  const std::string file = PoststopFile(bundle_dir);
  Result<std::string> bytes = sys::ReadFile(file, native::kLaunchBytesMax);
  if (!bytes) return {};
  native::Launch kept = TRY(native::DecodeLaunch(*bytes));
  // Each by itself: one that fails keeps none of the others from running.
  Ctx bounded = ctx.WithTimeout(kPoststopTime);
  for (const native::Hook& hook : kept.poststart) {
    Result<> ran = native::RunHooks({hook}, "poststop", native::StateJson(kept, "stopped", 0), bounded);
    TRY(ctx.Check(), "poststop hooks");
    if (!ran) LogWarning("hook failed", {{"container", id.str()}, {"error", ran.error()}});
  }
  return sys::RemoveFile(file);
}

}  // namespace crisp::runtime
