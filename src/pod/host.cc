#include "pod/host.h"

#include <glob.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "base/strings.h"
#include "pod/host_paths.h"
#include "rootfs/relabel.h"
#include "rootfs/stage.h"
#include "rootfs/volume.h"
#include "sys/fd.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace crisp::pod {

namespace {

// The value of "Name:\tvalue" in /proc/self/status.
std::string StatusField(const std::string& status, std::string_view name) {
  for (std::string_view line : Split(status, '\n')) {
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ':') {
      return std::string(Trim(line.substr(name.size() + 1)));
    }
  }
  return "";
}

std::string TextOf(const std::string& path) { return sys::ReadFile(path, 1u << 20).value_or(""); }

std::vector<std::string> LoadedAppArmorProfiles() {
  std::vector<std::string> names;
  std::string text = TextOf("/sys/kernel/security/apparmor/profiles");
  for (std::string_view line : Split(text, '\n')) {
    if (size_t end = line.rfind(" ("); end != std::string_view::npos) names.emplace_back(line.substr(0, end));
  }
  return names;
}

// Masked besides the default paths: how hot a CPU gets tells what others compute (GHSA-6fw5-f8r9-fgfm).
std::vector<std::string> ThermalThrottlePaths() {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle", 0, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  globfree(&found);
  return paths;
}

class RealHost final : public Host {
 public:
  explicit RealHost(const cgroup::Cgroups& cgroups) {
    std::string status = TextOf("/proc/self/status");
    facts_.cgroup_v2 = cgroups.unified();
    facts_.systemd_cgroups = cgroups.driver() == cgroup::Driver::kSystemd;
    facts_.cgroup_controllers = cgroups.controllers();
    facts_.hugepage_sizes = cgroups.HugepageSizes();
    facts_.swap_accounting = cgroups.SwapAccounting();
    facts_.capability_bounds = ParseInt<uint64_t>(StatusField(status, "CapBnd"), 16).value_or(~uint64_t{0});
    facts_.oom_score_adj = ParseInt<int>(Trim(TextOf("/proc/self/oom_score_adj"))).value_or(0);
    facts_.masked_paths = ThermalThrottlePaths();
    facts_.seccomp = !StatusField(status, "Seccomp").empty();
    facts_.apparmor = TextOf("/sys/module/apparmor/parameters/enabled").starts_with('Y');
    facts_.selinux = sys::Exists("/sys/fs/selinux/enforce");
  }

  spec::NodeFacts Facts() override {
    spec::NodeFacts facts = facts_;
    char name[HOST_NAME_MAX + 1] = {};
    if (gethostname(name, sizeof name - 1) == 0) facts.hostname = name;
    facts.resolv_conf = TextOf("/etc/resolv.conf");
    facts.hosts = TextOf("/etc/hosts");
    if (facts.apparmor) facts.apparmor_profiles = LoadedAppArmorProfiles();
    return facts;
  }

  Result<std::string> BootId() override {
    std::string text = TRY(sys::ReadFile("/proc/sys/kernel/random/boot_id"));
    return std::string(Trim(text));
  }

  Result<> MountTmpfs(const std::string& dir, int64_t bytes, mode_t mode, const Owner& owner) override {
    TRY(sys::MakeDir(dir, 0700));
    if (TRY(sys::IsMountPoint(dir))) return {};
    return sys::MountTmpfs(dir, static_cast<uint64_t>(bytes), mode, MS_NOSUID | MS_NODEV | MS_NOEXEC, owner.uid,
                           owner.gid);
  }
  Result<> OpenForUserns(const std::string& dir, const std::vector<std::string>& parents, const Owner& owner) override {
    return pod::OpenForUserns(dir, parents, owner.gid);
  }
  Result<> GiveTo(const std::string& file, const Owner& owner) override {
    if (lchown(file.c_str(), owner.uid, owner.gid) == 0) return {};
    return Errno(errno, "chown " + file);
  }
  Result<> Unmount(const std::string& dir) override { return sys::Unmount(dir); }
  Result<> UnmountBelow(const std::string& dir) override { return sys::UnmountBelow(dir); }

  Result<> PrepareRootfs(const Ctx& ctx, const rootfs::RootfsSpec& spec) override {
    return rootfs::PrepareRootfs(ctx, spec);
  }
  Result<> UnmountRootfs(const Ctx& ctx, const std::string& container_dir, const std::string& mount_point) override {
    return rootfs::UnmountRootfs(ctx, container_dir, mount_point);
  }
  Result<rootfs::User> ResolveUser(const std::string& root, const rootfs::UserRequest& request) override {
    sys::UniqueFd fd = TRY(sys::Open(root, O_PATH | O_DIRECTORY));
    return rootfs::ResolveUser(fd, request);
  }
  Result<> CopyUpVolume(const Ctx& ctx, const std::string& root, const std::string& volume_path,
                        const std::string& host_dir) override {
    sys::UniqueFd fd = TRY(sys::Open(root, O_PATH | O_DIRECTORY));
    return rootfs::CopyUpVolume(ctx, fd, volume_path, host_dir);
  }

  Result<std::vector<spec::MountSource>> MountSources(const std::vector<spec::Mount>& mounts,
                                                      const MountStaging& staging) override {
    return FindMountSources(mounts, staging);
  }
  Result<> StageDir(const std::string& dir, const std::string& target) override {
    TRY(sys::MakeDir(target.substr(0, target.rfind('/')), 0711));
    sys::UniqueFd source = TRY(sys::Open(dir, O_PATH | O_DIRECTORY));
    return rootfs::StageMount({.source = source, .target = target});
  }
  Result<bool> Relabel(const Ctx& ctx, const spec::MountSource& source, const std::string& label) override {
    if (!rootfs::MayRelabel(source.real_path)) return false;
    sys::UniqueFd tree = TRY(sys::Open(source.path, O_PATH | O_NOFOLLOW));
    TRY(rootfs::Relabel(ctx, tree, label), source.real_path);
    return true;
  }
  Result<> Unstage(const std::string& dir) override { return rootfs::UnstageMounts(dir); }
  Result<std::vector<spec::DeviceNode>> DeviceNodes(const std::vector<spec::Device>& devices) override {
    return FindDeviceNodes(devices);
  }
  Result<std::vector<spec::DeviceNode>> AllDevices(const std::vector<std::string>& exclude) override {
    return FindAllDevices(exclude);
  }
  Result<std::optional<runtime::ContainerExit>> ReadExit(const std::string& pod_run_dir,
                                                         const ContainerId& id) override {
    return runtime::Runtime::ReadExit(pod_run_dir, id);
  }

 private:
  spec::NodeFacts facts_;  // those that do not change while we run
};

}  // namespace

std::unique_ptr<Host> Host::Real(const cgroup::Cgroups& cgroups) { return std::make_unique<RealHost>(cgroups); }

}  // namespace crisp::pod
