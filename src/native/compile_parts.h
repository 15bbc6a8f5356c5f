// The parts of Compile, one for each section of config.json. Internal.
#pragma once

#include <algorithm>
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
  // The elements of a member that is a list; nothing when it is missing.
  Result<std::vector<Node>> Items(const char* key) const;
  // As JsonGet, with this node's path in the error. No text holds a zero byte: for the kernel it would end there, and
  // what was checked would be something else than what is done.
  template <class T>
  Result<T> Get(const char* key, T fallback = T()) const {
    if (!there()) return fallback;
    TRY(CheckObject());
    T value = TRY(JsonGet<T>(*json_, key, std::move(fallback)), path_);
    if (HasZeroByte(value)) return Wrong(StrCat(key, " holds a zero byte"));
    return value;
  }
  Error Wrong(const std::string& what) const { return Error(Code::kInvalidArgument, StrCat(path_, ": ", what)); }
  Error Unsupported(const std::string& what) const { return Error(Code::kUnimplemented, StrCat(path_, ": ", what)); }

 private:
  static bool HasZeroByte(const std::string& text) { return text.find('\0') != std::string::npos; }
  static bool HasZeroByte(const std::vector<std::string>& list) {
    return std::any_of(list.begin(), list.end(), [](const std::string& text) { return HasZeroByte(text); });
  }
  static bool HasZeroByte(uint64_t) { return false; }
  Result<> CheckObject() const {
    return !there() || json_->is_object() ? Result<>() : Result<>(Wrong("is not an object"));
  }
  const Json* json_;
  std::string path_;
};

// A number that has to fit into 32 bits, unsigned or not.
Result<uint32_t> GetUint32(const Node& node, const char* key, uint32_t fallback = 0);
Result<int32_t> GetInt32(const Node& node, const char* key);
// "0-3,7" as a mask, bit 0 of byte 0 = 0.
Result<std::string> GetNumberMask(const Node& node, const char* key);

// Without ".", "..", doubled and trailing slashes; absolute.
std::string CleanPath(const std::string& path);
// Whether the container is in a namespace of `type` that is not simply the node's.
bool HasNamespace(const Launch& launch, uint64_t type);

Result<std::vector<IdMapping>> CompileIdMappings(const Node& node, const char* key);
Result<> CompileNamespaces(const Node& linux_node, Launch& out);
Result<> CompileMounts(const Node& config, const CompileInput& input, Launch& out);
Result<> CompileDevices(const Node& linux_node, Launch& out);
Result<> CompileSysctls(const Node& linux_node, Launch& out);
Result<> CompileHooks(const Node& config, Launch& out);
// linux.personality and linux.memoryPolicy.
Result<> CompileExecution(const Node& linux_node, Process& out);
enum class ProcessRole { kInit, kFurther };
Result<> CompileProcess(const Node& process, ProcessRole role, Process& out);

// linux.seccomp.syscalls, as far as it matters for NewSyscallsProgram.
struct SeccompRule {
  std::vector<std::string> names;
  uint32_t action = 0;       // SCMP_ACT_*
  bool conditional = false;  // has args
};
// What comes before libseccomp's program (struct sock_filter[], "" = nothing), which continues behind it.
// `architectures`: SCMP_ARCH_*.
std::string NewSyscallsProgram(const std::vector<uint32_t>& architectures, const std::vector<SeccompRule>& rules,
                               uint32_t default_action);

}  // namespace crisp::native
