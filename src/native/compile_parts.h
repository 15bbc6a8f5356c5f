// The parts of Compile, one for each section of config.json. Internal.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/strings.h"
#include "native/compile.h"

namespace crisp::native {

// A member of the configuration and where it stands, for errors. Missing members read as nothing.
class Node {
 public:
  Node(const Json* json, std::string path) : json_(json), path_(std::move(path)) {}
  bool there() const { return json_ != nullptr && !json_->is_null(); }
  const std::string& path() const { return path_; }
  const Json& json() const { return *json_; }  // only when there()

  // An object's member; kInvalidArgument when this is something else.
  Result<Node> Member(const char* key) const;
  // A list's elements; nothing when it is missing.
  Result<std::vector<Node>> Items() const;
  // As JsonGet, with this node's path in the error.
  template <class T>
  Result<T> Get(const char* key, T fallback = T()) const {
    if (!there()) return fallback;
    TRY(CheckObject());
    return TRY(JsonGet<T>(*json_, key, std::move(fallback)), path_);
  }
  Error Wrong(const std::string& what) const { return Error(Code::kInvalidArgument, StrCat(path_, ": ", what)); }
  Error Unsupported(const std::string& what) const { return Error(Code::kUnimplemented, StrCat(path_, ": ", what)); }

 private:
  Result<> CheckObject() const {
    return !there() || json_->is_object() ? Result<>() : Result<>(Wrong("is not an object"));
  }
  const Json* json_;
  std::string path_;
};

// A number that has to fit into 32 bits.
Result<uint32_t> GetUint32(const Node& node, const char* key, uint32_t fallback = 0);

Result<std::vector<IdMapping>> CompileIdMappings(const Node& list);
Result<> CompileNamespaces(const Node& linux_node, Launch& out);
Result<> CompileMounts(const Node& config, const CompileInput& input, Launch& out);
Result<> CompileDevices(const Node& linux_node, Launch& out);
Result<> CompileSysctls(const Node& linux_node, Launch& out);
Result<> CompileHooks(const Node& config, Launch& out);
Result<> CompileProcess(const Node& process, Process& out);

}  // namespace crisp::native
