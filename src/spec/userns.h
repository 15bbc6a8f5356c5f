// User namespaces of pods (KEP-127): which maps are taken, and who can be in them. Pure; errors name the field.
#pragma once

#include <string_view>
#include <vector>

#include "spec/plan.h"

namespace crisp::spec {

// Ranges with a length, within the 32 bits of an id, that overlap on neither side.
Result<> CheckIdMappings(std::string_view field, const std::vector<IdMapping>& maps);
// A sandbox's: maps as above that have id 0 and do not reach the node's root; neither privileged nor with the node's
// PID or IPC namespace. kUnimplemented with the node's network.
Result<> CheckUserns(const SandboxSecurity& security);
// A container asks for its pod's or for nothing.
Result<> CheckContainerUserns(const SandboxSecurity& sandbox, const NamespaceOptions& container);
Result<> CheckUserInUserns(const NamespaceOptions& pod, const ResolvedUser& user);
bool HasGroup(const NamespaceOptions& pod, uint32_t gid);  // true without a user namespace
// What id 0 inside is on the node.
uint32_t HostRoot(const std::vector<IdMapping>& maps);

}  // namespace crisp::spec
