// Resource limits as an administrator writes them: "nofile=1024:524288", the form of docker's --ulimit and CRI-O's
// default_ulimits. Names are setrlimit(2)'s in lower case without RLIMIT_; a single number is both limits; -1 is none.
#pragma once

#include <string_view>

#include "base/result.h"
#include "spec/plan.h"

namespace crisp::spec {

// kInvalidArgument says what is wrong with the text.
Result<Rlimit> ParseRlimit(std::string_view text);

}  // namespace crisp::spec
