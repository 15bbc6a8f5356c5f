// OCI hooks (runtime-spec config.md#posix-platform-hooks). In the children; internal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/context.h"
#include "native/launch.h"

namespace crisp::native {

std::string JsonString(std::string_view text);  // with its quotes
// The state that a hook gets on its stdin (runtime.md#state).
std::string StateJson(const Launch& launch, const char* status, pid_t pid);
// One after the other; the first that fails or takes too long ends it. `kind`: for the error. Blocking.
Result<> RunHooks(const std::vector<Hook>& hooks, const char* kind, const std::string& state, const Ctx& ctx = Ctx());

}  // namespace crisp::native
