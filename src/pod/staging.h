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
  };
  std::string dir;           // made when something is staged; a mount's place is its index
  std::vector<Work> mounts;  // as many as the request has
};

}  // namespace crisp::pod
