// crispctl's own configuration file, in crictl's format: a YAML map of settings that flags and environment override.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crisp::ctl {

// Sockets of runtimes that exist on this machine, ours first, as endpoints: "unix:///run/crisp/crisp.sock".
std::vector<std::string> SocketsHere();

inline constexpr const char* kSettingsPath = "/etc/crispctl.yaml";
// runtime-endpoint, image-endpoint, timeout (seconds or a duration), debug, pull-image-on-create, disable-pull-on-run,
// max-retries.
const std::vector<std::string>& SettingNames();

using Settings = std::map<std::string, std::string>;

// A missing file has no settings. kInvalidArgument: no YAML map of scalars.
Result<Settings> ReadSettings(const std::string& path);
Result<Settings> ParseSettings(std::string_view text, std::string_view what);
Result<> WriteSettings(const std::string& path, const Settings& settings);

}  // namespace crisp::ctl
