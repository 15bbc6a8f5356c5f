// SELinux labels on files of a volume (CRI, Mount.selinux_relabel).
#pragma once

#include <string>

#include "base/context.h"
#include "sys/fd.h"

namespace crisp::rootfs {

// Whether a volume at `path` (real, without symlinks) may get the containers' label: not the node's own directories,
// whose programs would be locked out by it (S39), nor what lies on kernel file systems.
bool MayRelabel(const std::string& path);

// Gives `label` to the file or directory `tree` (O_PATH) and all below it, without following symlinks or entering other
// mounts; devices are left alone. A file system without labels: success. Bounded by ctx.
Result<> Relabel(const Ctx& ctx, sys::BorrowedFd tree, const std::string& label);

}  // namespace crisp::rootfs
