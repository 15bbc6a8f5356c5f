// SandboxConfig, ContainerConfig and Resources as JSON and back, for records and for comparing requests.
// Format: docs/formats/records.md. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"
#include "spec/types.h"

namespace crisp::pod {

nlohmann::json ToJson(const spec::SandboxConfig& config);
nlohmann::json ToJson(const spec::ContainerConfig& config);
nlohmann::json ToJson(const spec::Resources& resources);

// Absent members keep their defaults, unknown ones are ignored (a newer crisp wrote them). kInvalidArgument names the
// member that has the wrong type.
Result<spec::SandboxConfig> SandboxConfigFromJson(const nlohmann::json& value);
Result<spec::ContainerConfig> ContainerConfigFromJson(const nlohmann::json& value);
Result<spec::Resources> ResourcesFromJson(const nlohmann::json& value);

// Equal texts ⇔ equal requests.
std::string CanonicalText(const spec::SandboxConfig& config);
std::string CanonicalText(const spec::ContainerConfig& config);

}  // namespace crisp::pod
