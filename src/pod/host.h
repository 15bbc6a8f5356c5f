// Host: what pods need of the node besides the other modules: mounts, files, devices, facts. The seam to the kernel; the
// tests of workflows have another one made of plain files (testing/).
//
// Threading: any thread. All removals are idempotent.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/context.h"
#include "cgroup/cgroup.h"
#include "rootfs/rootfs.h"
#include "rootfs/user.h"
#include "runtime/runtime.h"
#include "spec/plan.h"

namespace crisp::pod {

class Host {
 public:
  // `cgroups` outlives the host.
  static std::unique_ptr<Host> Real(const cgroup::Cgroups& cgroups);
  virtual ~Host() = default;

  // Facts of the node. resolv.conf and hosts are read anew each time: a node's DNS changes while it runs.
  virtual spec::NodeFacts Facts() = 0;
  // The kernel's /proc/sys/kernel/random/boot_id.
  virtual Result<std::string> BootId() = 0;

  // A tmpfs of `bytes`, mode 1777. Mounted already: success.
  virtual Result<> MountShm(const std::string& dir, int64_t bytes) = 0;
  // Whatever is mounted on `dir`, with all below it; nothing mounted or no directory: success.
  virtual Result<> Unmount(const std::string& dir) = 0;
  // Whatever is mounted anywhere below `dir`: reads all of the mount table, for leftovers only.
  virtual Result<> UnmountBelow(const std::string& dir) = 0;

  virtual Result<> PrepareRootfs(const Ctx& ctx, const rootfs::RootfsSpec& spec) = 0;
  virtual Result<> RemoveRootfs(const Ctx& ctx, const std::string& container_dir, const std::string& mount_point) = 0;
  virtual Result<rootfs::User> ResolveUser(const std::string& root, const rootfs::UserRequest& request) = 0;
  virtual Result<> CopyUpVolume(const Ctx& ctx, const std::string& root, const std::string& volume_path,
                                const std::string& host_dir) = 0;

  // Each host path opened once and taken for what it is then (S52); missing ones become directories, 0755, as with
  // other runtimes. Image mounts give an empty source.
  virtual Result<std::vector<spec::MountSource>> MountSources(const std::vector<spec::Mount>& mounts) = 0;
  // Device nodes of a request; a directory gives all devices below it.
  virtual Result<std::vector<spec::DeviceNode>> DeviceNodes(const std::vector<spec::Device>& devices) = 0;
  // All of /dev except the terminals and what is below `exclude`.
  virtual Result<std::vector<spec::DeviceNode>> AllDevices(const std::vector<std::string>& exclude) = 0;

  // runtime::Runtime::ReadExit
  virtual Result<std::optional<runtime::ContainerExit>> ReadExit(const std::string& pod_run_dir, const ContainerId& id) = 0;
};

}  // namespace crisp::pod
