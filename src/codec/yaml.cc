#include "codec/yaml.h"

#include <yaml.h>

#include <memory>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::codec {

namespace {

constexpr size_t kBytesMax = 4u << 20;
constexpr int kDepthMax = 64;

// libyaml's parser and its current event.
class Events {
 public:
  Events(std::string_view text, std::string_view what) : what_(what) {
    yaml_parser_initialize(&parser_);
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  ~Events() {
    Drop();
    yaml_parser_delete(&parser_);
  }

  Result<yaml_event_type_t> Next() {
    Drop();
    if (yaml_parser_parse(&parser_, &event_) == 0) {
      return Error(Code::kInvalidArgument, StrCat(what_, ": line ", parser_.problem_mark.line + 1, ": ",
                                                  parser_.problem != nullptr ? parser_.problem : "no valid YAML"));
    }
    have_ = true;
    return event_.type;
  }
  const yaml_event_t& event() const { return event_; }
  Error At(std::string_view problem) const {
    return Error(Code::kInvalidArgument, StrCat(what_, ": line ", event_.start_mark.line + 1, ": ", problem));
  }

 private:
  void Drop() {
    if (have_) yaml_event_delete(&event_);
    have_ = false;
  }
  std::string_view what_;
  yaml_parser_t parser_;
  yaml_event_t event_;
  bool have_ = false;
};

Json PlainScalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  if (auto number = ParseInt<int64_t>(text)) return *number;
  if (auto number = ParseInt<uint64_t>(text)) return *number;
  if (text.starts_with("0x")) {
    if (auto number = ParseInt<uint64_t>(std::string_view(text).substr(2), 16)) return *number;
  }
  if (text.starts_with("0o")) {
    if (auto number = ParseInt<uint64_t>(std::string_view(text).substr(2), 8)) return *number;
  }
  bool numeric = text.find_first_not_of("0123456789+-.eE") == std::string::npos;
  if (numeric && text.find_first_of("0123456789") != std::string::npos) {
    double value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size()) return value;
  }
  return text;
}

Json Scalar(const yaml_event_t& event) {
  std::string text(reinterpret_cast<const char*>(event.data.scalar.value), event.data.scalar.length);
  if (event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE) return PlainScalar(text);
  return text;
}

Result<> RefuseExtras(const Events& events) {
  const yaml_event_t& e = events.event();
  bool anchored = (e.type == YAML_SCALAR_EVENT && e.data.scalar.anchor != nullptr) ||
                  (e.type == YAML_SEQUENCE_START_EVENT && e.data.sequence_start.anchor != nullptr) ||
                  (e.type == YAML_MAPPING_START_EVENT && e.data.mapping_start.anchor != nullptr);
  bool tagged = (e.type == YAML_SCALAR_EVENT && e.data.scalar.tag != nullptr) ||
                (e.type == YAML_SEQUENCE_START_EVENT && e.data.sequence_start.tag != nullptr) ||
                (e.type == YAML_MAPPING_START_EVENT && e.data.mapping_start.tag != nullptr);
  if (anchored || e.type == YAML_ALIAS_EVENT) return events.At("anchors and aliases are not supported");
  if (tagged) return events.At("tags are not supported");
  return {};
}

Result<Json> Value(Events& events, int depth);

Result<Json> Sequence(Events& events, int depth) {
  Json list = Json::array();
  while (TRY(events.Next()) != YAML_SEQUENCE_END_EVENT) list.push_back(TRY(Value(events, depth + 1)));
  return list;
}

Result<Json> Mapping(Events& events, int depth) {
  Json object = Json::object();
  while (TRY(events.Next()) != YAML_MAPPING_END_EVENT) {
    TRY(RefuseExtras(events));
    if (events.event().type != YAML_SCALAR_EVENT) return events.At("a key that is no text");
    std::string key(reinterpret_cast<const char*>(events.event().data.scalar.value), events.event().data.scalar.length);
    if (object.contains(key)) return events.At(StrCat("key ", Quote(key), " a second time"));
    TRY(events.Next());
    object[key] = TRY(Value(events, depth + 1));
  }
  return object;
}

// The value that begins with the current event.
Result<Json> Value(Events& events, int depth) {
  if (depth > kDepthMax) return events.At(StrCat("nested deeper than ", kDepthMax));
  TRY(RefuseExtras(events));
  switch (events.event().type) {
    case YAML_SCALAR_EVENT: return Scalar(events.event());
    case YAML_SEQUENCE_START_EVENT: return Sequence(events, depth);
    case YAML_MAPPING_START_EVENT: return Mapping(events, depth);
    default: return events.At("a value is missing");
  }
}

// Whether a plain `text` would come back as this string.
bool SafePlain(const std::string& text) {
  if (text.empty() || !PlainScalar(text).is_string()) return false;
  // "2026-01-02…" is a date for readers of YAML 1.1.
  if (text.size() > 4 && text[4] == '-' && text.find_first_not_of("0123456789") == 4) return false;
  static constexpr std::string_view kBadFirst = " -?:,[]{}#&*!|>'\"%@`";
  if (kBadFirst.find(text.front()) != std::string_view::npos || text.back() == ' ' || text.back() == ':') return false;
  if (text.find(": ") != std::string::npos || text.find(" #") != std::string::npos) return false;
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  // Words that older readers take for booleans.
  for (const char* word : {"yes", "no", "on", "off", "y", "n", "Yes", "No", "On", "Off", "YES", "NO", "ON", "OFF"}) {
    if (text == word) return false;
  }
  return IsValidUtf8(text);
}

void Emit(const Json& value, int indent, std::string& out);

std::string ScalarText(const Json& value) {
  if (value.is_string() && SafePlain(value.get_ref<const std::string&>())) return value.get<std::string>();
  return DumpJson(value);  // JSON's scalars and empty collections are YAML's, and so are its quoted strings
}

void EmitMember(const Json& value, int indent, std::string& out) {
  if (value.is_structured() && !value.empty()) {
    out += '\n';
    Emit(value, indent, out);
  } else {
    out += ' ';
    out += ScalarText(value);
    out += '\n';
  }
}

void Emit(const Json& value, int indent, std::string& out) {
  std::string blanks(static_cast<size_t>(indent), ' ');
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, member] : value.items()) {
      out += blanks + ScalarText(Json(key)) + ':';
      EmitMember(member, member.is_array() ? indent : indent + 2, out);
    }
  } else if (value.is_array() && !value.empty()) {
    for (const Json& item : value) {
      if (item.is_structured() && !item.empty()) {
        std::string inner;
        Emit(item, indent + 2, inner);
        inner.replace(static_cast<size_t>(indent), 1, "-");  // the dash takes the place of the first line's indent
        out += inner;
      } else {
        out += blanks + "- " + ScalarText(item) + '\n';
      }
    }
  } else {
    out += blanks + ScalarText(value) + '\n';
  }
}

}  // namespace

Result<Json> ParseYaml(std::string_view text, std::string_view what) {
  if (text.size() > kBytesMax) return Error(Code::kInvalidArgument, StrCat(what, ": more than ", kBytesMax, " bytes"));
  Events events(text, what);
  TRY(events.Next());  // stream start
  if (TRY(events.Next()) == YAML_STREAM_END_EVENT) return Json(nullptr);
  TRY(events.Next());  // the document's first event
  Json value = TRY(Value(events, 0));
  TRY(events.Next());  // document end
  if (TRY(events.Next()) != YAML_STREAM_END_EVENT) return events.At("more than one document");
  return value;
}

std::string RenderYaml(const Json& value) {
  std::string out;
  Emit(value, 0, out);
  return out;
}

}  // namespace crisp::codec
