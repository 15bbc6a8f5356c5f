// Mounts that are made before the OCI runtime runs, because it could not make them: with ids mapped, from a path that a
// user namespace does not reach, or from an image. The runtime then binds what is here.
//
// Threading: any thread. Removed by UnstageMounts alone, which is idempotent.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "rootfs/rootfs.h"

namespace crisp::rootfs {

enum class Receive { kNothing, kFromHost };  // whether mounts that appear later below the source are seen

struct StageSpec {
  sys::BorrowedFd source{-1};  // O_PATH: what was opened is what is mounted (S52)
  Idmap idmap = {};
  Receive receive = Receive::kNothing;
  std::string target;  // made here, a directory or a file like the source; its parent exists
};
// The copy never gives mounts back to where it came from: whatever is done to it, unmounting included, stays here.
// kUnimplemented: the file system's ids cannot be mapped.
Result<> StageMount(const StageSpec& spec);

struct ImageVolumeSpec {
  std::vector<std::string> layer_dirs;  // bottom first
  std::string sub_path;                 // relative; "": all of it
  Idmap idmap = {};
  std::string target;  // made here; its parent exists and is ours to work in
};
// The content of an image, read-only. The sub path is resolved inside the image only (openat2, RESOLVE_IN_ROOT), and
// what was resolved is what is mounted (S23). A sub path that is not there, or no file or directory: kNotFound.
Result<> StageImageVolume(const ImageVolumeSpec& spec);

// Takes off and removes all that was staged in `dir`, finished or not, and `dir` itself. Missing: success.
Result<> UnstageMounts(const std::string& dir);

// Whether this kernel maps ids as StageMount and PrepareRootfs need it, tried out with the file system of `dir` (where
// a temporary directory is made and removed) and `userns`. The error says what is missing.
Result<> ProbeIdmap(const std::string& dir, sys::BorrowedFd userns);

}  // namespace crisp::rootfs
