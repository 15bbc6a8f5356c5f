// Attributes of directories that a layer has only as parents of its files ("tmp" of an archive that names just "tmp/x").
// In an overlay such a directory would hide the one below and its attributes: /tmp would lose its 1777. So it takes
// mode, owner, times and attributes from the layer below that has it.
#pragma once

#include <string>
#include <vector>

#include "base/context.h"
#include "base/result.h"

namespace crisp::image {

// `layer_root`: the layer's fs directory; `dirs` its implicit directories; `below`: fs directories of the layers below,
// bottom first. Idempotent. Paths are resolved without following any symlink.
Result<> InheritAttributes(const Ctx& ctx, const std::string& layer_root, const std::vector<std::string>& dirs,
                           const std::vector<std::string>& below);

}  // namespace crisp::image
