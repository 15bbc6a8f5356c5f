// One list of members per struct serves writing and reading: `template <class V> void Fields(V& v, T& t)` calls
// v("name", t.member) for each. Private to pod/.
//
// Members at their default value are left out, so records stay small and a member that is new in a later version costs
// nothing in older records. Text that is no UTF-8 (environment values are bytes) is kept as {"hex": "…"}.
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "base/json.h"
#include "base/strings.h"

namespace crisp::pod {

class JsonWriter;
class JsonReader;

template <class T>
Json WriteStruct(const T& value);
template <class T>
void ReadStruct(JsonReader& reader, const Json& in, T& out);

inline Json WriteText(const std::string& text) {
  if (IsValidUtf8(text)) return text;
  return Json{{"hex", HexEncode(text)}};
}

inline Json WriteValue(const std::string& v) { return WriteText(v); }
template <class T>
  requires std::integral<T>
Json WriteValue(T v) {
  return v;
}
template <class T>
  requires std::is_enum_v<T>
Json WriteValue(T v) {
  return static_cast<int>(v);
}
inline Json WriteValue(const std::map<std::string, std::string>& v) {
  // As pairs: a key need not be UTF-8 either.
  Json out = Json::array();
  for (const auto& [key, value] : v) out.push_back(Json::array({WriteText(key), WriteText(value)}));
  return out;
}
template <class T>
Json WriteValue(const std::vector<T>& v);
template <class T>
  requires std::is_class_v<T>
Json WriteValue(const T& v) {
  return WriteStruct(v);
}
template <class T>
Json WriteValue(const std::vector<T>& v) {
  Json out = Json::array();
  for (const T& each : v) out.push_back(WriteValue(each));
  return out;
}

template <class T>
bool IsDefault(const T& value) {
  if constexpr (requires { value.empty(); }) {
    return value.empty();
  } else if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
    return value == T{};
  } else {
    return false;
  }
}

class JsonWriter {
 public:
  template <class T>
  void operator()(const char* key, const std::optional<T>& value) {
    if (value) out[key] = WriteValue(*value);
  }
  template <class T>
  void operator()(const char* key, const T& value) {
    if (IsDefault(value)) return;
    Json written = WriteValue(value);
    if (!(written.is_object() && written.empty())) out[key] = std::move(written);
  }
  Json out = Json::object();
};

// Reads on after an error; the first one is kept.
class JsonReader {
 public:
  explicit JsonReader(const Json* in) : in_(in) {}

  template <class T>
  void operator()(const char* key, T& value) {
    if (!in_->is_object()) return Fail(key, "an object around it");
    auto found = in_->find(key);
    if (found == in_->end() || found->is_null()) return;
    path_.push_back(key);
    Read(*found, value);
    path_.pop_back();
  }

  Result<> result() const {
    if (error_.empty()) return {};
    return Error(Code::kInvalidArgument, error_);
  }

  void Read(const Json& in, std::string& out) {
    if (in.is_string()) {
      out = in.get_ref<const std::string&>();
    } else if (auto hex = in.is_object() ? in.find("hex") : in.end(); in.is_object() && hex != in.end() && hex->is_string()) {
      if (!Unhex(hex->get_ref<const std::string&>(), out)) Fail("", "hexadecimal digits");
    } else {
      Fail("", "a text");
    }
  }
  void Read(const Json& in, bool& out) {
    if (!in.is_boolean()) return Fail("", "true or false");
    out = in.get<bool>();
  }
  template <class T>
    requires(std::integral<T> && !std::same_as<T, bool>)
  void Read(const Json& in, T& out) {
    if (!in.is_number_integer()) return Fail("", "a whole number");
    bool fits = in.is_number_unsigned() ? std::in_range<T>(in.get<uint64_t>()) : std::in_range<T>(in.get<int64_t>());
    if (!fits) return Fail("", "a number in range");
    out = in.is_number_unsigned() ? static_cast<T>(in.get<uint64_t>()) : static_cast<T>(in.get<int64_t>());
  }
  template <class T>
    requires std::is_enum_v<T>
  void Read(const Json& in, T& out) {
    int number = 0;
    Read(in, number);
    // What the numbers mean is fixed by docs/formats/records.md; all our enumerations have fewer than 8 members.
    if (number < 0 || number > 7) return Fail("", "a known value");
    out = static_cast<T>(number);
  }
  void Read(const Json& in, std::map<std::string, std::string>& out) {
    if (!in.is_array()) return Fail("", "an array of pairs");
    for (const Json& pair : in) {
      if (!pair.is_array() || pair.size() != 2) return Fail("", "pairs");
      std::string key, value;
      Read(pair[0], key);
      Read(pair[1], value);
      out.emplace(std::move(key), std::move(value));
    }
  }
  template <class T>
  void Read(const Json& in, std::vector<T>& out) {
    if (!in.is_array()) return Fail("", "an array");
    for (const Json& each : in) Read(each, out.emplace_back());
  }
  template <class T>
  void Read(const Json& in, std::optional<T>& out) {
    Read(in, out.emplace());
  }
  template <class T>
    requires std::is_class_v<T>
  void Read(const Json& in, T& out) {
    ReadStruct(*this, in, out);
  }

 private:
  template <class T>
  friend void ReadStruct(JsonReader& reader, const Json& in, T& out);

  void Fail(std::string_view key, std::string_view wanted) {
    if (!error_.empty()) return;
    error_ = "record member ";
    for (const char* part : path_) error_ += StrCat(part, ".");
    if (!key.empty()) error_ += StrCat(key, ".");
    error_.pop_back();
    error_ += StrCat(" is not ", wanted);
  }
  static bool Unhex(const std::string& hex, std::string& out) {
    if (hex.size() % 2 != 0) return false;
    for (size_t i = 0; i < hex.size(); i += 2) {
      auto byte = ParseInt<unsigned>(std::string_view(hex).substr(i, 2), 16);
      if (!byte) return false;
      out.push_back(static_cast<char>(*byte));
    }
    return true;
  }

  const Json* in_;
  std::vector<const char*> path_;
  std::string error_;
};

template <class T>
Json WriteStruct(const T& value) {
  JsonWriter writer;
  Fields(writer, const_cast<T&>(value));  // Fields only reads when the visitor is a writer
  return std::move(writer.out);
}

template <class T>
void ReadStruct(JsonReader& reader, const Json& in, T& out) {
  const Json* outer = std::exchange(reader.in_, &in);
  Fields(reader, out);
  reader.in_ = outer;
}

template <class T>
Result<T> StructFromJson(const Json& in) {
  T out;
  JsonReader reader(&in);
  Fields(reader, out);
  TRY(reader.result());
  return out;
}

}  // namespace crisp::pod
