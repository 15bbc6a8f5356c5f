// What CRI and NRI messages look like, read at run time from descriptor sets that protoc made of api/*.proto: so
// neither specs nor clients include generated code, and a message is a JSON document with the protocol's own names.
//
// Documents: fields by their proto names, 64-bit numbers as numbers, enumerators by name, bytes as raw strings, maps as
// objects. Read from the wire every scalar, list and map is there; a message only when it was sent.
// Threading: any thread after construction.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace crisp::conformance {

struct Method {
  std::string path;  // "/runtime.v1.RuntimeService/Version"
  std::string input, output;
  bool image_service = false;
  bool streaming = false;
};

class Schema {
 public:
  static const Schema& Get();

  // kInvalidArgument names a field that the message does not have, or a value of the wrong kind.
  Result<std::string> Encode(const std::string& type, const Json& value) const;
  Result<Json> Decode(const std::string& type, std::string_view bytes) const;
  const Method* FindMethod(std::string_view name) const;  // "Version"
  const Method* FindMethodByPath(std::string_view path) const;
  const std::vector<Method>& methods() const { return methods_; }

 private:
  Schema();
  struct Pool;
  std::shared_ptr<Pool> pool_;
  std::vector<Method> methods_;
};

}  // namespace crisp::conformance
