#include "ctl/go_template_functions.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include "base/strings.h"

namespace crisp::ctl::go_template {
namespace {

using Arguments = std::vector<Json>;

Error Bad(std::string_view what) { return Error(Code::kFailedPrecondition, StrCat("template: ", what)); }

std::string Concat(const Arguments& arguments, std::string_view between) {
  std::string out;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i > 0) out += between;
    out += Show(arguments[i]);
  }
  return out;
}

// Go's Print puts blanks only between two values neither of which is a string.
std::string PrintAll(const Arguments& arguments) {
  std::string out;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i > 0 && !arguments[i].is_string() && !arguments[i - 1].is_string()) out += ' ';
    out += Show(arguments[i]);
  }
  return out;
}

std::optional<double> Number(const Json& value) {
  if (value.is_number()) return value.get<double>();
  // 64-bit numbers of a CRI answer are texts in JSON.
  if (value.is_string()) {
    if (auto number = ParseInt<int64_t>(value.get_ref<const std::string&>())) return static_cast<double>(*number);
  }
  return std::nullopt;
}

// <0, 0, >0; kFailedPrecondition: not to be compared.
Result<int> Compare(const Json& a, const Json& b) {
  if (a.is_string() && b.is_string()) return a.get_ref<const std::string&>().compare(b.get_ref<const std::string&>());
  if (a.is_boolean() && b.is_boolean()) return static_cast<int>(a.get<bool>()) - static_cast<int>(b.get<bool>());
  auto x = Number(a), y = Number(b);
  if (!x || !y) return Bad("incompatible types for comparison");
  return *x < *y ? -1 : *x > *y ? 1 : 0;
}

Result<bool> Equal(const Json& a, const Json& b) {
  if (a.is_null() || b.is_null()) return a.is_null() == b.is_null();
  return TRY(Compare(a, b)) == 0;
}

std::string Case(std::string text, bool upper) {
  for (char& c : text) {
    if (upper ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z') c = static_cast<char>(c ^ 0x20);
  }
  return text;
}

std::string Title(std::string text) {
  bool start = true;
  for (char& c : text) {
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (start && c >= 'a' && c <= 'z') c = static_cast<char>(c ^ 0x20);
    start = !letter && c != '\'';
  }
  return text;
}

std::string Escape(std::string_view text, std::initializer_list<std::pair<char, const char*>> names) {
  std::string out;
  for (char c : text) {
    auto found = std::find_if(names.begin(), names.end(), [c](const auto& name) { return name.first == c; });
    if (found == names.end()) {
      out.push_back(c);
    } else {
      out += found->second;
    }
  }
  return out;
}

std::string UrlQuery(std::string_view text) {
  std::string out;
  for (char c : text) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                 std::string_view("-_.~").find(c) != std::string_view::npos;
    if (plain) {
      out.push_back(c);
    } else if (c == ' ') {
      out.push_back('+');
    } else {
      char hex[4];
      std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += hex;
    }
  }
  return out;
}

// One verb of Printf with its flags and width, "%-20s".
std::string FormatOne(std::string_view flags, char verb, const Json& value) {
  std::string text;
  std::array<char, 512> buffer{};
  std::string format = StrCat("%", flags);
  if (format.size() > 16) return StrCat("%!", verb, "(", Show(value), ")");
  auto number = Number(value);
  switch (verb) {
    case 'd':
    case 'x':
    case 'X':
    case 'o':
      if (!number) break;
      format += StrCat("ll", verb);
      std::snprintf(buffer.data(), buffer.size(), format.c_str(), static_cast<long long>(*number));
      return buffer.data();
    case 'f':
    case 'g':
    case 'e':
      if (!number) break;
      format += verb;
      std::snprintf(buffer.data(), buffer.size(), format.c_str(), *number);
      return buffer.data();
    case 't':
    case 's':
    case 'v': text = Show(value); break;
    case 'q':
      text = value.is_string() ? value.dump(-1, ' ', false, Json::error_handler_t::replace) : Show(value);
      break;
    default: return StrCat("%!", verb, "(", Show(value), ")");
  }
  if (text.empty() && verb != 's' && verb != 'v' && verb != 't') return StrCat("%!", verb, "(", Show(value), ")");
  bool left = flags.find('-') != std::string_view::npos;
  size_t dot = flags.find('.');
  std::string_view width_text = flags.substr(0, dot);
  while (!width_text.empty() && (width_text.front() == '-' || width_text.front() == '+')) width_text.remove_prefix(1);
  if (dot != std::string_view::npos) {
    text.resize(std::min(text.size(), ParseInt<size_t>(flags.substr(dot + 1)).value_or(0)));
  }
  size_t width = std::min<size_t>(ParseInt<size_t>(width_text).value_or(0), 1000);
  if (text.size() < width) text.insert(left ? text.size() : 0, width - text.size(), ' ');
  return text;
}

Result<Json> Printf(const Arguments& arguments) {
  if (arguments.empty() || !arguments[0].is_string()) return Bad("printf wants a format");
  std::string_view format = arguments[0].get_ref<const std::string&>();
  std::string out;
  size_t next = 1;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    size_t end = i + 1;
    static constexpr std::string_view kFlags = "-+ 0123456789.#";
    while (end < format.size() && kFlags.find(format[end]) != std::string_view::npos) ++end;
    if (end == format.size()) return Json(out + "%!(NOVERB)");
    char verb = format[end];
    if (verb == '%') {
      out.push_back('%');
    } else if (next < arguments.size()) {
      out += FormatOne(format.substr(i + 1, end - i - 1), verb, arguments[next++]);
    } else {
      out += StrCat("%!", verb, "(MISSING)");
    }
    i = end;
  }
  return Json(out);
}

Result<Json> Index(const Arguments& arguments) {
  if (arguments.empty()) return Bad("index wants a value");
  Json value = arguments[0];
  for (size_t i = 1; i < arguments.size(); ++i) {
    const Json& key = arguments[i];
    if (value.is_object() && key.is_string()) {
      auto found = value.find(key.get_ref<const std::string&>());
      Json next = found == value.end() ? Json() : *found;
      value = std::move(next);
    } else if (value.is_array() && key.is_number_integer()) {
      auto at = key.get<int64_t>();
      if (at < 0 || static_cast<size_t>(at) >= value.size()) return Bad(StrCat("index out of range: ", at));
      Json next = value[static_cast<size_t>(at)];
      value = std::move(next);
    } else {
      return Bad(StrCat("cannot index ", Quote(Show(value), 60), " with ", Quote(Show(key), 60)));
    }
  }
  return value;
}

Result<Json> Slice(const Arguments& arguments) {
  if (arguments.empty() || arguments.size() > 3) return Bad("slice wants a value and at most two indices");
  const Json& value = arguments[0];
  if (!value.is_string() && !value.is_array()) return Bad("slice wants a text or a list");
  size_t size = value.is_string() ? value.get_ref<const std::string&>().size() : value.size();
  std::array<size_t, 2> bounds = {0, size};
  for (size_t i = 1; i < arguments.size(); ++i) {
    if (!arguments[i].is_number_integer() || arguments[i].get<int64_t>() < 0) return Bad("slice: no index");
    bounds[i - 1] = arguments[i].get<size_t>();
  }
  if (bounds[0] > bounds[1] || bounds[1] > size) return Bad("slice: index out of range");
  if (value.is_string()) return Json(value.get_ref<const std::string&>().substr(bounds[0], bounds[1] - bounds[0]));
  Json out = Json::array();
  for (size_t i = bounds[0]; i < bounds[1]; ++i) out.push_back(value[i]);
  return out;
}

Result<Json> Relation(const std::string& name, const Arguments& arguments) {
  if (arguments.size() < 2) return Bad(StrCat(name, " wants two values"));
  if (name == "eq") {
    for (size_t i = 1; i < arguments.size(); ++i) {
      if (TRY(Equal(arguments[0], arguments[i]))) return Json(true);
    }
    return Json(false);
  }
  if (name == "ne") return Json(!TRY(Equal(arguments[0], arguments[1])));
  int order = TRY(Compare(arguments[0], arguments[1]));
  return Json(name == "lt" ? order < 0 : name == "le" ? order <= 0 : name == "gt" ? order > 0 : order >= 0);
}

Result<Json> Length(const Json& value) {
  if (value.is_string()) return Json(value.get_ref<const std::string&>().size());
  if (value.is_structured()) return Json(value.size());
  return Bad(StrCat("len of ", Show(value)));
}

}  // namespace

std::string Show(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return "<no value>";
    case Json::value_t::string: return value.get<std::string>();
    case Json::value_t::array: {
      std::string out = "[";
      for (const Json& item : value) out += StrCat(out.size() > 1 ? " " : "", item.is_null() ? "<nil>" : Show(item));
      return out + "]";
    }
    case Json::value_t::object: {
      std::string out = "map[";
      for (const auto& [key, item] : value.items()) {
        out += StrCat(out.size() > 4 ? " " : "", key, ":", item.is_null() ? "<nil>" : Show(item));
      }
      return out + "]";
    }
    default: return DumpJson(value);
  }
}

bool IsTrue(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null: return false;
    case Json::value_t::boolean: return value.get<bool>();
    case Json::value_t::string: return !value.get_ref<const std::string&>().empty();
    case Json::value_t::array:
    case Json::value_t::object: return !value.empty();
    default: return value.get<double>() != 0;
  }
}

bool IsFunction(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "and",   "or",   "not", "eq",    "ne",     "lt",      "le",       "gt",   "ge",    "len",   "index",
      "slice", "html", "js",  "print", "printf", "println", "urlquery", "json", "title", "lower", "upper"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Result<Json> CallFunction(const std::string& name, const Arguments& arguments) {
  if (name == "eq" || name == "ne" || name == "lt" || name == "le" || name == "gt" || name == "ge") {
    return Relation(name, arguments);
  }
  if (name == "index") return Index(arguments);
  if (name == "slice") return Slice(arguments);
  if (name == "printf") return Printf(arguments);
  if (name == "print") return Json(PrintAll(arguments));
  if (name == "println") return Json(Concat(arguments, " ") + "\n");
  if (name == "html") {
    return Json(
        Escape(PrintAll(arguments), {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&#34;"}, {'\'', "&#39;"}}));
  }
  if (name == "js") {
    return Json(Escape(PrintAll(arguments), {{'\\', "\\\\"},
                                             {'\'', "\\'"},
                                             {'"', "\\\""},
                                             {'<', "\\u003C"},
                                             {'>', "\\u003E"},
                                             {'&', "\\u0026"},
                                             {'=', "\\u003D"}}));
  }
  if (name == "urlquery") return Json(UrlQuery(PrintAll(arguments)));
  if (arguments.size() != 1) return Bad(StrCat(name, " wants one value, not ", arguments.size()));
  const Json& value = arguments[0];
  if (name == "not") return Json(!IsTrue(value));
  if (name == "len") return Length(value);
  if (name == "json") return Json(DumpJson(value) + "\n");
  if (!value.is_string()) return Bad(StrCat(name, " wants a text, not ", Quote(Show(value), 60)));
  if (name == "title") return Json(Title(value));
  return Json(Case(value, name == "upper"));
}

}  // namespace crisp::ctl::go_template
