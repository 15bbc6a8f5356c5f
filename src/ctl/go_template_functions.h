// The functions that templates call. Internal to go_template*.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace crisp::ctl::go_template {

// As Go prints a value: [a b], map[k:v], <no value> for null.
std::string Show(const Json& value);
// Go's truth: not false, 0, "", null, nor empty.
bool IsTrue(const Json& value);
bool IsFunction(std::string_view name);
// Not for and and or, which do not always evaluate all of their arguments.
Result<Json> CallFunction(const std::string& name, const std::vector<Json>& arguments);

}  // namespace crisp::ctl::go_template
