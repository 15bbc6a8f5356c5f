// Applies CDI edits to a container's config.json. Pure; any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cdi/spec.h"

namespace crisp::cdi {

// `config_json` (OCI runtime-spec) with `edits`, as Registry::Resolve gives them. An edit replaces what has the same
// name: environment variable, device path, mount target. A device node without an owner belongs to the container's
// user. kUnimplemented: network devices, which no OCI runtime of Debian 12 moves: better refused than left out in
// silence.
Result<std::string> Inject(const std::string& config_json, const std::vector<Edits>& edits);

}  // namespace crisp::cdi
