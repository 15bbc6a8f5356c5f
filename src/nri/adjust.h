// Puts what plugins want into a container's config.json. Pure; any thread.
#pragma once

#include <string>

#include "base/result.h"
#include "nri/protocol.h"

namespace crisp::nri {

// `config_json` (OCI runtime-spec) as `adjustment` wants it; CDI devices are left to the caller.
// kInvalidArgument: what no OCI runtime could take (a relative mount target, an unknown hook). kUnimplemented: what
// ours cannot do (classes of block I/O and RDT, network devices, memory policies): refused rather than left out in
// silence.
Result<std::string> ApplyAdjustment(const std::string& config_json, const v1::ContainerAdjustment& adjustment);

}  // namespace crisp::nri
