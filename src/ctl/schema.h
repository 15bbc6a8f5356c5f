// JSON schemas of the files that runp, create, run and pull read, made from CRI's own descriptors, so that editors can
// check and complete such files.
#pragma once

#include <string_view>

#include <google/protobuf/descriptor.h>
#include <nlohmann/json_fwd.hpp>

namespace crisp::ctl {

// JSON Schema 2020-12 of `type` and of what it is made of, by the names of CRI's API file, in crictl's form: integers
// are numbers, enums names or numbers, bytes plain text, fields that do not exist an error. Pure; any thread.
nlohmann::json SchemaOf(const google::protobuf::Descriptor& type, std::string_view id);

}  // namespace crisp::ctl
