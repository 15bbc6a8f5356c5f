#include "ctl/go_template.h"

#include <map>

#include "base/strings.h"
#include "ctl/go_template_functions.h"
#include "ctl/go_template_nodes.h"

namespace crisp::ctl {

using go_template::Command;
using go_template::Node;
using go_template::Operand;
using go_template::Pipeline;

namespace {

constexpr int kCallsMax = 100;  // of templates inside templates
constexpr size_t kOutputBytesMax = 64u << 20;

Error Bad(std::string_view what) { return Error(Code::kFailedPrecondition, StrCat("template: ", what)); }

// What a name stands for; an inner one hides an outer one.
class Scope {
 public:
  explicit Scope(Json root) { variables_.emplace_back("$", std::move(root)); }
  size_t mark() const { return variables_.size(); }
  void Drop(size_t mark) { variables_.erase(variables_.begin() + static_cast<ptrdiff_t>(mark), variables_.end()); }
  void Declare(const std::string& name, Json value) { variables_.emplace_back(name, std::move(value)); }
  Json* Find(const std::string& name) {
    for (auto it = variables_.rbegin(); it != variables_.rend(); ++it) {
      if (it->first == name) return &it->second;
    }
    return nullptr;
  }

 private:
  std::vector<std::pair<std::string, Json>> variables_;
};

enum class Flow { kGoOn, kBreak, kContinue };

class Execution {
 public:
  explicit Execution(const std::map<std::string, const Node*>& defined) : defined_(defined) {}

  Result<Flow> Run(const std::vector<Node>& nodes, const Json& dot, Scope& scope) {
    for (const Node& node : nodes) {
      Flow flow = TRY(RunOne(node, dot, scope));
      if (flow != Flow::kGoOn) return flow;
    }
    return Flow::kGoOn;
  }

  std::string output;

 private:
  Result<Flow> RunOne(const Node& node, const Json& dot, Scope& scope) {
    switch (node.kind) {
      case Node::Kind::kText: output += node.text; break;
      case Node::Kind::kAction: {
        Json value = TRY(Evaluate(node.pipeline, dot, scope));
        if (node.pipeline.variables.empty()) output += go_template::Show(value);
        break;
      }
      case Node::Kind::kIf:
      case Node::Kind::kWith: return RunBranch(node, dot, scope);
      case Node::Kind::kRange: return RunRange(node, dot, scope);
      case Node::Kind::kTemplate: TRY(RunTemplate(node, dot, scope)); break;
      case Node::Kind::kDefine: break;
      case Node::Kind::kBreak: return Flow::kBreak;
      case Node::Kind::kContinue: return Flow::kContinue;
    }
    if (output.size() > kOutputBytesMax) return Bad("the output is too long");
    return Flow::kGoOn;
  }

  Result<Flow> RunBranch(const Node& node, const Json& dot, Scope& scope) {
    size_t mark = scope.mark();
    Json value = TRY(Evaluate(node.pipeline, dot, scope));
    bool yes = go_template::IsTrue(value);
    const Json& inner = yes && node.kind == Node::Kind::kWith ? value : dot;
    auto flow = Run(yes ? node.body : node.otherwise, inner, scope);
    scope.Drop(mark);
    return flow;
  }

  // One round; `key` is a list's index or a map's key.
  Result<Flow> Round(const Node& node, const Json& key, const Json& item, Scope& scope) {
    const auto& names = node.pipeline.variables;
    size_t mark = scope.mark();
    if (names.size() == 1) scope.Declare(names[0], item);
    if (names.size() == 2) {
      scope.Declare(names[0], key);
      scope.Declare(names[1], item);
    }
    auto flow = Run(node.body, item, scope);
    scope.Drop(mark);
    return flow;
  }

  Result<Flow> RunRange(const Node& node, const Json& dot, Scope& scope) {
    Pipeline plain = node.pipeline;
    plain.variables.clear();  // they are the rounds' own
    Json value = TRY(Evaluate(plain, dot, scope));
    if (!value.is_structured() && !value.is_null()) {
      return Bad(StrCat("range over ", Quote(go_template::Show(value), 60)));
    }
    if (value.empty()) return Run(node.otherwise, dot, scope);
    size_t at = 0;
    for (const auto& item : value.items()) {
      Json key = value.is_array() ? Json(at++) : Json(item.key());
      if (TRY(Round(node, key, item.value(), scope)) == Flow::kBreak) break;
    }
    return Flow::kGoOn;
  }

  Result<> RunTemplate(const Node& node, const Json& dot, Scope& scope) {
    auto found = defined_.find(node.text);
    if (found == defined_.end()) return Bad(StrCat("no such template: ", Quote(node.text)));
    if (++calls_ > kCallsMax) return Bad("templates call each other too deep");
    Json argument;
    if (!node.pipeline.empty()) argument = TRY(Evaluate(node.pipeline, dot, scope));
    Scope inner(argument);
    TRY(Run(found->second->body, argument, inner));
    --calls_;
    return {};
  }

  Result<Json> Evaluate(const Pipeline& pipeline, const Json& dot, Scope& scope) {
    Json value;
    bool first = true;
    for (const Command& command : pipeline.commands) {
      value = TRY(EvaluateCommand(command, dot, scope, first ? nullptr : &value));
      first = false;
    }
    for (const std::string& name : pipeline.variables) {
      if (!pipeline.assigns) {
        scope.Declare(name, value);
      } else if (Json* place = scope.Find(name)) {
        *place = value;
      } else {
        return Bad(StrCat("no such variable: ", name));
      }
    }
    return value;
  }

  // `last`: what comes through the pipe, the last argument.
  Result<Json> EvaluateCommand(const Command& command, const Json& dot, Scope& scope, const Json* last) {
    const Operand& head = command.front();
    if (head.kind != Operand::Kind::kFunction) {
      if (command.size() > 1 || last != nullptr) return Bad("a value takes no arguments, only functions do");
      return Value(head, dot, scope);
    }
    if (!go_template::IsFunction(head.name)) return Bad(StrCat("function ", Quote(head.name), " not defined"));
    bool lazy = head.name == "and" || head.name == "or";
    std::vector<Json> arguments;
    for (size_t i = 1; i < command.size(); ++i) {
      arguments.push_back(TRY(Value(command[i], dot, scope)));
      if (lazy && go_template::IsTrue(arguments.back()) == (head.name == "or")) return arguments.back();
    }
    if (last != nullptr) arguments.push_back(*last);
    if (lazy) {
      if (arguments.empty()) return Bad(StrCat(head.name, " wants a value"));
      return arguments.back();
    }
    Json result = TRY(go_template::CallFunction(head.name, arguments));
    return Fields(result, head.fields);
  }

  Result<Json> Value(const Operand& operand, const Json& dot, Scope& scope) {
    switch (operand.kind) {
      case Operand::Kind::kLiteral: return operand.literal;
      case Operand::Kind::kNil: return Json();
      case Operand::Kind::kDot: return Fields(dot, operand.fields);
      case Operand::Kind::kVariable: {
        const Json* value = scope.Find(operand.name);
        if (value == nullptr) return Bad(StrCat("no such variable: ", operand.name));
        return Fields(*value, operand.fields);
      }
      case Operand::Kind::kFunction: return EvaluateCommand({operand}, dot, scope, nullptr);
      case Operand::Kind::kPipeline: {
        Json value = TRY(Evaluate(operand.pipeline, dot, scope));
        return Fields(value, operand.fields);
      }
    }
    return Json();
  }

  static Result<Json> Fields(const Json& from, const std::vector<std::string>& names) {
    const Json* value = &from;
    for (const std::string& name : names) {
      if (!value->is_object()) {
        return Bad(StrCat("can't evaluate field ", name, " in ", Quote(go_template::Show(*value), 60)));
      }
      auto found = value->find(name);
      if (found == value->end()) {
        std::string has;
        for (const auto& [key, ignored] : value->items()) has += StrCat(has.empty() ? "" : ", ", key);
        return Bad(StrCat("map has no entry for key ", Quote(name), "; it has ", has.substr(0, 400)));
      }
      value = &*found;
    }
    return *value;
  }

  const std::map<std::string, const Node*>& defined_;
  int calls_ = 0;
};

void FindDefined(const std::vector<Node>& nodes, std::map<std::string, const Node*>& defined) {
  for (const Node& node : nodes) {
    if (node.kind == Node::Kind::kDefine) defined[node.text] = &node;
    FindDefined(node.body, defined);
  }
}

// Names of functions that are not there, at parse time as Go does.
Result<> CheckFunctions(const Pipeline& pipeline) {
  for (const Command& command : pipeline.commands) {
    for (const Operand& operand : command) {
      if (operand.kind == Operand::Kind::kFunction && !go_template::IsFunction(operand.name)) {
        return Error(Code::kInvalidArgument, StrCat("template: function ", Quote(operand.name), " not defined"));
      }
      TRY(CheckFunctions(operand.pipeline));
    }
  }
  return {};
}

Result<> CheckFunctions(const std::vector<Node>& nodes) {
  for (const Node& node : nodes) {
    TRY(CheckFunctions(node.pipeline));
    TRY(CheckFunctions(node.body));
    TRY(CheckFunctions(node.otherwise));
  }
  return {};
}

}  // namespace

GoTemplate::GoTemplate() = default;
GoTemplate::GoTemplate(GoTemplate&&) noexcept = default;
GoTemplate& GoTemplate::operator=(GoTemplate&&) noexcept = default;
GoTemplate::~GoTemplate() = default;

Result<GoTemplate> GoTemplate::Parse(std::string_view text) {
  GoTemplate out;
  out.body_ = TRY(go_template::ParseNodes(text));
  TRY(CheckFunctions(out.body_));
  return out;
}

Result<std::string> GoTemplate::Execute(const Json& document) const {
  std::map<std::string, const Node*> defined;
  FindDefined(body_, defined);
  Execution execution(defined);
  Scope scope(document);
  TRY(execution.Run(body_, document, scope));
  return std::move(execution.output);
}

}  // namespace crisp::ctl
