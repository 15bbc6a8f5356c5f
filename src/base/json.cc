#include "base/json.h"

#include <map>
#include <set>

#include "base/strings.h"

namespace crisp {

namespace {

// Counts depth without building anything, so that a deep text never reaches the recursive parts of a parser.
bool DeeperThan(std::string_view text, int depth_max) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > depth_max) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

// Watches a parse for objects that name a member twice.
class Uniqueness {
 public:
  bool operator()(int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) {
      open_.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      open_.pop_back();
    } else if (event == Json::parse_event_t::key && twice_.empty()) {
      auto [name, is_new] = open_.back().insert(value.get<std::string>());
      if (!is_new) twice_ = Quote(*name);
    }
    return true;
  }
  const std::string& twice() const { return twice_; }

 private:
  std::vector<std::set<std::string>> open_;
  std::string twice_;
};

Error WrongType(const char* key, const char* wanted) {
  return Error(Code::kInvalidArgument, StrCat("member ", Quote(key), " is not ", wanted));
}

}  // namespace

Result<Json> ParseJson(std::string_view text, std::string_view what, JsonLimits limits) {
  if (text.size() > limits.bytes_max) {
    return Error(Code::kInvalidArgument, StrCat(what, ": ", text.size(), " bytes of JSON, at most ", limits.bytes_max));
  }
  if (DeeperThan(text, limits.depth_max)) {
    return Error(Code::kInvalidArgument, StrCat(what, ": JSON nested deeper than ", limits.depth_max));
  }
  try {
    if (!limits.unique_members) return Json::parse(text);
    Uniqueness unique;
    Json document = Json::parse(text, std::ref(unique));
    if (unique.twice().empty()) return document;
    return Error(Code::kInvalidArgument, StrCat(what, ": member ", unique.twice(), " a second time"));
  } catch (const Json::parse_error& e) {
    return Error(Code::kInvalidArgument, StrCat(what, ": no valid JSON at byte ", e.byte));
  } catch (const Json::exception&) {  // a number out of range, 1e999, is no parse_error
    return Error(Code::kInvalidArgument, StrCat(what, ": a number out of range"));
  }
}

std::string DumpJson(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

bool IsNatural(const Json& value) {
  return value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
}

template <class T>
Result<T> JsonGet(const Json& object, const char* key, T fallback) {
  if (!object.is_object()) return Error(Code::kInvalidArgument, StrCat("no object around member ", Quote(key)));
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return fallback;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return WrongType(key, "a string");
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!found->is_boolean()) return WrongType(key, "a boolean");
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!found->is_number_integer() ||
        (found->is_number_unsigned() && found->template get<uint64_t>() > uint64_t{INT64_MAX})) {
      return WrongType(key, "an integer");
    }
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    if (!IsNatural(*found)) return WrongType(key, "a whole number from 0 on");
  } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    if (!found->is_array()) return WrongType(key, "a list of strings");
    for (const Json& item : *found) {
      if (!item.is_string()) return WrongType(key, "a list of strings");
    }
  } else {
    if (!found->is_object()) return WrongType(key, "an object of strings");
    for (const Json& item : *found) {
      if (!item.is_string()) return WrongType(key, "an object of strings");
    }
  }
  return found->template get<T>();
}

template Result<std::string> JsonGet(const Json&, const char*, std::string);
template Result<bool> JsonGet(const Json&, const char*, bool);
template Result<int64_t> JsonGet(const Json&, const char*, int64_t);
template Result<uint64_t> JsonGet(const Json&, const char*, uint64_t);
template Result<std::vector<std::string>> JsonGet(const Json&, const char*, std::vector<std::string>);
template Result<std::map<std::string, std::string>> JsonGet(const Json&, const char*,
                                                            std::map<std::string, std::string>);

}  // namespace crisp
