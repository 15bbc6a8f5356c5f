#include "ctl/message.h"

#include <google/protobuf/util/json_util.h>

#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "codec/websocket_channels.h"  // EncodeBase64
#include "codec/yaml.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::ctl {

namespace {

namespace pb = google::protobuf;

constexpr size_t kFileBytesMax = 4u << 20;

// Protobuf says "INVALID_ARGUMENT:(linux) foo: Cannot find field.", without "(linux)" at the top: the field stands last
// here, as in "(linux): no such field: foo".
std::string Readable(std::string_view message) {
  constexpr std::string_view kCode = "INVALID_ARGUMENT:", kUnknown = ": Cannot find field.";
  if (message.starts_with(kCode)) message.remove_prefix(kCode.size());
  if (!message.ends_with(kUnknown)) return std::string(message);
  message.remove_suffix(kUnknown.size());
  size_t space = message.rfind(' ');
  if (space == std::string_view::npos) return StrCat("no such field: ", message);
  return StrCat(message.substr(0, space), ": no such field: ", message.substr(space + 1));
}

const pb::FieldDescriptor* FindField(const pb::Descriptor& type, const std::string& name) {
  const pb::FieldDescriptor* field = type.FindFieldByName(name);
  return field != nullptr ? field : type.FindFieldByCamelcaseName(name);
}

// Protobuf's own word on a map of texts that holds something else is no word on what is wrong.
Result<> CheckMaps(const pb::Descriptor& type, const Json& document, const std::string& prefix) {
  if (!document.is_object()) return {};
  for (const auto& [name, value] : document.items()) {
    const pb::FieldDescriptor* field = FindField(type, name);
    if (field == nullptr || field->message_type() == nullptr) continue;
    const std::string path = prefix + name;
    if (!field->is_map()) {
      const Json items = value.is_array() ? value : Json::array({value});
      for (const Json& item : items) TRY(CheckMaps(*field->message_type(), item, path + "."));
      continue;
    }
    if (!value.is_object() && !value.is_null()) return Error(Code::kInvalidArgument, path + ": an object is wanted");
    if (field->message_type()->FindFieldByName("value")->message_type() != nullptr) continue;
    for (const auto& [key, entry] : value.items()) {
      if (!entry.is_structured() && !entry.is_null()) continue;  // null: protobuf takes none here
      return Error(Code::kInvalidArgument, StrCat(path, ".", key, ": one value is wanted, like \"text\""));
    }
  }
  return {};
}

// Calls `change` for each string in a document of this type whose field is bytes or an enum.
void ChangeTexts(const pb::Descriptor& type, Json& document,
                 void (*change)(const pb::FieldDescriptor& field, std::string& text)) {
  if (!document.is_object()) return;
  for (auto& [name, value] : document.items()) {
    const pb::FieldDescriptor* field = FindField(type, name);
    if (field == nullptr || field->is_map()) continue;
    bool texts = field->type() == pb::FieldDescriptor::TYPE_BYTES || field->type() == pb::FieldDescriptor::TYPE_ENUM;
    auto one = [&, field = field](Json& item) {
      if (texts && item.is_string()) change(*field, item.get_ref<std::string&>());
      if (field->message_type() != nullptr) ChangeTexts(*field->message_type(), item, change);
    };
    if (!value.is_array()) {
      one(value);
    } else {
      for (Json& item : value) one(item);
    }
  }
}

// Our API file calls a signal SIGNAL_SIGTERM, because SIGTERM is a macro in C; CRI and crictl call it SIGTERM.
constexpr std::string_view kSignalPrefix = "SIGNAL_";
bool IsSignal(const pb::FieldDescriptor& field) {
  return field.enum_type() != nullptr && field.enum_type()->name() == "Signal";
}

// What crictl writes → what protobuf's JSON wants: bytes (values of environment variables) are plain text there.
void ToProtobufs(const pb::FieldDescriptor& field, std::string& text) {
  if (field.type() == pb::FieldDescriptor::TYPE_BYTES) {
    text = codec::EncodeBase64(text);
  } else if (IsSignal(field) && !text.starts_with(kSignalPrefix)) {
    text.insert(0, kSignalPrefix);
  }
}

void FromProtobufs(const pb::FieldDescriptor& field, std::string& text) {
  if (IsSignal(field) && text.starts_with(kSignalPrefix)) text.erase(0, kSignalPrefix.size());
}

// As Go writes it: without zeros at the end of the fraction.
std::string ShortRfc3339(int64_t nanos) {
  std::string text = FormatRfc3339Nano(nanos);
  text.pop_back();  // Z
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text + "Z";
}

// CRI's int64 times are JSON strings. 0 means "not yet".
void TimesToText(Json& status) {
  for (const char* key : {"createdAt", "startedAt", "finishedAt"}) {
    auto found = status.find(key);
    if (found == status.end() || !found->is_string()) continue;
    auto nanos = ParseInt<int64_t>(found->get_ref<const std::string&>());
    if (nanos) *found = *nanos == 0 ? std::string("0001-01-01T00:00:00Z") : ShortRfc3339(*nanos);
  }
}

Json InfoValue(const std::string& text) {
  if (text.starts_with('{')) {
    if (auto parsed = ParseJson(text, "info", {.bytes_max = 16u << 20, .depth_max = 128})) return *std::move(parsed);
  }
  size_t begin = text.find_first_not_of('"');
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of('"') - begin + 1);
}

}  // namespace

Result<> ParseMessage(std::string_view text, std::string_view what, pb::Message& message) {
  std::string_view begin = Trim(text);
  Json document = begin.starts_with('{') ? TRY(ParseJson(text, what)) : TRY(codec::ParseYaml(text, what));
  if (!document.is_object()) return Error(Code::kInvalidArgument, StrCat(what, ": holds no object"));
  TRY(CheckMaps(*message.GetDescriptor(), document, ""), what);
  ChangeTexts(*message.GetDescriptor(), document, ToProtobufs);
  auto status = pb::util::JsonStringToMessage(DumpJson(document), &message);
  if (!status.ok()) return Error(Code::kInvalidArgument, StrCat(what, ": ", Readable(status.ToString())));
  return {};
}

Result<> ReadMessage(const std::string& path, pb::Message& message) {
  if (path == "-") {
    std::string text = TRY(sys::ReadAll(sys::BorrowedFd(0), kFileBytesMax), "stdin");
    return ParseMessage(text, "stdin", message);
  }
  return ParseMessage(TRY(sys::ReadFile(path, kFileBytesMax)), path, message);
}

Result<Json> MessageToJson(const pb::Message& message) {
  pb::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string text;
  auto status = pb::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) return Error(Code::kInternal, StrCat("write an answer as JSON: ", status.ToString()));
  Json document = TRY(ParseJson(text, "answer", {.bytes_max = 64u << 20, .depth_max = 128}));
  ChangeTexts(*message.GetDescriptor(), document, FromProtobufs);
  return document;
}

Result<Json> MessageToGoJson(const pb::Message& message) {
  pb::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  auto status = pb::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) return Error(Code::kInternal, StrCat("write an answer as JSON: ", status.ToString()));
  return ParseJson(text, "answer");
}

void UnsetToNull(const pb::Message& message, Json& document) {
  const pb::Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const pb::FieldDescriptor& field = *type.field(i);
    if (field.message_type() != nullptr && !field.is_repeated()) document.emplace(field.json_name(), nullptr);
  }
}

Result<Json> StatusToJson(const pb::Message& status, const std::map<std::string, std::string>& info) {
  Json document = Json::object();
  document["status"] = TRY(MessageToJson(status));
  TimesToText(document["status"]);
  for (const auto& [key, value] : info) document[key] = InfoValue(value);
  return document;
}

std::string RenderDocument(const Json& document, OutputFormat format) {
  if (format == OutputFormat::kYaml) return codec::RenderYaml(document);
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace crisp::ctl
