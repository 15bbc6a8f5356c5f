#include "ctl/message.h"

#include <google/protobuf/util/json_util.h>

#include "base/json.h"
#include "base/strings.h"
#include "base/time.h"
#include "codec/yaml.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace crisp::ctl {

namespace {

namespace pb = google::protobuf;

constexpr size_t kFileBytesMax = 4u << 20;

// Protobuf speaks of "INVALID_ARGUMENT:(linux.foo): invalid name foo: Cannot find field.": keep what tells something.
std::string Readable(std::string message) {
  if (auto colon = message.find(':'); message.starts_with("INVALID_ARGUMENT") && colon != std::string::npos) {
    message.erase(0, colon + 1);
  }
  for (const char* noise : {"Cannot find field.", "invalid name "}) {
    if (auto at = message.find(noise); at != std::string::npos) {
      message.replace(at, std::string_view(noise).size(), *noise == 'i' ? "no such field: " : "");
    }
  }
  while (!message.empty() && (message.back() == ' ' || message.back() == ':')) message.pop_back();
  return message;
}

// CRI's int64 times are JSON strings. 0 means "not yet".
void TimesToText(Json& status) {
  for (const char* key : {"createdAt", "startedAt", "finishedAt"}) {
    auto found = status.find(key);
    if (found == status.end() || !found->is_string()) continue;
    auto nanos = ParseInt<int64_t>(found->get_ref<const std::string&>());
    if (nanos) *found = *nanos == 0 ? std::string("0001-01-01T00:00:00Z") : FormatRfc3339Nano(*nanos);
  }
}

Json InfoValue(const std::string& text) {
  if (text.starts_with('{') || text.starts_with('[') || text.starts_with('"')) {
    if (auto parsed = ParseJson(text, "info", {.bytes_max = 16u << 20, .depth_max = 128})) return *std::move(parsed);
  }
  return text;
}

}  // namespace

Result<> ParseMessage(std::string_view text, std::string_view what, pb::Message& message) {
  std::string_view begin = Trim(text);
  Json document = begin.starts_with('{') ? TRY(ParseJson(text, what)) : TRY(codec::ParseYaml(text, what));
  if (!document.is_object()) return Error(Code::kInvalidArgument, StrCat(what, ": holds no object"));
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
  return ParseJson(text, "answer", {.bytes_max = 64u << 20, .depth_max = 128});
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
