// Volumes that an image declares (VOLUME): a directory of the container on the node, filled with what the image has at
// that place.
#pragma once

#include <string>

#include "base/context.h"
#include "sys/fd.h"

namespace crisp::rootfs {

// Copies the directory `volume_path`, resolved inside `root` (S20: no symlink or ".." leads out), with owners, modes,
// times, extended attributes, hard links, symlinks as they are, pipes and device nodes into the existing empty
// directory `host_dir`, whose own mode and owner become those of the source. Nothing there, or no directory there:
// host_dir stays empty. Bounded by ctx.
Result<> CopyUpVolume(const Ctx& ctx, sys::BorrowedFd root, const std::string& volume_path,
                      const std::string& host_dir);

// A name for the host directory of a volume: unique for the path, without '/'.
std::string VolumeDirName(const std::string& volume_path);

}  // namespace crisp::rootfs
