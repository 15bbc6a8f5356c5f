// Mounts of a container that are made before its OCI runtime runs (rootfs/stage.h): of images, with mapped ids, and all
// of a pod with a user namespace, whose runtime may not reach the node's paths. Values; descriptors are shared, since a
// thread that waits for a dead path may outlive the call (bounded.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sys/fd.h"

namespace crisp::pod {

struct MountStaging {
  struct ImageContent {
    std::vector<std::string> layer_dirs;
  };
  struct Work {
    std::optional<ImageContent> image;            // instead of a host path
    std::shared_ptr<const sys::UniqueFd> userns;  // nullptr: ids as they are
    bool stage = false;
    bool against_swaps = false;  // staged also without another reason, unless it holds one of `ours`
  };
  std::string dir;           // made when something is staged; a mount's place is its index
  std::vector<Work> mounts;  // as many as the request has
  // Real paths of crisp's directories with mounts in them: each copy of those would be in the next copy.
  std::vector<std::string> ours;
};

}  // namespace crisp::pod
