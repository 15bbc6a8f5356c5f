// What a proxy does to CRI calls, so that a spec has something to find. As text, several separated by "; ":
//   RPC:fail[=CODE]      the runtime is not asked; an error (INTERNAL)
//   RPC:noop             the runtime is not asked; an empty success
//   RPC:swallow          the runtime is asked; its error becomes an empty success
//   RPC:late=MS          the reply comes that much later
//   RPC:stale            every reply is the first one's
//   RPC:lose[=TEXT]      replies of a stream that hold TEXT do not arrive
//   RPC:PATH=VALUE       a wrong value in the reply;  RPC:-PATH  a missing field
//   RPC<PATH=VALUE       a wrong value in the request: the runtime does something else;  RPC<-PATH  it ignores the
//   field
// PATH: names and list indices separated by dots; "*" is every element. VALUE: JSON, or else a plain string.
// Pure. Threading: a Fault is one call at a time's; the proxy locks.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace crisp::conformance {

struct Fault {
  enum class Kind { kFail, kNoop, kSwallow, kLate, kStale, kLose, kReply, kRequest };
  std::string rpc;
  Kind kind = Kind::kFail;
  std::string path;           // kReply, kRequest
  std::optional<Json> value;  // none: the field goes missing
  std::string text;           // code, milliseconds, or what is lost
};

Result<std::vector<Fault>> ParseFaults(std::string_view text);

// Changes what `fault.path` names; true when there was something to change.
bool Apply(const Fault& fault, Json& document);

}  // namespace crisp::conformance
