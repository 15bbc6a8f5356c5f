// What the reference plugins leave in iptables: the chains of one attachment, which our DEL removes as well when they
// made it. The chains shared by all attachments (CNI-HOSTPORT-…) stay, as they do there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"

namespace crisp::network {

// CNI-…, CNI-DN-… and CNI-SN-… of an attachment: 28 characters of the prefix and SHA-512 of name and id.
std::vector<std::string> ReferenceChainNames(const std::string& network, const std::string& container_id);

// The iptables-restore script that removes these chains and all that jumps to them, from `iptables-save -t nat`; ""
// when there is none of them. Pure.
std::string RemovalScript(std::string_view saved, const std::vector<std::string>& chains);

// For both families, by iptables-save and iptables-restore. A missing program means that there can be no chains.
Result<> RemoveReferenceChains(const Ctx& ctx, const std::string& network, const std::string& container_id);

}  // namespace crisp::network
