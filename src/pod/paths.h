// Where pods and containers have their files. Pure.
#pragma once

#include <string>

#include "base/ids.h"
#include "base/strings.h"

namespace crisp::pod {

// Built from validated ids only, so no path leaves the two directories (S51).
struct Paths {
  std::string root_dir;   // durable
  std::string state_dir;  // dies with the boot

  std::string Pods() const { return state_dir + "/pods"; }
  std::string Containers() const { return state_dir + "/containers"; }
  std::string ContainerRoots() const { return root_dir + "/containers"; }

  // Roots of removed containers, on their way out.
  std::string Removed() const { return root_dir + "/removed"; }
  // Directories and empty files that every container gets something mounted on.
  std::string MountPoints() const { return root_dir + "/mount-points"; }

  std::string PodDir(const PodId& id) const { return StrCat(Pods(), "/", id.str()); }  // shim's run dir as well
  std::string PodFiles(const PodId& id) const { return PodDir(id) + "/files"; }  // a small file system of its own (S53)

  std::string Bundle(const ContainerId& id) const { return StrCat(Containers(), "/", id.str()); }
  std::string Mounts(const ContainerId& id) const { return Bundle(id) + "/mounts"; }  // staged ones
  std::string ConfigJson(const ContainerId& id) const { return Bundle(id) + "/config.json"; }
  std::string Rootfs(const ContainerId& id) const { return Bundle(id) + "/rootfs"; }
  std::string ContainerRoot(const ContainerId& id) const { return StrCat(ContainerRoots(), "/", id.str()); }
  std::string Dump(const ContainerId& id) const { return ContainerRoot(id) + "/dump"; }  // while it is checkpointed
  std::string Checkpoint(const ContainerId& id) const {
    return ContainerRoot(id) + "/checkpoint";
  }  // until it is restored
  std::string Volumes(const ContainerId& id) const { return ContainerRoot(id) + "/volumes"; }
};

// What the containers of a pod get from us, in the directory `dir`: Paths::PodFiles, or Paths::PodDir in pods made by a
// crispd that gave them no file system of their own.
struct PodFilePaths {
  std::string dir;

  std::string ResolvConf() const { return dir + "/resolv.conf"; }
  std::string Hosts() const { return dir + "/hosts"; }
  std::string Hostname() const { return dir + "/hostname"; }
  // Below the others' mount, so that one unmount takes both.
  std::string Shm() const { return dir + "/shm"; }
};

}  // namespace crisp::pod
