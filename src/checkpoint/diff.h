// What a container has changed in its root file system: from its overlay's upper directory to rootfs-diff.tar and
// deleted.files, as CRI-O writes them (changed files whole, deleted ones as a list).
//
// Threading: any thread. The container should be frozen: a file that changes while it is read gives kAborted.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"

namespace crisp::checkpoint {

struct Diff {
  std::vector<std::string> deleted;  // paths without leading slash, sorted
};

// Writes the tar to the new file `tar_path`. `layer_dirs`: the lower directories, bottom first; asked for what a
// directory hid that was deleted and made again. No symlink of the container is followed, no mount entered; sockets
// are left out, as tar cannot hold them.
Result<Diff> WriteDiff(const Ctx& ctx, const std::string& upper_dir, const std::vector<std::string>& layer_dirs,
                       const std::string& tar_path, uint64_t bytes_max);

// Deletes `paths` below the mounted root file system `rootfs`, resolved within it. Missing: fine.
Result<> ApplyDeleted(const Ctx& ctx, const std::string& rootfs, const std::vector<std::string>& paths);

}  // namespace crisp::checkpoint
