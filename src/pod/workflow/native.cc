// Containers of the native handler: their cgroup is made, limited and described here.
#include "base/beside.h"
#include "base/failpoint.h"
#include "base/json.h"
#include "base/strings.h"
#include "pod/manager_impl.h"
#include "sys/file.h"

namespace crisp::pod {

runtime::NativeCgroup ManagerImpl::NativeCgroupOf(const ContainerRecord& record) const {
  runtime::NativeCgroup out;
  cgroup::Cgroups::Directories dirs = deps_.cgroups.DirectoriesOf(record.cgroup_path);
  out.v1_dirs = std::move(dirs.v1);
  out.v2_dir = std::move(dirs.v2);
  const cgroup::Layout& layout = deps_.cgroups.layout();
  out.unified = layout.unified;
  for (const cgroup::Hierarchy& hierarchy : layout.hierarchies) {
    std::string controllers = hierarchy.name.empty() ? "" : "name=" + hierarchy.name;
    if (!hierarchy.v2) {
      for (const std::string& each : hierarchy.controllers) controllers += StrCat(controllers.empty() ? "" : ",", each);
    }
    out.hierarchies.push_back({std::move(controllers), hierarchy.mountpoint});
  }
  return out;
}

bool ManagerImpl::MakesCgroupAhead(const ContainerRecord& record) const {
  return deps_.runtime.IsNative(record.handler) && deps_.cgroups.driver() == cgroup::Driver::kCgroupfs;
}

// On cgroup v1 a container has a directory in each of a dozen hierarchies: made and limited while the root file system
// is made, they cost no time. What goes wrong is tried again by what is done ahead of the start, or else by the start.
GoingOn<std::string> ManagerImpl::MakeCgroupAhead(const PodRecord& sandbox, ContainerEntry& container,
                                                  std::shared_ptr<const NodeFacts> facts) {
  const ContainerRecord record = *container.record.Lock();
  if (!MakesCgroupAhead(record)) return {};
  auto in = std::make_shared<ContainerInputs>();
  in->sandbox = sandbox.config;
  in->config = record.config;
  auto make = [this, in, facts = std::move(facts), path = record.cgroup_path]() -> Result<std::string> {
    in->devices = TRY(host_->DeviceNodes(in->config.devices));
    std::string resources = TRY(spec::PlanCgroup(*in, *facts, options_.policy));
    TRY(deps_.cgroups.CreateForContainer(path, resources));
    return resources;
  };
  return Beside(beside_, [make = std::move(make)] { return make().value_or(std::string()); });
}

static const Json& ResourcesOf(const Json& config) {
  static const Json kNone;
  auto platform = config.find("linux");
  if (platform == config.end()) return kNone;
  auto resources = platform->find("resources");
  return resources == platform->end() ? kNone : *resources;
}

// Of a container that was never started; for one that was CleanRuntimeState does it. Whatever the settings are now: it
// may be from before a restart with others.
Result<> ManagerImpl::RemoveCgroupAhead(const Ctx& ctx, const ContainerRecord& record) {
  if (record.start_asked_at != 0 || record.cgroup_path.empty()) return {};
  return deps_.cgroups.Remove(ctx, record.cgroup_path);
}

// The kubelet starts a container as soon as it is created. What is wrong with the configuration, or with the cgroup's
// limits, the start finds and tells itself.
Result<std::shared_ptr<StartAhead>> ManagerImpl::PlanStartAhead(const Ctx& ctx, const ContainerRecord& record,
                                                                std::shared_ptr<const Json> config,
                                                                const std::string& limits) {
  if (!MakesCgroupAhead(record)) return std::shared_ptr<StartAhead>();
  std::string resources = DumpJson(ResourcesOf(*config));
  const bool limited = resources == limits;
  // Plugins or devices have changed them, or some could not be set: what these do not name would stay.
  if (!limited) TRY(RemoveCgroupAhead(ctx, record));
  if (record.restore) return std::shared_ptr<StartAhead>();
  return std::make_shared<StartAhead>([this, record, limited, resources = std::move(resources),
                                       config = std::move(config)]() mutable -> runtime::PreparedStart {
    runtime::ContainerSpec spec;
    spec.id = record.id;
    spec.handler = record.handler;
    spec.bundle_dir = paths_.Bundle(record.id);
    spec.terminal = record.config.tty;
    spec.stdin_open = record.config.stdin_open;
    spec.config = std::move(config);
    spec.cgroup = NativeCgroupOf(record);
    auto limit = [&] { return deps_.cgroups.CreateForContainer(record.cgroup_path, resources); };
    // A process that is begun makes its devices by the cgroup's rules.
    GoingOn<Result<>> limiting = limited ? GoingOn<Result<>>() : Beside(beside_, limit);
    return deps_.runtime.PrepareStart(record.pod, spec, [&] { return limited ? Result<>() : limiting.Take(); })
        .value_or(runtime::PreparedStart());
  });
}

// Whether the runtime is likely to begin what it prepares. It decides itself (native::Head::may_wait); where it does not,
// the preparation need not keep the caller waiting.
bool ManagerImpl::MayBegin(const PodRecord& sandbox, const ContainerConfig& config) {
  return config.security.namespaces.pid == NamespaceMode::kContainer &&
         !sandbox.config.security.namespaces.userns_pod;
}

Result<std::unique_ptr<sys::IdleProcess>> ManagerImpl::PrepareNative(const Ctx& ctx, const ContainerRecord& record,
                                                                     const std::string& config_json,
                                                                     runtime::ContainerSpec& spec) {
  std::unique_ptr<sys::IdleProcess> placeholder;
  Json config = TRY(ParseJson(config_json, "config.json"));
  std::string resources = DumpJson(ResourcesOf(config));
  spec.config = std::make_shared<const Json>(std::move(config));
  if (deps_.cgroups.driver() == cgroup::Driver::kSystemd) {
    placeholder = TRY(deps_.runtime.MakeIdle());
    TRY(deps_.cgroups.CreateScope(ctx, record.cgroup_path, resources, placeholder->pid()), "scope");
  } else {
    TRY(deps_.cgroups.CreateForContainer(record.cgroup_path, resources), "cgroup");
  }
  spec.cgroup = NativeCgroupOf(record);
  return placeholder;
}

Result<> ManagerImpl::SetPaused(const Ctx& ctx, const ContainerRecord& record, bool paused) {
  if (!deps_.runtime.IsNative(record.handler)) {
    return paused ? deps_.runtime.PauseContainer(ctx, record.id, record.handler)
                  : deps_.runtime.ResumeContainer(ctx, record.id, record.handler);
  }
  ctx.Stage(paused ? "pause the container" : "resume the container");
  return deps_.cgroups.Freeze(ctx, record.cgroup_path, paused);
}

Result<runtime::ExecSpec> ManagerImpl::MakeExecSpec(const ContainerRecord& record, const std::vector<std::string>& cmd,
                                                    bool terminal) const {
  TRY(CheckCommand(cmd));
  runtime::ExecSpec spec;
  spec.cmd = cmd;
  spec.terminal = terminal;
  spec.process_json = [path = paths_.ConfigJson(record.id), cmd, terminal]() -> Result<std::string> {
    return PlanExec(TRY(sys::ReadFile(path)), cmd, terminal);
  };
  if (!deps_.runtime.IsNative(record.handler)) return spec;
  spec.bundle_dir = paths_.Bundle(record.id);
  spec.cgroup = NativeCgroupOf(record);
  return spec;
}

}  // namespace crisp::pod
