// YAML in and out, as JSON documents: files that people write, and crispctl's `-o yaml`.
// Reading: one document of block or flow collections with string keys; plain scalars become null, booleans or numbers
// by YAML 1.2's core schema, quoted ones stay strings. Anchors, aliases and tags are errors: nothing can be expanded
// into something larger than the file. Any thread.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"

namespace crisp::codec {

// kInvalidArgument names `what` and the line.
Result<nlohmann::json> ParseYaml(std::string_view text, std::string_view what);

// Block style, two blanks a level, strings quoted where a reader would take them for something else.
std::string RenderYaml(const nlohmann::json& value);

}  // namespace crisp::codec
