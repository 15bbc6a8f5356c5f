// Layers put together to an overlay, seen through a user namespace where one is given. Internal to the module.
#pragma once

#include <string>

#include "rootfs/rootfs.h"
#include "sys/mount.h"

namespace crisp::rootfs {

// Mounts `overlay` on `target`. With `idmap` its lower directories are replaced by id-mapped copies of their mounts
// (Documentation/filesystems/overlayfs.rst; overlayfs itself cannot be mapped). `scratch`: a directory for
// those copies that is made and removed here, on kernels that take no detached mount for a layer; DetachLayers undoes
// a call that was interrupted.
// `bottom`, where not empty, is one more directory below them, which is not mapped.
Result<> MountLayers(sys::OverlaySpec overlay, const Idmap& idmap, const std::string& scratch,
                     const std::string& target, const std::string& bottom = "");
Result<> DetachLayers(const std::string& scratch);

}  // namespace crisp::rootfs
