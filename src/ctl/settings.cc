#include "ctl/settings.h"

#include <unistd.h>

#include "base/json.h"
#include "base/strings.h"
#include "codec/yaml.h"
#include "sys/file.h"

namespace crisp::ctl {

std::vector<std::string> SocketsHere() {
  // crictl looks at all but the first of these when it is told nothing.
  constexpr const char* kSockets[] = {"/run/crisp/crisp.sock", "/run/containerd/containerd.sock", "/run/crio/crio.sock",
                                      "/var/run/cri-dockerd.sock"};
  std::vector<std::string> here;
  for (const char* path : kSockets) {
    if (access(path, F_OK) == 0) here.push_back(StrCat("unix://", path));
  }
  return here;
}

const std::vector<std::string>& SettingNames() {
  static const std::vector<std::string> names = {"runtime-endpoint",     "image-endpoint",      "timeout",    "debug",
                                                 "pull-image-on-create", "disable-pull-on-run", "max-retries"};
  return names;
}

Result<Settings> ParseSettings(std::string_view text, std::string_view what) {
  Json document = TRY(codec::ParseYaml(text, what));
  Settings settings;
  if (document.is_null()) return settings;
  if (!document.is_object()) return Error(Code::kInvalidArgument, StrCat(what, ": holds no settings"));
  for (const auto& [key, value] : document.items()) {
    if (value.is_structured())
      return Error(Code::kInvalidArgument, StrCat(what, ": ", Quote(key), " is no single value"));
    if (!value.is_null()) settings[key] = value.is_string() ? value.get<std::string>() : DumpJson(value);
  }
  return settings;
}

Result<Settings> ReadSettings(const std::string& path) {
  auto text = sys::ReadFile(path);
  if (!text && text.error().code() == Code::kNotFound) return Settings();
  if (!text) return std::move(text).error();
  return ParseSettings(*text, path);
}

Result<> WriteSettings(const std::string& path, const Settings& settings) {
  Json document = Json::object();
  for (const auto& [key, value] : settings) document[key] = value;
  return sys::WriteFileAtomic(path, settings.empty() ? "" : codec::RenderYaml(document), 0644, sys::Durability::kNone);
}

}  // namespace crisp::ctl
