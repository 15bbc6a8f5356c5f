// Host: what pods need of the node besides the other modules: mounts, files, devices, facts. The seam to the kernel;
// the tests of workflows have another one made of plain files (testing/).
//
// Threading: any thread. All removals are idempotent.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "cgroup/cgroup.h"
#include "pod/staging.h"
#include "rootfs/rootfs.h"
#include "rootfs/user.h"
#include "runtime/runtime.h"
#include "spec/plan.h"

namespace crisp::pod {

// The pod's root on the node.
struct Owner {
  uint32_t uid = 0, gid = 0;
};

class Host {
 public:
  // `cgroups` outlives the host.
  static std::unique_ptr<Host> Real(const cgroup::Cgroups& cgroups);
  virtual ~Host() = default;

  // Facts of the node. resolv.conf and hosts are read anew each time: a node's DNS changes while it runs.
  virtual spec::NodeFacts Facts() = 0;
  // The kernel's /proc/sys/kernel/random/boot_id.
  virtual Result<std::string> BootId() = 0;

  // A tmpfs of `bytes` on `dir`, made when missing, of the pod's root. Mounted already: success.
  virtual Result<> MountTmpfs(const std::string& dir, int64_t bytes, mode_t mode, const Owner& owner) = 0;
  // Lets the root of a user namespace, and of the node's other users nobody, go through the directory `dir` and whoever
  // likes through `parents`, those of our own above it (S50: only where a user namespace needs it).
  // kFailedPrecondition: something above them is closed.
  virtual Result<> OpenForUserns(const std::string& dir, const std::vector<std::string>& parents,
                                 const Owner& owner) = 0;
  // Gives a new file of ours to the pod's root.
  virtual Result<> GiveTo(const std::string& file, const Owner& owner) = 0;
  // Whatever is mounted on `dir`, with all below it; nothing mounted or no directory: success.
  virtual Result<> Unmount(const std::string& dir) = 0;
  // Whatever is mounted anywhere below `dir`: reads all of the mount table, for leftovers only.
  virtual Result<> UnmountBelow(const std::string& dir) = 0;

  virtual Result<> PrepareRootfs(const Ctx& ctx, const rootfs::RootfsSpec& spec) = 0;
  virtual Result<> UnmountRootfs(const Ctx& ctx, const std::string& container_dir, const std::string& mount_point) = 0;
  virtual Result<rootfs::User> ResolveUser(const std::string& root, const rootfs::UserRequest& request) = 0;
  virtual Result<> CopyUpVolume(const Ctx& ctx, const std::string& root, const std::string& volume_path,
                                const std::string& host_dir) = 0;

  // Each host path opened once and taken for what it is then (S52); missing ones become directories, 0755, as with
  // other runtimes. What `staging` asks for is staged, and its source is the staged mount; an image's error begins with
  // "ImageVolumeMountFailed: ".
  virtual Result<std::vector<spec::MountSource>> MountSources(const std::vector<spec::Mount>& mounts,
                                                              const MountStaging& staging) = 0;
  // A directory of ours, staged at `target`, whose parent is made when missing.
  virtual Result<> StageDir(const std::string& dir, const std::string& target) = 0;
  // Gives all of a mount's source a SELinux label; false: it is the node's own and was left alone.
  virtual Result<bool> Relabel(const Ctx& ctx, const spec::MountSource& source, const std::string& label) = 0;
  // Takes away all that was staged in `dir`.
  virtual Result<> Unstage(const std::string& dir) = 0;
  // Device nodes of a request; a directory gives all devices below it.
  virtual Result<std::vector<spec::DeviceNode>> DeviceNodes(const std::vector<spec::Device>& devices) = 0;
  // All of /dev except the terminals and what is below `exclude`.
  virtual Result<std::vector<spec::DeviceNode>> AllDevices(const std::vector<std::string>& exclude) = 0;

  // runtime::Runtime::ReadExit
  virtual Result<std::optional<runtime::ContainerExit>> ReadExit(const std::string& pod_run_dir,
                                                                 const ContainerId& id) = 0;
};

}  // namespace crisp::pod
