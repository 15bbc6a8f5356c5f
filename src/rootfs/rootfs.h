// Root file systems of containers: an overlay of the image's layers and a directory of the container's own.
//
// Threading: any thread; calls for one container are the caller's to serialise. Everything made here is removed by
// UnmountRootfs and whoever deletes container_dir, which is idempotent: a destructor removes nothing.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "sys/fd.h"

namespace crisp::rootfs {

// The user namespace that a container's files shall be seen from: the image's ids are those inside it, on this node
// they are what it maps them to. Nothing of the image is changed or copied (mount_setattr(2), MOUNT_ATTR_IDMAP).
struct Idmap {
  sys::BorrowedFd userns{-1};           // not valid: none
  uint32_t root_uid = 0, root_gid = 0;  // what its root is on the node
  bool on() const { return userns.get() >= 0; }
};

struct RootfsSpec {
  std::vector<std::string> layer_dirs;  // bottom first; none = an empty image
  std::string container_dir;            // on the durable root: holds upper/ and work/; made when missing, 0700
  std::string mount_point;              // made when missing
  Idmap idmap = {};
  // Below the layers, "" for none: what every container gets something mounted on, so that nobody makes it in each
  // upper directory. Not with mapped ids: it has the node's.
  std::string bottom_dir = {};
};

// Mounts the overlay; already mounted there: success. A read-only container gets an upper directory as well: OCI
// runtimes create mount targets in the root before they make it read-only.
//
// The overlay is `volatile`: neither fsync inside the container nor its unmount writes the upper directory to disk.
// That is right since a container never outlives the boot: after a power cut it is dead, its upper directory is never
// mounted again, only deleted. A process that wants its data to outlive the machine has a volume.
Result<> PrepareRootfs(const Ctx& ctx, const RootfsSpec& spec);

// Unmounts and removes mount_point; container_dir, with what was written, is then the caller's to delete. Missing
// parts: success.
Result<> UnmountRootfs(const Ctx& ctx, const std::string& container_dir, const std::string& mount_point);

// Bytes and inodes of the writable part, walked; bounded by ctx.
struct Usage {
  uint64_t bytes = 0, inodes = 0;
};
Result<Usage> WritableUsage(const Ctx& ctx, const std::string& container_dir);

// The directory that a process's writes go to.
std::string UpperDir(const std::string& container_dir);

}  // namespace crisp::rootfs
