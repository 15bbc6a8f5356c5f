// What a request must look like before anything is done for it (security matrix S51). Pure. All errors are
// kInvalidArgument and name the field.
#pragma once

#include <string>

#include "base/result.h"
#include "spec/types.h"

namespace crisp::pod {

Result<> CheckSandboxConfig(const spec::SandboxConfig& config);
Result<> CheckContainerConfig(const spec::ContainerConfig& config);

// log_directory + log_path; "" when one of them is empty. A log path is relative and has no "..".
Result<std::string> LogPath(const spec::SandboxConfig& sandbox, const spec::ContainerConfig& config);

}  // namespace crisp::pod
