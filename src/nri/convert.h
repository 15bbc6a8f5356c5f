// Our pods and containers as NRI's messages, and OCI resources there and back. Pure; any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "nri/protocol.h"
#include "pod/manager.h"

namespace crisp::nri {

v1::PodSandbox ToNri(const pod::SandboxStatus& pod);
// `config_json`: the container's config.json, "" or damaged: the request is what we know.
v1::Container ToNri(const pod::ContainerStatus& container, const std::string& config_json);

v1::LinuxResources ToNri(const spec::Resources& resources);
// `resources`: OCI linux.resources.
v1::LinuxResources ResourcesToNri(const nlohmann::json& resources);
// The way back. kUnimplemented names what no OCI runtime of ours does: classes of block I/O and of RDT.
Result<nlohmann::json> ResourcesToOci(const v1::LinuxResources& resources);

}  // namespace crisp::nri
