#include "runtime/native_handler.h"

#include <linux/sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/json.h"
#include "base/log.h"
#include "base/strings.h"
#include "native/compile.h"
#include "native/criu.h"
#include "native/hooks.h"
#include "sys/file.h"

namespace crisp::runtime {

namespace {

// All of them: whoever waits for the container's end waits for them.
constexpr std::chrono::seconds kPoststopTime{10};

constexpr char kCriu[] = "criu";
// CRIU makes these anew, also where the container had the pod's.
constexpr uint64_t kRemadeNamespaces = CLONE_NEWIPC | CLONE_NEWUTS;

std::string CriuRoot(const std::string& bundle) { return bundle + "/criu-root"; }
std::string ExecFile(const std::string& bundle) { return bundle + "/exec"; }
std::string PoststopFile(const std::string& bundle) { return bundle + "/poststop"; }

native::Host ToHost(const NativeCgroup& cgroup) {
  native::Host host;
  host.unified = cgroup.unified;
  for (const NativeCgroup::Hierarchy& each : cgroup.hierarchies)
    host.hierarchies.push_back({each.controllers, each.mount_point});
  return host;
}

Result<> KeepPoststop(const ContainerSpec& spec, const native::Launch& launch) {
  std::vector<native::Hook> hooks = TRY(native::PoststopHooksOf(*spec.config));
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

Result<native::Launch> CompileLaunch(const Json& config, const ContainerId& id, const std::string& bundle,
                                     const NativeCgroup& cgroup) {
  native::CompileInput input;
  input.id = id.str();
  input.bundle = bundle;
  input.host = ToHost(cgroup);
  input.cgroup = {cgroup.v1_dirs, cgroup.v2_dir};
  return native::Compile(config, input);
}

// What later verbs need.
Result<> KeepForLater(const ContainerSpec& spec, const native::Launch& launch, native::ExecLaunch exec,
                      ExecTemplates& templates) {
  std::string bytes = TRY(native::Encode(exec));
  TRY(sys::WriteFileAtomic(ExecFile(spec.bundle_dir), bytes, 0600, sys::Durability::kNone));
  templates.Put(spec.bundle_dir, bytes.size(), std::move(exec));
  return KeepPoststop(spec, launch);
}

// Without a process where only that of an exec is wrong: whoever wants one is told then.
native::ExecLaunch TemplateOf(const native::Launch& launch, const Json& config) {
  Result<native::ExecLaunch> exec = native::ExecTemplate(launch, config);
  return exec ? *std::move(exec) : native::ExecTemplate(launch);
}

// The one among the container's v1 directories that its processes are frozen and killed by, null: none.
template <class Strings>
auto FindFreezer(const NativeCgroup& cgroup, Strings& v1_dirs) -> decltype(v1_dirs.data()) {
  for (const NativeCgroup::Hierarchy& each : cgroup.hierarchies) {
    std::vector<std::string_view> controllers = Split(each.controllers, ',');
    if (std::find(controllers.begin(), controllers.end(), "freezer") == controllers.end()) continue;
    for (auto& dir : v1_dirs) {
      if (dir.starts_with(each.mount_point + "/")) return &dir;
    }
  }
  return nullptr;
}

// Of the hierarchies whose cgroups may stop or hold up whoever joins: frozen, out of time, out of memory. How many.
uint32_t MoveStoppingLast(const NativeCgroup& cgroup, std::vector<std::string>& v1_dirs) {
  auto stops = [&](const std::string& dir) {
    for (const NativeCgroup::Hierarchy& each : cgroup.hierarchies) {
      if (!dir.starts_with(each.mount_point + "/")) continue;
      for (std::string_view controller : Split(each.controllers, ',')) {
        if (controller == "freezer" || controller == "cpu" || controller == "memory") return true;
      }
    }
    return false;
  };
  auto last =
      std::stable_partition(v1_dirs.begin(), v1_dirs.end(), [&](const std::string& dir) { return !stops(dir); });
  return static_cast<uint32_t>(v1_dirs.end() - last);
}

}  // namespace

Result<sys::UniqueFd> NativeLaunchFile(const std::string& launch) {
  sys::UniqueFd file(memfd_create("launch", MFD_CLOEXEC));
  if (!file.ok()) return Errno(errno, "memfd_create");
  TRY(sys::WriteAll(file, launch));
  return file;
}

Result<bool> HasPoststopHooks(const ContainerSpec& spec) { return !TRY(native::PoststopHooksOf(*spec.config)).empty(); }

Result<native::Launch> CompileNativeStart(const ContainerSpec& spec, std::string bare_mounts) {
  native::Launch launch = TRY(CompileLaunch(*spec.config, spec.id, spec.bundle_dir, spec.cgroup));
  launch.bare_mounts = std::move(bare_mounts);
  return launch;
}

Result<> KeepNativeStart(const ContainerSpec& spec, const native::Launch& launch, ExecTemplates& templates) {
  return KeepForLater(spec, launch, TemplateOf(launch, *spec.config), templates);
}

Result<ExecTemplates::Ptr> ExecTemplates::Get(const std::string& bundle_dir) {
  {
    auto kept = kept_.Lock();
    auto found =
        std::find_if(kept->begin(), kept->end(), [&](const Kept& each) { return each.bundle_dir == bundle_dir; });
    if (found != kept->end()) {
      kept->splice(kept->begin(), *kept, found);
      return found->launch;
    }
  }
  std::string bytes = TRY(sys::ReadFile(ExecFile(bundle_dir), native::kLaunchBytesMax), "native container");
  auto launch = std::make_shared<const native::ExecLaunch>(TRY(native::DecodeExecLaunch(bytes)));
  Keep(bundle_dir, bytes.size(), launch);
  return launch;
}

void ExecTemplates::Put(const std::string& bundle_dir, size_t bytes, native::ExecLaunch launch) {
  Keep(bundle_dir, bytes, std::make_shared<const native::ExecLaunch>(std::move(launch)));
}

void ExecTemplates::Keep(const std::string& bundle_dir, size_t bytes, Ptr launch) {
  constexpr size_t kKeptMax = 64, kBytesMax = 32 << 10;  // a few KiB each, but for huge environments
  auto kept = kept_.Lock();
  kept->remove_if([&](const Kept& each) { return each.bundle_dir == bundle_dir; });
  if (bytes > kBytesMax) return;
  kept->push_front({bundle_dir, std::move(launch)});
  if (kept->size() > kKeptMax) kept->pop_back();
}

void ExecTemplates::Forget(const std::string& bundle_dir) {
  kept_.Lock()->remove_if([&](const Kept& each) { return each.bundle_dir == bundle_dir; });
}

Result<NativeExec> PrepareNativeExec(ExecTemplates& templates, const ExecSpec& spec, const std::string& name) {
  ExecTemplates::Ptr container = TRY(templates.Get(spec.bundle_dir));
  NativeExec out;
  native::CgroupPlace place{spec.cgroup.v1_dirs, spec.cgroup.v2_dir};
  if (spec.cgroup.unified) {
    out.cgroup_dir = StrCat(spec.cgroup.v2_dir, "/", name);
    place.v2_dir = out.cgroup_dir;
  } else if (std::string* dir = FindFreezer(spec.cgroup, place.v1_dirs)) {
    *dir += StrCat("/", name);
    out.cgroup_dir = *dir;
    place.v1_stopping = MoveStoppingLast(spec.cgroup, place.v1_dirs);
  }
  native::ExecLaunch launch;
  if (native::HasProcess(*container)) {
    launch = TRY(native::WithCommand(*container, {spec.cmd, spec.terminal, std::move(place)}));
  } else {
    std::string process_json = TRY(spec.process_json());
    launch = TRY(native::CompileExec({process_json, *container, std::move(place)}));
  }
  std::string encoded = TRY(native::Encode(launch));
  out.launch = TRY(NativeLaunchFile(encoded));
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

Result<std::vector<std::string>> PrepareNativeRestore(const ContainerSpec& spec, ExecTemplates& templates,
                                                      const std::string& shim_binary, const std::string& pid_file) {
  native::Launch launch = TRY(CompileLaunch(*spec.config, spec.id, spec.bundle_dir, spec.cgroup));
  const native::CriuDirs dirs{spec.restore_images_dir, spec.bundle_dir};
  native::RestorePlan plan = TRY(native::PlanRestore(launch, dirs));
  native::ExecLaunch exec = TemplateOf(launch, *spec.config);
  exec.namespaces |= kRemadeNamespaces;
  TRY(KeepForLater(spec, launch, std::move(exec), templates));
  plan.root = CriuRoot(spec.bundle_dir);
  plan.pid_file = pid_file;
  std::vector<std::string> argv{shim_binary, "--run-in"};
  std::vector<std::string> places = spec.cgroup.v1_dirs;
  if (!spec.cgroup.v2_dir.empty()) places.push_back(spec.cgroup.v2_dir);
  for (const std::string& dir : places) argv.insert(argv.end(), {"--cgroup", dir});
  if (std::string path = native::JoinedNamespace(launch, CLONE_NEWNET); !path.empty()) {
    plan.net_namespace_fd = 3;
    argv.insert(argv.end(), {"--open", "3=" + path});
  }
  if (std::string path = native::JoinedNamespace(launch, CLONE_NEWPID); !path.empty()) {
    plan.pid_namespace_fd = 4;
    argv.insert(argv.end(), {"--open", "4=" + path});
  }
  argv.insert(argv.end(), {"--", kCriu, "restore", "--file-locks"});
  // crispd's own words to CRIU, and the node's.
  if (std::string config = spec.bundle_dir + "/criu.conf"; sys::Exists(config))
    argv.insert(argv.end(), {"--config", config});
  for (const std::vector<std::string>& words : {native::DirArgs(dirs), native::RestoreArgs(plan)}) {
    argv.insert(argv.end(), words.begin(), words.end());
  }
  native::ClearRestoreRoot(plan.root);
  TRY(native::MountRestoreRoot(launch.rootfs, plan.root));
  return argv;
}

void DoneRestoring(const std::string& bundle_dir) { native::ClearRestoreRoot(CriuRoot(bundle_dir)); }

Result<std::vector<std::string>> NativeDumpArgv(const CheckpointSpec& spec) {
  Json config = TRY(ParseJson(spec.config_json, "config.json"));
  native::Launch launch = TRY(CompileLaunch(config, spec.id, spec.bundle_dir, spec.cgroup));
  const std::string* freezer =
      spec.cgroup.unified ? &spec.cgroup.v2_dir : FindFreezer(spec.cgroup, spec.cgroup.v1_dirs);
  native::DumpPlan plan = TRY(native::PlanDump(launch, spec.pid, freezer == nullptr ? "" : *freezer));
  TRY(native::KeepDescriptors(spec.pid, spec.dirs.images));
  std::vector<std::string> argv{kCriu, "dump", "--leave-running", "--file-locks", "--manage-cgroups=soft"};
  for (const std::vector<std::string>& words :
       {native::DirArgs({spec.dirs.images, spec.dirs.work}), native::DumpArgs(plan)}) {
    argv.insert(argv.end(), words.begin(), words.end());
  }
  return argv;
}

}  // namespace crisp::runtime
