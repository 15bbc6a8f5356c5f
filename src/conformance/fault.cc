#include "conformance/fault.h"

#include "base/strings.h"

namespace crisp::conformance {
namespace {

Json ParseValue(std::string_view text) {
  auto value = ParseJson(text, "a fault's value");
  return value ? *std::move(value) : Json(std::string(text));
}

bool Change(Json& at, const std::vector<std::string_view>& path, size_t depth, const std::optional<Json>& value) {
  const std::string key(path[depth]);
  const bool last = depth + 1 == path.size();
  if (at.is_array()) {
    bool changed = false;
    for (size_t i = at.size(); i-- > 0;) {
      if (key != "*" && key != StrCat(i)) continue;
      changed = true;
      if (!last) {
        changed = Change(at[i], path, depth + 1, value);
      } else if (value) {
        at[i] = *value;
      } else {
        at.erase(i);
      }
    }
    return changed;
  }
  if (!at.is_object()) return false;
  if (last && !value) return at.erase(key) > 0;
  if (last) {
    at[key] = *value;
    return true;
  }
  if (!at.contains(key)) {
    if (!value) return false;
    at[key] = Json::object();
  }
  return Change(at[key], path, depth + 1, value);
}

Result<Fault> ParseFault(std::string_view text) {
  size_t colon = text.find_first_of(":<");
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == text.size()) {
    return Error(Code::kInvalidArgument, StrCat("not a fault: ", Quote(text)));
  }
  Fault fault{.rpc = std::string(text.substr(0, colon))};
  std::string_view what = text.substr(colon + 1);
  size_t equals = what.find('=');
  std::string_view name = what.substr(0, equals);
  if (equals != std::string_view::npos) fault.text = what.substr(equals + 1);
  static const std::map<std::string_view, Fault::Kind> kWords = {
      {"fail", Fault::Kind::kFail}, {"noop", Fault::Kind::kNoop},   {"swallow", Fault::Kind::kSwallow},
      {"late", Fault::Kind::kLate}, {"stale", Fault::Kind::kStale}, {"lose", Fault::Kind::kLose}};
  if (auto word = kWords.find(name); word != kWords.end() && text[colon] == ':') {
    fault.kind = word->second;
    return fault;
  }
  fault.kind = text[colon] == ':' ? Fault::Kind::kReply : Fault::Kind::kRequest;
  if (what.starts_with('-')) {
    fault.path = what.substr(1);
  } else if (equals == std::string_view::npos) {
    return Error(Code::kInvalidArgument, StrCat("a fault without a value: ", Quote(text)));
  } else {
    fault.path = name;
    fault.value = ParseValue(fault.text);
  }
  return fault;
}

}  // namespace

Result<std::vector<Fault>> ParseFaults(std::string_view text) {
  std::vector<Fault> faults;
  while (!text.empty()) {
    size_t end = text.find("; ");
    faults.push_back(TRY(ParseFault(text.substr(0, end))));
    text = end == std::string_view::npos ? "" : text.substr(end + 2);
  }
  return faults;
}

bool Apply(const Fault& fault, Json& document) { return Change(document, Split(fault.path, '.'), 0, fault.value); }

}  // namespace crisp::conformance
