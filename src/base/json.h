// JSON at our borders. nlohmann's type is used as a document; parsing foreign text goes through Parse, which never
// throws and bounds size and depth. Heavy: include it in .cc files; headers use <nlohmann/json_fwd.hpp>.
//
// Reading: use the getters below, never operator[] on input. A missing or null member gives the fallback; a member of
// the wrong type is an error that names its path.
#pragma once

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace crisp {

using Json = nlohmann::json;

struct JsonLimits {
  size_t bytes_max = 4u << 20;
  int depth_max = 64;
  bool unique_members = false;  // a member that is there twice is an error: two readers could see two documents
};

// Parses one whole JSON text. kInvalidArgument names `what` and the byte offset.
Result<Json> ParseJson(std::string_view text, std::string_view what, JsonLimits limits = {});

// Compact text; invalid UTF-8 inside strings is replaced, never thrown about.
std::string DumpJson(const Json& value);

// An integer from 0 on, whatever it was made from.
bool IsNatural(const Json& value);

// Member `key` of object `object` as T (std::string, int64_t, uint64_t, bool, std::vector<std::string>,
// std::map<std::string,std::string>); `fallback` when it is absent or null.
template <class T>
Result<T> JsonGet(const Json& object, const char* key, T fallback = T());

}  // namespace crisp
