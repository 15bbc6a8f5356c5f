// What criu (https://criu.org/CLI) is told of a container: its command lines. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cgroup/hierarchy.h"
#include "native/launch.h"
#include "ocicli/flags.h"

namespace crisp::ocicli {

// The flags that checkpoint and restore share with criu, as criu calls them.
std::vector<std::string> SharedCriuArgs(const Flags& flags, const std::string& images_dir, const std::string& work_dir);

struct DumpPlan {
  pid_t pid = 0;
  std::string rootfs;
  std::string freezer_dir;                // "" = criu stops the processes itself
  std::vector<native::Mount> mounts;      // of the launch: what is bound from the node is not criu's to keep
  std::vector<std::string> masked_files;  // masked_paths that are files
  std::string net_namespace_inode;        // of a network namespace that others made; "" = the container's own
};
std::vector<std::string> DumpArgs(const Flags& flags, const DumpPlan& plan, const std::string& images_dir, const std::string& work_dir);

struct RestorePlan {
  std::string root;  // a mount point that shows the root file system
  std::string pid_file;
  std::vector<native::Mount> mounts;
  std::vector<std::string> masked_files;
  std::vector<std::string> cgroup_roots;        // "cpu,cpuacct:/path"; v2: "/path"
  std::vector<std::string> pipes;               // "pipe:[123]" of the descriptors 0, 1, 2 at the dump; "" = was none
  int net_namespace_fd = -1;
};
std::vector<std::string> RestoreArgs(const Flags& flags, const RestorePlan& plan, const std::string& images_dir, const std::string& work_dir);

std::vector<std::string> CgroupRoots(const cgroup::Layout& layout, const std::string& kernel_path);

}  // namespace crisp::ocicli
