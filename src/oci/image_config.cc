#include <algorithm>
#include <ctime>

#include "base/json.h"
#include "base/strings.h"
#include "oci/manifest.h"

namespace crisp::oci {

namespace {

Error Bad(std::string_view why) { return Error(Code::kInvalidArgument, std::string(why)); }

Result<> NoNul(std::string_view text, std::string_view what) {
  if (text.find('\0') == std::string_view::npos) return {};
  return Bad(StrCat(what, " holds a NUL byte"));
}

Result<> NoNul(const std::vector<std::string>& texts, std::string_view what) {
  for (const std::string& text : texts) TRY(NoNul(text, what));
  return {};
}

// An object used as a set: {"/data": {}} → "/data". Objects are sorted by key.
Result<std::vector<std::string>> Keys(const Json& object, const char* key) {
  std::vector<std::string> out;
  auto found = object.find(key);
  if (found == object.end() || found->is_null()) return out;
  if (!found->is_object()) return Bad(StrCat("member ", Quote(key), " is not an object"));
  for (const auto& [name, unused] : found->items()) out.push_back(name);
  return out;
}

// RFC 3339 with up to nine digits of a fraction; 0 when it is not.
int64_t ParseTime(const std::string& text) {
  tm broken{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &broken);
  if (rest == nullptr) return 0;
  int64_t nanos = 0;
  if (*rest == '.') {
    int64_t unit = 100'000'000;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest, unit /= 10) nanos += (*rest - '0') * unit;
  }
  tm zone{};
  int64_t offset = 0;
  if (*rest == '+' || *rest == '-') {
    if (strptime(rest + 1, "%H:%M", &zone) == nullptr) return 0;
    offset = (zone.tm_hour * int64_t{3600} + zone.tm_min * int64_t{60}) * (*rest == '-' ? -1 : 1);
  } else if (*rest != 'Z' && *rest != 'z') {
    return 0;
  }
  constexpr int64_t kSecond = 1'000'000'000;
  int64_t seconds = timegm(&broken) - offset;
  if (seconds <= 0 || seconds > INT64_MAX / kSecond - 1) return 0;  // Go's zero time, the year 1, means "not set"
  return seconds * kSecond + nanos;
}

Result<> ParseDefaults(const Json& json, ImageConfig& out) {
  using Texts = std::vector<std::string>;
  out.user = TRY(JsonGet<std::string>(json, "User"));
  out.env = TRY(JsonGet<Texts>(json, "Env"));
  out.entrypoint = TRY(JsonGet<Texts>(json, "Entrypoint"));
  out.cmd = TRY(JsonGet<Texts>(json, "Cmd"));
  out.working_dir = TRY(JsonGet<std::string>(json, "WorkingDir"));
  out.stop_signal = TRY(JsonGet<std::string>(json, "StopSignal"));
  out.labels = TRY((JsonGet<std::map<std::string, std::string>>(json, "Labels")));
  out.volumes = TRY(Keys(json, "Volumes"));
  out.exposed_ports = TRY(Keys(json, "ExposedPorts"));
  TRY(NoNul(out.user, "User"));
  TRY(NoNul(out.env, "Env"));
  TRY(NoNul(out.entrypoint, "Entrypoint"));
  TRY(NoNul(out.cmd, "Cmd"));
  TRY(NoNul(out.working_dir, "WorkingDir"));
  TRY(NoNul(out.stop_signal, "StopSignal"));
  TRY(NoNul(out.volumes, "Volumes"));
  return {};
}

Result<> ParseRootfs(const Json& json, ImageConfig& out) {
  std::string type = TRY(JsonGet<std::string>(json, "type"));
  if (!type.empty() && type != "layers") return Bad(StrCat("type ", Quote(type), " instead of \"layers\""));
  std::vector<std::string> texts = TRY(JsonGet<std::vector<std::string>>(json, "diff_ids"));
  if (texts.size() > kEntriesMax) return Bad(StrCat(texts.size(), " diff_ids, at most ", kEntriesMax));
  for (const std::string& text : texts) out.diff_ids.push_back(TRY(Digest::Parse(text), "diff_ids"));
  return {};
}

Result<> ParseHistory(const Json& list, ImageConfig& out) {
  if (!list.is_array()) return Bad("not a list");
  for (const Json& item : list) {
    HistoryEntry entry;
    entry.created = TRY(JsonGet<std::string>(item, "created"));
    entry.created_by = TRY(JsonGet<std::string>(item, "created_by"));
    entry.author = TRY(JsonGet<std::string>(item, "author"));
    entry.comment = TRY(JsonGet<std::string>(item, "comment"));
    entry.empty_layer = TRY(JsonGet<bool>(item, "empty_layer", false));
    out.history.push_back(std::move(entry));
  }
  return {};
}

Result<ImageConfig> FromJson(const Json& document) {
  if (!document.is_object()) return Bad("no JSON object");
  ImageConfig out;
  out.platform.os = TRY(JsonGet<std::string>(document, "os"));
  out.platform.architecture = TRY(JsonGet<std::string>(document, "architecture"));
  out.platform.variant = TRY(JsonGet<std::string>(document, "variant"));
  out.platform.os_version = TRY(JsonGet<std::string>(document, "os.version"));
  out.created = TRY(JsonGet<std::string>(document, "created"));
  out.created_unix_nanos = ParseTime(out.created);
  out.author = TRY(JsonGet<std::string>(document, "author"));
  out.artifact_type = TRY(JsonGet<std::string>(document, "artifactType"));
  auto present = [&](const char* key) { return document.contains(key) && !document[key].is_null(); };
  if (present("config")) TRY(ParseDefaults(document["config"], out), "config");
  if (present("rootfs")) TRY(ParseRootfs(document["rootfs"], out), "rootfs");
  if (present("history")) TRY(ParseHistory(document["history"], out), "history");
  return out;
}

}  // namespace

Result<ImageConfig> ParseImageConfig(std::string_view bytes) {
  Json document = TRY(ParseJson(bytes, "image config", {.bytes_max = kConfigBytesMax, .depth_max = 32}));
  return TRY(FromJson(document), "image config");
}

}  // namespace crisp::oci
