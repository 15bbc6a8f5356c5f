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

  std::string PodDir(const PodId& id) const { return StrCat(Pods(), "/", id.str()); }  // shim's run dir as well
  std::string ResolvConf(const PodId& id) const { return PodDir(id) + "/resolv.conf"; }
  std::string Hosts(const PodId& id) const { return PodDir(id) + "/hosts"; }
  std::string Hostname(const PodId& id) const { return PodDir(id) + "/hostname"; }
  std::string Shm(const PodId& id) const { return PodDir(id) + "/shm"; }

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

}  // namespace crisp::pod
