#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>

#include "base/strings.h"
#include "cgroup/cgroup.h"
#include "cgroup/hierarchy.h"
#include "cgroup/place.h"
#include "cgroup/resources.h"
#include "cgroup/systemd.h"
#include "cgroup/tree.h"
#include "cgroup/usage_reader.h"
#include "sys/file.h"

namespace crisp::cgroup {

namespace {

constexpr std::chrono::seconds kSystemdTime{10};

// "hugepages-2048kB" → "2MB", as hugetlb.<size>.… files and CRI's HugepageLimit name it.
std::string HugepageName(std::string_view entry) {
  constexpr std::string_view kPrefix = "hugepages-", kSuffix = "kB";
  if (!entry.starts_with(kPrefix) || !entry.ends_with(kSuffix)) return "";
  auto kib = ParseInt<uint64_t>(entry.substr(kPrefix.size(), entry.size() - kPrefix.size() - kSuffix.size()));
  if (!kib || *kib == 0) return "";
  if (*kib % (1u << 20) == 0) return StrCat(*kib >> 20, "GB");
  if (*kib % (1u << 10) == 0) return StrCat(*kib >> 10, "MB");
  return StrCat(*kib, "KB");
}

std::vector<std::string> EntriesOf(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(dir, error); !error && it != std::filesystem::directory_iterator();
       it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool HasSwapFiles(const Hierarchy& memory) {
  if (!memory.v2) return sys::Exists(memory.mountpoint + "/memory.memsw.limit_in_bytes");
  // The root cgroup of v2 has no memory.swap.max; a child that has the controller tells.
  for (const std::string& name : EntriesOf(memory.mountpoint)) {
    std::string child = StrCat(memory.mountpoint, "/", name);
    if (sys::Exists(child + "/memory.max")) return sys::Exists(child + "/memory.swap.max");
  }
  // Nobody has given the controller to a child yet. A kernel with swap at all has the files, unless told otherwise at its
  // start (swapaccount=0, before Linux 6.1).
  return sys::Exists("/proc/swaps");
}

// A new cpuset cgroup of v1 is born empty and takes no process until cpus and mems are set (Documentation/admin-guide/
// cgroup-v1/cpusets.rst).
Result<> InheritCpuset(const std::string& dir, const std::string& parent) {
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    std::string own = TRY(sys::ReadFile(dir + file));
    if (!Trim(own).empty()) continue;
    std::string inherited = TRY(sys::ReadFile(parent + file));
    if (Trim(inherited).empty()) return Error(Code::kFailedPrecondition, StrCat(parent, file, " is empty"));
    TRY(sys::WriteExisting(dir + file, Trim(inherited)));
  }
  return {};
}

// Lets the children of `dir` have every controller that `dir` has. Together, and where that is refused one by one and best
// effort: a controller that cannot be given down (cpu with realtime processes, say) must not take the others with it; who
// wants to write its files reports what it misses.
void DelegateControllers(const std::string& dir) {
  std::string controllers = sys::ReadFile(dir + "/cgroup.controllers").value_or("");
  std::string all;
  for (std::string_view name : SplitWords(controllers)) all += StrCat(all.empty() ? "+" : " +", name);
  if (all.empty() || sys::WriteExisting(dir + "/cgroup.subtree_control", all)) return;
  for (std::string_view name : SplitWords(controllers)) {
    Result<> ignored = sys::WriteExisting(dir + "/cgroup.subtree_control", StrCat("+", name));
  }
}

// That it has all that the hierarchy has, or, on v1, that a process can join.
bool IsComplete(const Hierarchy& hierarchy, const std::string& dir, const std::string& parent) {
  if (!hierarchy.v2) return !hierarchy.Has("cpuset") || InheritCpuset(dir, parent).has_value();
  std::string controllers = sys::ReadFile(dir + "/cgroup.controllers").value_or("");
  return SplitWords(controllers).size() == hierarchy.controllers.size();
}

Result<> CreateIn(const Hierarchy& hierarchy, const std::string& kernel_path) {
  // Nearly always all but the last is there and in order.
  std::string whole = hierarchy.mountpoint + kernel_path;
  if (sys::MakeDir(whole, 0755) && IsComplete(hierarchy, whole, whole.substr(0, whole.rfind('/')))) return {};
  std::string dir = hierarchy.mountpoint;
  for (std::string_view part : Split(std::string_view(kernel_path).substr(1), '/')) {
    std::string parent = dir;
    dir += StrCat("/", part);
    if (hierarchy.v2) DelegateControllers(parent);
    TRY(sys::MakeDir(dir, 0755));
    if (hierarchy.Has("cpuset") && !hierarchy.v2) TRY(InheritCpuset(dir, parent));
  }
  return {};
}

// Files that may stay open for readings: six or so for each cgroup, and never more than a quarter of what we may have.
size_t DescriptorsMax() {
  constexpr size_t kDescriptorsMax = 6'000;  // a thousand containers
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kDescriptorsMax;
  return std::min<size_t>(kDescriptorsMax, limit.rlim_cur / 4);
}

class CgroupsImpl : public Cgroups {
 public:
  CgroupsImpl(Options options, Layout layout) : options_(std::move(options)), layout_(std::move(layout)) {
    ReadFacts();
    reader_ = std::make_unique<UsageReader>(layout_, hugepage_sizes_, DescriptorsMax());
  }

  void ReadFacts() {
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      controllers_.insert(controllers_.end(), hierarchy.controllers.begin(), hierarchy.controllers.end());
    }
    std::sort(controllers_.begin(), controllers_.end());
    if (const Hierarchy* memory = layout_.Find("memory")) swap_accounting_ = HasSwapFiles(*memory);
    if (!HasController("hugetlb")) return;
    for (const std::string& entry : EntriesOf(options_.hugepages_dir)) {
      if (std::string name = HugepageName(entry); !name.empty()) hugepage_sizes_.push_back(std::move(name));
    }
  }

  bool unified() const override { return layout_.unified; }
  Driver driver() const override { return options_.driver; }
  const std::vector<std::string>& controllers() const override { return controllers_; }
  bool HasController(const std::string& name) const override { return layout_.Find(name) != nullptr; }
  bool SwapAccounting() const override { return swap_accounting_; }
  std::vector<std::string> HugepageSizes() const override { return hugepage_sizes_; }

  Result<Location> Place(const std::string& parent, const std::string& name) const override {
    return PlaceFor(options_.driver, parent, name);
  }

  Result<Usage> Read(const std::string& kernel_path) const override { return reader_->Read(kernel_path); }
  Result<Details> ReadDetails(const std::string& kernel_path) const override {
    return reader_->ReadDetails(kernel_path);
  }

  // Whose cgroups may be changed.
  Result<> Check(const std::string& kernel_path) const {
    return options_.only_ours ? CheckOurs(kernel_path) : CheckClean(kernel_path);
  }

  static void AppendStandardDevices(Resources& resources) {
    if (!resources.devices) resources.devices.emplace();
    resources.devices->insert(resources.devices->end(), StandardDevices().begin(), StandardDevices().end());
  }

  Result<Resources> ParseForContainer(std::string_view resources_json) const {
    Resources resources = TRY(ParseResources(resources_json, layout_));
    AppendStandardDevices(resources);
    return resources;
  }

  bool IsSlice(const std::string& kernel_path) const {
    return options_.driver == Driver::kSystemd && kernel_path.ends_with(".slice");
  }

  Result<> Create(const std::string& kernel_path) override {
    TRY(Check(kernel_path));
    if (IsSlice(kernel_path)) TRY(StartSlice(kernel_path));
    return CreateDirectories(kernel_path);
  }

  Result<> StartSlice(const std::string& kernel_path) {
    Unit slice = TRY(UnitOf(kernel_path));
    slice.properties = UnitProperties(Resources(), layout_, true);
    Result<> started = StartUnit(Ctx().WithTimeout(kSystemdTime), slice);
    if (!started && started.error().code() != Code::kAlreadyExists) return started;
    return {};
  }

  Result<> CreateDirectories(const std::string& kernel_path) {
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      // The v2 tree of a hybrid machine carries no controller: an OCI runtime that wants its processes there makes the
      // cgroup itself (crun does, runc does not), and Remove takes it away.
      if (hierarchy.v2 && !layout_.unified && hierarchy.controllers.empty()) continue;
      TRY(CreateIn(hierarchy, kernel_path));
    }
    return {};
  }

  Result<> CreateForContainer(const std::string& kernel_path, std::string_view resources_json) override {
    Resources resources = TRY(ParseForContainer(resources_json));
    TRY(Create(kernel_path));
    return WriteResources(layout_, kernel_path, resources);
  }

  Result<> CreateScope(const Ctx& ctx, const std::string& kernel_path, std::string_view resources_json,
                       pid_t placeholder) override {
    TRY(Check(kernel_path));
    Resources resources = TRY(ParseForContainer(resources_json));
    Unit scope = TRY(UnitOf(kernel_path));
    scope.pid = placeholder;
    scope.properties = UnitProperties(resources, layout_, true);
    TRY(StartUnit(ctx, scope));
    // Hierarchies that systemd does not manage.
    TRY(CreateDirectories(kernel_path));
    return WriteResources(layout_, kernel_path, resources);
  }

  Result<> UpdateResources(const std::string& kernel_path, std::string_view resources_json) override {
    TRY(Check(kernel_path));
    Resources resources = TRY(ParseResources(resources_json, layout_));
    if (resources.devices) AppendStandardDevices(resources);
    if (options_.driver == Driver::kSystemd) TRY(TellSystemd(kernel_path, resources));
    return WriteResources(layout_, kernel_path, resources);
  }

  // Before the files are written: systemd writes what it is told a moment later, in its own units.
  Result<> TellSystemd(const std::string& kernel_path, const Resources& resources) {
    Unit unit = TRY(UnitOf(kernel_path));
    unit.properties = UnitProperties(resources, layout_, false);
    return SetUnitProperties(Ctx().WithTimeout(kSystemdTime), unit);
  }

  const Layout& layout() const override { return layout_; }

  Directories DirectoriesOf(const std::string& kernel_path) const override {
    Directories out;
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      if (!hierarchy.v2) {
        out.v1.push_back(hierarchy.mountpoint + kernel_path);
      } else if (layout_.unified || !hierarchy.controllers.empty()) {
        out.v2 = hierarchy.mountpoint + kernel_path;
      }
    }
    return out;
  }

  Result<> Freeze(const Ctx& ctx, const std::string& kernel_path, bool frozen) override {
    TRY(Check(kernel_path));
    const Hierarchy* freezer = layout_.Find("freezer");
    if (freezer != nullptr) return FreezeV1(ctx, freezer->mountpoint + kernel_path, frozen);
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      if (hierarchy.v2) return FreezeV2(ctx, hierarchy.mountpoint + kernel_path, frozen);
    }
    return Error(Code::kFailedPrecondition, "this node's cgroups cannot freeze");
  }

  Result<> SetLimits(const std::string& kernel_path, const Limits& limits) override {
    TRY(Check(kernel_path));
    Resources resources;
    resources.limits = limits;
    if (IsSlice(kernel_path)) TRY(TellSystemd(kernel_path, resources));
    return WriteLimits(layout_, kernel_path, limits);
  }

  Result<> Remove(const Ctx& ctx, const std::string& kernel_path) override {
    TRY(Check(kernel_path));
    // A slice is systemd's to remove, or it would stay as a unit.
    if (!IsSlice(kernel_path) && RemovedAtOnce(kernel_path)) return {};
    TRY(Kill(ctx, kernel_path));
    if (IsSlice(kernel_path)) {
      Unit slice = TRY(UnitOf(kernel_path));
      TRY(StopUnit(ctx, slice));
    }
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      TRY(RemoveEmptyTree(ctx, hierarchy.mountpoint + kernel_path));
    }
    return {};
  }

  Result<> Kill(const Ctx& ctx, const std::string& kernel_path) override {
    TRY(Check(kernel_path));
    const Hierarchy* freezer = layout_.Find("freezer");
    std::string freezer_dir = freezer != nullptr ? freezer->mountpoint + kernel_path : "";
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      std::string dir = hierarchy.mountpoint + kernel_path;
      if (!sys::Exists(dir)) continue;
      if (hierarchy.v2) {
        Result<> killed = KillByFile(ctx, dir);
        if (killed) continue;
        if (killed.error().code() != Code::kUnimplemented) return killed;
      }
      TRY(KillBySignals(ctx, dir, sys::Exists(freezer_dir) ? freezer_dir : ""));
    }
    return {};
  }

  Result<std::vector<pid_t>> Processes(const std::string& kernel_path) const override {
    std::vector<pid_t> all;
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      std::vector<pid_t> here = TRY(ProcessesBelow(hierarchy.mountpoint + kernel_path));
      all.insert(all.end(), here.begin(), here.end());
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

  std::vector<std::string> OomEventFiles(const std::string& kernel_path) const override {
    const Hierarchy* memory = layout_.Find("memory");
    if (memory == nullptr) return {};
    return {StrCat(memory->mountpoint, kernel_path, memory->v2 ? "/memory.events" : "/memory.oom_control")};
  }

 private:
  // What nearly always will do: nothing lives there and nothing is below, so that the kernel lets each directory go. The
  // freezer's is the last, since killing needs it.
  bool RemovedAtOnce(const std::string& kernel_path) const {
    auto remove = [&](const Hierarchy& hierarchy) {
      return rmdir((hierarchy.mountpoint + kernel_path).c_str()) == 0 || errno == ENOENT;
    };
    const Hierarchy* freezer = layout_.Find("freezer");
    for (const Hierarchy& hierarchy : layout_.hierarchies) {
      if (&hierarchy != freezer && !remove(hierarchy)) return false;
    }
    return freezer == nullptr || remove(*freezer);
  }

  const Options options_;
  const Layout layout_;
  std::vector<std::string> controllers_;
  std::vector<std::string> hugepage_sizes_;
  bool swap_accounting_ = false;
  std::unique_ptr<UsageReader> reader_;
};

}  // namespace

Result<std::unique_ptr<Cgroups>> Cgroups::Detect(const Options& options) {
  // All that the kernel has, unless some are mounted nowhere: then all mounts are looked at.
  const std::string all = sys::ReadFile(options.mounted).value_or("");
  const auto there = static_cast<size_t>(std::count(all.begin(), all.end(), '\n'));
  std::vector<sys::MountInfo> mounts;
  size_t whole = 0;
  TRY(sys::EachMountOf("cgroup", options.mountinfo, [&](sys::MountInfo mount) {
    mounts.push_back(std::move(mount));
    if (mounts.back().root != "/" || ++whole < there || there == 0) return true;
    std::vector<sys::MountInfo> roots = mounts;
    std::erase_if(roots, [](const sys::MountInfo& each) { return each.root != "/"; });
    Result<Layout> so_far = DetectLayout(roots, options.root);
    return !so_far || so_far->hierarchies.size() < there;
  }));
  Layout layout = TRY(DetectLayout(mounts, options.root));
  return std::unique_ptr<Cgroups>(std::make_unique<CgroupsImpl>(options, std::move(layout)));
}

Driver DetectDriver() {
  // sd_booted(3): this directory exists when systemd is the init system. Inside a container PID 1 is something else.
  bool booted = sys::Exists("/run/systemd/system");
  std::string init = sys::ReadFile("/proc/1/comm").value_or("");
  return booted && Trim(init) == "systemd" ? Driver::kSystemd : Driver::kCgroupfs;
}

}  // namespace crisp::cgroup
