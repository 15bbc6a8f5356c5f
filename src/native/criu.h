// Checkpoints of containers that the launcher has started, by CRIU (https://criu.org/CLI): what it is told of a
// container, and what it needs around it. Beside its images stands descriptors.json, as runc writes it: what stdio was;
// and what comes from outside has runc's names, so images of either can be restored by the other.
//
// Threading: any thread. Everything but the functions of plain values looks at the node.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "native/compile.h"
#include "native/launch.h"

namespace crisp::native {

struct CriuDirs {
  std::string images, work;  // its images; its log
};
std::vector<std::string> DirArgs(const CriuDirs& dirs);

struct DumpPlan {
  pid_t pid = 0;
  std::string rootfs;
  std::string freezer_dir;                // "" = criu stops the processes itself
  std::vector<Mount> mounts;              // of the launch: what is bound from the node is not criu's to keep
  std::vector<std::string> masked_files;  // masked_paths that are files
  // Of namespaces that others made; "" = the container's own.
  std::string net_namespace_inode, pid_namespace_inode;
};
// Of a container that runs as `pid`. kUnimplemented names what it has that is not dumped.
Result<DumpPlan> PlanDump(const Launch& launch, pid_t pid, const std::string& freezer_dir);
std::vector<std::string> DumpArgs(const DumpPlan& plan);

struct RestorePlan {
  std::string root;  // a mount point that shows the root file system
  std::string pid_file;
  std::vector<Mount> mounts;
  std::vector<std::string> masked_files;
  std::vector<std::string> cgroup_roots;  // "cpu,cpuacct:/path"; v2: "/path"
  std::vector<std::string> pipes;         // "pipe:[123]" of the descriptors 0, 1, 2 at the dump; "" = was none
  int net_namespace_fd = -1, pid_namespace_fd = -1;  // criu's, of those that the container joins
};
// criu's descriptors 0, 1 and 2 are the container's. Whoever starts it becomes the parent of the container's process.
// kUnimplemented also for hooks: CRIU makes the process, and none of them would run.
Result<RestorePlan> PlanRestore(const Launch& launch, const CriuDirs& dirs);
std::vector<std::string> RestoreArgs(const RestorePlan& plan);

std::vector<std::string> CgroupRoots(const Host& host, const std::string& kernel_path);
// The path of the namespace of this type (CLONE_NEW*) that the container joins, "" = none.
std::string JoinedNamespace(const Launch& launch, uint64_t type);

// descriptors.json.
Result<> KeepDescriptors(pid_t pid, const std::string& images);

// criu wants its root to be a private mount point: the root file system, bound at `path` for as long as it works.
Result<> MountRestoreRoot(const std::string& rootfs, const std::string& path);
// Nothing there: nothing is done.
void ClearRestoreRoot(const std::string& path);

}  // namespace crisp::native
