// The parsed form of a template. Internal to go_template*.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace crisp::ctl::go_template {

// One word of a command: a literal, ".a.b", "$x.a", a function's name, or a pipeline in parentheses with fields behind.
struct Operand;
using Command = std::vector<Operand>;
struct Pipeline {
  std::vector<std::string> variables;  // "$x := …", "$i, $e := range …"
  bool assigns = false;                // "=", not ":="
  std::vector<Command> commands;
  bool empty() const { return commands.empty(); }
};

struct Operand {
  enum class Kind { kLiteral, kNil, kDot, kVariable, kFunction, kPipeline };
  Kind kind = Kind::kLiteral;
  Json literal;
  std::string name;                 // of a variable (with $) or a function
  std::vector<std::string> fields;  // behind it
  Pipeline pipeline;
};

struct Node {
  enum class Kind { kText, kAction, kIf, kWith, kRange, kTemplate, kDefine, kBreak, kContinue };
  Kind kind = Kind::kText;
  std::string text;  // of kText; the name of kTemplate and kDefine
  Pipeline pipeline;
  std::vector<Node> body, otherwise;
};

Result<std::vector<Node>> ParseNodes(std::string_view text);

}  // namespace crisp::ctl::go_template
